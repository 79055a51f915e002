//! What the startup process waits for, and who holds it.
//!
//! `pg_locks` is costly, so it is read only while replay waits for a lock, and a few times a second at most.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{connect::Answer, link::Link};
use crate::{
    catalog::{CatalogReader, Object},
    error::DatabaseError,
    positions::{ApplyWait, WaitKind},
};

/// How often the holder of a wait is looked for.
const LOOK: Duration = Duration::from_millis(200);
/// How often the startup process is looked for where it is not seen.
const STARTUP: Duration = Duration::from_secs(1);

const LOCK: &str = "WITH l AS MATERIALIZED (SELECT pid, locktype, database, relation, granted \
     FROM pg_catalog.pg_lock_status() WHERE locktype = 'relation') \
     SELECT w.database, w.relation, h.pid FROM l w LEFT JOIN l h ON h.granted AND h.pid <> w.pid \
     AND h.database = w.database AND h.relation = w.relation WHERE w.pid = $1 AND NOT w.granted LIMIT 1";
/// Replay asks only for sessions of the database whose rows it is about to remove, and nothing tells which that is. Where
/// all that have a snapshot are in one database, the oldest is one of them; where they are in several, nobody is named. A
/// walsender that hands on feedback is in none. While replay waits, a new snapshot may be as old as the one that it waits
/// for; its later start tells the two apart.
const SNAPSHOT: &str = "SELECT NULL::oid, NULL::oid, (pg_catalog.array_agg(pid ORDER BY age(backend_xmin) DESC, xact_start))[1] \
     FROM pg_catalog.pg_stat_get_activity(NULL) WHERE backend_xmin IS NOT NULL AND datid IS NOT NULL \
     AND pid NOT IN ($1, pg_catalog.pg_backend_pid()) HAVING min(datid) = max(datid)";
const HELD_UP: &str = "SELECT wait_event_type, wait_event, pid FROM pg_catalog.pg_stat_get_activity(NULL) \
     WHERE backend_type = 'startup'";
/// Whether a session has a lock that the startup process waits for.
const HAS_LOCK: &str = "WITH l AS MATERIALIZED (SELECT * FROM pg_catalog.pg_lock_status()) \
     SELECT EXISTS (SELECT 1 FROM l w JOIN l h ON h.granted AND h.pid = $2 AND h.locktype = w.locktype \
     AND (h.database, h.relation, h.classid, h.objid) IS NOT DISTINCT FROM (w.database, w.relation, w.classid, w.objid) \
     WHERE w.pid = $1 AND NOT w.granted)";
/// Whether a session's snapshot is the oldest of its database. While there is an older one, replay would not go on without
/// this one either; one in another database says nothing of that.
const HAS_OLDEST: &str = "SELECT coalesce((SELECT s.pid = $2 FROM pg_catalog.pg_stat_get_activity(NULL) s \
     JOIN pg_catalog.pg_stat_get_activity($2) o ON s.datid = o.datid \
     WHERE s.backend_xmin IS NOT NULL AND s.pid NOT IN ($1, pg_catalog.pg_backend_pid()) \
     ORDER BY age(s.backend_xmin) DESC, s.xact_start LIMIT 1), false)";

/// What a wait event of the startup process means.
pub(super) fn kind(class: &str, event: &str) -> WaitKind {
    match (class, event) {
        ("Lock", _) => WaitKind::Lock,
        ("BufferPin", _) => WaitKind::Conflict,
        (_, event) if event.starts_with("RecoveryConflict") => WaitKind::Conflict,
        (
            _,
            "RecoveryWalStream"
            | "RecoveryWalAll"
            | "RecoveryRetrieveRetryInterval"
            | "WalReceiverWaitStart"
            | "WalReceiverExit"
            | "RestoreCommand",
        ) => WaitKind::Starved,
        (_, "RecoveryPause") => WaitKind::Paused,
        (_, "RecoveryApplyDelay") => WaitKind::Delayed,
        _ => WaitKind::Other,
    }
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    kind: WaitKind,
    relation: Option<(u32, u32)>,
    holder: Option<u32>,
}

/// Describes waits; remembers the last one that was looked into.
#[derive(Debug)]
pub(super) struct Waits {
    catalog: CatalogReader,
    seen: Mutex<Option<Seen>>,
    looked_for_startup: Mutex<Option<Instant>>,
}

impl Waits {
    pub(super) fn new(catalog: CatalogReader) -> Self {
        Self { catalog, seen: Mutex::default(), looked_for_startup: Mutex::default() }
    }

    pub(super) fn may_look_for_startup(&self) -> bool {
        let mut looked = self.looked_for_startup.lock().unwrap_or_else(PoisonError::into_inner);
        let may = looked.is_none_or(|looked| looked.elapsed() >= STARTUP);
        if may {
            *looked = Some(Instant::now());
        }
        may
    }

