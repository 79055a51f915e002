//! Follows a server on this host by its data directory, through restarts, and publishes who it is and what its
//! processes do. Of a server elsewhere it publishes the identity alone.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use blameio_config::ComponentId;
use blameio_pipeline::{
    ServerIdentity, ServerPublisher, ServerView, ThreadRole, WatchedProcess, WatchedThread,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    Said,
    tasks::{self, Seen},
};
use crate::{
    discover::{DiscoveredServer, discover_in_background},
    engine::{Duty, Engine, Tasks},
    error::DatabaseError,
    identity::{self, ClusterId, Place},
    procfs,
};

/// How often the processes or threads are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long after the start nobody may have asked for a sample yet, and so nobody told of a server that is down.
const GRACE: Duration = Duration::from_secs(3);
/// How often a server of this host whose processes cannot be seen is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How often a remote server is asked whether it was restarted.
const REMOTE: Duration = Duration::from_mins(1);

struct Task {
    /// Its id as the server counts.
    own: u32,
    duty: Option<Duty>,
    /// How often the server was asked what it does.
    asked: u32,
}

struct Local {
    server: Arc<DiscoveredServer>,
    /// Start of the main process in clock ticks.
    started: u64,
    tasks: HashMap<u32, Task>,
}

/// Where the server is.
enum Sought {
    /// On this host, with the others that were found here.
    Here(Arc<DiscoveredServer>, Vec<Arc<DiscoveredServer>>),
    /// Not among the servers of this host; with its system identifier, where that may be seen.
    Elsewhere(Option<u64>),
}

struct Follower {
    id: ComponentId,
    engine: Arc<dyn Engine>,
    local: Option<Local>,
    identity: Option<Arc<ServerIdentity>>,
    /// Its address on this host. Once told it stays, whoever else is started or stopped.
    address: Option<String>,
    remote: bool,
    /// When a server that should be on this host was last looked for.
    looked: Option<Instant>,
    begun: Instant,
    /// What tells one incarnation from the next: main process, start time, data directory.
    mark: Option<(u32, i64, Place)>,
    incarnation: u64,
    asked_roles: Option<Instant>,
    asked_remote: Option<Instant>,
    /// What was said of looking for it, and of asking for its start.
    said_find: Said,
    said: Said,
    /// Told to who asks the primary.
    cluster: Arc<ClusterId>,
}

/// Follows one server until `end`.
pub(crate) async fn server(
    id: ComponentId,
    engine: Arc<dyn Engine>,
    primary: Option<Arc<dyn Engine>>,
    publisher: Arc<ServerPublisher>,
    cluster: Arc<ClusterId>,
    end: CancellationToken,
) {
    let mut follower = Follower {
        id,
        engine,
        local: None,
        identity: None,
        address: None,
        remote: false,
        looked: None,
        begun: Instant::now(),
        mark: None,
        incarnation: 0,
        asked_roles: None,
        asked_remote: None,
        said_find: Said::default(),
        said: Said::default(),
        cluster,
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => break,
            _ = ticks.tick() => {}
        }
        tokio::select! {
            () = end.cancelled() => break,
            () = follower.tick() => publisher.publish(follower.view()),
        }
        follower.engine.close(true).await;
        if let Some(primary) = &primary {
            primary.close(true).await;
        }
    }
}

impl Follower {
    async fn tick(&mut self) {
        let mut seen = self.look().await;
        if seen.is_none() && self.local.take().is_some() {
            tracing::info!(server = %self.id, "the server has stopped; it is waited for");
        }
        if self.local.is_none() && !self.remote {
            self.find().await;
            seen = self.look().await;
        }
        if self.remote && self.looked.is_some() {
            self.look_again().await;
            seen = self.look().await;
        }
        if self.remote {
            self.follow_remote().await;
        }
        if let Some(seen) = seen {
            self.follow_tasks(seen).await;
        }
    }

    async fn look(&self) -> Option<Vec<Seen>> {
        let local = self.local.as_ref()?;
        let tasks = self.engine.tasks();
        let times = tasks.asking().times;
        let known = local.tasks.iter().filter(|(_, task)| task.duty.is_some() || task.asked >= times);
        let known = known.map(|(id, _)| *id).collect();
        tasks::look(Arc::clone(&local.server), local.started, tasks, known).await
    }

    async fn find(&mut self) {
        const TASK: &str = "looking for the server";
        match self.seek().await {
            Ok(Sought::Here(server, found)) => {
                self.said_find.success(&self.id, TASK);
                self.found(server, &found).await;
            }
            Ok(Sought::Elsewhere(identifier)) => {
                self.said_find.success(&self.id, TASK);
                self.remote = true;
                self.identify(identifier, &Place::Remote, self.engine.address());
                if self.engine.is_on_this_host().await {
                    self.looked = Some(Instant::now());
                    tracing::warn!(
                        server = %self.id,
                        "the server runs on this host, but its processes cannot be seen; run as root or with \
                         CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, in the host's pid namespace, and check data_directory if it is \
                         set; until then SQL only (a port that is forwarded to another host needs none of this)"
                    );
                } else {
                    tracing::info!(server = %self.id, "the server is not on this host: no processes, SQL only");
                }
            }
            // Said by who samples, or else by who reads the catalog.
            Err(DatabaseError::NotConfigured { .. }) => {}
            Err(error) => {
                let told = self.engine.is_sampled() || self.begun.elapsed() < GRACE;
                self.said_find.failure_unless_told(&self.id, TASK, &error, told);
            }
        }
    }

