//! A bridge to a WebSocket server: chosen topics travel in, others travel out.

mod back_off;
mod config;
mod counts;
mod outward;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::SplitStream;
use futures_util::{Stream, StreamExt};
use muster::{Endpoint, Publisher, Subscriber};
use muster_data::{DataRef, encode_to_vec};
use muster_wire::zeek::EventRef;
use muster_wire::{Class, Topic};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use self::back_off::{BackOff, with_jitter};
pub use self::config::{BridgeConfig, BridgeError};
use self::counts::Counters;
pub use self::counts::{BridgeCounter, BridgeCounts};
use self::outward::Outward;
use super::connection::{Connection, Incoming, read, text_of};
use super::error::ClientError;
use crate::room::Room;

/// How often it is noted, while the server is away, what had no room.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A bridge at work; ends with [`Bridge::stop`], or at once when it is dropped.
#[derive(Debug)]
pub struct Bridge {
    counter: BridgeCounter,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
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
        let (stop, stopping) = watch::channel(false);
        let mut is_there = stopping.clone();
        let task = Task {
            publisher: endpoint.local_publisher()?,
            endpoint: endpoint.clone(),
            config,
            counters: Arc::clone(&counters),
            connected,
            stopping,
        };
        let task = tokio::spawn(async move {
            let dropped = async { while is_there.changed().await.is_ok() {} };
            tokio::select! {
                () = task.run(subscriber) => {}
                () = dropped => {}
            }
        });
        Ok(Self {
            counter: BridgeCounter {
                server,
                counters,
                connected: is_connected,
            },
            stop,
            task,
        })
    }

    /// Sends what waits for the server, if it is connected, and says goodbye; takes at most `limit`.
    pub async fn stop(self, limit: Duration) {
        self.stop.send_replace(true);
        let _ = tokio::time::timeout(limit, self.task).await;
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

struct Task {
    endpoint: Endpoint,
    publisher: Publisher,
    config: BridgeConfig,
    counters: Arc<Counters>,
    connected: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
}

impl Task {
    async fn run(mut self, mut subscriber: Subscriber) {
        let mut back_off = BackOff::default();
        let mut unsent = VecDeque::new();
        let mut told = String::new();
        let mut stopping = self.stopping.clone();
        loop {
            let config = &self.config;
            let mut lasted = Duration::ZERO;
            let opened = tokio::select! {
                opened = Connection::open(&config.url, &config.client, &config.inward) => opened,
                () = told_to_stop(&mut stopping) => return,
            };
            match opened {
                Ok(connection) => {
                    tracing::info!(
                        "bridge to {}: connected as {} ({})",
                        config.url,
                        connection.endpoint(),
                        connection.version()
                    );
                    self.counters.connections.fetch_add(1, Ordering::Relaxed);
                    self.connected.send_replace(true);
                    let start = Instant::now();
                    let end = self
                        .exchange(connection, &mut subscriber, &mut unsent)
                        .await;
                    lasted = start.elapsed();
                    self.connected.send_replace(false);
                    if *self.stopping.borrow() {
                        return;
                    }
                    tracing::warn!("bridge to {}: {end}", self.config.url);
                    self.failed(&end);
                    told.clear();
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
            let again = Instant::now() + with_jitter(back_off.next(lasted));
            while Instant::now() < again {
                self.counters.note_dropped(&subscriber);
                let look = tokio::time::sleep_until(again.min(Instant::now() + LOOK_EVERY));
                tokio::select! {
                    () = look => {}
                    () = told_to_stop(&mut stopping) => return,
                }
            }
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
        unsent: &mut VecDeque<Utf8Bytes>,
    ) -> ClientError {
        let (sink, stream) = connection.socket.split();
        let silent = AtomicU64::new(0);
        let own = self.publisher.id();
        let counters = Arc::clone(&self.counters);
        let mut stopping = self.stopping.clone();
        let outward = Outward {
            unsent,
            own,
            counters: &counters,
        };
        // Both are driven at once, so that a server that waits for us to read cannot stop us writing.
        tokio::select! {
            end = self.inward(stream, &silent) => end,
            end = outward.run(sink, subscriber, &silent, &mut stopping) => end,
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

async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}
