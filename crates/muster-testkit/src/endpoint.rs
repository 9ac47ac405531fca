//! An endpoint without sockets: the parts that ship, put together as the endpoint of a process does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use muster_wire::frame::HEADER;
use muster_wire::mesh::codec::{
    Batch, Decoder, Encoder, Frame, Head, MeshFrame, MessageRef, ReceivedRun, Run, RunHead,
    RunMessage,
};
use muster_wire::mesh::data::{DeadEnd, Dropped, Here, Ingress, Passage, SharedWindows};
use muster_wire::mesh::{Config, Decision, HOPS, Identity, Mesh, NodeRecord, Routes, Sabotage};
use muster_wire::peering::Protocol;
use muster_wire::routing::{PeerEntry, RouteCache, Table};
use muster_wire::{Class, EndpointId, Filter, Kind, MessageId, Mono, Topic};

/// A message as those who get it see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: MessageId,
    pub(crate) class: Class,
    pub(crate) kind: Kind,
    pub(crate) topic: Topic,
    pub(crate) payload: Bytes,
    /// The peer of version 1 whose message it is, if it is not the origin's own.
    pub(crate) guest: Option<EndpointId>,
}

/// What becomes of a message that has come.
struct Arrival {
    message: Message,
    hops: u8,
    /// Counted: whether it came late, whether its hops were used up, and whether no way led on.
    is_late: bool,
    is_exhausted: bool,
    is_stranded: bool,
    /// What it is here, each time once.
    outputs: Vec<fn(Message) -> Output>,
    guests: Vec<EndpointId>,
    next: Vec<EndpointId>,
}

impl Arrival {
    fn new(class: Class, message: &MessageRef<'_>, passage: Passage<'_, ()>) -> Self {
        let mut outputs: Vec<fn(Message) -> Output> = Vec::new();
        if passage.is_addressed {
            outputs.push(Output::Addressed);
        }
        if !passage.subscribers.is_empty() {
            outputs.push(Output::Deliver);
        }
        Self {
            message: Message {
                id: message.id,
                class,
                kind: message.kind,
                topic: passage.topic.clone(),
                payload: Bytes::copy_from_slice(message.payload),
                guest: message.guest,
            },
            hops: message.hops,
            is_late: passage.is_late,
            is_exhausted: passage.dead_end == Some(DeadEnd::Exhausted),
            is_stranded: passage.dead_end == Some(DeadEnd::Stranded),
            outputs,
            guests: passage.guests.map(|(_, peer)| peer.id).collect(),
            next: passage.next_hops.map(|(_, peer)| peer.id).collect(),
        }
    }
}

/// A message as a run of one.
fn put_run(message: &Message, hops: u8, out: &mut Vec<u8>) {
    let head = RunHead {
        class: message.class,
        hops,
        origin: message.id.origin,
        base: message.id.sequence - 1,
    };
    let mut run = Run::new(Vec::new(), head);
    run.push(&RunMessage {
        sequence: message.id.sequence,
        kind: message.kind,
        topic: message.topic.as_bytes(),
        payload: &message.payload,
    });
    run.close();
    out.extend_from_slice(run.frame());
}

/// What an endpoint wants done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send a frame over the link with a neighbour.
    Send {
        to: EndpointId,
        bytes: Vec<u8>,
        /// The message in it, if it is one.
        carries: Option<(MessageId, Class)>,
        /// It only says that this endpoint lives, and comes again and again.
        is_routine: bool,
    },
    /// End the link with a neighbour.
    Disconnect(EndpointId),
    /// Give a message to the local subscribers.
    Deliver(Message),
    /// Give a message to the endpoint itself: it is addressed to it.
    Addressed(Message),
    /// Send a message to a peer of version 1.
    PassOn { guest: EndpointId, message: Message },
    /// Another endpoint is up.
    Up(Arc<NodeRecord>),
    /// Another endpoint is down.
    Down(EndpointId),
}

/// What became of messages here.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) delivered: u64,
    pub(crate) reordered: u64,
    pub(crate) returned: u64,
    pub(crate) unknown_origin: u64,
    pub(crate) duplicate: u64,
    pub(crate) too_old: u64,
    pub(crate) no_topic: u64,
    pub(crate) left_to_home: u64,
    pub(crate) hops_exhausted: u64,
    pub(crate) no_next_hop: u64,
    /// Sent to fenced endpoints, which did not want them: to be passed on.
    pub(crate) through_fenced: u64,
}

