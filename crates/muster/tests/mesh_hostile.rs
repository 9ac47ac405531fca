//! What a member of a mesh can do that no honest one does: it costs itself, is counted, and the others
//! go on.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/member.rs"]
mod member;

use std::sync::Arc;
use std::time::Duration;

use member::Member;
use muster::wire::counters::DropCause;
use muster::wire::frame;
use muster::wire::mesh::codec::{FrameError, LinkFrame, MeshFrame, MeshMessage, OwnedFrame};
use muster::wire::mesh::{NodeRecord, Record};
use muster::wire::{Class, EndpointId, Filter, Incarnation, Kind, MessageId, QueueLimits, Topic};
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, LossReason, Status, Subscriber};
use muster_data::{Data, Encode};
use muster_test_support::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn id(byte: u8) -> EndpointId {
    EndpointId::from_random([byte; 16])
}

impl Member {
    /// Waits until the other side has closed the connection.
    async fn is_ended(&mut self) {
        let end =
            async { while matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {} };
        within(end).await;
    }

    async fn send_raw(&mut self, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, |out| out.extend_from_slice(payload));
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn publish(&mut self, origin: EndpointId, sequence: u64, topic: &str, payload: Vec<u8>) {
        self.publish_for(None, (origin, sequence), topic, payload)
            .await;
    }

    async fn publish_for(
        &mut self,
        guest: Option<EndpointId>,
        (origin, sequence): (EndpointId, u64),
        topic: &str,
        payload: Vec<u8>,
    ) {
        let batch = batch_for(guest, (origin, sequence), topic, payload);
        self.send(&batch).await;
    }
}

fn batch(origin: EndpointId, sequence: u64, topic: &str, payload: Vec<u8>) -> OwnedFrame {
    batch_for(None, (origin, sequence), topic, payload)
}

fn batch_for(
    guest: Option<EndpointId>,
    (origin, sequence): (EndpointId, u64),
    topic: &str,
    payload: Vec<u8>,
) -> OwnedFrame {
    let message = MeshMessage {
        id: MessageId { origin, sequence },
        hops: 16,
        kind: Kind::Data,
        topic: topic.as_bytes().to_vec(),
        payload,
        guest,
    };
    OwnedFrame::Batch {
        class: Class::Event,
        messages: vec![message],
    }
}

fn encoded(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    Data::from(value).encode(&mut bytes);
    bytes
}

/// An endpoint with a subscriber to `/t`, and the address of its door.
async fn victim() -> (Endpoint, Subscriber, String) {
    victim_with(EndpointConfig::default()).await
}

async fn victim_with(config: EndpointConfig) -> (Endpoint, Subscriber, String) {
    let config = EndpointConfig {
        id: Some(id(1)),
        ..config
    };
    let victim = Endpoint::start(config).unwrap();
    let limits = QueueLimits {
        messages: 10_000,
        bytes: 1 << 20,
    };
    let subscriber = victim.subscribe_with_statuses(["/t"], limits).await;
    let address = "127.0.0.1:0".parse().unwrap();
    let address = victim.listen(address, Exposure::Guarded).await.unwrap();
    (victim, subscriber, address.to_string())
}

fn counter(endpoint: &Endpoint, name: &str) -> u64 {
    let counters = endpoint.counts().mesh;
    let all = counters.iter().filter(|counter| counter.key() == name);
    all.map(|counter| counter.value).sum()
}

/// The values until one that says that it is the last, each with its origin.
async fn values_until(subscriber: &mut Subscriber, last: u64) -> Vec<(EndpointId, Data)> {
    let mut values = Vec::new();
    within(async {
        while values
            .last()
            .is_none_or(|(_, value)| *value != Data::from(last))
        {
            if let Some(Delivery::Batch(batch)) = subscriber.receive().await {
                for message in batch.iter() {
                    let value = muster_data::DataRef::from_validated(message.payload).to_data();
                    values.push((message.from, value));
                }
            }
        }
    })
    .await;
    values
}

