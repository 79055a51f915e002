//! Records what a real server answers: a wire between the agent's code and the server that listens.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use super::{
    Act, Stage, file, made,
    packet::{self, Reading},
    servers::{Flavour, Meanwhile, Scenery},
    tape::Tape,
};

/// A server that is asked over a wire that records.
pub(super) struct Recorder {
    pub(super) scenery: Scenery,
    tape: Arc<Mutex<Tape>>,
    port: u16,
}

impl Recorder {
    /// Records the server that listens on a port.
    async fn start(scenery: Scenery, server: u16) -> Self {
        let tape: Arc<Mutex<Tape>> = Arc::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (kept, meanwhile) = (Arc::clone(&tape), scenery.meanwhile.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(carry(near, far, Arc::clone(&kept), meanwhile.clone()));
            }
        });
        Self { scenery, tape, port }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) async fn enter(&mut self, scene: &str) {
        let notes = self.scenery.set(scene).await;
        let mut tape = self.tape.lock().unwrap();
        tape.enter(scene);
        tape.notes.extend(notes);
    }

    pub(super) fn note(&self, name: &str) -> String {
        self.tape.lock().unwrap().notes.get(name).cloned().unwrap_or_default()
    }
}

async fn carry(near: TcpStream, far: TcpStream, tape: Arc<Mutex<Tape>>, meanwhile: Meanwhile) {
    let (mut from_agent, mut to_agent) = near.into_split();
    let (mut from_server, mut to_server) = far.into_split();
    let (Some((number, greeting)), mut no_eof) = (packet::read(&mut from_server).await, false) else {
        return;
    };
    tape.lock().unwrap().notes.insert("greeting".to_owned(), packet::version(&greeting));
    if !packet::write(&mut to_agent, number, &greeting).await {
        return;
    }
    let Some((number, answer)) = packet::read(&mut from_agent).await else { return };
    no_eof |= u32::from_le_bytes(answer[..4].try_into().unwrap()) & packet::NO_EOF != 0;
    assert!(packet::write(&mut to_server, number, &answer).await);
    let owed: Arc<Mutex<VecDeque<String>>> = Arc::default();
    let owing = Arc::clone(&owed);
    tokio::spawn(async move {
        while let Some((number, content)) = packet::read(&mut from_agent).await {
            // Commands begin to count anew; what else is said belongs to letting the account in.
            if number == 0 && content.first() == Some(&3) {
                owing.lock().unwrap().push_back(String::from_utf8(content[1..].to_vec()).unwrap());
            }
            if !packet::write(&mut to_server, number, &content).await {
                return;
            }
        }
        drop(to_server.shutdown().await);
    });
    let mut reading = Reading::default();
    while let Some((number, content)) = packet::read(&mut from_server).await {
        let asked = owed.lock().unwrap().front().cloned();
        if let Some(sql) = asked
            && let Some(answer) = reading.take(&content, no_eof)
        {
            owed.lock().unwrap().pop_front();
            reading = Reading::default();
            tape.lock().unwrap().keep(&sql, answer);
            meanwhile.answered(&sql).await;
        }
        if !packet::write(&mut to_agent, number, &content).await {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes the recordings: BLAMEIO_RECORD names the mysqld of a MySQL 9.7, and MariaDB is installed"]
async fn answers_of_real_servers_are_recorded() {
    let mysqld = std::env::var("BLAMEIO_RECORD").expect("BLAMEIO_RECORD is set");
    record(&Flavour::mysql(PathBuf::from(mysqld)), "mysql-9.7").await;
    record(&Flavour::mariadb(), "mariadb-10.11").await;
}

async fn record(flavour: &Flavour, version: &str) {
    for act in Act::ALL.iter().filter(|act| act.is_of(flavour.is_mysql)) {
        let scenery = Scenery::start(flavour, *act).await;
        let server = scenery.asked();
        // By the server's usual plugin: by its public key where there is no TLS, and over TLS where the server has it.
        for mode in if flavour.is_mysql { ["DISABLED", "REQUIRED"] } else { ["DISABLED", "PREFERRED"] } {
            let (session, _) = made(&format!("mysql://secret:geheim@127.0.0.1:{server}/?ssl-mode={mode}"));
            assert!(session.started().await.is_ok(), "{version} with {mode}");
            session.close(false).await;
        }
        let mut stage = Stage::Live(Box::new(Recorder::start(scenery, server).await));
        act.play(&mut stage, version).await;
        let Stage::Live(recorder) = stage else { unreachable!() };
        let mut tape = recorder.tape.lock().unwrap();
        let source = format!("recorded from {}", tape.notes["greeting"]);
        tape.notes.insert("source".to_owned(), source);
        tape.write(&file(version, act.name()));
    }
}
