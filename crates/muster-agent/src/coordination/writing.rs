//! The thread that writes a voter's file: what SQLite does blocks, and a disk may hang.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use muster_consensus::{Batch, DiskId, Kept};
use tokio::sync::{mpsc, oneshot};

use super::voter_file::{VoterFile, VoterFileError, VoterFileErrorKind};

/// What may wait to be written. A consensus hands out few batches before it hears of them.
const JOBS: usize = 1024;

/// What to do about a file that cannot be used.
pub(super) const MOVE_AWAY: &str =
    "Once it is moved away this box makes a new one, and gets what the other coordinators have";

enum Job {
    Begin(Kept),
    Write(u64, Batch),
    Renew,
}

/// What has been done.
#[derive(Debug)]
pub(super) enum Done {
    /// The first content is on disk.
    Begun,
    /// All batches up to a number are.
    Written(u64),
    /// The file was put aside, and a new one made.
    Renewed(DiskId),
    /// The file is not used any more.
    Failed {
        problem: String,
        /// Whether it may be opened again. After an error of the disk what is read may not be what is on it.
        may_retry: bool,
    },
}

impl Done {
    fn failed(error: &VoterFileError) -> Self {
        Self::Failed {
            problem: advice(error),
            may_retry: error.kind() != VoterFileErrorKind::Io,
        }
    }

    fn over(problem: String) -> Self {
        Self::Failed {
            problem,
            may_retry: true,
        }
    }
}

/// The thread, as its coordinator has it. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Writing {
    jobs: SyncSender<Job>,
    done: mpsc::Receiver<Done>,
    is_full: AtomicBool,
}

type Opened = (Writing, DiskId, Option<Kept>);

impl Writing {
    /// Opens a voter's file, or makes it.
    pub(super) async fn open(path: PathBuf) -> Result<Opened, String> {
        let (jobs, waiting) = sync_channel(JOBS);
        let (tell, done) = mpsc::channel(JOBS);
        let (opened, outcome) = oneshot::channel();
        let thread = std::thread::Builder::new().name("coordinator".to_owned());
        let thread = thread.spawn(move || match VoterFile::open(&path) {
            Ok((file, disk, kept)) => {
                let _ = opened.send(Ok((disk, kept)));
                work(file, &path, &waiting, &tell);
            }
            Err(error) => {
                let _ = opened.send(Err(advice(&error)));
            }
        });
        thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        let outcome = outcome.await;
        let (disk, kept) = outcome.map_err(|_| "the thread has ended".to_owned())??;
        let writing = Self {
            jobs,
            done,
            is_full: AtomicBool::new(false),
        };
        Ok((writing, disk, kept))
    }

    fn ask(&self, job: Job) {
        // It is never waited for: a disk that hangs must not hang the agent.
        if self.jobs.try_send(job).is_err() {
            self.is_full.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn begin(&self, kept: Kept) {
        self.ask(Job::Begin(kept));
    }

    pub(super) fn write(&self, number: u64, batch: Batch) {
        self.ask(Job::Write(number, batch));
    }

    /// Puts the file aside, and makes a new one.
    pub(super) fn renew(&self) {
        self.ask(Job::Renew);
    }

    /// Waits until something has been done.
    pub(super) async fn next(&mut self) -> Done {
        if self.is_full.load(Ordering::Relaxed) {
            return Done::over("the disk does not keep up".to_owned());
        }
        let done = self.done.recv().await;
        done.unwrap_or_else(|| Done::over("the thread that writes has ended".to_owned()))
    }
}

fn work(mut file: VoterFile, path: &Path, jobs: &Receiver<Job>, done: &mpsc::Sender<Done>) {
    while let Ok(job) = jobs.recv() {
        let outcome = match job {
            Job::Begin(kept) => file.begin(&kept).map(|()| Done::Begun),
            Job::Write(number, batch) => file.write(&batch).map(|()| Done::Written(number)),
            Job::Renew => {
                drop(file);
                match renew(path) {
                    Ok((new, disk)) => {
                        file = new;
                        Ok(Done::Renewed(disk))
                    }
                    Err(error) => {
                        let _ = done.blocking_send(Done::over(error));
                        return;
                    }
                }
            }
        };
        let is_over = outcome.is_err();
        let said = outcome.unwrap_or_else(|error| Done::failed(&error));
        if done.blocking_send(said).is_err() || is_over {
            return;
        }
    }
    // What was not synced is written: it costs nothing now.
    let _ = file.flush();
}

/// Says what is wrong with a file, and what to do about it.
fn advice(error: &VoterFileError) -> String {
    match error.kind() {
        VoterFileErrorKind::Damaged | VoterFileErrorKind::Foreign => {
            format!("{error}. {MOVE_AWAY}")
        }
        _ => error.to_string(),
    }
}

/// Gives a voter's file another name, and makes a new one.
fn renew(path: &Path) -> Result<(VoterFile, DiskId), String> {
    let put_aside = (0..1000)
        .map(|number| path.with_extension(format!("old.{number}")))
        .find(|name| !name.exists())
        .ok_or_else(|| format!("{}: too many files of former coordinators", path.display()))?;
    std::fs::rename(path, &put_aside)
        .map_err(|error| format!("cannot rename {}: {error}", path.display()))?;
    let (file, disk, _) = VoterFile::open(path).map_err(|error| error.to_string())?;
    Ok((file, disk))
}
