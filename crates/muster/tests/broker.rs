//! Peering with C++ Broker: its own programs stand at the other end.
//!
//! `MUSTER_BROKER_PIPE` and `MUSTER_BROKER_NODE` name Broker's programs `broker-pipe` and `broker-node`.
//! A test whose program is not named says so on stderr and passes. While a test runs, its programs
//! listen without encryption on every address of the machine: they can be told a port only.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use muster::wire::{EndpointId, QueueLimits, Topic};
use muster::{
    Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, PeerInfo, PeerOrigin, Status,
    Subscriber,
};
use muster_data::{Data, DataRef, Timespan, Timestamp, encode_to_vec};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const RETRY: Option<Duration> = Some(Duration::from_millis(50));

/// Smaller and larger than what Broker draws: who is originator does not depend on who dials.
const IDS: [[u8; 16]; 2] = [[0; 16], [0xff; 16]];

const DIALLERS: [PeerOrigin; 2] = [PeerOrigin::Dialled, PeerOrigin::Accepted];

#[tokio::test(flavor = "multi_thread")]
async fn broker_prints_what_muster_publishes_and_confirms_the_end() {
    let Some(pipe) = named("MUSTER_BROKER_PIPE") else {
        return;
    };
    for (id, dialler) in combinations() {
        let (endpoint, mut inbox) = endpoint(id, &[]).await;
        let mut broker = pipe
            .start(&endpoint, dialler, &["--mode=subscribe", "--topic=/t"])
            .await;
        let peer = inbox.added().await;
        assert_eq!(peer.origin, dialler);
        broker.tells("peer_added", &endpoint).await;
        publish(&endpoint, "/tt/prefixes-match", &Data::None).await;
        assert_eq!(broker.prints().await, "data(/tt/prefixes-match, nil)");
        for (value, printed) in printed_values() {
            publish(&endpoint, "/t", &value).await;
            assert_eq!(broker.prints().await, format!("data(/t, {printed})"));
        }
        for number in 0..500u64 {
            publish(&endpoint, "/t", &Data::from(number)).await;
        }
        assert!(within(endpoint.unpeer(peer.id)).await);
        // Without Broker's answer this would take as long as `bye_timeout`.
        match inbox.status().await {
            Status::PeerRemoved { peer: removed, .. } => assert_eq!(removed, peer),
            other => panic!("unexpected {other}"),
        }
        for number in 0..500 {
            assert_eq!(broker.prints().await, format!("data(/t, {number})"));
        }
        broker.tells("peer_lost", &endpoint).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn muster_receives_what_broker_publishes_up_to_its_end() {
    let Some(pipe) = named("MUSTER_BROKER_PIPE") else {
        return;
    };
    for (id, dialler) in combinations() {
        let (endpoint, mut inbox) = endpoint(id, &["/early"]).await;
        let arguments = ["--mode=publish", "--topic=/late/topic"];
        let mut broker = pipe.start(&endpoint, dialler, &arguments).await;
        let peer = inbox.added().await;
        broker.tells("peer_added", &endpoint).await;
        // Broker is told of a subscription made while peered, and does not confirm it.
        inbox.subscriber.subscribe("/late").await;
        let mut attempt = 1;
        broker.write("attempt 1");
        while !inbox.has_message().await {
            attempt += 1;
            broker.write(&format!("attempt {attempt}"));
        }
        let last = Data::from(format!("attempt {attempt}"));
        while inbox.message().await != ("/late/topic".to_owned(), last.clone()) {}
        for number in 0..200u64 {
            broker.write(&number.to_string());
        }
        // It ends with its input, and says goodbye.
        drop(broker.input.take());
        for number in 0..200u64 {
            assert_eq!(inbox.message().await.1, Data::from(number.to_string()));
        }
        assert_eq!(inbox.lost().await, peer.id);
        broker.tells("peer_removed", &endpoint).await;
        assert!(broker.ended().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_is_dialled_again() {
    let Some(pipe) = named("MUSTER_BROKER_PIPE") else {
        return;
    };
    let (endpoint, mut inbox) = endpoint(IDS[0], &["/t"]).await;
    let port = free_port();
    endpoint.dial(&format!("127.0.0.1:{port}"), RETRY);
    let mut former = None;
    for _ in 0..2 {
        let arguments = [
            format!("--local-port={port}"),
            "--mode=publish".into(),
            "--topic=/t".into(),
        ];
        let mut broker = pipe.run(&arguments);
        let peer = inbox.added().await;
        assert_ne!(former, Some(peer.id));
        broker.tells("peer_added", &endpoint).await;
        broker.write("hello");
        assert_eq!(inbox.message().await.1, Data::from("hello"));
        former = Some(peer.id);
        drop(broker);
        assert_eq!(inbox.lost().await, peer.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_dials_a_restarted_muster_again() {
    let Some(pipe) = named("MUSTER_BROKER_PIPE") else {
        return;
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let arguments = [
        format!("--peers=[\"{address}\"]"),
        "--mode=publish".into(),
        "--topic=/t".into(),
    ];
    let mut broker = pipe.run(&arguments);
    for id in IDS {
        let (endpoint, mut inbox) = endpoint(id, &["/t"]).await;
        let (stream, from) = within(listener.accept()).await.unwrap();
        let (reader, writer) = stream.into_split();
        endpoint.accept_stream(reader, writer, &from.to_string());
        inbox.added().await;
        broker.tells("peer_added", &endpoint).await;
        broker.write("hello");
        assert_eq!(inbox.message().await.1, Data::from("hello"));
        within(endpoint.shut_down()).await;
        broker.tells("peer_lost", &endpoint).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dialling_each_other_leads_to_one_peering() {
    let Some(pipe) = named("MUSTER_BROKER_PIPE") else {
        return;
    };
    for id in IDS {
        let (endpoint, mut inbox) = endpoint(id, &["/t"]).await;
        let (own, port) = (listening(&endpoint).await, free_port());
        endpoint.dial(&format!("127.0.0.1:{port}"), Some(Duration::from_millis(1)));
        let mut broker = pipe.run(&[
            format!("--local-port={port}"),
            format!("--peers=[\"{own}\"]"),
            "--mode=publish".into(),
            "--topic=/t".into(),
        ]);
        let peer = inbox.added().await;
        broker.tells("peer_added", &endpoint).await;
        for number in 0..200u64 {
            broker.write(&number.to_string());
        }
        for number in 0..200u64 {
            assert_eq!(inbox.message().await.1, Data::from(number.to_string()));
        }
        assert_eq!(endpoint.peers(), [peer]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_node_relays_every_kind_of_value_unchanged() {
    let Some(node) = named("MUSTER_BROKER_NODE") else {
        return;
    };
    for (node_id, dialler) in [("11", PeerOrigin::Dialled), ("ee", PeerOrigin::Accepted)] {
        let (sender, mut at_sender) = endpoint([0x77; 16], &[]).await;
        let (receiver, mut at_receiver) = endpoint([0x78; 16], &["/t"]).await;
        let port = free_port();
        let node_id = format!("{node_id}000000-0000-4000-8000-000000000000");
        let mut arguments = vec![
            format!("--port={port}"),
            format!("--endpoint-id={node_id}"),
            "--topics=[\"/t\"]".to_owned(),
        ];
        if dialler == PeerOrigin::Accepted {
            arguments.push(format!("--peers=[<tcp://{}>]", listening(&sender).await));
        }
        let mut broker = node.run(&arguments);
        let address = format!("127.0.0.1:{port}");
        if dialler == PeerOrigin::Dialled {
            sender.dial(&address, RETRY);
        }
        receiver.dial(&address, RETRY);
        for inbox in [&mut at_sender, &mut at_receiver] {
            assert_eq!(inbox.added().await.id.to_string(), node_id);
        }

        // The node does not say when it knows both peerings.
        let ready = Data::from("ready");
        loop {
            publish(&sender, "/t/x", &ready).await;
            if at_receiver.has_message().await {
                break;
            }
        }
        let values = relayed_values();
        for value in &values {
            publish(&sender, "/t/x", value).await;
        }
        for value in &values {
            let mut received = at_receiver.message().await;
            while received.1 == ready {
                received = at_receiver.message().await;
            }
            assert_eq!(received.0, "/t/x");
            // Unlike values, their bytes tell zeros apart.
            assert_eq!(encode_to_vec(&received.1), encode_to_vec(value), "{value}");
        }
        publish(&sender, "/t", &Data::from("stop")).await;
        assert_eq!(at_receiver.message().await.1, Data::from("stop"));
        assert_eq!(at_receiver.lost().await.to_string(), node_id);
        assert_eq!(at_sender.lost().await.to_string(), node_id);
        assert!(broker.ended().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn muster_answers_the_pings_of_a_broker_node() {
    let Some(node) = named("MUSTER_BROKER_NODE") else {
        return;
    };
    let (endpoint, mut inbox) = endpoint(IDS[1], &["/ping"]).await;
    let mut broker = node.run(&[
        format!("--peers=[<tcp://{}>]", listening(&endpoint).await),
        "--topics=[\"/ping\"]".to_owned(),
        "--mode=ping".to_owned(),
        "--num-messages=20".to_owned(),
        "--payload-size=100".to_owned(),
    ]);
    inbox.added().await;
    let mut number = 0;
    while number < 20 {
        let (_, ping) = inbox.message().await;
        let [kind, count, payload] = ping.as_vector().unwrap() else {
            panic!("{ping}")
        };
        number = count.as_count().unwrap();
        assert_eq!(kind.as_str(), Some("ping"));
        // The node's first ping, which it repeats until it is answered, is empty.
        let size = if number == 0 { 0 } else { 100 };
        assert_eq!(payload.as_str(), Some("x".repeat(size).as_str()));
        publish(
            &endpoint,
            "/ping",
            &Data::vector([Data::from("pong"), count.clone()]),
        )
        .await;
    }
    for _ in 0..20 {
        broker.prints().await.parse::<u64>().unwrap();
    }
    inbox.lost().await;
    assert!(broker.ended().await.success());
}

/// Two linked relays with a leaf at the second one.
struct Mesh {
    relays: [(Endpoint, Inbox); 2],
    leaf: (Endpoint, Inbox),
}

impl Mesh {
    async fn new(prefixes: &[&str]) -> Self {
        let relays = [
            endpoint([0x40; 16], prefixes).await,
            endpoint([0x41; 16], prefixes).await,
        ];
        let config = EndpointConfig {
            forwarding: Forwarding::Leaf,
            ..EndpointConfig::default()
        };
        let leaf = started(config, prefixes).await;
        let [(first, _), (second, _)] = &relays;
        let address = listening(second).await;
        first.dial(&address, RETRY);
        leaf.0.dial(&address, RETRY);
        let all = [first, second, &leaf.0];
        within(async {
            let is_whole = |endpoint: &&Endpoint| {
                let nodes = endpoint.mesh();
                nodes.len() == 3 && nodes.iter().all(|node| node.ready)
            };
            while !all.iter().all(is_whole) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        Self { relays, leaf }
    }
}

/// Two pipes at the first of two relays: what one publishes is heard once at a leaf of the second, the
/// other prints what that leaf publishes, and neither hears the other.
#[tokio::test(flavor = "multi_thread")]
async fn broker_at_one_relay_hears_and_is_heard_in_the_whole_mesh() {
    let Some(pipe) = named("MUSTER_BROKER_PIPE") else {
        return;
    };
    let mut mesh = Mesh::new(&["/up"]).await;
    let [(first, _), (second, _)] = &mesh.relays;
    let accepted = PeerOrigin::Accepted;
    let up = ["--mode=publish", "--topic=/up"];
    let mut up = pipe.start(first, accepted, &up).await;
    let down = ["--mode=subscribe", "--topic=/"];
    let mut down = pipe.start(first, accepted, &down).await;
    up.tells("peer_added", first).await;
    down.tells("peer_added", first).await;

    let mut attempt = 1;
    up.write("attempt 1");
    while !mesh.leaf.1.has_data().await {
        attempt += 1;
        up.write(&format!("attempt {attempt}"));
    }
    let last = Data::from(format!("attempt {attempt}"));
    while mesh.leaf.1.data().await != ("/up".to_owned(), last.clone()) {}
    for number in 0..200u64 {
        up.write(&number.to_string());
    }
    for number in 0..200u64 {
        assert_eq!(mesh.leaf.1.data().await.1, Data::from(number.to_string()));
    }

    // By way of the second relay: the first is told that the pipe wants it.
    publish(&mesh.leaf.0, "/down", &Data::from(1u64)).await;
    for number in 2..200u64 {
        publish(&mesh.leaf.0, "/down", &Data::from(number)).await;
    }
    publish(second, "/down", &Data::from(200u64)).await;
    let mut printed = Vec::new();
    while printed.len() < 200 {
        printed.push(down.prints().await);
    }
    // Two authors have no order between them.
    let at = printed.iter().position(|it| *it == "data(/down, 200)");
    printed.remove(at.unwrap());
    for (number, printed) in (1..200u64).zip(printed) {
        assert_eq!(printed, format!("data(/down, {number})"));
    }
    // Nothing came twice: what is published now comes next.
    publish(second, "/down", &Data::from(201u64)).await;
    assert_eq!(down.prints().await, "data(/down, 201)");
}

/// A Broker that forwards, between two relays: what one of them sends to it would come to the other, and
/// be relayed from there. That is found out; then its home alone has to do with it, and all is heard once.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_forwards_between_two_relays_makes_no_loop() {
    let Some(pipe) = named("MUSTER_BROKER_PIPE") else {
        return;
    };
    let mut mesh = Mesh::new(&["/t"]).await;
    let mut addresses = Vec::new();
    for (relay, _) in &mesh.relays {
        addresses.push(format!("\"{}\"", listening(relay).await));
    }
    let arguments = [
        format!("--peers=[{}]", addresses.join(",")),
        "--mode=subscribe".to_owned(),
        "--topic=/t".to_owned(),
    ];
    let mut broker = pipe.run(&arguments);
    for (relay, _) in &mesh.relays {
        broker.tells("peer_added", relay).await;
    }
    // Both relays have announced it, one of them as its home, the other that it forwards, and all know.
    within(async {
        let is_known = |endpoint: &Endpoint| {
            let nodes = endpoint.mesh();
            let guests = nodes.iter().flat_map(|node| &node.guests);
            let homes = guests.clone().filter(|guest| guest.filter.is_some());
            let forwarding = guests.clone().filter(|guest| guest.forwards);
            (guests.count(), homes.count(), forwarding.count()) == (2, 1, 1)
        };
        let [(first, _), (second, _)] = &mesh.relays;
        while ![first, second, &mesh.leaf.0].into_iter().all(is_known) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let [first, second] = &mut mesh.relays;
    let mut all = [&mut mesh.leaf, first, second];
    for number in 0..50u64 {
        for (at, (endpoint, _)) in (0u64..).zip(&all) {
            publish(endpoint, "/t", &Data::from(at * 100 + number)).await;
        }
    }
    let mut printed = std::collections::BTreeSet::new();
    while printed.len() < 150 {
        let line = broker.prints().await;
        assert!(printed.insert(line.clone()), "{line} came twice");
    }
    // What would go around would do so many thousand times a second.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(broker.output.try_recv().is_err());
    for (_, inbox) in &mut all {
        let mut heard = std::collections::BTreeSet::new();
        while inbox.has_data().await {
            let (_, value) = inbox.data().await;
            assert!(heard.insert(value.to_string()), "{value} came twice");
        }
        assert_eq!(heard.len(), 100);
    }
}

fn printed_values() -> Vec<(Data, &'static str)> {
    vec![
        (Data::None, "nil"),
        (Data::from(true), "T"),
        (Data::from(u64::MAX), "18446744073709551615"),
        (Data::from(-5i64), "-5"),
        (Data::from(0.5), "0.500000"),
        (Data::Real(f64::NEG_INFINITY), "-inf"),
        (Data::from("text"), "text"),
        (parsed("10.1.2.3"), "10.1.2.3"),
        (parsed("2001:db8::1"), "2001:db8::1"),
        (parsed("10.0.0.0/8"), "10.0.0.0/8"),
        (parsed("2001:db8::/32"), "2001:db8::/32"),
        (parsed("80/tcp"), "80/tcp"),
        (parsed("8/icmp"), "8/icmp"),
        (
            Data::from(Timestamp::from_secs(1_767_323_045)),
            "1767323045000000000ns",
        ),
        (Data::from(Timespan::from_millis(-1_500)), "-1500000000ns"),
        (Data::enum_value("Foo::BAR"), "Foo::BAR"),
        (Data::set([Data::from(1i64), Data::from("x")]), "{1, x}"),
        (Data::table([(Data::from("k"), Data::None)]), "{k -> nil}"),
        (parsed("[[], {}, {->}]"), "((), {}, {})"),
    ]
}

/// Values that the printed form does not tell apart, or not exactly.
fn relayed_values() -> Vec<Data> {
    let mut values: Vec<Data> = printed_values()
        .into_iter()
        .map(|(value, _)| value)
        .collect();
    values.extend([
        Data::from(u64::MIN),
        Data::from(i64::MIN),
        Data::from(f64::MAX),
        Data::from(f64::MIN_POSITIVE),
        Data::from(-0.0),
        Data::from(0.1),
        Data::from(f64::INFINITY),
        Data::from(f64::NAN),
        Data::string([0, 0xff, b'"']),
        Data::string(vec![7; 1 << 20]),
        Data::set([Data::from(1u64), Data::from(1i64), Data::from(1.0)]),
    ]);
    values
}

fn parsed(text: &str) -> Data {
    text.parse().unwrap()
}

fn combinations() -> impl Iterator<Item = ([u8; 16], PeerOrigin)> {
    IDS.into_iter()
        .flat_map(|id| DIALLERS.map(|dialler| (id, dialler)))
}

/// One of Broker's programs.
struct Program(String);

/// The program that a variable names; without it, the test is skipped, aloud.
fn named(variable: &str) -> Option<Program> {
    if let Ok(path) = std::env::var(variable) {
        return Some(Program(path));
    }
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    // Not by a macro: the test harness would keep it to itself.
    let mut stderr = std::io::stderr();
    writeln!(
        stderr,
        "SKIPPED {test}: {variable} names no program of C++ Broker"
    )
    .unwrap();
    None
}

impl Program {
    /// Starts `broker-pipe` and makes one side dial the other.
    async fn start(&self, endpoint: &Endpoint, dialler: PeerOrigin, more: &[&str]) -> Broker {
        let mut arguments: Vec<String> = more.iter().map(|&text| text.to_owned()).collect();
        match dialler {
            PeerOrigin::Dialled => {
                let port = free_port();
                arguments.push(format!("--local-port={port}"));
                endpoint.dial(&format!("127.0.0.1:{port}"), RETRY);
            }
            PeerOrigin::Accepted => {
                arguments.push(format!("--peers=[\"{}\"]", listening(endpoint).await));
            }
        }
        self.run(&arguments)
    }

    fn run(&self, arguments: &[String]) -> Broker {
        let mut child = Command::new(&self.0)
            .arg("--disable-ssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.0));
        Broker {
            input: child.stdin.take(),
            output: lines(child.stdout.take().unwrap()),
            talk: lines(child.stderr.take().unwrap()),
            child,
        }
    }
}

/// A running program; killed when dropped.
struct Broker {
    child: Child,
    input: Option<ChildStdin>,
    output: mpsc::Receiver<String>,
    talk: mpsc::Receiver<String>,
}

impl Broker {
    fn write(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line of stdout.
    async fn prints(&mut self) -> String {
        within(self.output.recv())
            .await
            .expect("the program has ended")
    }

    /// Waits until `broker-pipe` tells of a change of its peering with `endpoint`.
    async fn tells(&mut self, change: &str, endpoint: &Endpoint) {
        let start = format!(
            "*** data(<$>/local/data/statuses, (status, {change}, ({}",
            endpoint.id()
        );
        while !within(self.talk.recv())
            .await
            .expect("the program has ended")
            .starts_with(&start)
        {}
    }

    async fn ended(&mut self) -> ExitStatus {
        while within(self.output.recv()).await.is_some() {}
        while within(self.talk.recv()).await.is_some() {}
        self.child.wait().unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1024);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A port for a program that cannot choose one itself.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// An endpoint whose goodbyes have no limit, and what it receives of some topics.
async fn endpoint(id: [u8; 16], prefixes: &[&str]) -> (Endpoint, Inbox) {
    let config = EndpointConfig {
        id: Some(EndpointId::from_random(id)),
        bye_timeout: Duration::from_secs(3600),
        ..EndpointConfig::default()
    };
    started(config, prefixes).await
}

async fn started(config: EndpointConfig, prefixes: &[&str]) -> (Endpoint, Inbox) {
    let endpoint = Endpoint::start(config).unwrap();
    let limits = QueueLimits {
        messages: 10_000,
        bytes: 64 << 20,
    };
    let subscriber = endpoint.subscribe_with_statuses(prefixes, limits).await;
    let inbox = Inbox {
        subscriber,
        waiting: VecDeque::new(),
    };
    (endpoint, inbox)
}

async fn listening(endpoint: &Endpoint) -> String {
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    endpoint
        .listen(address, Exposure::Guarded)
        .await
        .unwrap()
        .to_string()
}

/// Publishes as soon as a peer subscribes to the topic.
async fn publish(endpoint: &Endpoint, to: &str, value: &Data) {
    let (mut publisher, topic) = (endpoint.publisher(), Topic::new(to).unwrap());
    within(async {
        while publisher.publish(&topic, value).no_subscriber() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// What a subscriber receives, one by one and in order.
struct Inbox {
    subscriber: Subscriber,
    waiting: VecDeque<Event>,
}

#[derive(Debug)]
enum Event {
    Message(String, Data),
    Status(Status),
}

impl Inbox {
    async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return event;
            }
            match self.subscriber.receive().await.unwrap() {
                // Before a program listens, and after it was killed, dials fail.
                Delivery::Status(Status::PeerUnavailable { .. }) => {}
                Delivery::Status(status) => return Event::Status(status),
                Delivery::Batch(batch) => self.waiting.extend(batch.iter().map(|message| {
                    let value = DataRef::from_validated(message.payload).to_data();
                    Event::Message(message.topic.to_string(), value)
                })),
            }
        }
    }

    /// The next message, as (topic, value).
    async fn message(&mut self) -> (String, Data) {
        match within(self.next()).await {
            Event::Message(topic, value) => (topic, value),
            Event::Status(status) => panic!("unexpected {status}"),
        }
    }

    /// The next message, whatever is told before it.
    async fn data(&mut self) -> (String, Data) {
        loop {
            if let Event::Message(topic, value) = within(self.next()).await {
                return (topic, value);
            }
        }
    }

    /// Whether a message is there or comes soon, whatever is told before it.
    async fn has_data(&mut self) -> bool {
        while self.has_message().await {
            if matches!(self.waiting.front(), Some(Event::Message(..))) {
                return true;
            }
            self.waiting.pop_front();
        }
        false
    }

    /// Whether a message is there or comes soon.
    async fn has_message(&mut self) -> bool {
        match tokio::time::timeout(Duration::from_millis(50), self.next()).await {
            Ok(event) => {
                self.waiting.push_front(event);
                true
            }
            Err(_) => false,
        }
    }

    async fn status(&mut self) -> Status {
        match within(self.next()).await {
            Event::Status(status) => status,
            Event::Message(topic, value) => panic!("unexpected {value} on {topic}"),
        }
    }

    async fn added(&mut self) -> PeerInfo {
        match self.status().await {
            Status::PeerAdded(peer) => peer,
            other => panic!("unexpected {other}"),
        }
    }

    async fn lost(&mut self) -> EndpointId {
        match self.status().await {
            Status::PeerLost { peer, .. } => peer.id,
            other => panic!("unexpected {other}"),
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("within ten seconds")
}
