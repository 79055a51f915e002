//! A proxy on the way to a receiver: it keeps what went by.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Ends when it is dropped.
pub struct Proxy {
    pub port: u16,
    seen: Arc<Mutex<Vec<u8>>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Passes one connection on to a port of this host.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (client, _) = listener.accept().await.expect("a connection");
            let server = TcpStream::connect(("127.0.0.1", to)).await.expect("the receiver");
            let ((mut from, mut back), (mut answers, mut on)) = (client.into_split(), server.into_split());
            let upward = async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read @ 1..) = from.read(&mut buffer).await {
                    kept.lock().unwrap().extend_from_slice(&buffer[..read]);
                    on.write_all(&buffer[..read]).await.expect("the receiver reads");
                }
            };
            tokio::join!(upward, async { tokio::io::copy(&mut answers, &mut back).await.ok() });
        });
        Self { port, seen, _tasks: tasks }
    }

    /// Whether these bytes went by, in one piece.
    pub fn saw(&self, bytes: &[u8]) -> bool {
        self.seen.lock().unwrap().windows(bytes.len()).any(|window| window == bytes)
    }
}
