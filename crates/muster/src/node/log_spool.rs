//! The thread that has a node's spool: a disk that hangs does not hang the node.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use std::{fs, io};

use muster_cluster::node::{Leftover, Spool, SpoolHome, SpoolOrder, SpoolOutcome};
use muster_spool::{DiskFiles, JournalError};
use muster_wire::EndpointId;

/// What waits to be done, and what was done and is not heard yet. What a node wants is bounded by what its records may take, so
/// that no more than that ever waits to be handed over.
const ORDERS: usize = 1024;
const OUTCOMES: usize = 2 * ORDERS;

/// What was kept is synced together: when the first of it is so old, or when it is so much.
const SYNC_AFTER: Duration = Duration::from_millis(100);
const SYNC_BYTES: usize = 4 << 20;

/// How long a sync that has failed is left alone.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How often it is looked whether somebody has put the directory of another life beside those of this node.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What a directory is called that is put aside, and one that is being removed.
const DAMAGED: &str = "damaged";
const GONE: &str = "gone";

/// The directories of a node's lives, each named after a life.
#[derive(Debug)]
struct DiskHome(PathBuf);

impl DiskHome {
    fn of(&self, life: EndpointId) -> PathBuf {
        self.0.join(life.to_string())
    }

    fn rename(&self, life: EndpointId, to: &Path) -> io::Result<()> {
        if to.exists() {
            fs::remove_dir_all(to)?;
        }
        fs::rename(self.of(life), to)?;
        fs::File::open(&self.0)?.sync_all()
    }
}

/// The bytes of a directory's files.
fn bytes_in(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum()
}

impl SpoolHome for DiskHome {
    type Files = DiskFiles;

    fn lives(&mut self) -> io::Result<Vec<EndpointId>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut lives = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.path().extension().is_some_and(|it| it == GONE) {
                let _ = fs::remove_dir_all(entry.path());
            }
            // Anything else is not ours.
            let name = entry.file_name();
            lives.extend(
                name.to_str()
                    .and_then(|name| name.parse::<EndpointId>().ok()),
            );
        }
        lives.sort_unstable();
        Ok(lives)
    }

    fn open(&mut self, life: EndpointId) -> Result<DiskFiles, JournalError> {
        DiskFiles::open(self.of(life))
    }

    fn bytes_of_others(&mut self, life: EndpointId) -> u64 {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let others = entries.map(|entry| entry.path());
        let own = self.of(life);
        others
            .filter(|path| *path != own)
            .map(|path| bytes_in(&path))
            .sum()
    }

    /// What is removed in part is nothing that a next life may find.
    fn remove(&mut self, life: EndpointId) -> io::Result<()> {
        let gone = self.of(life).with_extension(GONE);
        self.rename(life, &gone)?;
        fs::remove_dir_all(gone)
    }

    fn set_aside(&mut self, life: EndpointId) -> io::Result<()> {
        self.rename(life, &self.of(life).with_extension(DAMAGED))
    }
}

/// Something to be done.
#[derive(Debug)]
enum Job {
    Order(EndpointId, SpoolOrder),
    Close,
}

/// What is heard of the spool.
#[derive(Debug)]
pub(super) enum SpoolNews {
    /// A former life has left something.
    Found(Leftover),
    /// For the batches of a life.
    Outcome(EndpointId, SpoolOutcome),
    /// Something to be told.
    Problem(String),
    Closed,
}

/// A handle of the thread.
#[derive(Debug)]
pub(super) struct SpoolWriter {
    jobs: SyncSender<Job>,
    /// What there was no room for.
    waiting: VecDeque<Job>,
    news: Receiver<SpoolNews>,
    thread: Option<JoinHandle<()>>,
}

/// The end of the thread.
struct Work {
    spool: Spool<DiskHome>,
    jobs: Receiver<Job>,
    news: SyncSender<SpoolNews>,
    node: Thread,
    /// When the next sync is due, and how much it is about.
    sync_at: Option<Instant>,
    bytes: usize,
    looked: Instant,
}