/// One end of a link with another endpoint of the mesh.
#[derive(Debug, Default)]
struct Link {
    encoder: Encoder,
    decoder: Decoder,
    ingress: Ingress,
}

/// A peer of version 1.
#[derive(Debug)]
struct Guest {
    filter: Arc<Filter>,
    ingress: Ingress,
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    mesh: Mesh,
    filter: Filter,
    links: BTreeMap<EndpointId, Link>,
    guests: BTreeMap<EndpointId, Guest>,
    table: Table<(), ()>,
    /// What the table was made from.
    routes: Option<Arc<Routes>>,
    publisher: RouteCache,
    windows: SharedWindows,
    /// The endpoints that it was told to fence, whatever it makes of that.
    fenced: BTreeSet<EndpointId>,
    sequences: [u64; 4],
    counts: Counts,
    outputs: VecDeque<Output>,
}

impl Endpoint {
    pub(crate) fn new(identity: Identity, config: Config, sabotage: Sabotage) -> Self {
        let mut mesh = Mesh::new(identity, config);
        mesh.sabotage(sabotage);
        let mut endpoint = Self {
            mesh,
            filter: Filter::default(),
            links: BTreeMap::new(),
            guests: BTreeMap::new(),
            table: Table::empty(),
            routes: None,
            publisher: RouteCache::default(),
            windows: SharedWindows::default(),
            fenced: BTreeSet::new(),
            sequences: [0; 4],
            counts: Counts::default(),
            outputs: VecDeque::new(),
        };
        endpoint.make_table();
        endpoint
    }

    #[cfg(test)]
    pub(crate) fn id(&self) -> EndpointId {
        self.mesh.id()
    }

    pub(crate) fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// How many origins it has windows of.
    #[cfg(test)]
    pub(crate) fn windows(&self) -> usize {
        self.windows.len()
    }

    /// The hashes that all were found to have since this was asked last.
    #[cfg(test)]
    pub(crate) fn take_agreed(&mut self) -> Vec<u64> {
        self.mesh.take_agreed()
    }

    pub(crate) fn subscribe(&mut self, filter: Filter, now: Mono) {
        self.filter = filter.clone();
        self.make_table();
        self.mesh.subscribe(filter, now);
        self.carry_out();
    }

    pub(crate) fn peer_up(&mut self, peer: EndpointId, now: Mono) {
        self.links.insert(peer, Link::default());
        self.make_table();
        self.mesh.peer_up(peer, now);
        self.carry_out();
    }

    pub(crate) fn peer_down(&mut self, peer: EndpointId, now: Mono) {
        self.links.remove(&peer);
        self.make_table();
        self.mesh.peer_down(peer, now);
        self.carry_out();
    }

    /// Fences another endpoint; a link with it is ended.
    pub(crate) fn fence(&mut self, id: EndpointId, now: Mono) {
        let was_linked = self.links.remove(&id).is_some();
        self.fenced.insert(id);
        self.mesh.fence(id, now);
        self.make_table();
        if was_linked {
            self.outputs.push_back(Output::Disconnect(id));
        }
        self.carry_out();
    }

    /// Leads messages through an endpoint again that was fenced.
    pub(crate) fn unfence(&mut self, id: EndpointId, now: Mono) {
        self.fenced.remove(&id);
        self.mesh.unfence(id, now);
        self.carry_out();
    }

    /// Whether an endpoint subscribes to a topic itself, or a peer of version 1 does of which it is the home.
    fn wants(&self, id: EndpointId, topic: &Topic) -> bool {
        let database = self.mesh.database();
        let node = database.slot(id).and_then(|slot| database.node(slot));
        let filters = node.into_iter().flat_map(|node| {
            let of_guests = node.guests.iter().filter_map(|guest| guest.filter.as_ref());
            of_guests.chain([&node.filter])
        });
        let mut filters = filters;
        filters.any(|filter| filter.matches(topic.as_bytes()))
    }

