//! One message's way through an endpoint (protocol version 2, sections 4, 7 and 12): whether it was
//! here before, which local subscribers hear it, and where it goes next.
//!
//! The readers of an endpoint's links and the simulator run the same code: an [`Ingress`] for each link, over the
//! endpoint's routing [`Table`] and [`SharedWindows`]. A message of an origin and topic that were here before costs
//! no allocation.

mod runs;

use std::collections::HashMap;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::mesh::codec::MessageRef;
use crate::mesh::routes::Routes;
use crate::mesh::window::{OriginWindows, Verdict};
use crate::message::Class;
use crate::peering::Protocol;
use crate::routing::{HopCache, PeerEntry, RouteCache, Table};
use crate::{EndpointId, Topic};

pub use runs::{RunOrigin, SeenRun};

/// The number of links that a message may cross.
pub const HOPS: u8 = 16;

/// The windows of one origin, for all links of an endpoint.
type Windows = Arc<Mutex<OriginWindows>>;

/// The windows of the origins that an endpoint has heard from. Its links share them, since one
/// message may arrive on several.
#[derive(Debug, Default)]
pub struct SharedWindows {
    by_origin: Mutex<HashMap<EndpointId, Windows>>,
}

impl SharedWindows {
    /// Forgets the origins for which `is_known` returns `false`.
    pub fn retain(&self, is_known: impl Fn(EndpointId) -> bool) {
        self.lock().retain(|origin, _| is_known(*origin));
    }

    /// Returns the number of origins that were heard from and are not forgotten.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Returns `true` if no origin was heard from.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn of(&self, origin: EndpointId) -> Windows {
        Arc::clone(self.lock().entry(origin).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EndpointId, Windows>> {
        self.by_origin
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The endpoint that a message has arrived at.
#[derive(Debug)]
pub struct Here<'t, P, S> {
    /// Its id.
    pub me: EndpointId,
    /// Its routing table at the moment.
    pub table: &'t Table<P, S>,
    /// What it has heard of each origin.
    pub windows: &'t SharedWindows,
}

/// Why a message goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// This endpoint published it.
    Returned,
    /// Its origin is not in the database.
    UnknownOrigin,
    /// It was here before.
    Duplicate,
    /// It is below its origin's window: perhaps it was here before.
    TooOld,
    /// Its topic is not a valid one.
    NoTopic,
    /// It is from a peer of version 1 that forwards, and another endpoint is that peer's home.
    LeftToHome,
}

/// What becomes of a message from the mesh that was not here before.
#[derive(Debug, Clone)]
pub struct Passage<'a, P> {
    /// Whether later messages of its origin and class came before it.
    pub is_late: bool,
    /// Its topic.
    pub topic: &'a Topic,
    /// Whether it is addressed to this endpoint alone, by its id.
    pub is_addressed: bool,
    /// The subscribers that hear it, as positions in the table.
    pub subscribers: &'a [u32],
    /// The peers of version 1 that it is handed to from here.
    pub guests: Guests<'a, P>,
    /// The peers that it goes on to.
    pub next_hops: NextHops<'a, P>,
    /// Why it goes no further, if others want it.
    pub dead_end: Option<DeadEnd>,
}

/// Why a message goes no further from an endpoint, although others want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadEnd {
    /// It has crossed as many links as it may.
    Exhausted,
    /// This endpoint should pass it on, and knows of no way: the neighbour sees another way than this endpoint does.
    Stranded,
}

/// What becomes of a message from a peer of version 1.
#[derive(Debug)]
pub struct GuestPassage<'a, P> {
    /// Its topic.
    pub topic: &'a Topic,
    /// The subscribers that hear it, as positions in the table.
    pub subscribers: &'a [u32],
    /// The peers that it goes to. This endpoint is the home of the message's author, and sends it
    /// under an identity of its own.
    pub next_hops: NextHops<'a, P>,
}

