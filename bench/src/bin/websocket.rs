//! Delivery to WebSocket clients: one gateway process, one process with 1, 10, 100 or 1,000 clients.
//!
//! `cargo run --release -p muster-bench --bin websocket`. Events shaped like rows of Zeek's conn.log
//! are published in the gateway's own process, as fast as the clients take them. The clients read and
//! look at nothing. On a machine with few cores they take their part of them: the gateway's CPU per
//! delivery is the steadier figure.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use muster::wire::zeek::{Metadata, put_event};
use muster::wire::{Class, Topic};
use muster::{Endpoint, EndpointConfig};
use muster_data::{Encode, Record};
use muster_gateway::{Gateway, GatewayConfig, PATH};
use muster_measure::{Conn, cpu_seconds};
use tokio_tungstenite::tungstenite::Message;

/// How long events are published.
const PUBLISH_FOR: Duration = Duration::from_secs(3);

/// Events that are published ahead of the slowest client at most.
const AHEAD: u64 = 2000;

/// Events that are published before the clients are looked at again.
const BURST: u64 = 100;

fn event() -> Result<Vec<u8>> {
    let conn = Conn::sample()?;
    let mut out = Vec::new();
    put_event(&mut out, Conn::NAME, Metadata::default(), |out| {
        conn.encode(out);
    });
    Ok(out)
}

/// Connects clients, says so, and reads until the gateway ends.
async fn clients(url: String, count: usize) -> Result<()> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        let (mut socket, _) = tokio_tungstenite::connect_async(&url).await?;
        socket.send(Message::Text("[\"/bench/\"]".into())).await?;
        while !matches!(socket.next().await.context("an end")??, Message::Text(_)) {}
        sockets.push(socket);
    }
    println!("ready");
    let readers: Vec<_> = sockets
        .into_iter()
        .map(|mut socket| {
            tokio::spawn(async move { while let Some(Ok(_)) = socket.next().await {} })
        })
        .collect();
    for reader in readers {
        reader.await?;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
async fn measure(count: usize) -> Result<()> {
    let endpoint = Endpoint::start(EndpointConfig::default())?;
    let config = GatewayConfig {
        address: ([127, 0, 0, 1], 0).into(),
        ..GatewayConfig::default()
    };
    let gateway = Gateway::start(&endpoint, config).await?;
    let url = format!("ws://{}{PATH}", gateway.address());
    let mut child = Command::new(std::env::current_exe()?)
        .args(["clients", &url, &count.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ready = String::new();
    let out = child.stdout.take().context("a pipe")?;
    tokio::task::spawn_blocking(move || BufReader::new(out).read_line(&mut ready)).await??;
    let mut publisher = endpoint.publisher();
    let topic = Topic::new("/bench/conn")?;
    let event = Bytes::from(event()?);
    let clients = count as u64;
    let (cpu, start) = (cpu_seconds(), Instant::now());
    let mut published = 0;
    while start.elapsed() < PUBLISH_FOR {
        let slowest = gateway.counts().clients.into_iter();
        let slowest = slowest.map(|client| client.events_out).min();
        if published >= slowest.unwrap_or_default() + AHEAD {
            tokio::time::sleep(Duration::from_micros(200)).await;
            continue;
        }
        for _ in 0..BURST {
            let _ = publisher.publish_encoded(&topic, event.clone(), Class::Event);
        }
        published += BURST;
        tokio::task::yield_now().await;
    }
    while gateway.counts().events_out < published * clients {
        anyhow::ensure!(gateway.counts().clients.len() == count, "a client is gone");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (elapsed, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let deliveries = (published * clients) as f64;
    println!(
        "{count:>5} clients {:>10.0} events/s {:>12.0} deliveries/s {:>8.2} us of the gateway's CPU each",
        published as f64 / elapsed,
        deliveries / elapsed,
        cpu * 1e6 / deliveries,
    );
    gateway.stop(Duration::from_secs(5)).await;
    child.wait()?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [what, url, count] = &arguments[..]
        && what == "clients"
    {
        return clients(url.clone(), count.parse()?).await;
    }
    println!("Events shaped like conn.log rows to WebSocket clients, JSON encoded once each");
    for count in [1, 10, 100, 1000] {
        measure(count).await?;
    }
    Ok(())
}
