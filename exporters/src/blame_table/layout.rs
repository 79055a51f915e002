//! Lays a channel's blame out: within [`WIDTH`] columns for a terminal, uncut for a file or a pipe. Nothing is written
//! from here.

use super::state::{PROMOTED, Row, View};
use crate::plain;

/// Columns of the table.
pub(super) const WIDTH: usize = 100;
/// Below this a lag is as much noise of measuring as lag.
pub(super) const NOISE: f64 = 0.1;

/// Below this an object's seconds would be printed as `0.00 s`, which tells nobody anything.
const SHOWN: f64 = 0.005;
/// Columns of a server's name; what is said of it must not be pushed out of the line.
const NAME: usize = 40;
const BAR: usize = 12;
const CAUSE: usize = 10;
const TABLE: usize = 26;
/// Longer names that are not cut are not waited for by the other rows' columns.
const WIDEST_TABLE: usize = 80;
const INDEX: usize = 25;
/// Holders that are named in the line of what holds applying now.
const HOLDERS: usize = 4;
/// The cause of seconds that are owed to nobody.
const UNKNOWN: &str = "unknown";
/// The source of a lag that counts only what has arrived.
const LOCAL: &str = "local";

/// How the text is set off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) colour: bool,
    /// Whether lines are kept within [`WIDTH`]. Only a terminal needs that; whoever greps needs the names.
    pub(super) cut: bool,
}

/// A channel's text, each line ended.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) text: String,
    /// For a single line: what it says apart from its time and lag. The same again is no news.
    pub(super) gist: Option<String>,
}

impl Shown {
    fn line(stamp: &str, text: &str, gist: String, style: Style) -> Self {
        Self { text: fitted(&format!("{stamp}{text}"), style.width(WIDTH)) + "\n", gist: Some(gist) }
    }
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// How long something may be that has `columns` on a terminal.
    fn width(self, columns: usize) -> usize {
        if self.cut { columns } else { usize::MAX }
    }
}

/// A channel as text. At most `limit` objects are named.
pub(super) fn table(view: &View, limit: usize, style: Style) -> Shown {
    let name = name(view, style);
    let status = view.status.as_deref();
    let stamp = format!("{}  ", clock(view.at));
    if let Some(since) = view.down_since {
        let lag = view.lag.map(|lag| format!(", lag was {} s", seconds(lag))).unwrap_or_default();
        let text = format!("{name}: DOWN since {}{lag}", clock(since));
        // No stamp: a second time beside that of the failure would only be mistaken for it.
        return Shown::line("", &text, text.clone(), style);
    }
    if status == Some(PROMOTED) {
        let text = format!("{name}: no replica (promoted or a primary)");
        return Shown::line(&stamp, &text, text.clone(), style);
    }
    let Some(lag) = view.lag else {
        let text = format!("{name}: {}; its lag is not known", status.map(state).unwrap_or_default());
        return Shown::line(&stamp, &text, text.clone(), style);
    };
    // No lag is good news only where it is measured and changes are let in.
    let calm = !view.stale && !matches!(status, Some("down" | "paused"));
    if lag < NOISE && calm {
        if view.source.as_deref() == Some(LOCAL) {
            // What has not arrived cannot be seen from here: a stalled link would look the same.
            let text = format!("{name}: in step with what has arrived (primary not asked)");
            return Shown::line(&stamp, &text, text.clone(), style);
        }
        let text = format!("{name}: in step");
        return Shown::line(&stamp, &format!("{text} (lag {lag:.3} s)"), text, style);
    }
    let said = said(view);
    let header = format!("{stamp}{name}  lag {} s{said}", seconds(lag));
    let mut lines = vec![style.paint("1", &fitted(&header, style.width(WIDTH)))];
    if !view.rows.is_empty() {
        blame(view, lag, limit, style, &mut lines);
    } else if lag >= NOISE {
        lines.push(format!("  not yet attributed: waiting for lag_attribution of {name}"));
    }
    if !view.now.is_empty() {
        let holders: Vec<_> = view
            .now
            .iter()
            .take(HOLDERS)
            .map(|(label, share)| format!("{} {:.0} %", plain(label), share * 100.0))
            .collect();
        let line = format!("  holds it now: {}", holders.join(", "));
        lines.push(fitted(&line, style.width(WIDTH)));
    }
    let gist = (lines.len() == 1).then(|| format!("{name}{said}"));
    Shown { text: lines.join("\n") + "\n", gist }
}

fn name(view: &View, style: Style) -> String {
    let name = if view.channel.is_empty() {
        view.server.clone()
    } else {
        format!("{}/{}", view.server, view.channel)
    };
    tail(&plain(&name), style.width(NAME))
}

/// A state in words that need no manual.
fn state(status: &str) -> String {
    match status {
        "down" => "DOWN: does not answer".to_owned(),
        "paused" => "PAUSED: replay was told to stop".to_owned(),
        other => plain(other).into_owned(),
    }
}

