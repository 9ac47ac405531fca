//! The processes of a measurement, as seen by the one that measures.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;

use crate::Job;

/// How long a process may take to be ready.
const READY: Duration = Duration::from_secs(20);

/// How long a process may take to end by itself.
const END: Duration = Duration::from_secs(2);

/// Names the directory of certificates in the environment of a process.
pub(crate) const CERTIFICATES: &str = "MUSTER_BENCH_CERTIFICATES";

/// Starts this program again with a job.
#[derive(Debug, Clone)]
pub struct Launcher {
    program: PathBuf,
    arguments: Vec<String>,
    certificates: Option<PathBuf>,
}

impl Launcher {
    /// Starts this program with `arguments`, followed by the job.
    ///
    /// # Errors
    ///
    /// Fails if the path of this program is not known.
    pub fn new<I>(arguments: I) -> Result<Self>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Ok(Self {
            program: std::env::current_exe().context("this program does not find itself")?,
            arguments: arguments.into_iter().map(Into::into).collect(),
            certificates: None,
        })
    }

    /// Adds the directory of the certificates for [mutual TLS](crate::Protection::Mutual): `ca.pem`, `bench.pem` and
    /// `bench.key`.
    #[must_use]
    pub fn with_certificates(mut self, directory: PathBuf) -> Self {
        self.certificates = Some(directory);
        self
    }

    /// Starts a process with a job.
    ///
    /// # Errors
    ///
    /// Fails if the process cannot be started.
    pub fn start(&self, job: &Job) -> Result<Worker> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        if let Some(directory) = &self.certificates {
            command.env(CERTIFICATES, directory);
        }
        command.arg(serde_json::to_string(job)?);
        Worker::start(job.name(), &mut command)
    }
}

/// A process with a job. It ends by itself when the pipe to it closes, as when this is dropped. If
/// it does not, it is killed.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    name: String,
}

impl Worker {
    /// Starts a program that ends when its standard input closes. `name` is its name in error
    /// messages.
    ///
    /// # Errors
    ///
    /// Fails if the program cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (sender, lines) = sync_channel(16);
        // From here on the process is ended whatever happens.
        let worker = Self {
            child,
            stdin,
            lines,
            name: name.to_owned(),
        };
        let stdout = stdout.context("its output is a pipe")?;
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(worker)
    }

    /// Returns the id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it is ready, and returns the address that it reports.
    ///
    /// # Errors
    ///
    /// Fails if it does not become ready in time, or ends.
    pub fn ready(&mut self) -> Result<String> {
        self.line(READY)
    }

    /// Tells it how many messages there are in all.
    ///
    /// # Errors
    ///
    /// Fails if the process is gone.
    pub fn finish(&mut self, messages: u64) -> Result<()> {
        let mut stdin = self.stdin.as_ref().context("it is told once")?;
        // Not the pipe's own error: a closed pipe may mean success to those who print.
        writeln!(stdin, "{messages}").map_err(|_| anyhow!("{} has ended too early", self.name))
    }

    /// Waits for its report and for its end.
    ///
    /// # Errors
    ///
    /// Fails if there is no report within `within`, or if it is malformed.
    pub fn report<T: DeserializeOwned>(&mut self, within: Duration) -> Result<T> {
        let line = self.line(within)?;
        let report = serde_json::from_str(&line)
            .with_context(|| format!("{} reported `{line}`", self.name))?;
        drop(self.stdin.take());
        self.child.wait()?;
        Ok(report)
    }

    /// Waits for the next line of its output.
    ///
    /// # Errors
    ///
    /// Fails if there is none within `within`, or if the process ends.
    pub fn line(&mut self, within: Duration) -> Result<String> {
        match self.lines.recv_timeout(within) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} said nothing for {within:?}", self.name)
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait()?;
                bail!("{} has ended too early: {status}", self.name)
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stdin.take());
        while self.lines.recv_timeout(END).is_ok() {}
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