/// What this endpoint is to one of its peers of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestRole {
    /// Its home: it relays between the peer and the mesh.
    Home,
    /// A peer that exchanges its own messages with it, and no others.
    Peer,
    /// A peer that exchanges nothing with it, because it forwards and has its home elsewhere.
    Bystander,
}

/// What one link's reader knows of the messages that come over the link.
#[derive(Debug, Default)]
pub struct Ingress {
    /// By alias.
    origins: Vec<Option<Origin>>,
    /// The origin of the last run.
    run_origin: Option<Origin>,
    routes: RouteCache,
    hops: HopCache,
    /// With the version of the table that it is of.
    role: Option<(u64, GuestRole)>,
}

/// An origin of messages.
#[derive(Debug, Clone)]
struct Origin {
    id: EndpointId,
    /// The table that the rest is of.
    version: u64,
    /// Its slot in the mesh, and its windows; nothing if the mesh does not know it.
    known: Option<(u32, Windows)>,
}

impl Origin {
    fn look_up<P, S>(here: &Here<'_, P, S>, id: EndpointId) -> Self {
        let slot = here.table.mesh().and_then(|routes| routes.slot(id));
        Self {
            id,
            version: here.table.version(),
            known: slot.map(|slot| (slot, here.windows.of(id))),
        }
    }
}

/// A message of the mesh that has come.
struct Coming {
    me: EndpointId,
    from: EndpointId,
    origin: EndpointId,
    /// The origin's slot in the mesh.
    slot: u32,
    hops: u8,
    guest: Option<EndpointId>,
}

