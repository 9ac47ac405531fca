//! What the simulator does not look at: single rules of one or a few endpoints.

mod fences;
mod waiting_links;

use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::Incarnation;
use crate::mesh::database::{Applied, Limits};
use crate::mesh::record::{LinkRecord, Record, Versions};
use crate::mesh::score::{key, score};
use crate::mesh::seal::{self, NodeSeal, Seals, ToySeals};

const SECOND: u64 = 1_000_000_000;

fn id(number: u8) -> EndpointId {
    EndpointId::from_random([number; 16])
}

fn mesh(number: u8, name: &str, incarnation: u64) -> Mesh {
    let identity = Identity {
        id: id(number),
        incarnation: Incarnation(incarnation),
        name: name.to_owned(),
        role: String::new(),
        machine: String::new(),
        transit: true,
        homes: true,
    };
    Mesh::new(identity, Config::default())
}

/// Carries frames between endpoints in no time; returns the other decisions with who made them.
fn settle(meshes: &mut [Mesh], now: &mut u64, until: u64) -> Vec<(EndpointId, Decision)> {
    let mut decisions = Vec::new();
    loop {
        let mut frames = VecDeque::new();
        for mesh in meshes.iter_mut() {
            while let Some(decision) = mesh.poll() {
                match decision {
                    Decision::Send { to, frame } => {
                        frames.push_back((mesh.id(), to, Arc::unwrap_or_clone(frame)));
                    }
                    other => decisions.push((mesh.id(), other)),
                }
            }
        }
        if frames.is_empty() {
            let due = meshes.iter().filter_map(Mesh::next_due).min();
            match due {
                Some(Mono(at)) if at <= until => *now = at.max(*now),
                _ => return decisions,
            }
            for mesh in meshes.iter_mut() {
                mesh.tick(Mono(*now));
            }
        }
        for (from, to, frame) in frames {
            if let Some(mesh) = meshes.iter_mut().find(|mesh| mesh.id() == to) {
                mesh.receive(from, frame, Mono(*now));
            }
        }
    }
}

fn link(meshes: &mut [Mesh], a: usize, b: usize, now: u64) {
    let (first, second) = (meshes[a].id(), meshes[b].id());
    meshes[a].peer_up(second, Mono(now));
    meshes[b].peer_up(first, Mono(now));
}

#[test]
fn a_neighbour_that_says_nothing_is_gone_after_the_time_out() {
    let mut meshes = [mesh(1, "", 1)];
    let mut now = 0;
    meshes[0].peer_up(id(2), Mono(0));
    let early = settle(&mut meshes, &mut now, 4 * SECOND - 1);
    assert_eq!(early, []);
    let late = settle(&mut meshes, &mut now, 4 * SECOND);
    let gone = Decision::Disconnect {
        peer: id(2),
        reason: Reason::TimeOut,
    };
    assert_eq!(late, [(id(1), gone)]);
}

/// Links endpoints with the first one after another, each when the one before is up there. Returns how long that took
/// for each.
fn joined_one_after_another(meshes: &mut [Mesh]) -> Vec<u64> {
    let mut now = SECOND;
    let mut took = Vec::new();
    for other in 1..meshes.len() {
        let began = now;
        link(meshes, 0, other, now);
        let joining = meshes[other].id();
        while !meshes[0].up().contains(&joining) {
            let until = now + 100_000;
            settle(meshes, &mut now, until);
            now = until;
            assert!(now < began + SECOND, "the endpoint {other} has not joined");
        }
        took.push(now - began);
    }
    took
}

/// Each waited for a hold-down of 50 ms, or for 4 ms times the number of relays.
#[test]
fn endpoints_that_join_one_after_another_do_not_wait_for_the_hold_down() {
    for transit in [false, true] {
        let mut meshes = vec![mesh(1, "", 1)];
        for number in 2..=50 {
            let mut other = mesh(number, "", 1);
            other.identity.transit = transit;
            other.database = Database::new(other.own_node(), other.config.limits);
            meshes.push(other);
        }
        let took = joined_one_after_another(&mut meshes);
        // A relay's own first announcement waits 20 ms. Until the first two are ready there are announcements that nobody
        // acknowledges.
        let own = if transit { 20_000_000 } else { 0 };
        assert!(
            took[..2].iter().all(|took| *took <= own + 51_000_000),
            "{took:?}"
        );
        assert!(
            took[2..].iter().all(|took| *took <= own + 6_000_000),
            "{took:?}"
        );
        // No relay makes more than 250 announcements a second.
        let all: u64 = took.iter().sum();
        assert!(all >= 48 * 4_000_000, "{took:?}");
        for mesh in &meshes {
            assert_eq!(mesh.up().len(), 49);
        }
    }
}

