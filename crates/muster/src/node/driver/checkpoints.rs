//! Checkpoints of an input, until what was logged before them is safe.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use muster_cluster::node::{LogMark, NodeLoop};

use crate::node::input::Checkpoint;

/// How often it is looked whether one is due.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long the last one may take at the end.
const LAST: Duration = Duration::from_secs(2);

/// The checkpoints of a node's input. Two wait at most: one that is to be reached next, and the last one.
#[derive(Default)]
pub(super) struct Checkpoints {
    waiting: Vec<(LogMark, Checkpoint)>,
    looked: Option<Instant>,
    notary: Option<Notary>,
}

/// The thread that calls checkpoints: a disk that hangs does not hang the node.
struct Notary {
    /// One that is called, and one that waits.
    due: SyncSender<Checkpoint>,
    thread: JoinHandle<()>,
}

impl Checkpoints {
    /// Takes a checkpoint behind a mark.
    pub(super) fn add(&mut self, mark: LogMark, checkpoint: Checkpoint) {
        self.waiting.truncate(1);
        self.waiting.push((mark, checkpoint));
    }

    /// Calls what is due, now and then.
    pub(super) fn look(&mut self, node: &NodeLoop, now: Instant) {
        let is_early = self
            .looked
            .is_some_and(|looked| now.duration_since(looked) < LOOK_EVERY);
        if self.waiting.is_empty() || is_early {
            return;
        }
        self.looked = Some(now);
        if let Some(checkpoint) = self.take(node) {
            self.call(node, checkpoint);
        }
    }

    /// Takes the last one that everything before it is safe of.
    fn take(&mut self, node: &NodeLoop) -> Option<(LogMark, Checkpoint)> {
        let settled = self.waiting.iter();
        let settled = settled
            .take_while(|(mark, _)| node.has_settled(*mark))
            .count();
        self.waiting.drain(..settled).next_back()
    }

    fn call(&mut self, node: &NodeLoop, (mark, checkpoint): (LogMark, Checkpoint)) {
        if self.notary.is_none() {
            self.notary = Notary::start(node.name().as_str());
        }
        let Some(notary) = &self.notary else {
            return;
        };
        // While the disk hangs, the last one waits here.
        if let Err(error) = notary.due.try_send(checkpoint)
            && self.waiting.is_empty()
        {
            let (std::sync::mpsc::TrySendError::Full(checkpoint)
            | std::sync::mpsc::TrySendError::Disconnected(checkpoint)) = error;
            self.waiting.push((mark, checkpoint));
        }
    }

    /// Calls what is due at the end of the node, and waits for it for a while.
    pub(super) fn close(mut self, node: &NodeLoop) {
        let until = Instant::now() + LAST;
        while let Some(due) = self.take(node) {
            self.call(node, due);
            if self.waiting.is_empty() || Instant::now() >= until {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let Some(Notary { due, thread }) = self.notary else {
            return;
        };
        drop(due);
        while !thread.is_finished() {
            if Instant::now() >= until {
                tracing::error!(
                    "how far the input was read is not noted within {LAST:?}: the disk hangs"
                );
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Notary {
    fn start(node: &str) -> Option<Self> {
        let (due, to_call) = sync_channel::<Checkpoint>(1);
        let thread = std::thread::Builder::new().name(format!("positions of {node}"));
        let thread = thread.spawn(move || to_call.into_iter().for_each(|checkpoint| checkpoint()));
        match thread {
            Ok(thread) => Some(Self { due, thread }),
            Err(error) => {
                tracing::error!(
                    "cannot start the thread that notes how far the input was read: {error}"
                );
                None
            }
        }
    }
}
