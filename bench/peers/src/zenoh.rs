//! zenoh: two peers, linked by a TCP connection or a Unix socket, with blocking congestion control, as Muster's publisher
//! waits as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use muster_measure::{
    Answers, Control, Engine, LatencyReport, Plan, Published, QUIET, Schedule, Tally, Traffic,
    cpu_seconds, free_ports, pace,
};
use zenoh::qos::CongestionControl;
use zenoh::sample::Sample;
use zenoh::{Config, Session, Wait};

/// Where messages are published.
const KEY: &str = "bench";

/// Where answers are published.
const ANSWERS: &str = "answers";

/// The size of a probe's message: its number, and as much again.
const PROBE: usize = 16;

/// What the address of a Unix socket begins with.
const UNIX: &str = "unixsock-stream/";

/// How often a subscriber looks at what its callback has counted.
const COUNT: Duration = Duration::from_millis(2);

/// How long the others of a session may need to be known.
const KNOWN: Duration = Duration::from_secs(10);

/// What links two peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Tcp,
    Unix,
}

/// Sessions in peer mode, without discovery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zenoh(Link);

impl Zenoh {
    pub(crate) const TCP: Self = Self(Link::Tcp);
    pub(crate) const UNIX: Self = Self(Link::Unix);

    /// An address that nobody has, with what makes keys of its own.
    fn address(self) -> Result<(String, u16)> {
        let ports = free_ports(1)?;
        let port = *ports.first().context("a port")?;
        let address = match self.0 {
            Link::Tcp => format!("tcp/127.0.0.1:{port}"),
            Link::Unix => {
                let folder = std::env::temp_dir();
                let name = format!("muster-bench-zenoh-{}-{port}", std::process::id());
                format!("{UNIX}{}", folder.join(name).display())
            }
        };
        Ok((address, port))
    }
}

/// zenoh's errors are boxed in a way that anyhow does not take.
fn failed(error: zenoh::Error) -> anyhow::Error {
    anyhow!("zenoh: {error}")
}

fn open(listen: &[&str], connect: &[&str]) -> Result<Session> {
    let list = |addresses: &[&str]| serde_json::to_string(addresses);
    let settings = [
        ("mode", "\"peer\"".to_owned()),
        ("scouting/multicast/enabled", "false".to_owned()),
        ("scouting/gossip/enabled", "false".to_owned()),
        ("listen/endpoints", list(listen)?),
        ("connect/endpoints", list(connect)?),
    ];
    let mut config = Config::default();
    for (key, value) in &settings {
        config.insert_json5(key, value).map_err(failed)?;
    }
    let session = zenoh::open(config).wait().map_err(failed)?;
    // Whoever is connected needs the name no more, and a process that is killed does not remove it.
    for path in connect
        .iter()
        .filter_map(|address| address.strip_prefix(UNIX))
    {
        let _ = std::fs::remove_file(path);
        let _ = std::fs::remove_file(format!("{path}.lock"));
    }
    Ok(session)
}

