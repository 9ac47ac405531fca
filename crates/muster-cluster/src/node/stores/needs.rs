//! Stores that endpoints need which have no layout: a command line, a program. Such an endpoint asks one node, and the
//! node that should have the primary answers, having opened it or not.

use std::time::Duration;

use bytes::Bytes;
use muster_data::Record;
use muster_store::StoreName;
use muster_wire::zeek::EventRef;
use muster_wire::{Class, EndpointId, Mono, Topic};

use crate::coordination::event;
use crate::layout::{NodeName, StorePlan};
use crate::node::{Effect, NodeLoop, StoreAuthority};
use crate::settings::ForwardingMode;

/// The requests that a node looks at in one go, and how long until it looks at one more. A command asks once; whoever asks more
/// often hears that the node is busy.
const AT_ONCE: u32 = 64;
const ONE_MORE: Duration = Duration::from_millis(50);

/// What is asked of a store's primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreNeed {
    /// It is opened if there may be something in it: the layout names it, or its file is there.
    Existing,
    /// It is opened. Unless the layout says otherwise or its file is there, it ends with the process that has it.
    Any,
    /// It is opened and, unless the layout says otherwise, outlives the cluster.
    Persistent,
}

/// An endpoint without a layout needs a store. Anybody may ask a node; only nodes may pass it on, in the asker's name.
#[derive(Record, Debug, Clone, PartialEq)]
#[record(name = "Muster::need_store")]
pub struct NeedStore {
    /// The store.
    pub store: String,
    /// Whether it is opened even if nothing can be in it.
    pub create: bool,
    /// Whether what it holds is to outlive the cluster.
    pub persistent: bool,
    /// The endpoint that waits for the answer, if it is not the sender.
    pub asker: Option<String>,
}

impl NeedStore {
    /// Returns what an endpoint says that needs a store.
    pub fn new(store: &StoreName, need: StoreNeed) -> Self {
        Self {
            store: store.to_string(),
            create: need != StoreNeed::Existing,
            persistent: need == StoreNeed::Persistent,
            asker: None,
        }
    }

    /// Returns what is asked of the primary.
    pub fn need(&self) -> StoreNeed {
        match (self.create, self.persistent) {
            (false, _) => StoreNeed::Existing,
            (true, false) => StoreNeed::Any,
            (true, true) => StoreNeed::Persistent,
        }
    }

    /// Returns the event, encoded.
    pub fn event(&self) -> Bytes {
        Bytes::from(event(self))
    }
}

/// How it is with a store that an endpoint needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreState {
    /// Its primary is open or, where a process of Zeek's should have it, may be.
    Open,
    /// Nobody has opened it, and nothing can be in it.
    Absent,
    /// Too many ask.
    Busy,
    /// The node that should have its primary is not up.
    Away {
        /// That node.
        node: String,
    },
    /// The node that was asked relays for nobody: the primary's node is to be asked itself.
    Elsewhere {
        /// That node.
        node: String,
        /// Where it listens.
        address: String,
    },
    /// It is not opened.
    Refused {
        /// Why.
        reason: String,
    },
}

/// [`StoreState`] as it is sent.
#[derive(Record, Debug, Clone, PartialEq)]
#[record(name = "Muster::store_state")]
struct Told {
    store: String,
    state: String,
    node: Option<String>,
    /// An address, or a reason.
    text: Option<String>,
}

impl StoreState {
    /// Returns the topic on which an endpoint hears the answers to what it needs.
    pub fn topic(asker: EndpointId) -> Topic {
        Topic::new(format!("muster/stores/{asker}/")).expect("short, and of printable letters")
    }

    /// Returns the event that tells of a store, encoded.
    pub fn event(&self, store: &StoreName) -> Bytes {
        let told = |state: &str, node: Option<&String>, text: Option<&String>| Told {
            store: store.to_string(),
            state: state.to_owned(),
            node: node.cloned(),
            text: text.cloned(),
        };
        let told = match self {
            Self::Open => told("open", None, None),
            Self::Absent => told("absent", None, None),
            Self::Busy => told("busy", None, None),
            Self::Away { node } => told("away", Some(node), None),
            Self::Elsewhere { node, address } => told("elsewhere", Some(node), Some(address)),
            Self::Refused { reason } => told("refused", None, Some(reason)),
        };
        Bytes::from(event(&told))
    }

