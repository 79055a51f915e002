//! What a thread of a MySQL server does: from its name where the server gives its threads names, as MySQL 8 does, else
//! from what the server says of it by SQL.

use std::collections::HashMap;

use blameio_pipeline::ThreadRole;

use super::link::Link;
use crate::{engine::Duty, error::DatabaseError};

const OF_MARIADB: &str = "SELECT tid, command FROM information_schema.processlist WHERE tid IS NOT NULL";
const OF_MYSQL: &str = "SELECT thread_os_id, name, processlist_command FROM performance_schema.threads \
     WHERE thread_os_id IS NOT NULL";

/// Names of threads, by how they begin; longer ones first. Those of connections are passed over: a thread that was just
/// made by one is called so for a moment.
const NAMES: &[(&str, ThreadRole)] = &[
    ("rpl_rca_io", ThreadRole::Receive),
    ("ib_io_", ThreadRole::IoWorker),
    ("ib_pg_flush", ThreadRole::PageCleaner),
    ("ib_log_checkpt", ThreadRole::Checkpoint),
    ("ib_log_", ThreadRole::Log),
    ("ib_srv_purge", ThreadRole::Purge),
    ("ib_srv_wkr", ThreadRole::Purge),
    ("ib_clone", ThreadRole::Backup),
    // Of the kernel, on behalf of the server.
    ("iou-wrk-", ThreadRole::IoWorker),
    ("iou-sqp-", ThreadRole::IoWorker),
];

/// Names in `performance_schema.threads`, by how they begin.
const INSTRUMENTS: &[(&str, ThreadRole)] = &[
    ("thread/sql/replica_io", ThreadRole::Receive),
    ("thread/sql/slave_io", ThreadRole::Receive),
    ("thread/sql/one_connection", ThreadRole::Client),
    ("thread/innodb/page_flush", ThreadRole::PageCleaner),
    ("thread/innodb/page_cleaner", ThreadRole::PageCleaner),
    ("thread/innodb/log_checkpointer", ThreadRole::Checkpoint),
    ("thread/innodb/log_", ThreadRole::Log),
    ("thread/innodb/srv_purge", ThreadRole::Purge),
    ("thread/innodb/srv_worker", ThreadRole::Purge),
    ("thread/innodb/io_", ThreadRole::IoWorker),
    ("thread/innodb/clone", ThreadRole::Backup),
];

/// A thread that replay waits for: the SQL thread, and the workers to whom it hands out its work, where there are any.
const APPLIER: Duty = Duty { role: ThreadRole::Apply, is_critical: true };

fn not_critical(role: ThreadRole) -> Duty {
    Duty { role, is_critical: false }
}

fn beginning(table: &[(&str, ThreadRole)], name: &str) -> Option<Duty> {
    table.iter().find(|(beginning, _)| name.starts_with(beginning)).map(|(_, role)| not_critical(*role))
}

/// What a thread with this name does; `None` where the name tells nothing.
pub(super) fn by_name(name: &str) -> Option<Duty> {
    let applies = ["rpl_rca_sql", "rpl_rca_wkr"].iter().any(|applier| name.starts_with(applier));
    if applies { Some(APPLIER) } else { beginning(NAMES, name) }
}

/// What a thread does, by `COMMAND` of MariaDB's process list.
fn by_command(command: &str) -> Duty {
    match command {
        "Slave_SQL" | "Slave_worker" => APPLIER,
        "Slave_IO" => not_critical(ThreadRole::Receive),
        "Daemon" => not_critical(ThreadRole::Other),
        _ if command.starts_with("Binlog Dump") => not_critical(ThreadRole::Backup),
        _ => not_critical(ThreadRole::Client),
    }
}

/// What a thread does, by its name in MySQL's `performance_schema` and the command of its connection.
fn by_instrument(name: &str, command: Option<&str>) -> Duty {
    match name {
        "thread/sql/replica_sql"
        | "thread/sql/slave_sql"
        | "thread/sql/replica_worker"
        | "thread/sql/slave_worker" => APPLIER,
        _ if command.is_some_and(|command| command.starts_with("Binlog Dump")) => {
            not_critical(ThreadRole::Backup)
        }
        _ => beginning(INSTRUMENTS, name).unwrap_or(not_critical(ThreadRole::Other)),
    }
}

/// What threads do, by their id in the server's operating system.
pub(super) async fn ask(link: &Link) -> Result<HashMap<u32, Duty>, DatabaseError> {
    const PURPOSE: &str = "the roles of its threads";
    let is_mariadb = link.known().await?.is_mariadb;
    let rows = link.rows(PURPOSE, if is_mariadb { OF_MARIADB } else { OF_MYSQL }).await?;
    let duties = rows.iter().filter_map(|row| {
        let (thread, name) = (row.at(0)?.parse().ok()?, row.at(1)?);
        let duty = if is_mariadb { by_command(&name) } else { by_instrument(&name, row.at(2).as_deref()) };
        Some((thread, duty))
    });
    Ok(duties.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_waits_for_the_sql_thread_and_its_workers() {
        for duty in [
            by_name("rpl_rca_sql"),
            by_name("rpl_rca_wkr-0"),
            Some(by_command("Slave_SQL")),
            Some(by_command("Slave_worker")),
            Some(by_instrument("thread/sql/replica_sql", Some("Query"))),
            Some(by_instrument("thread/sql/slave_sql", None)),
            Some(by_instrument("thread/sql/replica_worker", None)),
            Some(by_instrument("thread/sql/slave_worker", None)),
        ] {
            assert_eq!(duty, Some(APPLIER));
        }
    }

    #[test]
    fn names_and_commands_tell_roles() {
        let role = |duty: Option<Duty>| duty.map(|duty| duty.role);
        for (name, expected) in [
            ("rpl_rca_io", Some(ThreadRole::Receive)),
            ("rpl_rca_mon", None),
            ("ib_io_rd-2", Some(ThreadRole::IoWorker)),
            ("ib_pg_flush_co", Some(ThreadRole::PageCleaner)),
            ("ib_log_writer", Some(ThreadRole::Log)),
            ("ib_log_checkpt", Some(ThreadRole::Checkpoint)),
            ("ib_srv_purge", Some(ThreadRole::Purge)),
            ("iou-wrk-4711", Some(ThreadRole::IoWorker)),
            ("connection", None),
            ("mariadbd", None),
            ("mysqld", None),
        ] {
            assert_eq!(role(by_name(name)), expected, "{name}");
        }
        for (command, expected) in [
            ("Slave_IO", ThreadRole::Receive),
            ("Binlog Dump", ThreadRole::Backup),
            ("Sleep", ThreadRole::Client),
            ("Query", ThreadRole::Client),
            ("Daemon", ThreadRole::Other),
        ] {
            assert_eq!(by_command(command).role, expected, "{command}");
        }
        let instrument = |name: &str, command| by_instrument(name, command).role;
        assert_eq!(instrument("thread/sql/one_connection", Some("Sleep")), ThreadRole::Client);
        assert_eq!(instrument("thread/sql/one_connection", Some("Binlog Dump GTID")), ThreadRole::Backup);
        assert_eq!(instrument("thread/innodb/page_flush_coordinator_thread", None), ThreadRole::PageCleaner);
        assert_eq!(instrument("thread/sql/main", None), ThreadRole::Other);
    }
}
