//! Tests of what the kernel is told to watch, with a kernel that has room for so many and no more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{io, time::Duration};

use blameio_pipeline::{ServerPublisher, WatchedProcess, WatchedThread};
use tokio::time::timeout;

use super::*;

/// Shorter than anybody notices, longer than a poll takes.
const A_WHILE: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Small {
    room: usize,
    dead: HashSet<u32>,
    processes: HashMap<u32, (u16, u8)>,
    roles: HashMap<u32, u8>,
    threads: HashSet<u32>,
    attempts: usize,
}

impl Watcher for Small {
    fn watch_process(&mut self, tgid: u32, server: u16, role: u8, _: PageFormat) -> Result<(), ProbeError> {
        self.attempts += 1;
        if self.dead.contains(&tgid) {
            return Err(ProbeError::Gone { kind: "process", id: tgid });
        }
        if self.processes.len() >= self.room && !self.processes.contains_key(&tgid) {
            let source = io::Error::from_raw_os_error(libc::E2BIG);
            return Err(ProbeError::Map { map: "processes", action: "write", source });
        }
        self.processes.insert(tgid, (server, role));
        Ok(())
    }

    fn forget_process(&mut self, tgid: u32) {
        self.processes.remove(&tgid);
    }

    fn give_role(&mut self, tid: u32, role: u8) -> Result<(), ProbeError> {
        self.roles.insert(tid, role);
        Ok(())
    }

    fn take_role(&mut self, tid: u32) {
        self.roles.remove(&tid);
    }

    fn watch_thread(&mut self, tid: u32) -> Result<(), ProbeError> {
        self.threads.insert(tid);
        Ok(())
    }

    fn forget_thread(&mut self, tid: u32) {
        self.threads.remove(&tid);
    }
}

fn server(name: &str) -> (ServerPublisher, WatchedServer) {
    WatchedServer::new(name.parse().unwrap())
}

fn view(pids: &[u32], critical: &[u32]) -> ServerView {
    let role = ThreadRole::from_code(1);
    let processes = pids.iter().map(|pid| WatchedProcess { pid: *pid, role }).collect();
    ServerView { processes, critical: critical.to_vec(), ..ServerView::default() }
}

#[tokio::test]
async fn a_publisher_that_is_gone_neither_ends_the_wait_nor_the_agent() {
    let (gone, first) = server("postgresql/first");
    let (publisher, second) = server("postgresql/second");
    let mut watch = Watch::new(vec![first, second]);
    drop(gone);
    let waits = timeout(A_WHILE, async {
        // Woken while it waits, with a future that has finished before.
        tokio::join!(watch.changed(), async {
            tokio::task::yield_now().await;
            publisher.publish(view(&[1], &[]));
        })
    });
    assert!(waits.await.is_ok());
    drop(publisher);
    assert!(timeout(A_WHILE, watch.changed()).await.is_err(), "nobody is left to wait for");
}

#[test]
fn what_found_no_room_is_tried_again_and_what_is_known_is_not() {
    let (publisher, watched) = server("postgresql");
    let mut watch = Watch::new(vec![watched]);
    let mut kernel = Small { room: 2, dead: HashSet::from([9]), ..Small::default() };
    publisher.publish(view(&[1, 2, 3, 9], &[]));
    watch.apply(&mut kernel);
    assert_eq!((kernel.processes.len(), kernel.attempts, watch.processes.refused.len()), (2, 4, 1));
    watch.apply(&mut kernel);
    assert_eq!(
        (kernel.attempts, watch.processes.known.len()),
        (6, 2),
        "the one that did not fit and the dead one"
    );
    let fitted = *kernel.processes.keys().next().unwrap();
    let rest: Vec<u32> = [1, 2, 3].into_iter().filter(|pid| *pid != fitted).collect();
    publisher.publish(view(&rest, &[]));
    watch.apply(&mut kernel);
    let mut found: Vec<u32> = kernel.processes.keys().copied().collect();
    found.sort_unstable();
    assert_eq!(found, rest);
    assert!(watch.processes.refused.is_empty());
}

#[test]
fn what_the_kernel_lost_or_ended_is_told_of_again() {
    let (publisher, watched) = server("postgresql");
    let mut watch = Watch::new(vec![watched]);
    let mut kernel = Small { room: 9, ..Small::default() };
    publisher.publish(view(&[1, 2], &[7]));
    watch.apply(&mut kernel);
    // Number 1 was given to a child, which begins without a role.
    watch.compare(&[(1, 0, 0), (2, 0, 1)], &[]);
    watch.apply(&mut kernel);
    assert_eq!((kernel.attempts, kernel.processes[&1]), (3, (0, 1)));

    watch.exited(&[7], &mut kernel);
    assert!(kernel.threads.is_empty() && watch.server_of(7).is_none());
    watch.apply(&mut kernel);
    assert_eq!(watch.server_of(7), Some(0));
}

#[test]
fn the_roles_of_threads_follow_the_view_and_the_kernel() {
    let (publisher, watched) = server("mysql");
    let mut watch = Watch::new(vec![watched]);
    let mut kernel = Small { room: 9, ..Small::default() };
    let publish = |roles: &[(u32, ThreadRole)]| {
        let threads = roles.iter().map(|(tid, role)| WatchedThread { tid: *tid, role: *role }).collect();
        publisher.publish(ServerView { threads, ..view(&[1], &[7]) });
    };
    let told = |kernel: &Small| {
        let mut told: Vec<_> = kernel.roles.iter().map(|(tid, role)| (*tid, *role)).collect();
        told.sort_unstable();
        told
    };
    publish(&[(7, ThreadRole::Apply), (8, ThreadRole::Purge)]);
    watch.apply(&mut kernel);
    assert_eq!(told(&kernel), [(7, ThreadRole::Apply.code()), (8, ThreadRole::Purge.code())]);
    publish(&[(7, ThreadRole::Client), (9, ThreadRole::Apply)]);
    watch.apply(&mut kernel);
    assert_eq!(told(&kernel), [(7, ThreadRole::Client.code()), (9, ThreadRole::Apply.code())]);
    // Thread 9 has ended, and its number was given to another of the same role.
    kernel.roles.remove(&9);
    watch.compare(&[(1, 0, 1)], &[(7, ThreadRole::Client.code())]);
    watch.apply(&mut kernel);
    assert_eq!(kernel.roles.get(&9), Some(&ThreadRole::Apply.code()));
}
