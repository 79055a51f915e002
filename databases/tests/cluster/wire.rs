//! A wire between the agent and a server that can be made slow or silent, as networks are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};

pub(crate) struct Wire {
    pub(crate) port: u16,
    /// Port of the server that new connections lead to.
    server: Arc<AtomicU16>,
    /// Connections up to this number carry nothing any more.
    silent: watch::Sender<usize>,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    /// Milliseconds before a new connection carries anything.
    delay: Arc<AtomicU64>,
}

impl Wire {
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            server: Arc::new(AtomicU16::new(server)),
            silent: watch::Sender::new(0),
            accepted: Arc::default(),
            open: Arc::default(),
            delay: Arc::default(),
        };
        let (accepted, open, delay) =
            (Arc::clone(&wire.accepted), Arc::clone(&wire.open), Arc::clone(&wire.delay));
        let (silent, server) = (wire.silent.subscribe(), Arc::clone(&wire.server));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let number = accepted.fetch_add(1, Ordering::SeqCst) + 1;
                open.fetch_add(1, Ordering::SeqCst);
                let (open, silent) = (Arc::clone(&open), silent.clone());
                let delay = Duration::from_millis(delay.load(Ordering::SeqCst));
                let server = server.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    sleep(delay).await;
                    carry(near, server, number, silent).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        wire
    }

    /// Connections that there have been.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Connections that the agent has not closed.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// From now on nothing passes through the connections that there are; new ones are well.
    pub(crate) fn silence(&self) {
        self.silent.send_replace(self.accepted());
    }

    /// From now on it leads to another server, as a name does after a failover; the connections that there are end.
    pub(crate) fn lead_to(&self, server: u16) {
        self.server.store(server, Ordering::SeqCst);
        self.silence();
    }

    pub(crate) fn delay(&self, delay: Duration) {
        self.delay.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

/// Ends when the agent closes the connection, silent or not.
async fn carry(mut near: TcpStream, server: u16, number: usize, mut silent: watch::Receiver<usize>) {
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
        _ = silent.wait_for(|silent| *silent >= number) => {}
    }
    let mut swallowed = [0; 4096];
    while near.read(&mut swallowed).await.is_ok_and(|read| read > 0) {}
    drop(far.shutdown().await);
}
