//! The reference pages `docs/metrics.md` and `docs/configuration.md`, made from the code that they describe and from the
//! hand-written texts in `docs/templates/`. A test compares them with what is committed.

use blameio::components::COMPONENTS;
use blameio_config::{FieldDoc, Signal};
use blameio_exporters::prometheus::{RenderOptions, TextFormat, render};
use blameio_pipeline::{
    Factory,
    metrics::{MetricsBuilder, PointTime},
    signal::{self, Kind, Metric},
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{ExponentialHistogramDataPoint, exponential_histogram_data_point::Buckets},
    resource::v1::Resource,
};

/// A page that is made.
pub struct Page {
    /// Path below the repository's root.
    pub path: &'static str,
    /// What should be in it.
    pub text: String,
}

/// All pages that are made.
pub fn pages() -> Vec<Page> {
    vec![
        Page { path: "docs/metrics.md", text: metrics() },
        Page { path: "docs/configuration.md", text: configuration() },
    ]
}

/// A list of words in the code: the attribute whose values they are, the enum, and its source.
struct Words {
    attribute: &'static str,
    name: &'static str,
    source: &'static str,
}

const WORDS: &[Words] = &[
    Words {
        attribute: "blameio.blame.cause",
        name: "Cause",
        source: include_str!("../../processors/src/lag_attribution/owner.rs"),
    },
    Words {
        attribute: "blameio.thread.state",
        name: "ThreadState",
        source: include_str!("../../receiver-ebpf/src/types.rs"),
    },
    Words {
        attribute: "blameio.io.operation",
        name: "Operation",
        source: include_str!("../../receiver-ebpf/src/types.rs"),
    },
    Words {
        attribute: "blameio.thread.role",
        name: "ThreadRole",
        source: include_str!("../../pipeline/src/role.rs"),
    },
    Words {
        attribute: "blameio.file.kind",
        name: "FileKind",
        source: include_str!("../../databases/src/catalog.rs"),
    },
    Words {
        attribute: "blameio.wait.kind",
        name: "WaitKind",
        source: include_str!("../../databases/src/positions.rs"),
    },
    Words {
        attribute: "blameio.replication.state",
        name: "Status",
        source: include_str!("../../receiver/src/replication/emit.rs"),
    },
    Words {
        attribute: "blameio.lag.source",
        name: "Source",
        source: include_str!("../../receiver/src/replication/lag.rs"),
    },
    Words {
        attribute: "blameio.heartbeat.clock",
        name: "Clock",
        source: include_str!("../../receiver/src/heartbeat/replica.rs"),
    },
];

const ATTRIBUTES: &str = include_str!("../../pipeline/src/attribute.rs");
const LOST: &str = include_str!("../../receiver-ebpf/src/raw.rs");

fn metrics() -> String {
    filled(
        include_str!("../../docs/templates/metrics.md.in"),
        &[
            ("metrics", signal::ALL.iter().map(metric).collect()),
            ("attributes", attributes()),
            ("values", WORDS.iter().map(values).collect()),
            ("lost", lost()),
        ],
    )
}

fn configuration() -> String {
    filled(
        include_str!("../../docs/templates/configuration.md.in"),
        &[
            ("extensions", components(COMPONENTS.extensions)),
            ("receivers", components(COMPONENTS.receivers)),
            ("processors", components(COMPONENTS.processors)),
            ("exporters", components(COMPONENTS.exporters)),
        ],
    )
}

/// The template with each line `{{name}}` replaced by its part. The first line of a page says where it comes from.
fn filled(template: &str, parts: &[(&str, String)]) -> String {
    let mut text = template.to_owned();
    for (name, part) in parts {
        let place = format!("{{{{{name}}}}}");
        assert!(text.contains(&place), "the template has no line {place}");
        text = text.replace(&place, part.trim());
    }
    assert!(!text.contains("{{"), "the template has a line that nothing fills");
    text
}

fn metric(metric: &Metric) -> String {
    let Metric { name, unit, kind, description, attributes } = metric;
    let kind = match kind {
        Kind::Gauge => "gauge",
        Kind::Sum => "sum, cumulative, monotonic",
        Kind::ExponentialHistogram => "exponential histogram, cumulative",
    };
    let attributes: Vec<_> = attributes.iter().map(|attribute| format!("`{attribute}`")).collect();
    let (prometheus, prometheus_kind) = prometheus_name(metric);
    format!(
        "### {name}\n\n{}\n\n| | |\n| --- | --- |\n| unit | `{unit}` |\n| kind | {kind} |\n| Prometheus | \
         `{prometheus}` ({prometheus_kind}) |\n| attributes | {} |\n\n",
        one_line(description),
        attributes.join(", "),
    )
}

