//! A bridge to a WebSocket server: chosen topics travel in, others travel out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use muster::{Delivery, Endpoint, Publisher, StartError, Subscriber};
use muster_data::{DataRef, encode_to_vec, json};
use muster_wire::counters::DropLedger;
use muster_wire::zeek::{EventRef, Message as ZeekMessage};
use muster_wire::{Class, QueueLimits, Topic};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::connection::{
    ClientConfig, ClientError, Connection, Incoming, ServerUrl, ended, read, text_of,
};
use crate::room::Room;

/// The wait before the first and the last repetition of a connection that failed; it doubles between.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often the server is pinged, and how many pings may be without an answer.
const PING_EVERY: Duration = Duration::from_secs(10);
const SILENT_PINGS: u64 = 3;

/// Settings of a [`Bridge`].
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// The server.
    pub url: ServerUrl,
    /// How to present itself there.
    pub client: ClientConfig,
    /// The prefixes of the topics whose events come in from the server.
    pub inward: Vec<String>,
    /// The prefixes of the topics whose events go out to the server.
    pub outward: Vec<String>,
    /// The bounds of what waits for the server, also while it is away; the oldest is dropped, counted.
    pub queue: QueueLimits,
}

/// Why a bridge does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// An event could go round in circles.
    #[error("topics cross a bridge in one direction: `{inward}` comes in, `{outward}` goes out")]
    Loop {
        /// A prefix of topics that come in.
        inward: String,
        /// A prefix of topics that go out, and of some of the same topics.
        outward: String,
    },
    /// Not a topic.
    #[error("`{0}` is no topic prefix")]
    Prefix(String),
    /// The endpoint cannot be taken part in.
    #[error(transparent)]
    Endpoint(#[from] StartError),
}

impl BridgeConfig {
    /// Checks that no topic crosses in both directions, here and together with the other bridges of a
    /// cluster: then no event can go round, whatever the bridges lead to.
    pub fn check(all: &[&Self]) -> Result<(), BridgeError> {
        let inward: Vec<_> = all.iter().flat_map(|config| &config.inward).collect();
        let outward: Vec<_> = all.iter().flat_map(|config| &config.outward).collect();
        Self::check_prefixes(&inward, &outward)
    }

    pub(crate) fn check_prefixes(
        all_inward: &[&String],
        all_outward: &[&String],
    ) -> Result<(), BridgeError> {
        for prefix in all_inward.iter().chain(all_outward) {
            Topic::new(prefix).map_err(|_| BridgeError::Prefix((*prefix).clone()))?;
        }
        for &inward in all_inward {
            let meets = |outward: &&&String| {
                inward.starts_with(outward.as_str()) || outward.starts_with(inward.as_str())
            };
            if let Some(&outward) = all_outward.iter().find(meets) {
                return Err(BridgeError::Loop {
                    inward: inward.clone(),
                    outward: outward.clone(),
                });
            }
        }
        Ok(())
    }
}

/// What a bridge counts.
#[derive(Debug, Clone, Default)]
pub struct BridgeCounts {
    /// The server's address.
    pub server: String,
    /// Whether the server is connected.
    pub connected: bool,
    /// Connections that came about.
    pub connections: u64,
    /// Events that came in.
    pub events_in: u64,
    /// Events that went out.
    pub events_out: u64,
    /// Errors that the server answered with.
    pub errors: u64,
    /// What came in and is no event, and what would have gone out and is none.
    pub not_events: u64,
    /// Messages that were dropped because the server was away or did not keep up.
    pub dropped: DropLedger,
    /// Why the last connection failed or ended.
    pub last_error: Option<String>,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    events_in: AtomicU64,
    events_out: AtomicU64,
    errors: AtomicU64,
    not_events: AtomicU64,
    dropped: Mutex<DropLedger>,
    last_error: Mutex<Option<String>>,
}

/// A bridge at work; ends when it is dropped.
#[derive(Debug)]
pub struct Bridge {
    counter: BridgeCounter,
    _stop: watch::Sender<()>,
}

/// Tells what a bridge counts.
#[derive(Debug, Clone)]
pub struct BridgeCounter {
    server: Arc<str>,
    counters: Arc<Counters>,
    connected: watch::Receiver<bool>,
}