#[test]
fn frames_of_strangers_are_counted() {
    let mut mesh = mesh(1, "", 1);
    mesh.peer_up(id(2), Mono(0));
    mesh.receive(id(3), MeshFrame::JoinRequest, Mono(1));
    assert_eq!(mesh.counts().not_neighbour, 1);
    let named = mesh.counts().of_records();
    assert!(
        named
            .iter()
            .any(|counter| counter.key() == "mesh_not_neighbour" && counter.value == 1)
    );
}

#[test]
fn the_unreachable_are_forgotten_after_a_minute() {
    let mut meshes = [mesh(1, "", 1), mesh(2, "", 1)];
    let mut now = 0;
    link(&mut meshes, 0, 1, 0);
    settle(&mut meshes, &mut now, SECOND);
    meshes[0].peer_down(id(2), Mono(now));
    let (alone, _) = meshes.split_at_mut(1);
    let lost = now;
    settle(alone, &mut now, lost + 50 * SECOND);
    assert_eq!(alone[0].sizes().endpoints, 2);
    settle(alone, &mut now, lost + 70 * SECOND);
    assert_eq!(alone[0].sizes().endpoints, 1);
}

#[test]
fn only_a_difference_that_stays_is_repaired() {
    let mut mesh = mesh(1, "", 1);
    mesh.peer_up(id(2), Mono(0));
    let right = mesh.digest();
    let beat = |hash| MeshFrame::Heartbeat {
        time: 1,
        echo: 0,
        hash,
    };
    mesh.receive(id(2), beat(right ^ 1), Mono(SECOND));
    mesh.receive(id(2), beat(right ^ 2), Mono(SECOND + 50_000_000));
    mesh.receive(id(2), beat(right), Mono(SECOND + 90_000_000));
    mesh.tick(Mono(SECOND + 100_000_000));
    assert_eq!(mesh.counts().repairs, 0);
    mesh.receive(id(2), beat(right ^ 1), Mono(2 * SECOND));
    assert!(mesh.next_due() <= Some(Mono(2 * SECOND + 100_000_000)));
    mesh.tick(Mono(2 * SECOND + 99_000_000));
    assert_eq!(mesh.counts().repairs, 0);
    mesh.tick(Mono(2 * SECOND + 100_000_000));
    assert_eq!(mesh.counts().repairs, 1);
}

fn node_record(number: u8, version: u64) -> NodeRecord {
    NodeRecord {
        id: id(number),
        incarnation: Incarnation(1),
        version,
        transit: true,
        ready: true,
        name: String::new(),
        role: String::new(),
        machine: String::new(),
        filter: Filter::default(),
        homes: true,
        guests: Vec::new(),
    }
}

/// Who of some meshes announces a guest, and whether as its home.
fn hosts(meshes: &[Mesh], guest: EndpointId) -> Vec<Option<bool>> {
    let announced = meshes.iter().map(|mesh| {
        let database = mesh.database();
        let node = database.node(database.me()).unwrap();
        let known = node.guests.iter().find(|known| known.id == guest);
        known.map(|known| known.filter.is_some())
    });
    announced.collect()
}

