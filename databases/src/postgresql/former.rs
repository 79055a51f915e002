//! Names of files that no relation has any more: a table that was dropped or rewritten may still be written, and is
//! still read back from the log. Bounded; the oldest go first.

use std::collections::{HashMap, VecDeque};

use super::relations::File;
use crate::catalog::Object;

/// Most names that are kept for one server; about 300 bytes each.
const KEPT: usize = 20_000;

/// The names, by database and file.
#[derive(Debug, Default)]
pub(super) struct Former {
    objects: HashMap<(u32, File), Object>,
    order: VecDeque<(u32, File)>,
}

impl Former {
    /// Keeps the name of a file. A file that had another owner before has this one now.
    pub(super) fn keep(&mut self, database: u32, file: File, object: Object) {
        if self.objects.insert((database, file), object).is_some() {
            return;
        }
        self.order.push_back((database, file));
        if self.order.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.objects.remove(&oldest);
        }
    }

    /// Whose file it was.
    pub(super) fn get(&self, database: u32, file: File) -> Option<&Object> {
        self.objects.get(&(database, file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::FileKind;

    fn object(table: &str) -> Object {
        Object {
            database: "shop".into(),
            schema: "public".into(),
            namespace: "shop|public".into(),
            table: table.into(),
            index: None,
            partition: None,
            kind: FileKind::Heap,
        }
    }

    #[test]
    fn the_oldest_names_make_room_and_the_last_owner_counts() {
        let mut former = Former::default();
        let file = |number| File { space: 1663, number, backend: None };
        for number in 0..20_010 {
            former.keep(5, file(number), object("dropped"));
            former.keep(5, file(number), object("again"));
        }
        assert_eq!((former.objects.len(), former.order.len()), (KEPT, KEPT));
        assert_eq!(former.get(5, file(9)), None);
        assert_eq!(former.get(5, file(10)), Some(&object("again")));
        assert_eq!(former.get(6, file(10)), None);
    }
}
