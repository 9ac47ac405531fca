//! `muster publish`: publishes an event, or the messages that stdin brings.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use muster::Endpoint;
use muster_data::DataRef;
use muster_gateway::{ClientError, Incoming, ServerUrl};
use muster_wire::{EndpointId, Topic};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::questions::{Questions, request_topic};
use super::{message, websocket};
use crate::arguments::{ConnectionArguments, seconds};
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, say};

/// Publish an event, or messages from stdin
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address of an endpoint (`127.0.0.1:9999`) or of a WebSocket server (`ws://127.0.0.1:27759`)
    pub(crate) address: String,
    /// The topic
    #[arg(required_unless_present = "lines")]
    pub(crate) topic: Option<String>,
    /// The event's name
    #[arg(required_unless_present = "lines")]
    pub(crate) event: Option<String>,
    /// The event's arguments: `count:5`, `addr:10.0.0.1`, `"text"`, `[1, 2]`, or JSON
    #[arg(allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    /// Publish messages from stdin instead, one per line, as `subscribe --format json` prints them
    #[arg(long, conflicts_with_all = ["topic", "event", "arguments"])]
    pub(crate) lines: bool,
    /// How long to wait for the endpoint to subscribe to the topic, in seconds
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(&self))
    }
}

/// The longest line of JSON, in bytes.
const LONGEST_LINE: u64 = 64 << 20;

/// How long a message waits at most until the endpoint has room for it.
const ROOM: Duration = Duration::from_secs(60);

/// How long a WebSocket server's complaint may take.
const COMPLAINT: Duration = Duration::from_millis(300);

/// How long a WebSocket server may take to confirm that it has read everything.
const CONFIRMATION: Duration = Duration::from_secs(5);

/// How long a node may take to say whether it is ready; a process of Zeek's says nothing.
const ANSWER: Duration = Duration::from_millis(500);

/// The messages that are read from stdin before there is room for them.
const READ_AHEAD: usize = 16;

/// What is to be published.
struct Planned {
    topic: Topic,
    /// The value, encoded.
    payload: Vec<u8>,
    /// The line of stdin that it comes from.
    line: Option<usize>,
}

type Messages = Box<dyn Iterator<Item = Result<Planned>> + Send>;

/// How far the messages have come.
#[derive(Debug, Default)]
struct Progress {
    /// Messages that the connection has taken.
    handed_over: usize,
    /// The line that it takes next.
    line: Option<usize>,
}

