//! Who writes to a connection: the writer's task, or whoever has something small to send while it rests.

use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::sync::{Mutex, MutexGuard};

use super::output::Output;
use crate::endpoint::send_queue::inline::{Inline, InlineWriter, Written};

/// How long ago the last write, of one message, must be for another without the writer's task. Whoever publishes
/// faster has its messages put together: a write for each costs it ten times the time of a message. Where a write
/// of several did not keep others away, a publisher to four peers whose thread had to wait for the processor
/// began each of its turns with four such writes, a quarter of all CPU.
pub(super) const PAUSE: Duration = Duration::from_micros(20);

/// The output of a connection, which one at a time has.
pub(crate) struct SharedOutput<W> {
    output: Mutex<Output<W>>,
}

impl<W> SharedOutput<W> {
    pub(super) fn new(output: Output<W>) -> Self {
        Self {
            output: Mutex::new(output),
        }
    }

    /// Waits for whoever is writing, which is as long as the system takes a small write.
    pub(super) async fn lock(&self) -> MutexGuard<'_, Output<W>> {
        self.output.lock().await
    }

    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, Output<W>>> {
        self.output.try_lock().ok()
    }
}

impl<W: AsyncWrite + Unpin + Send> InlineWriter for SharedOutput<W> {
    fn write_inline<'a>(
        &self,
        what: Inline<'a>,
        begin: &mut dyn FnMut(),
    ) -> Result<Written, Inline<'a>> {
        match self.try_lock() {
            Some(mut output) if output.has_rested(PAUSE) => {
                begin();
                Ok(output.write_inline(what))
            }
            _ => Err(what),
        }
    }
}
