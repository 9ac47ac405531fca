//! How much passes from a publisher to a subscriber through relays.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use muster::wire::{QueueLimits, Topic};
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, Publisher, Status, Subscriber};
use muster_data::{DataRef, Encode};
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::time::MissedTickBehavior;

use crate::engine::{runtime, visit};
use crate::ledger::{LOOK, rate};
use crate::{
    Conn, Control, Delivered, Flow, Job, Launcher, Payload, Published, Tally, Worker,
    cpu_seconds_of,
};

/// Where messages are published.
const TOPIC: &str = "/bench";

/// Where the subscriber says how many it has seen.
const SEEN: &str = "/seen";

/// How many messages a paced publisher is ahead of the subscriber at most, and how many bytes: a quarter
/// of what a relay's queue may hold.
const AHEAD: (u64, u64) = (16_384, 16 << 20);

/// How often the subscriber says what it has seen, at most, in parts of what the publisher may be ahead.
const PARTS: usize = 16;

/// How long a publisher waits for room, or for the subscriber, at most.
const ROOM: Duration = Duration::from_secs(10);

/// How soon a relay that is not there is dialled again.
const RETRY: Duration = Duration::from_millis(50);

/// How much longer than it is told a publisher may take, and the subscriber behind it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much passed through a chain.
#[derive(Debug, Clone, Serialize)]
pub struct Chain {
    /// What was sent.
    pub payload: Payload,
    /// The number of relays between publisher and subscriber.
    pub relays: u32,
    /// Whether the publisher kept to what the subscriber had seen. Otherwise it sent as much as its
    /// first hop took.
    pub paced: bool,
    /// Deliveries per second.
    pub per_second: f64,
    /// CPU time of one delivery over all processes, in microseconds.
    pub cpu_us: f64,
    /// The relays' share of it.
    pub relays_cpu_us: f64,
    /// Messages published.
    pub published: u64,
    /// Messages that were published but did not arrive.
    pub lost: u64,
}

/// Measures a chain with `relays` relays, each endpoint in a process of its own.
///
/// # Errors
///
/// Fails if a process does not start, does not do its job, or does not report in time.
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn chain(
    launcher: &Launcher,
    payload: Payload,
    relays: u32,
    paced: bool,
    seconds: f64,
) -> Result<Chain> {
    let mut last = launcher.start(&Job::Last { payload })?;
    let mut next = last.ready()?;
    let mut between = Vec::new();
    for _ in 0..relays {
        let mut relay = launcher.start(&Job::Relay { next })?;
        next = relay.ready()?;
        between.push(relay);
    }
    let mut first = launcher.start(&Job::First {
        next,
        others: relays + 1,
        payload,
        seconds,
        paced,
    })?;
    first.ready()?;
    let used = |workers: &[Worker]| -> Result<f64> {
        let workers = workers.iter();
        workers.map(|worker| cpu_seconds_of(worker.id())).sum()
    };
    let before = (used(&between)?, cpu_seconds_of(first.id())?);
    first.finish(0)?;
    let published = first.line(Duration::from_secs_f64(seconds) + PATIENCE)?;
    let published: Published = serde_json::from_str(&published).context("what was published")?;
    last.finish(published.messages)?;
    let delivered: Delivered = last.report(PATIENCE)?;
    let relayed = used(&between)? - before.0;
    let cpu = relayed + cpu_seconds_of(first.id())? - before.1 + delivered.cpu;
    let deliveries = delivered.messages.max(1) as f64;
    Ok(Chain {
        payload,
        relays,
        paced,
        per_second: rate(&[delivered]),
        cpu_us: cpu * 1e6 / deliveries,
        relays_cpu_us: relayed * 1e6 / deliveries,
        published: published.messages,
        lost: published.messages.saturating_sub(delivered.messages),
    })
}

/// How many messages of a payload a publisher is ahead at most.
fn ahead(payload: Payload) -> Result<u64> {
    let bytes = payload.opaque()?.len() as u64;
    Ok(AHEAD.0.min(AHEAD.1 / bytes).max(PARTS as u64))
}

/// An endpoint whose subscribers do not drop what waits for the processor; else as by default.
fn endpoint() -> Result<Endpoint> {
    let config = EndpointConfig {
        subscriber_queue: QueueLimits {
            messages: 1 << 20,
            bytes: 1 << 30,
        },
        ..EndpointConfig::default()
    };
    Ok(Endpoint::start(config)?)
}

async fn listen(endpoint: &Endpoint, control: &Control) -> Result<()> {
    let address = endpoint.listen(([127, 0, 0, 1], 0).into(), Exposure::Guarded);
    control.ready(&address.await?.to_string())
}

