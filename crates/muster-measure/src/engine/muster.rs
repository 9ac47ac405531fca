//! Muster's endpoints.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use muster::wire::{QueueLimits, Topic};
use muster::{
    Certificates, Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, LocalTransport,
    Subscriber, Tls,
};
use muster_data::{DataRef, Encode, Record, ValueRef, encode_to_vec};
use tokio::runtime::{Builder, Runtime};
use tokio::time::MissedTickBehavior;

use super::{Engine, runtime};
use crate::latency::LatencyReport;
use crate::ledger::LOOK;
use crate::pacing::QUIET;
use crate::process::CERTIFICATES;
use crate::{
    Answers, Conn, Control, Flow, Payload, Plan, Protection, Published, Reading, Schedule, Tally,
    Traffic, cpu_seconds, pace,
};

/// Where messages are published.
const TOPIC: &str = "/bench";

/// Where answers are published.
const ANSWERS: &str = "/answers";

/// How long a publisher waits for room, at most.
const ROOM: Duration = Duration::from_secs(10);

/// How long readers ask before they wait, where they do: longer than from one message to the next.
const BUSY_POLL: Duration = Duration::from_micros(200);

/// Muster's endpoints. The subscribers listen, and the publisher dials each of them.
#[derive(Debug, Clone, Copy)]
pub struct Muster {
    /// Whether endpoints run on one thread, the one that receives, instead of on two of their own. A
    /// publisher of [`Engine::publish`] has a thread of its own in any case.
    one_thread: bool,
    forwarding: Forwarding,
    local: LocalTransport,
    busy_poll: Duration,
}

impl Muster {
    /// Endpoints like those of the program `muster`, which meet over Unix sockets where there are such.
    pub const fn new() -> Self {
        Self {
            one_thread: false,
            forwarding: Forwarding::Relay,
            local: LocalTransport::Auto,
            busy_poll: Duration::ZERO,
        }
    }

    /// The same over TCP.
    #[must_use]
    pub const fn over_tcp(self) -> Self {
        Self {
            local: LocalTransport::Off,
            ..self
        }
    }

    /// The same with readers that keep a processor busy before they wait.
    #[must_use]
    pub const fn with_busy_poll(self) -> Self {
        Self {
            busy_poll: BUSY_POLL,
            ..self
        }
    }

    /// Endpoints that run on the thread that receives, so that no message changes threads when it
    /// is received.
    pub const fn on_one_thread() -> Self {
        Self {
            one_thread: true,
            ..Self::new()
        }
    }

    /// Endpoints outside a mesh, which speak Broker's protocol with one another.
    pub const fn version_1() -> Self {
        Self {
            forwarding: Forwarding::Direct,
            ..Self::new()
        }
    }

    /// An endpoint's settings: queues towards peers as they are by default, and subscribers' queues that
    /// do not drop what waits for the processor.
    fn config(self, protection: Protection) -> Result<EndpointConfig> {
        Ok(EndpointConfig {
            tls: tls(protection)?,
            forwarding: self.forwarding,
            local: self.local,
            busy_poll: self.busy_poll,
            subscriber_queue: QueueLimits {
                messages: 1 << 20,
                bytes: 1 << 30,
            },
            ..EndpointConfig::default()
        })
    }

    async fn listen(
        self,
        protection: Protection,
        topic: &str,
        control: &Control,
    ) -> Result<(Endpoint, Subscriber)> {
        let endpoint = Endpoint::start(self.config(protection)?)?;
        let subscriber = endpoint.subscribe([topic]).await;
        let address = endpoint.listen(([127, 0, 0, 1], 0).into(), Exposure::Guarded);
        control.ready(&address.await?.to_string())?;
        Ok((endpoint, subscriber))
    }

    fn runtime(self) -> Result<Runtime> {
        if self.one_thread {
            return Ok(Builder::new_current_thread().enable_all().build()?);
        }
        runtime()
    }
}

