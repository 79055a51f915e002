//! Exporter `blame_table`: the live table in the terminal.
//!
//! It shows and keeps nothing else; a terminal that is slow or gone never holds up a pipeline.

mod feed;
mod layout;
mod screen;
mod state;

use std::{
    io::{self, IsTerminal, Write},
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use blameio_config::{Decode, Diagnostics, Node, Path, Signal, choices, settings};
use blameio_pipeline::{
    Batch, ComponentError, Context, ExportError, Exporter, Factory, Host, Stability, WatchedServer,
    telemetry::ComponentMetrics,
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use self::{feed::Feed, layout::Style, screen::Screen, state::State};

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
    /// Whether somebody looks on: lines are kept within the screen. Otherwise they are whole, and said once.
    pub terminal: bool,
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
            terminal,
        }
    }
}

/// The exporter; public so that a command can show the table elsewhere than on standard output.
pub struct BlameTable {
    settings: BlameTableSettings,
    metrics: ComponentMetrics,
    state: Arc<Mutex<State>>,
    /// Until it is started.
    output: Mutex<Option<Output>>,
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
            output: Mutex::new(Some(output)),
            servers,
            stop: CancellationToken::new(),
            printer: Mutex::default(),
        }
    }
}

struct Printer {
    settings: BlameTableSettings,
    state: Arc<Mutex<State>>,
    screen: Screen,
    style: Style,
    clear: bool,
    feed: Feed,
    /// Whether the screen is blank.
    blank: bool,
    servers: Vec<WatchedServer>,
    stop: CancellationToken,
}

impl Printer {
    async fn run(mut self) {
        let mut ticks = interval(self.settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut remind_at = Instant::now() + PATIENCE;
        while self.stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let now = Instant::now();
            if self.print() {
                remind_at = now + PATIENCE;
            } else if now >= remind_at {
                remind_at = now + REMIND;
                self.screen.remark(awaited(&self.servers));
                // After that even what is known is news.
                self.feed.forget();
            }
        }
        self.print();
        self.screen.close().await;
    }

    /// Prints what is new; returns whether anything was heard of a channel since the last call.
    fn print(&mut self) -> bool {
        let (text, heard) = self.frame(Instant::now());
        if text.is_some_and(|text| self.screen.show(text)) {
            // A text that was not written told nobody.
            self.feed.forget();
        }
        heard
    }

    /// What is to be written, if anything, and whether anything was heard of a channel since the last call.
    fn frame(&mut self, now: Instant) -> (Option<String>, bool) {
        let (views, heard) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.views(now.into_std()), state.heard())
        };
        let Some(views) = views else { return (None, heard) };
        let (rows, style) = (self.settings.rows, self.style);
        let all = views.into_iter().map(|view| {
            let shown = layout::table(&view, rows, style);
            (view, shown)
        });
        let text = self.feed.text(all.collect(), now);
        let was_blank = mem::replace(&mut self.blank, text.is_empty());
        if text.is_empty() && (was_blank || !self.clear) {
            return (None, heard);
        }
        if !self.clear {
            return (Some(text), heard);
        }
        // Nothing is set apart from the last table; a blank line there would cost a small screen its top.
        let text = text.strip_suffix("\n\n").map_or_else(|| text.clone(), |text| format!("{text}\n"));
        (Some(format!("{CLEAR}{text}")), heard)
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
    format!("waiting for file_io/replication of {}\n", crate::plain(&names))
}

#[async_trait]
impl Exporter for BlameTable {
    async fn start(&self) -> Result<(), ComponentError> {
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Output { writer, colour, clear, terminal }) = output else { return Ok(()) };
        let screen = Screen::open(writer).map_err(|error| ComponentError {
            component: FACTORY.kind.to_owned(),
            what: format!("the thread that writes the table cannot be started: {error}"),
            remedy: "the host is out of threads; end something else, or raise the limit".to_owned(),
        })?;
        let printer = Printer {
            settings: self.settings.clone(),
            state: Arc::clone(&self.state),
            screen,
            style: Style { colour, cut: terminal },
            clear,
            // A screen that is cleared has nothing from before.
            feed: Feed::new(!terminal && !clear),
            blank: true,
            servers: self.servers.clone(),
            stop: self.stop.clone(),
        };
        self.printer.lock().unwrap_or_else(PoisonError::into_inner).spawn(printer.run());
        Ok(())
    }

    async fn export(&self, batch: Batch) -> Result<(), ExportError> {
        let request = batch.as_metrics().map_err(crate::permanent)?;
        let taken = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(request, Instant::now().into_std());
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