/// The subscriber: it visits every field, and says now and then how many messages it has seen.
pub(crate) fn last(payload: Payload, control: &Control, tally: &mut Tally) -> Result<()> {
    runtime()?.block_on(async {
        let endpoint = endpoint()?;
        let mut subscriber = endpoint.subscribe([TOPIC]).await;
        listen(&endpoint, control).await?;
        let (mut publisher, seen_topic) = (endpoint.publisher(), Topic::new(SEEN)?);
        let part = ahead(payload)? / PARTS as u64;
        let (mut seen, mut said, mut sum) = (0, 0, 0);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                delivery = subscriber.receive() => match delivery {
                    Some(Delivery::Batch(batch)) => {
                        tally.add(batch.len() as u64);
                        seen += batch.len() as u64;
                        for message in batch.iter() {
                            sum += visit(DataRef::from_validated(message.payload));
                        }
                        if seen - said >= part {
                            said = seen;
                            // Of a publisher that is not paced nobody hears it.
                            let _ = publisher.publish(&seen_topic, &seen);
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

/// A relay.
pub(crate) fn relay(next: &str, control: &Control) -> Result<()> {
    let runtime = runtime()?;
    let _endpoint = runtime.block_on(async {
        let endpoint = endpoint()?;
        endpoint.peer(next, Some(RETRY)).await?;
        listen(&endpoint, control).await?;
        anyhow::Ok(endpoint)
    })?;
    control.wait();
    Ok(())
}

/// The publisher, when it has joined.
pub(crate) struct First {
    endpoint: Endpoint,
    runtime: Runtime,
    /// What hears of what the subscriber has seen: subscribed to before the subscriber begins to say it.
    seen: Option<Subscriber>,
}

impl First {
    /// Waits until all others are known, and for the word to begin.
    pub(crate) fn join(next: &str, others: u32, paced: bool, control: &Control) -> Result<Self> {
        let runtime = runtime()?;
        let (endpoint, seen) = runtime.block_on(async {
            let endpoint = endpoint()?;
            let mut seen = None;
            if paced {
                seen = Some(endpoint.subscribe([SEEN]).await);
            }
            let limits = endpoint.config().subscriber_queue;
            let none: [&str; 0] = [];
            let mut statuses = endpoint.subscribe_with_statuses(none, limits).await;
            endpoint.peer(next, Some(RETRY)).await?;
            let mut known = 0;
            while known < others {
                let next = statuses.receive().await.context("the endpoint has ended")?;
                let found = matches!(next, Delivery::Status(Status::EndpointDiscovered(_)));
                known += u32::from(found);
            }
            anyhow::Ok((endpoint, seen))
        })?;
        control.ready("")?;
        control.wait();
        Ok(Self {
            endpoint,
            runtime,
            seen,
        })
    }

    /// Publishes for some seconds.
    pub(crate) fn publish(&mut self, payload: Payload, seconds: f64) -> Result<Published> {
        let seen = self.seen.take();
        let pace = seen.map(|seen| self.pace(seen, payload)).transpose()?;
        let flood = Flood {
            publisher: self.endpoint.publisher(),
            seconds,
            pace,
        };
        match (payload.string(), payload) {
            (Some(string), _) => flood.publish(&string[..]),
            (None, Payload::Record128) => flood.publish(&Flow::sample()?),
            (None, _) => flood.publish(&Conn::sample()?),
        }
    }

    fn pace(&self, mut subscriber: Subscriber, payload: Payload) -> Result<Pace> {
        // A publisher that does not look is told no more often than this.
        let (sender, seen) = sync_channel(2 * PARTS);
        self.runtime.spawn(async move {
            while let Some(delivery) = subscriber.receive().await {
                let Delivery::Batch(batch) = delivery else {
                    continue;
                };
                let last = batch.iter().last();
                let number = last.map(|last| DataRef::from_validated(last.payload).to::<u64>());
                if let Some(Ok(number)) = number
                    && sender.try_send(number).is_err()
                {
                    return;
                }
            }
        });
        Ok(Pace {
            seen,
            up_to: 0,
            ahead: ahead(payload)?,
        })
    }
}

/// Publishing as fast as it goes.
struct Flood {
    publisher: Publisher,
    seconds: f64,
    pace: Option<Pace>,
}

impl Flood {
    fn publish(mut self, value: &(impl Encode + ?Sized)) -> Result<Published> {
        let topic = Topic::new(TOPIC)?;
        let (mut messages, mut dropped) = (0u64, 0);
        let start = Instant::now();
        while !messages.is_multiple_of(64) || start.elapsed().as_secs_f64() < self.seconds {
            if let Some(pace) = &mut self.pace {
                pace.wait(messages)?;
            }
            let outcome = self.publisher.publish_blocking(&topic, value, ROOM);
            dropped += outcome.dropped as u64;
            messages += 1;
        }
        Ok(Published {
            messages,
            dropped,
            cpu: 0.0,
        })
    }
}

/// How far the subscriber is.
struct Pace {
    seen: Receiver<u64>,
    up_to: u64,
    ahead: u64,
}

impl Pace {
    /// Waits until a message may be sent.
    fn wait(&mut self, number: u64) -> Result<()> {
        while number >= self.up_to + self.ahead {
            self.up_to = self.seen.recv_timeout(ROOM).context("nothing arrives")?;
        }
        Ok(())
    }
}