    /// Reads the event. `None` if it is another one, or not valid.
    pub fn read(event: &EventRef<'_>) -> Option<(StoreName, Self)> {
        if event.name() != Told::NAME {
            return None;
        }
        let told = event.arguments().to::<Told>().ok()?;
        let name = StoreName::new(&told.store).ok()?;
        let state = match told.state.as_str() {
            "absent" => Self::Absent,
            "busy" => Self::Busy,
            "away" => Self::Away { node: told.node? },
            "elsewhere" => Self::Elsewhere {
                node: told.node?,
                address: told.text?,
            },
            "refused" => Self::Refused {
                reason: told.text.unwrap_or_default(),
            },
            // What a later version says besides is no reason to give up.
            _ => Self::Open,
        };
        Some((name, state))
    }
}

/// What the primary's node knows of a store that somebody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "four facts, each of which holds or not by itself"
)]
pub struct StoreFacts {
    /// Another endpoint in reach has a primary of it.
    pub is_elsewhere: bool,
    /// The layout names it.
    pub is_named: bool,
    /// The file in which it is kept, if it is persistent, is there.
    pub has_file: bool,
    /// One more may be opened for endpoints that are no nodes.
    pub has_room: bool,
}

/// What the primary's node does about a store that is not open there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreVerdict {
    /// It is left where it is.
    LeftElsewhere,
    /// It is opened.
    Opened {
        /// Whether it outlives the cluster, unless the layout says otherwise.
        persistent: bool,
    },
    /// It is not opened: nothing can be in it.
    Absent,
    /// It is not opened: there are too many already.
    NoRoom,
}

impl StoreNeed {
    /// Returns what the primary's node does about a store that is not open there.
    pub fn verdict(self, facts: StoreFacts) -> StoreVerdict {
        let exists = facts.is_named || facts.has_file;
        match self {
            _ if facts.is_elsewhere => StoreVerdict::LeftElsewhere,
            Self::Existing if !exists => StoreVerdict::Absent,
            _ if !facts.has_room && !facts.is_named => StoreVerdict::NoRoom,
            // Who writes to a store that was kept adds to what is in it.
            _ => StoreVerdict::Opened {
                persistent: self == Self::Persistent || facts.has_file,
            },
        }
    }
}

/// How many requests are looked at: [`AT_ONCE`], and one more every [`ONE_MORE`].
#[derive(Debug)]
pub(crate) struct Allowance {
    left: u32,
    /// Up to when `left` has grown.
    grown: Mono,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            left: AT_ONCE,
            grown: Mono::default(),
        }
    }
}

impl Allowance {
    /// Returns `true` if a request is looked at now.
    fn take(&mut self, now: Mono) -> bool {
        let more = now.since(self.grown).as_nanos() / ONE_MORE.as_nanos();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(more).min(AT_ONCE);
        self.grown = if self.left == AT_ONCE {
            now
        } else {
            self.grown.after(ONE_MORE * more)
        };
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        self.left = left;
        true
    }
}

/// Where a store is that somebody needs, or is to be opened.
enum Home {
    /// Here.
    Here,
    /// On another node, which is there and is to open it.
    At(NodeName),
    /// On another node, which has it open.
    Kept(String),
    /// On a node that is not there.
    Away(String),
}

impl NodeLoop {
    /// An endpoint needs a store: this node has it opened if its primary belongs here, passes the request on to the node
    /// that should have it, or says which one that is.
    pub(in crate::node) fn store_needed(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let need = event.arguments().to::<NeedStore>().ok();
        let need = need.and_then(|need| Some((StoreName::new(&need.store).ok()?, need)));
        let Some((store, need)) = need else {
            self.core.counts.events_refused += 1;
            return;
        };
        let Some(asker) = need.asker.as_deref() else {
            return self.store_needed_by(from, &store, need, None);
        };
        if !self.is_from_node(from, event.name()) {
            return;
        }
        let Ok(asker) = asker.parse() else {
            self.core.counts.events_refused += 1;
            return;
        };
        self.store_needed_by(asker, &store, need, Some(from));
    }

