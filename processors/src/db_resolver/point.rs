//! What a raw point of `file_io` is about, and what it becomes. Plain data, with the conversions to and from
//! attributes.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock},
};

use blameio_databases::{Object, Resolution};
use blameio_pipeline::{
    attribute::{
        DATNAME, DB_INDEX, DB_NAMESPACE, DB_TABLE, DISK_IO_DIRECTION, FILE_DEVICE, FILE_GENERATION,
        FILE_INDEX, FILE_INODE, FILE_KIND, FILE_PATH, INDEXRELNAME, IO_OPERATION, RELNAME,
        REPLICATION_CHANNEL, SCHEMANAME, SYSTEM_DEVICE, THREAD_ID, THREAD_ROLE, THREAD_STATE, WORK_KIND,
        WORK_STAGE,
    },
    metrics::{attribute, integer_attribute, key_value},
};
use opentelemetry_proto::tonic::common::v1::KeyValue;

/// Attributes of a raw point that stay as they are; all others tell which file it is about.
const KEPT: [&str; 8] = [
    THREAD_ROLE,
    IO_OPERATION,
    THREAD_STATE,
    SYSTEM_DEVICE,
    DISK_IO_DIRECTION,
    WORK_STAGE,
    WORK_KIND,
    REPLICATION_CHANNEL,
];

/// Values of [`KEPT`].
type Labels = [Option<Box<str>>; KEPT.len()];

/// Whether a raw point is about a file; others are nobody's to resolve.
pub(super) fn has_file(attributes: &[KeyValue]) -> bool {
    attribute(attributes, FILE_PATH).is_some() || integer_attribute(attributes, FILE_INODE).is_some()
}

/// Identity of a raw series: metric, file and the index of its pages, thread or role, operation or state, device, stage. A fingerprint of them, keyed
/// by chance, because there are several for each file that is in use, and in words they take ten times the room. That two
/// of a million are the same is less likely than 10^-26.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RawKey([u64; 2]);

impl RawKey {
    /// Of a point of the metric at a position of the table.
    pub(super) fn of(metric: usize, attributes: &[KeyValue]) -> Self {
        static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
        let inode = integer_attribute(attributes, FILE_INODE);
        let file = (
            attribute(attributes, FILE_DEVICE),
            inode,
            integer_attribute(attributes, FILE_GENERATION),
            attribute(attributes, FILE_INDEX),
            // Of files that are known by nothing else: log records name no inode.
            if inode.is_none() { attribute(attributes, FILE_PATH) } else { None },
        );
        let labels = KEPT.map(|key| attribute(attributes, key));
        let identity = (metric, file, thread(attributes), labels);
        Self([&KEYS[0], &KEYS[1]].map(|key| key.hash_one(identity)))
    }
}

/// The thread that a raw point tells of, where it is not a role.
pub(super) fn thread(attributes: &[KeyValue]) -> Option<i64> {
    integer_attribute(attributes, THREAD_ID)
}

/// What a file is, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Resolved {
    database: String,
    schema: String,
    namespace: String,
    table: String,
    index: String,
    kind: &'static str,
    /// The path's tail, of files that could not be told to be anything.
    path: String,
}

impl Resolved {
    /// In words what the catalog said; `None` while it still looks.
    pub(super) fn of(resolution: &Resolution, path: &str) -> Option<Self> {
        match resolution {
            Resolution::Object(object) => Some(Self::object(object)),
            Resolution::Kind(kind) => Some(Self { kind: kind.as_str(), ..Self::default() }),
            Resolution::Unresolved => Some(Self::unresolved(path)),
            Resolution::Pending => None,
        }
    }

    fn object(object: &Object) -> Self {
        Self {
            database: object.database.clone(),
            schema: object.schema.clone(),
            namespace: object.namespace.clone(),
            table: object.table.clone(),
            index: object.index.clone().unwrap_or_default(),
            kind: object.kind.as_str(),
            path: String::new(),
        }
    }

    /// A file of which only the name is known.
    pub(super) fn unresolved(path: &str) -> Self {
        Self { table: "(unresolved)".to_owned(), path: path.to_owned(), ..Self::default() }
    }

    /// What does not fit under the limit of series.
    pub(super) fn other() -> Self {
        Self { table: "(other)".to_owned(), ..Self::default() }
    }

    fn attributes(&self, join_labels: bool, attributes: &mut Vec<KeyValue>) {
        let mut add = |key: &str, value: &str| {
            if !value.is_empty() {
                attributes.push(key_value(key, value));
            }
        };
        add(DB_NAMESPACE, &self.namespace);
        add(DB_TABLE, &self.table);
        add(DB_INDEX, &self.index);
        add(FILE_KIND, self.kind);
        add(FILE_PATH, &self.path);
        if join_labels && !self.namespace.is_empty() {
            add(DATNAME, &self.database);
            add(SCHEMANAME, &self.schema);
            add(RELNAME, &self.table);
            add(INDEXRELNAME, &self.index);
        }
    }
}

/// Identity of a series that leaves the resolver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SeriesKey {
    resolved: Arc<Resolved>,
    thread: Option<i64>,
    labels: Labels,
}

impl SeriesKey {
    /// The series that a raw point adds to. Only what attribution takes out again keeps its thread.
    pub(super) fn of(raw: &[KeyValue], resolved: Arc<Resolved>, keep_thread: bool) -> Self {
        let labels = KEPT.map(|key| attribute(raw, key).map(Into::into));
        Self { resolved, thread: thread(raw).filter(|_| keep_thread), labels }
    }

    /// The object it is about.
    pub(super) fn resolved(&self) -> &Arc<Resolved> {
        &self.resolved
    }

    /// The same work of an object that does not fit under the limit.
    pub(super) fn into_other(self) -> Self {
        Self { resolved: Arc::new(Resolved::other()), ..self }
    }

    /// The attributes of its points.
    pub(super) fn attributes(&self, join_labels: bool) -> Vec<KeyValue> {
        let mut attributes = Vec::with_capacity(8);
        self.resolved.attributes(join_labels, &mut attributes);
        if let Some(thread) = self.thread {
            attributes.push(key_value(THREAD_ID, thread));
        }
        for (key, value) in KEPT.iter().zip(&self.labels) {
            if let Some(value) = value {
                attributes.push(key_value(key, &**value));
            }
        }
        attributes
    }
}
