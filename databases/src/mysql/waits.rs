//! What the SQL thread waits for, from its state, and who holds it.
//!
//! A row lock is in no state. So where replay stands still, InnoDB's transactions are looked at, a few times a second at
//! most.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{catalog, link::Link, path};
use crate::catalog::Object;
use crate::positions::{ApplyWait, WaitKind};

/// How often the holder of a wait is looked for, and how long replay must stand still before.
const LOOK: Duration = Duration::from_millis(200);

/// Until MySQL 5.7, and MariaDB. One row for each transaction that waits: who waits, who holds, and for what.
const LOCKS: &str = "SELECT w.trx_mysql_thread_id, b.trx_mysql_thread_id, l.lock_table \
     FROM information_schema.innodb_lock_waits lw \
     JOIN information_schema.innodb_trx w ON w.trx_id = lw.requesting_trx_id \
     JOIN information_schema.innodb_trx b ON b.trx_id = lw.blocking_trx_id \
     JOIN information_schema.innodb_locks l ON l.lock_id = lw.requested_lock_id";
/// Since MySQL 8.
const LOCKS_SINCE_8: &str = "SELECT w.trx_mysql_thread_id, b.trx_mysql_thread_id, \
     concat('`', l.object_schema, '`.`', l.object_name, '`') \
     FROM performance_schema.data_lock_waits lw \
     JOIN information_schema.innodb_trx w ON w.trx_id = lw.requesting_engine_transaction_id \
     JOIN information_schema.innodb_trx b ON b.trx_id = lw.blocking_engine_transaction_id \
     JOIN performance_schema.data_locks l ON l.engine_lock_id = lw.requesting_engine_lock_id";

/// What a state of the SQL thread means; `None` while it works.
pub(super) fn kind(state: &str) -> Option<WaitKind> {
    // "Slave has read all relay log; waiting for more updates", of a replica since MySQL 8.
    if state.contains("has read all relay log") {
        return Some(WaitKind::Starved);
    }
    // "Waiting until MASTER_DELAY seconds after master executed event", of SOURCE since MySQL 8.
    if state.starts_with("Waiting until ") && state.contains("_DELAY") {
        return Some(WaitKind::Delayed);
    }
    let waits = state.strip_prefix("Waiting for ")?;
    Some(match waits {
        "the next event in relay log" | "the slave I/O thread to update it" => WaitKind::Starved,
        // Metadata, table, backup, commit and global read locks.
        _ if waits.ends_with(" lock") || waits == "table flush" => WaitKind::Lock,
        _ => WaitKind::Other,
    })
}

#[derive(Debug, Default)]
struct Seen {
    /// Where replay stands, and since when.
    applied: Option<(u64, Instant)>,
    looked: Option<Instant>,
    wait: Option<ApplyWait>,
}

/// Describes waits; remembers the last one that was looked into.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<Seen>);

impl Waits {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wait behind a state. `applier` is the connection of the SQL thread, where that is known.
    pub(super) async fn describe(
        &self,
        link: &Link,
        state: &str,
        applied: u64,
        applier: Option<u32>,
    ) -> Option<ApplyWait> {
        if let Some(kind) = kind(state) {
            *self.seen() = Seen { applied: Some((applied, Instant::now())), ..Seen::default() };
            return Some(plain(kind));
        }
        if !self.is_due(applied) {
            return self.seen().wait.clone();
        }
        let about = link.about()?;
        let is_8 = !about.is_mariadb
            && about.version.split('.').next().is_some_and(|major| major.len() > 1 || major >= "8");
        let rows = link.rows("what replay waits for", if is_8 { LOCKS_SINCE_8 } else { LOCKS }).await;
        let rows = rows.unwrap_or_default();
        let row = rows.iter().find(|row| {
            let waiter = row.at(0).and_then(|waiter| waiter.parse().ok());
            applier.is_some() && waiter == applier
        });
        let wait = row.map(|row| {
            let holder = row.at(1).and_then(|holder| holder.parse().ok());
            let object = row.at(2).and_then(|table| locked(&table));
            ApplyWait {
                kind: WaitKind::Lock,
                object: object.map(Arc::new),
                own: holder == Some(about.connection),
                holder,
            }
        });
        self.seen().wait.clone_from(&wait);
        wait
    }

    /// Whether replay has stood still for long enough to look, and the last look is long enough ago.
    fn is_due(&self, applied: u64) -> bool {
        let (mut seen, now) = (self.seen(), Instant::now());
        match seen.applied {
            Some((before, since)) if before == applied => {
                let is_due = now.duration_since(since) >= LOOK
                    && seen.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK);
                if is_due {
                    seen.looked = Some(now);
                }
                is_due
            }
            _ => {
                *seen = Seen { applied: Some((applied, now)), ..Seen::default() };
                false
            }
        }
    }
}

pub(super) fn plain(kind: WaitKind) -> ApplyWait {
    ApplyWait { kind, object: None, holder: None, own: false }
}

/// The table of `` `shop`.`orders` ``, be it a partition of one.
fn locked(name: &str) -> Option<Object> {
    let name = name.split(" /*").next()?.trim();
    let (database, table) = name.strip_prefix('`')?.strip_suffix('`')?.split_once("`.`")?;
    let (table, partition) = path::split(table);
    Some(catalog::object(database, &table, partition))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_both_servers_have_a_kind() {
        for (state, expected) in [
            ("Slave has read all relay log; waiting for more updates", Some(WaitKind::Starved)),
            ("Replica has read all relay log; waiting for more updates", Some(WaitKind::Starved)),
            (
                "Slave has read all relay log; waiting for the slave I/O thread to update it",
                Some(WaitKind::Starved),
            ),
            ("Waiting for the next event in relay log", Some(WaitKind::Starved)),
            ("Waiting until MASTER_DELAY seconds after master executed event", Some(WaitKind::Delayed)),
            ("Waiting until SOURCE_DELAY seconds after source executed event", Some(WaitKind::Delayed)),
            ("Waiting for table metadata lock", Some(WaitKind::Lock)),
            ("Waiting for table level lock", Some(WaitKind::Lock)),
            ("Waiting for backup lock", Some(WaitKind::Lock)),
            ("Waiting for global read lock", Some(WaitKind::Lock)),
            ("Waiting for table flush", Some(WaitKind::Lock)),
            ("Waiting for prior transaction to commit", Some(WaitKind::Other)),
            ("Waiting for room in worker thread event queue", Some(WaitKind::Other)),
            ("Updating", None),
            ("Update_rows_log_event::find_row(-1)", None),
            ("Reading event from the relay log", None),
            ("", None),
        ] {
            assert_eq!(kind(state), expected, "{state}");
        }
    }

    #[test]
    fn a_locked_table_is_named() {
        let named =
            |name: &str| locked(name).map(|object| (object.namespace, object.table, object.partition));
        let shop = |table: &str, partition: Option<&str>| {
            Some(("shop".to_owned(), table.to_owned(), partition.map(str::to_owned)))
        };
        assert_eq!(named("`shop`.`orders`"), shop("orders", None));
        assert_eq!(named("`shop`.`orders#P#p0`"), shop("orders", Some("p0")));
        assert_eq!(named("`shop`.`orders` /* Partition `p0` */"), shop("orders", None));
        assert_eq!(named("orders"), None);
    }
}
