//! Runs that are being written at the end of a peer's queue, and the buffers for the next ones.

use muster_wire::mesh::HOPS;
use muster_wire::mesh::codec::{RUN_BYTES, Run, RunHead};

use crate::endpoint::outgoing::Outgoing;
use crate::endpoint::post::Post;

/// The most buffers that wait for the next run. More are in use when a peer is behind.
const SPARE: usize = 16;

/// A buffer up to this size stays while nothing is sent.
const STAYS: usize = 2 << 10;

/// The first buffer of a run: it doubles up to the size of a run.
const FIRST: usize = 512;

/// What runs are written into.
#[derive(Debug, Default)]
pub(super) struct Runs {
    spare: Vec<Vec<u8>>,
    /// Whether the last run was full, so that the next will likely be.
    fills: bool,
}

impl Runs {
    /// Begins a run with a message, behind one that is full or not.
    pub(super) fn begin(&mut self, follows_full: bool, post: &Post<'_>) -> Outgoing {
        self.fills = follows_full;
        let buffer = self
            .spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(if self.fills { RUN_BYTES } else { FIRST }));
        let head = RunHead {
            class: post.class,
            hops: HOPS,
            origin: post.id.origin,
            base: post.id.sequence.wrapping_sub(1),
        };
        let mut run = Run::new(buffer, head);
        run.push(&post.in_run());
        Outgoing::Run(run)
    }

    /// Takes buffers back whose runs are written.
    pub(super) fn give_back(&mut self, written: &mut Vec<Vec<u8>>) {
        let room = SPARE.saturating_sub(self.spare.len());
        self.spare.extend(written.drain(..).take(room));
    }

    /// Everything is written: a link may rest for long, and be one of hundreds.
    pub(super) fn rest(&mut self) {
        self.spare.retain(|buffer| buffer.capacity() <= STAYS);
        self.spare.truncate(1);
    }
}