/// The certificates of a measurement are in one directory, made by whoever measures.
pub(crate) fn tls(protection: Protection) -> Result<Tls> {
    Ok(match protection {
        Protection::Plain => Tls::Off,
        Protection::Anonymous => Tls::Anonymous,
        Protection::Mutual => {
            let directory = std::env::var_os(CERTIFICATES).context("there are no certificates")?;
            let path = |name: &str| PathBuf::from(&directory).join(name);
            Tls::Mutual(Certificates {
                cafile: Some(path("ca.pem")),
                capath: None,
                certificate: path("bench.pem"),
                keyfile: path("bench.key"),
                passphrase: None,
            })
        }
    })
}

impl Default for Muster {
    fn default() -> Self {
        Self::new()
    }
}

/// A message whose round trip is timed.
#[derive(Record)]
#[record(name = "Bench::probe")]
struct Probe {
    number: u64,
}

impl Engine for Muster {
    fn name(&self) -> &'static str {
        let is_tcp = self.local == LocalTransport::Off;
        match (self.one_thread, self.forwarding, self.busy_poll.is_zero()) {
            (true, ..) => "muster on one thread",
            (_, Forwarding::Direct, _) => "muster, version 1",
            (.., true) if is_tcp => "muster over TCP",
            (.., true) => "muster",
            (.., false) if is_tcp => "muster over TCP, busy poll",
            (.., false) => "muster, busy poll",
        }
    }

    fn subscribe(
        &self,
        _: Option<&str>,
        traffic: Traffic,
        control: &Control,
        tally: &mut Tally,
    ) -> Result<()> {
        self.runtime()?.block_on(async {
            let (_endpoint, mut subscriber) =
                self.listen(traffic.protection, TOPIC, control).await?;
            let mut look = tokio::time::interval(LOOK);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut sum = 0;
            loop {
                tokio::select! {
                    delivery = subscriber.receive() => match delivery {
                        Some(Delivery::Batch(batch)) => {
                            tally.add(batch.len() as u64);
                            for message in batch.iter() {
                                let value = DataRef::from_validated(message.payload);
                                sum += read(value, traffic);
                            }
                        }
                        Some(Delivery::Status(_)) => {}
                        None => break,
                    },
                    _ = look.tick() => if tally.look_for_end(control) { break },
                }
            }
            std::hint::black_box(sum);
            tally.dropped(subscriber.depth().dropped.total());
            Ok(())
        })
    }

    fn publish(&self, addresses: &[String], traffic: Traffic, seconds: f64) -> Result<Published> {
        let runtime = runtime()?;
        let endpoint = runtime.block_on(async {
            let endpoint = Endpoint::start(self.config(traffic.protection)?)?;
            for address in addresses {
                endpoint.peer(address, None).await?;
            }
            anyhow::Ok(endpoint)
        })?;
        let cpu = cpu_seconds();
        let flood = Flood {
            endpoint: &endpoint,
            runtime: &runtime,
            traffic,
            seconds,
        };
        let (messages, dropped) = match (traffic.payload.string(), traffic.payload) {
            (Some(string), _) => flood.publish(&string[..]),
            (None, Payload::Record128) => flood.publish(&Flow::sample()?),
            (None, _) => flood.publish(&Conn::sample()?),
        }?;
        runtime.block_on(endpoint.shut_down());
        Ok(Published {
            messages,
            dropped,
            cpu: cpu_seconds() - cpu,
        })
    }

    fn echo(&self, _: Option<&str>, control: &Control) -> Result<()> {
        self.runtime()?.block_on(async {
            let (endpoint, mut subscriber) = self.listen(Protection::Plain, TOPIC, control).await?;
            let (mut publisher, answers) = (endpoint.publisher(), Topic::new(ANSWERS)?);
            // In a task, as in programs that have several: what is received there need not change threads.
            let answering = tokio::spawn(async move {
                while let Some(delivery) = subscriber.receive().await {
                    let Delivery::Batch(batch) = delivery else {
                        continue;
                    };
                    for message in batch.iter() {
                        let probe: Probe = DataRef::from_validated(message.payload).to()?;
                        // What is dropped is an answer that does not come.
                        let _ = publisher.publish(&answers, &probe);
                    }
                }
                Ok(())
            });
            answering.await?
        })
    }

    fn probe(&self, address: &str, plan: Plan) -> Result<LatencyReport> {
        self.runtime()?.block_on(async {
            let endpoint = Endpoint::start(self.config(Protection::Plain)?)?;
            let mut subscriber = endpoint.subscribe([ANSWERS]).await;
            endpoint.peer(address, None).await?;
            let mut publisher = endpoint.publisher();
            let topic = Topic::new(TOPIC)?;
            let schedule = Schedule::begin(plan);
            let mut answers = Answers::new(schedule);
            let sender = std::thread::spawn(move || {
                pace(schedule, |number| {
                    let _ = publisher.publish(&topic, &Probe { number });
                })
            });
            let receiving = tokio::spawn(async move {
                while !answers.are_all() {
                    let next = tokio::time::timeout(QUIET, subscriber.receive()).await;
                    let Ok(Some(delivery)) = next else { break };
                    if let Delivery::Batch(batch) = delivery {
                        for message in batch.iter() {
                            let probe: Probe = DataRef::from_validated(message.payload).to()?;
                            answers.add(probe.number);
                        }
                    }
                }
                anyhow::Ok(answers)
            });
            let answers = receiving.await??;
            let late = sender.join().ok().context("the sender panicked")?;
            Ok(answers.report(late))
        })
    }
}

