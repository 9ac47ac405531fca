//! A bridge to a WebSocket server: chosen topics travel in, others travel out.

mod back_off;
mod config;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::SplitStream;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use muster::{Delivery, Endpoint, Publisher, Subscriber};
use muster_data::{DataRef, encode_to_vec};
use muster_wire::counters::DropLedger;
use muster_wire::zeek::EventRef;
use muster_wire::{Class, Topic};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use self::back_off::{BackOff, with_jitter};
pub use self::config::{BridgeConfig, BridgeError};
use super::connection::{Connection, Incoming, ended, read, text_of};
use super::error::{ClientError, DisconnectReason};
use crate::event_text::each_text;
use crate::room::Room;

/// How often it is noted, while the server is away, what had no room.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often the server is pinged, and how many pings may be without an answer.
const PING_EVERY: Duration = Duration::from_secs(10);
const SILENT_PINGS: u64 = 3;

/// How long the server may take to make room for one text. It may have stopped with its connection
/// intact, and while a text waits there are no pings.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

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

impl Counters {
    /// Notes what had no room in the queue of a subscriber.
    fn note_dropped(&self, subscriber: &Subscriber) {
        let dropped = subscriber.depth().dropped;
        *self.dropped.lock().unwrap_or_else(PoisonError::into_inner) = dropped;
    }
}

/// A bridge at work; ends with [`Bridge::stop`], or at once when it is dropped.
#[derive(Debug)]
pub struct Bridge {
    counter: BridgeCounter,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
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

/// Writes what is published here. What is unsent when the connection ends goes over the next one.
struct Outward<'a> {
    unsent: &'a mut VecDeque<Utf8Bytes>,
    own: muster_wire::EndpointId,
    counters: &'a Counters,
}

impl Outward<'_> {
    async fn run(
        mut self,
        mut sink: impl Sink<Message, Error = tungstenite::Error> + Unpin,
        subscriber: &mut Subscriber,
        silent: &AtomicU64,
        stopping: &mut watch::Receiver<bool>,
    ) -> ClientError {
        let mut pings = tokio::time::interval(PING_EVERY);
        loop {
            if let Err(end) = send_all(&mut sink, self.unsent, self.counters).await {
                return end;
            }
            tokio::select! {
                delivery = subscriber.receive() => match delivery {
                    Some(delivery) => {
                        self.counters.note_dropped(subscriber);
                        self.take(&delivery);
                    }
                    None => return ClientError::Ended(DisconnectReason::EndpointShutDown),
                },
                _ = pings.tick() => {
                    if silent.fetch_add(1, Ordering::Relaxed) >= SILENT_PINGS {
                        let limit = PING_EVERY * u32::try_from(SILENT_PINGS).unwrap_or(1);
                        return ClientError::Ended(DisconnectReason::Silent(limit));
                    }
                    if let Err(end) = in_time(sink.send(Message::Ping(Bytes::new()))).await {
                        return end;
                    }
                }
                () = told_to_stop(stopping) => break,
            }
        }
        while let Ok(delivery) = subscriber.try_receive() {
            self.take(&delivery);
        }
        if let Err(end) = send_all(&mut sink, self.unsent, self.counters).await {
            return end;
        }
        if let Err(end) = in_time(sink.close()).await {
            return end;
        }
        // The server's goodbye, which comes when it has read everything, ends the connection.
        std::future::pending().await
    }

    fn take(&mut self, delivery: &Delivery) {
        let Delivery::Batch(batch) = delivery else {
            return;
        };
        for message in batch.iter().filter(|message| message.from != self.own) {
            let value = DataRef::from_validated(message.payload);
            let not_events = each_text(message.topic, value, &mut |text| {
                // What is written is UTF-8.
                self.unsent.extend(Utf8Bytes::try_from(text));
            });
            let counter = &self.counters.not_events;
            counter.fetch_add(not_events, Ordering::Relaxed);
        }
    }
}