/// Why the member's peering ended.
async fn lost(subscriber: &mut Subscriber) -> LossReason {
    within(async {
        loop {
            if let Some(Delivery::Status(Status::PeerLost { reason, .. })) =
                subscriber.receive().await
            {
                return reason;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_may_not_be_cost_themselves_and_are_counted() {
    let (endpoint, mut subscriber, address) = victim().await;
    let mut member = Member::join(id(2), &address).await;
    member.publish(id(2), 1, "/t", encoded(1)).await;
    // The same again, one that the victim has published, one of nobody, one far below the window.
    member.publish(id(2), 1, "/t", encoded(2)).await;
    member.publish(id(1), 7, "/t", encoded(3)).await;
    member.publish(id(9), 1, "/t", encoded(4)).await;
    member.publish(id(2), 100_000, "/t", encoded(5)).await;
    member.publish(id(2), 3, "/t", encoded(6)).await;
    member.publish(id(2), 0, "/t", encoded(7)).await;
    // A value that is none, and then all is well.
    member.publish(id(2), 100_001, "/t", vec![0xff, 1, 2]).await;
    member.publish(id(2), 100_002, "/t", encoded(99)).await;
    let values = values_until(&mut subscriber, 99).await;
    let expected = [1u64, 5, 99].map(|value| (id(2), Data::from(value)));
    assert_eq!(values, expected);
    for (name, expected) in [
        ("mesh_duplicate", 1),
        ("mesh_returned", 1),
        ("mesh_unknown_origin", 1),
        ("mesh_too_old", 2),
    ] {
        assert_eq!(counter(&endpoint, name), expected, "{name}");
    }
    let refused = endpoint.counts().peers[0].refused.total();
    assert_eq!(refused, 1);
}

/// A member publishes for peers of version 1, and for nobody who is in the mesh.
/// The messages of a run are held to what those of a batch are, each by itself.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_run_that_may_not_be_cost_themselves_and_are_counted() {
    let (endpoint, mut subscriber, address) = victim().await;
    let mut member = Member::join(id(2), &address).await;
    let message =
        |origin, sequence, topic: &str, payload| match batch(origin, sequence, topic, payload) {
            OwnedFrame::Batch { mut messages, .. } => messages.remove(0),
            _ => unreachable!("a batch"),
        };
    let class = Class::Event;
    let runs = [
        // The same twice, one far ahead, one below the window then, a value that is none, a topic that may not be, a command
        // that nobody here takes, and one that is as it should be behind one that comes late.
        vec![
            message(id(2), 1, "/t", encoded(1)),
            message(id(2), 1, "/t", encoded(2)),
            message(id(2), 100_000, "/t", encoded(5)),
            message(id(2), 3, "/t", encoded(6)),
            message(id(2), 100_001, "/t", vec![0xff, 1, 2]),
            message(id(2), 100_002, "<$>/local/t", encoded(8)),
            message(id(2), 100_004, "/t", encoded(9)),
            message(id(2), 100_003, "/t/late", encoded(10)),
            message(id(2), 100_005, "/t", encoded(11)),
        ],
        // Of nobody, and the victim's own.
        vec![message(id(9), 1, "/t", encoded(3)); 2],
        vec![message(id(1), 7, "/t", encoded(4))],
        vec![message(id(2), 100_006, "/t", encoded(99))],
    ];
    for messages in runs {
        member.send(&OwnedFrame::Run { class, messages }).await;
    }
    let values = values_until(&mut subscriber, 99).await;
    let expected = [1u64, 5, 9, 10, 11, 99].map(|value| (id(2), Data::from(value)));
    assert_eq!(values, expected);
    for (name, expected) in [
        ("mesh_duplicate", 1),
        ("mesh_returned", 1),
        ("mesh_unknown_origin", 2),
        ("mesh_too_old", 1),
        ("mesh_reordered", 1),
    ] {
        assert_eq!(counter(&endpoint, name), expected, "{name}");
    }
    let counts = endpoint.counts();
    assert_eq!(counts.peers[0].refused.total(), 2);
    assert_eq!(counts.peers[0].messages_in, 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_for_an_endpoint_of_the_mesh() {
    let (_endpoint, mut subscriber, address) = victim().await;
    let mut member = Member::join(id(2), &address).await;
    for (sequence, guest) in [(1, id(1)), (2, id(2)), (3, id(9))] {
        let value = encoded(sequence);
        member
            .publish_for(Some(guest), (id(2), sequence), "/t", value)
            .await;
    }
    member.publish(id(2), 4, "/t", encoded(99)).await;
    let values = values_until(&mut subscriber, 99).await;
    let expected = [(id(9), Data::from(3u64)), (id(2), Data::from(99u64))];
    assert_eq!(values, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_cannot_be_read_end_the_peering_with_their_name() {
    for (payload, error) in [
        (&[1u8, 2, 0, 5, 0][..], FrameError::Malformed("BATCH")),
        (&[1, 9, 0, 1], FrameError::Malformed("BATCH")),
        (
            &[1, 2, 0, 1, 7, 2, 16, 2, b'/', b't', 1, 0],
            FrameError::Malformed("BATCH"),
        ),
        // Compressed: no frame of zstd's, a size that is none, one that nobody may take.
        (
            &[1, 2, 1, 9, 0x28, 0xb5],
            FrameError::Malformed("compressed"),
        ),
        (&[1, 2, 1, 0], FrameError::Malformed("compressed")),
        (
            &[1, 2, 1, 0xff, 0xff, 0xff, 1],
            FrameError::OverLimit("compressed"),
        ),
        (
            &[9, 3, 1, 0, 3, 3, 9, 1, 2],
            FrameError::Malformed("compressed"),
        ),
        (&[2, 0, 0], FrameError::Malformed("RECORDS")),
        (&[3, 7], FrameError::Malformed("DIGEST")),
        (&[7, 9], FrameError::Malformed("JOIN")),
        (&[10, 2, 0], FrameError::Malformed("ECHO")),
        (&[], FrameError::Empty),
    ] {
        let (_endpoint, mut subscriber, address) = victim().await;
        let mut member = Member::join(id(2), &address).await;
        // Kinds from the future are passed over.
        member.send_raw(&[0xee, 1, 2, 3]).await;
        member.send_raw(payload).await;
        let lost = lost(&mut subscriber).await;
        assert_eq!(lost, LossReason::MeshFrame(error));
    }
}

/// A subscriber that asks for order hears no message behind a later one; others do.
#[tokio::test(flavor = "multi_thread")]
async fn messages_behind_later_ones_are_dropped_for_who_asks_for_order() {
    let (endpoint, mut subscriber, address) = victim().await;
    let mut ordered = endpoint.subscribe_ordered(["/t"]).await;
    let mut member = Member::join(id(2), &address).await;
    for sequence in [1, 4, 2, 5, 3, 6] {
        member
            .publish(id(2), sequence, "/t", encoded(sequence))
            .await;
    }
    member.publish(id(2), 99, "/t", encoded(99)).await;
    let numbers = |values: Vec<(EndpointId, Data)>| -> Vec<Data> {
        values.into_iter().map(|(_, value)| value).collect()
    };
    let heard = numbers(values_until(&mut subscriber, 99).await);
    assert_eq!(heard, [1u64, 4, 2, 5, 3, 6, 99].map(Data::from));
    let heard = numbers(values_until(&mut ordered, 99).await);
    assert_eq!(heard, [1u64, 4, 5, 6, 99].map(Data::from));
    assert_eq!(counter(&endpoint, "mesh_reordered"), 2);
    let dropped = endpoint.counts().subscribers_dropped.by_cause();
    assert_eq!(dropped.get(&DropCause::Reordered), Some(&2));
}

/// Parts that make no whole cost the message, and are kept to a bound.
#[tokio::test(flavor = "multi_thread")]
async fn parts_that_do_not_fit_cost_their_message_only() {
    let (endpoint, mut subscriber, address) = victim().await;
    let mut member = Member::join(id(2), &address).await;
    let part = |class, number, index, last| OwnedFrame::Fragment {
        class,
        number,
        index,
        last,
        bytes: vec![7; 1000],
    };
    for (class, number, index, last) in [
        (Class::Bulk, 1, 5, true),
        (Class::Event, 2, 0, true),
        (Class::Bulk, 3, 0, false),
        (Class::Bulk, 3, 2, true),
        (Class::Bulk, u64::MAX, 0, false),
        (Class::Bulk, u64::MAX, u64::MAX, false),
    ] {
        member.send(&part(class, number, index, last)).await;
    }
    // More than a frame may have, one part behind the other.
    let limit = endpoint.config().frame_limit as u64;
    let bytes = vec![7; 1 << 20];
    for index in 0..limit / (1 << 20) + 2 {
        let part = OwnedFrame::Fragment {
            class: Class::Bulk,
            number: 8,
            index,
            last: false,
            bytes: bytes.clone(),
        };
        member.send(&part).await;
    }
    member.publish(id(2), 1, "/t", encoded(99)).await;
    let values = values_until(&mut subscriber, 99).await;
    assert_eq!(values, [(id(2), Data::from(99u64))]);
    assert_eq!(counter(&endpoint, "mesh_fragments_lost"), 6);
    // A whole that is no batch is a frame that cannot be read.
    member.send(&part(Class::Bulk, 9, 0, true)).await;
    let malformed = LossReason::MeshFrame(FrameError::Malformed("cut BATCH"));
    assert_eq!(lost(&mut subscriber).await, malformed);
}

/// Messages that come in parts and never come to their end have one bound over all links: whoever has been at one for the
/// longest time makes room, and the others can finish.
#[tokio::test(flavor = "multi_thread")]
async fn unfinished_parts_of_many_links_have_one_bound() {
    const PART: usize = 1 << 20;
    let config = EndpointConfig {
        frame_limit: 4 * PART,
        unfinished_frames: 16 * PART,
        ..EndpointConfig::default()
    };
    let (endpoint, _subscriber, address) = victim_with(config).await;
    // A message of more than three parts.
    let value = Data::from("x".repeat(3 * PART + PART / 2));
    let mut payload = Vec::new();
    value.encode(&mut payload);
    let given_up = || counter(&endpoint, "unfinished_frames_given_up");
    let mut members = Vec::new();
    for number in 2..14 {
        let mut member = Member::shake_hands(id(number), &address).await;
        let batch = batch(id(number), 1, "/large", payload.clone());
        let mut body = Vec::new();
        batch.write(&mut member.encoder, &mut body);
        // Behind its length and its kind.
        let body = body.split_off(frame::HEADER + 1);
        let parts = body.chunks(PART).enumerate();
        let mut parts: Vec<_> = parts
            .map(|(index, bytes)| OwnedFrame::Fragment {
                class: Class::Bulk,
                number: 1,
                index: index as u64,
                last: index == 3,
                bytes: bytes.to_vec(),
            })
            .collect();
        let end = parts.pop().unwrap();
        for part in &parts {
            member.send(part).await;
        }
        members.push((member, end));
    }
    // Twelve of three parts are under way, and no more than five fit.
    for (mut oldest, _) in members.drain(..7) {
        oldest.is_ended().await;
    }
    assert!((7..12).contains(&given_up()), "{}", given_up());
    let (mut newest, end) = members.pop().unwrap();
    newest.send(&end).await;
    // It is whole, and of one who has not joined.
    within(async {
        while counter(&endpoint, "mesh_unknown_origin") < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut peers = endpoint.counts().peers.into_iter();
    let newest = peers.find(|report| report.peer.id == id(13)).unwrap();
    assert!(newest.connected && newest.messages_in == 1);
    assert_eq!(counter(&endpoint, "mesh_fragments_lost"), 0);
}

/// Whoever grants nothing costs its own queue, and whoever grants absurd amounts gains nothing.
#[tokio::test(flavor = "multi_thread")]
async fn credit_that_never_comes_costs_one_queue() {
    let (endpoint, _subscriber, address) = victim().await;
    let honest = Endpoint::start(EndpointConfig::default()).unwrap();
    let mut heard = honest.subscribe(["/member"]).await;
    within(honest.peer(&address, None)).await.unwrap();
    let mut member = Member::join(id(2), &address).await;
    for _ in 0..3 {
        for (class, bytes) in [
            (Class::Interactive, u64::MAX),
            (Class::Event, 0),
            (Class::Control, u64::MAX),
        ] {
            let credit = LinkFrame::Credit { class, bytes };
            member.send(&credit.into()).await;
        }
    }
    member
        .mesh
        .subscribe(Filter::from_prefixes(["/member"]), member.now());
    let credited = || {
        let counts = endpoint.counts();
        let mut peers = counts.peers.iter();
        peers.any(|peer| peer.peer.id == id(2) && peer.credit_waits > 0)
    };
    let mut publisher = endpoint.publisher();
    let topic = Topic::new("/member").unwrap();
    within(async {
        while !credited() {
            member.pump().await;
            let _ = publisher.publish(&topic, &Data::from(1u64));
        }
    })
    .await;
    for _ in 0..100_000 {
        let limit = Duration::from_millis(0);
        let _ = publisher
            .publish_waiting(&topic, &Data::from(2u64), limit)
            .await;
    }
    let _ = publisher.publish(&topic, &Data::from(99u64));
    assert!(values_until(&mut heard, 99).await.len() > 50_000);
    let counts = endpoint.counts();
    for peer in &counts.peers {
        let is_member = peer.peer.id == id(2);
        assert_eq!(peer.dropped.total() > 30_000, is_member, "{peer:?}");
        assert!(peer.queued <= 65_536);
    }
    // It does not hold up the end either.
    within(endpoint.shut_down()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_without_end_are_remembered_to_a_bound() {
    let (endpoint, mut subscriber, address) = victim().await;
    let mut member = Member::join(id(2), &address).await;
    for part in 0..20u16 {
        let records = (0..500u16).map(|number| {
            let mut bytes = [7; 16];
            bytes[..2].copy_from_slice(&(part * 500 + number).to_be_bytes());
            Record::Node(
                Arc::new(NodeRecord {
                    id: EndpointId::from_random(bytes),
                    incarnation: Incarnation(1),
                    version: 1,
                    transit: false,
                    ready: true,
                    name: "x".repeat(255),
                    role: String::new(),
                    machine: String::new(),
                    filter: Filter::from_prefixes(["/t"]),
                    homes: false,
                    guests: Vec::new(),
                }),
                None,
            )
        });
        let records = MeshFrame::Records {
            root: EndpointId::NIL,
            more: false,
            flood: None,
            records: records.collect(),
        };
        member.send(&records.into()).await;
    }
    member.publish(id(2), 1, "/t", encoded(99)).await;
    values_until(&mut subscriber, 99).await;
    assert!(endpoint.mesh().len() <= 4096, "{}", endpoint.mesh().len());
}

/// Bytes at random behind every kind: the victim lives, and the next member joins.
#[tokio::test(flavor = "multi_thread")]
async fn noise_ends_no_more_than_its_peering() {
    let (endpoint, mut subscriber, address) = victim().await;
    let mut noise = 0x9e37_79b9_7f4a_7c15u64;
    for kind in 0..=11u8 {
        let mut member = Member::join(id(10 + kind), &address).await;
        for length in [1usize, 3, 9, 40, 400] {
            let mut payload = vec![kind];
            for _ in 0..length {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                payload.push(noise.to_le_bytes()[0]);
            }
            let mut bytes = Vec::new();
            frame::write(&mut bytes, |out| out.extend_from_slice(&payload));
            // It may be gone already.
            let _ = member.stream.write_all(&bytes).await;
        }
    }
    let mut member = Member::join(id(2), &address).await;
    member.publish(id(2), 1, "/t", encoded(99)).await;
    values_until(&mut subscriber, 99).await;
    within(async {
        while endpoint.peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Who waits for the room of one peer has given its message to the others before: later ones would make
/// it too old for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_nothing_delays_no_message_to_others() {
    let mut config = EndpointConfig {
        id: Some(id(0x80)),
        ..EndpointConfig::default()
    };
    config.data_queue.messages = 16_384;
    config.data_queue.bytes = 16 << 20;
    let author = Endpoint::start(config).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let address = author.listen(address, Exposure::Guarded).await.unwrap();
    let member = Member::join(id(0x70), &address.to_string()).await;
    let other = Endpoint::start(EndpointConfig::default()).unwrap();
    let mut subscriber = other.subscribe(["/member", "/other"]).await;
    within(other.peer(&address.to_string(), None))
        .await
        .unwrap();
    let topic = |text: &str| Topic::new(text).unwrap();
    let mut publisher = author.publisher();
    // Until the one that reads nothing has no room.
    let large = Data::from("x".repeat(1 << 20));
    for _ in 0..32 {
        let _ = publisher.publish(&topic("/member/fill"), &large);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let waiting = tokio::spawn(async move {
        let limit = Duration::from_secs(2);
        let last = Data::from("y".repeat(1 << 20));
        publisher
            .publish_waiting(&topic("/member/last"), &last, limit)
            .await
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut busy = author.publisher();
    for number in 0..10_000u64 {
        let _ = busy.publish(&topic("/other"), &Data::from(number));
    }
    let outcome = within(waiting).await.unwrap();
    assert_eq!((outcome.queued_to, outcome.dropped), (1, 1));
    within(async {
        loop {
            if let Some(Delivery::Batch(batch)) = subscriber.receive().await
                && batch
                    .iter()
                    .any(|message| message.topic.as_bytes() == b"/member/last")
            {
                return;
            }
        }
    })
    .await;
    assert_eq!(counter(&other, "mesh_too_old"), 0);
    drop(member);
}

/// The records that an endpoint refused.
fn refused_records(endpoint: &Endpoint) -> u64 {
    let counters = endpoint.counts().mesh;
    let name = "muster_mesh_records_refused_total";
    let all = counters.iter().filter(|it| it.descriptor.name == name);
    all.map(|counter| counter.value).sum()
}

/// A leaf that announces records of others with later numbers silences nobody for long, says whose they are not, and is
/// named.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_others_do_not_silence_them() {
    let (hub, _subscriber, address) = victim().await;
    let target = Endpoint::start(EndpointConfig {
        id: Some(id(5)),
        ..EndpointConfig::default()
    })
    .unwrap();
    let mut at_target = target.subscribe(["/target"]).await;
    within(target.peer(&address, None)).await.unwrap();
    let mut liar = Member::join(id(2), &address).await;
    let topic = Topic::new("/target").unwrap();
    let mut publisher = hub.publisher();
    for (round, (life, version)) in [
        (0, 1),
        (1, 0),
        (1 << 20, 3),
        (0, 1 << 20),
        (u64::MAX, u64::MAX),
    ]
    .into_iter()
    .enumerate()
    {
        // As whoever listens at the hub knows it.
        let known = hub.mesh();
        let known = known.iter().find(|node| node.id == target.id());
        let mut forged = NodeRecord::clone(known.unwrap());
        forged.incarnation = Incarnation(forged.incarnation.0.saturating_add(life));
        forged.version = forged.version.saturating_add(version);
        forged.filter = Filter::default();
        let records = vec![Record::Node(Arc::new(forged), None)];
        let lie = MeshFrame::Records {
            root: id(2),
            more: false,
            flood: None,
            records,
        };
        let before = counter(&target, "mesh_contradicted") + refused_records(&hub);
        liar.send(&OwnedFrame::Mesh(lie)).await;
        within(async {
            while counter(&target, "mesh_contradicted") + refused_records(&hub) == before {
                liar.pump().await;
            }
            // It is heard again.
            let value = Data::from(round as u64);
            loop {
                let _ = publisher.publish(&topic, &value);
                liar.pump().await;
                let heard = tokio::time::timeout(Duration::from_millis(10), at_target.receive());
                let Ok(Some(Delivery::Batch(batch))) = heard.await else {
                    continue;
                };
                let mut payloads = batch.iter().map(|message| message.payload);
                if payloads.any(|payload| payload == encoded(round as u64)) {
                    return;
                }
            }
        })
        .await;
    }
    assert!(counter(&target, "mesh_contradicted") >= 3);
}