impl Ingress {
    /// Decides what becomes of a message that the neighbour `from` has sent, and notes it as seen.
    ///
    /// # Errors
    ///
    /// Returns why the message goes no further, if it does not.
    pub fn receive<'a, P, S>(
        &'a mut self,
        here: &Here<'a, P, S>,
        from: EndpointId,
        class: Class,
        message: &MessageRef<'_>,
    ) -> Result<Passage<'a, P>, Dropped> {
        let id = message.id;
        if id.origin == here.me {
            return Err(Dropped::Returned);
        }
        let (slot, windows) = known(&mut self.origins, here, message)?;
        let verdict = windows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .check(class, id.sequence);
        let coming = Coming {
            me: here.me,
            from,
            origin: id.origin,
            slot,
            hops: message.hops,
            guest: message.guest,
        };
        let is_late = is_late(here.table, verdict)?;
        let mut passage = self.pass(here.table, &coming, message.topic)?;
        passage.is_late = is_late;
        Ok(passage)
    }

    /// Decides what becomes of messages that were not here before.
    fn pass<'a, P, S>(
        &'a mut self,
        table: &'a Table<P, S>,
        coming: &Coming,
        topic: &[u8],
    ) -> Result<Passage<'a, P>, Dropped> {
        let Coming {
            me,
            from,
            origin,
            slot,
            hops,
            guest,
        } = *coming;
        let position = self.routes.find(table, topic);
        let position = position.ok_or(Dropped::NoTopic)?;
        let mesh = table.mesh();
        let relays = mesh.is_some_and(|routes| routes.relays());
        let next: &[u32] = if relays {
            let routes = &self.routes;
            self.hops.find(table, routes, slot, position, guest)
        } else {
            &[]
        };
        let found = self.routes.get(position);
        let (topic, route) = found.ok_or(Dropped::NoTopic)?;
        let mut next_hops = NextHops {
            hops: next.iter(),
            table: table.peers(),
            from,
            origin,
        };
        let has_crossed_all = hops <= 1;
        let is_exhausted = has_crossed_all && next_hops.next().is_some();
        if has_crossed_all {
            next_hops.hops = [].iter();
        }
        let is_for_all = route.addressee.is_none();
        let hears_it = is_for_all && !guest.is_some_and(|guest| is_heard(table, guest));
        let is_for_guests = is_for_all && guest.is_none();
        let is_over = has_crossed_all || next_hops.lead_on();
        let is_here = route.addressee == Some(me) || !route.subscribers.is_empty();
        let is_stranded = relays
            && !is_over
            && !is_here
            && mesh.is_some_and(|routes| {
                let others = [Some(slot), routes.slot(from)];
                routes.is_for_others(slot, &route.wanted, guest, others)
            });
        let dead_end = match (is_exhausted, is_stranded) {
            (true, _) => Some(DeadEnd::Exhausted),
            (false, true) => Some(DeadEnd::Stranded),
            (false, false) => None,
        };
        Ok(Passage {
            is_late: false,
            topic,
            is_addressed: route.addressee == Some(me),
            subscribers: if hears_it { &route.subscribers } else { &[] },
            guests: Guests {
                guests: if is_for_guests {
                    &route.guests[..]
                } else {
                    &[]
                }
                .iter(),
                table: table.peers(),
                routes: mesh,
                origin: slot,
            },
            next_hops,
            dead_end,
        })
    }

    /// Returns what this endpoint is to the version 1 peer `guest`, whose link this is.
    pub fn role<P, S>(&mut self, table: &Table<P, S>, guest: EndpointId) -> GuestRole {
        match self.role {
            Some((version, role)) if version == table.version() => role,
            _ => {
                let role = role(table.mesh(), guest);
                self.role = Some((table.version(), role));
                role
            }
        }
    }

    /// Decides what becomes of a message that the version 1 peer `guest` has published. It goes to
    /// no other peer of version 1, since nobody can know which of those are peers of one another.
    ///
    /// # Errors
    ///
    /// Returns why the message goes no further, if it does not.
    pub fn receive_from_guest<'a, P, S>(
        &'a mut self,
        here: &Here<'a, P, S>,
        guest: EndpointId,
        topic: &[u8],
    ) -> Result<GuestPassage<'a, P>, Dropped> {
        let table = here.table;
        let role = self.role(table, guest);
        if role == GuestRole::Bystander {
            return Err(Dropped::LeftToHome);
        }
        let position = self.routes.find(table, topic).ok_or(Dropped::NoTopic)?;
        let hops: &[u32] = match table.mesh() {
            Some(mesh) if role == GuestRole::Home => {
                let routes = &self.routes;
                self.hops
                    .find(table, routes, mesh.me(), position, Some(guest))
            }
            _ => &[],
        };
        let found = self.routes.get(position);
        let (topic, route) = found.ok_or(Dropped::NoTopic)?;
        // Endpoints of the mesh speak to one another by topics with an addressee.
        let is_for_all = route.addressee.is_none();
        Ok(GuestPassage {
            topic,
            subscribers: &route.subscribers,
            next_hops: NextHops {
                hops: if is_for_all { hops } else { &[] }.iter(),
                table: table.peers(),
                from: guest,
                origin: here.me,
            },
        })
    }
}

/// Whether a message that was not here before comes behind later ones.
fn is_late<P, S>(table: &Table<P, S>, verdict: Verdict) -> Result<bool, Dropped> {
    #[cfg(not(feature = "simulation"))]
    let _ = table;
    match verdict {
        Verdict::New => Ok(false),
        Verdict::Late => Ok(true),
        #[cfg(feature = "simulation")]
        _ if broken(table).is_some_and(Sabotage::forgets_messages) => Ok(false),
        Verdict::Duplicate => Err(Dropped::Duplicate),
        Verdict::TooOld => Err(Dropped::TooOld),
    }
}

/// The origin's slot and windows.
fn known<'o, P, S>(
    origins: &'o mut Vec<Option<Origin>>,
    here: &Here<'_, P, S>,
    message: &MessageRef<'_>,
) -> Result<(u32, &'o Windows), Dropped> {
    if message.alias >= origins.len() {
        origins.resize(message.alias + 1, None);
    }
    let id = message.id.origin;
    let version = here.table.version();
    let origin = &mut origins[message.alias];
    // The last place is shared by all that have no alias.
    if origin
        .as_ref()
        .is_some_and(|known| known.id != id || known.version != version)
    {
        *origin = None;
    }
    let origin = origin.get_or_insert_with(|| Origin::look_up(here, id));
    let known = origin.known.as_ref();
    let (slot, windows) = known.ok_or(Dropped::UnknownOrigin)?;
    Ok((*slot, windows))
}

