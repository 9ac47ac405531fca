//! What goes out over a slow link, compressed where that pays.

use muster_wire::Class;
use muster_wire::frame::HEADER;
use muster_wire::mesh::CompressionBackoff;
use muster_wire::mesh::codec::{LEAST, MOST, put_compressed_batch, put_compressed_part};

use super::fragmenter::Part;
use super::pieces::InPlace;
use crate::endpoint::peer_session::CompressedCounts;

/// What stands before the number of messages in the payload of a batch: its kind, class and flags.
const BEFORE_COUNT: usize = 3;

/// Rooms up to this size are kept for the next frame.
const KEPT: usize = 256 << 10;

/// Compresses the frames of one link.
#[derive(Debug, Default)]
pub(super) struct Compression {
    /// By class: what one sends may be compressed already, such as files, and what another sends not.
    worth: [CompressionBackoff; 4],
    /// What is to be compressed, in one piece.
    whole: Vec<u8>,
    scratch: Vec<u8>,
}

impl Compression {
    /// Puts the compressed form of the batch that begins at `start` and ends with the buffer in its place, if
    /// that pays. The payloads of it that are in place become part of it; what is returned is their bytes.
    pub(super) fn batch(
        &mut self,
        class: Class,
        start: usize,
        buffer: &mut Vec<u8>,
        in_place: &mut Vec<(usize, InPlace)>,
        counts: &CompressedCounts,
    ) -> usize {
        // A control frame that is in place may stand where the batch begins.
        let first = in_place.partition_point(|(position, _)| *position <= start);
        let elsewhere: usize = in_place[first..].iter().map(|(_, piece)| piece.len()).sum();
        let rest = start + HEADER + BEFORE_COUNT;
        let size = buffer.len() - rest + elsewhere;
        let worth = &mut self.worth[class as usize];
        if !(LEAST..=MOST).contains(&size) || !worth.is_due() {
            return 0;
        }
        self.whole.clear();
        let mut from = rest;
        for (position, piece) in &in_place[first..] {
            self.whole.extend_from_slice(&buffer[from..*position]);
            self.whole.extend_from_slice(piece.bytes());
            from = *position;
        }
        self.whole.extend_from_slice(&buffer[from..]);
        let end = buffer.len();
        let has_saved = put_compressed_batch(class, &self.whole, &mut self.scratch, buffer);
        worth.note(has_saved);
        let mut removed = 0;
        if has_saved {
            counts.add(buffer.len() - end, HEADER + BEFORE_COUNT + size);
            buffer.drain(start..end);
            in_place.truncate(first);
            removed = elsewhere;
        }
        self.give_back();
        removed
    }

    /// Appends the compressed form of a part of a large message; says whether that pays, otherwise nothing is
    /// appended.
    pub(super) fn part(
        &mut self,
        part: &Part,
        buffer: &mut Vec<u8>,
        counts: &CompressedCounts,
    ) -> bool {
        let worth = &mut self.worth[Class::Bulk as usize];
        if !worth.is_due() {
            return false;
        }
        self.whole.clear();
        for piece in [&part.head[..], &part.payload, &part.tail] {
            self.whole.extend_from_slice(piece);
        }
        let (start, whole) = (buffer.len(), &self.whole);
        let (place, scratch) = (part.place, &mut self.scratch);
        let has_saved = put_compressed_part(Class::Bulk, place, part.last, whole, scratch, buffer);
        if self.whole.len() >= LEAST {
            worth.note(has_saved);
        }
        if has_saved {
            let mut head = Vec::new();
            part.put_head(&mut head);
            let original = head.len() + part.payload.len() + part.tail.len();
            counts.add(buffer.len() - start, original);
        }
        self.give_back();
        has_saved
    }

    fn give_back(&mut self) {
        for room in [&mut self.whole, &mut self.scratch] {
            if room.capacity() > KEPT {
                *room = Vec::new();
            }
        }
    }
}
