//! NATS: `async-nats` and one `nats-server`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::{Client, ConnectOptions, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use muster_measure::{
    Answers, Control, Engine, LOOK, LatencyReport, Plan, Published, QUIET, Schedule, Tally,
    Traffic, cpu_seconds, pace,
};
use tokio::runtime::{Builder, Runtime};

/// Where messages are published.
const SUBJECT: &str = "bench";

/// Where answers are published.
const ANSWERS: &str = "answers";

/// The size of a probe's message: its number, and as much again.
const PROBE: usize = 16;

/// Clients of one server, which is the hub.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nats;

pub(crate) fn two_threads() -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    Ok(builder.worker_threads(2).enable_all().build()?)
}

/// For round trips: no message changes threads to be received.
fn one_thread() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// A client that does not drop what waits for the processor.
pub(crate) async fn connect(address: &str) -> Result<Client> {
    let options = ConnectOptions::new().subscription_capacity(1 << 24);
    Ok(options.connect(address).await?)
}

/// Subscribes, and waits until the server knows.
async fn subscribe(client: &Client, subject: &'static str) -> Result<Subscriber> {
    let subscriber = client.subscribe(subject).await?;
    settle(client).await?;
    Ok(subscriber)
}

/// Waits until the server has handled what this client has sent: it does so in order. A flush alone waits
/// until it is written.
async fn settle(client: &Client) -> Result<()> {
    let inbox = client.new_inbox();
    let mut known = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, Bytes::new()).await?;
    known.next().await.context("the server has gone")?;
    Ok(())
}

impl Engine for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn subscribe(
        &self,
        hub: Option<&str>,
        _: Traffic,
        control: &Control,
        tally: &mut Tally,
    ) -> Result<()> {
        let hub = hub.context("NATS has a server")?;
        two_threads()?.block_on(async {
            let client = connect(hub).await?;
            let mut subscriber = subscribe(&client, SUBJECT).await?;
            control.ready(hub)?;
            let mut look = tokio::time::interval(LOOK);
            loop {
                tokio::select! {
                    message = subscriber.next() => {
                        let message = message.context("the server has gone")?;
                        std::hint::black_box(message.payload.len());
                        tally.add(1);
                        // What has come already is taken without looking at anything else.
                        while let Some(Some(message)) = futures_util::FutureExt::now_or_never(subscriber.next()) {
                            std::hint::black_box(message.payload.len());
                            tally.add(1);
                        }
                    }
                    _ = look.tick() => if tally.look_for_end(control) { return Ok(()) },
                }
            }
        })
    }

    fn publish(&self, addresses: &[String], traffic: Traffic, seconds: f64) -> Result<Published> {
        let hub = addresses.first().context("an address")?;
        let payload = Bytes::from(traffic.payload.opaque()?);
        two_threads()?.block_on(async {
            let client = connect(hub).await?;
            let (start, cpu) = (Instant::now(), cpu_seconds());
            let mut messages = 0u64;
            // As with the others, small messages are not each timed.
            let burst = if payload.len() < 4 << 10 { 64 } else { 1 };
            while !messages.is_multiple_of(burst) || start.elapsed().as_secs_f64() < seconds {
                client.publish(SUBJECT, payload.clone()).await?;
                messages += 1;
            }
            settle(&client).await?;
            Ok(Published {
                messages,
                dropped: 0,
                cpu: cpu_seconds() - cpu,
            })
        })
    }

    fn echo(&self, hub: Option<&str>, control: &Control) -> Result<()> {
        let hub = hub.context("NATS has a server")?;
        one_thread()?.block_on(async {
            let client = connect(hub).await?;
            let mut subscriber = subscribe(&client, SUBJECT).await?;
            control.ready(hub)?;
            while let Some(message) = subscriber.next().await {
                client.publish(ANSWERS, message.payload).await?;
            }
            Ok(())
        })
    }

    fn probe(&self, address: &str, plan: Plan) -> Result<LatencyReport> {
        let runtime = one_thread()?;
        let handle = runtime.handle().clone();
        runtime.block_on(async {
            let client = connect(address).await?;
            let mut subscriber = subscribe(&client, ANSWERS).await?;
            let schedule = Schedule::begin(plan);
            let mut answers = Answers::new(schedule);
            let sender = std::thread::spawn(move || {
                pace(schedule, |number| {
                    let mut message = [0; PROBE];
                    message[..8].copy_from_slice(&number.to_le_bytes());
                    // A failure is an answer that does not come.
                    let payload = Bytes::copy_from_slice(&message);
                    let _ = handle.block_on(client.publish(SUBJECT, payload));
                })
            });
            while !answers.are_all() {
                let quiet = QUIET + Duration::from_secs(1);
                let next = tokio::time::timeout(quiet, subscriber.next()).await;
                let Ok(Some(message)) = next else { break };
                answers.add(crate::number(&message.payload));
            }
            let late = sender.join().ok().context("the sender panicked")?;
            Ok(answers.report(late))
        })
    }
}