impl SpoolWriter {
    /// Starts the thread of a life of a node, which is woken when there is something to hear.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(super) fn start(
        directory: PathBuf,
        name: &str,
        life: EndpointId,
        limit: u64,
        node: Thread,
    ) -> io::Result<Self> {
        let (jobs, to_do) = sync_channel(ORDERS);
        let (tell, news) = sync_channel(OUTCOMES);
        let work = Work {
            spool: Spool::new(DiskHome(directory), name, life, limit),
            jobs: to_do,
            news: tell,
            node,
            sync_at: None,
            bytes: 0,
            looked: Instant::now(),
        };
        let thread = std::thread::Builder::new().name(format!("spool of {name}"));
        let thread = thread.spawn(move || work.run())?;
        Ok(Self {
            jobs,
            waiting: VecDeque::new(),
            news,
            thread: Some(thread),
        })
    }

    /// Has something done.
    pub(super) fn order(&mut self, life: EndpointId, order: SpoolOrder) {
        self.waiting.push_back(Job::Order(life, order));
        self.hand_over();
    }

    fn hand_over(&mut self) {
        while let Some(job) = self.waiting.pop_front() {
            if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) =
                self.jobs.try_send(job)
            {
                return self.waiting.push_front(job);
            }
        }
    }

    /// Returns what has become of an order, if anything has that was not heard yet.
    pub(super) fn hear(&mut self) -> Option<SpoolNews> {
        self.hand_over();
        self.news.try_recv().ok()
    }

    /// Ends the thread, and waits for it until `limit`. Returns what is heard meanwhile.
    pub(super) fn close(mut self, limit: Duration, mut hear: impl FnMut(SpoolNews)) {
        let until = Instant::now() + limit;
        self.waiting.push_back(Job::Close);
        loop {
            self.hand_over();
            match self.news.recv_timeout(Duration::from_millis(20)) {
                Ok(SpoolNews::Closed) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(news) => hear(news),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => {
                    tracing::error!("the spool was not closed within {limit:?}: its disk hangs");
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Work {
    fn run(mut self) {
        self.look();
        loop {
            let at = self.sync_at.unwrap_or(self.looked + LOOK_EVERY);
            let rest = at.saturating_duration_since(Instant::now());
            match self.jobs.recv_timeout(rest) {
                Ok(Job::Order(life, order)) => self.carry_out(life, order),
                Ok(Job::Close) => {
                    self.sync();
                    let problem = self.spool.close();
                    let _ = problem.map(|it| self.news.send(SpoolNews::Problem(it)));
                    let _ = self.news.send(SpoolNews::Closed);
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The node is gone without a word.
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
            let is_due = self.sync_at.is_some_and(|at| at <= Instant::now());
            if is_due || self.bytes >= SYNC_BYTES {
                self.sync();
            }
            if self.looked.elapsed() >= LOOK_EVERY {
                self.look();
            }
        }
    }

    fn carry_out(&mut self, life: EndpointId, order: SpoolOrder) {
        let is_end = order == SpoolOrder::End;
        if let SpoolOrder::Keep { batch, .. } = &order {
            self.bytes += batch.bytes();
        }
        if let Some(outcome) = self.spool.carry_out(life, order) {
            self.tell(SpoolNews::Outcome(life, outcome));
        }
        if is_end {
            self.look();
        }
        if self.spool.needs_sync() {
            self.sync_at
                .get_or_insert_with(|| Instant::now() + SYNC_AFTER);
        }
    }

    fn look(&mut self) {
        self.looked = Instant::now();
        let (left, problems) = self.spool.adopt();
        for problem in problems {
            self.tell(SpoolNews::Problem(problem));
        }
        if let Some(left) = left {
            self.tell(SpoolNews::Found(left));
        }
    }

    fn sync(&mut self) {
        self.bytes = 0;
        for (life, outcome) in self.spool.sync() {
            self.tell(SpoolNews::Outcome(life, outcome));
        }
        let needs_more = self.spool.needs_sync();
        self.sync_at = needs_more.then(|| Instant::now() + TRY_AGAIN);
    }

    /// Tells the node. One that does not listen is waited for: it reads as long as it lives.
    fn tell(&self, news: SpoolNews) {
        let _ = self.news.send(news);
        self.node.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_lives_are_told_from_others() {
        let directory = tempfile::tempdir().unwrap();
        let mut home = DiskHome(directory.path().join("spool"));
        assert_eq!(home.lives().unwrap(), []);
        let lives = [1, 2].map(|number| EndpointId::from_random([number; 16]));
        for life in lives {
            drop(home.open(life).unwrap());
            fs::write(home.of(life).join("batches-0000000001.seg"), [0; 100]).unwrap();
        }
        fs::create_dir(home.0.join("others")).unwrap();
        assert_eq!(home.lives().unwrap(), lives);
        assert_eq!(home.bytes_of_others(lives[0]), 100);
        home.set_aside(lives[0]).unwrap();
        assert_eq!(home.lives().unwrap(), [lives[1]]);
        home.remove(lives[1]).unwrap();
        assert_eq!(home.lives().unwrap(), []);
    }
}
