//! A laboratory: throw-away `PostgreSQL` and `MariaDB` servers, a slow disk and workloads whose lag has one known cause.
//!
//! `blameio demo` and the integration tests use it. Nothing here belongs to the agent's work on a real server:
//! no module of the agent calls it, and it touches only the directory, the loop device and the cgroup that it
//! made itself.
//!
//! Everything is taken down by `Drop`. Nothing here catches signals: a command that wants Ctrl-C to clean up
//! waits for the signal itself and then drops the [`Lab`]. When the process ends without `Drop`, as by SIGKILL,
//! a shell that waits for this takes the laboratory down; parts used without a [`Lab`] have no such guard.

pub mod binaries;
pub mod cache;
pub mod cluster;
mod command;
pub mod control_group;
pub mod disk;
pub mod error;
pub mod ground_truth;
pub mod injection;
pub mod interventions;
mod last_will;
mod link;
pub mod mariadb;
pub mod options;
mod owner;
mod place;
pub mod process;
pub mod processor;
pub mod recorder;
pub mod rival;
pub mod scenario;
pub mod schema;
mod server;
pub mod settings;
pub mod sql;
mod tables;
pub mod throttle;
pub mod verdict;
pub mod workload;

pub use binaries::Binaries;
pub use cluster::{Cluster, StopMode};
pub use disk::{BlockDevice, SlowDisk};
pub use error::LabError;
pub use ground_truth::GroundTruth;
pub use interventions::{LockConflict, StoppedProcess};
pub use link::Link;
pub use options::{LabOptions, Storage};
pub use place::directory;
pub use processor::{Busy, Quota};
pub use recorder::{Recorder, Row, Tick};
pub use rival::{Rival, Scan};
pub use scenario::Lab;
pub use schema::Schema;
pub use settings::Settings;
pub use throttle::{Limit, Throttle};
pub use verdict::{Culprit, Verdict};
pub use workload::{Updates, Workload};