#[test]
fn a_guest_has_one_home_and_gets_another_when_that_is_gone() {
    let mut meshes: Vec<Mesh> = (1..=4).map(|number| mesh(number, "", 1)).collect();
    // One that does not relay is no home.
    meshes[3] = Mesh::new(
        Identity {
            transit: false,
            ..meshes[3].identity.clone()
        },
        Config::default(),
    );
    let mut now = 0;
    for (a, b) in [(0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3)] {
        link(&mut meshes, a, b, 0);
    }
    settle(&mut meshes, &mut now, 10 * SECOND);
    let filter = Filter::from_prefixes(["/z"]);
    let guest = id(0x77);
    for mesh in &mut meshes {
        mesh.guest_up(guest, Arc::new(filter.clone()), Mono(now));
    }
    let until = now + SECOND;
    settle(&mut meshes, &mut now, until);
    let best = (0..3).max_by_key(|at| {
        let host = meshes[*at].id();
        (score(key(guest), key(guest), key(host)), host)
    });
    let best = best.unwrap();
    let expected = (0..4).map(|at| Some(at == best)).collect::<Vec<_>>();
    assert_eq!(hosts(&meshes, guest), expected);
    let acting = meshes
        .iter_mut()
        .map(|mesh| mesh.routes().is_home_of(guest));
    let acting: Vec<_> = acting.map(Some).collect();
    assert_eq!(acting, expected);
    // The home loses it.
    meshes[best].guest_down(guest, Mono(now));
    let until = now + SECOND;
    settle(&mut meshes, &mut now, until);
    let homes = hosts(&meshes, guest);
    assert_eq!(homes[best], None);
    assert_eq!(homes.iter().filter(|home| **home == Some(true)).count(), 1);
    assert_eq!(homes[3], Some(false));
}

#[test]
fn one_in_the_mesh_is_no_guest_and_one_that_refuses_is_no_home() {
    let mut meshes: Vec<Mesh> = (1..=3).map(|number| mesh(number, "", 1)).collect();
    meshes[1] = Mesh::new(
        Identity {
            homes: false,
            ..meshes[1].identity.clone()
        },
        Config::default(),
    );
    let mut now = 0;
    link(&mut meshes, 0, 1, 0);
    settle(&mut meshes, &mut now, 5 * SECOND);
    let (guest, member) = (id(0x77), meshes[2].id());
    meshes[0].guest_up(member, Arc::default(), Mono(now));
    meshes[1].guest_up(guest, Arc::new(Filter::from_prefixes(["/z"])), Mono(now));
    let until = now + SECOND;
    settle(&mut meshes, &mut now, until);
    assert_eq!(hosts(&meshes, member), [Some(true), None, None]);
    assert_eq!(hosts(&meshes, guest), [None, Some(false), None]);
    link(&mut meshes, 1, 2, now);
    let until = now + 10 * SECOND;
    settle(&mut meshes, &mut now, until);
    assert_eq!(hosts(&meshes, member), [None; 3]);
}

fn flood(records: Vec<Record>) -> MeshFrame {
    MeshFrame::Records {
        root: id(2),
        more: false,
        flood: None,
        records,
    }
}

/// A neighbour may say that we have given out the last version that there is: we cannot go on above it,
/// but go on.
#[test]
fn the_last_version_of_all_ends_nothing() {
    let mut meshes = [mesh(1, "", 1), mesh(2, "", 1)];
    let mut now = 0;
    link(&mut meshes, 0, 1, 0);
    settle(&mut meshes, &mut now, SECOND);
    let links = LinkRecord {
        id: id(1),
        incarnation: Incarnation(1),
        version: u64::MAX,
        neighbours: Vec::new(),
    };
    let records = vec![
        Record::Node(Arc::new(node_record(1, u64::MAX)), None),
        Record::Links(links, None),
    ];
    meshes[0].receive(id(2), flood(records), Mono(now));
    let later = now + 5 * SECOND;
    settle(&mut meshes, &mut now, later);
    assert!(meshes[0].up().contains(&id(2)));
}

