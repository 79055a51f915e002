//! Tests of `settings.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Decode, Diagnostics, Endpoint, Path, Secret, parse};

settings! {
    /// Nested.
    #[derive(PartialEq)]
    pub(crate) struct Queue {
        /// Whether there is one.
        pub(crate) enabled: bool = true,
        /// How many.
        /// At most.
        pub(crate) queue_size: usize = 1000,
    }
}

settings! {
    /// All kinds of fields.
    pub(crate) struct All {
        /// A string that is parsed.
        pub(crate) endpoint: Endpoint = "localhost:9464",
        /// Another.
        timeout: Duration = "5s",
        /// A number.
        ratio: f64 = 1.0,
        /// A negative one.
        offset: i64 = -3,
        /// A raw name.
        r#type: String = "x",
        /// Lists.
        keys: Vec<String> = ["a", "b"],
        /// An empty one.
        none: Vec<u16> = (),
        /// A map.
        labels: BTreeMap<String, String> = (),
        /// Optional.
        password: Option<Secret>,
        /// Optional and generic.
        paths: Option<Vec<PathBuf>>,
        /// Optional with a default.
        limit: Option<u64> = 7,
        /// Nested.
        sending_queue: Queue = ()
    }
}

settings! {
    /// With something required.
    struct Needs {
        /// Required.
        dsn: Secret,
        /// Its fields all have defaults.
        queue: Queue,
        /// A list of structs.
        queues: Vec<Queue> = (),
    }
}

settings! {
    /// Nothing.
    struct Nothing {}
}

fn decoded<T: Decode>(text: &str) -> Result<T, String> {
    let node = parse(text).unwrap();
    let mut out = Diagnostics::new();
    T::decode(&node, &Path::root().key("exporters").key("x"), &mut out).ok_or_else(|| out.to_string())
}

#[test]
fn a_null_body_means_the_defaults() {
    for all in [
        decoded::<All>("").unwrap(),
        decoded("{}").unwrap(),
        decoded("timeout:\nsending_queue:\n").unwrap(),
        All::default(),
    ] {
        assert_eq!(all.endpoint, Endpoint::new("localhost", 9464));
        assert_eq!((all.timeout, all.offset, all.r#type.as_str()), (Duration::from_secs(5), -3, "x"));
        assert!((all.ratio - 1.0).abs() < f64::EPSILON);
        assert_eq!((all.keys.len(), all.none.len(), all.labels.len(), all.limit), (2, 0, 0, Some(7)));
        assert!(all.password.is_none() && all.paths.is_none());
        assert_eq!(all.sending_queue, Queue { enabled: true, queue_size: 1000 });
    }
    assert!(decoded::<Nothing>("").is_ok());
}

#[test]
fn all_errors_are_reported_at_once_with_their_places() {
    let text = "timeot: 5s\ntimeout: 5\nlabels: {a: 1}\nsending_queue:\n  queue_size: '10'\n  queue_sise: 3\n  colour: 1\n";
    assert_eq!(
        decoded::<All>(text).unwrap_err(),
        "yaml:1:1: exporters::x: 'exporters.x' has invalid keys: timeot (did you mean \"timeout\"?)\n\
         yaml:2:10: exporters::x::timeout: 'timeout' expected type 'duration', got unconvertible type 'int' \
         (a duration has a unit: 200ms, 5s, 1h30m)\n\
         yaml:3:13: exporters::x::labels::a: 'a' expected type 'string', got unconvertible type 'int' \
         (put the value in quotes)\n\
         yaml:5:15: exporters::x::sending_queue::queue_size: 'queue_size' expected type 'int', got unconvertible \
         type 'string' (write the value without quotes)\n\
         yaml:6:3: exporters::x::sending_queue: 'exporters.x.sending_queue' has invalid keys: queue_sise \
         (did you mean \"queue_size\"?)\n\
         yaml:7:3: exporters::x::sending_queue: 'exporters.x.sending_queue' has invalid keys: colour \
         (valid: enabled, queue_size)"
    );
    assert!(
        decoded::<All>("[]").unwrap_err().contains("'x' expected type 'map', got unconvertible type 'list'")
    );
}

#[test]
fn required_keys_are_asked_for() {
    assert_eq!(decoded::<Needs>("").unwrap_err(), "yaml:1:1: exporters::x::dsn: missing required key 'dsn'");
    assert_eq!(
        decoded::<Needs>("queue:\ndsn: ~\n").unwrap_err(),
        "yaml:2:1: exporters::x::dsn: missing required key 'dsn'"
    );
    let needs: Needs = decoded("dsn: x\nqueues: [{queue_size: 1}, {}]\n").unwrap();
    assert_eq!(needs.queue, Queue::default());
    assert_eq!(needs.queues.iter().map(|queue| queue.queue_size).collect::<Vec<_>>(), [1, 1000]);
    assert!(!format!("{needs:?}").contains('x'), "{needs:?}");
    assert_eq!(needs.dsn.expose(), "x");
}

#[test]
fn fields_describe_themselves() {
    let names: Vec<&str> = All::FIELDS.iter().map(|field| field.name).collect();
    assert_eq!(names[..5], ["endpoint", "timeout", "ratio", "offset", "type"]);
    let timeout = All::FIELDS[1];
    assert_eq!((timeout.type_name, timeout.default, timeout.required), ("duration", Some("\"5s\""), false));
    assert_eq!(All::FIELDS[11].fields[1].doc, " How many.\n At most.\n");
    assert_eq!(All::FIELDS[8].type_name, "string");
    assert!(Needs::FIELDS[0].required && !Needs::FIELDS[2].required);
    assert_eq!(Needs::FIELDS[2].fields.len(), 2);
    assert!(Nothing::FIELDS.is_empty());
}
