//! ZeroMQ: a PUSH socket of the publisher for each subscriber's PULL socket. A PUB socket drops what does not
//! fit its queue; a PUSH socket waits, as Muster's publisher does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use muster_measure::{
    Answers, Control, Engine, LOOK, LatencyReport, Plan, Published, QUIET, Schedule, Tally,
    Traffic, cpu_seconds, pace,
};
use zmq::{Context, Error, Message, PULL, PUSH, Socket, SocketType};

/// The size of a probe's message: its number, and as much again.
const PROBE: usize = 16;

/// Sockets of libzmq, with its default queues of 1,000 messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ZeroMq;

fn bound(context: &Context, kind: SocketType) -> Result<(Socket, String)> {
    let socket = context.socket(kind)?;
    socket.bind("tcp://127.0.0.1:*")?;
    let address = socket.get_last_endpoint()?;
    let address = address.map_err(|_| anyhow!("an address is text"))?;
    Ok((socket, address))
}

fn connected(context: &Context, kind: SocketType, address: &str) -> Result<Socket> {
    let socket = context.socket(kind)?;
    socket.connect(address)?;
    Ok(socket)
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

impl Engine for ZeroMq {
    fn name(&self) -> &'static str {
        "zeromq"
    }

    fn subscribe(
        &self,
        _: Option<&str>,
        _: Traffic,
        control: &Control,
        tally: &mut Tally,
    ) -> Result<()> {
        let context = Context::new();
        let (socket, address) = bound(&context, PULL)?;
        socket.set_rcvtimeo(milliseconds(LOOK))?;
        control.ready(&address)?;
        let mut message = Message::new();
        loop {
            match socket.recv(&mut message, 0) {
                Ok(()) => {
                    std::hint::black_box(message.len());
                    tally.add(1);
                }
                Err(Error::EAGAIN) if tally.look_for_end(control) => return Ok(()),
                Err(Error::EAGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn publish(&self, addresses: &[String], traffic: Traffic, seconds: f64) -> Result<Published> {
        let context = Context::new();
        let sockets: Vec<Socket> = addresses
            .iter()
            .map(|address| connected(&context, PUSH, address))
            .collect::<Result<_>>()?;
        let payload = traffic.payload.opaque()?;
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let mut messages = 0u64;
        // As with the others, small messages are not each timed.
        let burst = if payload.len() < 4 << 10 { 64 } else { 1 };
        while !messages.is_multiple_of(burst) || start.elapsed().as_secs_f64() < seconds {
            for socket in &sockets {
                socket.send(&payload[..], 0)?;
            }
            messages += 1;
        }
        // The context's end waits until everything is written.
        drop(sockets);
        drop(context);
        Ok(Published {
            messages,
            dropped: 0,
            cpu: cpu_seconds() - cpu,
        })
    }

    fn echo(&self, _: Option<&str>, control: &Control) -> Result<()> {
        let context = Context::new();
        let (probes, probes_at) = bound(&context, PULL)?;
        let (answers, answers_at) = bound(&context, PUSH)?;
        control.ready(&format!("{probes_at} {answers_at}"))?;
        let mut message = Message::new();
        loop {
            probes.recv(&mut message, 0)?;
            answers.send(&message[..], 0)?;
        }
    }

    fn probe(&self, address: &str, plan: Plan) -> Result<LatencyReport> {
        let (probes_at, answers_at) = address.split_once(' ').context("two addresses")?;
        let context = Context::new();
        let probes = connected(&context, PUSH, probes_at)?;
        let incoming = connected(&context, PULL, answers_at)?;
        incoming.set_rcvtimeo(milliseconds(QUIET + Duration::from_secs(1)))?;
        let schedule = Schedule::begin(plan);
        let mut answers = Answers::new(schedule);
        let sender = std::thread::spawn(move || {
            pace(schedule, |number| {
                let mut message = [0; PROBE];
                message[..8].copy_from_slice(&number.to_le_bytes());
                // A failure is an answer that does not come.
                let _ = probes.send(&message[..], 0);
            })
        });
        let mut message = Message::new();
        while !answers.are_all() && incoming.recv(&mut message, 0).is_ok() {
            answers.add(crate::number(&message));
        }
        let late = sender.join().ok().context("the sender panicked")?;
        Ok(answers.report(late))
    }
}
