//! One endpoint's part in the mesh: facts in, decisions out.

mod agreement;
mod config;
mod contradiction;
mod counts;
mod fencing;
mod flooding;
mod guests;
mod joining;
mod neighbours;
mod offers;
mod repair;
mod sealing;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::EndpointId;
use crate::filter::Filter;
use crate::mesh::barrier::Barrier;
use crate::mesh::codec::{MAX_FILTER_BYTES, MeshFrame};
use crate::mesh::database::{Database, Refusal};
use crate::mesh::flood_trees::{FloodTrees, View};
use crate::mesh::graph::Graph;
use crate::mesh::held_since::HeldSince;
use crate::mesh::hold_down::{Change, HoldDown};
use crate::mesh::membership::Membership;
use crate::mesh::newness;
use crate::mesh::record::{NodeRecord, shortened};
use crate::mesh::routes::Routes;
use crate::mesh::seal::Signature;
use crate::time::Mono;

use agreement::Agreement;
pub use config::{Config, Identity};
pub use counts::{Counts, Sizes};
use offers::Offers;

/// Why a peering ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nothing was heard from the neighbour for [`Config::time_out`].
    TimeOut,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Send a frame to a neighbour, after everything of its class that was sent before.
    Send {
        /// The neighbour.
        to: EndpointId,
        /// The frame, shared by all neighbours that it goes to.
        frame: Arc<MeshFrame>,
    },
    /// End a peering with a goodbye. The mesh has already given it up.
    Disconnect {
        /// The neighbour.
        peer: EndpointId,
        /// Why.
        reason: Reason,
    },
    /// An endpoint is up: messages reach it, and its messages arrive here.
    NodeUp(Arc<NodeRecord>),
    /// An endpoint that was up can no longer be reached.
    NodeDown(EndpointId),
    /// A neighbour has brought records of this endpoint that it has not announced. They are answered by newer ones.
    Contradicted {
        /// The neighbour, which may have them from others.
        by: EndpointId,
    },
    /// A neighbour has brought a record that is not its origin's, as far as seals say. Of those that come together this
    /// tells the first of each cause.
    Forged {
        /// The neighbour, which has it from others if those do not ask for seals.
        by: EndpointId,
        /// Whose record it is said to be.
        of: EndpointId,
        /// What is wrong with it.
        refusal: Refusal,
    },
}

/// A queue of decisions that has had room for more is given back when it is empty.
const DECISIONS_KEPT: usize = 1024;

#[derive(Debug)]
struct Neighbour {
    heard: Mono,
    beat: Mono,
    their_time: u64,
    /// When our versions were sent, while the answer is open.
    list_sent: Option<Mono>,
    /// Its hash when it had to wait for other exchanges.
    waits_with: Option<u64>,
    /// Whether we have all that the neighbour had.
    is_synced: bool,
    /// Whether repairs are offered to it.
    takes_offers: bool,
    /// Whether it was asked if it has what we have, since the link counts.
    is_greeted: bool,
    /// Its hash that differs from ours, and since when one does.
    doubt: Option<(u64, Mono)>,
    /// When to look at it next.
    alarm: Mono,
}

#[derive(Debug)]
struct Settled {
    graph: Arc<Graph>,
    since: Mono,
}

/// One endpoint's part in the mesh. Time is an argument; it needs no random numbers.
#[derive(Debug)]
pub struct Mesh {
    config: Config,
    identity: Identity,
    /// What we subscribe to; announced perhaps shortened.
    filter: Filter,
    /// Our peers of version 1 that are in no mesh, and what they subscribe to.
    guests: BTreeMap<EndpointId, Arc<Filter>>,
    /// Those that were seen to forward, former ones among them.
    forwarders: BTreeSet<EndpointId>,
    node_version: u64,
    links_version: u64,
    /// Our neighbours as we announced them last.
    announced: BTreeSet<EndpointId>,
    /// Our records are to be announced again, whether they changed or not.
    announce_anew: bool,
    /// The seal of our link record as we announced it last.
    links_seal: Option<Signature>,
    database: Database,
    neighbours: BTreeMap<EndpointId, Neighbour>,
    /// The neighbours by their alarms: a heartbeat is due, or silence has lasted. What is heard puts
    /// the latter off without touching this, so an alarm may come too early.
    alarms: BTreeSet<(Mono, EndpointId)>,
    settled: Option<Settled>,
    settlements: u64,
    /// Until when links that are not needed wait for the view to settle.
    links_may_wait: Option<Mono>,
    last_change: Mono,
    /// When what may change the hash has changed last.
    last_news: Mono,
    flood_trees: FloodTrees,
    /// With the versions of the graph, the nodes and the settlements that they are of.
    routes: Option<((u64, u64, u64), Arc<Routes>)>,
    hold_down: HoldDown,
    /// Records to be flooded with us as root.
    pending: BTreeSet<EndpointId>,
    /// Those of whom a leaf has told, and who are not in reach.
    aside: BTreeSet<EndpointId>,
    joiners: BTreeSet<EndpointId>,
    floods: u64,
    /// The last of them, and the announcement that it is.
    last_flood: (u64, u64),
    barrier: Barrier,
    offers: Offers,
    agreement: Agreement,
    sponsor: Option<(EndpointId, Mono)>,
    ready: bool,
    membership: Membership,
    look: Option<Mono>,
    unreachable: HeldSince,
    /// Those that were fenced and may be silent, and since when.
    mute: HeldSince,
    counts: Counts,
    decisions: VecDeque<Decision>,
    /// What all have, whenever that made somebody known to be up.
    #[cfg(feature = "simulation")]
    agreed: Vec<u64>,
    #[cfg(feature = "simulation")]
    sabotage: crate::mesh::Sabotage,
}

