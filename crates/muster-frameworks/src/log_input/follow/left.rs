//! What another life of the node has not read to the end, and this one does not find where it was.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::super::file::InputFile;
use super::super::merge::Merge;
use super::super::open::FileId;
use super::fingerprint::{Content, Origin};
use super::positions::Position;
use super::{Ending, Follower};

/// The most files of a directory among which a copy of a log is looked for.
const MOST_SEARCHED: usize = 4096;

impl Follower {
    /// Reads the rest of the logs that were rotated while no one followed them, if they, or copies of them, are still
    /// beside their successors.
    pub(super) fn read_what_is_left(&mut self, merge: &mut Merge) {
        let left = std::mem::take(&mut self.left);
        let left = left.into_iter().map(|(id, position)| (Some(id), position));
        let missed = std::mem::take(&mut self.missed);
        let missed = missed.into_iter().map(|position| (None, position));
        for (id, position) in left.chain(missed).collect::<Vec<_>>() {
            self.has_changed = true;
            let directory = match position.path.parent() {
                Some(directory) if !directory.as_os_str().is_empty() => directory,
                _ => Path::new("."),
            };
            let renamed = id.and_then(|id| renamed(directory, id));
            let found = renamed
                .filter(|path| position.is_of(path))
                .or_else(|| self.copy_of(position.origin?, directory));
            if let Some(path) = found {
                self.read_rest(path, position, merge);
                continue;
            }
            merge.tally.warning(format!(
                "{} is gone: what was written to it behind line {} is not read, unless a copy comes",
                position.path.display(),
                position.place.line
            ));
            if let Some(origin) = position.origin {
                self.ended.put(origin, position.place);
            }
        }
    }

    fn read_rest(&mut self, path: PathBuf, position: Position, merge: &mut Merge) {
        let opened = File::open(&path).and_then(|file| Ok((FileId::of(&file.metadata()?), file)));
        let (id, file) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.unreadable(path, error, &mut merge.tally),
        };
        let mut input = InputFile::new(path.clone());
        input.begin_at(position.place.clone());
        input.open_growing(file, &merge.windows());
        if let Some(growth) = input.growth() {
            growth.end();
        }
        let index = merge.add(input);
        self.ending.push(Ending {
            index,
            id,
            position: Position { path, ..position },
            is_halted: false,
        });
    }

    /// A file of a directory that has this log, among those that are not read.
    fn copy_of(&self, origin: Origin, directory: &Path) -> Option<PathBuf> {
        let read: HashSet<FileId> = self.files.keys().copied().collect();
        let has_it = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            if !metadata.is_file() || read.contains(&FileId::of(&metadata)) {
                return None;
            }
            match Content::of(&File::open(path).ok()?).ok()? {
                Content::Log { origin: other, .. } => (other == origin).then_some(()),
                Content::Unwritten | Content::Other => None,
            }
        };
        let entries = std::fs::read_dir(directory).ok()?.take(MOST_SEARCHED);
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.find(|path| has_it(path).is_some())
    }
}

/// What a file of a directory is called by now.
fn renamed(directory: &Path, id: FileId) -> Option<PathBuf> {
    let entries = std::fs::read_dir(directory).ok()?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| std::fs::metadata(path).is_ok_and(|metadata| FileId::of(&metadata) == id))
}
