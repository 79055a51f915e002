//! The exporter with a writer in the place of the terminal.

use blameio_config::parse;
use blameio_pipeline::{
    metrics::{MetricsBuilder, PointTime, key_value},
    server::ServerPublisher,
    signal,
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest, resource::v1::Resource,
};
use tokio::time::{sleep, timeout};

use super::*;
use crate::testing::{Agent, Written};

fn blame_table(clear: bool, servers: Vec<WatchedServer>) -> (BlameTable, Written) {
    let (agent, written) = (Agent::new(), Written::default());
    let metrics = agent.exporter(&"blame_table".parse().unwrap());
    let output = Output { writer: Box::new(written.clone()), colour: false, clear };
    (BlameTable::new(BlameTableSettings::default(), metrics, output, servers), written)
}

fn batch() -> Batch {
    let attributes = vec![key_value("service.name", "orders")];
    let mut points = MetricsBuilder::new(Resource { attributes, ..Resource::default() }, "test");
    points.point(&signal::REPLICATION_LAG, 0.01, vec![], PointTime { start: 0, at: 1 });
    Batch::metrics(ExportMetricsServiceRequest { resource_metrics: vec![points.finish()] })
}

async fn until(written: &Written, text: &str) {
    let wait = async {
        while !written.text().contains(text) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), wait).await.expect("was not written");
}

#[tokio::test]
async fn what_arrived_last_is_shown_before_the_end() {
    let (table, written) = blame_table(true, Vec::new());
    table.start().await.unwrap();
    table.export(batch()).await.unwrap();
    table.shutdown().await;
    assert_eq!(written.text(), format!("{CLEAR}orders: in step (lag 0.010 s)\n"));
}

#[tokio::test(start_paused = true)]
async fn without_data_it_says_what_it_waits_for() {
    let (publisher, server): (ServerPublisher, _) = WatchedServer::new("database/orders".parse().unwrap());
    let (table, written) = blame_table(false, vec![server]);
    table.start().await.unwrap();
    until(&written, "waiting for file_io/replication of database/orders\n").await;
    table.export(batch()).await.unwrap();
    until(&written, "orders: in step (lag 0.010 s)\n\n").await;
    table.shutdown().await;
    drop(publisher);
}

#[test]
fn settings_are_checked() {
    let check = |text: &str| {
        let mut out = Diagnostics::new();
        (FACTORY.validate)(&parse(text).unwrap(), &Path::root(), &mut out);
        out.to_string()
    };
    assert_eq!(check("{}"), "");
    assert!(check("interval: 1ms").contains("`interval` must be at least 100ms"));
    assert!(check("rows: 0").contains("`rows` must be positive"));
    assert!(check("clear: maybe").contains("'clear' has an unknown value"));
}
