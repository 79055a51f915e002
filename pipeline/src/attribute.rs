//! Attribute keys that are used on resources and data points: semantic conventions where one exists,
//! `blameio.*` where none does. Values of enumerations are not listed here but beside their types.

/// `server.address`: host name or address of the database server.
pub const SERVER_ADDRESS: &str = "server.address";
/// `server.port`.
pub const SERVER_PORT: &str = "server.port";
/// `service.name`: the database extension's name.
pub const SERVICE_NAME: &str = "service.name";
/// `service.instance.id`: UUID of one server instance, or of one `file_io` on one host.
pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";
/// `host.name`.
pub const HOST_NAME: &str = "host.name";
/// `host.id`.
pub const HOST_ID: &str = "host.id";
/// `db.system.name`: postgresql, mysql, mariadb.
pub const DB_SYSTEM_NAME: &str = "db.system.name";
/// `db.namespace`: `{database}|{schema}` on PostgreSQL.
pub const DB_NAMESPACE: &str = "db.namespace";
/// `db.table`: table name, the partition's root, `(unresolved)` or `(other)`.
pub const DB_TABLE: &str = "db.table";
/// `db.index`: index name; absent for the heap. Of InnoDB also `PRIMARY` or `GEN_CLUST_INDEX`, which hold the rows, and
/// `(hidden)`, where pages are compressed or encrypted as a whole.
pub const DB_INDEX: &str = "db.index";
/// `datname`, as postgres_exporter has it.
pub const DATNAME: &str = "datname";
/// `schemaname`, as postgres_exporter has it.
pub const SCHEMANAME: &str = "schemaname";
/// `relname`, as postgres_exporter has it.
pub const RELNAME: &str = "relname";
/// `indexrelname`, as postgres_exporter has it.
pub const INDEXRELNAME: &str = "indexrelname";
/// Kernel device number of a file's super block, `major:minor`.
pub const FILE_DEVICE: &str = "blameio.file.device";
/// Inode number.
pub const FILE_INODE: &str = "blameio.file.inode";
/// Inode generation: tells a reused inode number from the first owner's.
pub const FILE_GENERATION: &str = "blameio.file.generation";
/// Whose pages of a file that a table shares with its indexes, as the pages tell: the number of an InnoDB index, `blob`
/// (large values, which belong to the clustered index), or `hidden` (compressed or encrypted as a whole).
pub const FILE_INDEX: &str = "blameio.file.index";
/// Last parts of the path.
pub const FILE_PATH: &str = "blameio.file.path";
/// Kind of file: heap, index, toast, wal, …
pub const FILE_KIND: &str = "blameio.file.kind";
/// `process.pid`.
pub const PROCESS_PID: &str = "process.pid";
/// `thread.id`, of threads that replication waits for.
pub const THREAD_ID: &str = "thread.id";
/// What a thread does for its server: apply, receive, client, …
pub const THREAD_ROLE: &str = "blameio.thread.role";
/// Where a thread's wall time goes: cpu, runqueue, throttled, read, write, fsync, prefetch, wait.
pub const THREAD_STATE: &str = "blameio.thread.state";
/// read, write, extend, fsync, prefetch, truncate, fault.
pub const IO_OPERATION: &str = "blameio.io.operation";
/// `disk.io.direction`: read, write; of bytes at the device.
pub const DISK_IO_DIRECTION: &str = "disk.io.direction";
/// `system.device`: the disk below partitions, LVM and loop devices.
pub const SYSTEM_DEVICE: &str = "system.device";
/// What a waiting apply thread waits for: lock, conflict, starved, paused, delayed, order.
pub const WAIT_KIND: &str = "blameio.wait.kind";
/// Process that holds what replay waits for; of MySQL and MariaDB the number of its connection.
pub const WAIT_HOLDER: &str = "blameio.wait.holder.pid";
/// Name of the replication channel; empty on a physical replica.
pub const REPLICATION_CHANNEL: &str = "blameio.replication.channel";
/// Which part of the lag: transport or apply.
pub const LAG_STAGE: &str = "blameio.lag.stage";
/// How the lag was measured: primary, local, engine.
pub const LAG_SOURCE: &str = "blameio.lag.source";
/// fresh or stale.
pub const LAG_FRESHNESS: &str = "blameio.lag.freshness";
/// streaming, archive, paused, delayed, down, promoted.
pub const REPLICATION_STATE: &str = "blameio.replication.state";
/// Address of the server that this replica receives from.
pub const REPLICATION_UPSTREAM: &str = "blameio.replication.upstream";
/// Replication slot in use.
pub const REPLICATION_SLOT: &str = "blameio.replication.slot";
/// Timeline id.
pub const REPLICATION_TIMELINE: &str = "blameio.replication.timeline";
/// Who writes the beats that a delay is taken from: a database and the host of the agent that writes to it.
pub const HEARTBEAT_WRITER: &str = "blameio.heartbeat.writer";
/// By which clocks a heartbeat's delay is measured: agent (one clock), wall (those of two hosts).
pub const HEARTBEAT_CLOCK: &str = "blameio.heartbeat.clock";
/// Why seconds are owed: replay, cpu, lock, …
pub const BLAME_CAUSE: &str = "blameio.blame.cause";
/// Who competes, when it is not this server: another instance, a cgroup, a command.
pub const BLAME_CULPRIT: &str = "blameio.blame.culprit";
/// Which log is counted: received, applied.
pub const WORK_STAGE: &str = "blameio.work.stage";
/// What is counted: block (a reference of a log record to a block), drop (a relation that a commit removes), row (a byte of the rows that a transaction changes, as they were and as they become).
pub const WORK_KIND: &str = "blameio.work.kind";
/// none, of a table that has neither a primary key nor a unique one without NULLs: each row that is changed is looked for by reading the table.
pub const TABLE_KEY: &str = "blameio.table.key";
/// Tracepoint that a probe is attached to: sys_enter, sched_switch, …
pub const PROBE_TRACEPOINT: &str = "blameio.probe.tracepoint";
/// Why something was lost: `io map full`, …
pub const LOST_REASON: &str = "blameio.lost.reason";
