//! Tests of `layers.rs`.

use super::merge;
use crate::diagnostics::Diagnostics;
use crate::node::{Node, NodeKind};

fn layered(texts: &[&str]) -> Result<Node, String> {
    let documents: Vec<(String, String)> = texts
        .iter()
        .zip(["a.yaml", "b.yaml", "c.yaml"])
        .map(|(text, name)| (name.into(), (*text).into()))
        .collect();
    let mut out = Diagnostics::new();
    merge(&documents, &mut out).ok_or_else(|| out.to_string())
}

/// The tree in flow style, so that tests can show it.
fn shown(node: &Node) -> String {
    match &node.kind {
        NodeKind::Null => "~".to_owned(),
        NodeKind::Scalar(scalar) if scalar.plain => scalar.text.clone(),
        NodeKind::Scalar(scalar) => format!("'{}'", scalar.text),
        NodeKind::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        NodeKind::Map(entries) => {
            let entries = entries.iter().map(|entry| format!("{}: {}", entry.key, shown(&entry.value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

#[test]
fn maps_join_and_all_else_is_replaced() {
    for (texts, expected) in [
        (&["a: {x: 1, y: 2}", "a: {y: 3, z: 4}"][..], "{a: {x: 1, y: 3, z: 4}}"),
        (&["a: [1, 2]", "a: [3]"], "{a: [3]}"),
        (&["a: 1", "a: {x: 1}"], "{a: {x: 1}}"),
        (&["a: {x: 1}", "a: 1"], "{a: 1}"),
        (&["a: {x: 1}", "a: {}"], "{a: {x: 1}}"),
        (&["a: {x: 1}", ""], "{a: {x: 1}}"),
        (&["a: {x: 1}", "a:", "a: {y: 2}"], "{a: {y: 2}}"),
        (&["a: '1'", "b: \"x\""], "{a: '1', b: 'x'}"),
    ] {
        assert_eq!(layered(texts).map(|node| shown(&node)), Ok(expected.to_owned()));
    }
}

#[test]
fn a_later_null_replaces_the_map_as_in_the_collector() {
    assert_eq!(
        layered(&["processors: {batch: {}}", "processors:"]).map(|node| shown(&node)),
        Ok("{processors: ~}".into())
    );
}

#[test]
fn keys_survive_as_they_are_and_in_order() {
    let text = "Zed: 1\na.b[0]: 2\notlp/Gateway:\n'': 4\n. : 5\nservice.name: {x.Y: 6, 'k.': 7}\nvA: 8\n";
    let expected = "{Zed: 1, a.b[0]: 2, otlp/Gateway: ~, : 4, .: 5, service.name: {x.Y: 6, k.: 7}, vA: 8}";
    assert_eq!(layered(&[text]).map(|node| shown(&node)), Ok(expected.to_owned()));
}

#[test]
fn double_colons_at_the_top_open_maps() {
    let text = "a: {b: {x: 1}}\na::b::y: 2\n";
    assert_eq!(
        layered(&[text, "a::b::x: 3"]).map(|node| shown(&node)),
        Ok("{a: {b: {y: 2, x: 3}}}".to_owned())
    );
}

#[test]
fn positions_tell_the_file_that_a_value_came_from() {
    let root = layered(&["a:\n  x: 1\n  y: [{z: 1}]\n", "\n\na:\n  x: 2\n"]).unwrap();
    let a = root.get("a").unwrap();
    assert_eq!(a.get("x").unwrap().position.to_string(), "b.yaml:4:6");
    let NodeKind::List(items) = &a.get("y").unwrap().kind else { panic!("no list") };
    assert_eq!(items[0].get("z").unwrap().position.to_string(), "a.yaml:3:11");
    let NodeKind::Map(entries) = &a.kind else { panic!("no map") };
    let keys: Vec<String> =
        entries.iter().map(|entry| format!("{} {}", entry.key, entry.key_position)).collect();
    assert_eq!(keys, ["y a.yaml:3:3", "x b.yaml:4:3"]);
}

#[test]
fn errors_of_all_sources_are_reported_together() {
    let error = layered(&["a: [", "b: 1\nb: 2\n", "- list\n"]).unwrap_err();
    let files: Vec<&str> = error.lines().map(|line| line.split(':').next().unwrap_or("")).collect();
    assert_eq!(files, ["a.yaml", "b.yaml", "c.yaml"], "{error}");
    assert!(error.contains("the configuration must be a map, got 'list'"), "{error}");
}
