//! The one task of an endpoint that changes its routing table, and drives its handshakes.

mod commands;
mod dials;
mod fences;
mod guests;
mod handshakes;
mod mesh;
mod peers;
mod subscriptions;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use muster_wire::peering::{ClusterName, ConnectionId, Peering};
use muster_wire::routing::{PeerEntry, Subscribers as RoutedSubscribers, Table};
use muster_wire::{EndpointId, Filter, Subscriptions};
use tokio::sync::{Notify, mpsc, oneshot};

use super::end_reason::{EndReason, RemovalReason};
use super::peer_session::PeerSession;
use super::shared::Shared;
use super::status::Status;
use super::subscriber::SubscriberQueue;
use super::tls::CertificateSeals;
use dials::Dial;
use guests::GuestNews;
use handshakes::Connection;
use mesh::MeshPart;
use peers::Peer;
use subscriptions::{SubscriberEntry, SubscriptionNews};

use commands::MeshFrames;
pub(crate) use commands::{Command, ConnectionCommand, DialStart, Inbox, OwnerHandle, Unpeer};

/// Commands that are dealt with together: what they change in the mesh makes one routing table.
const TOGETHER: usize = 64;

/// About how many frames of the mesh are dealt with together, for the same reason. Not more: they take
/// milliseconds, and commands, other endpoints of the process and what is sent wait meanwhile.
const FRAMES_TOGETHER: usize = 64;

/// How often time-outs are looked at while a connection shakes hands, or the endpoint shuts down: the
/// precision of their limits. At other times only the mesh has any, and says when: an idle endpoint that
/// always looked ten times a second cost 0.1 % of a processor.
const TICK: Duration = Duration::from_millis(100);

/// Waits so long, or for ever.
async fn at_rest(rest: Option<Duration>) {
    match rest {
        Some(rest) => tokio::time::sleep(rest).await,
        None => std::future::pending().await,
    }
}

pub(crate) struct Owner {
    shared: Arc<Shared>,
    peering: Peering,
    mesh: MeshPart,
    /// Readers that wait until their frames are in the routing table.
    mesh_answers: Vec<oneshot::Sender<()>>,
    connections: HashMap<ConnectionId, Connection>,
    peers: BTreeMap<EndpointId, Peer>,
    subscribers: BTreeMap<u64, SubscriberEntry>,
    /// The subscribers as the routing table has them.
    routed: RoutedSubscribers<Arc<SubscriberQueue>>,
    news: SubscriptionNews,
    subscriptions: Subscriptions,
    filter: Filter,
    guest_news: GuestNews,
    dials: HashMap<String, Dial>,
    next_number: u64,
    table_version: u64,
    shutting_down: Option<oneshot::Sender<()>>,
    missed: Arc<Notify>,
}

impl Owner {
    pub(crate) fn new(
        shared: Arc<Shared>,
        inbox: &Inbox,
        cluster: Option<ClusterName>,
        seals: Option<CertificateSeals>,
    ) -> Self {
        let config = &shared.config;
        let peering = Peering::new(shared.me, config.handshake_timeout)
            .of_cluster(cluster)
            .with_largest_frame(config.frame_limit);
        Self {
            peering: peering.with_offer(config.forwarding.offer()),
            mesh: MeshPart::new(shared.me, config, seals),
            mesh_answers: Vec::new(),
            shared,
            connections: HashMap::new(),
            peers: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            routed: RoutedSubscribers::default(),
            news: SubscriptionNews::default(),
            subscriptions: Subscriptions::default(),
            filter: Filter::default(),
            guest_news: GuestNews::default(),
            dials: HashMap::new(),
            next_number: 0,
            table_version: 0,
            shutting_down: None,
            missed: Arc::clone(&inbox.missed),
        }
    }

