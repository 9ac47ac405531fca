//! Rows of many files in the order of their timestamps.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use muster_cluster::Watermarks;
use muster_data::Timestamp;

use super::file::{InputFile, Next};
use super::share::Share;
use super::summary::Tally;
use crate::zeek_log::Windows;

/// The most files of an input that are open at once; each has buffers of about 200 KiB.
pub const MOST_OPEN: usize = 1024;

const NEVER: Timestamp = Timestamp::from_nanos(i64::MIN);

/// The files of an input, each at a row that is next.
///
/// The order inside a file stays as it is, even where its times run backwards.
#[derive(Debug)]
pub(super) struct Merge {
    files: Vec<InputFile>,
    /// Numbers of files that are no more.
    free: Vec<usize>,
    /// Time and file of each next row; equal times in the order of the files.
    next: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// First time and number of each file that is closed until then.
    closed: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// Files that have nothing at the moment.
    idle: Vec<usize>,
    /// Growing files of which something was passed and not taken yet.
    passed: Vec<usize>,
    /// How many are open.
    open: usize,
    /// The latest that a growing file has come to.
    live_reached: Timestamp,
    most_open: usize,
    follows: bool,
    share: Share,
    /// What decompressing all files may take.
    windows: Windows,
    pub(super) tally: Tally,
}

