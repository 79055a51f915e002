//! What an account must be granted, as SQL that can be copied.

use super::connect::About;

/// What is granted, and what is lost without it.
pub(super) struct Grant {
    /// The statement whose failure shows that it is missing.
    pub(super) probe: &'static str,
    mariadb: &'static str,
    mysql: &'static str,
    pub(super) lost: &'static str,
}

pub(super) const POSITIONS: Grant = Grant {
    probe: super::positions::REPLICA_STATUS[0],
    mariadb: "SLAVE MONITOR",
    mysql: "REPLICATION CLIENT",
    lost: "the positions of the replica cannot be seen, so there is no lag",
};
pub(super) const PROCESSES: Grant = Grant {
    probe: "SELECT trx_id FROM information_schema.innodb_trx LIMIT 1",
    mariadb: "PROCESS",
    mysql: "PROCESS",
    lost: "the applier's thread, the roles of others, the names of indexes and who holds a lock cannot be seen",
};
pub(super) const THREADS: Grant = Grant {
    probe: "SELECT thread_os_id FROM performance_schema.threads LIMIT 1",
    mariadb: "SELECT",
    mysql: "SELECT",
    lost: "the applier's thread and the roles of others cannot be seen",
};
impl Grant {
    /// What mends it.
    pub(super) fn sql(&self, about: &About) -> String {
        let (privilege, on) = match (about.is_mariadb, self.probe == THREADS.probe) {
            (true, _) => (self.mariadb, "*.*"),
            (false, false) => (self.mysql, "*.*"),
            (false, true) => (self.mysql, "performance_schema.*"),
        };
        format!("{ON_THE_PRIMARY}: GRANT {privilege} ON {on} TO {};", account(about))
    }
}

/// Where SQL about accounts is run: on a replica it would make the two differ.
const ON_THE_PRIMARY: &str = "on the primary (a replica has it by replication)";

/// All that the agent can use.
pub(super) fn all(about: &About) -> String {
    let account = account(about);
    if about.is_mariadb {
        format!("{ON_THE_PRIMARY}: GRANT SLAVE MONITOR, BINLOG MONITOR, PROCESS ON *.* TO {account};")
    } else {
        format!(
            "{ON_THE_PRIMARY}: GRANT REPLICATION CLIENT, PROCESS ON *.* TO {account}; GRANT SELECT ON \
             performance_schema.* TO {account};"
        )
    }
}

/// An account as SQL needs it.
pub(super) fn account(about: &About) -> String {
    match about.account.rsplit_once('@') {
        Some((user, host)) => format!("{}@{}", quote(user), quote(host)),
        None => quote(&about.account),
    }
}

/// A name as SQL needs it.
pub(super) fn quote(name: &str) -> String {
    format!("'{}'", name.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_can_be_copied() {
        let about = |is_mariadb| About {
            connection: 1,
            version: String::new(),
            is_mariadb,
            server_id: 1,
            account: "bl'ame@io@%".to_owned(),
        };
        let sql = POSITIONS.sql(&about(true));
        assert!(sql.ends_with(": GRANT SLAVE MONITOR ON *.* TO 'bl''ame@io'@'%';"), "{sql}");
        assert!(THREADS.sql(&about(false)).contains("GRANT SELECT ON performance_schema.* TO"));
        assert!(all(&about(false)).contains("REPLICATION CLIENT, PROCESS ON *.*"));
        assert!(all(&about(true)).contains("BINLOG MONITOR"));
    }
}