    pub(crate) async fn run(mut self, inbox: Inbox) {
        let Inbox {
            mut commands,
            mut frames,
            missed,
        } = inbox;
        let mut end_by = None;
        loop {
            let rest = self.rest();
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => {
                        self.command(command);
                        for _ in 1..TOGETHER {
                            let Ok(command) = commands.try_recv() else {
                                break;
                            };
                            self.command(command);
                        }
                        self.settle_subscriptions();
                        // Whoever sends commands all the time must not keep frames waiting.
                        self.mesh_frames(0, &mut frames);
                    }
                    None => break,
                },
                Some(first) = frames.recv() => {
                    let others = first.frames.len();
                    self.receive(first);
                    self.mesh_frames(others, &mut frames);
                }
                () = missed.notified() => self.drop_abandoned(),
                () = at_rest(rest) => {}
            }
            // Nor must anybody keep time waiting.
            self.look_at_time();
            self.settle_subscriptions();
            self.carry_out();
            self.carry_out_mesh();
            if self.shutting_down.is_some() {
                let limit = self.shared.config.bye_timeout + Duration::from_secs(1);
                let end_by = *end_by.get_or_insert_with(|| tokio::time::Instant::now() + limit);
                if self.peers.is_empty() || tokio::time::Instant::now() >= end_by {
                    break;
                }
            }
        }
        for peer in self.peers.values() {
            let ended = EndReason::Removed(RemovalReason::EndpointEnded);
            peer.session.queue.end(ended);
            self.retire(&peer.session);
        }
        for subscriber in self.subscribers.values() {
            subscriber.queue.close();
            subscriber.queue.retire();
        }
        self.shared.table.store(Arc::new(Table::empty()));
        if let Some(done) = self.shutting_down {
            let _ = done.send(());
        }
    }

    fn receive(&mut self, came: MeshFrames) {
        let now = self.shared.now();
        self.mesh.look_at_wall();
        for frame in came.frames {
            self.mesh.mesh.receive(came.peer, frame, now);
        }
        self.mesh_answers.push(came.done);
    }

    /// Deals with frames of the mesh that are there, and came behind so many others.
    fn mesh_frames(&mut self, mut others: usize, frames: &mut mpsc::Receiver<MeshFrames>) {
        while others < FRAMES_TOGETHER {
            let Ok(came) = frames.try_recv() else {
                break;
            };
            others += came.frames.len();
            self.receive(came);
        }
    }

    fn retire(&self, session: &Arc<PeerSession>) {
        let at_most = self.shared.config.max_peers;
        self.shared.former().retire(session, at_most);
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Connected {
                commands,
                address,
                origin,
                transport,
                done,
            } => {
                // What is said in a handshake is what is subscribed to.
                self.settle_filter();
                self.connected(commands, address, (origin, transport), done);
            }
            Command::Frame(connection, payload) => {
                self.settle_filter();
                self.peering.frame(connection, &payload);
                self.carry_out();
                let limit = self.peering.frame_limit(connection);
                self.tell(connection, ConnectionCommand::Continue { limit });
            }
            Command::Closed(connection) => self.connection_closed(connection),
            Command::RoutingUpdate(id, filter, done) => {
                if self.peers.contains_key(&id) {
                    self.take_filter(id, filter);
                    self.publish_table();
                }
                let _ = done.send(());
            }
            Command::Forwards(peer, done) => {
                self.mesh.mesh.guest_forwards(peer, self.shared.now());
                let _ = done.send(());
            }
            Command::PeerLeaving(peer, done) => {
                if let Some(entry) = self.peers.get_mut(&peer).filter(|entry| !entry.leaving) {
                    entry.leaving = true;
                    self.shared.former().leave(&entry.session);
                    self.mesh.mesh.peer_down(peer, self.shared.now());
                    self.publish_table();
                }
                self.mesh_answers.push(done);
            }
            Command::NewSubscriber(prefixes, subscriber, done) => {
                self.new_subscriber(prefixes, subscriber, done);
            }
            Command::Subscribe(number, prefixes, done) => {
                self.subscribe(number, prefixes, done);
            }
            Command::Unsubscribe(number, prefixes, done) => {
                self.unsubscribe(number, prefixes, done);
            }
            Command::DropSubscriber(number) => self.drop_subscriber(number),
            Command::RenewSeals(seals) => self.mesh.renew_seals(seals, self.shared.now()),
            Command::StartDial {
                address,
                offer,
                options,
                stop,
                state,
                done,
            } => {
                let dial = Dial {
                    offer,
                    options,
                    stop,
                    state,
                    redundant: None,
                };
                let _ = done.send(self.start_dial(address, dial));
            }
            Command::EndDial(address, state) => self.end_dial(&address, &state),
            Command::DialRedundant(address, peer) => {
                if let Some(dial) = self.dials.get_mut(&address) {
                    dial.redundant = Some(peer);
                }
            }
            Command::Unavailable(address, reason) => {
                self.push_status(&Status::PeerUnavailable { address, reason });
            }
            Command::Unpeer(which, done) => {
                let found = self.unpeer(&which);
                let _ = done.send(found);
            }
            Command::Fence(id, done) => {
                self.fence(id);
                self.mesh_answers.push(done);
            }
            Command::Unfence(id, done) => {
                if self.mesh.mesh.is_fenced(id) {
                    self.mesh.mesh.unfence(id, self.shared.now());
                    self.mesh_answers.push(done);
                } else {
                    // Most that are admitted never were: no paths change.
                    let _ = done.send(());
                }
            }
            Command::ShutDown(done) => self.shut_down(done),
        }
    }

    /// How long there is nothing to do but what commands say, if not for ever.
    fn rest(&self) -> Option<Duration> {
        let awaits_time = self.peering.pending() > 0 || self.shutting_down.is_some();
        let ticks = awaits_time.then_some(TICK);
        let now = self.shared.now();
        let dues = [
            self.mesh.mesh.next_due(),
            self.guest_news.due(),
            self.news.due(),
        ];
        let questions = self.peers.values().map(|peer| peer.asked.due());
        let dues = dues
            .into_iter()
            .chain(questions)
            .flatten()
            .map(|due| due.since(now));
        dues.chain(ticks).min()
    }

    /// Does what is due.
    fn look_at_time(&mut self) {
        let now = self.shared.now();
        if self.peering.pending() > 0 {
            self.peering.handle_timeout(now);
        }
        self.tick_mesh();
    }

    fn shut_down(&mut self, done: oneshot::Sender<()>) {
        self.shutting_down = Some(done);
        for (_, dial) in self.dials.drain() {
            dial.stop.send_replace(true);
        }
        self.peering.shut_down();
        for peer in self.peers.values_mut() {
            peer.leaving = true;
            peer.session.queue.close();
            self.shared.former().leave(&peer.session);
            peer.leave(&mut self.mesh.mesh, self.shared.now());
        }
        self.publish_table();
    }

    fn publish_table(&mut self) {
        self.table_version += 1;
        let peers = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.leaving)
            .map(|(id, peer)| PeerEntry {
                id: *id,
                protocol: peer.session.info.protocol,
                filter: Arc::clone(&peer.filter),
                handle: Arc::clone(&peer.session),
            })
            .collect();
        self.table_knows_subscriptions();
        let subscribers = self.routed.clone();
        let table = Table::with_subscribers(self.table_version, peers, subscribers);
        let routes = self.mesh.routes();
        self.shared.windows.retain(|id| routes.slot(id).is_some());
        let table = table.with_mesh(routes);
        self.shared.table.store(Arc::new(table));
        self.shared.table_version.send_replace(self.table_version);
    }

    fn push_status(&self, status: &Status) {
        self.shared.stores.status(status, &self.shared.table.load());
        for subscriber in self.subscribers.values() {
            subscriber.queue.push_status(status.clone());
            if subscriber.queue.is_closed() {
                // It has too many of them.
                self.missed.notify_one();
            }
        }
    }
}
