//! Ports for throw-away servers.

use std::{
    net::TcpListener,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below those that the kernel gives to connections: between the look and the server's start nobody takes one.
const FIRST: u32 = 10_000;
const COUNT: u32 = 10_000;

/// A port on which nobody listens, and that no other test of this process was given.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Two clusters of one test have this module each, and each its own count.
    let module =
        module_path!().bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let begin = process::id().wrapping_mul(97).wrapping_add(module);
    let mut candidates = std::iter::repeat_with(|| {
        let next = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        u16::try_from(FIRST + next % COUNT).unwrap()
    });
    candidates.by_ref().take(1000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}