    pub(crate) fn guest_up(&mut self, guest: EndpointId, filter: Arc<Filter>, now: Mono) {
        self.mesh.guest_up(guest, Arc::clone(&filter), now);
        let ingress = Ingress::default();
        self.guests.insert(guest, Guest { filter, ingress });
        self.make_table();
        self.carry_out();
    }

    pub(crate) fn guest_down(&mut self, guest: EndpointId, now: Mono) {
        self.mesh.guest_down(guest, now);
        self.guests.remove(&guest);
        self.make_table();
        self.carry_out();
    }

    #[cfg(test)]
    pub(crate) fn guest_forwards(&mut self, guest: EndpointId, now: Mono) {
        self.mesh.guest_forwards(guest, now);
        self.carry_out();
    }

    /// What a peer of version 1 is told that is subscribed to here.
    pub(crate) fn told(&self, guest: EndpointId) -> Filter {
        match self.table.mesh() {
            Some(routes) if routes.leaves_to_others(guest) => Filter::default(),
            Some(routes) if routes.is_home_of(guest) => {
                routes.filter_for(&routes.peers_of(guest), &self.filter)
            }
            _ => self.filter.clone(),
        }
    }

    pub(crate) fn next_due(&self) -> Option<Mono> {
        self.mesh.next_due()
    }

    pub(crate) fn tick(&mut self, now: Mono) {
        if self.mesh.next_due().is_some_and(|due| due <= now) {
            self.mesh.tick(now);
        }
        self.carry_out();
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Publishes a message to all who subscribe to its topic.
    pub(crate) fn publish(
        &mut self,
        class: Class,
        kind: Kind,
        topic: &Topic,
        payload: Bytes,
    ) -> MessageId {
        let message = Message {
            id: self.next_id(class),
            class,
            kind,
            topic: topic.clone(),
            payload,
            guest: None,
        };
        let found = self.publisher.lookup(&self.table, topic.as_bytes());
        let peers = found.map(|(_, route)| route.peers.clone());
        for position in peers.unwrap_or_default() {
            let Some(peer) = self.table.peer(position) else {
                continue;
            };
            let (id, protocol) = (peer.id, peer.protocol);
            match protocol {
                Protocol::V1 => self.outputs.push_back(Output::PassOn {
                    guest: id,
                    message: message.clone(),
                }),
                Protocol::V2 => self.send(id, &message, HOPS),
            }
        }
        message.id
    }

    /// Bytes of a whole frame came over the link with a neighbour.
    ///
    /// # Panics
    /// If they are not what an endpoint sends.
    pub(crate) fn receive(&mut self, from: EndpointId, bytes: &[u8], now: Mono) {
        let Some(mut link) = self.links.remove(&from) else {
            return;
        };
        let frame = link.decoder.read(&bytes[HEADER..]);
        let control = match frame.expect("our own frame") {
            Frame::Batch(batch) => {
                self.batch(from, &mut link.ingress, batch);
                None
            }
            Frame::Run(run) => {
                self.run(from, &mut link.ingress, run);
                None
            }
            Frame::Mesh(frame) => Some(frame),
            // Nothing of that is sent here.
            Frame::Link(_) | Frame::Fragment(_) | Frame::Unknown => None,
        };
        self.links.insert(from, link);
        if let Some(frame) = control {
            self.mesh.receive(from, frame, now);
        }
        self.carry_out();
    }

    fn batch(&mut self, from: EndpointId, ingress: &mut Ingress, batch: Batch<'_, '_>) {
        let class = batch.class;
        for message in batch {
            let message = message.expect("our own message");
            let passage = ingress.receive(&self.here(), from, class, &message);
            let arrival = passage.map(|passage| Arrival::new(class, &message, passage));
            self.arrive(arrival);
        }
    }

    fn run(&mut self, from: EndpointId, ingress: &mut Ingress, run: ReceivedRun<'_>) {
        let head = run.head;
        for message in run {
            let message = message.expect("our own message");
            let here = self.here();
            let arrival = ingress.begin_run(&here, &head).and_then(|origin| {
                let sequence = message.sequence;
                let is_late = origin.seen().note(&here, head.class, sequence)?;
                let mut passage = ingress.in_run(&here, from, &head, &origin, message.topic)?;
                passage.is_late = is_late;
                let message = MessageRef {
                    alias: 0,
                    id: MessageId {
                        origin: head.origin,
                        sequence: message.sequence,
                    },
                    hops: head.hops,
                    kind: message.kind,
                    topic: message.topic,
                    payload: message.payload,
                    guest: None,
                };
                Ok(Arrival::new(head.class, &message, passage))
            });
            self.arrive(arrival);
        }
    }

    fn here(&self) -> Here<'_, (), ()> {
        Here {
            me: self.mesh.id(),
            table: &self.table,
            windows: &self.windows,
        }
    }

