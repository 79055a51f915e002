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
    let written = Written::default();
    (on(Box::new(written.clone()), clear, servers), written)
}

fn on(writer: Box<dyn Write + Send>, clear: bool, servers: Vec<WatchedServer>) -> BlameTable {
    let metrics = Agent::new().exporter(&"blame_table".parse().unwrap());
    // What is cleared is a terminal here.
    let output = Output { writer, colour: false, clear, terminal: clear };
    BlameTable::new(BlameTableSettings::default(), metrics, output, servers)
}

fn batch() -> Batch {
    lag(0.01, 1)
}

/// A lag at a second, streaming or not.
fn report(lag: f64, second: u64, state: &str) -> Batch {
    let attributes = vec![key_value("service.name", "orders")];
    let mut points = MetricsBuilder::new(Resource { attributes, ..Resource::default() }, "test");
    let at = PointTime { start: 0, at: second * 1_000_000_000 };
    points.point(&signal::REPLICATION_LAG, lag, vec![], at);
    for known in ["streaming", "down"] {
        let status = vec![key_value("blameio.replication.state", known)];
        points.point(&signal::REPLICATION_STATUS, i64::from(known == state), status, at);
    }
    Batch::metrics(ExportMetricsServiceRequest { resource_metrics: vec![points.finish()] })
}

fn lag(lag: f64, at: u64) -> Batch {
    let attributes = vec![key_value("service.name", "orders")];
    let mut points = MetricsBuilder::new(Resource { attributes, ..Resource::default() }, "test");
    points.point(&signal::REPLICATION_LAG, lag, vec![], PointTime { start: 0, at });
    Batch::metrics(ExportMetricsServiceRequest { resource_metrics: vec![points.finish()] })
}

