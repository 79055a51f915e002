//! Names of files that no relation has any more: a table that was dropped or rewritten may still be written, and is
//! still read back from the log. Bounded in number; the oldest go first, and with time.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use super::{directory::KEPT_FOR, relations::File};
use crate::catalog::Object;

/// Most names that are kept for one server; about 300 bytes each.
const KEPT: usize = 20_000;

/// The names, by database and file.
#[derive(Debug, Default)]
pub(super) struct Former {
    objects: HashMap<(u32, File), Object>,
    order: VecDeque<(Instant, (u32, File))>,
}

impl Former {
    /// Keeps the name of a file. A file that had another owner before has this one now.
    pub(super) fn keep(&mut self, database: u32, file: File, object: Object, now: Instant) {
        if self.objects.insert((database, file), object).is_none() {
            self.order.push_back((now, (database, file)));
        }
        while let Some((since, oldest)) = self.order.front()
            && (self.order.len() > KEPT || now.duration_since(*since) >= KEPT_FOR)
        {
            self.objects.remove(oldest);
            self.order.pop_front();
        }
        // Of a rush no room stays.
        if self.objects.capacity() > 8 * self.objects.len().max(KEPT / 100) {
            self.objects.shrink_to(2 * self.objects.len());
            self.order.shrink_to(2 * self.order.len());
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
        let now = Instant::now();
        let file = |number| File { space: 1663, number, backend: None };
        for number in 0..20_010 {
            former.keep(5, file(number), object("dropped"), now);
            former.keep(5, file(number), object("again"), now);
        }
        assert_eq!((former.objects.len(), former.order.len()), (KEPT, KEPT));
        assert_eq!(former.get(5, file(9)), None);
        assert_eq!(former.get(5, file(10)), Some(&object("again")));
        assert_eq!(former.get(6, file(10)), None);
    }

    #[test]
    fn a_name_goes_when_nothing_can_be_told_of_its_file_any_more() {
        let mut former = Former::default();
        let (now, file) = (Instant::now(), |number| File { space: 1663, number, backend: None });
        for number in 0..10_000 {
            former.keep(5, file(number), object("dropped"), now);
        }
        let full = former.objects.capacity();
        former.keep(5, file(20_000), object("later"), now + KEPT_FOR / 2);
        assert_eq!(former.get(5, file(0)), Some(&object("dropped")));
        former.keep(5, file(20_001), object("last"), now + KEPT_FOR);
        assert_eq!((former.get(5, file(0)), former.objects.len()), (None, 2));
        assert_eq!(former.get(5, file(20_000)), Some(&object("later")));
        assert!(former.objects.capacity() < full / 4, "{}", former.objects.capacity());
    }
}