impl Mesh {
    /// Creates the part of an endpoint that has no neighbours and no subscriptions yet.
    pub fn new(identity: Identity, config: Config) -> Self {
        let node = NodeRecord {
            id: identity.id,
            incarnation: identity.incarnation,
            version: 1,
            transit: identity.transit,
            ready: false,
            homes: identity.homes,
            name: identity.name.clone(),
            role: identity.role.clone(),
            machine: identity.machine.clone(),
            filter: Filter::default(),
            guests: Vec::new(),
        };
        let mut database = Database::new(node, config.limits);
        if let Some(seals) = &config.seals {
            database.set_seals(Arc::clone(seals));
        }
        let mut mesh = Self {
            config,
            identity,
            filter: Filter::default(),
            guests: BTreeMap::new(),
            forwarders: BTreeSet::new(),
            node_version: 1,
            links_version: 0,
            announced: BTreeSet::new(),
            announce_anew: false,
            links_seal: None,
            database,
            neighbours: BTreeMap::new(),
            alarms: BTreeSet::new(),
            settled: None,
            settlements: 0,
            links_may_wait: None,
            last_change: Mono::default(),
            last_news: Mono::default(),
            flood_trees: FloodTrees::default(),
            routes: None,
            hold_down: HoldDown::default(),
            pending: BTreeSet::new(),
            aside: BTreeSet::new(),
            joiners: BTreeSet::new(),
            floods: 0,
            last_flood: (0, 0),
            barrier: Barrier::default(),
            offers: Offers::default(),
            agreement: Agreement::default(),
            sponsor: None,
            ready: false,
            membership: Membership::default(),
            look: None,
            unreachable: HeldSince::default(),
            mute: HeldSince::default(),
            counts: Counts::default(),
            decisions: VecDeque::new(),
            #[cfg(feature = "simulation")]
            agreed: Vec::new(),
            #[cfg(feature = "simulation")]
            sabotage: crate::mesh::Sabotage::default(),
        };
        mesh.seal_anew();
        mesh
    }

    /// Returns the endpoint's own id.
    pub fn id(&self) -> EndpointId {
        self.identity.id
    }

    /// Returns what this endpoint knows of all others.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Returns `true` if all others know this endpoint.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Returns `true` if this endpoint has neighbours, but not all others know it yet. What it
    /// publishes now may not arrive everywhere.
    pub fn is_joining(&self) -> bool {
        !self.ready && !self.neighbours.is_empty()
    }

    /// Returns where messages go now. The result is the same object as before if nothing has
    /// changed.
    pub fn routes(&mut self) -> Arc<Routes> {
        let versions = (
            self.database.graph_version(),
            self.database.nodes_version(),
            self.settlements,
        );
        let former = self.routes.take();
        if let Some((known, routes)) = &former
            && *known == versions
        {
            let routes = Arc::clone(routes);
            self.routes = former;
            return routes;
        }
        let settled = self.settled.as_ref().map(|settled| &settled.graph);
        let former = former.as_ref().map(|(_, routes)| &**routes);
        let routes = Routes::new(&self.database, settled, self.identity.transit, former);
        #[cfg(feature = "simulation")]
        let routes = routes.with_sabotage(self.sabotage);
        let routes = Arc::new(routes);
        self.routes = Some((versions, Arc::clone(&routes)));
        routes
    }

    /// Returns what was counted so far.
    pub fn counts(&self) -> Counts {
        Counts {
            join_laggards: self.barrier.laggards,
            ..self.counts.clone()
        }
    }

