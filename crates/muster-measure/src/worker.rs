//! The processes of a measurement, as seen from within.

use std::io::{BufRead, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::engine::Engine;
use crate::{Job, Tally, chain, idle, start};

/// The number of messages is not known yet.
const UNKNOWN: u64 = u64::MAX;

/// What connects a process of a measurement with the one that measures: its standard input and
/// output. The process ends when its input closes.
#[derive(Debug)]
pub struct Control {
    messages: Arc<AtomicU64>,
    told: Receiver<()>,
}

impl Control {
    fn start() -> Self {
        let messages = Arc::new(AtomicU64::new(UNKNOWN));
        let set = Arc::clone(&messages);
        let (tell, told) = sync_channel(1);
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if let Ok(number) = line.trim().parse() {
                    set.store(number, Ordering::Relaxed);
                    let _ = tell.try_send(());
                }
            }
            std::process::exit(1);
        });
        Self { messages, told }
    }

    /// Reports that the work can begin, and the address of this process.
    ///
    /// # Errors
    ///
    /// Fails if its output is closed.
    #[allow(clippy::unused_self, reason = "only who is told may speak")]
    pub fn ready(&self, address: &str) -> Result<()> {
        say(address)
    }

    /// Returns how many messages there are in all, once that is known.
    pub fn messages(&self) -> Option<u64> {
        let messages = self.messages.load(Ordering::Relaxed);
        (messages != UNKNOWN).then_some(messages)
    }

    /// Waits until the work is over.
    pub fn wait(&self) {
        // What tells ends with this process only.
        let _ = self.told.recv();
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn report(report: &impl Serialize) -> Result<()> {
    say(&serde_json::to_string(report)?)
}

/// Does the job that this process was started for.
///
/// # Errors
///
/// Fails if the job is unknown or malformed, or if its work fails.
pub fn work(job: &str, engines: &[&dyn Engine]) -> Result<()> {
    let job = serde_json::from_str(job).context("this is not a job")?;
    if let Job::Guard { program, arguments } = &job {
        return guard(program, arguments);
    }
    let control = Control::start();
    let named = |name: &str| {
        let engine = engines.iter().find(|engine| engine.name() == name);
        engine.with_context(|| format!("there is no engine `{name}`"))
    };
    match job {
        Job::Subscribe {
            engine,
            hub,
            traffic,
        } => {
            let mut tally = Tally::new(traffic.payload);
            named(&engine)?.subscribe(hub.as_deref(), traffic, &control, &mut tally)?;
            report(&tally.delivered())
        }
        Job::Publish {
            engine,
            addresses,
            traffic,
            seconds,
        } => report(&named(&engine)?.publish(&addresses, traffic, seconds)?),
        Job::Echo { engine, hub } => named(&engine)?.echo(hub.as_deref(), &control),
        Job::Probe {
            engine,
            address,
            plan,
        } => report(&named(&engine)?.probe(&address, plan)?),
        Job::Idle { peers, seconds } => report(&idle::endpoint(peers, seconds, &control)?),
        Job::Crowd { address, endpoints } => idle::crowd(&address, endpoints, &control),
        Job::Last { payload } => {
            let mut tally = Tally::new(payload);
            chain::last(payload, &control, &mut tally)?;
            report(&tally.delivered())
        }
        Job::Relay { next } => chain::relay(&next, &control),
        Job::First {
            next,
            others,
            payload,
            seconds,
            paced,
        } => {
            let mut first = chain::First::join(&next, others, paced, &control)?;
            report(&first.publish(payload, seconds)?)?;
            // It stays until everything has arrived: of an endpoint that is gone nothing is relayed.
            control.wait();
            Ok(())
        }
        Job::Start(layout) => report(&start::mesh(layout)?),
        Job::Guard { .. } => Ok(()),
    }
}

/// Runs a program that does not know of this: it is killed in the end, or when this process is left
/// alone. What it prints stands behind a line with its process's number, or before it.
fn guard(program: &str, arguments: &[String]) -> Result<()> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let said = say(&child.id().to_string());
    let _ = std::io::stdin().lock().read_line(&mut String::new());
    let ended = child.try_wait()?;
    child.kill()?;
    child.wait()?;
    if let Some(status) = ended {
        bail!("{program} had ended by itself: {status}");
    }
    said
}
