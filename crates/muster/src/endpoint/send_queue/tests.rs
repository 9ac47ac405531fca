//! Tests of what waits for a peer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_wire::{Class, Kind, Overflow, QueueLimits};

use super::*;
use crate::endpoint::peer_session::PeerSession;
use crate::endpoint::post::Post;
use crate::endpoint::{LinkSpeed, PeerInfo, PeerOrigin, Transport};
use muster_wire::EndpointId;
use muster_wire::envelope::{self, Control};
use tokio::sync::oneshot;

pub(crate) fn session(config: &EndpointConfig) -> PeerSession {
    let id = |byte| EndpointId::from_random([byte; 16]);
    let info = PeerInfo {
        id: id(2),
        address: "peer".to_owned(),
        origin: PeerOrigin::Accepted,
        transport: Transport::Tcp,
        protocol: Protocol::V1,
    };
    PeerSession::new(id(1), info, SendQueue::new(Protocol::V1, config))
}

fn small(overflow: Overflow) -> EndpointConfig {
    EndpointConfig {
        data_queue: QueueLimits {
            messages: 2,
            bytes: 1 << 20,
        },
        control_queue: 3,
        overflow,
        ..EndpointConfig::default()
    }
}

pub(crate) fn message(topic: &str, class: Class) -> Message {
    Message {
        topic: Topic::new(topic).unwrap(),
        payload: Bytes::from_static(&[0]),
        kind: Kind::Data,
        class,
        id: None,
    }
}

#[test]
fn control_messages_are_not_displaced_and_keep_their_place() {
    for (overflow, topics) in [
        (Overflow::DropOldest, ["/hello", "/2", "/3", "/hello", ""]),
        (Overflow::DropNewest, ["/hello", "/0", "/1", "/hello", ""]),
    ] {
        let session = session(&small(overflow));
        let queue = &session.queue;
        queue.push(message("/hello", Class::Control));
        for topic in ["/0", "/1", "/2", "/3"] {
            queue.push(message(topic, Class::Event));
        }
        queue.push(message("/hello", Class::Control));
        session.push_control(&Control::Pong(envelope::bye(1)));
        assert_eq!((queue.len(), queue.depth().dropped.total()), (4, 2));
        let (mut control, mut data) = (VecDeque::new(), VecDeque::new());
        assert_eq!(
            queue.take(&mut control, &mut data, false, &mut Vec::new()),
            Taken::Work
        );
        let taken = data.iter().map(|item| match item {
            Outgoing::Message(message) | Outgoing::Addressed(message) => message.topic.to_string(),
            _ => String::new(),
        });
        assert_eq!(taken.collect::<Vec<_>>(), topics);
        assert_eq!(queue.depth().bytes, 0);
        // Three at most, messages and goodbyes together.
        data.clear();
        session.push_control(&Control::Pong(envelope::bye(1)));
        for _ in 0..2 {
            queue.push(message("/hello", Class::Control));
        }
        assert_eq!(queue.ended(), None);
        let push = queue.push(message("/hello", Class::Control));
        assert_eq!(push, Push::Dropped(DropCause::Disconnect));
        assert!(matches!(queue.ended(), Some(EndReason::Lost(_))));
        assert_eq!((queue.len(), queue.depth().dropped.total()), (0, 5));
    }
}