/// Somebody with another certificate cannot even have us answer. Another process with ours is answered as ever, for who of
/// the two is meant nobody knows.
#[test]
fn what_others_say_of_us_is_answered_if_it_has_our_seal() {
    let sealed = |name: u64, salt| {
        let (id, seals) = ToySeals::new(name, 1, [salt; 16]);
        let config = Config {
            seals: Some(Arc::new(seals)),
            ..Config::default()
        };
        let identity = Identity {
            id,
            ..mesh(1, "", 1).identity
        };
        Mesh::new(identity, config)
    };
    let mut meshes = [sealed(1, 1), sealed(2, 2)];
    let mut now = 0;
    link(&mut meshes, 0, 1, 0);
    settle(&mut meshes, &mut now, SECOND);
    assert!(meshes[0].up().contains(&meshes[1].id()));
    let [ours, theirs] = [&meshes[0], &meshes[1]].map(|mesh| mesh.config.seals.clone().unwrap());
    let me = meshes[0].id();
    let own = meshes[0].own_node();
    let links = LinkRecord {
        id: me,
        incarnation: Incarnation(1),
        version: 1000,
        neighbours: Vec::new(),
    };
    let node = NodeRecord {
        incarnation: Incarnation(5),
        filter: Filter::default(),
        ..own
    };
    let forged = |seals: &dyn Seals| {
        let seal = NodeSeal {
            credentials: Arc::clone(seals.credentials()),
            signature: seals.sign(&seal::node_bytes(&node, &[])).unwrap(),
            unknown: Vec::new(),
        };
        let links_seal = seals.sign(&seal::link_bytes(&links));
        vec![
            Record::Node(Arc::new(node.clone()), Some(Arc::new(seal))),
            Record::Links(links.clone(), links_seal),
        ]
    };
    let liar = meshes[1].id();
    meshes[0].receive(liar, flood(forged(&*theirs)), Mono(now));
    let decisions: Vec<_> = std::iter::from_fn(|| meshes[0].poll()).collect();
    let told = Decision::Forged {
        by: liar,
        of: me,
        refusal: Refusal::Identity,
    };
    assert!(decisions.contains(&told), "{decisions:?}");
    let counts = meshes[0].counts();
    let refused = [(Refusal::Seal, 1), (Refusal::Identity, 1)];
    assert_eq!(counts.refused, refused.into_iter().collect());
    assert_eq!(counts.contradicted, 0);
    assert_eq!(meshes[0].identity.incarnation, Incarnation(1));
    meshes[0].receive(liar, flood(forged(&*ours)), Mono(now));
    assert_eq!(meshes[0].counts().contradicted, 1);
    assert_eq!(meshes[0].identity.incarnation, Incarnation(5));
    // Until it has announced that, what it tells has good seals as well.
    let mut told = Database::new(node_record(9, 1), Limits::default());
    told.set_seals(theirs);
    for record in meshes[0].whole_records(me) {
        assert_eq!(told.apply(&record), Applied::News, "{record:?}");
    }
    let later = now + 5 * SECOND;
    settle(&mut meshes, &mut now, later);
    let known = &meshes[1].database;
    let known = known.versions(known.slot(me).unwrap());
    assert_eq!(known, meshes[0].database.versions(0));
    assert_eq!(known.unwrap().incarnation, Incarnation(5));
}

/// Two chains of relays meet: nobody joins, and far ends know one another without waiting for three seconds.
#[test]
fn whoever_comes_in_reach_is_up_when_all_agree() {
    let mut meshes: Vec<Mesh> = (1..=8).map(|number| mesh(number, "", 1)).collect();
    let mut now = 0;
    for right in (1..8).filter(|right| *right != 4) {
        link(&mut meshes, right - 1, right, 0);
    }
    settle(&mut meshes, &mut now, 30 * SECOND);
    assert!(meshes.iter().all(|mesh| mesh.up().len() == 3));
    let met = now;
    link(&mut meshes, 3, 4, met);
    settle(&mut meshes, &mut now, met + SECOND);
    assert!(meshes.iter().all(|mesh| mesh.up().len() == 7));
}

/// What is missing of an offer is asked of one neighbour, and of another when that one is gone; records that
/// are known are not asked for.
#[test]
fn what_many_offer_one_sends() {
    let mut mesh = mesh(1, "", 1);
    for peer in [2, 3] {
        mesh.peer_up(id(peer), Mono(0));
        let record = Record::Node(Arc::new(node_record(peer, 1)), None);
        mesh.receive(id(peer), flood(vec![record]), Mono(0));
    }
    let offer = |number: u8, node| Versions {
        id: id(number),
        incarnation: Incarnation(1),
        node,
        links: 0,
    };
    let taken = |mesh: &mut Mesh, from: u8, list: Vec<Versions>| {
        while mesh.poll().is_some() {}
        let root = id(from);
        mesh.receive(root, MeshFrame::Offer { root, list }, Mono(1));
        let mut taken = Vec::new();
        while let Some(decision) = mesh.poll() {
            if let Decision::Send { to, frame } = decision
                && let MeshFrame::Accept { ids, .. } = &*frame
            {
                assert_eq!(to, root);
                taken.extend_from_slice(ids);
            }
        }
        taken
    };
    let list = vec![offer(2, 1), offer(8, 1), offer(9, 1)];
    assert_eq!(taken(&mut mesh, 2, list.clone()), [id(8), id(9)]);
    assert_eq!(taken(&mut mesh, 3, list.clone()), []);
    assert_eq!(taken(&mut mesh, 3, vec![offer(9, 2)]), [id(9)]);
    mesh.peer_down(id(2), Mono(2));
    assert_eq!(taken(&mut mesh, 3, list), [id(8)]);
    // However much is offered, only what a database may hold is awaited.
    let many = (0..=u16::MAX).map(|number| {
        let mut bytes = [7; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        Versions {
            id: EndpointId::from_random(bytes),
            ..offer(9, 1)
        }
    });
    taken(&mut mesh, 3, many.collect());
    assert!(mesh.sizes().pending <= Config::default().limits.nodes + 16);
}

/// The time that a flood takes grows with its records, not with their square.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long it takes is the question"
)]
fn a_neighbour_may_say_the_same_very_often() {
    let mut meshes = [mesh(1, "", 1), mesh(2, "", 1)];
    let mut now = 0;
    link(&mut meshes, 0, 1, 0);
    settle(&mut meshes, &mut now, SECOND);
    let versions =
        (1..=50_000).map(|version| Record::Node(Arc::new(node_record(3, version)), None));
    let started = std::time::Instant::now();
    meshes[0].receive(id(2), flood(versions.collect()), Mono(now));
    assert!(started.elapsed() < Duration::from_secs(2));
}

