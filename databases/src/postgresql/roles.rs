//! What a PostgreSQL process does, from its title and from `backend_type`.
//!
//! Titles read `postgres: [<cluster_name>: ]<what it does>`. They are all there is where SQL is refused.

use blameio_pipeline::ThreadRole;

/// Titles of processes of one kind each, and words that may follow. The order matters: longer ones first.
const TITLES: &[(&str, ThreadRole)] = &[
    ("autovacuum launcher", ThreadRole::Vacuum),
    ("autovacuum worker", ThreadRole::Vacuum),
    ("background writer", ThreadRole::Writer),
    ("bgwriter", ThreadRole::Writer),
    ("checkpointer", ThreadRole::Checkpoint),
    ("walwriter", ThreadRole::Log),
    ("wal writer", ThreadRole::Log),
    ("walreceiver", ThreadRole::Receive),
    ("wal receiver", ThreadRole::Receive),
    ("walsender", ThreadRole::Backup),
    ("wal sender", ThreadRole::Backup),
    ("startup", ThreadRole::Apply),
    ("io worker", ThreadRole::IoWorker),
    ("walsummarizer", ThreadRole::Other),
    ("slotsync worker", ThreadRole::Other),
    ("slot sync worker", ThreadRole::Other),
    ("archiver", ThreadRole::Other),
    ("logger", ThreadRole::Other),
    ("stats collector", ThreadRole::Other),
    ("logical replication", ThreadRole::Other),
    ("dead-end client backend", ThreadRole::Other),
    // It does a query's work for the backend that leads it.
    ("parallel worker", ThreadRole::Client),
];

/// Role by the title of a process; `None` while it has none yet.
pub fn by_title(title: &str) -> Option<ThreadRole> {
    let whole = title.trim_end().strip_prefix("postgres: ")?.trim_start();
    let mut rest = whole;
    loop {
        if let Some(role) = by_activity(rest) {
            return Some(role);
        }
        // The name of the cluster stands first where one is set, and may itself hold a colon.
        match rest.split_once(": ") {
            Some((_, after)) => rest = after.trim_start(),
            None => return is_client(whole).then_some(ThreadRole::Client),
        }
    }
}

/// Role of a process that serves no client. Other background workers have names that extensions gave them.
fn by_activity(text: &str) -> Option<ThreadRole> {
    let (_, role) = TITLES.iter().find(|(name, _)| {
        text.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ':']))
    })?;
    // A user may be called `startup`; only of a walsender's title is a client's address a part.
    (*role == ThreadRole::Backup || !is_client(text)).then_some(*role)
}

/// `user database host(port) activity` or `user database [local] activity`.
fn is_client(text: &str) -> bool {
    text.split(' ').skip(2).any(|word| {
        word == "[local]"
            || word.strip_suffix(')').and_then(|word| word.split_once('(')).is_some_and(|(host, port)| {
                !host.is_empty() && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
            })
    })
}

/// Role by `backend_type` of `pg_stat_activity`.
pub fn by_backend_type(backend_type: &str) -> ThreadRole {
    match backend_type {
        "client backend" => ThreadRole::Client,
        name => TITLES
            .iter()
            .find(|(title, _)| name.starts_with(title))
            .map_or(ThreadRole::Other, |(_, role)| *role),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEEN: &[(&str, ThreadRole)] = &[
        ("startup recovering 000000010000000000000003", ThreadRole::Apply),
        ("startup recovering 000000010000000000000003 waiting", ThreadRole::Apply),
        ("startup waiting for 000000010000000000000003", ThreadRole::Apply),
        ("startup ", ThreadRole::Apply),
        ("walreceiver streaming 0/3000148", ThreadRole::Receive),
        ("walreceiver ", ThreadRole::Receive),
        ("checkpointer ", ThreadRole::Checkpoint),
        ("checkpointer performing restartpoint", ThreadRole::Checkpoint),
        ("background writer ", ThreadRole::Writer),
        ("walwriter ", ThreadRole::Log),
        ("autovacuum launcher ", ThreadRole::Vacuum),
        ("autovacuum worker app", ThreadRole::Vacuum),
        ("walsender repl 127.0.0.1(51234) streaming 0/3000148", ThreadRole::Backup),
        ("walsender postgres [local] sending backup \"x\"", ThreadRole::Backup),
        ("io worker 0", ThreadRole::IoWorker),
        ("archiver last was 000000010000000000000001", ThreadRole::Other),
        ("logger ", ThreadRole::Other),
        ("logical replication launcher ", ThreadRole::Other),
        ("parallel worker for PID 4711 ", ThreadRole::Client),
        ("postgres postgres [local] idle", ThreadRole::Client),
        ("app orders 10.0.0.7(40000) SELECT", ThreadRole::Client),
        ("app orders fe80::1(40000) idle in transaction", ThreadRole::Client),
        ("startup orders 10.0.0.7(40000) idle", ThreadRole::Client),
        ("a user orders [local] COMMIT", ThreadRole::Client),
    ];

    #[test]
    fn titles_tell_roles_with_and_without_a_cluster_name() {
        for (title, role) in SEEN {
            for cluster in ["", "main: ", "15/main: ", "a: b: "] {
                assert_eq!(by_title(&format!("postgres: {cluster}{title}")), Some(*role), "{cluster}{title}");
            }
        }
    }

    #[test]
    fn a_title_that_tells_nothing_is_no_role() {
        for title in
            ["", "postgres", "postgres: ", "/usr/lib/postgresql/15/bin/postgres", "postgres: my extension "]
        {
            assert_eq!(by_title(title), None, "{title}");
        }
    }

    #[test]
    fn backend_types_tell_roles() {
        for (name, role) in [
            ("startup", ThreadRole::Apply),
            ("walreceiver", ThreadRole::Receive),
            ("checkpointer", ThreadRole::Checkpoint),
            ("background writer", ThreadRole::Writer),
            ("walwriter", ThreadRole::Log),
            ("autovacuum worker", ThreadRole::Vacuum),
            ("walsender", ThreadRole::Backup),
            ("io worker", ThreadRole::IoWorker),
            ("client backend", ThreadRole::Client),
            ("parallel worker", ThreadRole::Client),
            ("TimescaleDB Background Worker Launcher", ThreadRole::Other),
        ] {
            assert_eq!(by_backend_type(name), role, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_title_is_read_or_refused(title in "(postgres: )?\\PC*") {
            let _ = (by_title(&title), by_backend_type(&title));
        }
    }
}
