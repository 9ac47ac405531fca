//! What brings a C++ endpoint down, sent to a running one of ours: the message or the peering ends under
//! a name, the memory of the process stays bounded, and another peer does not notice.
//!
//! Memory is read from `/proc`, so these run on Linux.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/raw.rs"]
mod raw;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use muster::wire::counters::DropCause;
use muster::wire::envelope::EnvelopeError;
use muster::wire::{EndpointId, FilterError, MAX_BYTES, QueueLimits, Topic};
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, LossReason, Status, Subscriber};
use muster_data::{Data, DataRef};
use muster_test_support::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::task::JoinHandle;

use raw::{RAW_ID, raw_message, raw_peer, raw_peer_as};

/// What an attack may cost at any moment, unless the test says otherwise.
const ALLOWANCE: usize = 16 << 20;

/// What an attack may make the process reserve, used or not: far less than the 4 GiB that a length may
/// claim, and more than the allocator sets aside for a few threads.
const RESERVED: usize = 2 << 30;

/// The bounds of a subscriber of large messages.
const LARGE: QueueLimits = QueueLimits {
    messages: 1000,
    bytes: 64 << 20,
};

/// The good value: count 5.
const GOOD: [u8; 9] = [2, 0, 0, 0, 0, 0, 0, 0, 5];

/// The length of 2^32 - 1.
const ENDLESS: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];

/// One test at a time: they measure the memory of the whole process.
static ALONE: Mutex<()> = Mutex::const_new(());

/// An endpoint under attack, and an honest peer that goes on exchanging messages with it.
struct Scene {
    victim: Endpoint,
    address: String,
    /// Of everything, with statuses.
    subscriber: Subscriber,
    bystander: Bystander,
    memory: Memory,
    _alone: MutexGuard<'static, ()>,
}

/// The honest peer: the endpoint publishes to it, it publishes back, over and over.
struct Bystander {
    endpoint: Endpoint,
    stop: watch::Sender<bool>,
    rounds: JoinHandle<u64>,
}

/// The most memory that the process had since the start of the attack: reserved, and in use.
struct Memory {
    before: [usize; 2],
    most: Arc<[AtomicUsize; 2]>,
    stop: Arc<AtomicBool>,
    sampler: Option<std::thread::JoinHandle<()>>,
}

/// The memory of this process in bytes: reserved, and in use.
fn memory() -> [usize; 2] {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let mut pages = pages
        .split(' ')
        .map(|pages| pages.parse::<usize>().unwrap());
    [(); 2].map(|()| pages.next().unwrap() * 4096)
}

impl Memory {
    fn watch() -> Self {
        let before = memory();
        let most = Arc::new(before.map(AtomicUsize::new));
        let stop = Arc::new(AtomicBool::new(false));
        let sampler = std::thread::spawn({
            let (most, stop) = (Arc::clone(&most), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    for (most, now) in most.iter().zip(memory()) {
                        most.fetch_max(now, Ordering::Relaxed);
                    }
                    std::thread::sleep(Duration::from_micros(500));
                }
            }
        });
        Self {
            before,
            most,
            stop,
            sampler: Some(sampler),
        }
    }

    /// How much it grew at most since the start.
    fn grown(&self) -> [usize; 2] {
        [0, 1].map(|at| self.most[at].load(Ordering::Relaxed) - self.before[at])
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.sampler.take().map(std::thread::JoinHandle::join);
    }
}

fn config(id: u8) -> EndpointConfig {
    EndpointConfig {
        id: Some(EndpointId::from_random([id; 16])),
        // What is refused has to be refused for what it is, not for how long it took.
        handshake_timeout: Duration::from_secs(3600),
        ..EndpointConfig::default()
    }
}

impl Scene {
    async fn new() -> Self {
        Self::with(config(1)).await
    }

