//! Captured handshakes replayed against us in Broker's place, and crossing dials in every order.

use proptest::prelude::*;

use super::*;
use crate::frame::{HEADER, Next};

const LIMIT: Duration = HANDSHAKE_TIMEOUT;

fn id(text: &str) -> EndpointId {
    text.parse().unwrap()
}

fn node() -> EndpointId {
    id("80000000-0000-4000-8000-000000000000")
}

fn peering(me: EndpointId, prefix: &str) -> Peering {
    let mut peering = Peering::new(me, LIMIT);
    peering.set_filter(Filter::from_prefixes([prefix]));
    peering
}

struct Capture {
    from_peer: Vec<Vec<u8>>,
    from_broker: Vec<Vec<u8>>,
}

/// The frames of a capture up to the end of the handshake, by direction.
fn capture(name: &str) -> Capture {
    capture_between(name, "broker->py")
}

/// The same for a capture whose frames of `broker` are those that we have to send.
fn capture_between(name: &str, broker: &str) -> Capture {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut capture = Capture {
        from_peer: Vec::new(),
        from_broker: Vec::new(),
    };
    for message in json["messages"].as_array().unwrap() {
        let hex = message["hex"].as_str().unwrap();
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let tag = bytes.get(HEADER).copied();
        if tag.is_some_and(|tag| !(1..=12).contains(&tag) && tag != 99) {
            break; // an envelope, which begins with an id: the handshake is over
        }
        if bytes.is_empty() {
            break; // the end of the connection
        }
        if message["direction"] == broker {
            capture.from_broker.push(bytes);
        } else {
            capture.from_peer.push(bytes);
        }
    }
    capture
}

#[derive(Default)]
struct Seen {
    sent: Vec<Vec<u8>>,
    established: Vec<(ConnectionId, EndpointId)>,
    closed: Vec<(ConnectionId, HandshakeError)>,
}

fn drain(peering: &mut Peering, seen: &mut Seen) {
    while let Some(action) = peering.poll() {
        match action {
            Action::Send(_, frame) => seen.sent.push(frame),
            Action::Established {
                connection, peer, ..
            } => {
                seen.established.push((connection, peer));
            }
            Action::Close { connection, reason } => seen.closed.push((connection, reason)),
        }
    }
}

/// Feeds the captured peer's frames on connection 1 to `peering`, which was dialled or accepted.
fn replay(peering: &mut Peering, capture: &Capture) -> Seen {
    let mut seen = Seen::default();
    for frame in &capture.from_peer {
        peering.frame(ConnectionId(1), &frame[HEADER..]);
    }
    drain(peering, &mut seen);
    seen
}

#[test]
fn an_acceptor_answers_as_broker_does() {
    let cases = [
        "handshake_client_originator",
        "handshake_client_responder",
        "error_data_tag_before_handshake",
        "error_drop_conn_unknown_code",
        "error_hello_bad_magic",
        "error_hello_min_0_max_0",
        "error_hello_min_0_max_255",
        "error_hello_min_2_max_9",
        "error_hello_trailing_bytes",
        "error_hello_truncated",
        "error_probe_then_hello",
        "error_unknown_tag_99",
        "error_version_select_2",
        "error_version_select_first",
        "error_zero_length_frame",
    ];
    for name in cases {
        let capture = capture(name);
        let mut peering = peering(node(), "/test");
        peering.accepted(ConnectionId(1), Mono(0));
        let seen = replay(&mut peering, &capture);
        assert_eq!(seen.sent.len(), capture.from_broker.len(), "{name}");
        for (sent, expected) in seen.sent.iter().zip(&capture.from_broker) {
            assert!(says_what_broker_says(sent, expected), "{name}");
        }
    }
}

/// Whether a frame is Broker's; the text of a refusal may say more behind Broker's words.
fn says_what_broker_says(sent: &[u8], expected: &[u8]) -> bool {
    let read = |frame: &[u8]| HandshakeMessage::read(&frame[HEADER..]);
    let (Ok(ours), Ok(theirs)) = (read(sent), read(expected)) else {
        return sent == expected;
    };
    match (ours, theirs) {
        (
            HandshakeMessage::DropConn { sender, code, text },
            HandshakeMessage::DropConn {
                sender: other,
                code: same,
                text: words,
            },
        ) => sender == other && code == same && text.starts_with(&words),
        _ => sent == expected,
    }
}

