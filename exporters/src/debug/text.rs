//! A batch as lines of text, in the Collector's words.
//!
//! What a sender wrote is made harmless here, line by line: it goes to a terminal.

use std::fmt::Write as _;

use blameio_config::Signal;
use blameio_pipeline::{Batch, batch::BatchError, metrics::is_ended};
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, metric::Data, number_data_point};

use super::Verbosity;
use crate::{plain, value};

/// The text of a batch. `id` names the exporter.
pub(super) fn batch(batch: &Batch, verbosity: Verbosity, id: &str) -> Result<String, BatchError> {
    let mut lines = Lines { out: String::new(), detailed: verbosity == Verbosity::Detailed };
    match batch.signal() {
        Signal::Metrics => {
            let resources = &batch.as_metrics()?.resource_metrics;
            let scopes = resources.iter().flat_map(|resource| &resource.scope_metrics);
            let metrics: usize = scopes.map(|scope| scope.metrics.len()).sum();
            lines.raw(format_args!(
                "{id}\tMetrics\t{{\"resource metrics\": {}, \"metrics\": {metrics}, \"data points\": {}}}",
                resources.len(),
                batch.items()
            ));
        }
        Signal::Traces => {
            let resources = batch.as_traces()?.resource_spans.len();
            let spans = batch.items();
            lines.raw(format_args!("{id}\tTraces\t{{\"resource spans\": {resources}, \"spans\": {spans}}}"));
        }
        Signal::Logs => {
            let resources = batch.as_logs()?.resource_logs.len();
            let records = batch.items();
            lines.raw(format_args!(
                "{id}\tLogs\t{{\"resource logs\": {resources}, \"log records\": {records}}}"
            ));
        }
    }
    if verbosity != Verbosity::Basic {
        lines.content(batch)?;
    }
    Ok(lines.out)
}

struct Lines {
    out: String,
    detailed: bool,
}

impl Lines {
    /// A line of what a sender wrote.
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.out += &plain(&line.to_string());
        self.out.push('\n');
    }

    /// Text that has nothing of a sender's, or in which `Debug` has escaped it.
    fn raw(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        self.out.write_fmt(text).ok();
        self.out.push('\n');
    }

    fn content(&mut self, batch: &Batch) -> Result<(), BatchError> {
        match batch.signal() {
            Signal::Metrics => {
                for (index, resource) in batch.as_metrics()?.resource_metrics.iter().enumerate() {
                    let attributes =
                        resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
                    self.line(format_args!("ResourceMetrics #{index} {}", value::pairs(attributes)));
                    for scope in &resource.scope_metrics {
                        self.scope(scope.scope.as_ref());
                        for metric in &scope.metrics {
                            self.metric(metric);
                        }
                    }
                }
            }
            Signal::Traces => {
                for (index, resource) in batch.as_traces()?.resource_spans.iter().enumerate() {
                    let attributes =
                        resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
                    self.line(format_args!("ResourceTraces #{index} {}", value::pairs(attributes)));
                    for scope in &resource.scope_spans {
                        self.scope(scope.scope.as_ref());
                        for span in &scope.spans {
                            let (trace, id) = (value::hex(&span.trace_id), value::hex(&span.span_id));
                            self.line(format_args!(
                                "{} {trace} {id} {}",
                                span.name,
                                value::pairs(&span.attributes)
                            ));
                            if self.detailed {
                                self.raw(format_args!("{span:#?}"));
                            }
                        }
                    }
                }
            }
            Signal::Logs => {
                for (index, resource) in batch.as_logs()?.resource_logs.iter().enumerate() {
                    let attributes =
                        resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
                    self.line(format_args!("ResourceLog #{index} {}", value::pairs(attributes)));
                    for scope in &resource.scope_logs {
                        self.scope(scope.scope.as_ref());
                        for record in &scope.log_records {
                            let body = value::text(record.body.as_ref());
                            self.line(format_args!("{body} {}", value::pairs(&record.attributes)));
                            if self.detailed {
                                self.raw(format_args!("{record:#?}"));
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn scope(&mut self, scope: Option<&opentelemetry_proto::tonic::common::v1::InstrumentationScope>) {
        if let Some(scope) = scope.filter(|_| self.detailed) {
            let attributes = value::pairs(&scope.attributes);
            self.line(format_args!("InstrumentationScope {} {} {attributes}", scope.name, scope.version));
        }
    }

    fn metric(&mut self, metric: &Metric) {
        let Metric { name, description, unit, data, .. } = metric;
        if self.detailed {
            self.line(format_args!("Metric {name} [{unit}] {description}"));
        }
        match data {
            Some(Data::Gauge(gauge)) => self.numbers(name, &gauge.data_points),
            Some(Data::Sum(sum)) => self.numbers(name, &sum.data_points),
            Some(Data::Histogram(histogram)) => {
                for point in &histogram.data_points {
                    let sum = point.sum.unwrap_or_default();
                    let attributes = value::pairs(&point.attributes);
                    self.line(format_args!("{name}{{{attributes}}} count={} sum={sum}", point.count));
                    self.detail(point);
                }
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                for point in &histogram.data_points {
                    let sum = point.sum.unwrap_or_default();
                    let attributes = value::pairs(&point.attributes);
                    self.line(format_args!("{name}{{{attributes}}} count={} sum={sum}", point.count));
                    self.detail(point);
                }
            }
            Some(Data::Summary(summary)) => {
                for point in &summary.data_points {
                    let attributes = value::pairs(&point.attributes);
                    self.line(format_args!("{name}{{{attributes}}} count={} sum={}", point.count, point.sum));
                    self.detail(point);
                }
            }
            None => {}
        }
    }

    fn numbers(&mut self, name: &str, points: &[NumberDataPoint]) {
        for point in points {
            let value = match point.value {
                _ if is_ended(point.flags) => "no recorded value".to_owned(),
                Some(number_data_point::Value::AsInt(value)) => value.to_string(),
                Some(number_data_point::Value::AsDouble(value)) => value.to_string(),
                None => "no value".to_owned(),
            };
            self.line(format_args!("{name}{{{}}} {value}", value::pairs(&point.attributes)));
            self.detail(point);
        }
    }

    fn detail(&mut self, point: &impl std::fmt::Debug) {
        if self.detailed {
            self.raw(format_args!("{point:#?}"));
        }
    }
}
