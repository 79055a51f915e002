//! What the tests of several exporters need: the agent's counters, requests, a writer to look into.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use blameio_config::ComponentId;
use blameio_pipeline::{
    Context,
    metrics::number_points,
    telemetry::{ComponentMetrics, Telemetry},
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{
        Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};

/// The agent's own telemetry, without readers that push.
pub(crate) struct Agent(Telemetry);

impl Agent {
    pub(crate) fn new() -> Self {
        Self(Telemetry::new(&blameio_config::Telemetry::default()).unwrap())
    }

    pub(crate) fn exporter(&self, id: &ComponentId) -> ComponentMetrics {
        self.0.metrics().component("exporter", id)
    }

    pub(crate) fn context(&self, id: &str) -> Context {
        Context { id: id.parse().unwrap(), host: Arc::default(), metrics: self.0.metrics().clone() }
    }

    /// The value of a metric of the agent's own, summed over its points.
    pub(crate) fn counter(&self, name: &str) -> i64 {
        let request = self.0.collect();
        let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        let metrics = scopes.flat_map(|scope| &scope.metrics).filter(|metric| metric.name == name);
        let values = metrics.flat_map(number_points).filter_map(|point| match point.value? {
            number_data_point::Value::AsInt(value) => Some(value),
            number_data_point::Value::AsDouble(_) => None,
        });
        values.sum()
    }
}

/// A request of one resource with the given metrics.
pub(crate) fn request(resource: Resource, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
}

/// A point.
pub(crate) fn point(value: f64, at: u64, attributes: Vec<KeyValue>) -> NumberDataPoint {
    NumberDataPoint {
        attributes,
        time_unix_nano: at,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

/// A metric.
pub(crate) fn metric(name: &str, unit: &str, description: &str, data: Data) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        description: description.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

/// A request with one gauge.
pub(crate) fn gauges(resource: Resource, points: &[(f64, Vec<KeyValue>)]) -> ExportMetricsServiceRequest {
    let data_points = points.iter().map(|(value, attributes)| point(*value, 1, attributes.clone())).collect();
    request(resource, vec![metric("test.gauge", "s", "A gauge", Data::Gauge(Gauge { data_points }))])
}

/// A writer whose text can be looked at.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
