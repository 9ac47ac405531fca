//! Delivery over loopback TCP between separate processes: one publisher, one or four subscribers.
//!
//! `cargo run --release -p muster-bench --bin delivery` starts the processes itself. Wall time on a
//! machine with few cores says as much of the scheduler as of the code: CPU per message, over all
//! processes, is the steadier figure.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use muster::wire::{QueueLimits, Topic};
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, Tls};
use muster_bench::{Conn, cpu_seconds};
use muster_data::{DataRef, Encode};

/// How long a publisher publishes.
const PUBLISH_FOR: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Payload {
    Small,
    Conn,
    Large,
}

impl Payload {
    const ALL: [Self; 3] = [Self::Small, Self::Conn, Self::Large];

    fn name(self) -> &'static str {
        match self {
            Self::Small => "16 B",
            Self::Conn => "conn-log-like",
            Self::Large => "16 KiB",
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        [] => compare(),
        ["subscribe", read] => runtime()?.block_on(subscribe(read)),
        ["publish", payload, read, addresses @ ..] => {
            let payload = Payload::ALL
                .into_iter()
                .find(|known| known.name() == *payload);
            publish(payload.context("no such payload")?, tls(read), addresses)
        }
        _ => bail!("takes no arguments: it starts its own publisher and subscribers"),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

fn limits(tls: Tls) -> EndpointConfig {
    EndpointConfig {
        tls,
        subscriber_queue: QueueLimits {
            messages: 1 << 20,
            bytes: 1 << 30,
        },
        ..EndpointConfig::default()
    }
}

/// How a way of reading is protected: `tls` reads borrowed over anonymous TLS.
fn tls(read: &str) -> Tls {
    if read == "tls" {
        Tls::Anonymous
    } else {
        Tls::Off
    }
}

/// Runs every combination and prints a line for each.
fn compare() -> Result<()> {
    let (mut out, me) = (std::io::stdout(), std::env::current_exe()?);
    writeln!(
        out,
        "payload         links  read      deliveries/s    MB/s  publisher  subscriber     all  dropped\n\
                                                       CPU us per publish / delivery / delivery"
    )?;
    for payload in Payload::ALL {
        for (links, read) in [(1, "borrowed"), (1, "struct"), (4, "borrowed"), (1, "tls")] {
            if read == "struct" && payload != Payload::Conn {
                continue;
            }
            let mut subscribers = Vec::new();
            let mut addresses = Vec::new();
            for _ in 0..links {
                let mut child = Command::new(&me)
                    .args(["subscribe", read])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()?;
                let mut lines = BufReader::new(child.stdout.take().context("piped")?);
                addresses.push(line(&mut lines)?);
                subscribers.push((child, lines));
            }
            let publisher = Command::new(&me)
                .args(["publish", payload.name(), read])
                .args(&addresses)
                .stdout(Stdio::piped())
                .spawn()?;
            let published = finish(publisher)?;
            let (mut received, mut cpu, mut dropped) = (0, 0.0, published.dropped);
            for (mut child, mut lines) in subscribers {
                drop(child.stdin.take());
                let report = Report::parse(&line(&mut lines)?)?;
                child.wait()?;
                received += report.messages;
                cpu += report.cpu;
                dropped += report.dropped;
            }
            let deliveries = f64::from(u32::try_from(received)?);
            let publishes = f64::from(u32::try_from(published.messages)?);
            let rate = deliveries / published.seconds;
            writeln!(
                out,
                "{:<15} 1:{links}    {read:<9} {rate:>11.0}  {:>6.0}  {:>9.2}  {:>10.2}  {:>6.2}  {dropped:>7}",
                payload.name(),
                rate * published.bytes_each / 1e6,
                published.cpu * 1e6 / publishes,
                cpu * 1e6 / deliveries,
                (cpu + published.cpu) * 1e6 / deliveries,
            )?;
        }
    }
    writeln!(
        out,
        "1:4 counts every delivery. The C++ Broker, 1:1, conn-log-like: 0.11 to 0.19 million a second at 10 to 13 us."
    )?;
    Ok(())
}

fn line(lines: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

fn finish(child: Child) -> Result<Report> {
    let output = child.wait_with_output()?;
    Report::parse(&String::from_utf8(output.stdout)?)
}

/// What a process did.
struct Report {
    messages: u64,
    seconds: f64,
    cpu: f64,
    dropped: u64,
    bytes_each: f64,
}

impl Report {
    fn parse(text: &str) -> Result<Self> {
        let mut fields = text.split_whitespace();
        let mut next = || {
            fields
                .next()
                .with_context(|| format!("short report `{text}`"))
        };
        Ok(Self {
            messages: next()?.parse()?,
            seconds: next()?.parse()?,
            cpu: next()?.parse()?,
            dropped: next()?.parse()?,
            bytes_each: next()?.parse()?,
        })
    }

    fn print(&self) -> Result<()> {
        let Self {
            messages,
            seconds,
            cpu,
            dropped,
            bytes_each,
        } = self;
        writeln!(
            std::io::stdout(),
            "{messages} {seconds} {cpu} {dropped} {bytes_each}"
        )?;
        Ok(())
    }
}

async fn subscribe(read: &str) -> Result<()> {
    let endpoint = Endpoint::start(limits(tls(read)))?;
    let address = endpoint
        .listen("127.0.0.1:0".parse()?, Exposure::Guarded)
        .await?;
    let mut subscriber = endpoint.subscribe(["/bench"]).await;
    writeln!(std::io::stdout(), "{address}")?;
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        let _ = stop.send(());
    });
    let start = cpu_seconds()?;
    let (mut messages, mut sum) = (0u64, 0u64);
    loop {
        tokio::select! {
            delivery = subscriber.receive() => {
                let Some(Delivery::Batch(batch)) = delivery else { continue };
                messages += batch.len() as u64;
                for message in batch.iter() {
                    let value = DataRef::from_validated(message.payload);
                    sum += if read == "struct" {
                        value.to::<Conn>().map_or(0, |conn| conn.orig_bytes)
                    } else {
                        value.as_vector().map_or(0, |fields| fields.iter().count() as u64)
                    };
                }
            }
            _ = &mut stopped => break,
        }
    }
    std::hint::black_box(sum);
    let dropped = subscriber.depth().2.total();
    let cpu = cpu_seconds()? - start;
    Report {
        messages,
        seconds: 0.0,
        cpu,
        dropped,
        bytes_each: 0.0,
    }
    .print()
}

fn publish(payload: Payload, tls: Tls, addresses: &[&str]) -> Result<()> {
    let runtime = runtime()?;
    let endpoint = runtime.block_on(async {
        let endpoint = Endpoint::start(limits(tls))?;
        for address in addresses {
            endpoint.peer(address, None).await?;
        }
        anyhow::Ok(endpoint)
    })?;
    let report = match payload {
        Payload::Small => publish_value(&endpoint, &[7u8; 16][..]),
        Payload::Conn => publish_value(&endpoint, &Conn::sample()?),
        Payload::Large => publish_value(&endpoint, &[7u8; 16 << 10][..]),
    }?;
    runtime.block_on(endpoint.shut_down());
    report.print()
}

fn publish_value(endpoint: &Endpoint, value: &(impl Encode + ?Sized)) -> Result<Report> {
    let topic = Topic::new("/bench")?;
    let mut publisher = endpoint.publisher();
    let (start, cpu) = (Instant::now(), cpu_seconds()?);
    let (mut messages, mut dropped) = (0, 0);
    while messages % 64 != 0 || start.elapsed() < PUBLISH_FOR {
        let outcome = publisher.publish_blocking(&topic, value, Duration::from_secs(10));
        messages += 1;
        dropped += outcome.dropped as u64;
    }
    let seconds = start.elapsed().as_secs_f64();
    let bytes_each = f64::from(u32::try_from(muster_data::encode_to_vec(value).len())?);
    Ok(Report {
        messages,
        seconds,
        cpu: cpu_seconds()? - cpu,
        dropped,
        bytes_each,
    })
}