/// Returns `true` if a message of a peer of version 1 has come from itself: what a peer of ours has
/// published has, and nobody speaks for an endpoint.
fn is_heard<P, S>(table: &Table<P, S>, guest: EndpointId) -> bool {
    #[cfg(feature = "simulation")]
    if broken(table).is_some_and(Sabotage::forgets_peers) {
        return false;
    }
    let entry = table.entry(guest);
    let is_peer = entry.is_some_and(|peer| peer.protocol == Protocol::V1);
    let is_direct = is_peer && role(table.mesh(), guest) != GuestRole::Bystander;
    is_direct || table.mesh().is_some_and(|it| it.slot(guest).is_some())
}

fn role(mesh: Option<&Arc<Routes>>, guest: EndpointId) -> GuestRole {
    match mesh {
        Some(routes) if routes.leaves_to_others(guest) => GuestRole::Bystander,
        Some(routes) if routes.is_home_of(guest) => GuestRole::Home,
        _ => GuestRole::Peer,
    }
}

/// The peers that a message goes on to, with their positions in the table. Neither the neighbour
/// that it came from nor its origin is among them.
#[derive(Debug, Clone)]
pub struct NextHops<'a, P> {
    hops: slice::Iter<'a, u32>,
    table: &'a [PeerEntry<P>],
    from: EndpointId,
    origin: EndpointId,
}

impl<P> NextHops<'_, P> {
    /// Returns the positions of the peers, before those that it does not go back to are taken out. For messages of one
    /// origin from one neighbour, the same positions are the same peers.
    pub fn positions(&self) -> &[u32] {
        self.hops.as_slice()
    }

    /// Returns `true` if there is one.
    fn lead_on(&self) -> bool {
        let mut rest = NextHops {
            hops: self.hops.clone(),
            ..*self
        };
        rest.next().is_some()
    }
}

impl<'a, P> Iterator for NextHops<'a, P> {
    type Item = (u32, &'a PeerEntry<P>);

    fn next(&mut self) -> Option<Self::Item> {
        self.hops.find_map(|position| {
            let peer = self.table.get(*position as usize)?;
            let goes_back = peer.id == self.from || peer.id == self.origin;
            (!goes_back).then_some((*position, peer))
        })
    }
}

/// The peers of version 1 that a message of the mesh is handed to, with their positions in the
/// table. This endpoint is their home, and they do not hear the message directly from its origin.
#[derive(Debug, Clone)]
pub struct Guests<'a, P> {
    guests: slice::Iter<'a, u32>,
    table: &'a [PeerEntry<P>],
    routes: Option<&'a Arc<Routes>>,
    origin: u32,
}

impl<P> Guests<'_, P> {
    /// Returns `true` if this endpoint is the home of no peer that wants the message.
    pub fn is_empty(&self) -> bool {
        self.guests.len() == 0
    }
}

impl<'a, P> Iterator for Guests<'a, P> {
    type Item = (u32, &'a PeerEntry<P>);

    fn next(&mut self) -> Option<Self::Item> {
        let (table, routes, origin) = (self.table, self.routes?, self.origin);
        self.guests.find_map(|position| {
            let peer = table.get(*position as usize)?;
            #[cfg(feature = "simulation")]
            if routes.sabotage().forgets_peers() {
                return Some((*position, peer));
            }
            (!routes.has_guest(origin, peer.id)).then_some((*position, peer))
        })
    }
}

#[cfg(feature = "simulation")]
use crate::mesh::Sabotage;

/// The rule that a simulation breaks on purpose.
#[cfg(feature = "simulation")]
fn broken<P, S>(table: &Table<P, S>) -> Option<Sabotage> {
    table.mesh().map(|routes| routes.sabotage())
}
