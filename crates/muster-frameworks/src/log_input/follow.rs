//! Logs that are read as they grow: through rotation, renaming and truncation, and on from where another life of the
//! node was.
//!
//! A *log* is one whatever its files are: what begins with the same first connection is the same log, copied, renamed or
//! compressed. It has one place up to which it was read, and one of its files is read at a time.

mod ended;
mod ending;
mod fingerprint;
mod left;
mod positions;
mod saving;
mod waiting;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_wire::Mono;

use super::file::InputFile;
use super::merge::{MOST_OPEN, Merge};
use super::open::{Continuity, FileId, is_stream};
use super::pattern::{Matches, all_files, find};
use super::summary::Tally;
use crate::zeek_log::Place;
use ended::Ended;
use ending::Ending;
use fingerprint::{Head, Origin, Tail};
pub use positions::ReadSoFar;
use positions::{MOST_POSITIONS, Outcome, Position, Positions};
use waiting::{Stamp, Waiting};

/// How often it is looked which files there are.
const SCAN_EVERY: Duration = Duration::from_secs(1);

/// How often positions are written, if they have changed.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How long a file that nothing names any more is read on after its last growth.
const GRACE: Duration = Duration::from_secs(5);

/// Follows the logs of an input.
#[derive(Debug)]
pub(super) struct Follower {
    patterns: Vec<PathBuf>,
    /// The file of positions.
    store: PathBuf,
    /// What another life has left and this one has not met yet.
    left: HashMap<FileId, Position>,
    /// Logs of another life whose file has something else by now.
    missed: Vec<Position>,
    /// Logs of which no file is read any more.
    ended: Ended,
    files: HashMap<FileId, Followed>,
    /// Which file each log is read from, as of this scan.
    reading: HashMap<Origin, FileId>,
    /// Files that are not read, or not yet.
    waiting: HashMap<FileId, Waiting>,
    /// Files that are read to their end.
    ending: Vec<Ending>,
    /// What was told of, so as not to tell it again.
    told: HashSet<PathBuf>,
    next_scan: Mono,
    next_save: Mono,
    has_scanned: bool,
    has_changed: bool,
    cannot_store: bool,
    stored: Outcome,
}

#[derive(Debug)]
struct Followed {
    /// Its number in the merge.
    index: usize,
    position: Position,
    /// Its size when it was last looked at, and when that changed.
    size: u64,
    changed: Mono,
    /// Bytes of it that were read.
    read: u64,
    is_stream: bool,
}

impl Follower {
    /// Takes up what another life has left in `store`.
    pub(super) fn new(patterns: Vec<PathBuf>, store: PathBuf, tally: &mut Tally) -> Self {
        let Positions { files: left, ended } = positions::load(&store).unwrap_or_else(|error| {
            tally.problem(format!(
                "cannot read {}: {error}; all logs are read from their beginning",
                store.display()
            ));
            Positions::default()
        });
        Self {
            patterns,
            store,
            left,
            missed: Vec::new(),
            ended,
            files: HashMap::new(),
            reading: HashMap::new(),
            waiting: HashMap::new(),
            ending: Vec::new(),
            told: HashSet::new(),
            next_scan: Mono::default(),
            next_save: Mono::default(),
            has_scanned: false,
            has_changed: false,
            cannot_store: false,
            stored: Outcome::default(),
        }
    }

    /// Does what is due.
    pub(super) fn tend(&mut self, merge: &mut Merge, now: Mono, keep: &mut impl FnMut(ReadSoFar)) {
        if now >= self.next_scan {
            self.scan(merge, now);
        }
        if now >= self.next_save {
            self.save(merge, now, keep);
        }
    }