/// Whoever is refused for a version reads which it offered and which is spoken here.
#[test]
fn refusals_of_versions_name_both() {
    for (name, text) in [
        (
            "error_hello_min_2_max_9",
            "unsupported versions offered: 2 to 9, this side speaks 1",
        ),
        (
            "error_version_select_2",
            "unsupported version selected: 2, this side offered 1",
        ),
    ] {
        let mut peering = peering(node(), "/test");
        peering.accepted(ConnectionId(1), Mono(0));
        let seen = replay(&mut peering, &capture(name));
        let refusing = HandshakeError::Refusing {
            code: ErrorCode::PEER_INCOMPATIBLE,
            text: text.to_owned(),
        };
        assert_eq!(seen.closed, [(ConnectionId(1), refusing)], "{name}");
        let told = HandshakeMessage::read(&seen.sent.last().unwrap()[HEADER..]).unwrap();
        assert!(matches!(told, HandshakeMessage::DropConn { text: said, .. } if said == text));
    }
}

#[test]
fn a_dialler_answers_as_broker_does() {
    for (name, me, prefix) in [
        (
            "handshake_server_lo",
            "80000000-0000-4000-8000-000000000000",
            "/test",
        ),
        (
            "handshake_server_hi",
            "80000000-0000-4000-8000-000000000000",
            "/test",
        ),
        ("reconnect", "5314d385-f0e0-5489-b2ac-78137fa8e731", "/t"),
    ] {
        let capture = capture(name);
        let mut peering = peering(id(me), prefix);
        peering.dialled(ConnectionId(1), Mono(0));
        let seen = replay(&mut peering, &capture);
        assert_eq!(seen.sent, capture.from_broker, "{name}");
        assert_eq!(seen.established.len(), 1, "{name}");
    }
}

#[test]
fn a_second_connection_of_a_peer_is_refused_as_broker_does() {
    for (name, first) in [
        ("redundant_lo", "handshake_client_originator"),
        ("redundant_hi", "handshake_client_responder"),
    ] {
        let mut peering = peering(node(), "/test");
        peering.accepted(ConnectionId(1), Mono(0));
        assert_eq!(replay(&mut peering, &capture(first)).established.len(), 1);
        let second = capture(name);
        let mut seen = Seen::default();
        peering.accepted(ConnectionId(2), Mono(0));
        for frame in &second.from_peer {
            peering.frame(ConnectionId(2), &frame[HEADER..]);
        }
        drain(&mut peering, &mut seen);
        assert_eq!(seen.sent, second.from_broker, "{name}");
        assert!(matches!(
            seen.closed[..],
            [(_, HandshakeError::Redundant { .. })]
        ));
    }
}

/// Two connections of one peer, as captured; feeds the peer's frames in the given order of connections
/// and compares what goes out on each, and how it ends.
fn replay_two(peering: &mut Peering, captures: [&Capture; 2], order: &[usize]) -> Seen {
    let ids = [ConnectionId(1), ConnectionId(2)];
    let mut sent: BTreeMap<ConnectionId, Vec<Vec<u8>>> = BTreeMap::new();
    let mut seen = Seen::default();
    let mut frames = captures.map(|capture| capture.from_peer.iter());
    for step in 0..=order.len() {
        while let Some(action) = peering.poll() {
            match action {
                Action::Send(connection, frame) => sent.entry(connection).or_default().push(frame),
                Action::Established {
                    connection, peer, ..
                } => seen.established.push((connection, peer)),
                Action::Close { connection, reason } => seen.closed.push((connection, reason)),
            }
        }
        if let Some(at) = order.get(step) {
            let frame = frames[*at].next().unwrap();
            peering.frame(ids[*at], &frame[HEADER..]);
        }
    }
    assert!(frames.iter().all(|rest| rest.len() == 0));
    assert_eq!(sent[&ids[0]], captures[0].from_broker);
    assert_eq!(sent[&ids[1]], captures[1].from_broker);
    seen
}