/// Waits until somebody subscribes to a key.
fn until_subscribed(session: &Session, key: &str) -> Result<()> {
    let publisher = session.declare_publisher(key.to_owned()).wait();
    let publisher = publisher.map_err(failed)?;
    let start = Instant::now();
    while start.elapsed() < KNOWN {
        let status = publisher.matching_status().wait().map_err(failed)?;
        if status.matching() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("nobody subscribes to {key}")
}

/// What an address and a number for keys are in a line.
fn split(address: &str) -> Result<(&str, &str)> {
    address.split_once(' ').context("an address and a number")
}

impl Engine for Zenoh {
    fn name(&self) -> &'static str {
        match self.0 {
            Link::Tcp => "zenoh",
            Link::Unix => "zenoh, unix",
        }
    }

    fn subscribe(
        &self,
        _: Option<&str>,
        _: Traffic,
        control: &Control,
        tally: &mut Tally,
    ) -> Result<()> {
        let (address, port) = self.address()?;
        let session = open(&[&address], &[])?;
        let messages = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&messages);
        let take = move |sample: Sample| {
            std::hint::black_box(sample.payload().len());
            count.fetch_add(1, Ordering::Relaxed);
        };
        let subscriber = session.declare_subscriber(KEY).callback(take).wait();
        let _subscriber = subscriber.map_err(failed)?;
        // Answered behind all messages before it.
        let done = format!("done/{port}");
        let answer = move |query: zenoh::query::Query| {
            let _ = query.reply(query.key_expr().clone(), "").wait();
        };
        let queryable = session.declare_queryable(done).callback(answer).wait();
        let _queryable = queryable.map_err(failed)?;
        // Known behind the others: declarations keep their order.
        let ready = session.declare_subscriber(format!("ready/{port}"));
        let _ready = ready.callback(|_| {}).wait().map_err(failed)?;
        control.ready(&format!("{address} {port}"))?;
        let mut counted = 0;
        loop {
            std::thread::sleep(COUNT);
            let now = messages.load(Ordering::Relaxed);
            tally.add(now - counted);
            counted = now;
            if tally.look_for_end(control) {
                return Ok(());
            }
        }
    }

    fn publish(&self, addresses: &[String], traffic: Traffic, seconds: f64) -> Result<Published> {
        let addresses: Vec<(&str, &str)> = addresses
            .iter()
            .map(|address| split(address))
            .collect::<Result<_>>()?;
        let to: Vec<&str> = addresses.iter().map(|(address, _)| *address).collect();
        let session = open(&[], &to)?;
        for (_, port) in &addresses {
            until_subscribed(&session, &format!("ready/{port}"))?;
        }
        let publisher = session
            .declare_publisher(KEY)
            .congestion_control(CongestionControl::Block)
            .wait()
            .map_err(failed)?;
        let payload = zenoh::bytes::ZBytes::from(traffic.payload.opaque()?);
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let mut messages = 0u64;
        // As with the others, small messages are not each timed.
        let burst = if payload.len() < 4 << 10 { 64 } else { 1 };
        while !messages.is_multiple_of(burst) || start.elapsed().as_secs_f64() < seconds {
            publisher.put(payload.clone()).wait().map_err(failed)?;
            messages += 1;
        }
        for (_, port) in &addresses {
            let replies = session.get(format!("done/{port}"));
            let replies = replies.timeout(Duration::from_secs(30)).wait();
            let reply = replies.map_err(failed)?.recv();
            reply.map_err(failed)?;
        }
        Ok(Published {
            messages,
            dropped: 0,
            cpu: cpu_seconds() - cpu,
        })
    }

    fn echo(&self, _: Option<&str>, control: &Control) -> Result<()> {
        let (address, port) = self.address()?;
        let session = open(&[&address], &[])?;
        let answers = session.declare_publisher(ANSWERS).wait();
        let answers = answers.map_err(failed)?;
        let answer = move |sample: Sample| {
            // A failure is an answer that does not come.
            let _ = answers.put(sample.payload().clone()).wait();
        };
        let subscriber = session.declare_subscriber(KEY).callback(answer).wait();
        let _subscriber = subscriber.map_err(failed)?;
        let ready = session.declare_subscriber(format!("ready/{port}"));
        let _ready = ready.callback(|_| {}).wait().map_err(failed)?;
        control.ready(&format!("{address} {port}"))?;
        loop {
            std::thread::park();
        }
    }

    fn probe(&self, address: &str, plan: Plan) -> Result<LatencyReport> {
        let (address, port) = split(address)?;
        let session = open(&[], &[address])?;
        let incoming = session.declare_subscriber(ANSWERS).wait().map_err(failed)?;
        until_subscribed(&session, &format!("ready/{port}"))?;
        let probes = session.declare_publisher(KEY).wait();
        let probes = probes.map_err(failed)?;
        // Its subscription is known to the other by the time that a message has gone there and back.
        let start = Instant::now();
        let is_answered = loop {
            probes.put([u8::MAX; PROBE]).wait().map_err(failed)?;
            let answer = incoming.recv_timeout(Duration::from_millis(50));
            if answer.map_err(failed)?.is_some() || start.elapsed() > KNOWN {
                break start.elapsed() <= KNOWN;
            }
        };
        if !is_answered {
            bail!("nothing comes back");
        }
        let schedule = Schedule::begin(plan);
        let mut answers = Answers::new(schedule);
        std::thread::scope(|threads| {
            let sender = threads.spawn(|| {
                pace(schedule, |number| {
                    let mut message = [0; PROBE];
                    message[..8].copy_from_slice(&number.to_le_bytes());
                    // A failure is an answer that does not come.
                    let _ = probes.put(message).wait();
                })
            });
            while !answers.are_all() {
                let quiet = QUIET + Duration::from_secs(1);
                let Ok(Some(sample)) = incoming.recv_timeout(quiet) else {
                    break;
                };
                let number = crate::number(&sample.payload().to_bytes());
                if number != u64::MAX {
                    answers.add(number);
                }
            }
            let late = sender.join().ok().context("the sender panicked")?;
            Ok(answers.report(late))
        })
    }
}