    async fn with(config: EndpointConfig) -> Self {
        let alone = ALONE.lock().await;
        let victim = Endpoint::start(config).unwrap();
        let limits = QueueLimits {
            messages: 100_000,
            bytes: 1 << 20,
        };
        let subscriber = victim.subscribe_with_statuses(["/t", "<$>"], limits).await;
        let address = "127.0.0.1:0".parse().unwrap();
        let address = victim.listen(address, Exposure::Guarded).await.unwrap();
        let address = address.to_string();
        let bystander = Bystander::new(&victim, &address).await;
        let mut scene = Self {
            victim,
            address,
            subscriber,
            bystander,
            memory: Memory::watch(),
            _alone: alone,
        };
        let added = scene.status().await;
        assert!(
            matches!(added, Status::PeerAdded(peer) if peer.id == scene.bystander.endpoint.id())
        );
        scene
    }

    /// A peering of the attacker's.
    async fn attacker(&mut self) -> TcpStream {
        let stream = raw_peer(&self.address, &[0]).await;
        let added = self.status().await;
        assert!(matches!(added, Status::PeerAdded(peer) if peer.id.as_bytes() == &RAW_ID));
        stream
    }

    /// The next status of a peering. No message may come before it.
    async fn status(&mut self) -> Status {
        loop {
            match within(self.subscriber.receive()).await.unwrap() {
                Delivery::Status(
                    Status::EndpointDiscovered(_) | Status::EndpointUnreachable(_),
                ) => {}
                Delivery::Status(status) => return status,
                Delivery::Batch(batch) => panic!("{} messages", batch.len()),
            }
        }
    }

    /// Why the attacker's peering ended.
    async fn lost(&mut self) -> LossReason {
        match self.status().await {
            Status::PeerLost { peer, reason } if peer.id.as_bytes() == &RAW_ID => reason,
            other => panic!("unexpected {other}"),
        }
    }

    /// Sends a good message, which shows that the peering stands and that all before it was dealt with.
    async fn still_taken(&mut self, attacker: &mut TcpStream) {
        let good = raw_message(1, RAW_ID, "/t/good", &GOOD);
        attacker.write_all(&good).await.unwrap();
        match within(self.subscriber.receive()).await.unwrap() {
            Delivery::Batch(batch) => {
                let topics: Vec<String> = batch.iter().map(|m| m.topic.to_string()).collect();
                assert_eq!(topics, ["/t/good"]);
            }
            Delivery::Status(status) => panic!("unexpected {status}"),
        }
    }

    /// What was refused of the attacker, by cause.
    fn refused(&self) -> Vec<(DropCause, u64)> {
        let mut peers = self.victim.counts().peers.into_iter();
        let report = peers.find(|report| report.peer.id.as_bytes() == &RAW_ID);
        report.unwrap().refused.by_cause().into_iter().collect()
    }

