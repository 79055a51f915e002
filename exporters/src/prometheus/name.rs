//! Translates metric names and attribute keys, as the Collector's Prometheus exporter does.
//!
//! Order: illegal characters, unit suffix unless the name has it, then `_total` or `_ratio`.

use super::{series::Kind, unit};

/// The name of a metric; `None` when nothing legal is left of it.
///
/// Without `suffixes` only illegal characters are replaced: the agent's own metrics keep the Collector's names.
/// An info metric with unit `1` gets `_ratio` as any other gauge: neither the specification nor the Collector
/// makes an exception.
pub(super) fn metric(name: &str, unit: &str, kind: Kind, suffixes: bool) -> Option<String> {
    let mut tokens: Vec<&str> = name.split(|c| !is_legal(c)).filter(|token| !token.is_empty()).collect();
    if tokens.is_empty() {
        return None;
    }
    let (main, per) = unit::words(unit);
    if suffixes {
        let known = |word: &str, tokens: &[&str]| word.split('_').all(|part| tokens.contains(&part));
        let add_main = !main.is_empty() && !known(&main, &tokens);
        let add_per = !per.is_empty() && !known(&per, &tokens);
        if add_main {
            tokens.push(&main);
        }
        if add_per {
            tokens.extend(["per", &per]);
        }
        let last = match kind {
            Kind::Counter => Some("total"),
            Kind::Gauge if unit == "1" => Some("ratio"),
            _ => None,
        };
        if let Some(last) = last {
            tokens.retain(|token| *token != last);
            tokens.push(last);
        }
    }
    let joined = tokens.join("_");
    Some(if joined.starts_with(|c: char| c.is_ascii_digit()) { format!("_{joined}") } else { joined })
}

fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// The label for an attribute key.
pub(super) fn label(key: &str) -> String {
    let mut label = String::with_capacity(key.len());
    for c in key.chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '_' };
        if c != '_' || !label.ends_with('_') {
            label.push(c);
        }
    }
    if label.starts_with(|c: char| c.is_ascii_digit()) { format!("key_{label}") } else { label }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_are_translated_as_the_specification_says() {
        for (name, unit, kind, expected) in [
            ("blameio.lag.blame", "s", Kind::Gauge, "blameio_lag_blame_seconds"),
            ("blameio.file.io", "By", Kind::Counter, "blameio_file_io_bytes_total"),
            ("blameio.file.operations", "{operation}", Kind::Counter, "blameio_file_operations_total"),
            ("blameio.replication.status", "{state}", Kind::Gauge, "blameio_replication_status"),
            ("blameio.replication.info", "1", Kind::Gauge, "blameio_replication_info_ratio"),
            ("blameio.replication.lag.bytes", "By", Kind::Gauge, "blameio_replication_lag_bytes"),
            (
                "blameio.file.operation.duration",
                "s",
                Kind::Histogram,
                "blameio_file_operation_duration_seconds",
            ),
            ("system.cpu.utilization", "1", Kind::Gauge, "system_cpu_utilization_ratio"),
            ("restarts", "1", Kind::Counter, "restarts_total"),
            ("requests.total", "", Kind::Counter, "requests_total"),
            ("total.requests", "", Kind::Counter, "requests_total"),
            ("storage.filesystem.io", "By/s", Kind::Gauge, "storage_filesystem_io_bytes_per_second"),
            ("speed", "m/s", Kind::Gauge, "speed_meters_per_second"),
            ("queries", "{query}/s", Kind::Gauge, "queries_per_second"),
            ("freq", "Hz", Kind::Gauge, "freq_hertz"),
            ("used", "%", Kind::Gauge, "used_percent"),
            ("mem", "MiBy", Kind::Gauge, "mem_mebibytes"),
            ("odd", "m^2.kg", Kind::Gauge, "odd_m_2_kg"),
            ("a..b__c-d", "", Kind::Gauge, "a_b_c_d"),
            ("job:rate5m", "", Kind::Gauge, "job:rate5m"),
            ("2xx", "", Kind::Gauge, "_2xx"),
            ("time_seconds", "s", Kind::Gauge, "time_seconds"),
        ] {
            assert_eq!(metric(name, unit, kind, true).as_deref(), Some(expected), "{name} [{unit}]");
        }
        assert_eq!(metric("…", "s", Kind::Gauge, true), None);
    }

    #[test]
    fn without_suffixes_a_name_stays_as_it_is() {
        let name = metric("otelcol_process_uptime", "s", Kind::Counter, false);
        assert_eq!(name.as_deref(), Some("otelcol_process_uptime"));
    }

    #[test]
    fn attribute_keys_become_labels() {
        for (key, expected) in [
            ("db.table", "db_table"),
            ("a..b", "a_b"),
            ("1st", "key_1st"),
            ("größe", "gr_e"),
            ("__name__", "_name_"),
            ("already_fine", "already_fine"),
        ] {
            assert_eq!(label(key), expected);
        }
    }
}
