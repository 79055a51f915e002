//! The agent's scrape page as samples. It knows the text format and nothing of what the metrics mean.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Duration, timeout},
};

/// An agent that works answers at once.
const DEADLINE: Duration = Duration::from_secs(10);

/// One line of the page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// As in Prometheus.
    pub name: String,
    /// In the page's order.
    pub labels: Vec<(String, String)>,
    /// As written.
    pub value: f64,
    /// Milliseconds since 1970, where the page carries timestamps.
    pub at: Option<i64>,
}

impl Sample {
    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// A whole page.
#[derive(Clone, Debug, Default)]
pub struct Page(pub Vec<Sample>);

impl Page {
    /// Samples of a metric.
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }

    /// Sum of a metric's samples that have all these labels; `None` without any.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Sample| labels.iter().all(|(label, value)| sample.label(label) == Some(*value));
        let mut found = self.of(name).filter(has).map(|sample| sample.value).peekable();
        found.peek()?;
        Some(found.sum())
    }

    /// Series, a histogram counted once: its buckets are one series of ours.
    pub fn series(&self) -> usize {
        let part = |name: &str| name.ends_with("_bucket") || name.ends_with("_sum");
        self.0.iter().filter(|sample| !part(&sample.name)).count()
    }
}

/// Fetches and reads `http://127.0.0.1:PORT/metrics`.
pub async fn scrape(port: u16) -> io::Result<Page> {
    let text = timeout(DEADLINE, fetch(port)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| bad("no end of the header"))?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(bad(head.lines().next().unwrap_or_default()));
    }
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Err(bad("the page is chunked"));
    }
    let lines = body.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| parse(line).ok_or_else(|| bad(line))).collect::<io::Result<Vec<_>>>().map(Page)
}

async fn fetch(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a scrape page: {what}"))
}

/// `name{label="value",…} value [timestamp]`, as the exposition format has it.
fn parse(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((label.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let mut fields = rest.split_ascii_whitespace();
    let value = fields.next()?.parse().ok()?;
    let at = match fields.next() {
        Some(at) => Some(at.parse().ok()?),
        None => None,
    };
    Some(Sample { name: name.to_owned(), labels, value, at })
}

/// A value up to its closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            plain => value.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_labels_and_its_time() {
        let sample = parse(r#"a_total{b="x,}\"y",c=""} 1.5 1700"#).expect("good");
        assert_eq!((sample.name.as_str(), sample.value, sample.at), ("a_total", 1.5, Some(1700)));
        assert_eq!(sample.label("b"), Some("x,}\"y"));
        assert_eq!(sample.label("c"), Some(""));
        assert_eq!(parse("up 1").expect("good").labels, []);
        assert_eq!(parse("a{b=\"x} 1"), None);
    }

    #[test]
    fn a_sum_of_nothing_is_not_zero() {
        let page = Page(vec![parse("a{b=\"x\"} 2").expect("good"), parse("a{b=\"y\"} 3").expect("good")]);
        assert_eq!(page.sum("a", &[]), Some(5.0));
        assert_eq!(page.sum("a", &[("b", "y")]), Some(3.0));
        assert_eq!(page.sum("a", &[("b", "z")]), None);
    }
}