impl Merge {
    pub(super) fn new(share: Share, follows: bool) -> Self {
        Self {
            files: Vec::new(),
            free: Vec::new(),
            next: BinaryHeap::new(),
            closed: BinaryHeap::new(),
            idle: Vec::new(),
            passed: Vec::new(),
            open: 0,
            live_reached: NEVER,
            most_open: MOST_OPEN,
            follows,
            share,
            windows: Windows::default(),
            tally: Tally::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn with_most_open(mut self, most: usize) -> Self {
        self.most_open = most;
        self
    }

    #[cfg(test)]
    pub(super) fn with_windows(mut self, windows: Windows) -> Self {
        self.windows = windows;
        self
    }

    /// Reads the first rows of each file. Where there are more than may be open at once, each is closed again until
    /// its first row is due. A break means that the input is to stop.
    pub(super) fn start(&mut self, paths: Vec<PathBuf>, stop: &AtomicBool) -> ControlFlow<()> {
        let are_many = paths.len() > self.most_open;
        for path in paths {
            let mut file = InputFile::new(path);
            if let Err(error) = file.open(self.follows, &self.windows) {
                file.unreadable(error, &mut self.tally);
                continue;
            }
            let mut tally = Tally::default();
            let next = file.advance(self.share, stop, &mut tally);
            let index = self.files.len();
            match next {
                Next::Row(first) if are_many && !file.is_live() => {
                    // What it has to say is said when it is read.
                    file.close();
                    self.closed.push(Reverse((first, index)));
                }
                next => {
                    self.tally.add(tally);
                    self.open += usize::from(file.is_open());
                    self.enter(index, &file, next);
                }
            }
            self.files.push(file);
            if next == Next::Stop {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// What decompressing all files may take.
    pub(super) fn windows(&self) -> Windows {
        self.windows.clone()
    }

    /// Adds a file that is open and grows; returns its number.
    pub(super) fn add(&mut self, mut file: InputFile) -> usize {
        self.open += 1;
        if self.live_reached > NEVER {
            file.begin_beside(self.live_reached);
        }
        let index = if let Some(index) = self.free.pop() {
            self.files[index] = file;
            index
        } else {
            self.files.push(file);
            self.files.len() - 1
        };
        self.idle.push(index);
        index
    }

    /// Gives the number of a file that has ended to another; `false` if it has not ended.
    pub(super) fn release(&mut self, index: usize) -> bool {
        let has_ended = self
            .files
            .get(index)
            .is_some_and(|file| !file.is_open() && !file.has_row());
        if has_ended {
            self.free.push(index);
        }
        has_ended
    }

    pub(super) fn file(&self, index: usize) -> Option<&InputFile> {
        self.files.get(index)
    }

    pub(super) fn file_mut(&mut self, index: usize) -> Option<&mut InputFile> {
        self.files.get_mut(index)
    }

    /// The number of files that are open.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// A file was opened again and grows.
    pub(super) fn opened_again(&mut self, index: usize) {
        self.open += 1;
        self.idle.push(index);
    }

    /// Closes a file that has nothing at the moment; it goes on where it is when it is opened again. `false` if it has.
    pub(super) fn pause(&mut self, index: usize) -> bool {
        if let Some(at) = self.idle.iter().position(|idle| *idle == index)
            && let Some(file) = self.files.get_mut(index)
        {
            self.idle.swap_remove(at);
            file.pause();
            self.open -= 1;
            return true;
        }
        false
    }

    /// Whether a file has nothing at the moment.
    pub(super) fn is_idle(&self, index: usize) -> bool {
        self.idle.contains(&index)
    }

    /// Whether nothing will come any more.
    pub(super) fn has_ended(&self) -> bool {
        self.next.is_empty() && self.closed.is_empty() && self.idle.is_empty()
    }

    /// Whether files may have more although there is nothing at the moment.
    pub(super) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// Looks whether files that had nothing have something by now. A break means that the input is to stop.
    pub(super) fn poll(&mut self, stop: &AtomicBool) -> ControlFlow<()> {
        for index in std::mem::take(&mut self.idle) {
            self.advance(index, stop)?;
        }
        ControlFlow::Continue(())
    }

    /// The time of the next row. Opens the files whose first row is due.
    pub(super) fn next_time(&mut self, stop: &AtomicBool) -> ControlFlow<(), Option<Timestamp>> {
        loop {
            let next = self.next.peek().map(|Reverse((ts, _))| *ts);
            match self.closed.peek() {
                Some(Reverse((first, _)))
                    if next.is_none_or(|next| *first <= next) && self.open < self.most_open =>
                {
                    self.open_closed(stop)?;
                }
                _ => return ControlFlow::Continue(next),
            }
        }
    }

    fn open_closed(&mut self, stop: &AtomicBool) -> ControlFlow<()> {
        let Some(Reverse((_, index))) = self.closed.pop() else {
            return ControlFlow::Continue(());
        };
        let Some(file) = self.files.get_mut(index) else {
            return ControlFlow::Continue(());
        };
        if let Err(error) = file.open(self.follows, &self.windows) {
            file.unreadable(error, &mut self.tally);
            return ControlFlow::Continue(());
        }
        self.open += 1;
        self.advance(index, stop)
    }

    /// Passes the next row: its event goes to `keep` if it belongs to the share.
    pub(super) fn pass(&mut self, stop: &AtomicBool, keep: impl FnOnce(&[u8])) -> ControlFlow<()> {
        let Some(Reverse((_, index))) = self.next.pop() else {
            return ControlFlow::Continue(());
        };
        match self.files[index].pass(keep) {
            Some(true) => self.tally.summary.events += 1,
            Some(false) => self.tally.summary.other_share += 1,
            None => {}
        }
        self.advance(index, stop)
    }

    /// What was passed has been taken.
    pub(super) fn commit(&mut self) {
        for index in self.passed.drain(..) {
            if let Some(file) = self.files.get_mut(index) {
                file.commit();
            }
        }
    }

    /// The low watermark: what each file that may bring more has reached, the least of it.
    ///
    /// A file that grows and has nothing at the moment holds nothing back: it may be silent for days. If all are like
    /// that, the latest of them counts.
    pub(super) fn low(&self) -> Timestamp {
        let first_closed = self.closed.peek().map(|Reverse((first, _))| *first);
        let with_row = self
            .next
            .iter()
            .map(|Reverse((_, index))| self.files[*index].reached());
        let may_come = self.follows || !self.idle.is_empty();
        let all_idle = may_come.then_some(self.live_reached);
        let low = with_row.chain(first_closed).min();
        low.or(all_idle).unwrap_or(Watermarks::END)
    }

    /// Finds a file's next row that tells of a connection.
    fn advance(&mut self, index: usize, stop: &AtomicBool) -> ControlFlow<()> {
        let file = &mut self.files[index];
        let was_open = file.is_open();
        let next = file.advance(self.share, stop, &mut self.tally);
        if file.is_live() {
            self.live_reached = self.live_reached.max(file.reached());
            self.passed.push(index);
        }
        self.open -= usize::from(was_open && !file.is_open());
        match next {
            Next::Row(at) => self.next.push(Reverse((at, index))),
            Next::NotNow => self.idle.push(index),
            Next::End => {}
            Next::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn enter(&mut self, index: usize, file: &InputFile, next: Next) {
        if file.is_live() {
            self.live_reached = self.live_reached.max(file.reached());
        }
        match next {
            Next::Row(at) => self.next.push(Reverse((at, index))),
            Next::NotNow => self.idle.push(index),
            Next::End | Next::Stop => {}
        }
    }
}
