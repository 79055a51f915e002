//! What OpenMetrics 1.0.0 does otherwise than the older text format: family names, numbers, exemplars, the end.

use opentelemetry_proto::tonic::metrics::v1::{Exemplar, exemplar};

use super::{
    series::Kind,
    text::{escaped, number},
};
use crate::value::hex;

/// The last line of every exposition.
pub(super) const END: &str = "# EOF\n";

/// Suffix of the one sample of a counter.
const TOTAL: &str = "_total";

/// Name and type of the family whose samples are called `name`.
pub(super) fn family(name: &str, kind: Kind) -> (&str, &'static str) {
    match kind {
        // Without `_total` it must not be called a counter.
        Kind::Counter => name.strip_suffix(TOTAL).map_or((name, "unknown"), |family| (family, kind.as_str())),
        _ => (name, kind.as_str()),
    }
}

/// A boundary or quantile, which must look like a float.
pub(super) fn float(value: f64) -> String {
    let text = number(value);
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') { text + ".0" } else { text }
}

/// A time in seconds.
pub(super) fn timestamp(nanos: u64) -> String {
    format!("{}.{:03}", nanos / 1_000_000_000, nanos / 1_000_000 % 1_000)
}

/// ` # {trace_id="…"} 0.5 12.345`. Other attributes are left out: together they may have 128 characters at most.
pub(super) fn exemplar(exemplar: &Exemplar) -> Option<String> {
    let value = exemplar_value(exemplar)?;
    let ids = [("trace_id", &exemplar.trace_id), ("span_id", &exemplar.span_id)];
    let labels: Vec<_> = ids
        .into_iter()
        .filter(|(_, id)| !id.is_empty() && id.len() <= 16)
        .map(|(label, id)| format!("{label}=\"{}\"", escaped(&hex(id), true)))
        .collect();
    let mut text = format!(" # {{{}}} {}", labels.join(","), number(value));
    if exemplar.time_unix_nano > 0 {
        text.push(' ');
        text.push_str(&timestamp(exemplar.time_unix_nano));
    }
    Some(text)
}

/// The measured value of an exemplar.
pub(super) fn exemplar_value(exemplar: &Exemplar) -> Option<f64> {
    match exemplar.value? {
        exemplar::Value::AsDouble(value) => Some(value),
        exemplar::Value::AsInt(value) => Some(value as f64),
    }
}
