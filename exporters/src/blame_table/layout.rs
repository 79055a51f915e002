//! Lays a channel's blame out for a terminal, within [`WIDTH`] columns. Nothing is written from here.

use super::state::{Row, View};

/// Columns of the table.
pub(super) const WIDTH: usize = 100;
/// Below this a lag is as much noise of measuring as lag.
pub(super) const NOISE: f64 = 0.1;

const BAR: usize = 12;
const CAUSE: usize = 10;
const TABLE: usize = 26;
const INDEX: usize = 25;
/// Holders that are named in the line of what holds applying now.
const HOLDERS: usize = 4;
/// The cause of seconds that are owed to nobody.
const UNKNOWN: &str = "unknown";

/// How the text is set off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) colour: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A channel as text, each line ended. At most `limit` objects are named.
pub(super) fn table(view: &View, limit: usize, style: Style) -> String {
    let name = plain(&if view.channel.is_empty() {
        view.server.clone()
    } else {
        format!("{}/{}", view.server, view.channel)
    });
    if view.lag < NOISE {
        return format!("{name}: in step (lag {:.3} s)\n", view.lag);
    }
    let mut lines = vec![style.paint("1", &fitted(&header(view, &name), WIDTH))];
    if view.rows.is_empty() {
        lines.push(format!("  not yet attributed: waiting for lag_attribution of {name}"));
    } else {
        blame(view, limit, style, &mut lines);
    }
    if !view.now.is_empty() {
        let holders: Vec<_> = view
            .now
            .iter()
            .take(HOLDERS)
            .map(|(label, share)| format!("{} {:.0} %", plain(label), share * 100.0))
            .collect();
        lines.push(fitted(&format!("  holds it now: {}", holders.join(", ")), WIDTH));
    }
    lines.join("\n") + "\n"
}

fn header(view: &View, name: &str) -> String {
    let mut parts = vec![clock(view.at), name.to_owned(), format!("lag {} s", seconds(view.lag))];
    parts.extend(view.status.as_deref().map(plain));
    parts.extend(view.wait.as_ref().map(|kind| format!("waits: {}", plain(kind))));
    parts.extend(view.source.as_deref().map(|source| format!("measured: {}", plain(source))));
    parts.join("  ")
}

fn blame(view: &View, limit: usize, style: Style, lines: &mut Vec<String>) {
    let (unknown, named): (Vec<&Row>, Vec<&Row>) = view.rows.iter().partition(|row| row.cause == UNKNOWN);
    let sum = |rows: &[&Row]| rows.iter().map(|row| row.seconds).sum::<f64>();
    lines.push(format!(
        "  {:>10}  {:>5}  {:<BAR$}  {:<CAUSE$}  {:<TABLE$}  {}",
        "owed", "share", "", "cause", "table", "index"
    ));
    for row in named.iter().take(limit) {
        lines.push(line(row, view.lag, style));
    }
    if named.len() > limit {
        let rest = &named[limit..];
        lines.push(format!("  {:>8} s  by {} more", seconds(sum(rest)), rest.len()));
    }
    let unknown = sum(&unknown);
    let total = sum(&named) + unknown;
    let share = percent(unknown, view.lag);
    lines.push(format!(
        "  {:>8} s  in all, of them unknown {} s ({share:.0} %)",
        seconds(total),
        seconds(unknown)
    ));
}

fn line(row: &Row, lag: f64, style: Style) -> String {
    let share = percent(row.seconds, lag);
    let code = match share {
        50.0.. => "31",
        20.0.. => "33",
        _ => "36",
    };
    let bar = style.paint(code, &format!("{:<BAR$}", bar(share)));
    let table = match (row.namespace.as_str(), row.table.as_str()) {
        (_, "") => "-".to_owned(),
        ("", table) => table.to_owned(),
        (namespace, table) => format!("{}.{table}", namespace.replace('|', ".")),
    };
    let index = match (row.index.as_str(), row.kind.as_str()) {
        ("", "" | "heap") => String::new(),
        ("", kind) => format!("[{kind}]"),
        (index, _) => index.to_owned(),
    };
    let text = format!(
        "  {:>8} s  {share:>3.0} %  {bar}  {:<CAUSE$}  {:<TABLE$}  {}",
        seconds(row.seconds),
        fitted(&plain(&row.cause), CAUSE),
        tail(&plain(&table), TABLE),
        tail(&plain(&index), INDEX),
    );
    text.trim_end().to_owned()
}

fn percent(part: f64, whole: f64) -> f64 {
    (part / whole * 100.0).clamp(0.0, 999.0)
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

/// Without control characters: names come from the database, and a terminal would obey them.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
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
