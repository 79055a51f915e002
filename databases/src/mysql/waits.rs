//! What the SQL thread and its workers wait for, from its state, and who holds it.
//!
//! A row lock is in no state, and what a worker waits for is not in that of the SQL thread, which then has read all there
//! is. So where replay stands still, InnoDB's transactions and, where the server shows them, metadata locks are looked
//! at, a few times a second at most.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    catalog,
    connect::{About, Answer},
    link::Link,
    path,
};
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
/// Since MySQL 8: row locks, and locks on metadata. Of the latter all that conflict with what is waited for.
const LOCKS_SINCE_8: &str = "SELECT w.trx_mysql_thread_id, b.trx_mysql_thread_id, \
     concat('`', l.object_schema, '`.`', l.object_name, '`') \
     FROM performance_schema.data_lock_waits lw \
     JOIN information_schema.innodb_trx w ON w.trx_id = lw.requesting_engine_transaction_id \
     JOIN information_schema.innodb_trx b ON b.trx_id = lw.blocking_engine_transaction_id \
     JOIN performance_schema.data_locks l ON l.engine_lock_id = lw.requesting_engine_lock_id \
     UNION ALL SELECT wt.processlist_id, ht.processlist_id, \
     concat('`', w.object_schema, '`.`', w.object_name, '`') \
     FROM performance_schema.metadata_locks w JOIN performance_schema.metadata_locks h \
     ON h.object_type = w.object_type AND h.object_schema <=> w.object_schema \
     AND h.object_name <=> w.object_name AND h.owner_thread_id <> w.owner_thread_id \
     JOIN performance_schema.threads wt ON wt.thread_id = w.owner_thread_id \
     JOIN performance_schema.threads ht ON ht.thread_id = h.owner_thread_id \
     WHERE w.lock_status = 'PENDING' AND h.lock_status = 'GRANTED' \
     AND NOT (w.lock_type = 'INTENTION_EXCLUSIVE' AND h.lock_type = 'INTENTION_EXCLUSIVE') \
     AND (w.lock_type NOT LIKE 'SHARED%' OR h.lock_type IN \
     ('SHARED_READ_ONLY', 'SHARED_NO_WRITE', 'SHARED_NO_READ_WRITE', 'EXCLUSIVE'))";

/// What the workers do.
const WORKERS_OF_MARIADB: &str =
    "SELECT state FROM information_schema.processlist WHERE command = 'Slave_worker'";
const WORKERS: &str = "SELECT processlist_state FROM performance_schema.threads \
     WHERE name IN ('thread/sql/replica_worker', 'thread/sql/slave_worker')";
/// States of a worker that has nothing to do, of MariaDB and of MySQL.
const IDLE: [&str; 2] = ["Waiting for work from SQL thread", "Waiting for an event from Coordinator"];

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

/// Where replay stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stand {
    pub(super) applied: u64,
    /// Whether more has been received.
    pub(super) is_behind: bool,
}

fn is_8(about: &About) -> bool {
    let is_8 = |major: &str| major.len() > 1 || major >= "8";
    !about.is_mariadb && about.version.split('.').next().is_some_and(is_8)
}

/// What workers in these states wait for. Those that have nothing to do may all wait for the rest of a transaction that is
/// on its way.
fn of_workers(states: &[String]) -> Option<WaitKind> {
    let is_idle = |state: &String| IDLE.contains(&state.as_str());
    if states.iter().any(|state| !is_idle(state) && kind(state) == Some(WaitKind::Lock)) {
        return Some(WaitKind::Lock);
    }
    (!states.is_empty() && states.iter().all(is_idle)).then_some(WaitKind::Starved)
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

    /// The wait behind a state. `appliers` are the connections of the SQL thread and its workers, where those are known.
    pub(super) async fn describe(
        &self,
        link: &Link,
        state: &str,
        at: Stand,
        appliers: &[u32],
    ) -> Option<ApplyWait> {
        let about = link.about()?;
        let is_8 = is_8(&about);
        // It has handed out what its workers still apply, or waits for one of them.
        let by_workers = at.is_behind && appliers.len() > 1;
        let said = kind(state);
        let told = said.filter(|kind| !(by_workers && matches!(kind, WaitKind::Starved | WaitKind::Other)));
        let other = told.or(said.filter(|kind| *kind == WaitKind::Other)).map(plain);
        if let Some(kind) = told
            && !(kind == WaitKind::Lock && is_8)
        {
            *self.seen() = Seen { applied: Some((at.applied, Instant::now())), ..Seen::default() };
            return Some(plain(kind));
        }
        if !self.is_due(at.applied) {
            return self.seen().wait.clone().or(other);
        }
        let rows = link.rows("what replay waits for", if is_8 { LOCKS_SINCE_8 } else { LOCKS }).await;
        let rows = rows.unwrap_or_default();
        let number = |row: &Answer, column| row.at(column).and_then(|number| number.parse::<u32>().ok());
        let is_applier = |number: Option<u32>| number.is_some_and(|number| appliers.contains(&number));
        let waits = || rows.iter().filter(|row| is_applier(number(row, 0)));
        // Of workers that wait for one another somebody else may be at the end.
        let row = waits().find(|row| !is_applier(number(row, 1))).or(waits().next());
        let wait = row.map(|row| {
            let holder = number(row, 1);
            let object = row.at(2).and_then(|table| locked(&table));
            ApplyWait {
                kind: WaitKind::Lock,
                object: object.map(Arc::new),
                own: holder == Some(about.connection),
                holder,
            }
        });
        let wait = match wait {
            None if by_workers && told.is_none() => {
                let sql = if about.is_mariadb { WORKERS_OF_MARIADB } else { WORKERS };
                let rows = link.rows("what its workers do", sql).await.unwrap_or_default();
                let states: Vec<_> = rows.iter().filter_map(|row| row.at(0)).collect();
                of_workers(&states).map(plain).or(other)
            }
            wait => wait.or(other),
        };
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
    fn workers_wait_for_a_lock_if_one_does_and_for_work_if_all_do() {
        let states =
            |states: &[&str]| of_workers(&states.iter().map(|state| (*state).to_owned()).collect::<Vec<_>>());
        let [mariadb, mysql] = IDLE;
        let locked = "Waiting for table metadata lock";
        assert_eq!(states(&[mariadb, locked, mariadb]), Some(WaitKind::Lock));
        assert_eq!(states(&[mysql, mysql]), Some(WaitKind::Starved));
        assert_eq!(states(&[mysql, "Waiting for preceding transaction to commit", "Updating"]), None);
        assert_eq!(states(&[]), None);
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
