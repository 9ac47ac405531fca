//! The parts that several followers get.

use std::collections::VecDeque;

use bytes::Bytes;
use muster_wire::zeek::{self, Metadata};

use super::limits::FeedLimits;
use super::list::List;
use super::messages::{PART, put_part};

/// The parts that are kept for the next follower. With those of a window it is enough, as followers that begin together
/// go on together.
const KEPT: usize = 8;

/// A part as it is sent.
#[derive(Debug, Clone)]
pub(super) struct Part {
    from: u64,
    pub(super) to: u64,
    head: u64,
    pub(super) payload: Bytes,
}

/// The last parts that were made. Each is encoded once.
#[derive(Debug, Default)]
pub(super) struct Parts(VecDeque<Part>);

impl Parts {
    /// Returns the part behind a position.
    pub(super) fn part(
        &mut self,
        feed: &str,
        list: &List,
        position: u64,
        limits: &FeedLimits,
    ) -> Part {
        let (head, floor) = (list.head(), list.floor());
        // One that was made earlier still holds if nothing was added at its end, and no removal that is missing in it was forgotten.
        let holds = |part: &&Part| {
            let is_whole = part.to < part.head || part.head == head;
            part.from == position && is_whole && part.head >= floor
        };
        if let Some(part) = self.0.iter().find(holds) {
            return part.clone();
        }
        let stretch = list.stretch(position, limits.part);
        let mut payload = Vec::with_capacity(limits.part.min(4_096));
        zeek::put_event(&mut payload, PART, Metadata::default(), |out| {
            put_part(out, feed, position, stretch.to, head, floor);
            list.put_stretch(out, position, stretch);
        });
        let part = Part {
            from: position,
            to: stretch.to,
            head,
            payload: Bytes::from(payload),
        };
        self.0.retain(|other| other.from != position);
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(part.clone());
        part
    }
}