    fn arrive(&mut self, arrival: Result<Arrival, Dropped>) {
        let arrival = match arrival {
            Ok(arrival) => arrival,
            Err(dropped) => return self.drop(dropped),
        };
        let copy = arrival.message;
        self.counts.reordered += u64::from(arrival.is_late);
        self.counts.hops_exhausted += u64::from(arrival.is_exhausted);
        self.counts.no_next_hop += u64::from(arrival.is_stranded);
        for output in arrival.outputs {
            let output = output(copy.clone());
            self.counts.delivered += u64::from(matches!(output, Output::Deliver(_)));
            self.outputs.push_back(output);
        }
        for guest in arrival.guests {
            let message = copy.clone();
            self.outputs.push_back(Output::PassOn { guest, message });
        }
        for to in arrival.next {
            self.send(to, &copy, arrival.hops - 1);
        }
    }

    /// A message came from a peer of version 1.
    pub(crate) fn receive_from_guest(
        &mut self,
        guest: EndpointId,
        class: Class,
        topic: &Topic,
        payload: Bytes,
    ) {
        let Some(mut known) = self.guests.remove(&guest) else {
            return;
        };
        let here = Here {
            me: self.mesh.id(),
            table: &self.table,
            windows: &self.windows,
        };
        let ingress = &mut known.ingress;
        match ingress.receive_from_guest(&here, guest, topic.as_bytes()) {
            Err(dropped) => self.drop(dropped),
            Ok(passage) => {
                let is_heard = !passage.subscribers.is_empty();
                let next: Vec<EndpointId> = passage.next_hops.map(|(_, peer)| peer.id).collect();
                let mut message = Message {
                    id: MessageId {
                        origin: guest,
                        sequence: 0,
                    },
                    class,
                    kind: Kind::Data,
                    topic: topic.clone(),
                    payload,
                    guest: Some(guest),
                };
                if is_heard {
                    self.counts.delivered += 1;
                    self.outputs.push_back(Output::Deliver(message.clone()));
                }
                if !next.is_empty() {
                    message.id = self.next_id(class);
                }
                for to in next {
                    self.send(to, &message, HOPS);
                }
            }
        }
        self.guests.insert(guest, known);
    }

    fn next_id(&mut self, class: Class) -> MessageId {
        let sequence = &mut self.sequences[class as usize];
        *sequence += 1;
        MessageId {
            origin: self.mesh.id(),
            sequence: *sequence,
        }
    }

    fn send(&mut self, to: EndpointId, message: &Message, hops: u8) {
        if self.fenced.contains(&to) && !self.wants(to, &message.topic) {
            self.counts.through_fenced += 1;
        }
        let Some(link) = self.links.get_mut(&to) else {
            return;
        };
        let head = Head {
            id: message.id,
            hops,
            kind: message.kind,
            topic: message.topic.as_bytes(),
            guest: message.guest,
        };
        let mut bytes = Vec::new();
        // Both forms of a message are on the way, as with publishers that are fast now and then.
        if message.guest.is_none() && message.id.sequence.is_multiple_of(2) {
            put_run(message, hops, &mut bytes);
        } else {
            let encoder = &mut link.encoder;
            encoder.put_message(message.class, &head, &message.payload, &mut bytes);
        }
        self.outputs.push_back(Output::Send {
            to,
            bytes,
            carries: Some((message.id, message.class)),
            is_routine: false,
        });
    }

    fn drop(&mut self, dropped: Dropped) {
        let counts = &mut self.counts;
        *match dropped {
            Dropped::Returned => &mut counts.returned,
            Dropped::UnknownOrigin => &mut counts.unknown_origin,
            Dropped::Duplicate => &mut counts.duplicate,
            Dropped::TooOld => &mut counts.too_old,
            Dropped::NoTopic => &mut counts.no_topic,
            Dropped::LeftToHome => &mut counts.left_to_home,
        } += 1;
    }

