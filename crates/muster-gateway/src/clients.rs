//! The clients of a gateway, and the task that gives each its messages.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use muster::{Batch, Delivery, Subscriber};
use muster_data::DataRef;
use muster_wire::counters::DropLedger;
use muster_wire::routing::{RouteCache, Subscribers, Table};
use muster_wire::{EndpointId, QueueLimits};
use tokio::sync::{mpsc, oneshot};

use crate::budget::Budget;
use crate::event_text::each_text;
use crate::http::Caller;
use crate::queue::{ClientQueue, Closing, Outgoing};
use crate::session::too_large;

/// The bounds of the queue of what is not yet encoded.
pub(crate) const INBOX: QueueLimits = QueueLimits {
    messages: 65_536,
    bytes: 64 << 20,
};

/// How often the losses of that queue are noted.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The changes of subscriptions that wait at most.
const COMMANDS: usize = 64;

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) address: Caller,
    /// Whose token it showed.
    pub(crate) grant: String,
    pub(crate) application: Option<String>,
    /// The sender of what it publishes, which does not come back to it.
    pub(crate) id: EndpointId,
    pub(crate) queue: ClientQueue,
    pub(crate) events_in: AtomicU64,
    pub(crate) events_out: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Whether anything came from it since the last ping.
    pub(crate) heard: AtomicBool,
}

/// What a gateway counts.
#[derive(Debug, Clone, Default)]
pub struct GatewayCounts {
    /// The clients that are connected.
    pub clients: Vec<ClientReport>,
    /// Clients that were connected so far.
    pub accepted: u64,
    /// Connections that were turned away: for want of a token or of room, or for a handshake that failed.
    pub turned_away: u64,
    /// Events that clients published.
    pub events_in: u64,
    /// Events given to clients: one for each that got it.
    pub events_out: u64,
    /// Messages of clients that were answered with an error.
    pub refused: u64,
    /// Messages that matched a subscription but are no events, as log records are.
    pub not_events: u64,
    /// Messages that were dropped because clients did not keep up, by cause and topic.
    pub dropped: DropLedger,
    /// Messages that were dropped because the gateway itself did not keep up.
    pub inbox_dropped: DropLedger,
}

/// A client, and what crossed its connection.
#[derive(Debug, Clone)]
pub struct ClientReport {
    /// The number of the client, from 0.
    pub number: u64,
    /// Where it is.
    pub address: Caller,
    /// Whose token it showed.
    pub grant: String,
    /// How it calls itself in `X-Application-Name`.
    pub application: Option<String>,
    /// Events that it published.
    pub events_in: u64,
    /// Events that it was given.
    pub events_out: u64,
    /// Messages and bytes that wait for it.
    pub queued: (usize, usize),
}

/// All clients, and what is left of the former ones.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    state: Mutex<RegistryState>,
    pub(crate) turned_away: AtomicU64,
    pub(crate) not_events: AtomicU64,
    inbox_dropped: Mutex<DropLedger>,
}

#[derive(Debug, Default)]
struct RegistryState {
    clients: BTreeMap<u64, Arc<Client>>,
    next: u64,
    /// Places taken by connections that are not clients yet.
    reserved: usize,
    /// The sums of former clients.
    former: GatewayCounts,
    closing: Option<Closing>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, RegistryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a client, if there is one: its number.
    pub(crate) fn reserve(&self, most: usize) -> Option<u64> {
        let mut state = self.lock();
        if state.closing.is_some() || state.clients.len() + state.reserved >= most {
            return None;
        }
        state.reserved += 1;
        state.next += 1;
        Some(state.next - 1)
    }

    /// Gives back a place that was not used.
    pub(crate) fn release(&self) {
        self.lock().reserved -= 1;
    }

    /// The client takes its place.
    pub(crate) fn add(&self, client: &Arc<Client>) {
        let mut state = self.lock();
        state.reserved -= 1;
        state.former.accepted += 1;
        if let Some(closing) = state.closing {
            client.queue.close(closing);
        }
        state.clients.insert(client.number, Arc::clone(client));
    }

    pub(crate) fn remove(&self, client: &Client) {
        let mut state = self.lock();
        state.clients.remove(&client.number);
        let former = &mut state.former;
        former.events_in += client.events_in.load(Ordering::Relaxed);
        former.events_out += client.events_out.load(Ordering::Relaxed);
        former.refused += client.refused.load(Ordering::Relaxed);
        former.dropped.merge(&client.queue.depth().dropped);
    }