/// Broker as the responder: it takes the connection that the other side chose first, and refuses the
/// other when it is chosen, too.
#[test]
fn crossing_dials_are_answered_as_broker_does_with_the_larger_id() {
    let dialled_by_us = capture("simultaneous_lo_inbound");
    let accepted = capture("simultaneous_lo_outbound");
    let mut peering = peering(node(), "/test");
    peering.dialled(ConnectionId(1), Mono(0));
    peering.accepted(ConnectionId(2), Mono(0));
    let seen = replay_two(
        &mut peering,
        [&dialled_by_us, &accepted],
        // The peer's hello on the second crosses the handshake on the first.
        &[0, 1, 0, 0, 1, 1, 0],
    );
    let peer = id("00000000-0000-4000-8000-000000000001");
    assert_eq!(seen.established, [(ConnectionId(1), peer)]);
    assert_eq!(
        seen.closed,
        [(ConnectionId(2), HandshakeError::Redundant { peer })]
    );
}

/// Broker as the originator: it goes on with the connection whose hello came first, and closes the
/// other once that one is complete.
#[test]
fn crossing_dials_are_answered_as_broker_does_with_the_smaller_id() {
    let dialled_by_us = capture("simultaneous_hi_inbound");
    let accepted = capture("simultaneous_hi_outbound");
    let mut peering = peering(node(), "/test");
    peering.dialled(ConnectionId(1), Mono(0));
    peering.accepted(ConnectionId(2), Mono(0));
    let seen = replay_two(&mut peering, [&dialled_by_us, &accepted], &[0, 1, 0, 1]);
    let peer = id("ffffffff-ffff-4fff-bfff-fffffffffffe");
    assert_eq!(seen.established, [(ConnectionId(2), peer)]);
    assert_eq!(
        seen.closed,
        [(ConnectionId(1), HandshakeError::Redundant { peer })]
    );
}

/// Both ends of two C++ endpoints' crossing dials.
#[test]
fn crossing_dials_of_two_brokers_are_answered_as_either_does() {
    let ids = ["9bd369bb", "1505ef72"].map(|start| {
        let text = std::fs::read_to_string(format!(
            "{}/tests/vectors/cpp_crossing_dial_1.json",
            env!("CARGO_MANIFEST_DIR")
        ));
        let json: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
        let messages = json["messages"].as_array().unwrap();
        let senders = messages
            .iter()
            .filter_map(|message| message["decoded"]["sender_id"].as_str());
        id(senders
            .into_iter()
            .find(|id| id.starts_with(start))
            .unwrap())
    });
    let empty = |me| Peering::new(me, LIMIT);
    let [larger, smaller] = ids;

    // The smaller id accepted the first connection and dialled the second.
    let first = capture_between("cpp_crossing_dial_1", "server->client");
    let second = capture_between("cpp_crossing_dial_2", "client->server");
    let mut peering = empty(smaller);
    peering.accepted(ConnectionId(1), Mono(0));
    peering.dialled(ConnectionId(2), Mono(0));
    let seen = replay_two(&mut peering, [&first, &second], &[0, 1, 1, 0]);
    assert_eq!(seen.established, [(ConnectionId(1), larger)]);
    let redundant = HandshakeError::Redundant { peer: larger };
    assert_eq!(seen.closed, [(ConnectionId(2), redundant)]);

    let first = capture_between("cpp_crossing_dial_1", "client->server");
    let second = capture_between("cpp_crossing_dial_2", "server->client");
    let mut peering = empty(larger);
    peering.dialled(ConnectionId(1), Mono(0));
    peering.accepted(ConnectionId(2), Mono(0));
    let seen = replay_two(&mut peering, [&first, &second], &[0, 1, 0, 0, 0, 1]);
    assert_eq!(seen.established, [(ConnectionId(1), smaller)]);
    let redundant = HandshakeError::Redundant { peer: smaller };
    assert_eq!(seen.closed, [(ConnectionId(2), redundant)]);
}

/// Broker takes both, and cannot use the first and never finishes the second; we close at once.
#[test]
fn the_nil_id_and_our_own_are_refused() {
    for (name, expected) in [
        ("error_nil_id", HandshakeError::NilId),
        ("error_equal_ids", HandshakeError::OwnId),
    ] {
        let mut peering = peering(node(), "/test");
        peering.accepted(ConnectionId(1), Mono(0));
        assert_eq!(
            replay(&mut peering, &capture(name)).closed,
            [(ConnectionId(1), expected)]
        );
    }
}