    /// Returns how much is remembered at present.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            endpoints: self.database.len(),
            slots: self.database.graph().slots(),
            cached: self.flood_trees.len(),
            floods: self.barrier.len(),
            pending: self.pending.len()
                + self.aside.len()
                + self.joiners.len()
                + self.offers.len()
                + self.database.fenced()
                + self.unreachable.len(),
        }
    }

    /// Returns the endpoints that are up.
    pub fn up(&self) -> &BTreeSet<EndpointId> {
        self.membership.up()
    }

    /// Returns the next decision, or `None` if there is none. Decisions must be carried out in
    /// order.
    pub fn poll(&mut self) -> Option<Decision> {
        let next = self.decisions.pop_front();
        if next.is_none() && self.decisions.capacity() > DECISIONS_KEPT {
            self.decisions = VecDeque::new();
        }
        next
    }

    /// Sets what this endpoint subscribes to.
    pub fn subscribe(&mut self, filter: Filter, now: Mono) {
        self.filter = filter;
        self.hold_down.changed(Change::News, now);
    }

    /// Takes a frame that a neighbour has sent. Frames of endpoints that are no neighbours are
    /// counted and ignored.
    pub fn receive(&mut self, from: EndpointId, frame: MeshFrame, now: Mono) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            self.counts.not_neighbour += 1;
            return;
        };
        neighbour.heard = now;
        match frame {
            MeshFrame::Records {
                root,
                more,
                flood,
                records,
            } => {
                if root.is_nil() {
                    self.repaired(from, more, &records, now);
                } else {
                    self.flooded(from, (root, flood), &records, now);
                }
                self.greet(from);
            }
            MeshFrame::Digest(hash) => self.compare(from, hash, true, now),
            MeshFrame::Greeting(hash) => {
                neighbour.takes_offers = true;
                self.compare(from, hash, true, now);
            }
            MeshFrame::Heartbeat { time, hash, .. } => {
                neighbour.their_time = time;
                self.compare(from, hash, false, now);
            }
            MeshFrame::List(list) => self.listed(from, &list, now),
            MeshFrame::Want(ids) => self.wanted(from, &ids),
            MeshFrame::Offer { root, list } => self.offered(from, root, &list, now),
            MeshFrame::Accept { root, ids } => self.accepted(from, root, &ids),
            MeshFrame::Agree { is_answer, hash } => {
                if is_answer {
                    self.agreement_told(from, hash, now);
                } else {
                    self.agreement_asked(from, hash, now);
                }
            }
            MeshFrame::Agreed(hash) => self.agreement_found(from, hash, now),
            MeshFrame::JoinRequest => self.join_requested(from, now),
            MeshFrame::JoinAcknowledged { root, flood } => {
                if let Some(outcome) = self.barrier.acknowledged((root, flood), from) {
                    self.flood_over(outcome);
                }
            }
            MeshFrame::JoinReady(id) => self.join_ready(id, now),
        }
    }

    /// Does what is due at the time `now`. To be called at [`Mesh::next_due`]; earlier calls do no
    /// harm.
    pub fn tick(&mut self, now: Mono) {
        self.end_silent_peers(now);
        if is_due(self.hold_down.due(), now) {
            self.flush(now);
        }
        for outcome in self.barrier.expired(now) {
            self.flood_over(outcome);
        }
        self.retry_join(now);
        self.settle(now);
        if is_due(self.look, now) || is_due(self.membership.due(), now) {
            self.look_around(now);
        }
        if is_due(self.agreement.due(), now) {
            self.agree(now);
        }
        if is_due(self.kept_until(), now) {
            self.give_up_unreachable(now);
        }
        if is_due(self.mute_until(), now) {
            self.hear_out_mute(now);
        }
        self.beat(now);
    }

    /// Returns when [`Mesh::tick`] has something to do, or `None` if there is nothing to wait for.
    pub fn next_due(&self) -> Option<Mono> {
        [
            self.alarms.first().map(|(alarm, _)| *alarm),
            self.hold_down.due(),
            self.barrier.due(),
            self.join_retry_due(),
            self.settled_until(),
            self.links_may_wait,
            self.look,
            self.membership.due(),
            self.agreement.due(),
            self.kept_until(),
            self.mute_until(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn send(&mut self, to: EndpointId, frame: MeshFrame) {
        let frame = Arc::new(frame);
        self.decisions.push_back(Decision::Send { to, frame });
    }

    /// Sends one frame to many.
    fn send_all(&mut self, targets: &[EndpointId], frame: MeshFrame) {
        let frame = Arc::new(frame);
        let sends = targets.iter().map(|to| Decision::Send {
            to: *to,
            frame: Arc::clone(&frame),
        });
        self.decisions.extend(sends);
    }

    /// Our children in the tree of `root`.
    fn children(&mut self, root: u32) -> Vec<EndpointId> {
        let settled = self.settled.as_ref();
        let view = View {
            database: &self.database,
            settled: settled.map(|settled| &*settled.graph),
            settlements: self.settlements,
        };
        self.flood_trees.children(view, root)
    }

    /// The node record that we want all to have, with the version it would get.
    fn own_node(&self) -> NodeRecord {
        let mut node = NodeRecord {
            id: self.identity.id,
            incarnation: self.identity.incarnation,
            version: newness::next(self.node_version),
            transit: self.identity.transit,
            ready: self.ready,
            homes: self.identity.homes,
            name: self.identity.name.clone(),
            role: self.identity.role.clone(),
            machine: self.identity.machine.clone(),
            filter: shortened(&self.filter, self.config.filter_entries, MAX_FILTER_BYTES),
            guests: Vec::new(),
        };
        node.guests = self.announced_guests(&node);
        node
    }
}

fn is_due(due: Option<Mono>, now: Mono) -> bool {
    due.is_some_and(|due| due <= now)
}
