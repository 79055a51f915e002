//! Tests of `decode.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Decode, Diagnostics, Path};
use crate::{ComponentId, Endpoint, Reference, parse};

fn decoded<T: Decode>(text: &str) -> Result<T, String> {
    let node = parse(text).unwrap();
    let mut out = Diagnostics::new();
    let value = T::decode(&node, &Path::root().key("field"), &mut out);
    assert_eq!(value.is_none(), out.has_errors(), "None goes with an error");
    value.ok_or_else(|| out.to_string())
}

#[test]
fn types_are_strict_as_in_the_collector() {
    assert_eq!(decoded::<i64>("12"), Ok(12));
    assert_eq!(decoded::<i64>("0123"), Ok(83));
    assert_eq!(decoded::<u64>("1e6"), Ok(1_000_000));
    assert_eq!(decoded::<f64>("2"), Ok(2.0));
    assert_eq!(decoded::<bool>("true"), Ok(true));
    assert_eq!(decoded::<String>("'12'").as_deref(), Ok("12"));
    assert_eq!(decoded::<String>("yes").as_deref(), Ok("yes"));
    let got = |error: String| {
        error.split("expected type ").nth(1).map(|tail| tail.split(" (").next().unwrap_or("").to_owned())
    };
    for (error, expected) in [
        (decoded::<i64>("'12'").unwrap_err(), "'int', got unconvertible type 'string'"),
        (decoded::<i64>("1.5").unwrap_err(), "'int', got unconvertible type 'float64'"),
        (decoded::<u16>("true").unwrap_err(), "'uint16', got unconvertible type 'bool'"),
        (decoded::<String>("12").unwrap_err(), "'string', got unconvertible type 'int'"),
        (decoded::<String>("true").unwrap_err(), "'string', got unconvertible type 'bool'"),
        (decoded::<String>("[]").unwrap_err(), "'string', got unconvertible type 'list'"),
        (decoded::<bool>("t").unwrap_err(), "'bool', got unconvertible type 'string'"),
        (decoded::<bool>("~").unwrap_err(), "'bool', got unconvertible type 'nil'"),
        (decoded::<Vec<String>>("12").unwrap_err(), "'list', got unconvertible type 'int'"),
        (decoded::<BTreeMap<String, i64>>("[]").unwrap_err(), "'map', got unconvertible type 'list'"),
    ] {
        assert_eq!(got(error.clone()).as_deref(), Some(expected), "{error}");
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    assert_eq!(decoded::<u16>("65535"), Ok(65535));
    assert_eq!(decoded::<u16>("65536").unwrap_err(), "yaml:1:1: field: 'field' must be between 0 and 65535");
    assert!(decoded::<u64>("-1").is_err());
    assert!(decoded::<usize>("-1").is_err());
}

#[test]
fn durations_need_a_unit() {
    assert_eq!(decoded::<Duration>("1h2m3.5s"), Ok(Duration::from_millis(3_723_500)));
    assert_eq!(decoded::<Duration>("0"), Ok(Duration::ZERO));
    assert!(decoded::<Duration>("5").unwrap_err().contains("got unconvertible type 'int'"));
    assert!(decoded::<Duration>("5 minutes").unwrap_err().contains("a duration has a unit"));
}

#[test]
fn lists_and_maps_report_every_bad_element() {
    assert_eq!(decoded::<Vec<String>>("a,b"), Ok(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(decoded::<Vec<String>>("''"), Ok(vec![]));
    assert_eq!(decoded::<Vec<i64>>("~"), Ok(vec![]));
    assert_eq!(decoded::<Vec<i64>>("[1, x, y]").unwrap_err().lines().count(), 2);
    let error = decoded::<BTreeMap<String, i64>>("{a: 1, b: x, c: [y]}").unwrap_err();
    assert!(
        error.starts_with("yaml:1:11: field::b: 'b' expected") && error.contains("yaml:1:17: field::c"),
        "{error}"
    );
}

#[test]
fn ids_and_addresses_are_decoded_with_their_place() {
    assert_eq!(decoded::<ComponentId>("otlp/a").map(|id| id.to_string()), Ok("otlp/a".to_owned()));
    let references = decoded::<Vec<Reference>>("[otlp, debug]").unwrap();
    assert_eq!(references[1].position.to_string(), "yaml:1:8");
    assert!(decoded::<ComponentId>("9x").unwrap_err().contains("is no component id"));
    assert_eq!(decoded::<Endpoint>(":9464"), Ok(Endpoint::new("", 9464)));
    assert_eq!(decoded::<Option<Endpoint>>("~"), Ok(None));
}