/// Bytes that are no text grew threefold on their way back: the answer to a `drop_conn` was larger than
/// a frame of a handshake may be, and a megabyte of a stranger's words went into the log.
#[test]
fn long_words_of_a_peer_are_cut() {
    let mut drop_conn = vec![9, 0x5a, 0x45, 0x45, 0x4b];
    drop_conn.extend_from_slice(node().as_bytes());
    for code in [ErrorCode::LOGIC_ERROR.0, 200] {
        let mut payload = drop_conn.clone();
        // 1,000,000 bytes of them.
        payload.extend_from_slice(&[code, 0xc0, 0x84, 0x3d]);
        payload.resize(payload.len() + 1_000_000, 0xff);
        let mut peering = peering(id("00000000-0000-4000-8000-000000000001"), "/test");
        peering.accepted(ConnectionId(1), Mono(0));
        peering.frame(ConnectionId(1), &payload);
        let mut seen = Seen::default();
        drain(&mut peering, &mut seen);
        assert!(seen.sent.iter().all(|frame| frame.len() < 1100), "{code}");
        let [(_, reason)] = &seen.closed[..] else {
            panic!("{:?}", seen.closed);
        };
        let words = reason.to_string();
        assert!(words.contains('\u{fffd}') && words.len() < 1100, "{code}");
    }
}

#[test]
fn silence_ends_after_the_time_limit() {
    let mut peering = peering(node(), "/test");
    peering.accepted(ConnectionId(1), Mono(5));
    assert_eq!(peering.oldest(), Some(ConnectionId(1)));
    assert_eq!(peering.next_timeout(), Some(Mono(5).after(LIMIT)));
    peering.handle_timeout(Mono(4).after(LIMIT));
    assert_eq!(peering.pending(), 1);
    peering.handle_timeout(Mono(5).after(LIMIT));
    let mut seen = Seen::default();
    drain(&mut peering, &mut seen);
    assert_eq!(
        seen.closed,
        [(ConnectionId(1), HandshakeError::Timeout(LIMIT))]
    );
    assert_eq!(peering.pending(), 0);
}

#[test]
fn a_filter_that_changes_during_the_handshake_is_announced_again() {
    let capture = capture("handshake_client_originator");
    let mut peering = peering(node(), "/test");
    peering.accepted(ConnectionId(1), Mono(0));
    for (at, frame) in capture.from_peer.iter().enumerate() {
        if at == 3 {
            peering.set_filter(Filter::from_prefixes(["/test", "/more"]));
        }
        peering.frame(ConnectionId(1), &frame[HEADER..]);
    }
    let announce = std::iter::from_fn(|| peering.poll())
        .find_map(|action| match action {
            Action::Established { announce, .. } => Some(announce),
            _ => None,
        })
        .unwrap();
    assert!(announce);
}

/// Two endpoints joined by in-memory connections, each a FIFO in both directions.
struct Pair {
    ends: [Peering; 2],
    wires: BTreeMap<ConnectionId, [VecDeque<Vec<u8>>; 2]>,
    seen: [Seen; 2],
}

impl Pair {
    fn new(first: EndpointId, second: EndpointId) -> Self {
        Self {
            ends: [peering(first, "/a"), peering(second, "/b")],
            wires: BTreeMap::new(),
            seen: Default::default(),
        }
    }

    fn dial(&mut self, from: usize, connection: ConnectionId) {
        self.wires.insert(connection, Default::default());
        self.ends[from].dialled(connection, Mono(0));
        self.ends[1 - from].accepted(connection, Mono(0));
        self.carry_out();
    }

    fn carry_out(&mut self) {
        for end in 0..2 {
            while let Some(action) = self.ends[end].poll() {
                match action {
                    Action::Send(connection, frame) => {
                        self.wires.get_mut(&connection).unwrap()[1 - end].push_back(frame);
                    }
                    Action::Established {
                        connection, peer, ..
                    } => {
                        self.seen[end].established.push((connection, peer));
                    }
                    Action::Close { connection, reason } => {
                        self.seen[end].closed.push((connection, reason));
                    }
                }
            }
        }
    }

