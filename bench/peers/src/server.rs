//! A `nats-server` of this measurement's own.

use std::fmt::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use muster_measure::{Job, Launcher, Worker};

/// Nothing is lost to a subscriber that is slower than the publisher, as long as the memory suffices.
const CONFIG: &str = "max_pending: 8589934592\nwrite_deadline: \"60s\"\nmax_payload: 8388608\n";

/// A running server; it ends when this is dropped.
pub(crate) struct NatsServer {
    _guard: Worker,
    pub(crate) pid: u32,
    pub(crate) address: String,
    config: PathBuf,
    /// Where streams are kept.
    store: PathBuf,
}

/// The program, by the environment variable `NATS_SERVER` or on the path.
pub(crate) fn find() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os("NATS_SERVER") {
        return Some(program.into());
    }
    let path = std::env::var_os("PATH")?;
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    programs.find(|program| program.is_file())
}

impl NatsServer {
    /// Starts one. It keeps streams in files, if it is to.
    pub(crate) fn start(launcher: &Launcher, program: &Path, has_streams: bool) -> Result<Self> {
        let name = format!("muster-bench-nats-{}.conf", std::process::id());
        let config = std::env::temp_dir().join(name);
        let store = config.with_extension("streams");
        let mut text = CONFIG.to_owned();
        if has_streams {
            writeln!(text, "jetstream {{ store_dir: \"{}\" }}", store.display())?;
        }
        std::fs::write(&config, text)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let port_text = port.to_string();
        let file = config.display().to_string();
        let arguments = ["-a", "127.0.0.1", "-p", &port_text, "-c", &file];
        let mut guard = launcher.start(&Job::Guard {
            program: program.display().to_string(),
            arguments: arguments.map(str::to_owned).to_vec(),
        })?;
        let pid = guard.ready()?.parse().context("a process")?;
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > Duration::from_secs(10) {
                bail!("nats-server does not listen");
            }
            std::thread::yield_now();
        }
        Ok(Self {
            _guard: guard,
            pid,
            address: format!("127.0.0.1:{port}"),
            config,
            store,
        })
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = std::fs::remove_file(&self.config);
        let _ = std::fs::remove_dir_all(&self.store);
    }
}
