//! The thread on which a persistent store's backend works, as backends block and tasks must not.

use std::sync::Weak;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use muster_store::{Backend, Commit, StoreName};
use tokio::sync::oneshot;

use super::host::Host;

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Job {
    Commit(Commit),
    /// Close the backend and say so.
    Close(oneshot::Sender<()>),
}

/// The way to the thread. A primary has one commit under way at a time, so it never waits here.
#[derive(Debug)]
pub(super) struct Disk(SyncSender<Job>);

impl Disk {
    /// Starts the thread, which ends with this.
    pub(super) fn start(
        name: &StoreName,
        backend: Box<dyn Backend>,
        host: Weak<Host>,
    ) -> std::io::Result<Self> {
        let (sender, jobs) = sync_channel(2);
        let name = name.clone();
        std::thread::Builder::new()
            .name(format!("store {name}"))
            .spawn(move || run(&name, backend, &jobs, &host))?;
        Ok(Self(sender))
    }

    pub(super) fn ask(&self, job: Job) {
        // A thread that has ended has closed its backend: nothing is left to be done.
        let _ = self.0.send(job);
    }
}

fn run(name: &StoreName, mut backend: Box<dyn Backend>, jobs: &Receiver<Job>, host: &Weak<Host>) {
    let mut has_failed = false;
    let close = |backend: &mut dyn Backend| {
        if let Err(error) = backend.close() {
            tracing::error!("store {name}: {error}");
        }
    };
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Commit(commit) => {
                let failed = match backend.commit(&commit) {
                    Ok(()) => {
                        if std::mem::take(&mut has_failed) {
                            tracing::info!("store {name}: its backend works again");
                        }
                        None
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut has_failed, true) {
                            tracing::error!("store {name}: {error}; trying again every second");
                        }
                        Some(commit)
                    }
                };
                if let Some(notice) = backend.take_notice() {
                    tracing::warn!("store {name}: {notice}");
                }
                if let Some(host) = host.upgrade() {
                    host.committed(failed);
                }
            }
            Job::Close(done) => {
                close(&mut *backend);
                let _ = done.send(());
                return;
            }
        }
    }
    close(&mut *backend);
}
