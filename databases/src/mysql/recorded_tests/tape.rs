//! What was recorded of one server, as text that can be read and compared: statements, their columns, and the answers
//! in each scene.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    path::Path,
};

use mysql_async::consts::ColumnType;

/// A value of a row, as the text protocol has it.
pub(super) type Value = Option<Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: ColumnType,
    pub(super) charset: u16,
    pub(super) flags: u16,
}

/// What came for a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Rows(Vec<Column>, Vec<Vec<Value>>),
    /// How many rows were changed.
    Done(u64),
    /// Number, SQL state and text.
    Error(u16, String, String),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tape {
    /// What the test needs to know beside; `source` says where the answers come from.
    pub(super) notes: BTreeMap<String, String>,
    /// In their order.
    pub(super) scenes: Vec<String>,
    /// By statement: the scene's place, and the answer.
    pub(super) statements: BTreeMap<String, Vec<(usize, Answer)>>,
}

/// Most answers that are kept of a statement in a scene, and rows of an answer.
const ANSWERS: usize = 6;
const ROWS: usize = 60;

/// A statement with one space between words.
pub(super) fn plain(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Tape {
    pub(super) fn enter(&mut self, scene: &str) {
        self.scenes.push(scene.to_owned());
    }

    /// Keeps an answer, in the place of the one before where that says the same. Times and positions may differ.
    pub(super) fn keep(&mut self, sql: &str, mut answer: Answer) {
        let Some(scene) = self.scenes.len().checked_sub(1) else { return };
        if let Answer::Rows(_, rows) = &mut answer {
            rows.truncate(ROWS);
        }
        let known = self.statements.entry(plain(sql)).or_default();
        if let Some((of, last)) = known.last_mut()
            && *of == scene
            && words(last) == words(&answer)
        {
            *last = answer;
        } else if known.iter().filter(|(of, _)| *of == scene).count() < ANSWERS {
            known.push((scene, answer));
        }
    }

    /// The answer that follows so many others in a scene: the last again and again; of a scene in which the statement
    /// was not asked, the last one before.
    pub(super) fn answer(&self, sql: &str, scene: usize, given: usize) -> Option<&Answer> {
        let known = self.statements.get(&plain(sql))?;
        let here: Vec<_> = known.iter().filter(|(of, _)| *of == scene).collect();
        let before = || known.iter().rfind(|(of, _)| *of < scene);
        here.get(given).copied().or(here.last().copied()).or_else(before).map(|(_, answer)| answer)
    }

    fn last(&mut self, sql: &str) -> &mut Answer {
        &mut self.statements.get_mut(sql).unwrap().last_mut().unwrap().1
    }

    pub(super) fn write(&self, path: &Path) {
        let mut text = String::new();
        for (name, note) in &self.notes {
            writeln!(text, "note {name} {note}").unwrap();
        }
        for scene in &self.scenes {
            writeln!(text, "scene {scene}").unwrap();
        }
        for (sql, answers) in &self.statements {
            writeln!(text, "\nstatement {sql}").unwrap();
            let mut columns = None;
            for (scene, answer) in answers {
                if let Answer::Rows(now, _) = answer
                    && columns != Some(now)
                {
                    writeln!(text, "columns {}", now.len()).unwrap();
                    for column in now {
                        let kind = format!("{:?}", column.kind);
                        let (kind, charset) = (kind.trim_start_matches("MYSQL_TYPE_"), column.charset);
                        writeln!(text, "column {kind} {charset} {} {}", column.flags, column.name).unwrap();
                    }
                    columns = Some(now);
                }
                writeln!(text, "in {}", self.scenes[*scene]).unwrap();
                match answer {
                    Answer::Rows(_, rows) => {
                        for row in rows {
                            writeln!(text, "row{}", values(row)).unwrap();
                        }
                    }
                    Answer::Done(changed) => writeln!(text, "changed {changed}").unwrap(),
                    Answer::Error(code, state, message) => {
                        writeln!(text, "error {code} {state} {message}").unwrap();
                    }
                }
            }
        }
        std::fs::write(path, text).unwrap();
    }

    pub(super) fn read(path: &Path) -> Self {
        let mut tape = Self::default();
        let (mut sql, mut columns, mut scenes) = (String::new(), Vec::new(), HashMap::new());
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "note" => {
                    let (name, note) = rest.split_once(' ').unwrap();
                    tape.notes.insert(name.to_owned(), note.to_owned());
                }
                "scene" => {
                    scenes.insert(rest.to_owned(), tape.scenes.len());
                    tape.scenes.push(rest.to_owned());
                }
                "statement" => {
                    rest.clone_into(&mut sql);
                    tape.statements.insert(rest.to_owned(), Vec::new());
                    columns.clear();
                }
                "columns" => columns.clear(),
                "column" => columns.push(column(rest)),
                "in" => {
                    let answer = Answer::Rows(columns.clone(), Vec::new());
                    tape.statements.get_mut(&sql).unwrap().push((scenes[rest], answer));
                }
                "row" => {
                    let Answer::Rows(columns, rows) = tape.last(&sql) else { panic!("{line}") };
                    let row = parse(rest);
                    assert_eq!(row.len(), columns.len(), "{}: {line}", path.display());
                    rows.push(row);
                }
                "changed" => *tape.last(&sql) = Answer::Done(rest.parse().unwrap()),
                "error" => {
                    let words: Vec<_> = rest.splitn(3, ' ').collect();
                    let (state, message) = (words[1].to_owned(), words[2].to_owned());
                    *tape.last(&sql) = Answer::Error(words[0].parse().unwrap(), state, message);
                }
                "" => {}
                _ => panic!("{}: {line}", path.display()),
            }
        }
        tape
    }
}