/// What a mesh wants to send to a neighbour.
fn sent(mesh: &mut Mesh, neighbour: EndpointId) -> Vec<MeshFrame> {
    let decisions = std::iter::from_fn(|| mesh.poll());
    let frames = decisions.filter_map(|decision| match decision {
        Decision::Send { to, frame } if to == neighbour => Some(Arc::unwrap_or_clone(frame)),
        _ => None,
    });
    frames.collect()
}

fn repair(records: Vec<Record>) -> MeshFrame {
    MeshFrame::Records {
        root: EndpointId::NIL,
        more: false,
        flood: None,
        records,
    }
}

/// Who repairs with much that is older than it is here is offered the newer, and takes what it still lacks; an endpoint that
/// has not said that it is offered repairs is sent them.
#[test]
fn what_a_repair_is_behind_is_offered() {
    let long: Vec<String> = (0..30).map(|number| format!("{number:0100}")).collect();
    let node = |version| {
        let filter = Filter::from_prefixes(&long);
        Record::Node(
            Arc::new(NodeRecord {
                filter,
                ..node_record(3, version)
            }),
            None,
        )
    };
    let versions = Versions {
        id: id(3),
        incarnation: Incarnation(1),
        node: 5,
        links: 0,
    };
    let (root, list) = (EndpointId::NIL, vec![versions]);
    let offer = MeshFrame::Offer { root, list };
    for takes_offers in [true, false] {
        let mut mesh = mesh(1, "", 1);
        mesh.peer_up(id(2), Mono(0));
        let hash = mesh.digest();
        if takes_offers {
            mesh.receive(id(2), MeshFrame::Greeting(hash), Mono(0));
        } else {
            mesh.receive(id(2), MeshFrame::Digest(hash), Mono(0));
        }
        mesh.receive(id(2), repair(vec![node(5)]), Mono(1));
        sent(&mut mesh, id(2));
        mesh.receive(id(2), repair(vec![node(4)]), Mono(2));
        let answer = if takes_offers {
            offer.clone()
        } else {
            repair(vec![node(5)])
        };
        assert_eq!(sent(&mut mesh, id(2)), [answer]);
        // Whoever takes it up gets it, as the repair that it is.
        let ids = vec![id(3)];
        let accept = MeshFrame::Accept { root, ids };
        mesh.receive(id(2), accept.clone(), Mono(3));
        assert_eq!(sent(&mut mesh, id(2)), [repair(vec![node(5)])]);
        // What is offered here is taken up if it is newer, and once.
        let versions = Versions {
            node: 6,
            ..versions
        };
        let newer = MeshFrame::Offer {
            root,
            list: vec![versions],
        };
        mesh.receive(id(2), offer.clone(), Mono(4));
        assert_eq!(sent(&mut mesh, id(2)), []);
        mesh.receive(id(2), newer.clone(), Mono(5));
        assert_eq!(sent(&mut mesh, id(2)), [accept]);
        mesh.receive(id(2), repair(vec![node(6)]), Mono(6));
        mesh.receive(id(2), newer, Mono(7));
        assert_eq!(sent(&mut mesh, id(2)), []);
    }
}

