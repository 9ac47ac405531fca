//! The socket of a node: what an agent hears from a node and tells it.
//!
//! A node listens; whoever connects is sent a report every second and when the node's state changes, a JSON object on a line,
//! and may send words, a line each. Whoever says [`METRICS`] is sent the node's metrics, on a line of their own. Connections come and go and mean nothing to the node. The kernel says which process listens, so an agent that
//! has just started finds the processes of the one before it without any file that could be out of date.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use muster_gateway::status::NodeStatus;
use muster_gateway::{Metrics, Monitored};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, geteuid};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::place::is_short_directory;

/// Connections at once: an agent, its successor, a person.
const CONNECTIONS: usize = 8;

/// Words that wait for the node.
const WORDS: usize = 16;

/// The longest word in bytes.
const LONGEST_WORD: u64 = 64;

/// The longest report in bytes. One of 1,000 peers and 1,000 stores has about 1 MiB.
const LONGEST_REPORT: u64 = 16 << 20;

/// How long whoever is connected may take for a report.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// How long the last report may take.
const LAST_REPORT: Duration = Duration::from_secs(1);

/// The pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a node is asked for its metrics with.
const METRICS: &str = "metrics";

/// The lines that may come before the answer: reports.
const LINES_BEFORE: usize = 64;

/// A node's answer about its metrics.
#[derive(Debug, Serialize, Deserialize)]
struct MetricsLine {
    metrics: Metrics,
}

/// What a node's metrics are asked of, as soon as it runs.
type Source = Arc<OnceLock<Arc<dyn Monitored>>>;

/// What a node is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Stop in order.
    Stop,
    /// Open the files anew that others may have moved away.
    Reopen,
    /// Use the certificate that is in the node's files by now.
    Certificates,
}

impl Word {
    const ALL: [Self; 3] = [Self::Stop, Self::Reopen, Self::Certificates];

    /// Returns it as it is sent.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Reopen => "reopen",
            Self::Certificates => "certificates",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|word| word.name() == text)
    }
}

/// Why a node has no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeSocketError {
    /// Another process of the node runs.
    #[error("the node runs already: somebody listens on {0}")]
    Taken(PathBuf),
    /// The system refused.
    #[error("cannot listen on {path}: {source}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A node's socket, as the node has it. Its file is removed when this is dropped.
pub struct NodeSocket {
    file: SocketFile,
    words: mpsc::Receiver<Word>,
    source: Source,
    reports: watch::Sender<Option<Arc<str>>>,
    serving: tokio::task::JoinHandle<JoinSet<()>>,
}

impl std::fmt::Debug for NodeSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeSocket")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl NodeSocket {
    /// Listens. Only the node's own user and root are heard.
    ///
    /// # Errors
    ///
    /// Fails if another process listens there, or the system refuses.
    pub fn listen(path: &Path) -> Result<Self, NodeSocketError> {
        let failed = |source| NodeSocketError::Listen {
            path: path.to_owned(),
            source,
        };
        match connect(path) {
            Err(Errno::AGAIN) | Ok(_) => return Err(NodeSocketError::Taken(path.to_owned())),
            Err(_) => {}
        }
        let (listener, file) = SocketFile::bind(path, 0o600).map_err(failed)?;
        let (sender, words) = mpsc::channel(WORDS);
        let (reports, latest) = watch::channel(None);
        let source = Source::default();
        let serving = tokio::spawn(serve(listener, sender, latest, Arc::clone(&source)));
        Ok(Self {
            file,
            words,
            source,
            reports,
            serving,
        })
    }

    /// Waits for the next word.
    pub async fn word(&mut self) -> Word {
        match self.words.recv().await {
            Some(word) => word,
            // Nobody is heard any more; a node goes on without.
            None => std::future::pending().await,
        }
    }

    /// Has whoever asks for the node's metrics told them. Before that nobody is answered.
    pub fn tell_metrics_of(&self, node: Arc<dyn Monitored>) {
        let _ = self.source.set(node);
    }

    /// How many are connected.
    pub fn listeners(&self) -> usize {
        // One receiver is the acceptor's.
        self.reports.receiver_count().saturating_sub(1)
    }

    /// Reports to whoever is connected. Costs nothing if nobody is.
    pub fn report(&self, status: impl FnOnce() -> NodeStatus) {
        if self.listeners() > 0 {
            self.reports.send_replace(line(&status()));
        }
    }

    /// Reports for the last time and ends, when everybody has heard it or has taken too long.
    pub async fn close(self, status: &NodeStatus) {
        self.reports.send_replace(line(status));
        drop(self.reports);
        let said = async {
            if let Ok(mut connections) = self.serving.await {
                while connections.join_next().await.is_some() {}
            }
        };
        let _ = tokio::time::timeout(LAST_REPORT, said).await;
        drop(self.file);
    }
}

