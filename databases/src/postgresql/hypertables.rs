//! What TimescaleDB says of relations: which hypertable a chunk, a compressed chunk or an internal hypertable belongs
//! to, which view a continuous aggregate is seen through, and which of the hypertable's indexes a chunk's index is.
//! Pure: no SQL here.

use std::collections::HashMap;

/// Longest name of PostgreSQL, in bytes.
const LONGEST: usize = 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// The hypertable that it belongs to.
    table: u32,
    /// The chunk that an operator would name: of a compressed chunk, the one that was compressed. 0 of a hypertable.
    chunk: u32,
}

/// What is known of one database's hypertables.
#[derive(Debug, Default)]
pub(super) struct Hypertables {
    parts: HashMap<u32, Part>,
    /// Schema and name of the view, by the hypertable that holds its data.
    views: HashMap<u32, (Box<str>, Box<str>)>,
    /// The hypertable's index by the chunk's; 0 where there is none like it.
    indexes: HashMap<u32, u32>,
    /// Hypertables by TimescaleDB's own number.
    by_id: HashMap<i32, u32>,
}

impl Hypertables {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// A hypertable by TimescaleDB's number and by its oid.
    pub(super) fn add_hypertable(&mut self, id: i32, table: u32) {
        self.by_id.insert(id, table);
    }

    pub(super) fn by_id(&self, id: i32) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// An internal hypertable, which holds what was compressed of another one.
    pub(super) fn add_internal(&mut self, internal: u32, table: u32) {
        self.parts.insert(internal, Part { table, chunk: 0 });
    }

    /// A chunk, or what was compressed of one.
    pub(super) fn add_chunk(&mut self, relation: u32, table: u32, chunk: u32) {
        self.parts.insert(relation, Part { table, chunk });
    }

    /// The view that a hypertable's data are seen through.
    pub(super) fn add_view(&mut self, table: u32, schema: &str, name: &str) {
        self.views.insert(table, (schema.into(), name.into()));
    }

    /// The hypertable's index that a chunk's is like; 0 if there is none.
    pub(super) fn match_index(&mut self, index: u32, own: u32) {
        self.indexes.insert(index, own);
    }

    pub(super) fn absorb(&mut self, other: Self) {
        self.parts.extend(other.parts);
        self.views.extend(other.views);
        self.indexes.extend(other.indexes);
        self.by_id.extend(other.by_id);
    }

    /// The hypertable that a relation belongs to.
    pub(super) fn above(&self, relation: u32) -> Option<u32> {
        self.parts.get(&relation).map(|part| part.table)
    }

    /// The chunk that a relation is, or was compressed of.
    pub(super) fn chunk(&self, relation: u32) -> Option<u32> {
        self.parts.get(&relation).map(|part| part.chunk).filter(|chunk| *chunk != 0)
    }

    /// Whether it is a chunk that holds rows as the hypertable has them, and so indexes like the hypertable's.
    pub(super) fn is_chunk(&self, relation: u32) -> bool {
        self.chunk(relation) == Some(relation)
    }

    pub(super) fn view(&self, table: u32) -> Option<(&str, &str)> {
        self.views.get(&table).map(|(schema, name)| (&**schema, &**name))
    }

    pub(super) fn index(&self, index: u32) -> Option<u32> {
        self.indexes.get(&index).copied()
    }
}

/// Whether a chunk's index has the name that TimescaleDB gives to the copy of a hypertable's: `<chunk>_<index>`, both
/// cut to fit and with a number where that name was taken, or, of a constraint, `<chunk's number>_<number>_<index>`.
pub(super) fn is_named_after(name: &str, chunk: &str, own: &str) -> bool {
    if name == made_name(chunk, own, "") {
        return true;
    }
    let numbered = name.rsplit_once('_').filter(|(_, number)| is_number(number));
    if numbered.is_some_and(|(_, number)| name == made_name(chunk, own, number)) {
        return true;
    }
    let mut parts = name.splitn(3, '_');
    let (Some(first), Some(second), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    is_number(first)
        && is_number(second)
        && (rest == own || (name.len() >= LONGEST - 3 && own.starts_with(rest)))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What PostgreSQL's `makeObjectName` makes: of two names that are too long together, the longer one is cut.
fn made_name(first: &str, second: &str, label: &str) -> String {
    let overhead = 1 + if label.is_empty() { 0 } else { label.len() + 1 };
    let (mut first_length, mut second_length) = (first.len(), second.len());
    while first_length + second_length > LONGEST - overhead {
        if first_length > second_length { first_length -= 1 } else { second_length -= 1 }
    }
    let (first, second) = (cut(first, first_length), cut(second, second_length));
    if label.is_empty() { format!("{first}_{second}") } else { format!("{first}_{second}_{label}") }
}

/// At most so many bytes, and no part of a character.
fn cut(text: &str, length: usize) -> &str {
    let mut end = length.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_an_index_are_told_by_their_names() {
        let chunk = "_hyper_1_2_chunk";
        for (name, own, same) in [
            ("_hyper_1_2_chunk_metrics_time_idx", "metrics_time_idx", true),
            ("_hyper_1_2_chunk_metrics_time_idx_1", "metrics_time_idx", true),
            ("2_3_metrics_pkey", "metrics_pkey", true),
            ("_hyper_1_2_chunk_metrics_time_idx", "metrics_device_idx", false),
            ("2_metrics_pkey", "metrics_pkey", false),
            ("2_3_metrics_pkey2", "metrics_pkey", false),
            ("by_hand", "metrics_pkey", false),
        ] {
            assert_eq!(is_named_after(name, chunk, own), same, "{name} of {own}");
        }
        // As PostgreSQL cuts them: the longer of the two first.
        let long = "a_very_long_name_of_an_index_that_does_not_fit_with_the_chunks_one";
        let made = made_name(chunk, &long[..63], "");
        assert_eq!((made.len(), is_named_after(&made, chunk, &long[..63])), (63, true));
        let constraint = format!("12_34_{}", &long[..57]);
        assert!(is_named_after(&constraint, chunk, &long[..63]));
        assert_eq!(made_name("ä".repeat(40).as_str(), "b", "").chars().filter(|c| *c == 'ä').count(), 30);
    }
}
