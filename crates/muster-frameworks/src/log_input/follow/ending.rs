//! Files that are read to their end, or no further.

use std::collections::HashSet;

use muster_wire::Mono;

use super::super::merge::Merge;
use super::super::open::{FileId, Growth};
use super::positions::Position;
use super::{Followed, Follower, GRACE};

/// A file that is read to its end.
#[derive(Debug)]
pub(super) struct Ending {
    /// Its number in the merge.
    pub(super) index: usize,
    pub(super) id: FileId,
    pub(super) position: Position,
    /// Nothing more is read, only what was read is passed.
    pub(super) is_halted: bool,
}

impl Follower {
    /// Ends the files that nothing names any more, once nothing was written to them for a while.
    pub(super) fn end_those_gone(&mut self, seen: &HashSet<FileId>, merge: &mut Merge, now: Mono) {
        let mut ended = Vec::new();
        for (id, followed) in &mut self.files {
            if seen.contains(id) {
                continue;
            }
            let Some(file) = merge.file(followed.index) else {
                continue;
            };
            let read = file.growth().map_or(followed.read, Growth::read);
            if read != followed.read {
                (followed.read, followed.changed) = (read, now);
            }
            if now.since(followed.changed) >= GRACE {
                ended.push(*id);
            }
        }
        for id in ended {
            self.end(id, merge);
        }
    }

    /// Reads a file to its end.
    fn end(&mut self, id: FileId, merge: &mut Merge) {
        if let Some(followed) = self.files.remove(&id)
            && let Some(file) = merge.file(followed.index)
        {
            if let Some(growth) = file.growth() {
                growth.end();
            }
            self.push_ending(id, followed, false);
        }
    }

    /// Reads a file no further.
    pub(super) fn halt(&mut self, id: FileId) {
        if let Some(followed) = self.files.remove(&id) {
            self.push_ending(id, followed, true);
        }
    }

    fn push_ending(&mut self, id: FileId, followed: Followed, is_halted: bool) {
        self.ending.push(Ending {
            index: followed.index,
            id,
            position: followed.position,
            is_halted,
        });
        self.has_changed = true;
    }

    /// Lets go of the files that have been read to their end.
    pub(super) fn release_ended(&mut self, merge: &mut Merge) {
        self.ending.retain(|ending| {
            if ending.is_halted {
                merge.pause(ending.index);
            }
            let Some(file) = merge.file(ending.index) else {
                return false;
            };
            let place = file.taken().clone();
            if !merge.release(ending.index) {
                return true;
            }
            if let Some(origin) = ending.position.origin {
                self.ended.put(origin, place);
            }
            self.has_changed = true;
            false
        });
    }
}