    /// Puts what the mesh has learnt into the routing table, then does what it decides: nobody hears that another is
    /// up before messages go there.
    fn carry_out(&mut self) {
        let routes = self.mesh.routes();
        let known = self.routes.as_ref();
        if !known.is_some_and(|known| Arc::ptr_eq(known, &routes)) {
            self.make_table();
        }
        while let Some(decision) = self.mesh.poll() {
            match decision {
                Decision::Send { to, frame } => {
                    let mut bytes = Vec::new();
                    frame.write(&mut bytes);
                    self.outputs.push_back(Output::Send {
                        to,
                        bytes,
                        carries: None,
                        is_routine: matches!(*frame, MeshFrame::Heartbeat { .. }),
                    });
                }
                Decision::Disconnect { peer, .. } => {
                    self.links.remove(&peer);
                    self.make_table();
                    self.outputs.push_back(Output::Disconnect(peer));
                }
                Decision::NodeUp(node) => self.outputs.push_back(Output::Up(node)),
                Decision::NodeDown(id) => self.outputs.push_back(Output::Down(id)),
                Decision::Contradicted { .. } | Decision::Forged { .. } => {}
            }
        }
    }

    fn make_table(&mut self) {
        let routes = self.mesh.routes();
        let neighbours = self.links.keys().map(|id| PeerEntry {
            id: *id,
            protocol: Protocol::V2,
            filter: Arc::default(),
            handle: (),
        });
        let guests = self.guests.iter().map(|(id, guest)| PeerEntry {
            id: *id,
            protocol: Protocol::V1,
            filter: Arc::clone(&guest.filter),
            handle: (),
        });
        let peers = neighbours.chain(guests).collect();
        let version = self.table.version() + 1;
        let subscribers = vec![(self.filter.clone(), ())];
        let table = Table::new(version, peers, subscribers);
        self.table = table.with_mesh(Arc::clone(&routes));
        let is_known = |origin| routes.slot(origin).is_some();
        self.windows.retain(is_known);
        self.routes = Some(routes);
    }
}

#[cfg(test)]
mod tests {
    use muster_wire::Incarnation;
    use muster_wire::mesh::codec::{MeshMessage, OwnedFrame};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn id(number: u8) -> EndpointId {
        EndpointId::from_random([number; 16])
    }

    fn endpoint(number: u8) -> Endpoint {
        let identity = Identity {
            id: id(number),
            incarnation: Incarnation(1),
            name: String::new(),
            role: String::new(),
            machine: String::new(),
            transit: true,
            homes: true,
        };
        let mut endpoint = Endpoint::new(identity, Config::default(), Sabotage::default());
        endpoint.subscribe(Filter::from_prefixes(["/t"]), Mono(0));
        endpoint
    }

    /// Carries frames between endpoints in no time, until nobody has anything to do before `until`.
    fn settle(endpoints: &mut [Endpoint], now: &mut u64, until: u64) {
        loop {
            let mut frames = VecDeque::new();
            for endpoint in endpoints.iter_mut() {
                while let Some(output) = endpoint.poll() {
                    if let Output::Send { to, bytes, .. } = output {
                        frames.push_back((endpoint.id(), to, bytes));
                    }
                }
            }
            if frames.is_empty() {
                match endpoints.iter().filter_map(Endpoint::next_due).min() {
                    Some(Mono(at)) if at <= until => *now = at.max(*now),
                    _ => return,
                }
                for endpoint in endpoints.iter_mut() {
                    endpoint.tick(Mono(*now));
                }
            }
            for (from, to, bytes) in frames {
                if let Some(endpoint) = endpoints.iter_mut().find(|it| it.id() == to) {
                    endpoint.receive(from, &bytes, Mono(*now));
                }
            }
        }
    }