    fn store_needed_by(
        &mut self,
        asker: EndpointId,
        store: &StoreName,
        need: NeedStore,
        passed_on_by: Option<EndpointId>,
    ) {
        if !self.core.stores.needs.take(self.core.clock.now.mono) {
            return self.tell_store(asker, store, &StoreState::Busy);
        }
        let Some(plan) = self.core.layout.store(store, need.persistent) else {
            let reason = "the layout has no node for its primary".to_owned();
            return self.tell_store(asker, store, &StoreState::Refused { reason });
        };
        let by_layout = self.store_authority() != Some(StoreAuthority::Coordinators);
        match (self.home_of(store, &plan, by_layout), passed_on_by) {
            (Home::At(node), Some(other)) if by_layout => {
                self.differs(asker, store, other, node.as_str());
            }
            (Home::Away(node), Some(other)) if by_layout => {
                self.differs(asker, store, other, &node);
            }
            (Home::Here, _) => self.core.outbox.effects.push(Effect::NeedStore {
                store: store.clone(),
                need: need.need(),
                asker,
            }),
            (Home::At(node), None) => self.pass_on(&node, asker, store, need),
            // The two see others: whoever asks asks again.
            (Home::At(_), Some(_)) => self.tell_store(asker, store, &StoreState::Open),
            (Home::Kept(node), _) => self.found_at(&node, asker, store),
            (Home::Away(node), _) => self.tell_store(asker, store, &StoreState::Away { node }),
        }
    }

    /// The node that has passed a request on has another layout than this one.
    fn differs(&mut self, asker: EndpointId, store: &StoreName, other: EndpointId, node: &str) {
        let other = self.core.members.membership.name_of(other);
        let other = other.map_or("another node", NodeName::as_str);
        let me = &self.core.node.name;
        let reason =
            format!("by the layout of {other} its primary is on {me}, by that of {me} on {node}");
        self.tell_store(asker, store, &StoreState::Refused { reason });
    }

    fn home_of(&self, store: &StoreName, plan: &StorePlan, by_layout: bool) -> Home {
        let is_there = |name: &NodeName| *name == self.core.node.name || self.core.is_alive(name);
        let view = self.view().filter(|_| !by_layout);
        if let Some(group) = view.and_then(|view| view.store(store.as_str())) {
            // Without a primary it waits for the last that had a copy.
            let waits_for = group.in_sync.first();
            let at = group.primary.as_ref().or(waits_for);
            let name = at.map_or_else(|| plan.master.to_string(), |copy| copy.node.clone());
            let is_kept = self
                .core
                .layout
                .find(&name)
                .is_some_and(|it| is_there(&it.name));
            return match &group.primary {
                Some(primary) if primary.life == self.core.id => Home::Here,
                // Of one that is lost coordinators will say who takes its place.
                Some(_) if is_kept => Home::Kept(name),
                _ => Home::Away(name),
            };
        }
        // By the layout only the first may open it; by coordinators the first that is there, where all look for it.
        let most = if by_layout { 1 } else { plan.candidates.len() };
        let candidates = plan.candidates.iter().take(most);
        let mut nodes = candidates.filter_map(|it| self.core.layout.find(&it.node));
        match nodes.find(|node| is_there(&node.name)) {
            Some(node) if node.name == self.core.node.name => Home::Here,
            Some(node) => Home::At(node.name.clone()),
            None => Home::Away(plan.master.to_string()),
        }
    }

    /// A store is open on another node: the asker finds it by itself, if this node relays.
    fn found_at(&mut self, node: &str, asker: EndpointId, store: &StoreName) {
        let relays = self.core.node.forwarding() == ForwardingMode::Relay;
        let other = self.core.layout.find(node).filter(|_| !relays);
        let state = other.map_or(StoreState::Open, |other| StoreState::Elsewhere {
            node: other.name.to_string(),
            address: other.socket_address().to_string(),
        });
        self.tell_store(asker, store, &state);
    }

