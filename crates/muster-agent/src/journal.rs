//! What happened on a box, and who asked for it: two files, and the last of it in memory.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// The files of a journal.
const EVENTS: &str = "events.log";
const AUDIT: &str = "audit.log";
pub(crate) const FILES: [&str; 2] = [EVENTS, AUDIT];

/// Events that are kept in memory.
const KEPT: usize = 1000;

/// Events that may wait for whoever follows them.
const FOLLOWED: usize = 256;

/// The size in bytes at which a file is put aside; the one that was put aside before is replaced.
const LARGEST_FILE: u64 = 4 << 20;

/// The longest text of an event in bytes: a node's last line may be of any length.
const LONGEST_TEXT: usize = 2048;

/// The longest name of what somebody asks about, in bytes: a request may have one of any length.
const LONGEST_NAME: usize = 256;

/// The refusals of strangers that are written down in a minute. More are counted: whoever may do nothing must not push out
/// what others did.
const STRANGERS: u32 = 60;

/// See [`STRANGERS`].
const MINUTE: Duration = Duration::from_secs(60);

/// What happened on a box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// When, in seconds since 1970.
    pub time: f64,
    /// What.
    pub kind: EventKind,
    /// On which box, if the cluster has several.
    #[serde(default, rename = "box", skip_serializing_if = "Option::is_none")]
    pub box_name: Option<String>,
    /// Which node, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// In words.
    pub text: String,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The agent has started.
    AgentStarted,
    /// The agent ends, and its nodes go on or have ended.
    AgentStopped,
    /// The agent replaces its program.
    AgentReloaded,
    /// Something about all nodes.
    Note,
    /// A node's process was started.
    NodeStarted,
    /// A process that ran already was found.
    NodeAdopted,
    /// A node's process has ended.
    NodeEnded,
    /// The state that a node reports has changed.
    NodeState,
    /// A certificate was made or renewed.
    Certificate,
    /// The coordinator of the box leads, or has decided something that an operator should know.
    Coordination,
    /// Somebody has asked for a change.
    Asked,
    /// Whoever follows has been too slow: events are missing here.
    Missed,
}

impl EventKind {
    /// Returns the name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::AgentStarted => "agent_started",
            Self::AgentStopped => "agent_stopped",
            Self::AgentReloaded => "agent_reloaded",
            Self::Note => "note",
            Self::NodeStarted => "node_started",
            Self::NodeAdopted => "node_adopted",
            Self::NodeEnded => "node_ended",
            Self::NodeState => "node_state",
            Self::Certificate => "certificate",
            Self::Coordination => "coordination",
            Self::Asked => "asked",
            Self::Missed => "missed",
        }
    }
}

/// A change that somebody asked for, as it stands in the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, in seconds since 1970.
    pub time: f64,
    /// Who, as the kernel, a certificate or a token says.
    pub who: String,
    /// By what they are known: `socket`, `certificate`, `token` or `nothing`.
    #[serde(default)]
    pub known_by: String,
    /// What they may do.
    pub role: String,
    /// What was asked for.
    pub verb: String,
    /// Of which node, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What became of it.
    pub outcome: String,
}