/// Name and type as the exporter `prometheus` writes them: it is asked, so that the docs cannot know better.
fn prometheus_name(metric: &Metric) -> (String, String) {
    let mut builder = MetricsBuilder::new(Resource::default(), "reference");
    let time = PointTime { start: 1, at: 2 };
    if metric.kind == Kind::ExponentialHistogram {
        builder.histogram(
            metric,
            ExponentialHistogramDataPoint {
                count: 1,
                sum: Some(1.0),
                start_time_unix_nano: time.start,
                time_unix_nano: time.at,
                positive: Some(Buckets { offset: 0, bucket_counts: vec![1] }),
                ..ExponentialHistogramDataPoint::default()
            },
        );
    } else {
        builder.point(metric, 1_i64, Vec::new(), time);
    }
    let request = ExportMetricsServiceRequest { resource_metrics: vec![builder.finish()] };
    let page = render(&request, RenderOptions::exported(TextFormat::Prometheus));
    page.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .find(|(name, _)| *name != "target_info")
        .map_or_else(
            || (String::from("not exported"), String::from("-")),
            |(name, kind)| (name.to_owned(), kind.to_owned()),
        )
}

/// The constants of `pipeline::attribute` with their doc comments.
fn attributes() -> String {
    let mut table = String::from("| attribute | label in Prometheus | meaning |\n| --- | --- | --- |\n");
    let mut doc = String::new();
    for line in ATTRIBUTES.lines() {
        if let Some(text) = line.strip_prefix("///") {
            doc.push_str(text);
        } else if let Some(key) = line.strip_prefix("pub const ").and_then(|rest| rest.split('"').nth(1)) {
            // Many docs begin with the key itself.
            let meaning =
                doc.trim().trim_start_matches(&format!("`{key}`")).trim_start_matches([':', ',', '.']);
            let meaning =
                if meaning.trim().is_empty() { "As OpenTelemetry's conventions have it." } else { meaning };
            row(
                &mut table,
                &[&format!("`{key}`"), &format!("`{}`", key.replace('.', "_")), &sentence(meaning)],
            );
            doc.clear();
        }
    }
    table
}

fn values(words: &Words) -> String {
    let Words { attribute, name, source } = words;
    let mut text = format!("### {attribute}\n\n| value | meaning |\n| --- | --- |\n");
    for (word, meaning) in words_of(source, name) {
        row(&mut text, &[&format!("`{word}`"), &meaning]);
    }
    text + "\n"
}

/// The words of an enum in Rust source, with the doc comments of its variants. Variants without a word are left out.
fn words_of(source: &str, name: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let Some((_, body)) = source.split_once(&format!("enum {name} {{\n")) else { return found };
    let Some((variants, after)) = body.split_once("\n}") else { return found };
    // The first function of that name after the enum is its own.
    let words = after
        .split_once("fn as_str")
        .map_or("", |(_, rest)| rest.split_once("\n    }").map_or("", |(f, _)| f));
    let mut doc = String::new();
    for line in variants.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push_str(text);
        } else if let Some(variant) =
            line.split([' ', ',', '=']).next().filter(|v| !v.is_empty() && !v.starts_with('#'))
        {
            let arm = words.lines().find(|line| line.trim().starts_with(&format!("Self::{variant} =>")));
            if let Some(word) = arm.and_then(|arm| arm.split('"').nth(1)) {
                found.push((word.to_owned(), doc.trim().to_owned()));
            }
            doc.clear();
        }
    }
    found
}

