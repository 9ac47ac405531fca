//! How far each log was read is written for another life of the node.

use std::io;
use std::path::PathBuf;
use std::sync::PoisonError;

use muster_wire::Mono;

use super::super::file::InputFile;
use super::super::merge::Merge;
use super::fingerprint::{Head, Tail};
use super::positions::{self, Position, ReadSoFar};
use super::{Follower, SAVE_EVERY};
use crate::zeek_log::Place;

impl Follower {
    /// Has written how far each file has been handed over, if that has changed.
    pub(in super::super) fn save(
        &mut self,
        merge: &mut Merge,
        now: Mono,
        keep: &mut impl FnMut(ReadSoFar),
    ) {
        self.next_save = now.after(SAVE_EVERY);
        self.hear_of_stored(merge);
        for followed in self
            .files
            .values_mut()
            .filter(|followed| !followed.is_stream)
        {
            let Some(file) = merge.file(followed.index) else {
                continue;
            };
            if followed.position.come_to(file) {
                self.has_changed = true;
            }
        }
        for ending in &mut self.ending {
            if let Some(file) = merge.file(ending.index)
                && ending.position.come_to(file)
            {
                self.has_changed = true;
            }
        }
        if !self.has_changed {
            return;
        }
        let files = self
            .files
            .iter()
            .filter(|(_, followed)| !followed.is_stream);
        let files = files.map(|(id, followed)| (*id, &followed.position));
        let left = self.left.iter().map(|(id, position)| (*id, position));
        // A file that has begun anew has the number of the one that is read no further.
        let (halted, ending): (Vec<_>, Vec<_>) = self
            .ending
            .iter()
            .partition(|ending| ending.is_halted || self.files.contains_key(&ending.id));
        let ending = ending.iter().map(|ending| (ending.id, &ending.position));
        let halted = halted
            .iter()
            .filter_map(|ending| Some((ending.position.origin?, &ending.position.place)));
        let read = positions::to_write(
            &self.store,
            &self.stored,
            files.chain(left).chain(ending),
            self.ended.iter().chain(halted),
        );
        match read {
            Ok(read) => {
                self.has_changed = false;
                keep(read);
                self.hear_of_stored(merge);
            }
            Err(error) => self.not_stored(&error, merge),
        }
    }

    /// Somebody may have written positions, now or a while ago.
    fn hear_of_stored(&mut self, merge: &mut Merge) {
        let stored = self.stored.lock();
        let stored = stored.unwrap_or_else(PoisonError::into_inner).take();
        match stored {
            Some(Ok(())) => self.cannot_store = false,
            Some(Err(error)) => self.not_stored(&error, merge),
            None => {}
        }
    }

    fn not_stored(&mut self, error: &io::Error, merge: &mut Merge) {
        self.has_changed = true;
        if !std::mem::replace(&mut self.cannot_store, true) {
            merge.tally.problem(format!(
                "cannot write {}: {error}; after a restart rows are read again",
                self.store.display()
            ));
        }
    }
}

impl Position {
    /// A file of which nothing was read.
    pub(super) fn new(path: PathBuf, head: Head) -> Self {
        Self {
            path,
            place: Place::default(),
            size: 0,
            head,
            tail: Tail::default(),
            origin: None,
        }
    }

    /// Takes over how far a file was read. `true` if that has changed.
    fn come_to(&mut self, file: &InputFile) -> bool {
        if self.place == *file.taken() {
            return false;
        }
        self.place = file.taken().clone();
        if let Some(growth) = file.growth() {
            (self.size, self.tail) = (growth.read(), Tail::of(growth));
        }
        if self.head.is_short()
            && let Ok(head) = Head::of(&self.path)
        {
            self.head = head;
        }
        true
    }
}
