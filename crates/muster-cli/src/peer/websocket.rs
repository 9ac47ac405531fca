//! The same commands over WebSocket, for addresses that begin with `ws://` or `wss://`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use muster::{PeersReply, PeersRequest};
use muster_data::{DataRef, Encode, Record, encode_to_vec};
use muster_gateway::{
    ClientConfig, ClientError, Connection, Incoming, RefusalReason, ServerUrl, TlsReason,
};
use muster_wire::zeek::{self, EventRef, Metadata};
use muster_wire::{EndpointId, Topic};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::message;
use super::publish::Messages;
use super::{peers, ping, subscribe};
use crate::arguments::ConnectionArguments;
use crate::output::{Failure, print, say};

/// How long a server's complaint may take.
const COMPLAINT: Duration = Duration::from_millis(300);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a goodbye may take behind which nothing depends on it.
const GOODBYE: Duration = Duration::from_secs(1);

/// The messages that are read from stdin before there is room for them.
const READ_AHEAD: usize = 16;

/// The pause between two attempts or pings.
const PAUSE: Duration = Duration::from_secs(1);

/// A WebSocket server, if that is what an address names.
pub(super) fn url(address: &str) -> Result<Option<ServerUrl>> {
    if !address.starts_with("ws://") && !address.starts_with("wss://") {
        return Ok(None);
    }
    let url = address.parse::<ServerUrl>();
    Ok(Some(url.map_err(|error| Failure::new(error.to_string()))?))
}

/// How to present oneself, as the arguments have it.
fn config(url: &ServerUrl, arguments: &ConnectionArguments) -> Result<ClientConfig> {
    if arguments.mode.is_some() {
        return Err(Failure::new(format!("--tls does not apply to {url}"))
            .hint("use wss:// for encryption; --ssl-cafile names the trusted authorities")
            .into());
    }
    Ok(ClientConfig {
        application: "muster".to_owned(),
        token: arguments.token()?,
        cafile: arguments.ssl_cafile.clone(),
        ..ClientConfig::default()
    })
}

async fn open(
    url: &ServerUrl,
    arguments: &ConnectionArguments,
    prefixes: &[String],
) -> Result<Connection> {
    connect(url, &config(url, arguments)?, prefixes).await
}

async fn connect(
    url: &ServerUrl,
    config: &ClientConfig,
    prefixes: &[String],
) -> Result<Connection> {
    let opened = Connection::open(url, config, prefixes).await;
    Ok(opened.map_err(|error| {
        let hint = match &error {
            ClientError::Refused {
                reason: RefusalReason::Status { status: 401, .. },
                ..
            } => "use --token-file to give the file with the token",
            ClientError::Tls {
                reason: TlsReason::OtherHost,
                ..
            } => {
                "the certificate must name the host of the address, as those of `muster tls init` do"
            }
            ClientError::Tls { .. } => "--ssl-cafile names the authorities to trust",
            _ => "a WebSocket address is ws://HOST:PORT or wss://HOST:PORT",
        };
        Failure::new(error.to_string()).hint(hint)
    })?)
}