    /// Fails while a question has no answer: a server of this host that is slow to answer is not one elsewhere.
    async fn seek(&self) -> Result<Sought, DatabaseError> {
        let found = discover_in_background().await;
        if let Some(server) = self.engine.locate(&found).await? {
            return Ok(Sought::Here(server, found));
        }
        let identifier = self.engine.system_identifier().await?;
        // It may have been started between the two questions; who answers now can be seen now.
        let found = discover_in_background().await;
        let server = self.engine.locate(&found).await?;
        Ok(server.map_or(Sought::Elsewhere(identifier), |server| Sought::Here(server, found)))
    }

    /// Looks for the processes of a server whose address is one of this host.
    async fn look_again(&mut self) {
        if self.looked.is_none_or(|looked| looked.elapsed() < LOOK_AGAIN) {
            return;
        }
        let found = discover_in_background().await;
        match self.engine.locate(&found).await {
            // To be seen is not to be restarted.
            Ok(Some(server)) => {
                (self.remote, self.looked, self.mark) = (false, None, None);
                self.found(server, &found).await;
            }
            Ok(None) => self.looked = Some(Instant::now()),
            // Without an answer it is asked again at the next tick.
            Err(error) => tracing::debug!(server = %self.id, "looking for its processes: {error}"),
        }
    }

    async fn found(&mut self, server: Arc<DiscoveredServer>, found: &[Arc<DiscoveredServer>]) {
        let Some(started) = tasks::started(server.pid).await else { return };
        let (device, inode) = server.data_directory_id;
        let place = Place::Local(device, inode);
        let (host, port) = self.engine.address();
        let port = if port == 0 { server.port } else { port };
        let address =
            self.address.get_or_insert_with(|| identity::local_address(&server, (&host, port), found));
        let address = (address.clone(), port);
        self.identify(server.system_identifier, &place, address);
        self.mark_incarnation(server.pid, server.started, place);
        tracing::info!(server = %self.id, pid = server.pid, "found on this host");
        self.asked_roles = None;
        self.local = Some(Local { server, started, tasks: HashMap::new() });
    }

    fn identify(&mut self, system_identifier: Option<u64>, place: &Place, address: (String, u16)) {
        self.cluster.set(system_identifier);
        let name = if self.id.name().is_empty() { self.id.kind() } else { self.id.name() };
        let identity = identity::identity(name, self.engine.system(), system_identifier, place, address);
        self.identity = Some(Arc::new(identity));
    }

    fn mark_incarnation(&mut self, pid: u32, started: i64, place: Place) {
        let mark = Some((pid, started, place));
        if self.mark.is_some() && self.mark != mark {
            self.incarnation += 1;
        }
        self.mark = mark;
    }

    async fn follow_remote(&mut self) {
        if self.asked_remote.is_some_and(|asked| asked.elapsed() < REMOTE) {
            return;
        }
        self.asked_remote = Some(Instant::now());
        match self.engine.started().await {
            Ok(started) => {
                self.mark_incarnation(0, started, Place::Remote);
                self.said.success(&self.id, "asking for the start time");
            }
            Err(error) => self.said.failure(&self.id, "asking for the start time", &error),
        }
    }

    async fn follow_tasks(&mut self, seen: Vec<Seen>) {
        let Some(local) = &mut self.local else { return };
        let asking = self.engine.tasks().asking();
        let ids: HashSet<u32> = seen.iter().map(|seen| seen.id).collect();
        local.tasks.retain(|id, _| ids.contains(id));
        let mut unclear = false;
        for Seen { id, own, title } in seen {
            let task = local.tasks.entry(id).or_insert_with(|| Task { own, duty: None, asked: 0 });
            if task.duty.is_none() {
                task.duty = title.and_then(|title| self.engine.role_by_title(&title));
                unclear |= task.duty.is_none() && task.asked < asking.times;
            }
        }
        let due = self.asked_roles.is_none_or(|asked| {
            let elapsed = asked.elapsed();
            (unclear && elapsed >= asking.unclear) || asking.again.is_some_and(|again| elapsed >= again)
        });
        if due {
            self.asked_roles = Some(Instant::now());
            if let Ok(duties) = self.engine.roles().await {
                for task in local.tasks.values_mut() {
                    task.duty = duties.get(&task.own).copied().or(task.duty);
                    task.asked = task.asked.saturating_add(1);
                }
            }
        }
    }

    fn view(&self) -> ServerView {
        let mut view = ServerView {
            identity: self.identity.clone(),
            pages: self.engine.pages(),
            incarnation: self.incarnation,
            ..ServerView::default()
        };
        let Some(local) = &self.local else { return view };
        view.data_directory = Some(procfs::working_directory(local.server.pid));
        view.processes.push(WatchedProcess { pid: local.server.pid, role: ThreadRole::Other });
        let roles =
            local.tasks.iter().map(|(id, task)| (*id, task.duty.map_or(ThreadRole::Other, |duty| duty.role)));
        match self.engine.tasks() {
            Tasks::Processes => view.processes.extend(roles.map(|(pid, role)| WatchedProcess { pid, role })),
            Tasks::Threads => {
                let known = roles.filter(|(_, role)| *role != ThreadRole::Other);
                view.threads = known.map(|(tid, role)| WatchedThread { tid, role }).collect();
            }
        }
        let critical = local.tasks.iter().filter(|(_, task)| task.duty.is_some_and(|duty| duty.is_critical));
        view.critical = critical.map(|(id, _)| *id).collect();
        view.processes.sort_unstable_by_key(|process| process.pid);
        view.threads.sort_unstable_by_key(|thread| thread.tid);
        view.critical.sort_unstable();
        view
    }
}
