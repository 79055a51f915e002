//! Exporter `blame_table`: the live table in the terminal.
//!
//! It shows and keeps nothing else; a terminal that is slow or gone never holds up a pipeline.

mod layout;
mod state;

use std::{
    io::{self, IsTerminal, Write},
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use blameio_config::{Decode, Diagnostics, Node, Path, Signal, choices, settings};
use blameio_pipeline::{
    Batch, ComponentError, Context, ExportError, Exporter, Factory, Host, Stability, WatchedServer,
    telemetry::ComponentMetrics,
};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use self::{layout::Style, state::State};

/// Without data for this long it says what it waits for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it says so again.
const REMIND: Duration = Duration::from_mins(1);
/// Cursor to the top left, and everything below it erased.
const CLEAR: &str = "\x1b[H\x1b[J";

choices! {
    /// Whether the terminal is cleared before each table.
    pub enum Clear {
        /// If the output is a terminal.
        Auto = "auto",
        /// In any case.
        Always = "always",
        /// In no case: tables follow each other.
        Never = "never",
    }
}

settings! {
    /// Shows who owes the lag, as a table in the terminal.
    pub struct BlameTableSettings {
        /// Time between two tables.
        pub interval: Duration = "2s",
        /// Objects that are named at most.
        pub rows: usize = 10,
        /// Whether the terminal is cleared before each table: auto, always or never.
        pub clear: Clear = "auto",
    }
}

/// What makes the exporter.
pub const FACTORY: Factory<dyn Exporter> = Factory {
    kind: "blame_table",
    summary: "Shows who owes the lag, as a table in the terminal",
    module: env!("CARGO_PKG_NAME"),
    signals: &[Signal::Metrics],
    stability: Stability::Alpha,
    fields: BlameTableSettings::FIELDS,
    validate,
    create,
};

fn validate(node: &Node, path: &Path, out: &mut Diagnostics) {
    if let Some(settings) = BlameTableSettings::decode(node, path, out) {
        if settings.interval < Duration::from_millis(100) {
            out.error(&node.position, &path.key("interval"), "`interval` must be at least 100ms");
        }
        if settings.rows == 0 {
            out.error(&node.position, &path.key("rows"), "`rows` must be positive");
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of every factory")]
fn create(node: &Node, context: Context) -> Result<Box<dyn Exporter>, ComponentError> {
    let settings = context.settings::<BlameTableSettings>(node)?;
    let metrics = context.metrics.component("exporter", &context.id);
    let output = Output::stdout(settings.clear);
    Ok(Box::new(BlameTable::new(settings, metrics, output, servers(&context.host))))
}

fn servers(host: &Host) -> Vec<WatchedServer> {
    host.extensions().filter_map(|(_, extension)| extension.server()).collect()
}

/// Where tables go, and how.
pub struct Output {
    /// Held by the table; nothing else may write to it meanwhile.
    pub writer: Box<dyn Write + Send>,
    /// Whether bars and headings are coloured.
    pub colour: bool,
    /// Whether the screen is cleared before each table.
    pub clear: bool,
}

impl Output {
    /// Standard output; coloured if it is a terminal and `NO_COLOR` is unset.
    pub fn stdout(clear: Clear) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            writer: Box::new(io::stdout()),
            // https://no-color.org: set and not empty.
            colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            clear: clear == Clear::Always || clear == Clear::Auto && terminal,
        }
    }
}

/// The exporter; public so that a command can show the table elsewhere than on standard output.
pub struct BlameTable {
    settings: BlameTableSettings,
    metrics: ComponentMetrics,
    state: Arc<Mutex<State>>,
    output: Arc<Mutex<Output>>,
    servers: Vec<WatchedServer>,
    stop: CancellationToken,
    /// The task that prints; dropping the set ends it.
    printer: Mutex<JoinSet<()>>,
}

impl BlameTable {
    /// A table on `output`. `servers` are named while nothing of them has arrived.
    pub fn new(
        settings: BlameTableSettings,
        metrics: ComponentMetrics,
        output: Output,
        servers: Vec<WatchedServer>,
    ) -> Self {
        Self {
            settings,
            metrics,
            state: Arc::default(),
            output: Arc::new(Mutex::new(output)),
            servers,
            stop: CancellationToken::new(),
            printer: Mutex::default(),
        }
    }
}

struct Printer {
    settings: BlameTableSettings,
    state: Arc<Mutex<State>>,
    output: Arc<Mutex<Output>>,
    servers: Vec<WatchedServer>,
    stop: CancellationToken,
}

impl Printer {
    async fn run(self) {
        let mut ticks = interval(self.settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut remind_at = tokio::time::Instant::now() + PATIENCE;
        while self.stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let now = tokio::time::Instant::now();
            if self.print().await {
                remind_at = now + PATIENCE;
            } else if now >= remind_at {
                remind_at = now + REMIND;
                self.write(awaited(&self.servers), false).await;
            }
        }
        self.print().await;
    }

    /// Prints what is new; returns whether there was something.
    async fn print(&self) -> bool {
        let views = self.state.lock().unwrap_or_else(PoisonError::into_inner).views(Instant::now());
        if views.is_empty() {
            return false;
        }
        let style = Style { colour: self.output.lock().unwrap_or_else(PoisonError::into_inner).colour };
        let tables: Vec<_> =
            views.iter().map(|view| layout::table(view, self.settings.rows, style)).collect();
        self.write(tables.join("\n"), true).await;
        true
    }

    async fn write(&self, text: String, screen: bool) {
        let output = Arc::clone(&self.output);
        // A terminal that is held with Ctrl-S blocks the writer for as long as it likes.
        let written = spawn_blocking(move || {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            let clear = if screen && output.clear { CLEAR } else { "" };
            // Tables that follow each other are set apart.
            let end = if screen && !output.clear { "\n" } else { "" };
            output.writer.write_all(format!("{clear}{text}{end}").as_bytes())?;
            output.writer.flush()
        });
        if let Ok(Err(error)) = written.await {
            tracing::debug!(%error, "the table cannot be written");
        }
    }
}

fn awaited(servers: &[WatchedServer]) -> String {
    let mut names: Vec<_> = servers
        .iter()
        .map(|server| {
            let view = server.view();
            view.identity
                .as_ref()
                .map_or_else(|| server.id.to_string(), |identity| identity.service_name.clone())
        })
        .collect();
    names.sort_unstable();
    let names = if names.is_empty() {
        "a database server; none is declared or found yet".to_owned()
    } else {
        names.join(", ")
    };
    format!("waiting for file_io/replication of {names}\n")
}

#[async_trait]
impl Exporter for BlameTable {
    async fn start(&self) -> Result<(), ComponentError> {
        let printer = Printer {
            settings: self.settings.clone(),
            state: Arc::clone(&self.state),
            output: Arc::clone(&self.output),
            servers: self.servers.clone(),
            stop: self.stop.clone(),
        };
        self.printer.lock().unwrap_or_else(PoisonError::into_inner).spawn(printer.run());
        Ok(())
    }

    async fn export(&self, batch: Batch) -> Result<(), ExportError> {
        let request = batch.as_metrics().map_err(crate::permanent)?;
        let taken = self.state.lock().unwrap_or_else(PoisonError::into_inner).take(request, Instant::now());
        self.metrics.sent(taken);
        Ok(())
    }

    async fn shutdown(&self) {
        self.stop.cancel();
        let mut printer = mem::take(&mut *self.printer.lock().unwrap_or_else(PoisonError::into_inner));
        while printer.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
