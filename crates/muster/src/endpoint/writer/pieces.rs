//! What one write hands to the system: a buffer, and what stands between its bytes and lies elsewhere.

use std::io::IoSlice;

use bytes::{Buf, Bytes};
use muster_wire::envelope::EnvelopeRun;
use muster_wire::mesh::codec::Run;

use crate::endpoint::outgoing::Outgoing;

/// What is written from where it is.
#[derive(Debug)]
pub(super) enum InPlace {
    Shared(Bytes),
    Run(Run),
    Envelopes(EnvelopeRun),
}

impl InPlace {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Run(run) => run.frame(),
            Self::Envelopes(run) => run.frames(),
        }
    }

    /// The run by itself, if it is one.
    pub(super) fn into_run(self) -> Option<Outgoing> {
        match self {
            Self::Shared(_) => None,
            Self::Run(run) => Some(Outgoing::Run(run)),
            Self::Envelopes(run) => Some(Outgoing::Envelopes(run)),
        }
    }

    /// The buffer of a run, to be used again.
    pub(super) fn into_buffer(self) -> Option<Vec<u8>> {
        match self {
            Self::Shared(_) => None,
            Self::Run(run) => Some(run.into_buffer()),
            Self::Envelopes(run) => Some(run.into_buffer()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }
}

/// Pieces of memory that are written as one.
pub(super) struct Gathered<'a> {
    pieces: Vec<&'a [u8]>,
    /// The first piece that is not yet written to its end; what is written of it is cut off.
    next: usize,
    remaining: usize,
}

impl<'a> Gathered<'a> {
    pub(super) fn new(buffer: &'a [u8], in_place: &'a [(usize, InPlace)]) -> Self {
        let mut pieces = Vec::with_capacity(2 * in_place.len() + 1);
        let mut start = 0;
        for (position, payload) in in_place {
            pieces.push(&buffer[start..*position]);
            pieces.push(payload.bytes());
            start = *position;
        }
        pieces.push(&buffer[start..]);
        pieces.retain(|piece| !piece.is_empty());
        let remaining = pieces.iter().map(|piece| piece.len()).sum();
        Self {
            pieces,
            next: 0,
            remaining,
        }
    }
}

impl Buf for Gathered<'_> {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.get(self.next).copied().unwrap_or_default()
    }

    fn chunks_vectored<'b>(&'b self, slices: &mut [IoSlice<'b>]) -> usize {
        let pieces = self.pieces.get(self.next..).unwrap_or_default();
        let filled = pieces
            .iter()
            .zip(slices)
            .map(|(piece, slice)| *slice = IoSlice::new(piece));
        filled.count()
    }

    fn advance(&mut self, mut count: usize) {
        self.remaining = self.remaining.saturating_sub(count);
        while let Some(piece) = self.pieces.get_mut(self.next) {
            if count < piece.len() {
                *piece = &piece[count..];
                return;
            }
            count -= piece.len();
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_written_in_their_order_whatever_is_taken_at_once() {
        let in_place = [
            (2, InPlace::Shared(Bytes::from("XYZ"))),
            (2, InPlace::Shared(Bytes::from("W"))),
            (5, InPlace::Shared(Bytes::from("V"))),
        ];
        for step in 1..12 {
            let mut gathered = Gathered::new(b"abcde", &in_place);
            let mut written = Vec::new();
            while gathered.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 2];
                let filled = gathered.chunks_vectored(&mut slices);
                let all: Vec<u8> = slices[..filled]
                    .iter()
                    .flat_map(|slice| slice.to_vec())
                    .collect();
                let taken = step.min(all.len());
                written.extend_from_slice(&all[..taken]);
                gathered.advance(taken);
            }
            assert_eq!(written, b"abXYZWcdeV");
        }
    }
}
