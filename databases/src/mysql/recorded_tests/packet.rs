//! Packets of the protocol: as much of it as a recorder has to read and a replayer to write.

use mysql_async::consts::ColumnType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tape::{Answer, Column, Value};

/// Bits of what client and server are capable of.
const CONNECT_WITH_ATTRIBUTES: u32 = 0x10_0000;
const PROTOCOL_41: u32 = 0x200;
const TRANSACTIONS: u32 = 0x2000;
const SECURE_CONNECTION: u32 = 0x8000;
const PLUGINS: u32 = 0x8_0000;
pub(super) const NO_EOF: u32 = 0x100_0000;

/// Reads a packet: its number and content. Longer ones than 16 MiB are never sent here.
pub(super) async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<(u8, Vec<u8>)> {
    let head = stream.read_u32_le().await.ok()?;
    let mut content = vec![0; usize::try_from(head & 0xff_ffff).ok()?];
    stream.read_exact(&mut content).await.ok()?;
    Some((u8::try_from(head >> 24).ok()?, content))
}

/// A packet with its length and number.
pub(super) fn framed(number: u8, content: &[u8]) -> Vec<u8> {
    let mut packet = (u32::try_from(content.len()).unwrap() | u32::from(number) << 24).to_le_bytes().to_vec();
    packet.extend(content);
    packet
}

pub(super) async fn write(stream: &mut (impl AsyncWriteExt + Unpin), number: u8, content: &[u8]) -> bool {
    stream.write_all(&framed(number, content)).await.is_ok()
}

/// What a server says first.
pub(super) fn greeting(version: &str) -> Vec<u8> {
    let capable = PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGINS | CONNECT_WITH_ATTRIBUTES;
    let bytes = capable.to_le_bytes();
    let mut content = vec![10];
    content.extend(version.as_bytes());
    content.push(0);
    content.extend(1_u32.to_le_bytes());
    content.extend(b"8 bytes!\0");
    content.extend([bytes[0], bytes[1], 45, 2, 0, bytes[2], bytes[3], 21]);
    content.extend([0; 10]);
    content.extend(b"and 12 more.\0mysql_native_password\0");
    content
}

/// The version that a server says first.
pub(super) fn version(greeting: &[u8]) -> String {
    let end = greeting.iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8_lossy(&greeting[1..end]).into_owned()
}

pub(super) const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];

/// An answer as packets, from the first on.
pub(super) fn written(answer: &Answer) -> Vec<u8> {
    let contents = match answer {
        Answer::Error(code, state, message) => {
            let [low, high] = code.to_le_bytes();
            vec![[&[0xff, low, high, b'#'], state.as_bytes(), message.as_bytes()].concat()]
        }
        Answer::Done(changed) => {
            // No statement here changes so many rows that their number needs more bytes.
            let changed = u8::try_from(*changed).ok().filter(|changed| *changed < 0xfb).unwrap();
            vec![[&OK[..1], &[changed], &OK[2..]].concat()]
        }
        Answer::Rows(columns, rows) => {
            let mut contents = vec![vec![u8::try_from(columns.len()).unwrap()]];
            contents.extend(columns.iter().map(described));
            contents.push(EOF.to_vec());
            contents.extend(rows.iter().map(|row| row.iter().flat_map(value).collect()));
            contents.push(EOF.to_vec());
            contents
        }
    };
    let numbers = (1..=u8::MAX).chain(0..=u8::MAX).cycle();
    contents.iter().zip(numbers).flat_map(|(content, number)| framed(number, content)).collect()
}

fn described(column: &Column) -> Vec<u8> {
    let mut content: Vec<u8> =
        ["def", "", "", "", &column.name, ""].iter().flat_map(|text| string(text.as_bytes())).collect();
    content.push(0x0c);
    content.extend(column.charset.to_le_bytes());
    content.extend(1024_u32.to_le_bytes());
    content.push(u8::from(column.kind));
    content.extend(column.flags.to_le_bytes());
    content.extend([0, 0, 0]);
    content
}

fn value(value: &Value) -> Vec<u8> {
    value.as_ref().map_or_else(|| vec![0xfb], |value| string(value))
}

fn string(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let mut content = match u8::try_from(length) {
        Ok(short) if short < 0xfb => vec![short],
        _ => [&[0xfc][..], &length.to_le_bytes()].concat(),
    };
    content.extend(text);
    content
}

/// Puts an answer together from the packets that it comes in.
#[derive(Debug, Default)]
pub(super) struct Reading {
    count: Option<usize>,
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
    /// Whether the end of the columns was said, where it is.
    described: bool,
}

impl Reading {
    /// Takes a packet; the answer, once that was the last one.
    pub(super) fn take(&mut self, content: &[u8], no_eof: bool) -> Option<Answer> {
        let first = content.first().copied().unwrap_or(0);
        let Some(count) = self.count else {
            return match first {
                0 => Some(Answer::Done(content[1].into())),
                0xff => Some(error(content)),
                count => {
                    self.count = Some(usize::from(count));
                    None
                }
            };
        };
        if self.columns.len() < count {
            self.columns.push(column(content));
            self.described = no_eof;
        } else if !self.described {
            self.described = true;
        } else if first == 0xff {
            return Some(error(content));
        } else if first == 0xfe && content.len() < 0xff_ffff {
            return Some(Answer::Rows(std::mem::take(&mut self.columns), std::mem::take(&mut self.rows)));
        } else {
            let mut rest = content;
            self.rows.push((0..count).map(|_| read_value(&mut rest)).collect());
        }
        None
    }
}

fn error(content: &[u8]) -> Answer {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Answer::Error(u16::from_le_bytes([content[1], content[2]]), text(&content[4..9]), text(&content[9..]))
}

fn column(mut content: &[u8]) -> Column {
    let mut text = || String::from_utf8(read_value(&mut content).unwrap()).unwrap();
    let (_, _, _, _, name, _) = (text(), text(), text(), text(), text(), text());
    // MariaDB's extended types are not asked for.
    let at = |place: usize| content[1 + place];
    Column {
        name,
        charset: u16::from_le_bytes([at(0), at(1)]),
        kind: ColumnType::try_from(at(6)).unwrap(),
        flags: u16::from_le_bytes([at(7), at(8)]),
    }
}

fn read_value(content: &mut &[u8]) -> Value {
    let (length, rest) = match content {
        [0xfb, rest @ ..] => {
            *content = rest;
            return None;
        }
        [0xfc, low, high, rest @ ..] => (usize::from(u16::from_le_bytes([*low, *high])), rest),
        [0xfd, low, middle, high, rest @ ..] => {
            (usize::try_from(u32::from_le_bytes([*low, *middle, *high, 0])).unwrap(), rest)
        }
        [length, rest @ ..] => (usize::from(*length), rest),
        [] => panic!("a row is shorter than its columns"),
    };
    let (value, rest) = rest.split_at(length);
    *content = rest;
    Some(value.to_vec())
}