/// The journal of a box.
#[derive(Debug)]
pub(crate) struct Journal {
    inner: Mutex<Inner>,
    live: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct Inner {
    kept: VecDeque<Event>,
    events: JournalFile,
    audit: JournalFile,
    strangers: Strangers,
}

/// How often strangers were refused in this minute.
#[derive(Debug, Default)]
struct Strangers {
    minute: Option<Instant>,
    refused: u32,
}

impl Strangers {
    /// Notes one more. Returns whether it is to be written down, and how many of the minute before were not.
    fn refuse(&mut self, now: Instant) -> (bool, u32) {
        let mut missed = 0;
        if self
            .minute
            .is_none_or(|minute| now.duration_since(minute) >= MINUTE)
        {
            missed = self.refused.saturating_sub(STRANGERS);
            (self.minute, self.refused) = (Some(now), 0);
        }
        self.refused = self.refused.saturating_add(1);
        (self.refused <= STRANGERS, missed)
    }
}

impl Journal {
    /// Opens the journal in a directory, with what is there of earlier agents.
    pub(crate) fn open(directory: &Path) -> Self {
        let events = JournalFile::new(directory.join(EVENTS));
        let kept = events.last(KEPT);
        Self {
            inner: Mutex::new(Inner {
                kept: kept.into(),
                events,
                audit: JournalFile::new(directory.join(AUDIT)),
                strangers: Strangers::default(),
            }),
            live: broadcast::Sender::new(FOLLOWED),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an event.
    pub(crate) fn note(&self, kind: EventKind, node: Option<&str>, text: impl Into<String>) {
        let text = text.into();
        let event = Event {
            time: now(),
            kind,
            box_name: None,
            node: node.map(|node| start(node, LONGEST_NAME).to_owned()),
            text: start(&text, LONGEST_TEXT).to_owned(),
        };
        let mut inner = self.lock();
        if inner.kept.len() >= KEPT {
            inner.kept.pop_front();
        }
        inner.kept.push_back(event.clone());
        inner.events.append(&event);
        drop(inner);
        // Nobody may be following.
        let _ = self.live.send(event);
    }

    /// Notes that somebody asked for a change, and what became of it.
    pub(crate) fn audit(&self, mut entry: AuditEntry) {
        entry.object = entry
            .object
            .map(|object| start(&object, LONGEST_NAME).to_owned());
        entry.outcome = start(&entry.outcome, LONGEST_TEXT).to_owned();
        self.lock().audit.append(&entry);
        let object = entry.object.as_deref();
        let text = format!("{} by {}: {}", entry.verb, entry.who, entry.outcome);
        self.note(EventKind::Asked, object, text);
    }

    /// Notes that somebody was refused who may do nothing at all. Of more than [`STRANGERS`] in a minute only the number is
    /// noted.
    pub(crate) fn audit_stranger(&self, entry: AuditEntry) {
        let (is_noted, missed) = self.lock().strangers.refuse(Instant::now());
        if missed > 0 {
            let text = format!("{missed} more requests of strangers were refused");
            self.note(EventKind::Note, None, text);
        }
        if is_noted {
            self.audit(entry);
        }
    }

    /// The events since a time, in seconds since 1970.
    #[cfg(test)]
    pub(crate) fn since(&self, time: f64) -> Vec<Event> {
        self.follow(time).0
    }

    /// The events since a time, and those to come.
    pub(crate) fn follow(&self, time: f64) -> (Vec<Event>, broadcast::Receiver<Event>) {
        // In this order none is missing; with the lock none comes twice.
        let inner = self.lock();
        let live = self.live.subscribe();
        let events = inner.kept.iter().filter(|event| event.time >= time);
        (events.cloned().collect(), live)
    }
}

/// For tests: by how many seconds the box's clock is said to be ahead. Boxes of one machine have one clock.
const CLOCK_OFFSET: &str = "MUSTER_TEST_CLOCK_OFFSET";

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    static OFFSET: LazyLock<f64> = LazyLock::new(|| {
        let offset = std::env::var(CLOCK_OFFSET).ok();
        offset.and_then(|text| text.parse().ok()).unwrap_or(0.0)
    });
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64() + *OFFSET
}

/// The start of a text, of so many bytes at most.
fn start(text: &str, most: usize) -> &str {
    let ends = text.char_indices().map(|(position, _)| position);
    let ends = ends.chain([text.len()]);
    let end = ends.take_while(|end| *end <= most).last();
    &text[..end.unwrap_or_default()]
}

/// A file of JSON lines.
#[derive(Debug)]
struct JournalFile {
    path: PathBuf,
    file: Option<File>,
    is_failing: bool,
}

impl JournalFile {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            is_failing: false,
        }
    }

    fn append<T: Serialize>(&mut self, entry: &T) {
        let written = self.try_append(entry);
        if let Err(error) = &written {
            self.file = None;
            if !self.is_failing {
                tracing::error!("cannot write {}: {error}", self.path.display());
            }
        }
        self.is_failing = written.is_err();
    }

