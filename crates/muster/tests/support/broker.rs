//! C++ Broker's programs, and an endpoint's inbox.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use muster::wire::{EndpointId, QueueLimits, Topic};
use muster::{
    Delivery, Endpoint, EndpointConfig, Exposure, PeerInfo, PeerOrigin, Status, Subscriber,
};
use muster_data::{Data, DataRef};
use muster_test_support::within;
use tokio::sync::mpsc;

pub(crate) const RETRY: Option<Duration> = Some(Duration::from_millis(50));

/// One of Broker's programs.
pub(crate) struct Program(pub(crate) String);

/// The program that a variable names; without it, the test is skipped, aloud.
pub(crate) fn named(variable: &str) -> Option<Program> {
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
    pub(crate) async fn start(
        &self,
        endpoint: &Endpoint,
        dialler: PeerOrigin,
        more: &[&str],
    ) -> Broker {
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

    pub(crate) fn run(&self, arguments: &[String]) -> Broker {
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
pub(crate) struct Broker {
    pub(crate) child: Child,
    pub(crate) input: Option<ChildStdin>,
    pub(crate) output: mpsc::Receiver<String>,
    pub(crate) talk: mpsc::Receiver<String>,
}

impl Broker {
    pub(crate) fn write(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line of stdout.
    pub(crate) async fn prints(&mut self) -> String {
        within(self.output.recv())
            .await
            .expect("the program has ended")
    }

    /// Waits until `broker-pipe` tells of a change of its peering with `endpoint`.
    pub(crate) async fn tells(&mut self, change: &str, endpoint: &Endpoint) {
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

    pub(crate) async fn ended(&mut self) -> ExitStatus {
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

pub(crate) fn lines(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
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
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// An endpoint whose goodbyes have no limit, and what it receives of some topics.
pub(crate) async fn endpoint(id: [u8; 16], prefixes: &[&str]) -> (Endpoint, Inbox) {
    let config = EndpointConfig {
        id: Some(EndpointId::from_random(id)),
        bye_timeout: Duration::from_secs(3600),
        ..EndpointConfig::default()
    };
    started(config, prefixes).await
}

pub(crate) async fn started(config: EndpointConfig, prefixes: &[&str]) -> (Endpoint, Inbox) {
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

pub(crate) async fn listening(endpoint: &Endpoint) -> String {
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    endpoint
        .listen(address, Exposure::Guarded)
        .await
        .unwrap()
        .to_string()
}

/// Publishes as soon as a peer subscribes to the topic.
pub(crate) async fn publish(endpoint: &Endpoint, to: &str, value: &Data) {
    let (mut publisher, topic) = (endpoint.publisher(), Topic::new(to).unwrap());
    within(async {
        while publisher.publish(&topic, value).no_subscriber() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// What a subscriber receives, one by one and in order.
pub(crate) struct Inbox {
    pub(crate) subscriber: Subscriber,
    pub(crate) waiting: VecDeque<Event>,
}

#[derive(Debug)]
pub(crate) enum Event {
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
    pub(crate) async fn message(&mut self) -> (String, Data) {
        match within(self.next()).await {
            Event::Message(topic, value) => (topic, value),
            Event::Status(status) => panic!("unexpected {status}"),
        }
    }

    /// The next message, whatever is told before it.
    pub(crate) async fn data(&mut self) -> (String, Data) {
        loop {
            if let Event::Message(topic, value) = within(self.next()).await {
                return (topic, value);
            }
        }
    }

    /// Whether a message is there or comes soon, whatever is told before it.
    pub(crate) async fn has_data(&mut self) -> bool {
        while self.has_message().await {
            if matches!(self.waiting.front(), Some(Event::Message(..))) {
                return true;
            }
            self.waiting.pop_front();
        }
        false
    }

    /// Whether a message is there or comes soon.
    pub(crate) async fn has_message(&mut self) -> bool {
        match tokio::time::timeout(Duration::from_millis(50), self.next()).await {
            Ok(event) => {
                self.waiting.push_front(event);
                true
            }
            Err(_) => false,
        }
    }

    pub(crate) async fn status(&mut self) -> Status {
        match within(self.next()).await {
            Event::Status(status) => status,
            Event::Message(topic, value) => panic!("unexpected {value} on {topic}"),
        }
    }

    pub(crate) async fn added(&mut self) -> PeerInfo {
        match self.status().await {
            Status::PeerAdded(peer) => peer,
            other => panic!("unexpected {other}"),
        }
    }

    pub(crate) async fn lost(&mut self) -> EndpointId {
        match self.status().await {
            Status::PeerLost { peer, .. } => peer.id,
            other => panic!("unexpected {other}"),
        }
    }
}
