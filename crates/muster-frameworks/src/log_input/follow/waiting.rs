//! Files that are not read, or not yet: those without a whole row, and copies of logs that are read from another file.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use muster_wire::Mono;

use super::super::merge::{MOST_OPEN, Merge};
use super::super::open::{Continuity, FileId, Growth};
use super::fingerprint::{Content, Origin};
use super::positions::MOST_POSITIONS;
use super::{Follower, GRACE, open_file};
use crate::zeek_log::Place;

/// The most files without a row that are kept open: one that is renamed as soon as it has one is not missed.
const MOST_KEPT_OPEN: usize = MOST_OPEN / 4;

/// A file that is not read.
#[derive(Debug)]
pub(super) struct Waiting {
    path: PathBuf,
    /// The file, while it has no row.
    file: Option<File>,
    /// How it was when it was last looked at, and when that changed.
    stamp: Option<Stamp>,
    changed: Mono,
    /// When a pattern last stood for it.
    seen: Mono,
    log: Option<KnownLog>,
}

/// What changes when a file is written: its size, and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Which log a file has.
#[derive(Debug, Clone, Copy)]
struct KnownLog {
    origin: Origin,
    is_plain: bool,
    /// The size at which it was read and had nothing more.
    tried: Option<u64>,
}

impl Waiting {
    fn new(path: PathBuf, now: Mono) -> Self {
        Self {
            path,
            file: None,
            stamp: None,
            changed: now,
            seen: now,
            log: None,
        }
    }

    /// Whether the file may have something of its log behind a place.
    fn may_have_more(&self, log: KnownLog, place: &Place, now: Mono) -> bool {
        let size = self.stamp.map_or(0, |stamp| stamp.size);
        if log.tried == Some(size) {
            return false;
        }
        // What compresses a file may not be done.
        if log.is_plain {
            size > place.offset
        } else {
            now.since(self.changed) >= GRACE
        }
    }
}

impl Follower {
    /// Finds out what a new file has, and follows it, unless it is a copy of a log that is read from another file.
    pub(super) fn tell_apart(
        &mut self,
        id: FileId,
        path: PathBuf,
        stamp: Stamp,
        merge: &mut Merge,
        now: Mono,
    ) {
        let known = self.files.len() + self.waiting.len();
        if known >= MOST_POSITIONS && !self.waiting.contains_key(&id) {
            return self.tell_too_many(&path, &mut merge.tally);
        }
        let waiting = self
            .waiting
            .entry(id)
            .or_insert_with(|| Waiting::new(path.clone(), now));
        (waiting.path, waiting.seen) = (path, now);
        // Another log may have come into the same file.
        if waiting.stamp != Some(stamp) {
            (waiting.stamp, waiting.changed) = (Some(stamp), now);
            self.read_beginning(id, merge, now);
        }
        self.read_if_nobody_does(id, merge, now);
    }

    /// Reads as much of a file as tells which log it has.
    fn read_beginning(&mut self, id: FileId, merge: &mut Merge, now: Mono) {
        let is_much_open = self.waiting.len() >= MOST_KEPT_OPEN;
        let Some(waiting) = self.waiting.get_mut(&id) else {
            return;
        };
        let opened = match waiting.file.take() {
            Some(file) => Ok(Some(file)),
            None => open_file(&waiting.path, id),
        };
        let content = opened.and_then(|file| match file {
            Some(file) => Ok(Some((Content::of(&file)?, file))),
            None => Ok(None),
        });
        match content {
            Ok(Some((Content::Unwritten, file))) => {
                waiting.log = None;
                waiting.file = Some(file).filter(|_| !is_much_open);
            }
            Ok(Some((Content::Log { origin, is_plain }, _))) => {
                let known = waiting.log.filter(|log| log.origin == origin);
                let tried = known.and_then(|log| log.tried);
                waiting.log = Some(KnownLog {
                    origin,
                    is_plain,
                    tried,
                });
            }
            Ok(Some((Content::Other, file))) => {
                let path = waiting.path.clone();
                if self.has_room(&path, merge) {
                    self.follow(id, path, file, (None, None), merge, now);
                } else if let Some(waiting) = self.waiting.get_mut(&id) {
                    waiting.stamp = None;
                }
            }
            // Another file has come in its place meanwhile: it is met the next time.
            Ok(None) => waiting.stamp = None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => waiting.stamp = None,
            Err(error) => {
                waiting.stamp = None;
                let path = waiting.path.clone();
                self.unreadable(path, error, &mut merge.tally);
            }
        }
    }

