//! One life of a node: its process, what it reports, and what it is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_wire::Mono;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use crate::node_socket::{NodeConnection, Report, Word};
use crate::process::{Ended, Process, raw};

/// Words that wait for a node.
const WORDS: usize = 16;

/// The pause between attempts to connect with a node that does not listen yet.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// How long a word may take on its way to the node.
const WORD_LIMIT: Duration = Duration::from_secs(5);

/// How long what a process said last may take after its end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What happened in a life.
#[derive(Debug)]
pub(crate) enum Happening {
    Report(Report),
    Ended(Ended),
}

/// Which life of which node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LifeId {
    pub(crate) node: String,
    pub(crate) number: u64,
}

/// One life of a node's process, as its fleet has it.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) number: u64,
    /// Until it has ended.
    pub(crate) pid: Option<u32>,
    words: mpsc::Sender<Word>,
    kill: Option<oneshot::Sender<()>>,
    pub(crate) report: Option<Report>,
    /// When that came.
    pub(crate) reported: Option<Mono>,
    /// The end of this pipe is the end of a node that is tied to its agent.
    _tie: Option<std::process::ChildStdin>,
}

impl Life {
    /// Follows a process to its end.
    pub(crate) fn follow(
        id: LifeId,
        process: Process,
        tie: Option<std::process::ChildStdin>,
        socket: PathBuf,
        happenings: mpsc::Sender<(LifeId, Happening)>,
    ) -> Self {
        let (words, heard) = mpsc::channel(WORDS);
        let (kill, killed) = oneshot::channel();
        let life = Self {
            number: id.number,
            pid: Some(process.pid()),
            words,
            kill: Some(kill),
            report: None,
            reported: None,
            _tie: tie,
        };
        tokio::spawn(run(id, process, socket, heard, killed, happenings));
        life
    }

    /// Tells the node a word.
    pub(crate) fn tell(&self, word: Word) {
        // A node that takes nothing has heard enough.
        let _ = self.words.try_send(word);
    }

    /// Kills the process.
    pub(crate) fn kill(&mut self) {
        if let Some(kill) = self.kill.take() {
            let _ = kill.send(());
        }
    }
}

async fn run(
    id: LifeId,
    process: Process,
    socket: PathBuf,
    words: mpsc::Receiver<Word>,
    killed: oneshot::Receiver<()>,
    happenings: mpsc::Sender<(LifeId, Happening)>,
) {
    let is_over = Arc::new(AtomicBool::new(false));
    let talk = Talk {
        id: id.clone(),
        pid: process.pid(),
        socket,
        happenings: happenings.clone(),
        is_over: Arc::clone(&is_over),
    };
    let mut talk = tokio::spawn(talk.run(words));
    let ended = tokio::select! {
        ended = process.ended() => ended,
        Ok(()) = killed => {
            process.kill();
            process.ended().await
        }
    };
    is_over.store(true, Ordering::Relaxed);
    if tokio::time::timeout(LAST_WORDS, &mut talk).await.is_err() {
        talk.abort();
    }
    let _ = happenings.send((id, Happening::Ended(ended))).await;
}

/// What is said between an agent and a node.
struct Talk {
    id: LifeId,
    pid: u32,
    socket: PathBuf,
    happenings: mpsc::Sender<(LifeId, Happening)>,
    is_over: Arc<AtomicBool>,
}

impl Talk {
    /// Connects again and again until the process has ended.
    async fn run(self, mut words: mpsc::Receiver<Word>) {
        loop {
            let connection = NodeConnection::open(&self.socket).ok().flatten();
            // Another process that listens there is another life's.
            match connection.filter(|connection| raw(connection.pid) == self.pid) {
                Some(connection) => self.with(connection, &mut words).await,
                None if self.is_over.load(Ordering::Relaxed) => return,
                None => tokio::time::sleep(CONNECT_PAUSE).await,
            }
        }
    }

    async fn with(&self, connection: NodeConnection, words: &mut mpsc::Receiver<Word>) {
        let Ok((mut reports, mut writer)) = connection.split() else {
            return;
        };
        loop {
            tokio::select! {
                report = reports.next() => {
                    let Some(report) = report else { return };
                    let happening = Happening::Report(report);
                    if self.happenings.send((self.id.clone(), happening)).await.is_err() {
                        return;
                    }
                }
                Some(word) = words.recv() => {
                    let line = format!("{}\n", word.name());
                    let said = tokio::time::timeout(WORD_LIMIT, writer.write_all(line.as_bytes()));
                    if !matches!(said.await, Ok(Ok(()))) {
                        return;
                    }
                }
            }
        }
    }
}
