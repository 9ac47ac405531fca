//! One client's WebSocket connection: a reader and a writer, with the client's queue between them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use muster::Publisher;
use muster_wire::Class;
use tokio_tungstenite::tungstenite;

use crate::access::Grant;
use crate::clients::Client;
use crate::http::Caller;
use crate::intake::Intake;
use crate::queue::{ClientQueue, Closing, Outgoing};
use crate::room::Room;
use crate::server::Shared;
use crate::session::{Action, Refusal, Session};

/// How long a client may take to make room for one text, if it is not pinged.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// How long the end of a connection may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// A connection's place among the clients, given back if no client comes of it.
pub(crate) struct Place {
    pub(crate) number: u64,
    shared: Arc<Shared>,
    used: bool,
}

impl Place {
    pub(crate) fn take(shared: &Arc<Shared>) -> Option<Self> {
        let number = shared.registry.reserve(shared.config.max_clients)?;
        Some(Self {
            number,
            shared: Arc::clone(shared),
            used: false,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.used {
            self.shared.registry.release();
        }
    }
}

/// What a client's request says.
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) application: Option<Vec<u8>>,
    pub(crate) grant: Arc<Grant>,
    pub(crate) address: Caller,
    pub(crate) intake: Arc<Intake>,
}

/// Runs a connection to its end.
pub(crate) async fn run(mut socket: WebSocket, request: Request, mut place: Place) {
    let shared = Arc::clone(&place.shared);
    let name = format!("{}-websocket-{}", shared.endpoint.id(), place.number);
    let grant = Arc::clone(&request.grant);
    let application = request.application.as_deref();
    let session = match Session::new(&request.path, application, grant, name) {
        Ok(session) => session,
        Err(refusal) => {
            shared.turned_away();
            tracing::debug!(address = %request.address, "refused a client: {}", refusal.reason());
            let _ = tokio::time::timeout(CLOSE_LIMIT, refuse(&mut socket, refusal)).await;
            return;
        }
    };
    let publisher = match shared.endpoint.local_publisher() {
        Ok(publisher) => publisher,
        Err(error) => {
            tracing::error!("cannot take a client: {error}");
            return;
        }
    };
    let client = Arc::new(Client {
        number: place.number,
        address: request.address,
        grant: request.grant.name.clone(),
        application: application.map(|name| String::from_utf8_lossy(name).into_owned()),
        id: publisher.id(),
        queue: ClientQueue::new(
            shared.config.client_queue,
            shared.config.overflow,
            Arc::clone(&shared.waiting),
        ),
        events_in: AtomicU64::new(0),
        events_out: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        heard: AtomicBool::new(true),
    });
    place.used = true;
    shared.registry.add(&client);
    tracing::debug!(address = %client.address, grant = client.grant, application = client.application, "client {} connected", client.number);
    let (sink, stream) = socket.split();
    let mut writer = tokio::spawn(write(
        sink,
        Arc::clone(&client),
        shared.config.ping_interval,
    ));
    let reader = Reader {
        shared: Arc::clone(&shared),
        client: Arc::clone(&client),
        session,
        publisher,
        room: Room::default(),
        intake: request.intake,
    };
    tokio::select! {
        () = reader.run(stream) => {
            // The client has gone, or said goodbye: what waits for it is of no use.
            writer.abort();
        }
        _ = &mut writer => {}
    }
    shared.fan_out.remove(&client).await;
    shared.registry.remove(&client);
    tracing::debug!("client {} disconnected", client.number);
}

/// Says why, and waits for the client to go.
async fn refuse(socket: &mut WebSocket, refusal: Refusal) {
    if socket
        .send(Message::Text(refusal.text().into()))
        .await
        .is_err()
    {
        return;
    }
    let close = CloseFrame {
        code: 1008,
        reason: refusal.reason().into(),
    };
    if socket.send(Message::Close(Some(close))).await.is_ok() {
        while let Some(Ok(_)) = socket.recv().await {}
    }
}

struct Reader {
    shared: Arc<Shared>,
    client: Arc<Client>,
    session: Session,
    publisher: Publisher,
    room: Room,
    intake: Arc<Intake>,
}

impl Reader {
    /// Reads until the client has gone.
    async fn run(mut self, mut stream: SplitStream<WebSocket>) {
        while let Some(message) = stream.next().await {
            let message = match message {
                Ok(message) => message,
                Err(error) if is_too_big(&error) => return self.too_big().await,
                Err(_) => return,
            };
            self.intake.whole();
            self.client.heard.store(true, Ordering::Relaxed);
            match message {
                Message::Text(text) => self.message(text.as_bytes()).await,
                Message::Binary(bytes) => self.message(&bytes).await,
                Message::Ping(_) => self.client.queue.until_flushed().await,
                Message::Pong(_) | Message::Close(_) => {}
            }
        }
    }

    /// Ends a connection whose message is larger than one may be: the rest of it cannot be told from what comes behind.
    async fn too_big(&self) {
        let (limit, client) = (self.shared.config.message_limit, &self.client);
        tracing::warn!(
            address = %client.address,
            grant = client.grant,
            "client {} sent a message of more than {limit} bytes, and is disconnected",
            client.number
        );
        client.refused.fetch_add(1, Ordering::Relaxed);
        client.queue.close(Closing::TOO_BIG);
        // The writer ends the connection, and with it this.
        std::future::pending::<()>().await;
    }

