//! `muster peers`: who an endpoint is, what it subscribes to and, if it is a Muster node, its peers.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use muster::PeersReply;
use muster_data::{DataRef, encode_to_vec};
use muster_gateway::{Incoming, ServerUrl};
use muster_wire::EndpointId;
use muster_wire::zeek::EventRef;

use super::questions::{Questions, request, request_topic};
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
    let mut questions = Questions::new(&endpoint).await;
    let peer = super::dial(&endpoint, &arguments.address, false).await?;
    let filter = endpoint.filter_of(peer.id).unwrap_or_default();
    let mut text = format!("endpoint {} at {}\nsubscribes to:\n", peer.id, peer.address);
    for entry in &filter {
        let _ = writeln!(text, "  {}", String::from_utf8_lossy(entry));
    }
    match request_topic(peer.id, &filter) {
        None => text.push_str("not a cluster node: it does not tell its peers\n"),
        Some(topic) => match questions.ask(&topic, ANSWER).await {
            Some(reply) => text.push_str(&table(&reply)),
            None => text.push_str("it did not tell its peers: not a Muster node\n"),
        },
    }
    endpoint.shut_down().await;
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn table(reply: &PeersReply) -> String {
    let state = reply
        .state
        .as_deref()
        .map_or_else(String::new, |state| format!(" ({state})"));
    let mut text = format!("node {}{state}\n", reply.node);
    let _ = writeln!(
        text,
        "{:<12} {:<36} {:<22} {:<9} {:<8} {:<8} {:>10} {:>10} {:>7} {:>8}",
        "peer",
        "endpoint id",
        "address",
        "transport",
        "dialled",
        "protocol",
        "in",
        "out",
        "queued",
        "dropped"
    );
    for peer in &reply.peers {
        let _ = writeln!(
            text,
            "{:<12} {:<36} {:<22} {:<9} {:<8} {:<8} {:>10} {:>10} {:>7} {:>8}",
            peer.node.as_deref().unwrap_or("-"),
            peer.id,
            peer.address,
            peer.transport.as_deref().unwrap_or("-"),
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
