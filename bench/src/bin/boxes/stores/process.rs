//! The process of the client, as the measurements have it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail};
use muster_bench::boxes::Boxes;

use super::client::{Answer, Ask, History, Job, Written};
use crate::founding::OUTSIDE;
use crate::founding::copy_identity;

/// The process of the client.
pub(super) struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    /// Starts it, linked with the nodes that listen there, and waits until it has written to every store.
    pub(super) fn start(boxes: &Boxes, addresses: &[String]) -> Result<Self> {
        let identity = boxes.directory().join("client");
        let of_one = boxes.get("c")?.root.join("var/lib/muster/identity");
        copy_identity(&of_one, &identity)?;
        let mut command = boxes.get(OUTSIDE)?.outsider(&std::env::current_exe()?);
        command.arg("writer").arg(&identity).args(addresses);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the client")?;
        let stdin = child.stdin.take().context("its stdin is piped")?;
        let stdout = child.stdout.take().context("its stdout is piped")?;
        let mut client = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        };
        match client.answer()? {
            Answer::Ready => Ok(client),
            other => bail!("the client says {other:?} before it is ready"),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(Answer::Failed(error)) => bail!("the client has failed: {error}"),
            Ok(answer) => Ok(answer),
            Err(_) if line.is_empty() => bail!("the client has ended"),
            Err(error) => bail!("the client says {line:?}: {error}"),
        }
    }

    fn ask(&mut self, ask: &Ask) -> Result<Answer> {
        writeln!(self.stdin, "{}", serde_json::to_string(ask)?).context("the client has ended")?;
        self.answer()
    }

    /// Has it do something.
    pub(super) fn order(&mut self, ask: &Ask) -> Result<()> {
        match self.ask(ask)? {
            Answer::Done => Ok(()),
            other => bail!("{ask:?}: the client says {other:?}"),
        }
    }

    pub(super) fn write(&mut self, job: Job) -> Result<Written> {
        match self.ask(&Ask::Write(job))? {
            Answer::Wrote(written) => Ok(written),
            other => bail!("{job:?}: the client says {other:?}"),
        }
    }

    pub(super) fn size(&mut self, store: usize) -> Result<u64> {
        match self.ask(&Ask::Size { store })? {
            Answer::Size(size) => Ok(size),
            other => bail!("the client says {other:?} of a size"),
        }
    }

    pub(super) fn stop(&mut self) -> Result<History> {
        match self.ask(&Ask::Stop)? {
            Answer::Followed(history) => Ok(history),
            other => bail!("the client says {other:?} of what it wrote"),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