impl Bridge {
    /// Connects an endpoint with a server, in the background and for ever.
    pub async fn start(endpoint: &Endpoint, config: BridgeConfig) -> Result<Self, BridgeError> {
        BridgeConfig::check(&[&config])?;
        let subscriber = endpoint
            .subscribe_with_local(&config.outward, config.queue)
            .await;
        let server = config.url.to_string().into();
        let counters = Arc::new(Counters::default());
        let (connected, is_connected) = watch::channel(false);
        let (stop, mut stopped) = watch::channel(());
        let task = Task {
            publisher: endpoint.local_publisher()?,
            endpoint: endpoint.clone(),
            config,
            counters: Arc::clone(&counters),
            connected,
        };
        tokio::spawn(async move {
            tokio::select! {
                () = task.run(subscriber) => {}
                _ = stopped.changed() => {}
            }
        });
        Ok(Self {
            counter: BridgeCounter {
                server,
                counters,
                connected: is_connected,
            },
            _stop: stop,
        })
    }

    /// What the bridge counts.
    pub fn counts(&self) -> BridgeCounts {
        self.counter.counts()
    }

    /// A handle for those who ask for counts.
    pub fn counter(&self) -> BridgeCounter {
        self.counter.clone()
    }
}

impl BridgeCounter {
    /// What the bridge counts.
    pub fn counts(&self) -> BridgeCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let dropped = counters.dropped.lock();
        let last_error = counters.last_error.lock();
        BridgeCounts {
            server: self.server.to_string(),
            connected: *self.connected.borrow(),
            connections: get(&counters.connections),
            events_in: get(&counters.events_in),
            events_out: get(&counters.events_out),
            errors: get(&counters.errors),
            not_events: get(&counters.not_events),
            dropped: dropped.unwrap_or_else(PoisonError::into_inner).clone(),
            last_error: last_error.unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

struct Task {
    endpoint: Endpoint,
    publisher: Publisher,
    config: BridgeConfig,
    counters: Arc<Counters>,
    connected: watch::Sender<bool>,
}

impl Task {
    async fn run(mut self, mut subscriber: Subscriber) {
        let mut wait = FIRST_WAIT;
        let mut told = String::new();
        loop {
            let config = &self.config;
            match Connection::open(&config.url, &config.client, &config.inward).await {
                Ok(connection) => {
                    tracing::info!(
                        "bridge to {}: connected as {} ({})",
                        config.url,
                        connection.endpoint(),
                        connection.version()
                    );
                    self.counters.connections.fetch_add(1, Ordering::Relaxed);
                    self.connected.send_replace(true);
                    let end = self.exchange(connection, &mut subscriber).await;
                    self.connected.send_replace(false);
                    tracing::warn!("bridge to {}: {end}", self.config.url);
                    self.failed(&end);
                    told.clear();
                    wait = FIRST_WAIT;
                }
                Err(error) => {
                    self.failed(&error);
                    let text = error.to_string();
                    // Once for each reason, however often it is tried.
                    if text != told {
                        tracing::warn!("bridge: {text}; trying again");
                        told = text;
                    }
                }
            }
            tokio::time::sleep(with_jitter(wait)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn failed(&self, error: &ClientError) {
        let mut last = self
            .counters
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = Some(error.to_string());
    }

    /// Carries events both ways until the connection ends.
    async fn exchange(
        &mut self,
        connection: Connection,
        subscriber: &mut Subscriber,
    ) -> ClientError {
        let (sink, stream) = connection.socket.split();
        let silent = AtomicU64::new(0);
        let own = self.publisher.id();
        let counters = Arc::clone(&self.counters);
        // Both are driven at once, so that a server that waits for us to read cannot stop us writing.
        tokio::select! {
            end = self.inward(stream, &silent) => end,
            end = outward(sink, subscriber, own, &counters, &silent) => end,
        }
    }

    async fn inward<S>(&mut self, mut stream: SplitStream<S>, silent: &AtomicU64) -> ClientError
    where
        S: Stream<Item = Result<Message, tungstenite::Error>>,
    {
        let mut room = Room::default();
        loop {
            let next = stream.next().await;
            silent.store(0, Ordering::Relaxed);
            match text_of(next) {
                Ok(Some(text)) => self.take(&text, &mut room).await,
                Ok(None) => {}
                Err(end) => return end,
            }
        }
    }

    async fn take(&mut self, text: &[u8], room: &mut Room) {
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        match read(text) {
            Incoming::Message { topic, data } => {
                let payload = encode_to_vec(&data);
                let is_event = EventRef::read(DataRef::from_validated(&payload)).is_ok();
                // A server that sends what was not asked for could make a loop.
                let is_asked = || {
                    let mut prefixes = self.config.inward.iter();
                    prefixes.any(|prefix| topic.starts_with(prefix.as_str()))
                };
                match Topic::new(&topic) {
                    Ok(topic) if is_event && is_asked() => {
                        room.wait(&self.endpoint).await;
                        count(&self.counters.events_in);
                        let payload = Bytes::from(payload);
                        // What is dropped is counted with its peer.
                        let _ = self
                            .publisher
                            .publish_encoded(&topic, payload, Class::Event);
                    }
                    _ => {
                        count(&self.counters.not_events);
                    }
                }
            }
            Incoming::Error { code, context } => {
                if count(&self.counters.errors) < 10 {
                    tracing::warn!("bridge to {}: {code}: {context}", self.config.url);
                }
            }
            Incoming::Other(_) => {
                count(&self.counters.not_events);
            }
        }
    }
}

/// Writes what is published here.
async fn outward<S>(
    mut sink: SplitSink<S, Message>,
    subscriber: &mut Subscriber,
    own: muster_wire::EndpointId,
    counters: &Counters,
    silent: &AtomicU64,
) -> ClientError
where
    S: Sink<Message, Error = tungstenite::Error>,
{
    let mut pings = tokio::time::interval(PING_EVERY);
    loop {
        let written = tokio::select! {
            delivery = subscriber.receive() => match delivery {
                Some(Delivery::Batch(batch)) => {
                    let (_, _, dropped) = subscriber.depth();
                    *counters.dropped.lock().unwrap_or_else(PoisonError::into_inner) = dropped;
                    let messages = batch.iter().filter(|message| message.from != own);
                    let mut texts = Vec::new();
                    for message in messages {
                        let value = DataRef::from_validated(message.payload);
                        put_events(&mut texts, message.topic, value, counters);
                    }
                    let count = texts.len() as u64;
                    let written = send_all(&mut sink, texts).await;
                    if written.is_ok() {
                        counters.events_out.fetch_add(count, Ordering::Relaxed);
                    }
                    written
                }
                Some(Delivery::Status(_)) => Ok(()),
                None => return ClientError::Ended("the endpoint has ended".to_owned()),
            },
            _ = pings.tick() => {
                if silent.fetch_add(1, Ordering::Relaxed) >= SILENT_PINGS {
                    let limit = PING_EVERY * u32::try_from(SILENT_PINGS).unwrap_or(1);
                    return ClientError::Ended(format!("nothing heard for {limit:?}"));
                }
                sink.send(Message::Ping(Bytes::new())).await
            }
        };
        if let Err(error) = written {
            return ended(&error);
        }
    }
}

/// Appends an event, or each event of a batch, as JSON.
fn put_events(texts: &mut Vec<Utf8Bytes>, topic: &Topic, value: DataRef<'_>, counters: &Counters) {
    match ZeekMessage::read(value) {
        Ok(ZeekMessage::Event(_)) => {
            let mut text = Vec::with_capacity(value.bytes().len() * 4);
            json::write_message(&mut text, topic.as_bytes(), value);
            texts.extend(Utf8Bytes::try_from(text));
        }
        Ok(ZeekMessage::Batch(batch)) => {
            for value in batch.values() {
                put_events(texts, topic, value, counters);
            }
        }
        Ok(_) | Err(_) => {
            counters.not_events.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn send_all<S>(
    sink: &mut SplitSink<S, Message>,
    texts: Vec<Utf8Bytes>,
) -> Result<(), tungstenite::Error>
where
    S: Sink<Message, Error = tungstenite::Error>,
{
    for text in texts {
        sink.feed(Message::Text(text)).await?;
    }
    sink.flush().await
}

/// Three quarters to five quarters of a time, so that many bridges do not come at once.
fn with_jitter(wait: Duration) -> Duration {
    let random = muster::random_id().map_or(128, |id| u32::from(id.as_bytes()[15]));
    wait * (192 + random / 2) / 256
}