    /// Looks which files there are.
    pub(super) fn scan(&mut self, merge: &mut Merge, now: Mono) {
        self.next_scan = now.after(SCAN_EVERY);
        self.release_ended(merge);
        let files = self.files.iter();
        let reading = files.filter_map(|(id, followed)| Some((followed.position.origin?, *id)));
        self.reading = reading.collect();
        let found = find(&self.patterns);
        if !self.has_scanned {
            tell_of_nothing(&found, &mut merge.tally);
        }
        let mut seen = HashSet::new();
        for path in all_files(&found) {
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(metadata) => {
                    let id = FileId::of(&metadata);
                    if seen.insert(id) {
                        self.look_at(id, path, &metadata, merge, now);
                    }
                }
                // It may come.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.unreadable(path, error, &mut merge.tally),
            }
        }
        self.end_those_gone(&seen, merge, now);
        self.look_for_those_waiting(&seen, merge, now);
        if !self.has_scanned {
            self.has_scanned = true;
            self.read_what_is_left(merge);
        }
    }

    /// Looks at a file that a pattern stands for.
    fn look_at(
        &mut self,
        id: FileId,
        path: PathBuf,
        metadata: &std::fs::Metadata,
        merge: &mut Merge,
        now: Mono,
    ) {
        let size = metadata.len();
        let Some(followed) = self.files.get_mut(&id) else {
            return self.meet(id, path, metadata, merge, now);
        };
        if followed.is_stream {
            return;
        }
        let index = followed.index;
        let is_idle = merge.is_idle(index);
        let Some(file) = merge.file_mut(index) else {
            return;
        };
        if followed.position.path != path {
            followed.position.path.clone_from(&path);
            file.rename(path.clone());
            self.has_changed = true;
        }
        let mut continuity = Continuity::Unbroken;
        if let Some(growth) = file.growth() {
            (followed.read, continuity) = (growth.read(), growth.continuity());
        } else if size != followed.read && !followed.position.is_of(&path) {
            continuity = Continuity::BegunAnew;
        }
        if size != followed.size {
            (followed.size, followed.changed) = (size, now);
        }
        let is_to_open = file.is_paused() && size != followed.read;
        match continuity {
            Continuity::Unbroken if is_to_open => self.open_again(id, merge, now),
            Continuity::Emptied if is_idle => self.go_on_behind_zeros(id, merge),
            Continuity::Unbroken | Continuity::Emptied => {}
            Continuity::BegunAnew => {
                let line = file.passed().line;
                let text = format!(
                    "{}: has begun anew: what was written to it behind line {line} and was not read by then is not read, unless a copy is",
                    path.display()
                );
                merge.tally.warning(text);
                merge.tally.summary.begun_anew += 1;
                self.halt(id);
                self.meet(id, path, metadata, merge, now);
            }
        }
    }

    /// Meets a file: goes on where another life was if it is the same, and finds out what it has otherwise.
    fn meet(
        &mut self,
        id: FileId,
        path: PathBuf,
        metadata: &std::fs::Metadata,
        merge: &mut Merge,
        now: Mono,
    ) {
        if is_stream(metadata) {
            return self.follow_stream(id, path, merge, now);
        }
        if let Some(left) = self.left.get(&id) {
            if left.size <= metadata.len() && left.is_of(&path) {
                if !self.has_room(&path, merge) {
                    return;
                }
                match File::open(&path) {
                    Err(error) => self.unreadable(path, error, &mut merge.tally),
                    Ok(file) => {
                        if let Some(left) = self.left.remove(&id) {
                            let Position {
                                place,
                                origin,
                                size,
                                tail,
                                ..
                            } = left;
                            self.follow(id, path, file, (Some(place), origin), merge, now);
                            if let Some(followed) = self.files.get_mut(&id) {
                                (followed.position.size, followed.position.tail) = (size, tail);
                            }
                        }
                    }
                }
                return;
            }
            self.missed.extend(self.left.remove(&id));
        }
        self.tell_apart(id, path, Stamp::of(metadata), merge, now);
    }

    fn follow_stream(&mut self, id: FileId, path: PathBuf, merge: &mut Merge, now: Mono) {
        if !self.has_room(&path, merge) {
            return;
        }
        let mut file = InputFile::new(path.clone());
        if let Err(error) = file.open(true, &merge.windows()) {
            return self.unreadable(path, error, &mut merge.tally);
        }
        self.told.remove(&path);
        let followed = Followed {
            index: merge.add(file),
            position: Position::new(path, Head::default()),
            size: 0,
            changed: now,
            read: 0,
            is_stream: true,
        };
        self.files.insert(id, followed);
    }

    /// Begins to follow a file, from a place of it or from its beginning.
    fn follow(
        &mut self,
        id: FileId,
        path: PathBuf,
        file: File,
        (place, origin): (Option<Place>, Option<Origin>),
        merge: &mut Merge,
        now: Mono,
    ) {
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let mut input = InputFile::new(path.clone());
        if let Some(place) = place {
            input.begin_at(place);
        }
        input.open_growing(file, &merge.windows());
        self.told.remove(&path);
        self.waiting.remove(&id);
        let head = Head::of(&path).unwrap_or_default();
        let position = Position {
            place: input.taken().clone(),
            origin,
            ..Position::new(path, head)
        };
        let followed = Followed {
            index: merge.add(input),
            position,
            size,
            changed: now,
            read: 0,
            is_stream: false,
        };
        self.files.insert(id, followed);
        if let Some(origin) = origin {
            self.ended.take(origin);
            self.reading.insert(origin, id);
        }
        self.has_changed = true;
    }

    /// A file was emptied, and its writer goes on where it was. What it has now is another log.
    fn go_on_behind_zeros(&mut self, id: FileId, merge: &mut Merge) {
        let Some(followed) = self.files.get_mut(&id) else {
            return;
        };
        let Some(file) = merge.file(followed.index) else {
            return;
        };
        let place = file.taken().clone();
        let text = format!(
            "{}: was emptied while its writer goes on behind line {}: what was written to it and not read by then is not read, unless a copy is",
            followed.position.path.display(),
            place.line
        );
        if let Some(growth) = file.growth() {
            growth.go_on();
        }
        merge.tally.warning(text);
        merge.tally.summary.begun_anew += 1;
        followed.position.head = Head::of(&followed.position.path).unwrap_or_default();
        if let Some(origin) = followed.position.origin.take() {
            self.reading.remove(&origin);
            self.ended.put(origin, place);
        }
        self.has_changed = true;
    }

    /// Whether one more file may be followed and opened. If need be, the one that has had nothing for longest is closed
    /// until it grows.
    fn has_room(&mut self, path: &Path, merge: &mut Merge) -> bool {
        if self.files.len() >= MOST_POSITIONS {
            self.tell_too_many(path, &mut merge.tally);
            return false;
        }
        self.make_room(merge)
    }

    fn tell_too_many(&mut self, path: &Path, tally: &mut Tally) {
        if self.told.insert(PathBuf::new()) {
            tally.problem(format!(
                "more than {MOST_POSITIONS} logs: {} and others are not followed",
                path.display()
            ));
        }
    }

    fn make_room(&mut self, merge: &mut Merge) -> bool {
        if merge.open() < MOST_OPEN {
            return true;
        }
        let idle = self.files.values_mut().filter(|followed| {
            let file = merge.file(followed.index);
            let is_whole = |file: &InputFile| {
                file.growth()
                    .is_some_and(|growth| growth.read() >= followed.size)
            };
            file.is_some_and(|file| file.is_open() && !file.has_row() && is_whole(file))
        });
        let Some(longest) = idle.min_by_key(|followed| followed.changed) else {
            return false;
        };
        if let Some(growth) = merge.file(longest.index).and_then(InputFile::growth) {
            longest.read = growth.read();
            longest.position.tail = Tail::of(growth);
        }
        merge.pause(longest.index);
        merge.open() < MOST_OPEN
    }

    /// A file that was closed has grown.
    fn open_again(&mut self, id: FileId, merge: &mut Merge, now: Mono) {
        if !self.make_room(merge) {
            return;
        }
        let Some(followed) = self.files.get_mut(&id) else {
            return;
        };
        let windows = merge.windows();
        let Some(file) = merge.file_mut(followed.index) else {
            return;
        };
        match open_file(&followed.position.path, id) {
            Ok(None) => {}
            Ok(Some(opened)) => {
                file.open_growing(opened, &windows);
                followed.changed = now;
                merge.opened_again(followed.index);
            }
            Err(error) => {
                let path = followed.position.path.clone();
                self.unreadable(path, error, &mut merge.tally);
            }
        }
    }

    fn unreadable(&mut self, path: PathBuf, error: io::Error, tally: &mut Tally) {
        if self.told.len() < MOST_POSITIONS && self.told.insert(path.clone()) {
            InputFile::new(path).unreadable(error, tally);
        }
    }
}

/// Opens a file, if it is this one.
fn open_file(path: &Path, id: FileId) -> io::Result<Option<File>> {
    let file = File::open(path)?;
    let is_it = FileId::of(&file.metadata()?) == id;
    Ok(is_it.then_some(file))
}

/// Tells of patterns that stand for nothing so far.
fn tell_of_nothing(found: &[Matches], tally: &mut Tally) {
    for matches in found {
        for problem in &matches.problems {
            tally.problem(problem.clone());
        }
        if matches.is_nothing() {
            let pattern = matches.pattern.display();
            tally.warning(format!("no file matches `{pattern}` yet"));
        }
    }
}
