//! Tests of `yaml.rs`.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Diagnostics, Node, parse};
use crate::node::NodeKind;

fn read(text: &str) -> Result<Node, String> {
    let mut out = Diagnostics::new();
    match parse(text, &Arc::from("a.yaml"), &mut out) {
        Some(node) => Ok(node),
        None => Err(out.to_string()),
    }
}

fn at(node: &Node, keys: &[&str]) -> String {
    keys.iter().fold(node, |node, key| node.get(key).unwrap()).position.to_string()
}

#[test]
fn every_value_and_key_knows_its_place() {
    let root =
        read("receivers:\n  otlp/a:\n    port: 12\n    name: 'x'\n    list: [a,  b]\n  empty:\n").unwrap();
    assert_eq!(at(&root, &["receivers", "otlp/a", "port"]), "a.yaml:3:11");
    assert_eq!(at(&root, &["receivers", "otlp/a", "name"]), "a.yaml:4:11");
    assert_eq!(at(&root, &["receivers", "empty"]), "a.yaml:6:3");
    let NodeKind::Map(entries) = &root.get("receivers").unwrap().kind else { panic!("no map") };
    assert_eq!(entries[0].key_position.to_string(), "a.yaml:2:3");
    let NodeKind::List(items) =
        &root.get("receivers").unwrap().get("otlp/a").unwrap().get("list").unwrap().kind
    else {
        panic!("no list")
    };
    assert_eq!(items[1].position.to_string(), "a.yaml:5:16");
}

#[test]
fn the_text_and_the_style_are_kept() {
    let root = read("a: 0123\nb: '0123'\nc: ~\nd: \"\"\ne: !!str 12\n").unwrap();
    let style = |key| match &root.get(key).unwrap().kind {
        NodeKind::Scalar(scalar) => Some((scalar.text.clone(), scalar.plain)),
        _ => None,
    };
    assert_eq!(style("a"), Some(("0123".to_owned(), true)));
    assert_eq!(style("b"), Some(("0123".to_owned(), false)));
    assert_eq!(style("c"), None);
    assert_eq!(style("d"), Some((String::new(), false)));
    assert_eq!(style("e"), Some(("12".to_owned(), false)));
}

#[test]
fn all_duplicate_keys_are_errors_with_both_places() {
    let error = read("a: 1\nb:\n  c: 1\n  c: 2\na: 2\n").unwrap_err();
    assert_eq!(
        error,
        "a.yaml:4:3: b::c: mapping key \"c\" already defined at a.yaml:3:3\n\
         a.yaml:5:1: a: mapping key \"a\" already defined at a.yaml:1:1"
    );
}

#[test]
fn syntax_errors_have_a_place() {
    let error = read("a:\n  - [1, 2\nb: c\n").unwrap_err();
    assert!(error.starts_with("a.yaml:3:"), "{error}");
    let error = read("a:\n\tb: c\n").unwrap_err();
    assert!(error.starts_with("a.yaml:2:") && error.contains("spaces, not with tabs"), "{error}");
    assert!(read("a: 1\n---\nb: 2\n").unwrap_err().contains("only one YAML document"));
    assert!(read("? [a]\n: b\n").unwrap_err().contains("a key must be a text"));
}

#[test]
fn aliases_and_merge_keys_are_followed() {
    let root = read("base: &b {x: 1, y: 2}\none:\n  <<: *b\n  y: 3\ntwo: *b\n").unwrap();
    let text = |keys: &[&str]| {
        keys.iter().fold(&root, |node, key| node.get(key).unwrap()).string().map(str::to_owned)
    };
    assert_eq!(text(&["one", "x"]), None, "a number stays a number");
    assert_eq!(root.get("one").unwrap().get("x"), root.get("base").unwrap().get("x"));
    assert_ne!(root.get("one").unwrap().get("y"), root.get("base").unwrap().get("y"));
    assert_eq!(root.get("two"), root.get("base"));
    assert!(read("a:\n  <<: 1\n").unwrap_err().contains("map merge requires"));
    assert!(read("a: &a [*a]\n").is_err());
    assert!(read("a: *b\n").is_err());
}

#[test]
fn aliases_cannot_grow_without_bound() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        text = [text, format!("a{level}: &a{level} [{below}]\n")].concat();
    }
    assert!(read(&text).unwrap_err().contains("expand to too much"));
    assert!(read(&format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a, ".repeat(100))).is_err());
}

#[test]
fn size_and_depth_are_bounded() {
    assert!(read(&"#".repeat(super::MAX_DOCUMENT + 1)).unwrap_err().contains("larger than"));
    assert!(read(&"[".repeat(200)).is_err());
    let deep: Vec<String> = (0..100).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    assert!(read(&deep.concat()).unwrap_err().contains("nested deeper than 64 levels"));
}

fn positions(node: &Node, lines: &[&str], check: &mut impl FnMut(bool)) {
    let mut inside = |position: &crate::Position| {
        let line = position.line as usize;
        let width = lines.get(line.wrapping_sub(1)).map_or(0, |line| line.chars().count());
        check(
            line >= 1
                && line <= lines.len() + 1
                && position.column as usize <= width + 1
                && position.column > 0,
        );
    };
    inside(&node.position);
    match &node.kind {
        NodeKind::List(items) => items.iter().for_each(|item| positions(item, lines, check)),
        NodeKind::Map(entries) => {
            for entry in entries {
                inside(&entry.key_position);
            }
            for entry in entries {
                positions(&entry.value, lines, check);
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,60}") {
        read(&text).ok();
    }

    #[test]
    fn any_yaml_like_text_is_parsed_or_refused_with_positions_inside(
        text in "([a-c\"'#&*!|>%@`\\[\\]{},:?~<$0-9é \t-]|: |- |\n|\n  |\n- |&a |\\*a){0,40}"
    ) {
        if let Ok(node) = read(&text) {
            let lines: Vec<&str> = text.split('\n').collect();
            let mut all = true;
            positions(&node, &lines, &mut |inside| all &= inside);
            prop_assert!(all, "{:?}", node);
        }
    }

    #[test]
    fn a_quoted_string_round_trips(text in "[^\\p{C}\u{2028}\u{2029}\u{feff}]*") {
        let node = read(&format!("key: '{}'\n", text.replace('\'', "''"))).unwrap();
        prop_assert_eq!(node.get("key").unwrap().string(), Some(text.as_str()));
    }
}
