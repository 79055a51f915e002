//! The task that writes beats on one server, whatever its role is at the moment.

use std::{sync::Arc, time::Instant};

use blameio_databases::{BeatWriter, DatabaseError, NotWritable, Written};
use tokio::time::{Instant as Clock, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    HeartbeatSettings,
    pace::{Change, Pace},
    published::{Published, Writers},
};

/// What was last said of a server, so that it is said once.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Writes,
    Not(NotWritable),
    Failed(String),
}

pub(super) async fn run(
    primary: String,
    mut writer: BeatWriter,
    published: Arc<Published>,
    writers: Arc<Writers>,
    settings: HeartbeatSettings,
    end: CancellationToken,
) {
    let mut pace = Pace::new(settings.interval, settings.max_share, Clock::now());
    let mut said = Said::Nothing;
    let mut number = 0;
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = sleep_until(pace.due()) => {}
        }
        number += 1;
        let beat = published.beat(number, pace.current());
        let written = tokio::select! {
            () = end.cancelled() => return,
            written = writer.write(&beat) => written,
        };
        let now = Clock::now();
        match written {
            Ok(Written::At { at, took }) => {
                if let Some(change) = pace.wrote(now, took) {
                    tell_pace(&primary, &settings, change);
                }
                published.wrote(number, at.min(Instant::now()), pace.current());
                writers.ring();
                tell(&primary, &mut said, Said::Writes);
            }
            Ok(Written::Not(why)) => {
                published.wrote_nothing();
                pace.not_writable(now);
                tell(&primary, &mut said, Said::Not(why));
            }
            Err(error) => {
                published.wrote_nothing();
                pace.failed(now);
                tell(&primary, &mut said, Said::Failed(explained(error.root(), settings.create)));
            }
        }
    }
}

fn explained(error: &DatabaseError, create: bool) -> String {
    match error {
        DatabaseError::Heartbeat { .. } if !create => {
            format!("{error} Or set `create: true`, where the account may do that")
        }
        _ => error.to_string(),
    }
}

fn tell(primary: &str, said: &mut Said, now: Said) {
    if *said == now {
        return;
    }
    match &now {
        Said::Nothing => {}
        Said::Writes => tracing::info!(database = %primary, "beats are written"),
        Said::Not(NotWritable::Replica) => {
            tracing::info!(
                database = %primary,
                "no beats are written: it is a replica (one that was promoted says so until RESET SLAVE ALL or RESET REPLICA ALL); \
                 they begin when it is none"
            );
        }
        Said::Not(NotWritable::ReadOnly) => {
            tracing::info!(database = %primary, "no beats are written: it is read-only; they begin when it is not");
        }
        Said::Failed(error) => {
            tracing::warn!(database = %primary, %error, "no beats can be written; it is tried again");
        }
    }
    *said = now;
}

fn tell_pace(primary: &str, settings: &HeartbeatSettings, change: Change) {
    let (interval, share) = (settings.interval, settings.max_share);
    match change {
        Change::Slower(cost, now) => tracing::warn!(
            database = %primary,
            "a beat takes {cost:.1?} of the server, more than max_share ({share}) of the interval of {interval:?}; \
             one is written every {now:.1?} meanwhile"
        ),
        Change::AsAskedFor => {
            tracing::info!(database = %primary, "beats are written every {interval:?} again");
        }
    }
}
