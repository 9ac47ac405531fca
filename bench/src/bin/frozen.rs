//! What one frozen peer costs the others: one publisher as fast as it goes, one subscriber or three in
//! processes of their own, and in every other run one more that is stopped with SIGSTOP in mid-flow.
//!
//! `cargo run --release -p muster-bench --bin frozen`. What counts is the rate of the others with the
//! frozen one beside them, against the runs before and after without it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use muster::wire::Topic;
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, Forwarding};
use muster_measure::{Conn, memory_bytes};

/// How long a run publishes, and how much of its start does not count: the fourth is stopped in it.
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(4);

const ROUNDS: usize = 3;
/// How many subscribers are alive.
const OTHERS: [usize; 2] = [1, 3];

/// The messages between two looks at the clock.
const BURST: usize = 256;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        None => OTHERS.into_iter().try_for_each(compare),
        Some("subscribe") => runtime()?.block_on(subscribe()),
        Some(_) => bail!("takes no arguments: it starts its own subscribers"),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

/// Counts what comes, and answers each line of its input with the count so far.
async fn subscribe() -> Result<()> {
    let endpoint = Endpoint::start(EndpointConfig {
        forwarding: Forwarding::Leaf,
        ..EndpointConfig::default()
    })?;
    let mut subscriber = endpoint.subscribe(["/conn"]).await;
    let address = endpoint.listen(([127, 0, 0, 1], 0).into(), Exposure::Guarded);
    writeln!(std::io::stdout(), "{}", address.await?)?;
    let (ask, mut asked) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
            if ask.blocking_send(()).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    let mut messages = 0usize;
    loop {
        tokio::select! {
            delivery = subscriber.receive() => match delivery {
                Some(Delivery::Batch(batch)) => messages += batch.len(),
                Some(Delivery::Status(_)) => {}
                None => return Ok(()),
            },
            _ = asked.recv() => writeln!(std::io::stdout(), "{messages}")?,
        }
    }
}

struct Subscriber {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: String,
}

impl Subscriber {
    fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("subscribe")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("piped")?;
        let mut output = BufReader::new(child.stdout.take().context("piped")?);
        let mut address = String::new();
        output.read_line(&mut address)?;
        Ok(Self {
            child,
            input,
            output,
            address: address.trim().to_owned(),
        })
    }

    fn count(&mut self) -> Result<usize> {
        writeln!(self.input, "?")?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().parse()?)
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status()?;
        if !status.success() {
            bail!("kill {signal} {pid}: {status}");
        }
        Ok(())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One run: deliveries a second of those that are alive, and the publisher's memory in its end.
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn run(others: usize, with_frozen: bool) -> Result<(f64, u64, Option<usize>)> {
    let runtime = runtime()?;
    let mut others = (0..others)
        .map(|_| Subscriber::start())
        .collect::<Result<Vec<_>>>()?;
    let mut frozen = with_frozen.then(Subscriber::start).transpose()?;
    let endpoint = runtime.block_on(async {
        let endpoint = Endpoint::start(EndpointConfig::default())?;
        let retry = Some(Duration::from_millis(200));
        for subscriber in others.iter().chain(&frozen) {
            endpoint.peer(&subscriber.address, retry).await?;
        }
        anyhow::Ok(endpoint)
    })?;
    let mut publisher = endpoint.publisher();
    let (topic, row) = (Topic::new("/conn")?, Conn::sample()?);
    let mut publish_for = |limit: Duration| {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            for _ in 0..BURST {
                // What a subscriber cannot take is not delivered, and so not counted.
                let _ = publisher.publish(&topic, &row);
            }
        }
    };
    publish_for(WARM_UP / 2);
    if let Some(frozen) = &frozen {
        frozen.signal("-STOP")?;
    }
    publish_for(WARM_UP / 2);
    let mut before = 0;
    for other in &mut others {
        before += other.count()?;
    }
    let started = Instant::now();
    publish_for(MEASURED);
    let mut after = 0;
    for other in &mut others {
        after += other.count()?;
    }
    let rate = (after - before) as f64 / started.elapsed().as_secs_f64();
    let memory = memory_bytes().unwrap_or(0);
    let mut caught_up = None;
    if let Some(frozen) = &mut frozen {
        frozen.signal("-CONT")?;
        let before = frozen.count()?;
        publish_for(WARM_UP);
        caught_up = Some(frozen.count()? - before);
    }
    runtime.block_on(endpoint.shut_down());
    Ok((rate, memory, caught_up))
}

#[allow(clippy::cast_precision_loss, reason = "memory is far below 2^52")]
fn compare(others: usize) -> Result<()> {
    let mut out = std::io::stdout();
    let mut sums = [0.0, 0.0];
    for _ in 0..ROUNDS {
        for with_frozen in [false, true] {
            let (rate, memory, caught_up) = run(others, with_frozen)?;
            sums[usize::from(with_frozen)] += rate;
            let what = if with_frozen {
                "one frozen beside"
            } else {
                "none beside"
            };
            let after = caught_up.map_or_else(String::new, |messages| {
                format!(", {messages} messages in the second after it goes on")
            });
            writeln!(
                out,
                "{others} alive, {what}: {rate:.0} deliveries/s to them, {:.0} MiB in the publisher{after}",
                memory as f64 / f64::from(1 << 20)
            )?;
        }
    }
    let [alive, frozen] = sums;
    writeln!(
        out,
        "{others} alive, with one frozen: {:.1} %",
        frozen / alive * 100.0
    )?;
    Ok(())
}
