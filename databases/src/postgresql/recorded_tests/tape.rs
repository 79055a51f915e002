//! What was recorded of one server, as text that can be read and compared: statements, their columns, and rows.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    path::Path,
};

/// A value of a row or a parameter.
pub(super) type Value = Option<Vec<u8>>;

/// A statement, in one database.
#[derive(Clone, Debug, Default)]
pub(super) struct Statement {
    pub(super) parameters: Vec<u32>,
    /// Name and type.
    pub(super) columns: Vec<(String, u32)>,
    /// In their order: the parameters, and the rows that came for them.
    pub(super) answers: Vec<(Vec<Value>, Vec<Vec<Value>>)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tape {
    /// What the test needs to know beside: paths by name.
    pub(super) notes: HashMap<String, String>,
    /// By database and text.
    pub(super) statements: BTreeMap<(String, String), Statement>,
}

/// Most answers that are kept of a statement, and rows of an answer.
const ANSWERS: usize = 6;
const ROWS: usize = 60;
const TEXT: u32 = 25;

impl Tape {
    /// Keeps an answer, unless it says the same as the one before. Times and positions may differ.
    pub(super) fn keep(&mut self, key: &(String, String), parameters: Vec<Value>, mut rows: Vec<Vec<Value>>) {
        let Some(statement) = self.statements.get_mut(key) else { return };
        if rows.len() > ROWS {
            // Of a catalog the first relations, those of users, and the mapped ones, whose file a function tells.
            let number = |row: &[Value]| row.first().and_then(Option::as_ref).map_or(0, |value| oid(value));
            let (mut kept, mut rest): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| {
                number(row) >= 16_384 || [1_247, 1_249, 1_255, 1_259, 1_262, 2_662].contains(&number(row))
            });
            rest.truncate(10);
            kept.extend(rest);
            kept.sort_by_key(|row| number(row));
            rows = kept;
        }
        let texts = |rows: &[Vec<Value>]| -> Vec<Value> {
            let is_text =
                |at: usize| statement.columns.get(at).is_some_and(|(_, kind)| matches!(*kind, TEXT | 16));
            rows.iter()
                .flat_map(|row| {
                    row.iter().enumerate().filter(|(at, _)| is_text(*at)).map(|(_, value)| value.clone())
                })
                .collect()
        };
        let same = statement.answers.iter().rev().find(|(known, _)| *known == parameters);
        if same.is_some_and(|(_, known)| known.len() == rows.len() && texts(known) == texts(&rows)) {
            return;
        }
        if statement.answers.len() < ANSWERS {
            statement.answers.push((parameters, rows));
        }
    }

    pub(super) fn write(&self, path: &Path) {
        let mut text = String::new();
        let mut notes: Vec<_> = self.notes.iter().collect();
        notes.sort();
        for (name, note) in notes {
            writeln!(text, "note {name} {note}").unwrap();
        }
        for ((database, sql), statement) in self.statements.iter().filter(|(_, s)| !s.answers.is_empty()) {
            writeln!(text, "\nstatement {database} {}", sql.split_whitespace().collect::<Vec<_>>().join(" "))
                .unwrap();
            for kind in &statement.parameters {
                writeln!(text, "parameter {kind}").unwrap();
            }
            for (name, kind) in &statement.columns {
                writeln!(text, "column {kind} {name}").unwrap();
            }
            for (parameters, rows) in &statement.answers {
                writeln!(text, "answer{}", values(parameters)).unwrap();
                for row in rows {
                    writeln!(text, "row{}", values(row)).unwrap();
                }
            }
        }
        std::fs::write(path, text).unwrap();
    }

    pub(super) fn read(path: &Path) -> std::io::Result<Self> {
        let mut tape = Self::default();
        let mut key = (String::new(), String::new());
        for line in std::fs::read_to_string(path)?.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            if word == "statement" {
                let (database, sql) = rest.split_once(' ').unwrap();
                key = (database.to_owned(), sql.to_owned());
                tape.statements.insert(key.clone(), Statement::default());
                continue;
            }
            if word == "note" {
                let (name, note) = rest.split_once(' ').unwrap();
                tape.notes.insert(name.to_owned(), note.to_owned());
                continue;
            }
            let Some(statement) = tape.statements.get_mut(&key) else { continue };
            match word {
                "parameter" => statement.parameters.push(rest.parse().unwrap()),
                "column" => {
                    let (kind, name) = rest.split_once(' ').unwrap();
                    statement.columns.push((name.to_owned(), kind.parse().unwrap()));
                }
                "answer" => statement.answers.push((parse(rest), Vec::new())),
                "row" => statement.answers.last_mut().unwrap().1.push(parse(rest)),
                _ => {}
            }
        }
        Ok(tape)
    }
}

fn oid(value: &[u8]) -> u32 {
    value.try_into().map_or(0, u32::from_be_bytes)
}

/// Plain words stand as they are after a `'`, everything else as hexadecimal digits.
fn values(values: &[Value]) -> String {
    let mut text = String::new();
    for value in values {
        match value {
            None => text.push_str(" -"),
            Some(value)
                if value.len() > 4
                    && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_/.-:[]".contains(byte)) =>
            {
                write!(text, " '{}", String::from_utf8_lossy(value)).unwrap();
            }
            Some(value) => {
                text.push_str(" \\");
                for byte in value {
                    write!(text, "{byte:02x}").unwrap();
                }
            }
        }
    }
    text
}

fn parse(text: &str) -> Vec<Value> {
    let hex = |digits: &str| {
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    };
    text.split_whitespace()
        .map(|word| match word.split_at(1) {
            ("'", plain) => Some(plain.as_bytes().to_vec()),
            ("\\", digits) => Some(hex(digits)),
            _ => None,
        })
        .collect()
}
