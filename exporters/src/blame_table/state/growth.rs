//! Cumulative series, and what they have grown by since they were last shown.

use std::collections::{BTreeMap, HashMap};

use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::MAX_ROWS;
use crate::value;

#[derive(Debug)]
struct Growth<L> {
    label: L,
    /// Its value when it was last shown.
    shown: f64,
    latest: f64,
    ended: bool,
}

/// Series by all of their attributes; those of one label are summed.
#[derive(Debug)]
pub(super) struct Series<L>(HashMap<String, Growth<L>>);

// Derived it would ask for a label that has a default.
impl<L> Default for Series<L> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<L: Clone + Ord> Series<L> {
    /// Takes a value, or the end of the series. `new`: a series that is seen first has begun just now.
    pub(super) fn grow(&mut self, attributes: &[KeyValue], label: L, value: Option<f64>, new: bool) {
        let key = value::pairs(attributes);
        let Some(value) = value else {
            if let Some(growth) = self.0.get_mut(&key) {
                // What it has grown by is still to be shown.
                growth.ended = true;
            }
            return;
        };
        if self.0.len() >= MAX_ROWS && !self.0.contains_key(&key) {
            return;
        }
        // What had grown before it was seen first says nothing of now.
        let shown = if new { 0.0 } else { value };
        let growth = self.0.entry(key).or_insert(Growth { label, shown, latest: value, ended: false });
        if value < growth.latest {
            growth.shown = 0.0;
        }
        growth.latest = value;
        growth.ended = false;
    }

    /// What has grown since the last call, the largest first.
    pub(super) fn growth(&mut self) -> Vec<(L, f64)> {
        let mut grown: BTreeMap<L, f64> = BTreeMap::new();
        for growth in self.0.values_mut() {
            *grown.entry(growth.label.clone()).or_default() += growth.latest - growth.shown;
            growth.shown = growth.latest;
        }
        self.0.retain(|_, growth| !growth.ended);
        let mut grown: Vec<_> = grown.into_iter().filter(|(_, seconds)| *seconds > 0.0).collect();
        grown.sort_by(|a, b| b.1.total_cmp(&a.1));
        grown
    }
}