#[test]
fn floods_are_cut_into_frames_of_bearable_size() {
    let long: Vec<String> = (0..100).map(|number| format!("{number:0100}")).collect();
    let record = |number: u8| {
        let mut node = mesh(number, "", 1).own_node();
        node.filter = Filter::from_prefixes(&long);
        Record::Node(Arc::new(node), None)
    };
    let records: Vec<Record> = (1..=20).map(record).collect();
    let parts = repair::cut(&records);
    assert!((4..=10).contains(&parts.len()), "{}", parts.len());
    assert_eq!(parts.concat(), records);
    assert!(repair::cut(&[]).is_empty());
}

/// A relay between an origin and a leaf, and another relay that may take its place.
struct Relay {
    mesh: Mesh,
    now: Mono,
    other: u8,
}

impl Relay {
    const ORIGIN: u8 = 2;
    const LEAF: u8 = 3;

    /// The way over this relay stands, alone.
    fn new() -> Self {
        let [origin, leaf] = [Self::ORIGIN, Self::LEAF].map(|number| key(id(number)));
        let is_preferred =
            |other: &u8| score(origin, leaf, key(id(*other))) > score(origin, leaf, key(id(1)));
        let mut relay = Self {
            mesh: mesh(1, "", 1),
            now: Mono(0),
            other: (4..=u8::MAX).find(is_preferred).unwrap(),
        };
        relay.mesh.peer_up(id(Self::ORIGIN), Mono(0));
        relay.mesh.peer_up(id(Self::LEAF), Mono(0));
        let mut leaf = node_record(Self::LEAF, 1);
        leaf.transit = false;
        leaf.filter = Filter::from_prefixes(["a"]);
        let leaf = vec![Record::Node(Arc::new(leaf), None)];
        relay.mesh.receive(id(Self::LEAF), flood(leaf), Mono(0));
        let origin = Record::Node(Arc::new(node_record(Self::ORIGIN, 1)), None);
        let other = Record::Node(Arc::new(node_record(relay.other, 1)), None);
        relay.hears(vec![origin, other]);
        relay.links(Self::ORIGIN, 1, &[1, relay.other]);
        relay.links(relay.other, 1, &[Self::ORIGIN]);
        // It announces both of its links.
        relay.pass(30);
        assert!(relay.leads_to_leaf());
        relay
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now.after(Duration::from_millis(millis));
        self.mesh.tick(self.now);
    }

    fn hears(&mut self, records: Vec<Record>) {
        let from = id(Self::ORIGIN);
        self.mesh.receive(from, flood(records), self.now);
    }

    fn links(&mut self, number: u8, version: u64, neighbours: &[u8]) {
        let links = LinkRecord {
            id: id(number),
            incarnation: Incarnation(1),
            version,
            neighbours: neighbours.iter().map(|number| id(*number)).collect(),
        };
        self.hears(vec![Record::Links(links, None)]);
    }

    /// The other relay has announced its link with the leaf.
    fn other_has_leaf(&mut self) {
        self.links(self.other, 2, &[Self::ORIGIN, Self::LEAF]);
    }

    /// Whether what the origin sends here goes on to the leaf.
    fn leads_to_leaf(&mut self) -> bool {
        let routes = self.mesh.routes();
        let slot = |number| routes.slot(id(number)).unwrap();
        let hops = routes.next_hops(slot(Self::ORIGIN), &routes.wanted(b"a"), None);
        hops.contains(&id(Self::LEAF))
    }
}

#[test]
fn the_way_before_a_change_stands_for_a_second() {
    let mut relay = Relay::new();
    relay.pass(1_500);
    relay.other_has_leaf();
    assert!(relay.leads_to_leaf());
    relay.pass(999);
    assert!(relay.leads_to_leaf());
    relay.pass(1);
    assert!(!relay.leads_to_leaf());
}

/// Whoever heard of the last change a moment earlier has settled by then, and announces what it has kept back.
#[test]
fn the_way_before_a_change_stands_where_the_view_has_not_quite_settled() {
    for stood in [900, 970] {
        let mut relay = Relay::new();
        relay.pass(stood);
        assert!(relay.mesh.settled.is_some());
        relay.other_has_leaf();
        assert!(relay.leads_to_leaf(), "after {stood} ms");
    }
}
