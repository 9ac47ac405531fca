//! The way from an input's thread to its node's loop.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::Thread;

use muster_data::Timestamp;

/// Events of an input, encoded as by [`put_event`](muster_wire::zeek::put_event), in one buffer.
#[derive(Debug, Clone, Default)]
pub struct InputBatch {
    /// The events' bytes.
    pub buffer: Vec<u8>,
    /// The range of each event in the buffer; a range that is not in it is ignored.
    pub events: Vec<Range<usize>>,
    /// The event time below which the input brings nothing after this batch, if that is known.
    pub low: Option<Timestamp>,
}

/// Notes how far an input was read, on disk.
pub type Checkpoint = Box<dyn FnOnce() + Send>;

pub(crate) enum InputItem {
    Batch(InputBatch),
    Checkpoint(Checkpoint),
    End(String),
}

/// Sends an input's events to its node. The input has ended when this is dropped.
pub struct InputSender {
    pub(crate) items: SyncSender<InputItem>,
    pub(crate) node: Thread,
    pub(crate) stop: Arc<AtomicBool>,
}

impl fmt::Debug for InputSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputSender").finish_non_exhaustive()
    }
}

/// The node is stopping: the input should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopping;

impl InputSender {
    /// Hands a batch over. Blocks the input's thread while the node has enough to do.
    ///
    /// # Errors
    /// [`Stopping`] when the node stops: the input should return.
    pub fn send(&self, batch: InputBatch) -> Result<(), Stopping> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Stopping);
        }
        self.items
            .send(InputItem::Batch(batch))
            .map_err(|_| Stopping)?;
        self.node.unpark();
        Ok(())
    }

    /// Has something noted behind what was sent before. The node calls it, on a thread where it may block, when its handlers have
    /// seen all of that and each record that this node has logged by then is safe: acknowledged by a logger or in the node's spool.
    /// Records that are lost, and counted, or were given to a logger that does not acknowledge, are not waited for. What other nodes
    /// log because of events that were published to them is not known here.
    ///
    /// A later one takes the place of one that waits. It is also called after the input has ended; one that the node has no time for
    /// at its end is never called, so an input that is read again from there brings some of it twice, and nothing is passed over.
    pub fn note(&self, checkpoint: Checkpoint) {
        // Nobody is left to hear of it if that fails.
        let _ = self.items.send(InputItem::Checkpoint(checkpoint));
        self.node.unpark();
    }

    /// Returns a flag that turns true when the input should end.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Ends the input, with a summary for the log.
    pub fn finish(self, summary: String) {
        let _ = self.items.send(InputItem::End(summary));
        self.node.unpark();
    }
}
