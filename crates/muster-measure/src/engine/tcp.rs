//! Bare blocking sockets, as a yardstick.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Engine, only_plain};
use crate::latency::LatencyReport;
use crate::pacing::QUIET;
use crate::{Answers, Control, Plan, Published, Schedule, Tally, Traffic, cpu_seconds, pace};

/// The size of a probe's message: its number, and as much again.
const PROBE: usize = 16;

/// Bare blocking sockets, as a yardstick.
#[derive(Debug, Clone, Copy)]
pub struct Tcp;

fn accept(control: &Control) -> Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    control.ready(&listener.local_addr()?.to_string())?;
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Engine for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn subscribe(
        &self,
        _: Option<&str>,
        traffic: Traffic,
        control: &Control,
        tally: &mut Tally,
    ) -> Result<()> {
        let mut stream = accept(control)?;
        let size = traffic.payload.opaque()?.len();
        let mut buffer = vec![0; size.max(READ)];
        let mut rest = 0;
        loop {
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            let bytes = rest + read;
            tally.add((bytes / size) as u64);
            rest = bytes % size;
        }
        control.wait();
        Ok(())
    }

    fn publish(&self, addresses: &[String], traffic: Traffic, seconds: f64) -> Result<Published> {
        only_plain(self.name(), traffic, addresses.len())?;
        let mut stream = TcpStream::connect(addresses.first().context("an address")?)?;
        stream.set_nodelay(true)?;
        let message = traffic.payload.opaque()?;
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let mut messages = 0;
        while start.elapsed().as_secs_f64() < seconds {
            stream.write_all(&message)?;
            messages += 1;
        }
        Ok(Published {
            messages,
            dropped: 0,
            cpu: cpu_seconds() - cpu,
        })
    }

    fn echo(&self, _: Option<&str>, control: &Control) -> Result<()> {
        let mut stream = accept(control)?;
        let mut message = [0; PROBE];
        loop {
            match stream.read_exact(&mut message) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    control.wait();
                    return Ok(());
                }
                read => read?,
            }
            stream.write_all(&message)?;
        }
    }

    fn probe(&self, address: &str, plan: Plan) -> Result<LatencyReport> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut sending = stream.try_clone()?;
        let schedule = Schedule::begin(plan);
        let mut answers = Answers::new(schedule);
        let sender = std::thread::spawn(move || {
            let mut message = [0; PROBE];
            pace(schedule, |number| {
                message[..8].copy_from_slice(&number.to_le_bytes());
                // A failure is an answer that does not come.
                let _ = sending.write_all(&message);
            })
        });
        stream.set_read_timeout(Some(QUIET + Duration::from_secs(1)))?;
        let mut message = [0; PROBE];
        while !answers.are_all() && stream.read_exact(&mut message).is_ok() {
            let mut number = [0; 8];
            number.copy_from_slice(&message[..8]);
            answers.add(u64::from_le_bytes(number));
        }
        let late = sender.join().ok().context("the sender panicked")?;
        Ok(answers.report(late))
    }
}

/// How much is read at once, at least.
const READ: usize = 256 << 10;
