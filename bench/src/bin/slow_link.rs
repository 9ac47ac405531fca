//! What compression is worth on a slow link: rows of a real log as events, and as batches of logs, between
//! two endpoints whose connection carries so many bytes a second.
//!
//! `cargo run --release -p muster-bench --bin slow_link`
//!
//! CPU is that of the whole process: publisher, both endpoints, subscriber, and the task that limits the
//! rate, for each row.

#![allow(
    clippy::cast_precision_loss,
    reason = "what is counted here is far below 2^53"
)]

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use muster::wire::{Class, QueueLimits, Topic};
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, LinkSpeed};
use muster_data::{Address, Data, Encode};
use muster_frameworks::sample;
use muster_measure::cpu_seconds;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Rows of one measurement.
const ROWS: usize = 400_000;

/// Rows of one batch of logs.
const BATCH: usize = 400;

/// What is published at once has room in the queues.
const ROOM: QueueLimits = QueueLimits {
    messages: 1 << 20,
    bytes: 512 << 20,
};

/// How long a publisher waits for room.
const PATIENCE: Duration = Duration::from_secs(60);

/// The rows of a log among those of the program, as values.
fn rows(name: &str) -> Result<Vec<Data>> {
    let (_, packed) = sample::FILES
        .iter()
        .find(|(known, _)| *known == name)
        .context("no such log")?;
    let mut text = String::new();
    MultiGzDecoder::new(*packed).read_to_string(&mut text)?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines
        .map(|line| Data::Vector(line.split('\t').map(field).collect()))
        .collect())
}

fn field(text: &str) -> Data {
    if text == "-" {
        return Data::None;
    }
    if let Ok(count) = text.parse::<u64>() {
        return Data::from(count);
    }
    if let Ok(real) = text.parse::<f64>() {
        return Data::from(real);
    }
    text.parse::<Address>()
        .map_or_else(|_| Data::from(text), Data::from)
}

/// A connection to an address that carries so many bytes a second.
async fn limited(to: String, rate: Option<f64>) -> Result<String> {
    let Some(rate) = rate else {
        return Ok(to);
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        let (from, _) = listener.accept().await?;
        let to = TcpStream::connect(to).await?;
        let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
        for (mut read, mut write) in [(from_read, to_write), (to_read, from_write)] {
            tokio::spawn(async move {
                let mut buffer = vec![0; 32 << 10];
                let mut free_at = Instant::now();
                while let Ok(length @ 1..) = read.read(&mut buffer).await {
                    let takes = Duration::from_secs_f64(length as f64 / rate);
                    free_at = free_at.max(Instant::now()) + takes;
                    let early = free_at.saturating_duration_since(Instant::now());
                    // A timer is no more precise than that.
                    if early > Duration::from_millis(3) {
                        tokio::time::sleep(early).await;
                    }
                    if write.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
        anyhow::Ok(())
    });
    Ok(address)
}

struct Outcome {
    rows_per_second: f64,
    cpu_micros: f64,
    /// Bytes that crossed the link for each row.
    bytes: f64,
    /// What was compressed, before and after.
    ratio: Option<f64>,
}

async fn run(
    messages: &[Bytes],
    of_rows: usize,
    class: Class,
    rate: Option<f64>,
    speed: LinkSpeed,
) -> Result<Outcome> {
    let start = || {
        let mut config = EndpointConfig {
            speed,
            subscriber_queue: ROOM,
            ..EndpointConfig::default()
        };
        config.bulk.limits = ROOM;
        Endpoint::start(config)
    };
    let (from, to) = (start()?, start()?);
    let mut subscriber = to.subscribe(["/log"]).await;
    let address = to.listen("127.0.0.1:0".parse()?, Exposure::Guarded).await?;
    let address = limited(address.to_string(), rate).await?;
    from.peer(&address, None).await?;
    while from.filter_of(to.id()).is_none_or(|it| it.is_empty()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let topic = Topic::new("/log")?;
    let (cpu, begin) = (cpu_seconds(), Instant::now());
    let mut publisher = from.publisher();
    let own: Vec<Bytes> = messages.to_vec();
    let publishing = tokio::spawn(async move {
        let mut dropped = 0;
        for payload in own {
            let outcome = if class == Class::Bulk {
                publisher.publish_encoded(&topic, payload, class)
            } else {
                let waiting = publisher.publish_encoded_waiting(&topic, payload, PATIENCE);
                waiting.await
            };
            dropped += outcome.dropped + outcome.displaced;
        }
        dropped
    });
    let mut received = 0;
    while received < messages.len() {
        if let Some(Delivery::Batch(batch)) = subscriber.receive().await {
            received += batch.len();
        }
    }
    let elapsed = begin.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu;
    anyhow::ensure!(publishing.await? == 0, "messages were dropped");
    let counts = from.counts();
    let report = counts.peers.first().context("the peer is there")?;
    let rows = (messages.len() * of_rows) as f64;
    let compressed = report.compressed_out;
    let ratio = compressed.original as f64 / compressed.bytes as f64;
    let outcome = Outcome {
        rows_per_second: rows / elapsed,
        cpu_micros: cpu * 1e6 / rows,
        bytes: report.bytes_out as f64 / rows,
        ratio: (compressed.bytes > 0).then_some(ratio),
    };
    from.shut_down().await;
    to.shut_down().await;
    Ok(outcome)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    println!("| rows | link | | rows/s | CPU us | bytes | ratio |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (log, rows) in [("dns", rows("dns.log.gz")?), ("ssl", rows("ssl.log.gz")?)] {
        let rows: Vec<_> = rows.into_iter().cycle().take(ROWS).collect();
        let encoded = |value: &Data| {
            let mut bytes = Vec::new();
            value.encode(&mut bytes);
            Bytes::from(bytes)
        };
        let single: Vec<_> = rows.iter().map(encoded).collect();
        let batches: Vec<_> = rows
            .chunks(BATCH)
            .map(|rows| encoded(&Data::Vector(rows.into())))
            .collect();
        for (name, messages, of_rows, class) in [
            ("events", &single, 1, Class::Event),
            ("log batches", &batches, BATCH, Class::Bulk),
        ] {
            for (link, rate) in [
                ("8 MB/s", Some(8e6)),
                ("32 MB/s", Some(32e6)),
                ("loopback", None),
            ] {
                for speed in [LinkSpeed::Fast, LinkSpeed::Slow] {
                    let outcome = run(messages, of_rows, class, rate, speed).await?;
                    let how = match speed {
                        LinkSpeed::Fast => "plain",
                        LinkSpeed::Slow => "compressed",
                    };
                    let ratio = outcome
                        .ratio
                        .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}"));
                    println!(
                        "| {log}, {name} | {link} | {how} | {:.0} | {:.2} | {:.1} | {ratio} |",
                        outcome.rows_per_second, outcome.cpu_micros, outcome.bytes
                    );
                }
            }
        }
    }
    Ok(())
}
