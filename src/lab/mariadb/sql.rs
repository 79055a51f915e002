//! The statements that the laboratory sends to its `MariaDB` servers, over their sockets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder, Row};

use crate::lab::LabError;

/// The laboratory's own account; it may do everything and has no password.
pub const ACCOUNT: &str = "lab";

const POLL: Duration = Duration::from_millis(20);

/// Where a server is reached, and as whom.
#[derive(Clone, Debug)]
pub struct Access {
    pub(super) user: &'static str,
    pub(super) socket: PathBuf,
}

/// A place in a primary's binary log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file's name.
    pub file: String,
    /// Offset of its end.
    pub offset: u64,
}

impl Position {
    /// The file's number, then the offset: grows with the log.
    pub fn order(&self) -> (u64, u64) {
        let number = self.file.rsplit('.').next().and_then(|number| number.parse().ok());
        (number.unwrap_or_default(), self.offset)
    }
}

/// Connects.
pub async fn connect(access: &Access) -> Result<Conn, LabError> {
    let options = OptsBuilder::default()
        .user(Some(access.user))
        .socket(access.socket.to_str())
        .prefer_socket(false)
        .tcp_port(0);
    Conn::new(options).await.map_err(LabError::mysql(format!("connect to {}", access.socket.display())))
}

/// Runs one statement that returns nothing of interest.
pub async fn execute(client: &mut Conn, statement: &str) -> Result<(), LabError> {
    client.query_drop(statement).await.map_err(LabError::mysql(statement))
}

pub(super) async fn accounts(root: &mut Conn) -> Result<(), LabError> {
    // Not written to the log, which a replica would read.
    execute(root, "SET SESSION sql_log_bin = 0").await?;
    execute(root, &format!("CREATE USER '{ACCOUNT}'@'%', '{ACCOUNT}'@'localhost'")).await?;
    let grant = format!("GRANT ALL ON *.* TO '{ACCOUNT}'@'%', '{ACCOUNT}'@'localhost' WITH GRANT OPTION");
    execute(root, &grant).await
}

/// The end of a primary's log.
pub async fn position(primary: &mut Conn) -> Result<Position, LabError> {
    let statement = "SHOW MASTER STATUS";
    let row: Option<Row> = primary.query_first(statement).await.map_err(LabError::mysql(statement))?;
    read(row, "File", "Position")
}

/// What a replica has applied of its primary's log.
pub async fn applied(replica: &mut Conn) -> Result<Position, LabError> {
    let statement = "SHOW SLAVE STATUS";
    let row: Option<Row> = replica.query_first(statement).await.map_err(LabError::mysql(statement))?;
    read(row, "Relay_Master_Log_File", "Exec_Master_Log_Pos")
}

fn read(row: Option<Row>, file: &str, offset: &str) -> Result<Position, LabError> {
    let read = row.and_then(|row| Some(Position { file: row.get(file)?, offset: row.get(offset)? }));
    read.ok_or_else(|| LabError::Workload { reason: "the server tells no position of its log".to_owned() })
}

pub(super) async fn replicate(replica: &mut Conn, port: u16, start: &Position) -> Result<(), LabError> {
    let Position { file, offset } = start;
    let change = format!(
        "CHANGE MASTER TO master_host = '127.0.0.1', master_port = {port}, master_user = '{ACCOUNT}', \
         master_log_file = '{file}', master_log_pos = {offset}, master_use_gtid = no, master_connect_retry = 1"
    );
    execute(replica, &change).await?;
    execute(replica, "START SLAVE").await
}

/// Waits until the replica has applied `target`.
pub async fn wait_applied(replica: &mut Conn, target: &Position, deadline: Duration) -> Result<(), LabError> {
    let end = Instant::now() + deadline;
    while applied(replica).await?.order() < target.order() {
        if Instant::now() > end {
            return Err(LabError::Deadline { what: "the replica to catch up".to_owned(), waited: deadline });
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// What a server with `performance_schema` says of the time that it spent with tables and their indexes: picoseconds by
/// (table, `table.index`).
pub async fn table_io_waits(client: &mut Conn) -> Result<BTreeMap<(String, String), i64>, LabError> {
    let statement = "SELECT object_name, COALESCE(CONCAT(object_name, '.', index_name), ''), CAST(sum_timer_wait AS SIGNED) \
                     FROM performance_schema.table_io_waits_summary_by_index_usage \
                     WHERE object_schema = 'shop' AND sum_timer_wait > 0";
    let rows: Vec<(String, String, i64)> =
        client.query(statement).await.map_err(LabError::mysql(statement))?;
    Ok(rows.into_iter().map(|(table, index, time)| ((table, index), time)).collect())
}
