//! The messages of a run on their way: what is known of one is known of the others with its topic.

use std::sync::{MutexGuard, PoisonError};

use super::{Coming, Dropped, Here, Ingress, Origin, Passage, Windows, is_late};
use crate::EndpointId;
use crate::mesh::codec::RunHead;
use crate::mesh::window::OriginWindows;
use crate::message::Class;

/// The origin of a run.
#[derive(Debug)]
pub struct RunOrigin {
    slot: u32,
    windows: Windows,
}

impl RunOrigin {
    /// Locks what was seen of the origin, for as long as the run is read.
    pub fn seen(&self) -> SeenRun<'_> {
        let windows = self.windows.lock();
        SeenRun {
            windows: windows.unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// What was seen of the origin of a run. Other links wait with the origin's messages while it is there.
#[derive(Debug)]
pub struct SeenRun<'o> {
    windows: MutexGuard<'o, OriginWindows>,
}

impl SeenRun<'_> {
    /// Notes a message as seen. Returns `true` if later ones came before it.
    ///
    /// # Errors
    ///
    /// Returns why it goes no further, if it does not.
    pub fn note<P, S>(
        &mut self,
        here: &Here<'_, P, S>,
        class: Class,
        sequence: u64,
    ) -> Result<bool, Dropped> {
        is_late(here.table, self.windows.check(class, sequence))
    }
}

impl Ingress {
    /// Looks up the origin of a run, of which all its messages are. They are then decided upon by [`Ingress::in_run`].
    ///
    /// # Errors
    ///
    /// Returns why none of the messages goes further, if none does.
    pub fn begin_run<P, S>(
        &mut self,
        here: &Here<'_, P, S>,
        head: &RunHead,
    ) -> Result<RunOrigin, Dropped> {
        if head.origin == here.me {
            return Err(Dropped::Returned);
        }
        let version = here.table.version();
        let recent = self.run_origin.as_ref();
        let recent = recent.filter(|recent| recent.id == head.origin && recent.version == version);
        let origin = match recent {
            Some(recent) => recent,
            None => self.run_origin.insert(Origin::look_up(here, head.origin)),
        };
        let (slot, windows) = origin.known.clone().ok_or(Dropped::UnknownOrigin)?;
        Ok(RunOrigin { slot, windows })
    }

    /// Returns what becomes of those messages of a run that were not here before and have a topic. They come from the
    /// neighbour `from`.
    ///
    /// # Errors
    ///
    /// Returns why they go no further, if they do not.
    pub fn in_run<'a, P, S>(
        &'a mut self,
        here: &Here<'a, P, S>,
        from: EndpointId,
        head: &RunHead,
        origin: &RunOrigin,
        topic: &[u8],
    ) -> Result<Passage<'a, P>, Dropped> {
        let coming = Coming {
            me: here.me,
            from,
            origin: head.origin,
            slot: origin.slot,
            hops: head.hops,
            guest: None,
        };
        self.pass(here.table, &coming, topic)
    }
}
