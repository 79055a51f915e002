//! A link between two servers that can be held: connections stay, and nothing gets through. It knows nothing of what it
//! carries.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::LabError;

const LOCALHOST: &str = "127.0.0.1";

/// Forwards connections to a port of this host until it is dropped.
#[derive(Debug)]
pub struct Link {
    port: u16,
    open: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Link {
    /// A link that is open, to the server on `to`.
    pub async fn to(to: u16) -> Result<Self, LabError> {
        let failed = |source| LabError::NotRun { program: "a link".to_owned(), source };
        let listener = TcpListener::bind((LOCALHOST, 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let (open, gate) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, to, gate));
        Ok(Self { port, open, _tasks: tasks })
    }

    /// Where it is connected to, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing gets through, in both directions.
    pub fn hold(&self) {
        self.open.send_replace(false);
    }

    /// What was held goes on.
    pub fn release(&self) {
        self.open.send_replace(true);
    }
}

async fn serve(listener: TcpListener, to: u16, gate: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let gate = gate.clone();
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect((LOCALHOST, to)).await else { return };
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::join!(
                forward(from_client, to_server, gate.clone()),
                forward(from_server, to_client, gate)
            );
        });
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if gate.wait_for(|open| *open).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