#[test]
fn who_waits_for_room_is_told_of_the_end_at_once() {
    let ends: [fn(&PeerSession); 2] = [
        |session| {
            session.queue.push(message("/t", Class::Event));
        },
        |session| {
            for _ in 0..4 {
                session.push_control(&Control::Ping(vec![1]));
            }
        },
    ];
    for end in ends {
        let session = Arc::new(session(&small(Overflow::Disconnect)));
        let queue = &session.queue;
        for _ in 0..2 {
            queue.push(message("/t", Class::Event));
        }
        let waiting = Arc::clone(&session);
        let thread = std::thread::spawn(move || {
            let deadline = Instant::now() + Duration::from_secs(20);
            let push = waiting
                .queue
                .post_blocking(&Post::of(&message("/t", Class::Event)), deadline);
            (push, Instant::now() < deadline)
        });
        while queue.lock().waiting.threads() == 0 {
            std::thread::yield_now();
        }
        let mut pong = session.ping().unwrap();
        end(&session);
        let told = (Push::Dropped(DropCause::PeerGone), true);
        assert_eq!(thread.join().unwrap(), told);
        assert_eq!(pong.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert!(session.ping().is_none());
    }
}

#[test]
fn only_who_reads_compressed_frames_is_sent_some_and_only_over_a_slow_link() {
    let slow = EndpointConfig {
        speed: LinkSpeed::Slow,
        ..EndpointConfig::default()
    };
    for (config, reads_zstd, compresses) in [
        (&slow, true, true),
        (&slow, false, false),
        (&EndpointConfig::default(), true, false),
    ] {
        let queue = SendQueue::new(Protocol::V2, config).with_zstd(reads_zstd);
        assert_eq!(queue.compresses(), compresses);
    }
}

/// Runs are dropped message by message, and everything is counted by its topic.
#[test]
fn a_full_queue_drops_the_oldest_messages_of_its_runs_one_by_one() {
    for protocol in [Protocol::V1, Protocol::V2] {
        full_queue_of_runs(protocol);
    }
}

fn full_queue_of_runs(protocol: Protocol) {
    let limits = QueueLimits {
        messages: 10,
        bytes: 1 << 20,
    };
    let config = EndpointConfig {
        data_queue: limits,
        overflow: Overflow::DropOldest,
        ..EndpointConfig::default()
    };
    let queue = SendQueue::new(protocol, &config).with_runs(true);
    let post = |number: u64| {
        let text = if number < 7 { "/a" } else { "/b" };
        let message = Message {
            id: Some(muster_wire::MessageId {
                origin: EndpointId::from_random([1; 16]),
                sequence: number,
            }),
            ..message(text, Class::Event)
        };
        let push = queue.post(&Post::of(&message));
        assert!(matches!(push, Push::Queued { .. }), "{push:?}");
        match push {
            Push::Queued { dropped, .. } => dropped,
            Push::Dropped(_) => 1,
        }
    };
    let dropped: usize = (1..=15).map(post).sum();
    assert_eq!((dropped, queue.len()), (5, 10));
    // One that is too large for a run stands between them.
    let large = Message {
        payload: Bytes::from(vec![0; 8 << 10]),
        ..message("/large", Class::Event)
    };
    let _ = queue.post(&Post::of(&large));
    assert_eq!(post(16), 1);
    let depth = queue.depth();
    assert_eq!((depth.messages, depth.dropped.total()), (10, 7));
    let lost: Vec<_> = depth.dropped.entries().collect();
    let lost: Vec<_> = lost.iter().map(|it| (it.topic, it.messages)).collect();
    assert_eq!(lost, [("/a", 6), ("/b", 1)]);
    let (mut control, mut data) = (VecDeque::new(), VecDeque::new());
    queue.take(&mut control, &mut data, false, &mut Vec::new());
    let taken = data.iter().map(|item| match item {
        Outgoing::Run(run) => {
            let sequences: Vec<u64> = run.each().map(|message| message.sequence).collect();
            let first = sequences[0];
            assert!(
                sequences
                    .iter()
                    .copied()
                    .eq(first..first + sequences.len() as u64)
            );
            (first, sequences.len())
        }
        Outgoing::Envelopes(run) => (if run.messages() == 1 { 16 } else { 8 }, run.messages()),
        _ => (0, 1),
    });
    assert!(taken.eq([(8, 8), (0, 1), (16, 1)]));
    assert_eq!(queue.depth().bytes, 0);
    // What was taken and not written is counted as well.
    queue.count_unwritten(&[], &data);
    let lost = queue.depth().dropped;
    let gone = lost.entries().filter(|it| it.cause == DropCause::PeerGone);
    let gone: Vec<_> = gone.map(|it| (it.topic.to_owned(), it.messages)).collect();
    assert_eq!(gone, [("/b".to_owned(), 9), ("/large".to_owned(), 1)]);
}

/// Whoever has not said that it reads runs, or reads small frames alone, or is behind a slow link, is sent messages in batches.
#[test]
fn only_who_reads_runs_is_sent_some() {
    let slow = EndpointConfig {
        speed: LinkSpeed::Slow,
        ..EndpointConfig::default()
    };
    let fast = EndpointConfig::default();
    for (config, reads_runs, largest_frame, is_run) in [
        (&fast, true, None, true),
        (&fast, false, None, false),
        (&fast, true, Some(64 << 10), false),
        (&slow, true, None, false),
    ] {
        let queue = SendQueue::new(Protocol::V2, config)
            .with_largest_frame(largest_frame)
            .with_zstd(true)
            .with_runs(reads_runs);
        let _ = queue.post(&Post::of(&message("/t", Class::Event)));
        let (mut control, mut data) = (VecDeque::new(), VecDeque::new());
        queue.take(&mut control, &mut data, false, &mut Vec::new());
        assert_eq!(matches!(data[0], Outgoing::Run(_)), is_run);
    }
}
