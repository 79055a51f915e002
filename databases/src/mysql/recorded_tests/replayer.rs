//! A server that speaks the protocol and knows nothing but what was recorded.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use super::{
    packet,
    tape::{Answer, Tape, plain},
};

#[derive(Debug, Default)]
struct Shared {
    tape: Tape,
    scene: AtomicUsize,
    /// How often an answer was given, by scene and statement.
    given: Mutex<HashMap<(usize, String), usize>>,
    asked: Mutex<BTreeSet<String>>,
    unknown: Mutex<BTreeSet<String>>,
}

pub(super) struct Replayer {
    pub(super) port: u16,
    shared: Arc<Shared>,
}

impl Replayer {
    pub(super) async fn start(tape: Tape) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { tape, ..Shared::default() });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { port, shared }
    }

    pub(super) fn enter(&self, scene: &str) {
        let place = self.shared.tape.scenes.iter().position(|known| known == scene);
        self.shared.scene.store(place.unwrap_or_else(|| panic!("no scene {scene}")), Ordering::Relaxed);
    }

    pub(super) fn note(&self, name: &str) -> String {
        self.shared.tape.notes.get(name).cloned().unwrap_or_default()
    }

    /// Statements that were asked and have not been recorded.
    pub(super) fn unknown(&self) -> Vec<String> {
        self.shared.unknown.lock().unwrap().iter().cloned().collect()
    }

    /// Statements that were recorded and not asked.
    pub(super) fn unasked(&self) -> Vec<String> {
        let asked = self.shared.asked.lock().unwrap();
        self.shared.tape.statements.keys().filter(|sql| !asked.contains(*sql)).cloned().collect()
    }
}

const QUIT: u8 = 1;
const QUERY: u8 = 3;
const PING: u8 = 14;

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let version = shared.tape.notes.get("greeting").cloned().unwrap_or_default();
    if !packet::write(&mut stream, 0, &packet::greeting(&version)).await
        || packet::read(&mut stream).await.is_none()
        || !packet::write(&mut stream, 2, packet::OK).await
    {
        return;
    }
    while let Some((_, command)) = packet::read(&mut stream).await {
        let answer = match command.split_first() {
            Some((&QUERY, sql)) => answer(&shared, &String::from_utf8_lossy(sql)),
            Some((&PING, _)) => packet::framed(1, packet::OK),
            None | Some((&QUIT, _)) => return,
            Some((other, _)) => answer(&shared, &format!("command {other}")),
        };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// The next answer to a statement.
fn answer(shared: &Shared, sql: &str) -> Vec<u8> {
    let (scene, sql) = (shared.scene.load(Ordering::Relaxed), plain(sql));
    shared.asked.lock().unwrap().insert(sql.clone());
    let mut given = shared.given.lock().unwrap();
    let given = given.entry((scene, sql.clone())).or_default();
    if let Some(answer) = shared.tape.answer(&sql, scene, *given) {
        *given += 1;
        return packet::written(answer);
    }
    let scene = shared.tape.scenes.get(scene).cloned().unwrap_or_default();
    shared.unknown.lock().unwrap().insert(format!("{scene}: {sql}"));
    packet::written(&Answer::Error(9_999, "HY000".to_owned(), "not recorded".to_owned()))
}
