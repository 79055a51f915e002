//! Tests of `expand.rs`.

use std::sync::Arc;

use super::expand;
use crate::decode::Decode;
use crate::diagnostics::Diagnostics;
use crate::node::Node;
use crate::path::Path;
use crate::secret::Secret;

fn variables(name: &str) -> Option<String> {
    let value = match name {
        "INT" => "12",
        "OCTAL" => "0123",
        "HEX" => "0xDEADBEEF",
        "BOOL" => "true",
        "T" => "t",
        "FLOAT" => "3.14",
        "TEXT" => "hello",
        "QUOTED" => "\"0123\"",
        "BANGED" => "!!str 0123",
        "EMPTY" => "",
        "NULL" => "null",
        "MAP" => "{a: 1, b: '${env:TEXT}'}",
        "LIST" => "[x, y]",
        "BROKEN" => "[x, y",
        "COMMENT" => "12 # twelve",
        "NESTED" => "${env:TEXT}",
        "LOOP" => "${env:LOOP}",
        "TREE" => "- ${env:TREE}\n- ${env:TREE}",
        "GROW" => "${env:GROW}${env:GROW}",
        "NAME" => "TEXT",
        "DOLLARS" => "a$$b",
        "LEAK" => "hunter2${env:not a name}",
        _ => return None,
    };
    Some(value.to_owned())
}

fn expanded(text: &str) -> (Node, Diagnostics) {
    let mut out = Diagnostics::new();
    let mut root = crate::yaml::parse(&format!("k: {text}\n"), &Arc::from("a.yaml"), &mut out).unwrap();
    expand(&mut root, &variables, &mut out);
    (root.get("k").unwrap().clone(), out)
}

fn decoded<T: Decode>(text: &str) -> Result<T, String> {
    let (node, mut out) = expanded(text);
    let value = T::decode(&node, &Path::root().key("k"), &mut out);
    let findings = out.to_string();
    value.filter(|_| !out.has_errors()).ok_or(findings)
}

#[test]
fn a_string_field_takes_the_original_text() {
    for (text, expected) in [
        ("${env:INT}", "12"),
        ("${OCTAL}", "0123"),
        ("${env:HEX}", "0xDEADBEEF"),
        ("${env:BOOL}", "true"),
        ("${env:FLOAT}", "3.14"),
        ("${env:QUOTED}", "\"0123\""),
        ("${env:BANGED}", "!!str 0123"),
        ("${env:EMPTY}", ""),
        ("${env:NULL}", "null"),
        ("${env:MAP}", "{a: 1, b: '${env:TEXT}'}"),
        ("${env:LIST}", "[x, y]"),
        ("${env:BROKEN}", "[x, y"),
        ("${env:COMMENT}", "12 # twelve"),
        ("${env:NESTED}", "hello"),
        ("'${env:OCTAL}'", "0123"),
        ("inline ${env:OCTAL} and ${env:NULL}", "inline 0123 and null"),
        ("${env:UNSET:-5}", "5"),
        ("x${env:UNSET:-}", "x"),
        ("${env:${env:NAME}}", "hello"),
        ("${yaml:0123}", "0123"),
        ("$TEXT", "$TEXT"),
        ("$${env:TEXT}", "${env:TEXT}"),
        ("$$${env:TEXT}", "$hello"),
        ("$$5", "$5"),
        ("${env:DOLLARS}", "a$b"),
        ("${open", "${open"),
    ] {
        assert_eq!(decoded::<String>(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn other_fields_take_the_type_that_yaml_gives() {
    assert_eq!(decoded::<i64>("${env:OCTAL}"), Ok(83));
    assert_eq!(decoded::<i64>("${env:COMMENT}"), Ok(12));
    assert_eq!(decoded::<u32>("${env:HEX}"), Ok(0xDEAD_BEEF));
    assert_eq!(decoded::<bool>("${env:BOOL}"), Ok(true));
    assert_eq!(decoded::<f64>("${env:INT}"), Ok(12.0));
    assert_eq!(decoded::<i64>("${env:UNSET:-7}"), Ok(7));
    assert_eq!(decoded::<Vec<String>>("${env:LIST}"), Ok(vec!["x".to_owned(), "y".to_owned()]));
    assert_eq!(decoded::<Option<i64>>("${env:EMPTY}"), Ok(None));
    assert_eq!(decoded::<Option<String>>("${env:NULL}"), Ok(Some("null".to_owned())));
    for (text, got) in [("${env:T}", "string"), ("${env:QUOTED}", "string"), ("${env:INT}", "int")] {
        let error = decoded::<bool>(text).unwrap_err();
        assert!(
            error.contains(&format!("'k' expected type 'bool', got unconvertible type '{got}'")),
            "{error}"
        );
    }
    assert!(decoded::<i64>("1${env:INT}").is_err(), "an inline value is a string");
    let (node, _) = expanded("${env:MAP}");
    assert_eq!(node.get("b").and_then(Node::string), Some("hello"));
    assert_eq!(node.get("b").unwrap().position.to_string(), "a.yaml:1:4");
}

#[test]
fn an_unset_variable_is_null_with_a_warning() {
    let (node, out) = expanded("${env:UNSET}");
    assert!(node.is_null() && !out.has_errors());
    assert_eq!(
        out.to_string(),
        "a.yaml:1:4: warning: k: Configuration references unset environment variable \"UNSET\""
    );
}

#[test]
fn expansion_is_bounded() {
    for text in ["${env:LOOP}", "x${env:LOOP}", "${env:TREE}", "${env:GROW}"] {
        let (_, out) = expanded(text);
        assert_eq!(out.error_count(), 1, "{text}");
        assert!(out.to_string().ends_with(": too many recursive expansions"), "{out}");
    }
}

#[test]
fn bad_references_are_named_and_values_are_not() {
    for (text, part) in [
        (
            "${env:1X}",
            "environment variable \"1X\" has invalid name: must match regex ^[a-zA-Z_][a-zA-Z0-9_]*$",
        ),
        ("${http://x}", "scheme \"http\" is not supported (valid: file, env, yaml)"),
        ("${TEXT:-x}", "${env:NAME:-default}"),
        ("${file:/does/not/exist}", "unable to read the file \"/does/not/exist\""),
        ("${}", "environment variable \"\" has invalid name"),
    ] {
        let (_, out) = expanded(text);
        assert!(out.has_errors() && out.to_string().contains(part), "{out}");
    }
    let (node, out) = expanded("${env:LEAK}");
    assert!(out.has_errors());
    assert!(!format!("{out} {out:?} {node:?}").contains("hunter2"));
    assert!(!out.to_string().contains("not a name"), "{out}");
}

#[test]
fn debug_and_errors_do_not_show_secrets() {
    let (node, mut out) = expanded("'hunter2'");
    assert!(!format!("{node:?}").contains("hunter2"));
    assert_eq!(i64::decode(&node, &Path::root().key("k"), &mut out), None);
    let (plain, _) = expanded("4711");
    assert_eq!(Secret::decode(&plain, &Path::root().key("k"), &mut out), None);
    let shown = format!("{out} {out:?} {plain:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("4711"), "{shown}");
}
