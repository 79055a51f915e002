//! Does to the servers what the plan says, and undoes it.

use std::time::Duration;

use blameio::lab::{Lab, Limit, StopMode, cache, interventions, sql};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::sleep;

use super::{plan::Fault, primary::Primary};
use crate::bench::Outcome;

/// How long a fault stands that does not end by itself.
const LASTS: Duration = Duration::from_secs(15);

/// Reads a second of a slow disk.
const READ_IOPS: u64 = 60;

/// Injects a fault and returns when it is undone. The agent's own restart is not for here.
pub async fn inject(fault: Fault, lab: &mut Lab, primary: &mut Primary) -> Outcome<()> {
    match fault {
        Fault::ReplicaRestart => Ok(lab.restart_replica(StopMode::Fast).await?),
        Fault::ReplicaCrash => Ok(lab.restart_replica(StopMode::Immediate).await?),
        Fault::PrimaryRestart => tokio::task::block_in_place(|| primary.restart()),
        Fault::ReplicaBackendKilled => kill_backend(&lab.replica().dsn()).await,
        Fault::PrimaryBackendKilled => kill_backend(&lab.primary().dsn()).await,
        Fault::AgentCutOff => {
            cut_off(&lab.primary().dsn()).await?;
            cut_off(&lab.replica().dsn()).await
        }
        Fault::ReplayPaused => {
            // The laboratory's own connection does not outlive a crash.
            let replica = sql::connect(&lab.replica().dsn()).await?;
            interventions::pause_replay(&replica, true).await?;
            sleep(LASTS).await;
            Ok(interventions::pause_replay(&replica, false).await?)
        }
        Fault::ReceiverStopped => {
            let stopped = lab.stop_walreceiver()?;
            sleep(LASTS).await;
            drop(stopped);
            Ok(())
        }
        Fault::DiskSlow => {
            let (Some(throttle), Some(disk)) = (lab.throttle(), lab.disk()) else {
                return Err("the laboratory has no slow disk".into());
            };
            throttle.limit(disk.device(), Limit { read_iops: Some(READ_IOPS), read_bps: None })?;
            cache::evict(&cache::files_under(&lab.replica().data().join("base")))?;
            sleep(LASTS).await;
            Ok(throttle.unlimit(disk.device())?)
        }
        Fault::AgentRestart => Ok(()),
    }
}

/// The server cannot know what the dead left in shared memory: it ends everybody and recovers.
async fn kill_backend(dsn: &str) -> Outcome<()> {
    let victim = sql::connect(dsn).await?;
    let pid: i32 = victim.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    Ok(kill(Pid::from_raw(pid), Signal::SIGKILL)?)
}

async fn cut_off(dsn: &str) -> Outcome<()> {
    let client = sql::connect(dsn).await?;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'blameio'";
    Ok(sql::execute(&client, end).await?)
}