pub(super) async fn subscribe(
    url: &ServerUrl,
    arguments: &subscribe::Arguments,
) -> Result<ExitCode> {
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let mut told = false;
    // What is wrong with the arguments does not become right by trying again.
    let config = config(url, &arguments.connection)?;
    while left > 0 {
        let opened = connect(url, &config, &arguments.prefixes).await;
        let mut connection = match opened {
            Ok(connection) => connection,
            Err(error) if arguments.follow_reconnect => {
                if !told {
                    say(&format!("{error}; retrying"));
                    told = true;
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        told = false;
        while left > 0 {
            match connection.receive().await {
                Ok(Incoming::Message { topic, data }) => {
                    let value = encode_to_vec(&data);
                    let value = DataRef::from_validated(&value);
                    let line = message::line(topic.as_bytes(), value, arguments.format);
                    let mut out = io::stdout().lock();
                    out.write_all(&line)?;
                    out.flush()?;
                    left -= 1;
                }
                Ok(Incoming::Error { code, context }) => say(&format!("{code}: {context}")),
                Ok(Incoming::Other(problem)) => say(&format!("not understood: {problem}")),
                Err(error) if arguments.follow_reconnect => {
                    say(&format!("lost {url}: {error}; reconnecting"));
                    break;
                }
                Err(error) => {
                    return Err(Failure::new(format!("lost {url}: {error}"))
                        .hint("use --follow-reconnect to reconnect")
                        .into());
                }
            }
        }
        if left == 0 {
            connection.close(GOODBYE).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn publish(
    url: &ServerUrl,
    connection: &ConnectionArguments,
    messages: Messages,
) -> Result<ExitCode> {
    let mut connection = open(url, connection, &[]).await?;
    let lost = |error: ClientError| Failure::new(format!("lost {url}: {error}"));
    let mut messages = read_ahead(messages);
    let mut complaint = None;
    // Stdin may say nothing for long: the server is listened to meanwhile, and its pings are answered.
    loop {
        tokio::select! {
            message = messages.recv() => {
                let Some(message) = message else {
                    break;
                };
                let (topic, payload) = message?;
                let topic = String::from_utf8_lossy(topic.as_bytes()).into_owned();
                let value = DataRef::from_validated(&payload);
                connection.publish(&topic, value).await.map_err(lost)?;
            }
            incoming = connection.receive() => complain(incoming.map_err(lost)?, &mut complaint),
        }
    }
    // What the server does not take it says soon.
    let deadline = Instant::now() + COMPLAINT;
    while complaint.is_none()
        && let Ok(incoming) = timeout_at(deadline, connection.receive()).await
    {
        complain(incoming.map_err(lost)?, &mut complaint);
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
    if !connection.close(ANSWER).await {
        let text = format!("{url} did not confirm within {ANSWER:?} that it has read everything");
        return Err(Failure::new(text).into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Messages as a thread of their own reads them: whoever waits for the next one can do something else.
fn read_ahead(messages: Messages) -> mpsc::Receiver<Result<(Topic, Vec<u8>)>> {
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

pub(super) async fn ping(url: &ServerUrl, arguments: &ping::Arguments) -> Result<ExitCode> {
    let mut connection = open(url, &arguments.connection, &[]).await?;
    for number in 1..=arguments.count {
        if number > 1 {
            tokio::time::sleep(PAUSE).await;
        }
        let answer = tokio::time::timeout(ANSWER, connection.ping()).await;
        let span = answer.map_err(|_| Failure::new(format!("{url} does not answer")))??;
        print(&format!(
            "{} at {url} ({}): {:.3} ms\n",
            connection.endpoint(),
            connection.version(),
            span.as_secs_f64() * 1000.0
        ))?;
    }
    connection.close(GOODBYE).await;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn peers(url: &ServerUrl, arguments: &peers::Arguments) -> Result<ExitCode> {
    let prefix = ["muster/peers/".to_owned()];
    let mut connection = open(url, &arguments.connection, &prefix).await?;
    let mut text = format!(
        "WebSocket server at {url}\nversion {}\nthis client {}\n",
        connection.version(),
        connection.endpoint()
    );
    // A client's name begins with the id of the endpoint that serves it.
    let id = connection.endpoint().get(..36).unwrap_or_default();
    if let Ok(id) = id.parse::<EndpointId>() {
        let mut event = Vec::new();
        zeek::put_event(&mut event, PeersRequest::NAME, Metadata::default(), |out| {
            PeersRequest {}.encode(out);
        });
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
    match tokio::time::timeout(peers::ANSWER, answer)
        .await
        .ok()
        .flatten()
    {
        Some(reply) => text.push_str(&peers::table(&reply)),
        None => text.push_str("it does not tell its peers: not a Muster node\n"),
    }
    connection.close(GOODBYE).await;
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