    /// Ends all clients, present and future; how many there are.
    pub(crate) fn close_all(&self, closing: Closing) -> usize {
        let mut state = self.lock();
        state.closing = Some(closing);
        for client in state.clients.values() {
            client.queue.close(closing);
        }
        state.clients.len()
    }

    pub(crate) fn counts(&self) -> GatewayCounts {
        let state = self.lock();
        let mut counts = state.former.clone();
        for client in state.clients.values() {
            let depth = client.queue.depth();
            let report = ClientReport {
                number: client.number,
                address: client.address,
                grant: client.grant.clone(),
                application: client.application.clone(),
                events_in: client.events_in.load(Ordering::Relaxed),
                events_out: client.events_out.load(Ordering::Relaxed),
                queued: (depth.messages, depth.bytes),
            };
            counts.events_in += report.events_in;
            counts.events_out += report.events_out;
            counts.refused += client.refused.load(Ordering::Relaxed);
            counts.dropped.merge(&depth.dropped);
            counts.clients.push(report);
        }
        drop(state);
        counts.turned_away = self.turned_away.load(Ordering::Relaxed);
        counts.not_events = self.not_events.load(Ordering::Relaxed);
        let inbox = self.inbox_dropped.lock();
        counts.inbox_dropped = inbox.unwrap_or_else(PoisonError::into_inner).clone();
        counts
    }
}

/// The most different topic prefixes of all clients together, and the most bytes of them: every peer
/// is told of them, and ends the peering if there are too many.
const MOST_PREFIXES: usize = 16_384;
const MOST_PREFIX_BYTES: usize = 512 << 10;

enum Command {
    Add(Arc<Client>, Vec<String>, oneshot::Sender<bool>),
    Remove(u64),
}

/// Tells the task of the clients' subscriptions.
#[derive(Debug, Clone)]
pub(crate) struct FanOutHandle(mpsc::Sender<Command>);

impl FanOutHandle {
    /// Gives a client the messages of some topic prefixes; in force when this returns. Says whether there
    /// was room for them.
    pub(crate) async fn add(&self, client: &Arc<Client>, prefixes: Vec<String>) -> bool {
        let (done, in_force) = oneshot::channel();
        let command = Command::Add(Arc::clone(client), prefixes, done);
        self.0.send(command).await.is_ok() && in_force.await.unwrap_or(false)
    }

    pub(crate) async fn remove(&self, client: &Client) {
        let _ = self.0.send(Command::Remove(client.number)).await;
    }
}

/// A client that is given messages.
struct Listener {
    client: Arc<Client>,
    /// Sorted, and each once.
    prefixes: Vec<String>,
    /// Its position in the table.
    position: u32,
}

/// Encodes each message once and gives it to all clients that subscribe to its topic.
pub(crate) struct FanOut {
    subscriber: Subscriber,
    registry: Arc<Registry>,
    /// What waits for all clients together.
    waiting: Arc<Budget>,
    clients: BTreeMap<u64, Listener>,
    /// How many clients subscribe to a prefix.
    prefixes: BTreeMap<String, usize>,
    /// The bytes of all prefixes.
    prefix_bytes: usize,
    /// The clients by their prefixes: what a change leaves as it is belongs to this and the table.
    routed: Subscribers<Arc<Client>>,
    table: Table<(), Arc<Client>>,
    routes: RouteCache,
}

impl FanOut {
    pub(crate) fn start(
        subscriber: Subscriber,
        registry: Arc<Registry>,
        waiting: Arc<Budget>,
    ) -> FanOutHandle {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let this = Self {
            subscriber,
            registry,
            waiting,
            clients: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            prefix_bytes: 0,
            routed: Subscribers::default(),
            table: Table::empty(),
            routes: RouteCache::default(),
        };
        tokio::spawn(this.run(receiver));
        FanOutHandle(commands)
    }