    /// Delivers one frame of the wires that hold one, chosen by `choice`; says whether there was one.
    fn step(&mut self, choice: usize) -> bool {
        let ready: Vec<(ConnectionId, usize)> = self
            .wires
            .iter()
            .flat_map(|(connection, ends)| {
                (0..2)
                    .filter(|end| !ends[*end].is_empty())
                    .map(|end| (*connection, end))
            })
            .collect();
        if ready.is_empty() {
            return false;
        }
        let (connection, end) = ready[choice % ready.len()];
        let frame = self.wires.get_mut(&connection).unwrap()[end]
            .pop_front()
            .unwrap();
        let payload = &frame[HEADER..];
        assert_eq!(
            frame::next(&frame, 1 << 20),
            Ok(Next::Complete(payload.len()))
        );
        self.ends[end].frame(connection, payload);
        self.carry_out();
        true
    }
}

proptest! {
    /// Whatever the order in which frames arrive, crossing dials end in one peering, over the same
    /// connection at both ends.
    #[test]
    fn crossing_dials_leave_one_connection(
        swap in any::<bool>(), dials in prop::collection::vec(0usize..2, 1..5),
        choices in prop::collection::vec(any::<usize>(), 200)
    ) {
        let ids = [id("00000000-0000-4000-8000-000000000001"), node()];
        let mut pair = Pair::new(ids[usize::from(swap)], ids[usize::from(!swap)]);
        for (at, from) in (1..).zip(&dials) {
            pair.dial(*from, ConnectionId(at));
        }
        let mut steps = choices.into_iter().cycle();
        while pair.step(steps.next().unwrap()) {}
        prop_assert_eq!(pair.seen[0].established.len(), 1);
        prop_assert_eq!(pair.seen[1].established.len(), 1);
        prop_assert_eq!(pair.seen[0].established[0].0, pair.seen[1].established[0].0);
        prop_assert_eq!(pair.ends[0].pending() + pair.ends[1].pending(), 0);
    }

    #[test]
    fn garbage_never_panics(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6)) {
        let mut peering = peering(node(), "/test");
        peering.accepted(ConnectionId(1), Mono(0));
        for frame in &frames {
            peering.frame(ConnectionId(1), frame);
        }
    }
}

/// What is spoken, by what the two sides offer: version 2 if both do and one of them relays.
#[test]
fn version_2_is_spoken_where_both_offer_it_and_one_relays() {
    let relay = Offer::V2 { relays: true };
    let leaf = Offer::V2 { relays: false };
    for (dialler, acceptor, expected) in [
        (Offer::V1, Offer::V1, Protocol::V1),
        (Offer::V1, relay, Protocol::V1),
        (relay, Offer::V1, Protocol::V1),
        (leaf, leaf, Protocol::V1),
        (leaf, relay, Protocol::V2),
        (relay, leaf, Protocol::V2),
        (relay, relay, Protocol::V2),
        (Offer::Apart, relay, Protocol::V1),
        (leaf, Offer::Apart, Protocol::V1),
        (Offer::Apart, Offer::V1, Protocol::V1),
    ] {
        // Either may be the originator, which has the smaller id.
        for (left, right) in [(1, 2), (2, 1)] {
            let id = |byte| EndpointId::from_random([byte; 16]);
            let offers = [dialler, acceptor];
            let mut sides = [left, right].map(|byte| Peering::new(id(byte), HANDSHAKE_TIMEOUT));
            for (side, offer) in sides.iter_mut().zip(offers) {
                side.offer = offer;
                side.set_filter(Filter::from_prefixes(["/t"]));
            }
            let connection = ConnectionId(1);
            sides[0].dialled(connection, Mono::default());
            sides[1].accepted(connection, Mono::default());
            let mut spoken = Vec::new();
            let mut is_busy = true;
            while is_busy {
                is_busy = false;
                for at in 0..2 {
                    while let Some(action) = sides[at].poll() {
                        is_busy = true;
                        match action {
                            Action::Send(_, frame) => {
                                sides[1 - at].frame(connection, &frame[HEADER..]);
                            }
                            Action::Established {
                                protocol,
                                filter,
                                is_guest,
                                ..
                            } => {
                                spoken.push((protocol, filter.is_empty()));
                                let is_other_outside = offers[1 - at] == Offer::V1;
                                let is_in_mesh = matches!(offers[at], Offer::V2 { .. });
                                assert_eq!(is_guest, is_other_outside && is_in_mesh, "{offers:?}");
                            }
                            Action::Close { reason, .. } => panic!("{reason}"),
                        }
                    }
                }
            }
            let has_no_filter = expected == Protocol::V2;
            assert_eq!(spoken, [(expected, has_no_filter); 2], "{offers:?}");
        }
    }
}