    /// Reads a log from this file if it is read from no other, or that has nothing more and this may have.
    fn read_if_nobody_does(&mut self, id: FileId, merge: &mut Merge, now: Mono) {
        let Some(waiting) = self.waiting.get(&id) else {
            return;
        };
        let Some(log) = waiting.log else {
            return;
        };
        let origin = log.origin;
        let is_ending = |ending: &super::Ending| ending.position.origin == Some(origin);
        if self.ending.iter().any(is_ending) {
            return;
        }
        if let Some(other) = self.reading.get(&origin).copied() {
            let place = self.place_of_all_read(other, merge);
            if place.is_none_or(|place| !waiting.may_have_more(log, place, now)) {
                return;
            }
            self.retire(other, log, merge, now);
        }
        let path = self.waiting.get(&id).map(|waiting| waiting.path.clone());
        let Some(path) = path.filter(|path| self.has_room(path, merge)) else {
            return;
        };
        match open_file(&path, id) {
            Ok(Some(file)) => {
                let place = self.place_of(origin);
                self.follow(id, path, file, (place, Some(origin)), merge, now);
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.unreadable(path, error, &mut merge.tally),
        }
    }

    /// How far a log was read of which no file is read.
    fn place_of(&mut self, origin: Origin) -> Option<Place> {
        let mut left = self.left.iter();
        let left = left.find_map(|(id, left)| (left.origin == Some(origin)).then_some(*id));
        if let Some(position) = left.and_then(|id| self.left.remove(&id)) {
            return Some(position.place);
        }
        let mut missed = self.missed.iter();
        if let Some(at) = missed.position(|missed| missed.origin == Some(origin)) {
            return Some(self.missed.swap_remove(at).place);
        }
        self.ended.get(origin).cloned()
    }

    /// How far a file was read, if it has no more at the moment.
    fn place_of_all_read<'a>(&self, id: FileId, merge: &'a Merge) -> Option<&'a Place> {
        let followed = self.files.get(&id)?;
        let file = merge.file(followed.index)?;
        let is_whole = |growth: &Growth| {
            growth.read() >= followed.size && growth.continuity() == Continuity::Unbroken
        };
        let has_no_more = if file.is_paused() {
            followed.read >= followed.size
        } else {
            merge.is_idle(followed.index) && file.growth().is_some_and(is_whole)
        };
        has_no_more.then(|| file.taken())
    }

    /// Reads a log no further from a file, as another may have more of it.
    fn retire(&mut self, id: FileId, log: KnownLog, merge: &mut Merge, now: Mono) {
        let Some(followed) = self.files.remove(&id) else {
            return;
        };
        merge.pause(followed.index);
        if let Some(file) = merge.file(followed.index) {
            self.ended.put(log.origin, file.taken().clone());
        }
        merge.release(followed.index);
        self.reading.remove(&log.origin);
        // What the file has by now is seen when it is looked at.
        let waiting = Waiting {
            log: Some(KnownLog {
                tried: Some(followed.size),
                ..log
            }),
            ..Waiting::new(followed.position.path, now)
        };
        self.waiting.insert(id, waiting);
        self.has_changed = true;
    }

    /// Looks for rows in files that nothing names any more, and forgets them after a while.
    pub(super) fn look_for_those_waiting(
        &mut self,
        seen: &HashSet<FileId>,
        merge: &mut Merge,
        now: Mono,
    ) {
        let gone: Vec<FileId> = self
            .waiting
            .keys()
            .copied()
            .filter(|id| !seen.contains(id))
            .collect();
        for id in gone {
            let Some(waiting) = self.waiting.get_mut(&id) else {
                continue;
            };
            let Some(file) = &waiting.file else {
                self.waiting.remove(&id);
                continue;
            };
            let stamp = file.metadata().ok().map(|metadata| Stamp::of(&metadata));
            let is_last = now.since(waiting.seen) >= GRACE;
            if waiting.stamp == stamp && !is_last {
                continue;
            }
            (waiting.stamp, waiting.changed) = (stamp, now);
            let is_empty = stamp.is_none_or(|stamp| stamp.size == 0);
            let path = waiting.path.clone();
            let Ok(file) = file.try_clone() else {
                continue;
            };
            let content = Content::of(&file);
            let origin = match content {
                Ok(Content::Log { origin, .. }) => Some(origin),
                Ok(Content::Unwritten) if is_last && !is_empty => None,
                Ok(Content::Unwritten) if !is_last => continue,
                Ok(Content::Other) => None,
                Ok(Content::Unwritten) | Err(_) => {
                    self.waiting.remove(&id);
                    continue;
                }
            };
            let is_read = origin.is_some_and(|origin| self.reading.contains_key(&origin));
            if is_read || !self.has_room(&path, merge) {
                self.waiting.remove(&id);
                continue;
            }
            let place = origin.and_then(|origin| self.place_of(origin));
            self.follow(id, path, file, (place, origin), merge, now);
        }
    }
}