fn line(said: &impl Serialize) -> Option<Arc<str>> {
    // Plain structs with text for keys become JSON in any case.
    let mut line = serde_json::to_string(said).ok()?;
    line.push('\n');
    Some(line.into())
}

/// Accepts until there are no more reports; returns the connections that are left.
async fn serve(
    listener: UnixListener,
    words: mpsc::Sender<Word>,
    mut reports: watch::Receiver<Option<Arc<str>>>,
    source: Source,
) -> JoinSet<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            changed = reports.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return connections,
            },
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            // Too many open files, as a rule: it passes.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let (words, reports) = (words.clone(), reports.clone());
        let source = Arc::clone(&source);
        connections.spawn(async move {
            let (reader, writer) = stream.into_split();
            let asked = Notify::new();
            tokio::select! {
                () = hear(reader, words, &asked) => {}
                () = tell(writer, reports, &asked, &source) => {}
            }
            drop(place);
        });
    }
}

/// Passes words on to the node until the other side ends.
async fn hear(reader: OwnedReadHalf, words: mpsc::Sender<Word>, asked: &Notify) {
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    loop {
        line.clear();
        match (&mut reader).take(LONGEST_WORD).read_line(&mut line).await {
            Ok(1..) => {}
            _ => return,
        }
        if line.trim() == METRICS {
            asked.notify_one();
            continue;
        }
        let Some(word) = Word::parse(line.trim()) else {
            tracing::warn!("heard what is no word on the node's socket");
            return;
        };
        if words.send(word).await.is_err() {
            // The node ends; what it reports last is still to be said.
            return std::future::pending().await;
        }
    }
}

/// Sends reports, and metrics when somebody asks for them, until there are no more or the other side takes none.
async fn tell(
    mut writer: OwnedWriteHalf,
    mut reports: watch::Receiver<Option<Arc<str>>>,
    asked: &Notify,
    source: &Source,
) {
    reports.mark_changed();
    loop {
        let said = tokio::select! {
            changed = reports.changed() => match changed {
                Ok(()) => reports.borrow_and_update().clone(),
                Err(_) => break,
            },
            () = asked.notified() => source.get().and_then(|node| {
                let metrics = node.metrics().metrics();
                line(&MetricsLine { metrics })
            }),
        };
        let Some(said) = said else {
            continue;
        };
        let written = tokio::time::timeout(WRITE_LIMIT, writer.write_all(said.as_bytes())).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
    let _ = writer.shutdown().await;
}

/// Connects without waiting, so that a process that is stuck holds up nobody: while the queue of who listens is full, this
/// fails with [`Errno::AGAIN`].
fn connect(path: &Path) -> Result<StdStream, Errno> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(StdStream::from(socket))
}

/// A connection with a node, as an agent has it.
#[derive(Debug)]
pub(crate) struct NodeConnection {
    /// The process that listens.
    pub(crate) pid: Pid,
    stream: StdStream,
}

impl NodeConnection {
    /// Connects with a node. Returns `None` if no process listens.
    ///
    /// # Errors
    ///
    /// Fails if somebody listens who is neither this user nor root, or who has not accepted for so long that no more
    /// connections may wait, and if the system refuses.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let stream = match connect(path) {
            Ok(stream) => stream,
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let peer = socket_peercred(&stream)?;
        if !peer.uid.is_root() && peer.uid != geteuid() {
            let text = format!("user {} listens there", peer.uid.as_raw());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(Some(Self {
            pid: peer.pid,
            stream,
        }))
    }

    /// Splits it into the node's reports and the way to tell it something.
    pub(crate) fn split(self) -> io::Result<(Reports, OwnedWriteHalf)> {
        let (reader, writer) = UnixStream::from_std(self.stream)?.into_split();
        let reports = Reports {
            reader: BufReader::new(reader),
            line: Vec::new(),
        };
        Ok((reports, writer))
    }
}