async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn send_all(
    sink: &mut (impl Sink<Message, Error = tungstenite::Error> + Unpin),
    texts: &mut VecDeque<Utf8Bytes>,
    counters: &Counters,
) -> Result<(), ClientError> {
    if texts.is_empty() {
        return Ok(());
    }
    while let Some(text) = texts.front() {
        in_time(sink.feed(Message::Text(text.clone()))).await?;
        texts.pop_front();
        counters.events_out.fetch_add(1, Ordering::Relaxed);
    }
    in_time(sink.flush()).await
}

async fn in_time(
    write: impl Future<Output = Result<(), tungstenite::Error>>,
) -> Result<(), ClientError> {
    let written = tokio::time::timeout(WRITE_LIMIT, write).await;
    written
        .map_err(|_| ClientError::Ended(DisconnectReason::NotRead(WRITE_LIMIT)))?
        .map_err(|error| ended(&error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use muster::EndpointConfig;
    use muster_data::{Data, Encode};
    use muster_wire::QueueLimits;
    use muster_wire::zeek::{Metadata, put_event};

    use super::*;

    const LIMITS: QueueLimits = QueueLimits {
        messages: 100,
        bytes: 1 << 20,
    };

    /// A connection that takes so many messages besides pings; then its server has stopped, or it is lost.
    struct Takes {
        left: usize,
        is_lost: bool,
        taken: Arc<Mutex<Vec<String>>>,
    }

    impl Sink<Message> for Takes {
        type Error = tungstenite::Error;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            match self.left {
                0 if self.is_lost => Poll::Ready(Err(tungstenite::Error::ConnectionClosed)),
                0 => Poll::Pending,
                _ => Poll::Ready(Ok(())),
            }
        }

        fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
            if let Message::Text(text) = message {
                self.taken.lock().unwrap().push(text.to_string());
                self.left -= 1;
            }
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Publishes three events, in a batch.
    async fn published(endpoint: &Endpoint) -> Subscriber {
        let subscriber = endpoint.subscribe_with_local(["/t"], LIMITS).await;
        let mut payload = Vec::new();
        muster_wire::zeek::put_batch(&mut payload, 3, |out| {
            for number in 0..3_u64 {
                put_event(out, "e", Metadata::default(), |out| {
                    [Data::Count(number)][..].encode(out);
                });
            }
        });
        let topic = Topic::new("/t").unwrap();
        let _ = endpoint
            .publisher()
            .publish_encoded(&topic, payload.into(), Class::Event);
        subscriber
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_reading_is_given_up_and_nothing_is_lost() {
        for is_lost in [false, true] {
            let endpoint = Endpoint::start(EndpointConfig::default()).unwrap();
            let mut subscriber = published(&endpoint).await;
            let taken = Arc::new(Mutex::new(Vec::new()));
            let (counters, mut unsent) = (Counters::default(), VecDeque::new());
            // The second server reads everything, and ends by its silence.
            for left in [1, usize::MAX] {
                let sink = Takes {
                    left,
                    is_lost,
                    taken: Arc::clone(&taken),
                };
                let silent = AtomicU64::new(0);
                let own = muster::random_id().unwrap();
                let outward = Outward {
                    unsent: &mut unsent,
                    own,
                    counters: &counters,
                };
                let (_stop, mut stopping) = watch::channel(false);
                let outward = outward.run(sink, &mut subscriber, &silent, &mut stopping);
                let end = tokio::time::timeout(WRITE_LIMIT * 2, outward).await;
                let Ok(ClientError::Ended(reason)) = end else {
                    panic!("{end:?}");
                };
                let is_expected = match reason {
                    DisconnectReason::Silent(_) => left == usize::MAX,
                    DisconnectReason::Connection(_) => is_lost && left == 1,
                    DisconnectReason::NotRead(_) => !is_lost && left == 1,
                    _ => false,
                };
                assert!(is_expected, "{reason}");
            }
            let taken = taken.lock().unwrap();
            assert_eq!(taken.len(), 3);
            let numbers = taken.iter().enumerate();
            assert!(
                numbers
                    .into_iter()
                    .all(|(number, text)| text.contains(&format!(
                        "{{\"@data-type\":\"count\",\"data\":{number}}}]}}]}}"
                    ))),
                "{taken:?}"
            );
            assert_eq!(counters.events_out.load(Ordering::Relaxed), 3);
        }
    }
}
