//! Runs that are being written at the end of a peer's queue, and the buffers for the next ones.

use muster_wire::envelope::EnvelopeRun;
use muster_wire::mesh::HOPS;
use muster_wire::mesh::codec::{RUN_BYTES, Run, RunHead};
use muster_wire::peering::Protocol;

use crate::endpoint::outgoing::Outgoing;
use crate::endpoint::post::Post;

/// The most buffers that wait for the next run. More are in use when a peer is behind.
const SPARE: usize = 24;

/// When the writer has rested so often without a run, since it writes heartbeats, the buffers go.
const RESTS: u8 = 4;

/// The first buffer of a run: it doubles up to the size of a run.
const FIRST: usize = 512;

/// What runs are written into.
#[derive(Debug, Default)]
pub(super) struct Runs {
    spare: Vec<Vec<u8>>,
    /// How often the writer has rested since the last run began.
    rests: u8,
}

impl Runs {
    /// Begins a run with a message. Behind one that is full it will likely be full as well.
    pub(super) fn begin(
        &mut self,
        protocol: Protocol,
        follows_full: bool,
        post: &Post<'_>,
    ) -> Outgoing {
        self.rests = 0;
        let buffer = self
            .spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(if follows_full { RUN_BYTES } else { FIRST }));
        let mut run = match protocol {
            Protocol::V1 => Outgoing::Envelopes(EnvelopeRun::new(buffer, post.id.origin)),
            Protocol::V2 => Outgoing::Run(Run::new(
                buffer,
                RunHead {
                    class: post.class,
                    hops: HOPS,
                    origin: post.id.origin,
                    base: post.id.sequence.wrapping_sub(1),
                },
            )),
        };
        run.add(post);
        run
    }

    /// Takes buffers back whose runs are written.
    pub(super) fn give_back(&mut self, written: &mut Vec<Vec<u8>>) {
        let room = SPARE.saturating_sub(self.spare.len());
        self.spare.extend(written.drain(..).take(room));
    }

    /// Everything is written: the next burst may come at once, or a link rest for long and be one of hundreds.
    pub(super) fn rest(&mut self) {
        self.rests = self.rests.saturating_add(1);
        if self.rests > RESTS {
            self.spare = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use muster_wire::{Class, Kind, Message, Topic};

    use super::*;

    #[test]
    fn buffers_are_used_again_and_given_back_by_a_link_that_rests() {
        let message = Message {
            topic: Topic::new("t").unwrap(),
            payload: Bytes::from_static(&[7; 100]),
            kind: Kind::Data,
            class: Class::Event,
            id: None,
        };
        let post = Post::of(&message);
        let mut runs = Runs::default();
        let buffer =
            |runs: &mut Runs, follows_full| match runs.begin(Protocol::V2, follows_full, &post) {
                Outgoing::Run(run) => run.into_buffer(),
                other => panic!("{other:?}"),
            };
        assert!(buffer(&mut runs, false).capacity() < RUN_BYTES);
        let full = buffer(&mut runs, true);
        assert!(full.capacity() >= RUN_BYTES);
        let place = full.as_ptr();
        runs.give_back(&mut vec![full]);
        let again = buffer(&mut runs, false);
        assert_eq!(again.as_ptr(), place);
        let mut many: Vec<Vec<u8>> = (0..100).map(|_| Vec::with_capacity(100)).collect();
        runs.give_back(&mut many);
        assert_eq!((many.len(), runs.spare.len()), (0, SPARE));
        for _ in 0..RESTS {
            runs.rest();
            assert_eq!(runs.spare.len(), SPARE);
        }
        runs.rest();
        assert_eq!(runs.spare.capacity(), 0);
    }
}