/// A report of a node. It has many, and few are asked for: what an agent does not need by itself is read then.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// The state that the node says it is in.
    pub(crate) state: String,
    line: Box<[u8]>,
}

impl Report {
    /// Returns `None` for what is no report.
    pub(crate) fn new(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Head {
            state: String,
        }
        let head: Head = serde_json::from_slice(line).ok()?;
        Some(Self {
            state: head.state,
            line: line.into(),
        })
    }

    /// Returns all of it, or `None` if the node is of a version whose reports this one cannot read.
    pub(crate) fn read(&self) -> Option<NodeStatus> {
        serde_json::from_slice(&self.line).ok()
    }
}

/// The reports of a node.
#[derive(Debug)]
pub(crate) struct Reports {
    reader: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
}

impl Reports {
    /// Waits for the next report. Returns `None` when the node has ended, or says what is no report. What has come of a
    /// report is kept if the wait is given up.
    pub(crate) async fn next(&mut self) -> Option<Report> {
        self.receive().await?;
        let report = Report::new(&self.line);
        self.line.clear();
        report
    }

    /// Waits until a whole line is there.
    async fn receive(&mut self) -> Option<()> {
        let mut limited = (&mut self.reader).take(LONGEST_REPORT);
        limited.read_until(b'\n', &mut self.line).await.ok()?;
        (self.line.last() == Some(&b'\n')).then_some(())
    }
}

/// Asks a node for its metrics, over a connection for this question alone. A node of a version that does not know the
/// question ends that connection.
///
/// # Errors
///
/// Fails if another process than that of this number listens, and if the node does not answer.
pub(crate) async fn ask_metrics(path: &Path, pid: u32) -> io::Result<Metrics> {
    let other = |text: &str| io::Error::other(text.to_owned());
    let stream = UnixStream::connect(path).await?;
    let peer = stream.peer_cred()?;
    let is_it = peer.pid().and_then(|peer| u32::try_from(peer).ok()) == Some(pid);
    if !is_it {
        return Err(other("another process listens there"));
    }
    let (reader, mut writer) = stream.into_split();
    writer.write_all(format!("{METRICS}\n").as_bytes()).await?;
    let mut reports = Reports {
        reader: BufReader::new(reader),
        line: Vec::new(),
    };
    for _ in 0..LINES_BEFORE {
        let ended = || other("the node does not tell its metrics");
        reports.receive().await.ok_or_else(ended)?;
        if let Ok(answer) = serde_json::from_slice::<MetricsLine>(&reports.line) {
            return Ok(answer.metrics);
        }
        reports.line.clear();
    }
    Err(other("the node says something else"))
}

