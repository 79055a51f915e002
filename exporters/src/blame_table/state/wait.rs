//! What applying waits for, and who holds it.

use std::collections::BTreeMap;

use blameio_pipeline::{
    attribute::{WAIT_HOLDER, WAIT_KIND},
    metrics::integer_attribute,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::{super::layout::NOISE, text};

/// What applying waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Wait {
    pub(in super::super) kind: String,
    /// The process or connection that holds it, where the server names one.
    pub(in super::super) holder: Option<i64>,
}

impl Wait {
    pub(super) fn of(attributes: &[KeyValue]) -> Self {
        Self { kind: text(attributes, WAIT_KIND), holder: integer_attribute(attributes, WAIT_HOLDER) }
    }

    /// The kind that was waited for longest and, of its holders, the one that held it longest.
    pub(super) fn longest(grown: &[(Self, f64)]) -> Option<Self> {
        let mut kinds = BTreeMap::<String, f64>::new();
        for (wait, seconds) in grown {
            *kinds.entry(wait.kind.clone()).or_default() += seconds;
        }
        let (kind, seconds) = kinds.into_iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
        // The largest come first; a part of a wait without a holder says nothing against one that is named.
        let holder = grown.iter().filter(|(wait, _)| wait.kind == kind).find_map(|(wait, _)| wait.holder);
        (seconds >= NOISE).then_some(Self { kind, holder })
    }
}
