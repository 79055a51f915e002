//! A server that speaks the protocol and knows nothing but what was recorded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::tape::{Statement, Tape, Value};

/// A statement in its database, with the values that it was asked with.
type Question = ((String, String), Vec<Value>);

#[derive(Debug, Default)]
struct Shared {
    tape: Tape,
    /// How often an answer was given, by statement and parameters: they are given in their order, the last again and
    /// again.
    given: Mutex<HashMap<Question, usize>>,
    unknown: Mutex<Vec<String>>,
}

pub(super) struct Replayer {
    pub(super) port: u16,
    shared: Arc<Shared>,
}

impl Replayer {
    pub(super) async fn start(tape: Tape) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { tape, ..Shared::default() });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { port, shared }
    }

    /// Statements that were asked and have not been recorded.
    pub(super) fn unknown(&self) -> Vec<String> {
        self.shared.unknown.lock().unwrap().clone()
    }
}

/// Reads a message: its type and content. The first one has no type.
pub(super) async fn message(stream: &mut (impl AsyncReadExt + Unpin), first: bool) -> Option<(u8, Vec<u8>)> {
    let kind = if first { 0 } else { stream.read_u8().await.ok()? };
    let length = stream.read_u32().await.ok()?;
    let mut content = vec![0; usize::try_from(length).ok()?.checked_sub(4)?];
    stream.read_exact(&mut content).await.ok()?;
    Some((kind, content))
}

/// A message with its type and length.
pub(super) fn framed(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(u32::try_from(content.len() + 4).unwrap().to_be_bytes());
    message.extend(content);
    message
}

/// The database that a session is started with.
pub(super) fn database(start: &[u8]) -> String {
    let words: Vec<_> = start[4..].split(|byte| *byte == 0).collect();
    let database = words.chunks(2).find(|pair| pair[0] == b"database").map(|pair| pair[1]);
    String::from_utf8_lossy(database.unwrap_or(b"postgres")).into_owned()
}

/// The text up to a zero, and what follows.
pub(super) fn text(content: &[u8]) -> (String, &[u8]) {
    let end = content.iter().position(|byte| *byte == 0).unwrap_or(content.len());
    (String::from_utf8_lossy(&content[..end]).into_owned(), &content[(end + 1).min(content.len())..])
}

/// Values with a length before each.
pub(super) fn read_values(mut content: &[u8]) -> Vec<Value> {
    let count = u16::from_be_bytes([content[0], content[1]]);
    content = &content[2..];
    (0..count)
        .map(|_| {
            let length = i32::from_be_bytes(content[..4].try_into().unwrap());
            content = &content[4..];
            let length = usize::try_from(length).ok()?;
            let (value, rest) = content.split_at(length);
            content = rest;
            Some(value.to_vec())
        })
        .collect()
}

/// The statement's name and the parameters of a Bind message.
pub(super) fn bound(content: &[u8]) -> (String, Vec<Value>) {
    let (_, rest) = text(content);
    let (name, rest) = text(rest);
    let formats = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
    (name, read_values(&rest[2 + 2 * formats..]))
}

fn write_values(values: &[Value]) -> Vec<u8> {
    let mut content = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        match value {
            Some(value) => {
                content.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                content.extend(value);
            }
            None => content.extend((-1_i32).to_be_bytes()),
        }
    }
    content
}

fn described(statement: &Statement) -> Vec<u8> {
    let mut parameters = u16::try_from(statement.parameters.len()).unwrap().to_be_bytes().to_vec();
    parameters.extend(statement.parameters.iter().flat_map(|kind| kind.to_be_bytes()));
    let mut columns = u16::try_from(statement.columns.len()).unwrap().to_be_bytes().to_vec();
    for (name, kind) in &statement.columns {
        columns.extend(name.as_bytes());
        columns.extend([0; 7]);
        columns.extend(kind.to_be_bytes());
        columns.extend((-1_i16).to_be_bytes());
        columns.extend((-1_i32).to_be_bytes());
        columns.extend([0, 0]);
    }
    [framed(b't', &parameters), framed(b'T', &columns)].concat()
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let Some((_, start)) = message(&mut stream, true).await else { return };
    let database = database(&start);
    let ready = [framed(b'R', &[0; 4]), framed(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]), framed(b'Z', b"I")].concat();
    if stream.write_all(&ready).await.is_err() {
        return;
    }
    let (mut prepared, mut asked, mut answer) = (HashMap::new(), None, Vec::new());
    while let Some((kind, content)) = message(&mut stream, false).await {
        match kind {
            b'P' => {
                let (name, rest) = text(&content);
                let sql = text(rest).0.split_whitespace().collect::<Vec<_>>().join(" ");
                let key = (database.clone(), sql.clone());
                match shared.tape.statements.get(&key) {
                    Some(statement) => answer.extend([framed(b'1', &[]), described(statement)].concat()),
                    None => {
                        shared.unknown.lock().unwrap().push(format!("{database}: {sql}"));
                        answer.extend(framed(b'E', b"SERROR\0C42601\0Mnot recorded\0\0"));
                    }
                }
                prepared.insert(name, key);
            }
            b'B' => {
                let (name, parameters) = bound(&content);
                asked = prepared.get(&name).cloned().zip(Some(parameters));
                answer.extend(framed(b'2', &[]));
            }
            b'E' => {
                if let Some((key, parameters)) = asked.take() {
                    answer.extend(rows(&shared, key, parameters));
                }
                answer.extend(framed(b'C', b"SELECT 0\0"));
            }
            b'C' => answer.extend(framed(b'3', &[])),
            b'S' => {
                answer.extend(framed(b'Z', b"I"));
                if stream.write_all(&std::mem::take(&mut answer)).await.is_err() {
                    return;
                }
            }
            b'X' => return,
            _ => {}
        }
    }
}

/// The next answer to a question: for its parameters, or else for any.
fn rows(shared: &Shared, key: (String, String), parameters: Vec<Value>) -> Vec<u8> {
    let Some(statement) = shared.tape.statements.get(&key) else { return Vec::new() };
    let fits: Vec<_> = statement.answers.iter().filter(|(known, _)| *known == parameters).collect();
    let fits = if fits.is_empty() { statement.answers.iter().collect() } else { fits };
    let mut given = shared.given.lock().unwrap();
    let given = given.entry((key, parameters)).or_default();
    let answer = fits.get(*given).or(fits.last());
    *given += 1;
    answer.map_or_else(Vec::new, |(_, rows)| {
        rows.iter().flat_map(|row| framed(b'D', &write_values(row))).collect()
    })
}