    fn try_append<T: Serialize>(&mut self, entry: &T) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        // One that was moved away is let go, one that got too large is put aside.
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() >= LARGEST_FILE => {
                fs::rename(&self.path, self.path.with_extension("log.1"))?;
                self.file = None;
            }
            Ok(_) => {}
            Err(_) => self.file = None,
        }
        let file = match &mut self.file {
            Some(file) => file,
            file => file.insert(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .mode(0o640)
                    .open(&self.path)?,
            ),
        };
        file.write_all(&line)
    }

    /// The last entries; lines that are none are passed over.
    fn last<T: DeserializeOwned>(&self, most: usize) -> Vec<T> {
        let Ok(mut file) = File::open(&self.path) else {
            return Vec::new();
        };
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let start = length.saturating_sub(LARGEST_FILE);
        let mut bytes = Vec::new();
        if file.seek(SeekFrom::Start(start)).is_err()
            || file.take(LARGEST_FILE).read_to_end(&mut bytes).is_err()
        {
            return Vec::new();
        }
        let lines = bytes.split(|byte| *byte == b'\n');
        let mut entries: Vec<T> = lines
            .rev()
            .filter_map(|line| serde_json::from_slice(line).ok())
            .take(most)
            .collect();
        entries.reverse();
        entries
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn events_outlive_the_agent_and_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path());
        journal.note(EventKind::AgentStarted, None, "first");
        for number in 0..KEPT {
            journal.note(EventKind::NodeStarted, Some("a"), number.to_string());
        }
        assert_eq!(journal.since(0.0).len(), KEPT);
        assert_eq!(journal.since(0.0)[0].text, "0");
        drop(journal);
        OpenOptions::new()
            .append(true)
            .open(directory.path().join("events.log"))
            .unwrap()
            .write_all(b"{\"time\": 3, \"kin")
            .unwrap();
        let next = Journal::open(directory.path());
        let events = next.since(0.0);
        assert_eq!(events.len(), KEPT);
        assert_eq!(events[KEPT - 1].text, (KEPT - 1).to_string());
        assert!(next.since(now() + 60.0).is_empty());
    }

    #[test]
    fn a_file_that_is_large_is_put_aside_and_one_that_was_moved_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.log");
        let journal = Journal::open(directory.path());
        fs::write(&path, vec![b'x'; usize::try_from(LARGEST_FILE).unwrap()]).unwrap();
        journal.note(EventKind::Note, None, "y".repeat(2 * LONGEST_TEXT));
        let lines = fs::read_to_string(&path).unwrap();
        assert!(lines.len() < LONGEST_TEXT + 200, "{}", lines.len());
        assert!(path.with_extension("log.1").exists());
        fs::rename(&path, directory.path().join("moved")).unwrap();
        journal.note(EventKind::Note, None, "again");
        assert!(fs::read_to_string(&path).unwrap().contains("again"));
    }

    #[test]
    fn strangers_do_not_push_out_what_others_did() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path());
        let entry = AuditEntry {
            time: now(),
            who: "192.0.2.9:5".to_owned(),
            known_by: "nothing".to_owned(),
            role: "none".to_owned(),
            verb: "stop".to_owned(),
            object: Some("é".repeat(LONGEST_TEXT)),
            outcome: "refused".to_owned(),
        };
        for _ in 0..2 * KEPT {
            journal.audit_stranger(entry.clone());
        }
        let events = journal.since(0.0);
        assert!(events.len() <= 2 * STRANGERS as usize, "{}", events.len());
        let longest = events.iter().filter_map(|event| event.node.as_ref());
        assert_eq!(longest.map(String::len).max(), Some(LONGEST_NAME));
        let mut strangers = Strangers::default();
        let first = Instant::now();
        for number in 1..=STRANGERS + 3 {
            assert_eq!(strangers.refuse(first), (number <= STRANGERS, 0));
        }
        assert_eq!(strangers.refuse(first + MINUTE), (true, 3));
        assert_eq!(strangers.refuse(first + 2 * MINUTE), (true, 0));
    }

    #[tokio::test]
    async fn whoever_follows_gets_each_event_once() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path());
        journal.note(EventKind::Note, None, "before");
        let (before, mut live) = journal.follow(0.0);
        let entry = AuditEntry {
            time: now(),
            who: "user 0".to_owned(),
            known_by: "socket".to_owned(),
            role: "admin".to_owned(),
            verb: "restart".to_owned(),
            object: Some("data-1".to_owned()),
            outcome: "done".to_owned(),
        };
        journal.audit(entry.clone());
        assert_eq!(before.len(), 1);
        let event = live.recv().await.unwrap();
        assert_eq!(
            (event.kind, event.node),
            (EventKind::Asked, entry.object.clone())
        );
        assert_eq!(event.text, "restart by user 0: done");
        let audit = fs::read_to_string(directory.path().join("audit.log")).unwrap();
        assert_eq!(serde_json::from_str::<AuditEntry>(&audit).unwrap(), entry);
    }
}