async fn until(written: &Written, text: &str) {
    let wait = async {
        while !written.text().contains(text) {
            // The writer's thread does not live by the runtime's clock, which may be paused.
            std::thread::sleep(Duration::from_millis(2));
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
    assert_eq!(written.text(), format!("{CLEAR}00:00:00 UTC  orders: in step (lag 0.010 s)\n"));
}

#[tokio::test(start_paused = true)]
async fn without_data_it_says_what_it_waits_for() {
    let (publisher, server): (ServerPublisher, _) = WatchedServer::new("database/orders".parse().unwrap());
    let (table, written) = blame_table(false, vec![server]);
    table.start().await.unwrap();
    until(&written, "waiting for file_io/replication of database/orders\n").await;
    table.export(batch()).await.unwrap();
    until(&written, "00:00:00 UTC  orders: in step (lag 0.010 s)\n").await;
    table.shutdown().await;
    drop(publisher);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_no_replica_is_not_waited_for() {
    let (table, written) = blame_table(false, Vec::new());
    table.start().await.unwrap();
    for _ in 0..30 {
        let attributes = vec![key_value("service.name", "orders")];
        let mut points = MetricsBuilder::new(Resource { attributes, ..Resource::default() }, "test");
        let promoted = vec![key_value("blameio.replication.state", "promoted")];
        points.point(&signal::REPLICATION_STATUS, 1_i64, promoted, PointTime { start: 0, at: 1 });
        let request = ExportMetricsServiceRequest { resource_metrics: vec![points.finish()] };
        table.export(Batch::metrics(request)).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    until(&written, "orders").await;
    table.shutdown().await;
    assert_eq!(written.text(), "00:00:00 UTC  orders: no replica (promoted or a primary)\n");
}

/// What is written of a report every second, each followed by a look. The clock is not the runtime's, and no thread
/// writes: every text is taken.
fn frames(terminal: bool, reports: impl IntoIterator<Item = (f64, &'static str)>) -> (Vec<String>, bool) {
    let mut printer = Printer {
        settings: BlameTableSettings::default(),
        state: Arc::default(),
        screen: Screen::open(Box::new(io::sink())).unwrap(),
        style: Style { colour: false, cut: terminal },
        clear: terminal,
        feed: Feed::new(!terminal),
        blank: true,
        servers: Vec::new(),
        stop: CancellationToken::new(),
    };
    let (began, mut frames, mut last_heard) = (Instant::now(), Vec::new(), false);
    for (second, (lag, state)) in (0..).zip(reports) {
        let now = began + Duration::from_secs(second);
        let batch = report(lag, second, state);
        printer.state.lock().unwrap().take(batch.as_metrics().unwrap(), now.into_std());
        let (frame, heard) = printer.frame(now);
        frames.extend(frame);
        last_heard = heard;
    }
    (frames, last_heard)
}

fn repeated(lag: f64, state: &'static str, seconds: usize) -> impl Iterator<Item = (f64, &'static str)> {
    std::iter::repeat_n((lag, state), seconds)
}

#[test]
fn a_log_gets_a_line_when_something_changes_and_a_sign_of_life() {
    let calm = |seconds| repeated(0.01, "streaming", seconds);
    let reports = calm(71).chain(repeated(3.0, "streaming", 1)).chain(calm(7));
    let expected = "\
00:00:00 UTC  orders: in step (lag 0.010 s)
00:01:00 UTC  orders: in step (lag 0.010 s)
00:01:11 UTC  orders  lag 3.00 s  streaming
  not yet attributed: waiting for lag_attribution of orders

00:01:12 UTC  orders: in step (lag 0.010 s)
";
    assert_eq!(frames(false, reports).0.concat(), expected);
}

#[test]
fn a_terminal_is_drawn_anew_with_every_report() {
    let (drawn, _) = frames(true, repeated(0.01, "streaming", 2).chain(repeated(3.0, "streaming", 1)));
    let expected = [
        "00:00:00 UTC  orders: in step (lag 0.010 s)\n",
        "00:00:01 UTC  orders: in step (lag 0.010 s)\n",
        "00:00:02 UTC  orders  lag 3.00 s  streaming\n  \
         not yet attributed: waiting for lag_attribution of orders\n",
    ];
    assert_eq!(drawn, expected.map(|text| format!("{CLEAR}{text}")));
}

#[test]
fn a_server_that_is_down_collapses_to_a_line_and_is_dropped_after_an_hour() {
    let reports = || repeated(6.19, "streaming", 1).chain(repeated(6.19, "down", 3700));
    let collapsed = "orders: DOWN since 00:00:01 UTC, lag was 6.19 s\n";
    let (log, heard) = frames(false, reports());
    // 61 seconds with a table each, then a line each minute until the hour.
    assert_eq!(log[60].lines().next(), Some("00:01:00 UTC  orders  lag 6.19 s  DOWN: does not answer"));
    assert_eq!(log[61..], [collapsed; 59]);
    assert!(!heard, "it is waited for");
    let (drawn, _) = frames(true, reports());
    assert_eq!(drawn[61], format!("{CLEAR}{collapsed}"));
    assert_eq!(drawn[3600], format!("{CLEAR}{collapsed}"));
    assert_eq!(drawn[3601..], [CLEAR], "what was shown is not left there");
}

#[test]
fn a_lost_or_contradicted_line_is_said_again() {
    let line = |server: &str| {
        let view = state::View { server: server.to_owned(), lag: Some(0.0), ..state::View::default() };
        let shown = layout::table(&view, 1, Style { colour: false, cut: false });
        (view, shown)
    };
    let (mut feed, now) = (Feed::new(true), Instant::now());
    let both = "00:00:00 UTC  a: in step (lag 0.000 s)\n00:00:00 UTC  b: in step (lag 0.000 s)\n";
    assert_eq!(feed.text(vec![line("a"), line("b")], now), both);
    assert_eq!(feed.text(vec![line("a"), line("b")], now), "");
    feed.forget();
    assert_eq!(feed.text(vec![line("a"), line("b")], now), both);
}

/// A terminal that takes nothing until the other end is dropped.
struct Stuck(std::sync::mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.recv().ok();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_terminal_holds_up_neither_the_pipeline_nor_the_end() {
    let (release, stuck) = std::sync::mpsc::sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let began = Instant::now();
    runtime.block_on(async {
        let table = on(Box::new(Stuck(stuck)), false, Vec::new());
        table.start().await.unwrap();
        for _ in 0..10 {
            table.export(batch()).await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
        table.shutdown().await;
    });
    // Neither does the runtime wait for the thread.
    drop(runtime);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    drop(release);
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