    /// The wait behind a wait event, with relation and holder where there are such.
    pub(super) async fn describe(&self, link: &Link, class: &str, event: &str, startup: u32) -> ApplyWait {
        let kind = kind(class, event);
        let plain = ApplyWait { kind, object: None, holder: None, own: false };
        let sql = match (kind, class) {
            (WaitKind::Lock, _) => LOCK,
            // Nothing tells who holds a pin.
            (WaitKind::Conflict, "BufferPin") => return plain,
            (WaitKind::Conflict, _) => SNAPSHOT,
            _ => {
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return plain;
            }
        };
        if let Some(seen) = self.recent(kind) {
            return self.made(link, kind, seen);
        }
        let found = link.rows("what replay waits for", sql, &[startup.cast_signed()]).await;
        let found = found.and_then(|rows| rows.first().map(read).transpose()).ok().flatten();
        let (relation, holder) = found.unwrap_or((None, None));
        let seen = Seen { at: Instant::now(), kind, relation, holder };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        self.made(link, kind, (relation, holder))
    }

    fn recent(&self, kind: WaitKind) -> Option<Found> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = seen.as_ref().filter(|seen| seen.kind == kind && seen.at.elapsed() < LOOK)?;
        Some((recent.relation, recent.holder))
    }

    fn made(&self, link: &Link, kind: WaitKind, (relation, holder): Found) -> ApplyWait {
        let object: Option<Arc<Object>> =
            relation.and_then(|(database, relation)| self.catalog.relation(database, relation));
        ApplyWait { kind, object, holder, own: holder.is_some_and(|holder| link.reach().is_own(holder)) }
    }
}

/// Database and relation that replay waits for, and who holds it.
type Found = (Option<(u32, u32)>, Option<u32>);

fn read(row: &Answer) -> Result<Found, DatabaseError> {
    let relation = row.read::<Option<u32>>(0)?.zip(row.read::<Option<u32>>(1)?);
    Ok((relation, row.read::<Option<i32>>(2)?.map(i32::cast_unsigned)))
}

/// What tells whether a session holds up replay, by what replay waits for.
fn question(class: &str, event: &str) -> Option<&'static str> {
    match (kind(class, event), class) {
        (WaitKind::Lock, _) => Some(HAS_LOCK),
        // Nothing tells who holds a pin, and a cursor of somebody's may hold one for hours.
        (WaitKind::Conflict, "BufferPin") => None,
        (WaitKind::Conflict, _) => Some(HAS_OLDEST),
        _ => None,
    }
}

/// Whether replay waits for this backend of the agent's. That it waits for somebody else's is no reason to stop.
pub(super) async fn is_held_up_by(link: &Link, backend: u32) -> bool {
    held_up_by(link, backend).await.unwrap_or(false)
}

async fn held_up_by(link: &Link, backend: u32) -> Result<bool, DatabaseError> {
    for row in link.rows("whether replay is held up", HELD_UP, &[]).await? {
        let (class, event) = (row.read::<Option<&str>>(0)?, row.read::<Option<&str>>(1)?);
        let question = class.zip(event).and_then(|(class, event)| question(class, event));
        if let Some(sql) = question {
            let startup: i32 = row.read(2)?;
            let row = link.row("who holds up replay", sql, &[startup, backend.cast_signed()]).await?;
            return row.read(0);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_events_of_all_versions_have_a_kind() {
        for (class, event, expected) in [
            ("Activity", "RecoveryWalStream", WaitKind::Starved),
            ("Activity", "RecoveryWalAll", WaitKind::Starved),
            ("Timeout", "RecoveryRetrieveRetryInterval", WaitKind::Starved),
            ("IPC", "WalReceiverWaitStart", WaitKind::Starved),
            ("IPC", "RestoreCommand", WaitKind::Starved),
            ("IPC", "RecoveryPause", WaitKind::Paused),
            ("Timeout", "RecoveryPause", WaitKind::Paused),
            ("Timeout", "RecoveryApplyDelay", WaitKind::Delayed),
            ("Lock", "relation", WaitKind::Lock),
            ("IPC", "RecoveryConflictSnapshot", WaitKind::Conflict),
            ("IPC", "RecoveryConflictTablespace", WaitKind::Conflict),
            ("BufferPin", "BufferPin", WaitKind::Conflict),
            ("IO", "DataFileRead", WaitKind::Other),
            ("LWLock", "WALInsert", WaitKind::Other),
        ] {
            assert_eq!(kind(class, event), expected, "{class}/{event}");
        }
    }

    #[test]
    fn only_where_a_session_can_be_named_is_it_asked_for() {
        assert_eq!(question("Lock", "relation"), Some(HAS_LOCK));
        assert_eq!(question("IPC", "RecoveryConflictSnapshot"), Some(HAS_OLDEST));
        assert_eq!(question("BufferPin", "BufferPin"), None);
        assert_eq!(question("Activity", "RecoveryWalStream"), None);
    }
}