    #[test]
    fn a_message_crosses_sixteen_links_and_no_more() {
        let mut endpoints: Vec<Endpoint> = (1..=20).map(endpoint).collect();
        let mut now = 0;
        for right in 1..20 {
            let (a, b) = (endpoints[right - 1].id(), endpoints[right].id());
            endpoints[right - 1].peer_up(b, Mono(0));
            endpoints[right].peer_up(a, Mono(0));
        }
        settle(&mut endpoints, &mut now, 30 * SECOND);
        assert!(endpoints.iter().all(|it| it.mesh().up().len() == 19));
        let topic = Topic::new("/t").expect("a topic");
        endpoints[0].publish(Class::Event, Kind::Data, &topic, Bytes::new());
        let until = now;
        settle(&mut endpoints, &mut now, until);
        let heard = endpoints.iter().map(|it| it.counts().delivered);
        assert_eq!(heard.sum::<u64>(), 16);
        assert_eq!(endpoints[16].counts().hops_exhausted, 1);
    }

    /// A relay that has lost the way to who wants a message, and before which nobody knows that yet, tells of it.
    #[test]
    fn a_message_for_which_no_way_leads_on_is_counted() {
        let mut endpoints: Vec<Endpoint> = (1..=3).map(endpoint).collect();
        let mut now = 0;
        for right in 1..3 {
            let (a, b) = (endpoints[right - 1].id(), endpoints[right].id());
            endpoints[right - 1].peer_up(b, Mono(0));
            endpoints[right].peer_up(a, Mono(0));
        }
        endpoints[2].subscribe(Filter::from_prefixes(["/t", "/only"]), Mono(0));
        settle(&mut endpoints, &mut now, 30 * SECOND);
        let mut publish = |topic: &str, endpoints: &mut [Endpoint]| {
            let topic = Topic::new(topic).expect("a topic");
            endpoints[0].publish(Class::Event, Kind::Data, &topic, Bytes::new());
            endpoints[0].publish(Class::Event, Kind::Data, &topic, Bytes::new());
            let until = now;
            settle(endpoints, &mut now, until);
            let counts = endpoints.iter().map(Endpoint::counts);
            let (delivered, stranded) = counts.fold((0, 0), |(delivered, stranded), counts| {
                (delivered + counts.delivered, stranded + counts.no_next_hop)
            });
            (delivered, stranded)
        };
        assert_eq!(publish("/only", &mut endpoints), (2, 0));
        let gone = endpoints.pop().expect("the third");
        endpoints[1].peer_down(gone.id(), Mono(30 * SECOND));
        // What the second says of it is not heard by the first yet.
        let topic = Topic::new("/only").expect("a topic");
        endpoints[0].publish(Class::Event, Kind::Data, &topic, Bytes::new());
        endpoints[0].publish(Class::Event, Kind::Data, &topic, Bytes::new());
        while let Some(output) = endpoints[0].poll() {
            if let Output::Send { bytes, .. } = output {
                let from = endpoints[0].id();
                endpoints[1].receive(from, &bytes, Mono(30 * SECOND));
            }
        }
        assert_eq!(endpoints[1].counts().no_next_hop, 2);
        // One that is for the relay itself has come to its end, and one that nobody wants is not sent.
        let before = endpoints[1].counts();
        publish("/t", &mut endpoints);
        publish("/nobody", &mut endpoints);
        let after = endpoints[1].counts();
        assert_eq!(after.delivered, before.delivered + 2);
        assert_eq!(after.no_next_hop, 2);
    }

    #[test]
    fn messages_of_strangers_and_own_ones_are_dropped_and_counted() {
        let mut endpoint = endpoint(1);
        endpoint.peer_up(id(2), Mono(0));
        let (mut encoder, mut sequence) = (Encoder::default(), 0);
        let mut come = |origin, topic: &[u8]| {
            sequence += 1;
            let message = MeshMessage {
                id: MessageId { origin, sequence },
                hops: 16,
                kind: Kind::Data,
                topic: topic.to_vec(),
                payload: Vec::new(),
                guest: None,
            };
            let frame = OwnedFrame::Batch {
                class: Class::Event,
                messages: vec![message],
            };
            let mut bytes = Vec::new();
            frame.write(&mut encoder, &mut bytes);
            endpoint.receive(id(2), &bytes, Mono(1));
        };
        come(id(1), b"/t");
        come(id(9), b"/t");
        let expected = Counts {
            returned: 1,
            unknown_origin: 1,
            ..Counts::default()
        };
        assert_eq!(endpoint.counts(), expected);
    }
}