fn column(text: &str) -> Column {
    let words: Vec<_> = text.splitn(4, ' ').collect();
    let name = format!("MYSQL_TYPE_{}", words[0]);
    let mut kinds = (0..=u8::MAX).filter_map(|number| ColumnType::try_from(number).ok());
    let kind = kinds.find(|kind| format!("{kind:?}") == name).unwrap_or_else(|| panic!("no type {name}"));
    let number = |at: usize| words[at].parse().unwrap();
    Column { name: words[3].to_owned(), kind, charset: number(1), flags: number(2) }
}

/// What makes an answer another one.
fn words(answer: &Answer) -> Vec<Value> {
    let text = |value: &Value| {
        let is_number = |value: &Vec<u8>| {
            !value.is_empty() && value.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        };
        value.clone().map(|value| if is_number(&value) { b"#".to_vec() } else { value })
    };
    match answer {
        Answer::Rows(_, rows) => rows.iter().flatten().map(text).collect(),
        Answer::Done(changed) => vec![Some(format!("changed {changed}").into_bytes())],
        Answer::Error(code, ..) => vec![Some(code.to_string().into_bytes())],
    }
}

/// Values as SQL would have them: `NULL`, or in quotes.
fn values(row: &[Value]) -> String {
    let mut text = String::new();
    for value in row {
        match value {
            None => text.push_str(" NULL"),
            Some(value) => {
                let value = std::str::from_utf8(value).unwrap();
                let value = value.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n");
                write!(text, " '{value}'").unwrap();
            }
        }
    }
    text
}

fn parse(text: &str) -> Vec<Value> {
    let (mut row, mut rest) = (Vec::new(), text.chars());
    while let Some(first) = rest.next() {
        match first {
            ' ' => {}
            'N' => {
                assert_eq!(rest.by_ref().take(3).collect::<String>(), "ULL");
                row.push(None);
            }
            '\'' => {
                let mut value = String::new();
                loop {
                    match rest.next().unwrap() {
                        '\'' => break,
                        '\\' => match rest.next().unwrap() {
                            'n' => value.push('\n'),
                            other => value.push(other),
                        },
                        other => value.push(other),
                    }
                }
                row.push(Some(value.into_bytes()));
            }
            other => panic!("{other} in {text}"),
        }
    }
    row
}
