//! Ways to hold a `MariaDB` replica up that need no slow disk. Each is undone by its guard.

use mysql_async::Conn;

use crate::lab::LabError;

use super::sql::{self, Access};

/// A transaction on the replica that has locked every row of a table: the applier waits until this is dropped, or for
/// `innodb_lock_wait_timeout`, after which it tries again.
#[derive(Debug)]
pub struct RowLock {
    holder: Conn,
}

impl RowLock {
    /// Takes the locks.
    pub async fn hold(replica: &Access, table: &str) -> Result<Self, LabError> {
        let mut holder = sql::connect(replica).await?;
        for statement in ["BEGIN", &format!("SELECT COUNT(*) FROM {table} FOR UPDATE")] {
            sql::execute(&mut holder, statement).await?;
        }
        Ok(Self { holder })
    }

    /// Number of the connection that is in the way.
    pub fn connection(&self) -> u32 {
        self.holder.id()
    }
}
