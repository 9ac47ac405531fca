//! Logs that are read as they grow: through rotation, renaming and truncation, and on from where another life of the
//! node was.

mod positions;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_wire::Mono;

use super::file::InputFile;
use super::merge::{MOST_OPEN, Merge};
use super::open::{FileId, Growth, is_stream};
use super::pattern::{Matches, all_files, find};
use super::summary::Tally;
use positions::{Head, MOST_POSITIONS, Position};

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
    files: HashMap<FileId, Followed>,
    /// Files that are read to their end, by their number in the merge.
    ending: Vec<usize>,
    /// What was told of, so as not to tell it again.
    told: HashSet<PathBuf>,
    next_scan: Mono,
    next_save: Mono,
    has_scanned: bool,
    has_changed: bool,
    cannot_store: bool,
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
        let left = positions::load(&store).unwrap_or_else(|error| {
            tally.problem(format!(
                "cannot read {}: {error}; all logs are read from their beginning",
                store.display()
            ));
            HashMap::new()
        });
        Self {
            patterns,
            store,
            left,
            files: HashMap::new(),
            ending: Vec::new(),
            told: HashSet::new(),
            next_scan: Mono::default(),
            next_save: Mono::default(),
            has_scanned: false,
            has_changed: false,
            cannot_store: false,
        }
    }

    /// Does what is due.
    pub(super) fn tend(&mut self, merge: &mut Merge, now: Mono) {
        if now >= self.next_scan {
            self.scan(merge, now);
        }
        if now >= self.next_save {
            self.save(merge, now);
        }
    }

    /// Looks which files there are.
    pub(super) fn scan(&mut self, merge: &mut Merge, now: Mono) {
        self.next_scan = now.after(SCAN_EVERY);
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
        if !self.has_scanned {
            self.has_scanned = true;
            self.read_what_is_left(merge);
        }
        self.ending.retain(|index| !merge.release(*index));
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
            return self.begin(id, path, metadata, merge, now);
        };
        if followed.is_stream {
            return;
        }
        let Some(file) = merge.file_mut(followed.index) else {
            return;
        };
        if let Some(growth) = file.growth() {
            followed.read = growth.read();
        }
        if followed.position.path != path {
            followed.position.path.clone_from(&path);
            file.rename(path.clone());
            self.has_changed = true;
        }
        if size < followed.read {
            let text = "has become shorter: it is read from its beginning";
            merge.tally.warning(format!("{}: {text}", path.display()));
            self.end(id, merge);
            self.left.remove(&id);
            return self.begin(id, path, metadata, merge, now);
        }
        if size != followed.size {
            (followed.size, followed.changed) = (size, now);
        }
        if file.is_paused() && size != followed.read {
            if followed.position.head.is_of(&path) {
                self.open_again(id, merge, now);
            } else {
                // The system has given its number to another.
                self.end(id, merge);
                self.begin(id, path, metadata, merge, now);
            }
        }
    }

    /// Begins to follow a file, where another life was if it is the same.
    fn begin(
        &mut self,
        id: FileId,
        path: PathBuf,
        metadata: &std::fs::Metadata,
        merge: &mut Merge,
        now: Mono,
    ) {
        if !self.has_room(&path, merge) {
            return;
        }
        let mut file = InputFile::new(path.clone());
        let is_stream = is_stream(metadata);
        let left = self.left.get(&id).filter(|left| left.head.is_of(&path));
        if let Some(left) = left.filter(|left| left.size <= metadata.len()) {
            file.begin_at(left.place.clone());
        }
        let opened = if is_stream {
            file.open(true).map(|()| id)
        } else {
            file.open_growing()
        };
        match opened {
            // Another file has come in its place meanwhile: it is met the next time.
            Ok(opened) if opened != id => return,
            Ok(_) => {}
            Err(error) => return self.unreadable(path, error, &mut merge.tally),
        }
        self.left.remove(&id);
        self.told.remove(&path);
        let head = if is_stream {
            Head::default()
        } else {
            Head::of(&path).unwrap_or_default()
        };
        let position = Position {
            path,
            place: file.taken().clone(),
            size: 0,
            head,
        };
        let followed = Followed {
            index: merge.add(file),
            position,
            size: metadata.len(),
            changed: now,
            read: 0,
            is_stream,
        };
        self.files.insert(id, followed);
        self.has_changed = true;
    }

    /// Whether one more file may be followed and opened. If need be, the one that has had nothing for longest is closed
    /// until it grows.
    fn has_room(&mut self, path: &Path, merge: &mut Merge) -> bool {
        if self.files.len() >= MOST_POSITIONS {
            if self.told.insert(PathBuf::new()) {
                merge.tally.problem(format!(
                    "more than {MOST_POSITIONS} logs: {} and others are not followed",
                    path.display()
                ));
            }
            return false;
        }
        self.make_room(merge)
    }

    fn make_room(&mut self, merge: &mut Merge) -> bool {
        if merge.open() < MOST_OPEN {
            return true;
        }
        let idle = self.files.values().filter(|followed| {
            let file = merge.file(followed.index);
            let is_whole = |file: &InputFile| {
                file.growth()
                    .is_some_and(|growth| growth.read() >= followed.size)
            };
            file.is_some_and(|file| file.is_open() && !file.has_row() && is_whole(file))
        });
        let Some(index) = idle
            .min_by_key(|followed| followed.changed)
            .map(|followed| followed.index)
        else {
            return false;
        };
        let read = merge
            .file(index)
            .and_then(|file| Some(file.growth()?.read()));
        let longest = self
            .files
            .values_mut()
            .find(|followed| followed.index == index);
        if let (Some(longest), Some(read)) = (longest, read) {
            longest.read = read;
        }
        merge.pause(index);
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
        let Some(file) = merge.file_mut(followed.index) else {
            return;
        };
        match file.open_growing() {
            Ok(opened) if opened == id => {
                followed.changed = now;
                merge.opened_again(followed.index);
            }
            Ok(_) => file.pause(),
            Err(error) => {
                let path = followed.position.path.clone();
                self.unreadable(path, error, &mut merge.tally);
            }
        }
    }

    /// Ends the files that nothing names any more, once nothing was written to them for a while.
    fn end_those_gone(&mut self, seen: &HashSet<FileId>, merge: &mut Merge, now: Mono) {
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
            self.ending.push(followed.index);
            self.has_changed = true;
        }
    }

    /// Reads the rest of the files that were rotated while no one followed them, if they are still beside their
    /// successors.
    fn read_what_is_left(&mut self, merge: &mut Merge) {
        for (id, position) in std::mem::take(&mut self.left) {
            let directory = position.path.parent().unwrap_or(Path::new("."));
            let renamed = renamed(directory, id).filter(|path| position.head.is_of(path));
            let Some(path) = renamed else {
                merge.tally.warning(format!(
                    "{} is gone: what was written to it behind line {} is not read",
                    position.path.display(),
                    position.place.line
                ));
                self.has_changed = true;
                continue;
            };
            let mut file = InputFile::new(path.clone());
            file.begin_at(position.place.clone());
            match file.open_growing() {
                Ok(opened) if opened == id => {
                    if let Some(growth) = file.growth() {
                        growth.end();
                    }
                    let index = merge.add(file);
                    self.ending.push(index);
                    self.has_changed = true;
                }
                Ok(_) => {}
                Err(error) => self.unreadable(path, error, &mut merge.tally),
            }
        }
    }

    fn unreadable(&mut self, path: PathBuf, error: io::Error, tally: &mut Tally) {
        if self.told.len() < MOST_POSITIONS && self.told.insert(path.clone()) {
            InputFile::new(path).unreadable(error, tally);
        }
    }

    /// Writes how far each file has been handed over, if that has changed.
    pub(super) fn save(&mut self, merge: &mut Merge, now: Mono) {
        self.next_save = now.after(SAVE_EVERY);
        for followed in self
            .files
            .values_mut()
            .filter(|followed| !followed.is_stream)
        {
            let Some(file) = merge.file(followed.index) else {
                continue;
            };
            let position = &mut followed.position;
            if position.place == *file.taken() {
                continue;
            }
            position.place = file.taken().clone();
            position.size = file.growth().map_or(followed.read, Growth::read);
            self.has_changed = true;
            if position.head.is_short()
                && let Ok(head) = Head::of(&position.path)
            {
                position.head = head;
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
        match positions::store(&self.store, files.chain(left)) {
            Ok(()) => (self.has_changed, self.cannot_store) = (false, false),
            Err(error) => {
                if !std::mem::replace(&mut self.cannot_store, true) {
                    merge.tally.problem(format!(
                        "cannot write {}: {error}; after a restart rows are read again",
                        self.store.display()
                    ));
                }
            }
        }
    }
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

/// What a file of a directory is called by now.
fn renamed(directory: &Path, id: FileId) -> Option<PathBuf> {
    let entries = std::fs::read_dir(directory).ok()?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| std::fs::metadata(path).is_ok_and(|metadata| FileId::of(&metadata) == id))
}
