//! The process of the clients, as the rounds have it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use muster_bench::boxes::Boxes;
use muster_bench::oracle::Record;

use crate::client::{self, Said};
use crate::founding::copy_identity;
use crate::founding::{OUTSIDE, of_cluster};

/// How long the clients may take to end what they do.
const REST_LIMIT: Duration = Duration::from_secs(90);

/// What waits to be judged: a round of a minute.
const MOST_SAID: usize = 1 << 20;

/// The process of the clients.
pub(super) struct Clients {
    child: Child,
    stdin: ChildStdin,
    said: Receiver<Said>,
}

impl Clients {
    /// Starts them. What they say goes to a file as well, if one is named.
    pub(super) fn start(boxes: &Boxes, history: Option<&Path>) -> Result<Self> {
        let mut history = match history {
            Some(path) => Some(
                File::create(path).with_context(|| format!("cannot create {}", path.display()))?,
            ),
            None => None,
        };
        let identity = boxes.directory().join("clients");
        let of_one = boxes.get("c")?.root.join("var/lib/muster/identity");
        copy_identity(&of_one, &identity)?;
        let mut command = boxes.get(OUTSIDE)?.outsider(&std::env::current_exe()?);
        command.arg("client").arg(&identity);
        for made in of_cluster(boxes) {
            command.arg(format!("{}:17701", made.address));
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the clients")?;
        let stdin = child.stdin.take().context("their stdin is piped")?;
        let stdout = child.stdout.take().context("their stdout is piped")?;
        let (sender, said) = sync_channel(MOST_SAID);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if let (Some(file), Ok(line)) = (&mut history, &line) {
                    // It is for whoever looks at it afterwards; the rounds do without.
                    let _ = writeln!(file, "{line}");
                }
                let Ok(Ok(heard)) = line.map(|line| client::parse(&line)) else {
                    return;
                };
                if sender.send(heard).is_err() {
                    return;
                }
            }
        });
        let linked = said.recv_timeout(REST_LIMIT);
        ensure!(
            matches!(linked, Ok(Said::Linked)),
            "the clients find no cluster"
        );
        Ok(Self { child, stdin, said })
    }

    pub(super) fn begin(&mut self, round: &str) -> Result<()> {
        writeln!(self.stdin, "{round}").context("the clients have ended")
    }

    /// Has them end what they do and read what stands; returns all that they were told since the round began.
    pub(super) fn rest(&mut self) -> Result<Vec<Record>> {
        self.begin("rest")?;
        let end = Instant::now() + REST_LIMIT;
        let mut history = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(Said::Ended(record)) => history.push(record),
                Ok(Said::Rested) => return Ok(history),
                Ok(Said::Linked) => {}
                Err(error) => bail!("the clients do not come to an end: {error}"),
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
