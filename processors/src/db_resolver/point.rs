//! What a raw point of `file_io` is about, and what it becomes. Plain data, with the conversions to and from
//! attributes.

use blameio_databases::{Object, Resolution};
use blameio_pipeline::{
    attribute::{
        DATNAME, DB_INDEX, DB_NAMESPACE, DB_TABLE, FILE_DEVICE, FILE_GENERATION, FILE_INODE, FILE_KIND,
        FILE_PATH, INDEXRELNAME, IO_OPERATION, RELNAME, SCHEMANAME, THREAD_ID, THREAD_ROLE, THREAD_STATE,
    },
    metrics::{attribute, integer_attribute, key_value},
};
use opentelemetry_proto::tonic::common::v1::KeyValue;

/// Identity of a raw series: file, thread or role, operation or state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct RawKey {
    device: String,
    inode: i64,
    generation: i64,
    thread: Option<i64>,
    role: String,
    operation: String,
    state: String,
}

impl RawKey {
    /// Reads the attributes of a raw point.
    pub(super) fn of(attributes: &[KeyValue]) -> Self {
        let text = |key| attribute(attributes, key).unwrap_or_default().to_owned();
        Self {
            device: text(FILE_DEVICE),
            inode: integer_attribute(attributes, FILE_INODE).unwrap_or_default(),
            generation: integer_attribute(attributes, FILE_GENERATION).unwrap_or_default(),
            thread: integer_attribute(attributes, THREAD_ID),
            role: text(THREAD_ROLE),
            operation: text(IO_OPERATION),
            state: text(THREAD_STATE),
        }
    }
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
    resolved: Resolved,
    thread: Option<i64>,
    role: String,
    operation: String,
    state: String,
}

impl SeriesKey {
    /// The series that a raw point adds to. Only thread time keeps its thread: attribution needs it.
    pub(super) fn of(raw: &RawKey, resolved: Resolved, keep_thread: bool) -> Self {
        Self {
            resolved,
            thread: raw.thread.filter(|_| keep_thread),
            role: raw.role.clone(),
            operation: raw.operation.clone(),
            state: raw.state.clone(),
        }
    }

    /// The same work of an object that does not fit under the limit.
    pub(super) fn into_other(self) -> Self {
        Self { resolved: Resolved::other(), ..self }
    }

    /// Whether it counts what did not fit.
    pub(super) fn is_other(&self) -> bool {
        self.resolved == Resolved::other()
    }

    /// The attributes of its points.
    pub(super) fn attributes(&self, join_labels: bool) -> Vec<KeyValue> {
        let mut attributes = Vec::with_capacity(8);
        self.resolved.attributes(join_labels, &mut attributes);
        if let Some(thread) = self.thread {
            attributes.push(key_value(THREAD_ID, thread));
        }
        for (key, value) in
            [(THREAD_ROLE, &self.role), (IO_OPERATION, &self.operation), (THREAD_STATE, &self.state)]
        {
            if !value.is_empty() {
                attributes.push(key_value(key, value.as_str()));
            }
        }
        attributes
    }
}