    async fn message(&mut self, text: &[u8]) {
        match self.session.message(text) {
            Action::Subscribe(prefixes) => {
                if !self.shared.fan_out.add(&self.client, prefixes).await {
                    return self.refuse(Refusal::Full);
                }
                // Behind what a subscription brought already, which the client has asked for.
                self.client.queue.answer(self.session.acknowledgement());
            }
            Action::Publish { topic, payload } => {
                // A client cannot publish faster than the peers take it.
                self.room.wait(&self.shared.endpoint).await;
                self.client.events_in.fetch_add(1, Ordering::Relaxed);
                // What is dropped is counted with its peer.
                let _ = self
                    .publisher
                    .publish_encoded(&topic, payload, Class::Event);
            }
            Action::Reply(text) => {
                self.client.refused.fetch_add(1, Ordering::Relaxed);
                self.client.queue.answer(text);
            }
            Action::Refuse(refusal) => self.refuse(refusal),
        }
    }

    fn refuse(&self, refusal: Refusal) {
        self.client.refused.fetch_add(1, Ordering::Relaxed);
        self.client.queue.answer(refusal.text());
        self.client.queue.close(Closing {
            code: 1008,
            reason: refusal.reason(),
        });
    }
}

/// Whether a message was larger than the connection takes.
fn is_too_big(error: &axum::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<tungstenite::Error>() {
            return matches!(error, tungstenite::Error::Capacity(_));
        }
        cause = error.source();
    }
    false
}

/// Writes what is queued, and pings, until the client or the gateway ends the connection.
async fn write(mut sink: SplitSink<WebSocket, Message>, client: Arc<Client>, every: Duration) {
    let mut taken = VecDeque::new();
    let mut pings = Pings::new(every);
    let limit = if every.is_zero() {
        WRITE_LIMIT
    } else {
        every * 2
    };
    loop {
        let mut closing = client.queue.take(&mut taken);
        if closing.is_none() && pings.is_due() {
            if client.heard.swap(false, Ordering::Relaxed) {
                let ping = Message::Ping(pings.next().into());
                if !in_time(limit, sink.send(ping)).await {
                    return;
                }
            } else {
                closing = Some(Closing::PING_TIMEOUT);
            }
        }
        if closing.is_some_and(Closing::is_of_slowness) {
            // It would not read this either.
            client.queue.lost(&mut taken);
        }
        if !taken.is_empty() {
            let written = tokio::select! {
                written = send_all(&mut sink, &mut taken, &client, limit) => written,
                // What is under way is of no use to it any more.
                () = client.queue.too_slow() => {
                    client.queue.lost(&mut taken);
                    continue;
                }
            };
            if !written {
                client.queue.lost(&mut taken);
                return;
            }
            client.queue.written();
        }
        if let Some(Closing { code, reason }) = closing {
            let reason = reason.into();
            let close = Message::Close(Some(CloseFrame { code, reason }));
            in_time(CLOSE_LIMIT, sink.send(close)).await;
            client.queue.flushed();
            // The reader sees the answer, if there is one.
            tokio::time::sleep(CLOSE_LIMIT).await;
            return;
        }
        tokio::select! {
            () = client.queue.ready() => {}
            () = client.queue.flush_wanted() => {
                if !in_time(limit, sink.flush()).await {
                    return;
                }
                client.queue.flushed();
            }
            () = pings.due() => {}
        }
    }
}

/// Writes texts, each within a limit: a client may be slow as long as it reads. What is left was not
/// written.
async fn send_all(
    sink: &mut SplitSink<WebSocket, Message>,
    items: &mut VecDeque<Outgoing>,
    client: &Client,
    limit: Duration,
) -> bool {
    while let Some(item) = items.front() {
        let text = Message::Text(item.text.clone());
        if !in_time(limit, sink.feed(text)).await {
            return false;
        }
        let is_event = items.pop_front().is_some_and(|item| item.topic.is_some());
        client
            .events_out
            .fetch_add(u64::from(is_event), Ordering::Relaxed);
    }
    in_time(limit, sink.flush()).await
}

async fn in_time<E>(limit: Duration, write: impl Future<Output = Result<(), E>>) -> bool {
    matches!(tokio::time::timeout(limit, write).await, Ok(Ok(())))
}

/// When to ping.
struct Pings {
    every: Duration,
    at: tokio::time::Instant,
    sent: u64,
}

impl Pings {
    /// The first ping is due at once, as Zeek's is.
    fn new(every: Duration) -> Self {
        Self {
            every,
            at: tokio::time::Instant::now(),
            sent: 0,
        }
    }

    fn is_due(&self) -> bool {
        !self.every.is_zero() && tokio::time::Instant::now() >= self.at
    }

    /// The content of the ping that is due; the next one is due an interval later.
    fn next(&mut self) -> Vec<u8> {
        let content = format!("muster::heartbeat::{}", self.sent);
        self.sent += 1;
        self.at = tokio::time::Instant::now() + self.every;
        content.into_bytes()
    }

    async fn due(&self) {
        if self.every.is_zero() {
            std::future::pending::<()>().await;
        } else {
            tokio::time::sleep_until(self.at).await;
        }
    }
}