/// Reasons of `blameio.file.lost`, from the list in the loader, with what an operator should know of each.
fn lost() -> String {
    let mut table = String::from("| value | what was lost |\n| --- | --- |\n");
    let list = LOST
        .split_once("LOST_REASONS")
        .and_then(|(_, rest)| rest.split_once("];"))
        .map_or("", |(list, _)| list);
    let reasons = list.split('"').skip(1).step_by(2).chain([
        "request not seen to end",
        "bio not seen to end",
        "probe skipped",
        "row swept while written",
        "probes detached",
    ]);
    for reason in reasons {
        let meaning = match reason {
            "io map full" => "No row was left for a file; the operation is counted in the row `(overflow)`.",
            "overflow map full" => "Not even an `(overflow)` row was left; the operation is not counted.",
            "files map full" => "A file's name was not kept; it is `(unnamed)`, and so `(unresolved)`.",
            "thread storage refused" => {
                "A thread's operation was not counted at all; its next one is tried again."
            }
            "thread time map full" => "Blocked time of a critical thread was kept without its file.",
            "durations map full" => {
                "A duration is not in the histogram; the operation is counted all the same."
            }
            "processes map full" => "A process is not watched; what it does is not counted.",
            "file name unreadable" => "The kernel's memory for a file name could not be read.",
            "device map full" => {
                "That an operation reached the device was not kept; the operation is counted all the same."
            }
            "write-back map full" => "Write-back of a file was not counted.",
            "write-back in flight map full" => "Write-back was counted without its time.",
            "requests map full" => "An asynchronous operation was not counted: too many were in flight.",
            "request unreadable" => "A request of libaio could not be read from the memory of its process.",
            "request not seen to end" => {
                "The end of an asynchronous operation was not seen; it is not counted."
            }
            "flights map full" => {
                "I/O of somebody who is not watched was not counted: too much was in flight."
            }
            "bio not seen to end" => {
                "The end of a bio was not seen: of somebody who is not watched it is not counted, of write-back \
                 without its time."
            }
            "others map full" => {
                "No row was left for somebody who is not watched; the I/O is counted in a row of the device."
            }
            "cgroups map full" => {
                "I/O of a watched server that its cgroup's limit held back may count for somebody else too."
            }
            "probe skipped" => {
                "The kernel did not run a probe, because one was running on the processor already."
            }
            "row swept while written" => {
                "What a row counted in the moment in which it was removed to make room."
            }
            "probes detached" => {
                "The probes took more than `max_cpu_percent` and are detached: nothing is counted any more."
            }
            _ => "Not described yet.",
        };
        row(&mut table, &[&format!("`{reason}`"), meaning]);
    }
    table
}

fn components<T: ?Sized>(factories: &[Factory<T>]) -> String {
    factories.iter().map(component).collect()
}

fn component<T: ?Sized>(factory: &Factory<T>) -> String {
    let signals: Vec<_> = factory.signals.iter().map(Signal::to_string).collect();
    let mut text = format!("### {}\n\n{}.\n\n", factory.kind, factory.summary.trim_end_matches('.'));
    if !signals.is_empty() {
        text += &format!("Signals: {}. ", signals.join(", "));
    }
    text += &format!("Stability: {}.\n\n", factory.stability.as_str());
    if factory.fields.is_empty() {
        return text + "It has no settings.\n\n";
    }
    text += "| key | type | default | meaning |\n| --- | --- | --- | --- |\n";
    fields(&mut text, "", factory.fields);
    text + "\n"
}

fn fields(text: &mut String, above: &str, docs: &[FieldDoc]) {
    for FieldDoc { name, type_name, default, required, doc, fields: below } in docs {
        let key = format!("{above}{name}");
        let default = match default {
            Some("()") if *type_name == "list" => "`[]`".to_owned(),
            Some("()") => "`{}`".to_owned(),
            Some(default) => format!("`{}`", default.trim_matches('"')),
            None if *required => "required".to_owned(),
            None => "none".to_owned(),
        };
        row(text, &[&format!("`{key}`"), type_name, &default, doc]);
        fields_below(text, &key, below);
    }
}

fn fields_below(text: &mut String, key: &str, below: &[FieldDoc]) {
    if !below.is_empty() {
        fields(text, &format!("{key}::"), below);
    }
}

fn row(table: &mut String, cells: &[&str]) {
    let cells: Vec<_> = cells.iter().map(|cell| one_line(cell).replace('|', "\\|")).collect();
    table.push_str(&format!("| {} |\n", cells.join(" | ")));
}

/// With a capital letter, unless it begins with code.
fn sentence(text: &str) -> String {
    let mut letters = text.trim().chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_of_words_is_found_in_the_code() {
        for Words { attribute, name, source } in WORDS {
            let words = words_of(source, name);
            assert!(words.len() >= 2, "{attribute}: {words:?}");
            assert!(words.iter().all(|(_, meaning)| !meaning.is_empty()), "{attribute}: {words:?}");
        }
    }

    #[test]
    fn every_metric_has_a_name_in_prometheus_and_every_loss_a_meaning() {
        for metric in signal::ALL {
            assert!(prometheus_name(metric).0.starts_with("blameio_"), "{}", metric.name);
        }
        assert!(lost().lines().count() > 8, "{}", lost());
        assert!(!lost().contains("Not described yet"), "{}", lost());
    }
}