impl Progress {
    /// Names a failure, and with messages from stdin what it did not reach.
    fn failure(&self, problem: &str) -> Failure {
        let Some(line) = self.line else {
            return Failure::new(problem);
        };
        let handed_over = self.handed_over;
        Failure::new(format!(
            "{problem}: {handed_over} messages were handed over before, and line {line} is the first that was not"
        ))
        .hint("of what was handed over last, some may not have arrived")
    }
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let messages = messages(arguments)?;
    if let Some(url) = websocket::url(&arguments.address)? {
        return over_websocket(&url, &arguments.connection, messages).await;
    }
    let endpoint = super::start(&arguments.address, &arguments.connection)?;
    let questions = Questions::new(&endpoint).await;
    let peer = super::dial(&endpoint, &arguments.address, false).await?;
    let unseen = until_all_seen(&endpoint, peer.id, questions, arguments.timeout).await;
    if unseen > 0 {
        say(&format!(
            "warning: {unseen} nodes of the layout have not come up yet, and do not hear this"
        ));
    }
    let mut publisher = endpoint.publisher();
    let mut progress = Progress::default();
    let mut failed = None;
    for message in messages {
        let Planned {
            topic,
            payload,
            line,
        } = message?;
        progress.line = line;
        let subscribed = wait_for_subscription(&endpoint, peer.id, &topic, arguments.timeout).await;
        if let Err(failure) = subscribed {
            failed = Some(progress.failure(&failure.message).or_hint(failure.hint));
            break;
        }
        let bytes = topic.as_bytes().len() + payload.len();
        let outcome = publisher
            .publish_encoded_waiting(&topic, Bytes::from(payload), ROOM)
            .await;
        if outcome.too_large > 0 {
            let most = endpoint.config().largest_message();
            let problem = format!("a message of {bytes} bytes on {topic} is too large");
            let hint = format!("{most} bytes of topic and value are the most");
            failed = Some(progress.failure(&problem).or_hint(Some(hint)));
            break;
        }
        if outcome.queued_to == 0 {
            failed = Some(progress.failure(&format!("{} went away", arguments.address)));
            break;
        }
        progress.handed_over += 1;
    }
    // Waits until the peer has confirmed that it has read everything.
    endpoint.shut_down().await;
    if let Some(failure) = failed {
        return Err(failure.into());
    }
    let lost = causes(&endpoint);
    let total: u64 = lost.values().sum();
    if total > 0 {
        let causes = crate::cluster::status::causes(&lost);
        let message = format!(
            "{total} of {} messages did not reach {}: {causes}",
            progress.handed_over, arguments.address
        );
        return Err(Failure::new(message).into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until a node has seen all other nodes of its layout: in a cluster that starts, whoever has not come up yet would
/// hear nothing. Returns how many are missing if that takes too long. Whoever is no node of Muster misses nobody.
async fn until_all_seen(
    endpoint: &Endpoint,
    peer: EndpointId,
    mut questions: Questions,
    limit: Duration,
) -> u64 {
    let end = Instant::now() + limit;
    loop {
        let filter = endpoint.filter_of(peer).unwrap_or_default();
        let Some(topic) = request_topic(peer, &filter) else {
            return 0;
        };
        let Some(reply) = questions.ask(&topic, ANSWER).await else {
            return 0;
        };
        let unseen = reply.unseen.unwrap_or(0);
        if unseen == 0 || Instant::now() >= end {
            return unseen;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What did not reach the endpoint, by cause.
fn causes(endpoint: &Endpoint) -> BTreeMap<String, u64> {
    let mut causes = BTreeMap::new();
    for peer in endpoint.counts().peers {
        for (cause, messages) in peer.dropped.by_cause() {
            *causes.entry(cause.name().to_owned()).or_default() += messages;
        }
    }
    causes
}

fn messages(arguments: &Arguments) -> Result<Messages> {
    if arguments.lines {
        return Ok(Box::new(lines(std::io::stdin())));
    }
    let (Some(topic), Some(event)) = (&arguments.topic, &arguments.event) else {
        return Err(Failure::new("the topic and the event are missing")
            .hint("use muster publish ADDRESS TOPIC EVENT [ARGUMENT]..., or --lines")
            .code(2)
            .into());
    };
    let topic = Topic::new(topic)?;
    let payload = message::event(event, &arguments.arguments)?;
    Ok(Box::new(std::iter::once(Ok(Planned {
        topic,
        payload,
        line: None,
    }))))
}

/// The messages of lines of JSON; empty lines are passed over.
fn lines(
    source: impl Read + Send + 'static,
) -> impl Iterator<Item = Result<Planned>> + Send + 'static {
    let mut source = BufReader::new(source);
    let mut number = 0;
    std::iter::from_fn(move || {
        loop {
            number += 1;
            let mut line = String::new();
            match source.by_ref().take(LONGEST_LINE).read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) if line.trim().is_empty() => {}
                Ok(_) => {
                    let read = message::of_line(number, &line);
                    return Some(read.map(|(topic, payload)| Planned {
                        topic,
                        payload,
                        line: Some(number),
                    }));
                }
                Err(error) => {
                    let failure = Failure::new(format!("line {number}: {error}"));
                    return Some(Err(failure.into()));
                }
            }
        }
    })
}

async fn wait_for_subscription(
    endpoint: &Endpoint,
    peer: EndpointId,
    topic: &Topic,
    timeout: Duration,
) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    loop {
        if endpoint.has_subscriber(topic) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let entries = endpoint.filter_of(peer).unwrap_or_default();
            let entries: Vec<String> = entries
                .iter()
                .map(|entry| String::from_utf8_lossy(entry).into_owned())
                .collect();
            return Err(
                Failure::new(format!("nothing there subscribes to {topic}")).hint(format!(
                    "the endpoint subscribes to: {}",
                    entries.join(", ")
                )),
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Publishes through a WebSocket server.
async fn over_websocket(
    url: &ServerUrl,
    connection: &ConnectionArguments,
    messages: Messages,
) -> Result<ExitCode> {
    let mut connection = websocket::open(url, connection, &[]).await?;
    let lost =
        |error: ClientError, progress: &Progress| progress.failure(&format!("lost {url}: {error}"));
    let mut progress = Progress::default();
    let mut messages = read_ahead(messages);
    let mut complaint = None;
    // Stdin may say nothing for long: the server is listened to meanwhile, and its pings are answered.
    loop {
        tokio::select! {
            message = messages.recv() => {
                let Some(message) = message else {
                    break;
                };
                let message = message?;
                progress.line = message.line;
                let topic = String::from_utf8_lossy(message.topic.as_bytes()).into_owned();
                let value = DataRef::from_validated(&message.payload);
                let published = connection.publish(&topic, value).await;
                published.map_err(|error| lost(error, &progress))?;
                progress.handed_over += 1;
                progress.line = message.line.map(|line| line + 1);
            }
            incoming = connection.receive() => {
                complain(incoming.map_err(|error| lost(error, &progress))?, &mut complaint);
            }
        }
    }
    // What the server does not take it says soon.
    let deadline = Instant::now() + COMPLAINT;
    while complaint.is_none()
        && let Ok(incoming) = timeout_at(deadline, connection.receive()).await
    {
        complain(
            incoming.map_err(|error| lost(error, &progress))?,
            &mut complaint,
        );
    }
    if let Some((code, context)) = complaint {
        let hint = if code == "permission_denied" {
            "the server's token file says what each token may publish"
        } else {
            "a Zeek process only accepts events that it has declared, with the declared types"
        };
        let message = format!("{url} refused it: {code}: {context}");
        return Err(Failure::new(message).hint(hint).into());
    }
    if !connection.close(CONFIRMATION).await {
        let text =
            format!("{url} did not confirm within {CONFIRMATION:?} that it has read everything");
        return Err(Failure::new(text).into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Messages as a thread of their own reads them: whoever waits for the next one can do something else.
fn read_ahead(messages: Messages) -> mpsc::Receiver<Result<Planned>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    std::thread::spawn(move || {
        for message in messages {
            if sender.blocking_send(message).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Keeps the first complaint of a server.
fn complain(incoming: Incoming, complaint: &mut Option<(String, String)>) {
    if let Incoming::Error { code, context } = incoming {
        complaint.get_or_insert((code, context));
    }
}
