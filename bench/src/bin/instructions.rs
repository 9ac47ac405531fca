//! What a message of 128 bytes costs in instructions and allocations, which no other load of the machine changes.
//!
//! `cargo run --release -p muster-bench --bin instructions`. It runs a publisher and a subscriber in processes of their
//! own, one of them under `valgrind --tool=callgrind`, twice: what the longer run has more, by message, is the cost
//! in user space. With `--check` it fails if a figure is above its bound.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use muster::wire::Topic;
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, Forwarding};
use muster_bench::{CountingAllocator, allocations};
use muster_measure::Flow;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The messages of the two runs.
const FEW: u64 = 20_000;
const MANY: u64 = 220_000;

/// How long a publisher waits for room: a process under valgrind is fifty times slower.
const PATIENCE: Duration = Duration::from_secs(120);

/// The most user instructions of a message in the publisher's process, and in the subscriber's. How often a task rests
/// in between, which is some of it, does depend on what else runs, and on the machine: 820 to 910 were seen of the publisher, 950 to
/// 1,025 of the subscriber.
const PUBLISHER: f64 = 950.0;
const SUBSCRIBER: f64 = 1_060.0;

/// How often a check measures until a figure is within its bound: other work of the machine only ever adds.
const ATTEMPTS: u32 = 5;

/// The most allocations of a thousand messages in either: 3 to 5 were seen.
const ALLOCATIONS: f64 = 8.0;

const TOPIC: &str = "/flow";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => measure(false),
        ["--check"] => measure(true),
        ["publish", address, messages] => runtime()?.block_on(publish(address, messages.parse()?)),
        ["subscribe", messages] => runtime()?.block_on(subscribe(messages.parse()?)),
        _ => bail!("takes nothing but --check"),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

fn endpoint(forwarding: Forwarding) -> Result<Endpoint> {
    Ok(Endpoint::start(EndpointConfig {
        forwarding,
        heartbeat: muster::Heartbeat::OFF,
        ..EndpointConfig::default()
    })?)
}

/// Publishes typed rows, and says how many allocations a thousand of them took.
async fn publish(address: &str, messages: u64) -> Result<()> {
    let endpoint = endpoint(Forwarding::Relay)?;
    tokio::time::timeout(PATIENCE, endpoint.peer(address, None)).await??;
    let (topic, row) = (Topic::new(TOPIC)?, Flow::sample()?);
    let mut publisher = endpoint.publisher();
    while publisher.publish(&topic, &row).no_subscriber() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = allocations();
    let lost = tokio::task::spawn_blocking(move || {
        let mut lost = 0;
        for _ in 1..messages {
            lost += publisher.publish_blocking(&topic, &row, PATIENCE).dropped;
        }
        lost
    });
    let lost = lost.await?;
    tell(before, messages)?;
    ensure!(lost == 0, "{lost} messages found no room");
    endpoint.shut_down().await;
    Ok(())
}

/// Counts messages, and says how many allocations a thousand of them took.
async fn subscribe(messages: u64) -> Result<()> {
    let endpoint = endpoint(Forwarding::Leaf)?;
    let mut subscriber = endpoint.subscribe([TOPIC]).await;
    let address = endpoint.listen(([127, 0, 0, 1], 0).into(), Exposure::Guarded);
    writeln!(std::io::stdout(), "{}", address.await?)?;
    let (mut count, mut before) = (0, 0);
    while count < messages {
        let delivery = tokio::time::timeout(PATIENCE, subscriber.receive()).await?;
        match delivery.context("the subscriber ended")? {
            Delivery::Batch(batch) => {
                if count == 0 {
                    before = allocations();
                }
                count += batch.len() as u64;
            }
            Delivery::Status(_) => {}
        }
    }
    tell(before, messages)?;
    endpoint.shut_down().await;
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn tell(before: u64, messages: u64) -> Result<()> {
    let each = (allocations() - before) as f64 / messages as f64;
    writeln!(std::io::stdout(), "{:.2}", each * 1000.0)?;
    Ok(())
}

/// Who runs under valgrind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watched {
    Publisher,
    Subscriber,
}

/// What a run cost.
struct Cost {
    instructions: u64,
    /// Of a thousand messages.
    allocations: f64,
}

fn command(watched: bool) -> Result<Command> {
    let program = std::env::current_exe()?;
    if !watched {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .stderr(Stdio::piped());
    Ok(command)
}

/// What valgrind says that it has counted.
fn counted(output: &Output) -> Result<u64> {
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = count.with_context(|| format!("valgrind counted nothing:\n{text}"))?;
    Ok(count.trim().parse()?)
}

fn run(watched: Watched, messages: u64) -> Result<Cost> {
    let number = messages.to_string();
    let mut subscriber = command(watched == Watched::Subscriber)?
        .args(["subscribe", &number])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = BufReader::new(subscriber.stdout.take().context("piped")?);
    let mut address = String::new();
    output.read_line(&mut address)?;
    let publisher = command(watched == Watched::Publisher)?
        .args(["publish", address.trim(), &number])
        .stdout(Stdio::piped())
        .spawn()?
        .wait_with_output()?;
    ensure!(
        publisher.status.success(),
        "the publisher failed: {publisher:?}"
    );
    let mut of_subscriber = String::new();
    output.read_line(&mut of_subscriber)?;
    let subscriber = subscriber.wait_with_output()?;
    ensure!(
        subscriber.status.success(),
        "the subscriber failed: {subscriber:?}"
    );
    let (instructions, allocations) = match watched {
        Watched::Publisher => (counted(&publisher)?, String::from_utf8(publisher.stdout)?),
        Watched::Subscriber => (counted(&subscriber)?, of_subscriber),
    };
    Ok(Cost {
        instructions,
        allocations: allocations.trim().parse()?,
    })
}

fn measure(is_checked: bool) -> Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        bail!("this needs valgrind");
    }
    for (watched, name, most) in [
        (Watched::Publisher, "publisher", PUBLISHER),
        (Watched::Subscriber, "subscriber", SUBSCRIBER),
    ] {
        let is_within = |cost: &Each| cost.instructions <= most && cost.allocations <= ALLOCATIONS;
        let mut cost = each(watched, name)?;
        for _ in 1..ATTEMPTS {
            if !is_checked || is_within(&cost) {
                break;
            }
            cost = each(watched, name)?;
        }
        ensure!(
            !is_checked || is_within(&cost),
            "more than {most} instructions, or {ALLOCATIONS} allocations a thousand, {ATTEMPTS} times"
        );
    }
    Ok(())
}

/// What one message costs, and a thousand.
struct Each {
    instructions: f64,
    allocations: f64,
}

/// Measures it, and says so.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn each(watched: Watched, name: &str) -> Result<Each> {
    let (few, many) = (run(watched, FEW)?, run(watched, MANY)?);
    let cost = Each {
        instructions: (many.instructions - few.instructions) as f64 / (MANY - FEW) as f64,
        allocations: many.allocations,
    };
    writeln!(
        std::io::stdout(),
        "{name}'s process: {:.0} user instructions a message, {:.2} allocations a thousand",
        cost.instructions,
        cost.allocations
    )?;
    Ok(cost)
}
