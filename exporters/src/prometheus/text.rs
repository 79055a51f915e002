//! Writes the exposition, in the text format 0.0.4 or in OpenMetrics 1.0.0.
//!
//! What the two have in common is here; where they differ, `openmetrics` is asked.

use std::{collections::BTreeSet, fmt::Write as _};

use opentelemetry_proto::tonic::metrics::v1::Exemplar;

use super::{
    histogram::Grid,
    openmetrics,
    series::{Frozen, Kind, Sample, Value},
};

/// The metric that carries a resource's attributes.
pub(super) const TARGET_INFO: &str = "target_info";

/// The exposition formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl TextFormat {
    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All series as text.
pub(super) fn page(families: &[Frozen], format: TextFormat, timestamps: bool) -> String {
    let mut page = Page { out: String::new(), format, timestamps };
    let samples = families.iter().flat_map(|family| &family.series);
    let targets: BTreeSet<_> =
        samples.map(|(_, sample)| &*sample.target).filter(|target| !target.info.is_empty()).collect();
    if !targets.is_empty() {
        page.targets(targets.iter().map(|target| &target.info[..]));
    }
    let mut written = BTreeSet::new();
    for family in families.iter().filter(|family| !family.series.is_empty()) {
        let name = family.name.as_str();
        let header = match format {
            TextFormat::Prometheus => (name, family.kind.as_str()),
            TextFormat::OpenMetrics => openmetrics::family(name, family.kind),
        };
        // In OpenMetrics a gauge `a` and a counter `a_total` have the same name, which may stand there once.
        if written.insert(header.0) {
            page.header(header.0, header.1, &family.help);
            page.family(family);
        }
    }
    if format == TextFormat::OpenMetrics {
        page.out += openmetrics::END;
    }
    page.out
}

struct Page {
    out: String,
    format: TextFormat,
    timestamps: bool,
}

impl Page {
    fn header(&mut self, name: &str, kind: &str, help: &str) {
        if !help.is_empty() {
            // The older format takes quotes in a help text as they are.
            let help = escaped(help, self.format == TextFormat::OpenMetrics);
            self.line(format_args!("# HELP {name} {help}\n"));
        }
        self.line(format_args!("# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        self.out.write_fmt(line).ok();
    }

    fn targets<'a>(&mut self, targets: impl Iterator<Item = &'a [(String, String)]>) {
        let (name, kind) = match self.format {
            TextFormat::Prometheus => (TARGET_INFO, "gauge"),
            TextFormat::OpenMetrics => ("target", "info"),
        };
        self.header(name, kind, "Attributes of the resource");
        for labels in targets {
            self.sample(TARGET_INFO, labels, None, "1", 0, None);
        }
    }

    fn family(&mut self, family: &Frozen) {
        let exponential = family.series.iter().filter_map(|(_, sample)| match &sample.value {
            Value::Exponential(point) => Some(&**point),
            _ => None,
        });
        let grid = Grid::new(exponential);
        for (labels, sample) in &family.series {
            self.series(&family.name, family.kind, labels, sample, &grid);
        }
    }

    fn series(&mut self, name: &str, kind: Kind, labels: &[(String, String)], sample: &Sample, grid: &Grid) {
        let at = sample.at;
        match &sample.value {
            Value::Number { value, exemplar } => {
                // Only a counter's sample may have one, and only where it is called `_total`.
                let exemplar =
                    exemplar.as_ref().filter(|_| kind == Kind::Counter && name.ends_with("_total"));
                self.sample(name, labels, None, &number(*value), at, exemplar);
            }
            Value::Histogram { buckets, sum, count, exemplars } => {
                self.histogram(name, labels, buckets, (*sum, *count), at, exemplars);
            }
            Value::Exponential(point) => {
                let buckets = grid.cumulative(point);
                let count = point.count.max(buckets.last().map_or(0, |(_, count)| *count));
                self.histogram(name, labels, &buckets, (point.sum, count), at, &point.exemplars);
            }
            Value::Summary { quantiles, sum, count } => {
                for (quantile, value) in quantiles {
                    let quantile = self.float(*quantile);
                    self.sample(name, labels, Some(("quantile", &quantile)), &number(*value), at, None);
                }
                self.sample(&format!("{name}_sum"), labels, None, &number(*sum), at, None);
                self.sample(&format!("{name}_count"), labels, None, &count.to_string(), at, None);
            }
        }
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &[(String, String)],
        buckets: &[(f64, u64)],
        (sum, count): (Option<f64>, u64),
        at: u64,
        exemplars: &[Exemplar],
    ) {
        let bucket = format!("{name}_bucket");
        let mut below = f64::NEG_INFINITY;
        for (bound, cumulative) in buckets.iter().copied().chain([(f64::INFINITY, count)]) {
            let exemplar = exemplars.iter().rev().find(|exemplar| {
                openmetrics::exemplar_value(exemplar).is_some_and(|value| value > below && value <= bound)
            });
            let le = self.float(bound);
            self.sample(&bucket, labels, Some(("le", &le)), &cumulative.to_string(), at, exemplar);
            below = bound;
        }
        if let Some(sum) = sum {
            self.sample(&format!("{name}_sum"), labels, None, &number(sum), at, None);
        }
        self.sample(&format!("{name}_count"), labels, None, &count.to_string(), at, None);
    }

    fn float(&self, value: f64) -> String {
        match self.format {
            TextFormat::Prometheus => number(value),
            TextFormat::OpenMetrics => openmetrics::float(value),
        }
    }

    fn sample(
        &mut self,
        name: &str,
        labels: &[(String, String)],
        more: Option<(&str, &str)>,
        value: &str,
        at: u64,
        exemplar: Option<&Exemplar>,
    ) {
        self.out += name;
        let own = labels.iter().map(|(label, value)| (label.as_str(), value.as_str()));
        // A label that the exposition needs wins over an attribute of the same name.
        let own = own.filter(|(label, _)| more.is_none_or(|(needed, _)| needed != *label));
        for (index, (label, value)) in own.chain(more).enumerate() {
            self.out.push(if index == 0 { '{' } else { ',' });
            self.line(format_args!("{label}=\"{}\"", escaped(value, true)));
        }
        if !labels.is_empty() || more.is_some() {
            self.out.push('}');
        }
        self.out.push(' ');
        self.out += value;
        if self.timestamps && at > 0 {
            self.out.push(' ');
            self.out += &match self.format {
                TextFormat::Prometheus => (at / 1_000_000).to_string(),
                TextFormat::OpenMetrics => openmetrics::timestamp(at),
            };
        }
        if self.format == TextFormat::OpenMetrics {
            self.out += &exemplar.and_then(openmetrics::exemplar).unwrap_or_default();
        }
        self.out.push('\n');
    }
}

/// A number as both formats write it.
pub(super) fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if value != 0.0 && !(1e-5..1e21).contains(&value.abs()) {
        format!("{value:e}")
    } else {
        value.to_string()
    }
}

/// Text in which a backslash, a line feed and, if told, a quote are escaped.
pub(super) fn escaped(text: &str, quotes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '"' if quotes => out += "\\\"",
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests;