/// What the header says after the lag.
fn said(view: &View) -> String {
    // The first stands for the lag: each is set off from what is before it.
    let mut parts = vec![String::new()];
    parts.extend(view.stale.then(|| "stale".to_owned()));
    parts.extend(view.status.as_deref().map(state));
    parts.extend(view.wait.as_ref().map(|wait| {
        let word = if view.has_connections { "connection" } else { "pid" };
        let holder = wait.holder.map(|holder| format!(" ({word} {holder})")).unwrap_or_default();
        format!("waits: {}{holder}", plain(&wait.kind))
    }));
    parts.extend(view.source.as_deref().map(|source| format!("measured: {}", plain(source))));
    parts.join("  ")
}

fn blame(view: &View, lag: f64, limit: usize, style: Style, lines: &mut Vec<String>) {
    let (unknown, named): (Vec<&Row>, Vec<&Row>) = view.rows.iter().partition(|row| row.cause == UNKNOWN);
    let sum = |rows: &[&Row]| rows.iter().map(|row| row.seconds).sum::<f64>();
    let shown: Vec<_> = named.iter().copied().filter(|row| row.seconds >= SHOWN).collect();
    let tables: Vec<_> = shown.iter().take(limit).map(|row| table_name(row, style)).collect();
    let longest = tables.iter().map(|table| table.chars().count()).max().unwrap_or(0);
    let width = longest.clamp(TABLE, WIDEST_TABLE);
    if !shown.is_empty() {
        lines.push(format!(
            "  {:>10}  {:>5}  {:<BAR$}  {:<CAUSE$}  {:<width$}  {}",
            "owed", "share", "", "cause", "table", "index"
        ));
    }
    for (row, table) in shown.iter().zip(&tables) {
        lines.push(line(row, &format!("{table:<width$}"), lag, style));
    }
    if shown.len() > limit {
        let rest = &shown[limit..];
        lines.push(format!("  {:>8} s  by {} more", seconds(sum(rest)), rest.len()));
    }
    let unknown = sum(&unknown);
    let total = sum(&named) + unknown;
    let share = percent(unknown, lag);
    lines.push(format!(
        "  {:>8} s  in all, of them unknown {} s ({share:.0} %)",
        seconds(total),
        seconds(unknown)
    ));
}

fn line(row: &Row, table: &str, lag: f64, style: Style) -> String {
    let share = percent(row.seconds, lag);
    let code = match share {
        50.0.. => "31",
        20.0.. => "33",
        _ => "36",
    };
    let bar = style.paint(code, &format!("{:<BAR$}", bar(share)));
    let index = match (row.index.as_str(), row.kind.as_str()) {
        ("", "" | "heap") => String::new(),
        ("", kind) => format!("[{kind}]"),
        (index, _) => index.to_owned(),
    };
    // Who, beside what: the culprit stands for a table that is missing, and behind one that is not.
    let by = if row.table.is_empty() { "" } else { row.culprit.as_str() };
    let by = [by, row.role.as_str()].into_iter().filter(|by| !by.is_empty()).collect::<Vec<_>>().join(", ");
    let index = match (index.as_str(), by.as_str()) {
        (_, "") => index,
        ("", by) => format!("by {by}"),
        (index, by) => format!("{index} by {by}"),
    };
    let text = format!(
        "  {:>8} s  {share:>3.0} %  {bar}  {:<CAUSE$}  {table}  {}",
        seconds(row.seconds),
        fitted(&plain(&row.cause), style.width(CAUSE)),
        tail(&plain(&index), style.width(INDEX)),
    );
    text.trim_end().to_owned()
}

/// The culprit where there is no table. Else a table's name in full or, where it has to be cut, without its database, then without its schema; only a table
/// that is too long by itself loses a part of its own name.
fn table_name(row: &Row, style: Style) -> String {
    if row.table.is_empty() {
        let culprit = if row.culprit.is_empty() { "-" } else { &row.culprit };
        return tail(&plain(culprit), style.width(TABLE));
    }
    let (table, width) = (plain(&row.table), style.width(TABLE));
    let namespaces: Vec<_> = row.namespace.split('|').filter(|part| !part.is_empty()).map(plain).collect();
    let names = (0..=namespaces.len()).map(|cut| {
        let mark = if cut > 0 { "…" } else { "" };
        let kept: Vec<_> = namespaces.iter().skip(cut).chain([&table]).map(AsRef::as_ref).collect();
        format!("{mark}{}", kept.join("."))
    });
    let mut fitting = names.filter(|name| name.chars().count() <= width);
    fitting.next().unwrap_or_else(|| tail(&table, width))
}

fn percent(part: f64, whole: f64) -> f64 {
    // Of a lag of zero nothing has a share.
    if whole > 0.0 { (part / whole * 100.0).clamp(0.0, 999.0) } else { 0.0 }
}

fn bar(share: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and BAR")]
    let filled = (share / 100.0 * BAR as f64).round().clamp(0.0, BAR as f64) as usize;
    "#".repeat(filled)
}

/// Seconds with about three digits.
fn seconds(value: f64) -> String {
    match value.abs() {
        1000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Time of day in UTC.
fn clock(nanos: u64) -> String {
    let second = nanos / 1_000_000_000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
}

/// The beginning of a text that is too long.
fn fitted(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// The end of a name that is too long: tables of one schema differ there.
fn tail(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    ['…'].into_iter().chain(text.chars().skip(length - (width - 1))).collect()
}

#[cfg(test)]
mod tests;