    /// Runs until the endpoint or the gateway ends.
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = looks.tick() => self.look_at_inbox(),
                command = commands.recv() => match command {
                    Some(Command::Add(client, prefixes, done)) => {
                        let added = self.add(client, prefixes).await;
                        let _ = done.send(added);
                    }
                    Some(Command::Remove(number)) => self.remove(number).await,
                    None => return,
                },
                delivery = self.subscriber.receive() => match delivery {
                    Some(Delivery::Batch(batch)) => self.deliver(&batch),
                    Some(Delivery::Status(_)) => {}
                    None => {
                        self.look_at_inbox();
                        self.registry.close_all(Closing::TERMINATING);
                        return;
                    }
                },
            }
        }
    }

    async fn add(&mut self, client: Arc<Client>, mut prefixes: Vec<String>) -> bool {
        prefixes.sort();
        prefixes.dedup();
        let is_new = |prefix: &&String| !self.prefixes.contains_key(*prefix);
        let added: Vec<&String> = prefixes.iter().filter(is_new).collect();
        let bytes = self.prefix_bytes + added.iter().map(|prefix| prefix.len()).sum::<usize>();
        if self.prefixes.len() + added.len() > MOST_PREFIXES || bytes > MOST_PREFIX_BYTES {
            return false;
        }
        self.prefix_bytes = bytes;
        if !added.is_empty() {
            self.subscriber.subscribe_all(added).await;
        }
        for prefix in &prefixes {
            *self.prefixes.entry(prefix.clone()).or_default() += 1;
        }
        let position = self.routed.insert(Arc::clone(&client));
        let begun = prefixes.iter().map(String::as_bytes);
        self.routed.subscribe(position, begun);
        let listener = Listener {
            client,
            prefixes,
            position,
        };
        self.clients.insert(listener.client.number, listener);
        self.renew_table();
        true
    }

    async fn remove(&mut self, number: u64) {
        let Some(listener) = self.clients.remove(&number) else {
            return;
        };
        let ended = listener.prefixes.iter().map(String::as_bytes);
        self.routed.remove(listener.position, ended);
        self.renew_table();
        let mut gone = Vec::new();
        for prefix in listener.prefixes {
            let Some(count) = self.prefixes.get_mut(&prefix) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                self.prefixes.remove(&prefix);
                self.prefix_bytes -= prefix.len();
                gone.push(prefix);
            }
        }
        if !gone.is_empty() {
            self.subscriber.unsubscribe_all(gone).await;
        }
    }

    /// Notes what the gateway's own queue has lost.
    fn look_at_inbox(&self) {
        let dropped = self.subscriber.depth().dropped;
        let known = self.registry.inbox_dropped.lock();
        *known.unwrap_or_else(PoisonError::into_inner) = dropped;
    }

    fn renew_table(&mut self) {
        let version = self.table.version() + 1;
        self.table = Table::with_subscribers(version, Vec::new(), self.routed.clone());
    }

    fn deliver(&mut self, batch: &Batch) {
        for message in batch.iter() {
            let found = self.routes.lookup(&self.table, message.topic.as_bytes());
            let Some((topic, route)) = found else {
                continue;
            };
            let clients = route.subscribers.iter();
            let clients: Vec<&Arc<Client>> = clients
                .filter_map(|position| self.table.subscriber(*position))
                .filter(|client| client.id != message.from)
                .collect();
            if clients.is_empty() {
                continue;
            }
            let value = DataRef::from_validated(message.payload);
            let not_events = each_text(topic, value, &mut |text| {
                // What is written is UTF-8.
                let Ok(text) = Utf8Bytes::try_from(text) else {
                    return;
                };
                for client in &clients {
                    let pushed = client.queue.push(Outgoing {
                        text: text.clone(),
                        topic: Some(topic.clone()),
                    });
                    if !pushed {
                        client.queue.answer(too_large(topic, text.len()));
                    }
                }
            });
            if not_events > 0 {
                let counter = &self.registry.not_events;
                counter.fetch_add(not_events, Ordering::Relaxed);
            }
            if self.waiting.is_exceeded() {
                self.end_fullest();
            }
        }
    }

    /// Ends the client that holds most: all together hold too much.
    fn end_fullest(&self) {
        let clients = self.clients.values().map(|listener| &listener.client);
        let fullest = clients
            .filter_map(|client| Some((client.queue.held()?, client)))
            .max_by_key(|(held, _)| *held);
        if let Some((_, client)) = fullest {
            client.queue.end_fullest();
        }
    }
}