/// The file of a socket, removed when dropped unless another one has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    /// Listens on a path. What is left there of an earlier process is removed.
    pub(crate) fn bind(path: &Path, mode: u32) -> io::Result<(UnixListener, Self)> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        // Bound under a name that nobody knows, and given its own with its permissions: nobody connects in between, and no
        // reader finds none.
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let _ = std::fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&new, path)?;
        let file = Self {
            path: path.to_owned(),
            identity: identity(path),
        };
        Ok((listener, file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = std::fs::remove_file(&self.path);
        }
        // One for short paths is left by the last of them.
        if let Some(directory) = self.path.parent().filter(|path| is_short_directory(path)) {
            let _ = std::fs::remove_dir(directory);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn status(state: &str) -> NodeStatus {
        NodeStatus {
            state: state.to_owned(),
            ..NodeStatus::default()
        }
    }

    #[tokio::test]
    async fn a_node_reports_hears_words_and_says_how_it_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nodes/a.sock");
        assert!(NodeConnection::open(&path).unwrap().is_none());
        let mut socket = NodeSocket::listen(&path).unwrap();
        // Nobody is connected: nothing is made ready for nobody.
        socket.report(|| panic!("for nobody"));

        let connection = NodeConnection::open(&path).unwrap().unwrap();
        assert_eq!(connection.pid, rustix::process::getpid());
        let (mut reports, mut writer) = connection.split().unwrap();
        writer.write_all(b"reopen\nstop\n").await.unwrap();
        assert_eq!(socket.word().await, Word::Reopen);
        assert_eq!(socket.word().await, Word::Stop);
        socket.report(|| status("ready"));
        assert_eq!(reports.next().await.unwrap().state, "ready");
        socket.close(&status("stopping")).await;
        assert_eq!(reports.next().await.unwrap().state, "stopping");
        assert!(reports.next().await.is_none());
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_is_taken_while_its_process_lives_and_no_longer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let first = NodeSocket::listen(&path).unwrap();
        let second = NodeSocket::listen(&path);
        assert!(matches!(second, Err(NodeSocketError::Taken(_))));
        drop(first);
        // What a process that was killed leaves behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        assert!(NodeConnection::open(&path).unwrap().is_none());
        let next = NodeSocket::listen(&path).unwrap();
        // Another file in its place is not ours to remove.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "of somebody else").unwrap();
        drop(next);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_process_that_is_stuck_holds_up_nobody_and_keeps_its_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let stuck = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&stuck, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&stuck, 0).unwrap();
        let connections = std::iter::from_fn(|| NodeConnection::open(&path).transpose());
        let mut waiting = Vec::new();
        let refusal = connections.take(4).find_map(|connection| match connection {
            Ok(connection) => {
                waiting.push(connection);
                None
            }
            Err(error) => Some(error.kind()),
        });
        assert_eq!(refusal, Some(io::ErrorKind::WouldBlock));
        let second = NodeSocket::listen(&path);
        assert!(matches!(second, Err(NodeSocketError::Taken(_))));
    }

    #[tokio::test]
    async fn what_is_no_word_ends_its_connection_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let mut socket = NodeSocket::listen(&path).unwrap();
        for nonsense in [&b"\xff\xfe\n"[..], &[b'x'; 200], b"halt\n", b"\n"] {
            let (mut reports, mut writer) = NodeConnection::open(&path)
                .unwrap()
                .unwrap()
                .split()
                .unwrap();
            let _ = writer.write_all(nonsense).await;
            assert!(reports.next().await.is_none());
        }
        let (_reports, mut writer) = NodeConnection::open(&path)
            .unwrap()
            .unwrap()
            .split()
            .unwrap();
        writer.write_all(b"stop\n").await.unwrap();
        assert_eq!(socket.word().await, Word::Stop);
    }

    struct Page;

    impl Monitored for Page {
        fn metrics(&self) -> muster_gateway::NodeMetrics {
            muster_gateway::NodeMetrics {
                node: "a".to_owned(),
                role: "data".to_owned(),
                report: muster::NodeReport::default(),
                gateway: None,
                bridge: None,
            }
        }

        fn status(&self) -> muster_gateway::status::NodePage {
            muster_gateway::status::NodePage::default()
        }
    }

    #[tokio::test]
    async fn a_node_tells_its_metrics_when_it_is_asked_and_its_reports_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let socket = NodeSocket::listen(&path).unwrap();
        let (mut reports, _writer) = NodeConnection::open(&path)
            .unwrap()
            .unwrap()
            .split()
            .unwrap();
        let own = std::process::id();
        // Nobody is asked before the node runs.
        let early = tokio::time::timeout(Duration::from_millis(50), ask_metrics(&path, own));
        assert!(early.await.is_err());
        socket.tell_metrics_of(Arc::new(Page));
        for number in 0..3 {
            socket.report(|| status(&format!("{number}")));
            let told = ask_metrics(&path, own).await.unwrap();
            assert_eq!(told, Page.metrics().metrics());
            assert_eq!(reports.next().await.unwrap().state, format!("{number}"));
        }
        // The question is for one process.
        assert!(ask_metrics(&path, own + 1).await.is_err());
        socket.close(&status("stopping")).await;
        assert!(ask_metrics(&path, own).await.is_err());
    }

    #[tokio::test]
    async fn a_node_that_does_not_know_the_question_gives_no_metrics() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let listener = UnixListener::bind(&path).unwrap();
        for said in [
            &b""[..],
            b"{\"metrics\": 7}\n",
            &b"{}\n".repeat(LINES_BEFORE + 1),
        ] {
            let answer = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(said).await;
            };
            let (told, ()) = tokio::join!(ask_metrics(&path, std::process::id()), answer);
            assert!(told.is_err(), "{said:?}");
        }
    }
}