    async fn connections_refused(&self, expected: u64) {
        within(async {
            while self.victim.counts().connections_refused < expected {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(self.victim.counts().connections_refused, expected);
    }

    /// The end of every scene: memory was bounded, and the bystander has noticed nothing.
    async fn end(self, allowance: usize) {
        let [reserved, taken] = self.memory.grown();
        assert!(taken < allowance, "{} KiB taken", taken >> 10);
        assert!(reserved < RESERVED, "{} MiB reserved", reserved >> 20);
        let id = self.bystander.endpoint.id();
        self.bystander.end().await;
        let reports = self.victim.counts().peers;
        let report = reports.iter().find(|report| report.peer.id == id).unwrap();
        assert_eq!((report.dropped.total(), report.refused.total()), (0, 0));
        // Nobody but a subscriber that is slow on purpose has lost anything; `other` is the rest of its topics.
        let dropped = self.victim.counts().subscribers_dropped;
        let dropped: Vec<&str> = dropped.entries().map(|dropped| dropped.topic).collect();
        assert!(
            dropped
                .iter()
                .all(|topic| topic.starts_with("/slow/") || *topic == "other")
        );
    }
}

impl Bystander {
    async fn new(victim: &Endpoint, address: &str) -> Self {
        let endpoint = Endpoint::start(config(9)).unwrap();
        let mut at_bystander = endpoint.subscribe(["/there"]).await;
        let mut at_victim = victim.subscribe(["/back"]).await;
        within(endpoint.peer(address, None)).await.unwrap();
        let (mut there, mut back) = (victim.publisher(), endpoint.publisher());
        let (stop, stopped) = watch::channel(false);
        let rounds = tokio::spawn(async move {
            let mut round = 0;
            loop {
                let last = *stopped.borrow();
                exchange(&mut there, "/there", &mut at_bystander, round).await;
                exchange(&mut back, "/back", &mut at_victim, round).await;
                round += 1;
                if last {
                    return round;
                }
            }
        });
        Self {
            endpoint,
            stop,
            rounds,
        }
    }

    /// One more round, and nothing was lost in any.
    async fn end(self) {
        self.stop.send_replace(true);
        assert!(within(self.rounds).await.unwrap() > 1);
        assert_eq!(self.endpoint.peers().len(), 1);
        assert_eq!(self.endpoint.counts().peers.len(), 1);
    }
}

/// Publishes a number and waits until it has arrived, as the next one.
async fn exchange(
    publisher: &mut muster::Publisher,
    topic: &str,
    subscriber: &mut Subscriber,
    number: u64,
) {
    let topic = Topic::new(topic).unwrap();
    within(async {
        while publisher.publish(&topic, &number).no_subscriber() {
            assert_eq!(number, 0, "the peer is gone");
            tokio::task::yield_now().await;
        }
        loop {
            if let Delivery::Batch(batch) = subscriber.receive().await.unwrap() {
                let values: Vec<Data> = batch
                    .iter()
                    .map(|message| DataRef::from_validated(message.payload).to_data())
                    .collect();
                assert_eq!(values, [Data::from(number)]);
                return;
            }
        }
    })
    .await;
}

/// Reads to the connection's end, which a reset is, too.
async fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    bytes
}

fn hello(id: [u8; 16]) -> Vec<u8> {
    let mut hello = vec![0, 0, 0, 0x17, 6, 0x5a, 0x45, 0x45, 0x4b];
    hello.extend_from_slice(&id);
    hello.extend_from_slice(&[1, 1]);
    hello
}

/// The C++ endpoint throws inside its core and loses all peerings and subscribers.
#[tokio::test(flavor = "multi_thread")]
async fn a_routing_update_with_lengths_that_lie_ends_its_peering() {
    let mut scene = Scene::new().await;
    let long_entry = [&[1][..], &ENDLESS, b"/t"].concat();
    let many_entries = [&ENDLESS[..], &[2], b"/t"].concat();
    let too_large: Vec<u8> = {
        let entry = [&[0x80, 0x80, 0x40][..], &vec![b'x'; 1 << 20]].concat();
        [&[3][..], &entry.repeat(3)].concat()
    };
    assert!(too_large.len() > 3 * MAX_BYTES);
    for (payload, error) in [
        (long_entry, FilterError::Malformed),
        (many_entries, FilterError::TooMany),
        (too_large, FilterError::TooLarge),
        (Vec::new(), FilterError::Malformed),
        (vec![1, 2, b'/', b't', 0], FilterError::Malformed),
    ] {
        let mut attacker = scene.attacker().await;
        let update = raw_message(3, RAW_ID, "<$>", &payload);
        let _ = attacker.write_all(&update).await;
        let reason = scene.lost().await;
        let expected = LossReason::Envelope(EnvelopeError::Filter(error));
        assert_eq!(reason, expected);
        read_to_end(attacker).await;
    }
    scene.end(2 * ALLOWANCE).await;
}

/// The C++ endpoint's stack overflows.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_lie_or_nest_without_end_cost_themselves() {
    let mut scene = Scene::new().await;
    let mut attacker = scene.attacker().await;
    let mut values: Vec<Vec<u8>> = Vec::new();
    for tag in [12, 13, 14] {
        // Nested in the first element, then a number of elements that nobody has, bare and with some.
        values.push([tag, 1].repeat(200_000));
        values.push([&[tag][..], &ENDLESS].concat());
        values.push([&[tag][..], &ENDLESS, &GOOD.repeat(1000)].concat());
    }
    for tag in [5, 11] {
        values.push([&[tag][..], &ENDLESS, b"text"].concat());
    }
    let nested = values.len() as u64;
    for payload in &values {
        let message = raw_message(1, RAW_ID, "/t", payload);
        attacker.write_all(&message).await.unwrap();
    }
    scene.still_taken(&mut attacker).await;
    assert_eq!(scene.refused(), [(DropCause::Malformed, nested)]);
    scene.end(ALLOWANCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_and_tables_that_hold_something_twice_cost_themselves() {
    let mut scene = Scene::new().await;
    let mut attacker = scene.attacker().await;
    let small_set = [&[12, 2][..], &GOOD, &GOOD].concat();
    let small_table = [&[13, 2][..], &GOOD, &[0], &GOOD, &[0]].concat();
    // 50,000 elements in the worst of orders, the last of which was there before.
    let mut large = vec![12];
    muster_data::encode::put_varbyte(&mut large, 50_001);
    for element in (0..50_000_u64).rev().chain([25_000]) {
        muster_data::encode::count(&mut large, element);
    }
    let values = [small_set, small_table, large];
    for payload in &values {
        let message = raw_message(1, RAW_ID, "/t", payload);
        attacker.write_all(&message).await.unwrap();
    }
    scene.still_taken(&mut attacker).await;
    assert_eq!(scene.refused(), [(DropCause::Malformed, 3)]);
    scene.end(ALLOWANCE).await;
}

/// The C++ endpoint allocates what the header says, nearly 4 GiB, before anything else has come.
#[tokio::test(flavor = "multi_thread")]
async fn handshake_frames_over_the_limit_are_refused_by_their_header() {
    let scene = Scene::new().await;
    for header in [[0xff; 4], [0x7f, 0xff, 0xff, 0xff], [0, 0x10, 0, 1]] {
        let mut stream = TcpStream::connect(&scene.address).await.unwrap();
        let _ = stream.write_all(&header).await;
        // Only the probe comes back: nothing of the frame was waited for.
        assert!(read_to_end(stream).await.len() <= 9);
    }
    scene.connections_refused(3).await;
    scene.end(ALLOWANCE).await;
}

/// Frames that are almost complete, of as many strangers as may shake hands: all together hold what handshakes need.
#[tokio::test(flavor = "multi_thread")]
async fn handshake_frames_that_do_not_end_hold_no_more_than_all_handshakes_may() {
    let scene = Scene::new().await;
    let mut streams = Vec::new();
    for number in 0..64 {
        let mut stream = TcpStream::connect(&scene.address).await.unwrap();
        let mut id = RAW_ID;
        id[15] = number;
        // Its filter is the first that may be large: its size, and nearly all of it.
        let mut frames = hello(id);
        frames.extend_from_slice(&[0, 0x10, 0, 0, 11]);
        frames.resize(1_000_000, 6);
        // Those that are too many are ended before they have sent it.
        let _ = stream.write_all(&frames).await;
        streams.push(stream);
    }
    // They are the oldest: others come in, one after the other.
    for number in 20..24 {
        let guest = Endpoint::start(config(number)).unwrap();
        let retry = Some(Duration::from_millis(50));
        within(guest.peer(&scene.address, retry)).await.unwrap();
        within(guest.shut_down()).await;
    }
    assert!(unfinished_given_up(&scene.victim) > 0);
    scene.end((16 << 20) + 2 * ALLOWANCE).await;
}

/// How many connections were ended because all together held too much of unfinished frames.
fn unfinished_given_up(endpoint: &Endpoint) -> u64 {
    let mesh = endpoint.counts().mesh;
    let mut counters = mesh.iter();
    let given_up = counters.find(|counter| counter.key() == "unfinished_frames_given_up");
    given_up.unwrap().value
}

/// What peers subscribe to has one bound over all of them, in the handshake and later.
#[tokio::test(flavor = "multi_thread")]
async fn filters_of_many_peers_have_one_bound() {
    let limit = 4 << 20;
    let mut scene = Scene::with(EndpointConfig {
        peer_filters: limit,
        ..config(1)
    })
    .await;
    let filter = muster::wire::Filter::from_prefixes((0..900).map(|n| format!("/{n:0999}")));
    let (mut large, mut small) = (Vec::new(), Vec::new());
    filter.encode(&mut large);
    muster::wire::Filter::from_prefixes(["/small"]).encode(&mut small);
    let mut attackers = Vec::new();
    for number in 0..8 {
        let mut id = RAW_ID;
        id[15] = number;
        // Every second one says so when it is a peer.
        let first = if number % 2 == 0 { &large } else { &small };
        let mut stream = raw_peer_as(&scene.address, id, first).await;
        if number % 2 == 1 {
            let update = raw_message(3, id, "<$>", &large);
            let _ = stream.write_all(&update).await;
        }
        attackers.push(stream);
    }
    let (mut added, mut lost) = (0, 0);
    while lost < 4 || added < 8 {
        match scene.status().await {
            Status::PeerAdded(_) => added += 1,
            Status::PeerLost { reason, .. } => {
                let bytes = filter.memory();
                assert_eq!(reason, LossReason::FiltersTooLarge { limit, bytes });
                lost += 1;
            }
            other => panic!("unexpected {other}"),
        }
    }
    let mesh = scene.victim.counts().mesh;
    let refused = mesh.iter().find(|it| it.key() == "peer_filters_refused");
    assert_eq!(refused.unwrap().value, 4);
    // Those that fit stay, and others find room for what is usual.
    let honest = raw_peer_as(&scene.address, [0xfe; 16], &small).await;
    assert!(matches!(scene.status().await, Status::PeerAdded(_)));
    assert_eq!(scene.victim.peers().len(), 6);
    drop(honest);
    scene.end(4 * limit + ALLOWANCE).await;
}

/// Each peer may hold one frame; all together may hold what is set, and whoever began first makes room for others.
#[tokio::test(flavor = "multi_thread")]
async fn unfinished_frames_of_many_peers_have_one_bound() {
    let limit = 16 << 20;
    let mut scene = Scene::with(EndpointConfig {
        frame_limit: 4 << 20,
        unfinished_frames: limit,
        ..config(1)
    })
    .await;
    let mut frame = vec![0, 0x3f, 0xff, 0xff];
    frame.resize(4_100_000, 6);
    let mut attackers = Vec::new();
    for number in 0..24 {
        let mut id = RAW_ID;
        id[15] = number;
        let mut stream = raw_peer_as(&scene.address, id, &[0]).await;
        let _ = stream.write_all(&frame).await;
        attackers.push(stream);
    }
    let (mut added, mut lost) = (0, Vec::new());
    while lost.len() < 20 || added < 24 {
        match scene.status().await {
            Status::PeerAdded(_) => added += 1,
            Status::PeerLost { peer, reason } => {
                let expected = muster::TooMuchUnfinished { limit };
                assert_eq!(reason, LossReason::TooMuchUnfinished(expected));
                lost.push(peer.id.as_bytes()[15]);
            }
            other => panic!("unexpected {other}"),
        }
    }
    assert!(unfinished_given_up(&scene.victim) >= 20);
    // A frame of an honest peer has its room.
    let mut honest = raw_peer_as(&scene.address, [0xfe; 16], &[0]).await;
    let value = Data::from("x".repeat(3 << 20));
    let value = muster_data::encode_to_vec(&value);
    let mut large = scene
        .victim
        .subscribe_with_statuses(["/large"], LARGE)
        .await;
    let message = raw_message(1, [0xfe; 16], "/large", &value);
    honest.write_all(&message).await.unwrap();
    within(async {
        loop {
            if let Delivery::Batch(batch) = large.receive().await.unwrap() {
                return assert_eq!(batch.iter().next().unwrap().payload, value);
            }
        }
    })
    .await;
    drop(large);
    // What it may hold, what those hold who are just being ended, which takes a busy machine a while, and the copies of
    // what grows. Without a bound it is six times the limit.
    scene.end(3 * limit + ALLOWANCE).await;
}

/// An empty frame is dropped without a reply in a handshake, and ignored afterwards, as by Broker.
#[tokio::test(flavor = "multi_thread")]
async fn empty_frames_end_a_handshake_and_nothing_else() {
    let mut scene = Scene::new().await;
    let mut stream = TcpStream::connect(&scene.address).await.unwrap();
    stream.write_all(&[0; 4]).await.unwrap();
    assert!(read_to_end(stream).await.len() <= 9);
    scene.connections_refused(1).await;

    let mut attacker = scene.attacker().await;
    attacker.write_all(&vec![0; 4 * 100_000]).await.unwrap();
    scene.still_taken(&mut attacker).await;
    assert_eq!(scene.refused(), []);
    scene.end(ALLOWANCE).await;
}

/// Hundreds of strangers say hello one byte at a time. The endpoint's limits end them, and others still
/// come in.
#[tokio::test(flavor = "multi_thread")]
async fn slow_handshakes_are_ended_and_keep_nobody_out() {
    let scene = Scene::with(EndpointConfig {
        max_handshakes: 32,
        handshake_timeout: Duration::from_millis(500),
        ..config(1)
    })
    .await;
    let slow = 300;
    let mut strangers = Vec::new();
    for _ in 0..slow {
        let stream = TcpStream::connect(&scene.address).await.unwrap();
        strangers.push(tokio::spawn(async move {
            let (mut reader, mut writer) = stream.into_split();
            let trickle = async {
                for byte in hello(RAW_ID).iter().cycle() {
                    if writer.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                    // The attack's own pace: a byte every 100 ms takes three seconds for a hello.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            let mut rest = Vec::new();
            tokio::select! {
                () = trickle => {}
                _ = reader.read_to_end(&mut rest) => {}
            }
        }));
    }
    let guest = Endpoint::start(config(3)).unwrap();
    let retry = Some(Duration::from_millis(50));
    within(guest.peer(&scene.address, retry)).await.unwrap();
    for stranger in strangers {
        within(stranger).await.unwrap();
    }
    // Their connections end before they are counted; the guest may have been refused as well.
    within(async {
        while scene.victim.counts().connections_refused < slow {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(scene.victim.peers().len(), 2);
    scene.end(ALLOWANCE).await;
}

/// A C++ endpoint believes statuses and errors that a peer publishes, and delivers what claims another's
/// name.
#[tokio::test(flavor = "multi_thread")]
async fn forged_statuses_and_senders_are_told_to_nobody() {
    let mut scene = Scene::new().await;
    let mut attacker = scene.attacker().await;
    let status = Data::vector([
        Data::from("status"),
        Data::enum_value("peer_lost"),
        Data::None,
        Data::from("lost connection to remote peer"),
    ]);
    let status = muster_data::encode_to_vec(&status);
    for topic in [
        "<$>/local/data/statuses",
        "<$>/local/data/errors",
        "<$>/local/data/store-events/kv",
        "<$>/local/",
    ] {
        let message = raw_message(1, RAW_ID, topic, &status);
        attacker.write_all(&message).await.unwrap();
    }
    let bystander = *scene.bystander.endpoint.id().as_bytes();
    let victim = *scene.victim.id().as_bytes();
    for sender in [bystander, victim, [0; 16], [7; 16]] {
        for kind in 1..=5 {
            let message = raw_message(kind, sender, "/t", &GOOD);
            attacker.write_all(&message).await.unwrap();
        }
    }
    scene.still_taken(&mut attacker).await;
    assert_eq!(scene.refused(), [(DropCause::Forged, 4 + 4 * 5)]);
    scene.end(ALLOWANCE).await;
}

/// Every message has a topic of its own, as long as can be: what is remembered of topics, for routing and
/// for counts, stays bounded.
#[tokio::test(flavor = "multi_thread")]
async fn topics_without_end_are_not_remembered() {
    let mut scene = Scene::new().await;
    let mut attacker = scene.attacker().await;
    let long = "x".repeat(60_000);
    for number in 0..1500 {
        let topic = format!("/elsewhere/{number}/{long}");
        let good = raw_message(1, RAW_ID, &topic, &GOOD);
        let bad = raw_message(1, RAW_ID, &topic, &[15]);
        attacker.write_all(&[good, bad].concat()).await.unwrap();
    }
    scene.still_taken(&mut attacker).await;
    assert_eq!(scene.refused(), [(DropCause::Malformed, 1500)]);
    scene.end(ALLOWANCE).await;
}

/// The same towards a subscriber that does not keep up: topics count among what its queue keeps alive.
#[tokio::test(flavor = "multi_thread")]
async fn long_topics_do_not_get_past_the_bounds_of_a_subscriber() {
    let mut scene = Scene::new().await;
    let limits = QueueLimits {
        messages: 100_000,
        bytes: 1 << 20,
    };
    let prefixes = ["/slow"];
    let slow = scene.victim.subscribe_with_statuses(prefixes, limits).await;
    let mut attacker = scene.attacker().await;
    let long = "x".repeat(60_000);
    for number in 0..1500 {
        let topic = format!("/slow/{number}/{long}");
        let message = raw_message(1, RAW_ID, &topic, &GOOD);
        attacker.write_all(&message).await.unwrap();
    }
    scene.still_taken(&mut attacker).await;
    let muster::QueueDepth {
        messages,
        bytes,
        dropped,
    } = slow.depth();
    assert_eq!(messages as u64 + dropped.total(), 1500);
    assert!(bytes <= 1 << 20);
    scene.end(ALLOWANCE).await;
}

/// The largest filters that are taken, one after the other without a pause.
#[tokio::test(flavor = "multi_thread")]
async fn filters_that_change_without_end_are_held_once() {
    let mut scene = Scene::new().await;
    let mut attacker = scene.attacker().await;
    let mut entries = Vec::new();
    for number in 0..60_000 {
        entries.extend_from_slice(format!("\u{e}/00/{number:010}").as_bytes());
    }
    for round in 0..100 {
        let digits = format!("{round:02}");
        for entry in entries.chunks_mut(15) {
            entry[2..4].copy_from_slice(digits.as_bytes());
        }
        let filter = [&[0xe0, 0xd4, 0x03][..], &entries].concat();
        let update = raw_message(3, RAW_ID, "<$>", &filter);
        attacker.write_all(&update).await.unwrap();
    }
    scene.still_taken(&mut attacker).await;
    let id = EndpointId::from_bytes(RAW_ID);
    within(async {
        let last = b"/99/0000059999";
        loop {
            let filter = scene.victim.filter_of(id).unwrap();
            if filter.last().is_some_and(|entry| entry == last) {
                return assert_eq!(filter.len(), 60_000);
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    scene.end(3 * ALLOWANCE).await;
}

/// Pings whose answers are never read, many small ones and few large ones: the peering ends before the
/// answers take more room than control frames may.
#[tokio::test(flavor = "multi_thread")]
async fn pings_whose_answers_nobody_reads_end_the_peering() {
    let mut scene = Scene::with(EndpointConfig {
        data_queue: QueueLimits {
            messages: 1000,
            bytes: 4 << 20,
        },
        ..config(1)
    })
    .await;
    for size in [4096, 1 << 20] {
        let mut attacker = scene.attacker().await;
        let ping = raw_message(4, RAW_ID, "<$>", &vec![7; size]);
        let flood = async { while attacker.write_all(&ping).await.is_ok() {} };
        let lost = async {
            let reason = scene.lost().await;
            assert_eq!(reason, LossReason::ControlQueueFull);
        };
        within(async { tokio::join!(flood, lost) }).await;
    }
    // What the writer has taken is copied into one buffer, and a large ping needs a large read buffer.
    scene.end(2 * ALLOWANCE).await;
}