/// Two that name different clusters do not peer, whoever dials and whoever is the originator: both know both names.
#[test]
fn endpoints_of_different_clusters_refuse_one_another() {
    let cluster = |name: &str| Some(ClusterName::new(name).unwrap());
    let relay = Offer::V2 { relays: true };
    for (clusters, offers, peers) in [
        ([cluster("a"), cluster("a")], [relay, relay], true),
        ([cluster("a"), None], [relay, relay], true),
        ([None, cluster("b")], [relay, relay], true),
        ([cluster("a"), None], [Offer::V1, relay], true),
        ([cluster("a"), cluster("b")], [Offer::V1, relay], false),
        ([cluster("a"), cluster("b")], [relay, Offer::V1], false),
        ([cluster("a"), cluster("b")], [relay, relay], false),
        ([cluster("a"), cluster("b")], [Offer::Apart, relay], false),
    ] {
        for (left, right) in [(1, 2), (2, 1)] {
            let side = |byte: u8, at: usize| {
                Peering::new(EndpointId::from_random([byte; 16]), HANDSHAKE_TIMEOUT)
                    .with_offer(offers[at])
                    .of_cluster(clusters[at].clone())
                    .with_largest_frame(1000 + at)
            };
            let mut sides = [side(left, 0), side(right, 1)];
            let connection = ConnectionId(1);
            sides[0].dialled(connection, Mono::default());
            sides[1].accepted(connection, Mono::default());
            let mut established = Vec::new();
            let mut closed = [None, None];
            let mut is_busy = true;
            while is_busy {
                is_busy = false;
                for at in 0..2 {
                    while let Some(action) = sides[at].poll() {
                        is_busy = true;
                        match action {
                            Action::Send(_, frame) => {
                                sides[1 - at].frame(connection, &frame[HEADER..]);
                            }
                            Action::Established {
                                largest_frame,
                                is_guest,
                                ..
                            } => {
                                // Who says nothing at all is a peer of version 1.
                                let says =
                                    offers[1 - at] != Offer::V1 || clusters[1 - at].is_some();
                                assert_eq!(largest_frame, says.then_some(1000 + 1 - at));
                                let is_outside = offers[1 - at] == Offer::V1;
                                assert_eq!(is_guest, is_outside && offers[at] == relay);
                                established.push(at);
                            }
                            Action::Close { reason, .. } => closed[at] = Some(reason),
                        }
                    }
                }
            }
            assert_eq!(established.len(), if peers { 2 } else { 0 }, "{clusters:?}");
            if peers {
                assert_eq!(closed, [None, None]);
                continue;
            }
            for at in 0..2 {
                let expected = HandshakeError::OtherCluster {
                    ours: clusters[at].clone().unwrap(),
                    theirs: clusters[1 - at].clone().unwrap(),
                };
                assert_eq!(closed[at], Some(expected), "{at} of {left} and {right}");
            }
        }
    }
}

/// Who has not offered version 2 refuses it, as Broker refuses any but 1.
#[test]
fn a_version_that_was_not_offered_is_refused() {
    let mut peering = Peering::new(EndpointId::from_random([2; 16]), HANDSHAKE_TIMEOUT);
    let connection = ConnectionId(1);
    peering.dialled(connection, Mono::default());
    let select = HandshakeMessage::VersionSelect {
        sender: EndpointId::from_random([1; 16]),
        version: VERSION_2,
        extension: None,
    };
    peering.frame(connection, &select.frame()[HEADER..]);
    let closed = std::iter::from_fn(|| peering.poll()).find_map(|action| match action {
        Action::Close { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(matches!(
        closed,
        Some(HandshakeError::Refusing { code, .. }) if code == ErrorCode::PEER_INCOMPATIBLE
    ));
}