/// Publishing as fast as it goes.
struct Flood<'a> {
    endpoint: &'a Endpoint,
    runtime: &'a Runtime,
    traffic: Traffic,
    seconds: f64,
}

impl Flood<'_> {
    /// Publishes; the messages, and how many were dropped.
    fn publish(&self, value: &(impl Encode + ?Sized)) -> Result<(u64, u64)> {
        let topic = Topic::new(TOPIC)?;
        let mut publisher = self.endpoint.publisher();
        let (mut messages, mut dropped) = (0, 0);
        if self.traffic.encoded_once {
            let encoded = Bytes::from(encode_to_vec(value));
            self.runtime.block_on(async {
                let start = Instant::now();
                while !self.is_over(start, messages) {
                    let publish = publisher.publish_encoded_waiting(&topic, encoded.clone(), ROOM);
                    dropped += publish.await.dropped as u64;
                    messages += 1;
                }
            });
        } else {
            let start = Instant::now();
            while !self.is_over(start, messages) {
                let outcome = publisher.publish_blocking(&topic, value, ROOM);
                dropped += outcome.dropped as u64;
                messages += 1;
            }
        }
        Ok((messages, dropped))
    }

    /// Looks at the clock for every large message, and for some of the small ones.
    fn is_over(&self, start: Instant, messages: u64) -> bool {
        let looks = self.traffic.payload.is_large() || messages.is_multiple_of(64);
        looks && start.elapsed().as_secs_f64() >= self.seconds
    }
}

/// Reads a value as the traffic says; a number that depends on every field.
fn read(value: DataRef<'_>, traffic: Traffic) -> u64 {
    match (traffic.reading, traffic.payload) {
        (Reading::Struct, Payload::Conn) => value.to().map_or(0, |conn: Conn| conn.orig_bytes),
        (Reading::Struct, Payload::Record128) => value.to().map_or(0, |flow: Flow| flow.orig_bytes),
        _ => visit(value),
    }
}

/// Visits every field of a value; how many there are.
pub(crate) fn visit(value: DataRef<'_>) -> u64 {
    match value.get() {
        ValueRef::Vector(fields) => fields.iter().map(visit).sum(),
        field => {
            std::hint::black_box(field);
            1
        }
    }
}