    fn pass_on(&mut self, node: &NodeName, asker: EndpointId, store: &StoreName, need: NeedStore) {
        let relays = self.core.node.forwarding() == ForwardingMode::Relay;
        // A process of Zeek's does not know such requests. If it has the store, it serves it.
        if !relays || self.core.is_zeek(node) {
            return self.found_at(node.as_str(), asker, store);
        }
        self.core.outbox.effects.push(Effect::Publish {
            topic: self.core.layout.topics().node(node),
            payload: NeedStore {
                asker: Some(asker.to_string()),
                ..need
            }
            .event(),
            class: Class::Interactive,
        });
    }

    fn tell_store(&mut self, asker: EndpointId, store: &StoreName, state: &StoreState) {
        self.core.outbox.effects.push(Effect::Publish {
            topic: StoreState::topic(asker),
            payload: state.event(store),
            class: Class::Interactive,
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use muster_data::DataRef;
    use muster_wire::zeek::Message;

    use super::*;

    #[test]
    fn every_state_is_read_as_it_was_told() {
        let store = StoreName::new("a/b").unwrap();
        let text = str::to_owned;
        for state in [
            StoreState::Open,
            StoreState::Absent,
            StoreState::Busy,
            StoreState::Away {
                node: text("manager"),
            },
            StoreState::Elsewhere {
                node: text("manager"),
                address: text("127.0.0.1:1"),
            },
            StoreState::Refused { reason: text("x") },
        ] {
            let payload = state.event(&store);
            let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(&payload)) else {
                panic!("an event");
            };
            assert_eq!(StoreState::read(&event), Some((store.clone(), state)));
        }
        for need in [StoreNeed::Existing, StoreNeed::Any, StoreNeed::Persistent] {
            assert_eq!(NeedStore::new(&store, need).need(), need);
        }
    }

    #[test]
    fn reading_opens_what_may_hold_something_and_writing_opens_anything() {
        let nothing = StoreFacts {
            is_elsewhere: false,
            is_named: false,
            has_file: false,
            has_room: true,
        };
        let elsewhere = StoreFacts {
            is_elsewhere: true,
            ..nothing
        };
        let named = StoreFacts {
            is_named: true,
            has_room: false,
            ..nothing
        };
        let kept = StoreFacts {
            has_file: true,
            ..nothing
        };
        let full = StoreFacts {
            has_room: false,
            ..nothing
        };
        let opened = |persistent| StoreVerdict::Opened { persistent };
        for (facts, existing, any, persistent) in [
            (nothing, StoreVerdict::Absent, opened(false), opened(true)),
            (named, opened(false), opened(false), opened(true)),
            (kept, opened(true), opened(true), opened(true)),
            (
                full,
                StoreVerdict::Absent,
                StoreVerdict::NoRoom,
                StoreVerdict::NoRoom,
            ),
        ] {
            assert_eq!(StoreNeed::Existing.verdict(facts), existing, "{facts:?}");
            assert_eq!(StoreNeed::Any.verdict(facts), any, "{facts:?}");
            assert_eq!(
                StoreNeed::Persistent.verdict(facts),
                persistent,
                "{facts:?}"
            );
        }
        for need in [StoreNeed::Existing, StoreNeed::Any] {
            assert_eq!(need.verdict(elsewhere), StoreVerdict::LeftElsewhere);
        }
    }

    #[test]
    fn requests_are_looked_at_so_many_at_once_and_then_one_by_one() {
        let mut allowance = Allowance::default();
        let start = Mono(7_000_000_000);
        let taken =
            |allowance: &mut Allowance, at: Mono| (0..200).filter(|_| allowance.take(at)).count();
        assert_eq!(taken(&mut allowance, start), 64);
        assert_eq!(taken(&mut allowance, start.after(ONE_MORE / 2)), 0);
        assert_eq!(taken(&mut allowance, start.after(ONE_MORE)), 1);
        assert_eq!(taken(&mut allowance, start.after(ONE_MORE * 5 / 2)), 1);
        assert_eq!(taken(&mut allowance, start.after(ONE_MORE * 3)), 1);
        assert_eq!(taken(&mut allowance, Mono(u64::MAX)), 64);
    }
}
