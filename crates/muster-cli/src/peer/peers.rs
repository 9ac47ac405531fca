//! `muster peers`: who an endpoint is, what it subscribes to and, if it is a Muster node, its peers.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use muster::{Delivery, Endpoint, PeersReply, PeersRequest};
use muster_data::{DataRef, Encode, Record, encode_to_vec};
use muster_gateway::{Incoming, ServerUrl};
use muster_wire::zeek::{self, EventRef, Metadata};
use muster_wire::{Class, EndpointId, Topic};

use super::websocket;
use crate::arguments::ConnectionArguments;
use crate::commands::{Execute, on_runtime};
use crate::output::print;

/// Show an endpoint's peers and subscriptions
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address of an endpoint (`127.0.0.1:9999`) or of a WebSocket server (`ws://127.0.0.1:27759`)
    pub(crate) address: String,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(&self))
    }
}

/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(url) = websocket::url(&arguments.address)? {
        return over_websocket(&url, arguments).await;
    }
    let endpoint = super::start(&arguments.address, &arguments.connection)?;
    // A node answers to the id's topic, whatever its prefix: the topic is known from its own.
    let mut subscriber = endpoint
        .subscribe([format!("muster/peers/{}/", endpoint.id())])
        .await;
    let peer = super::dial(&endpoint, &arguments.address, false).await?;
    let filter = endpoint.filter_of(peer.id).unwrap_or_default();
    let mut text = format!("endpoint {} at {}\nsubscribes to:\n", peer.id, peer.address);
    for entry in &filter {
        let _ = writeln!(text, "  {}", String::from_utf8_lossy(entry));
    }
    match request_topic(peer.id, &filter) {
        None => text.push_str("not a cluster node: it does not tell its peers\n"),
        Some(topic) => {
            ask(&endpoint, &topic);
            let answer = tokio::time::timeout(ANSWER, async {
                while let Some(Delivery::Batch(batch)) = subscriber.receive().await {
                    let value = batch
                        .iter()
                        .next()
                        .map(|message| DataRef::from_validated(message.payload));
                    let event = value.and_then(|value| EventRef::read(value).ok());
                    if let Some(reply) =
                        event.and_then(|event| event.arguments().to::<PeersReply>().ok())
                    {
                        return Some(reply);
                    }
                }
                None
            });
            match answer.await.ok().flatten() {
                Some(reply) => text.push_str(&table(&reply)),
                None => text.push_str("it did not tell its peers: not a Muster node\n"),
            }
        }
    }
    endpoint.shut_down().await;
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A cluster node's topic for its own id, if it subscribes to one.
fn request_topic(id: EndpointId, filter: &[Vec<u8>]) -> Option<Topic> {
    let suffix = format!("/nodeid/{id}/");
    let entry = filter
        .iter()
        .find(|entry| entry.ends_with(suffix.as_bytes()))?;
    Topic::new(entry).ok()
}

/// The event that asks a node for its peers.
fn request() -> Vec<u8> {
    let mut event = Vec::new();
    zeek::put_event(&mut event, PeersRequest::NAME, Metadata::default(), |out| {
        PeersRequest {}.encode(out);
    });
    event
}

fn ask(endpoint: &Endpoint, topic: &Topic) {
    // An unanswered question is noticed by its time-out.
    let _ = endpoint
        .publisher()
        .publish_encoded(topic, Bytes::from(request()), Class::Interactive);
}

fn table(reply: &PeersReply) -> String {
    let mut text = format!("node {}\n", reply.node);
    let _ = writeln!(
        text,
        "{:<12} {:<36} {:<22} {:<8} {:<8} {:>10} {:>10} {:>7} {:>8}",
        "peer", "endpoint id", "address", "dialled", "protocol", "in", "out", "queued", "dropped"
    );
    for peer in &reply.peers {
        let _ = writeln!(
            text,
            "{:<12} {:<36} {:<22} {:<8} {:<8} {:>10} {:>10} {:>7} {:>8}",
            peer.node.as_deref().unwrap_or("-"),
            peer.id,
            peer.address,
            if peer.dialled { "by it" } else { "by peer" },
            peer.protocol,
            peer.messages_in,
            peer.messages_out,
            peer.queued,
            peer.dropped,
        );
    }
    text
}

async fn over_websocket(url: &ServerUrl, arguments: &Arguments) -> Result<ExitCode> {
    let prefix = ["muster/peers/".to_owned()];
    let mut connection = websocket::open(url, &arguments.connection, &prefix).await?;
    let mut text = format!(
        "WebSocket server at {url}\nversion {}\nthis client {}\n",
        connection.version(),
        connection.endpoint()
    );
    // A client's name begins with the id of the endpoint that serves it.
    let id = connection.endpoint().get(..36).unwrap_or_default();
    if let Ok(id) = id.parse::<EndpointId>() {
        let event = request();
        let topic = format!("zeek/cluster/nodeid/{id}/");
        connection
            .publish(&topic, DataRef::from_validated(&event))
            .await?;
    }
    let answer = async {
        while let Ok(incoming) = connection.receive().await {
            let Incoming::Message { data, .. } = incoming else {
                return None;
            };
            let value = encode_to_vec(&data);
            let event = EventRef::read(DataRef::from_validated(&value)).ok();
            let reply = event.and_then(|event| event.arguments().to::<PeersReply>().ok());
            if reply.is_some() {
                return reply;
            }
        }
        None
    };
    match tokio::time::timeout(ANSWER, answer).await.ok().flatten() {
        Some(reply) => text.push_str(&table(&reply)),
        None => text.push_str("it does not tell its peers: not a Muster node\n"),
    }
    connection.close(websocket::GOODBYE).await;
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
