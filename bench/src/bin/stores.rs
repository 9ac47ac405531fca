//! Data stores: writes one by one and pipelined, reads of a copy, snapshots of a large store, TTLs,
//! and writes that go to disk.
//!
//! `cargo run --release -p muster-bench --bin stores [PART...]`, parts being `waiting`, `pipelined`, `get`,
//! `snapshot`, `expiry`, `durable`, `broker`. The primary is a process of its own, and so is the bare TCP echo that one
//! waiting client is compared with, in alternating runs.
//!
//! `broker` measures C++ Broker's stores, beside ours in alternating runs: `MUSTER_BROKER_STORE` names the program that
//! the test `broker_stores` of the crate `muster` describes, with two more commands: `sqlite NAME PATH`, as `master` with
//! a file, and `time put N` or `time unique N`, answered by `took SECONDS` when so many writes of new keys, one by
//! one, are applied at the primary.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use muster::store::{
    CloneOptions, Encoded, Entry, Persisted, PrimaryOptions, Sqlite, SqliteOptions, Store,
    StoreName,
};
use muster::{Endpoint, EndpointConfig, Exposure, Forwarding};
use muster_measure::{cpu_seconds, memory_bytes, memory_bytes_of};

const PARTS: [&str; 7] = [
    "waiting",
    "pipelined",
    "get",
    "snapshot",
    "expiry",
    "durable",
    "broker",
];

/// The entries of the large store.
const LARGE: u64 = 1_000_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--master") => return one_thread()?.block_on(serve(&arguments[1..])),
        Some("--clone") => return one_thread()?.block_on(follow(&arguments[1..])),
        Some("--writers") => return one_thread()?.block_on(write_much(&arguments[1..])),
        Some("--echo") => return echo(),
        _ => {}
    }
    if let Some(unknown) = arguments
        .iter()
        .find(|part| !PARTS.contains(&part.as_str()))
    {
        bail!("no part `{unknown}`; parts are {}", PARTS.join(", "));
    }
    let wants = |part: &str| arguments.is_empty() || arguments.iter().any(|wanted| wanted == part);
    if wants("waiting") {
        waiting()?;
    }
    if wants("pipelined") {
        pipelined(false)?;
    }
    if wants("durable") {
        durable()?;
    }
    if wants("get") {
        get()?;
    }
    if wants("broker") {
        broker()?;
    }
    if wants("snapshot") {
        for clones in [1, 8] {
            snapshot(clones)?;
        }
    }
    if wants("expiry") {
        expiry()?;
    }
    Ok(())
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn one_thread() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

fn name() -> StoreName {
    StoreName::new("bench").expect("a name")
}

fn start(forwarding: Forwarding) -> Result<Endpoint> {
    Ok(Endpoint::start(EndpointConfig {
        forwarding,
        ..EndpointConfig::default()
    })?)
}

// --- processes ------------------------------------------------------------------------------------

struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(arguments: &[&str]) -> Result<Self> {
        Self::run(Command::new(std::env::current_exe()?).args(arguments))
    }

    fn run(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("piped")?;
        let output = BufReader::new(child.stdout.take().context("piped")?);
        Ok(Self {
            child,
            input,
            output,
        })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            bail!("a process has ended early");
        }
        Ok(line.trim().to_owned())
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}")?;
        self.input.flush()?;
        Ok(())
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        self.tell(line)?;
        self.line()
    }

    /// The answer to a command of C++ Broker's program, behind the word that it has to begin with.
    fn ask_for(&mut self, line: &str, word: &str) -> Result<String> {
        let answer = self.ask(line)?;
        let rest = answer.strip_prefix(word).map(str::trim);
        rest.map(str::to_owned)
            .with_context(|| format!("{line}: {answer}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of this process's input; the process ends with them.
fn lines() -> tokio::sync::mpsc::Receiver<String> {
    let (sender, lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    lines
}

/// A primary: `memory`, `filled` with the large store, or the path of a file. Answers `cpu` and `size`.
async fn serve(arguments: &[String]) -> Result<()> {
    let endpoint = start(Forwarding::Relay)?;
    let kind = arguments.first().map_or("memory", String::as_str);
    let options = match kind {
        "memory" => PrimaryOptions::default(),
        "filled" => PrimaryOptions {
            backend: Some(Box::new(Filled)),
            ..PrimaryOptions::default()
        },
        path => PrimaryOptions {
            backend: Some(Box::new(Sqlite::new(path, SqliteOptions::default()))),
            ..PrimaryOptions::default()
        },
    };
    let store = endpoint.open_primary(&name(), options).await?;
    let address = endpoint.listen(([127, 0, 0, 1], 0).into(), Exposure::Guarded);
    say(&address.await?.to_string());
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        match line.as_str() {
            "cpu" => say(&cpu_seconds().to_string()),
            _ => say(&store.size().await?.to_string()),
        }
    }
    Ok(())
}

/// A backend that begins with the large store, and keeps nothing.
#[derive(Debug)]
struct Filled;

impl muster::store::Backend for Filled {
    fn load(&mut self) -> Result<Persisted, muster::store::BackendError> {
        let entry = |number: u64| {
            let entry = Entry {
                value: Encoded::of(&(number, "seen in conn.log")),
                expires: None,
                changed: 1,
            };
            (Encoded::key(&format!("host {number}")), entry)
        };
        Ok(Persisted {
            changes: 1,
            entries: (0..LARGE).map(entry).collect(),
            ..Persisted::default()
        })
    }

    fn commit(&mut self, _: &muster::store::Commit) -> Result<(), muster::store::BackendError> {
        Ok(())
    }
}

async fn clone_at(address: &str) -> Result<(Endpoint, Store)> {
    let endpoint = start(Forwarding::Leaf)?;
    let store = endpoint
        .open_clone(&name(), CloneOptions::default())
        .await?
        .within(Duration::from_secs(60));
    endpoint.dial(address, Some(Duration::from_millis(50)));
    store.attached().await?;
    Ok((endpoint, store))
}

/// A clone, which says how long it took until it had everything.
async fn follow(arguments: &[String]) -> Result<()> {
    let address = arguments.first().context("an address")?;
    let mut lines = lines();
    lines.recv().await;
    let started = Instant::now();
    let (_endpoint, store) = clone_at(address).await?;
    let took = started.elapsed();
    say(&format!("{} {}", took.as_secs_f64(), store.size().await?));
    while lines.recv().await.is_some() {}
    Ok(())
}

/// So many writers, each with so many writes under way at once, for some seconds: writes and CPU seconds.
async fn write_much(arguments: &[String]) -> Result<()> {
    let [address, writers, pipeline, seconds, op, level] = arguments else {
        bail!("address, writers, pipeline, seconds, operation, level");
    };
    let (writers, pipeline): (u64, u64) = (writers.parse()?, pipeline.parse()?);
    let span = Duration::from_secs_f64(seconds.parse()?);
    let (_endpoint, store) = clone_at(address).await?;
    let store = if level == "durable" {
        store.durable()
    } else {
        store
    };
    say("ready");
    lines().recv().await;
    let (cpu, started) = (cpu_seconds(), Instant::now());
    let is_unique = op == "unique";
    let id = std::process::id();
    let mut tasks = Vec::new();
    for writer in 0..writers {
        for lane in 0..pipeline {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                let mut done = 0u64;
                while started.elapsed() < span {
                    if is_unique {
                        let key = (u64::from(id), writer, lane, done);
                        store.put_unique(&key, &done).await?;
                    } else {
                        let key = (u64::from(id), writer, lane, done % 64);
                        store.put(&key, &done).await?;
                    }
                    done += 1;
                }
                anyhow::Ok(done)
            }));
        }
    }
    let mut done = 0;
    for task in tasks {
        done += task.await??;
    }
    let took = started.elapsed().as_secs_f64();
    say(&format!("{done} {took} {}", cpu_seconds() - cpu));
    std::future::pending().await
}

/// A bare blocking echo of what it is sent.
fn echo() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    say(&listener.local_addr()?.to_string());
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..read])?;
    }
}

// --- parts ----------------------------------------------------------------------------------------

fn numbers(line: &str) -> Result<Vec<f64>> {
    let numbers = line.split_whitespace().map(str::parse);
    Ok(numbers.collect::<Result<_, _>>()?)
}

/// One run of writers in one process; writes per second, CPU seconds of both sides.
fn run(primary: &mut Process, address: &str, with: [&str; 5]) -> Result<(f64, f64)> {
    let mut writers = Process::start(&[&["--writers", address], &with[..]].concat())?;
    writers.line()?;
    let before: f64 = primary.ask("cpu")?.parse()?;
    let found = numbers(&writers.ask("go")?)?;
    let cpu = primary.ask("cpu")?.parse::<f64>()? - before;
    Ok((found[0] / found[1], (cpu + found[2]) / found[0]))
}

fn waiting() -> Result<()> {
    let mut primary = Process::start(&["--master", "memory"])?;
    let address = primary.line()?;
    let mut echo_rates = Vec::new();
    for round in 0..3 {
        let mut echo = Process::start(&["--echo"])?;
        let mut stream = TcpStream::connect(echo.line()?)?;
        stream.set_nodelay(true)?;
        let mut buffer = [7; 100];
        let started = Instant::now();
        let mut echoes = 0u32;
        while started.elapsed() < Duration::from_secs(1) {
            stream.write_all(&buffer)?;
            stream.read_exact(&mut buffer)?;
            echoes += 1;
        }
        let bare = f64::from(echoes) / started.elapsed().as_secs_f64();
        echo_rates.push(bare);
        for op in ["put", "unique"] {
            let (rate, cpu) = run(&mut primary, &address, ["1", "1", "1", op, "applied"])?;
            say(&format!(
                "waiting: round {round}, {op}: {rate:.0}/s, {:.0} % of a bare echo's {bare:.0}/s, {:.1} us of CPU each",
                100.0 * rate / bare,
                cpu * 1e6
            ));
        }
    }
    Ok(())
}

/// C++ Broker's store, and ours in turns: a writer beside the primary, one at a clone, and a file.
fn broker() -> Result<()> {
    let Some(program) = std::env::var_os("MUSTER_BROKER_STORE") else {
        say("broker: skipped, as MUSTER_BROKER_STORE names no program");
        return Ok(());
    };
    let directory = std::env::temp_dir().join(format!("muster-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let file = directory.join("broker.sqlite");
    let mut ours = Process::start(&["--master", "memory"])?;
    let ours_at = ours.line()?;
    let rate = |process: &mut Process, op: &str, writes: u32| {
        let took = process.ask_for(&format!("time {op} {writes}"), "took")?;
        anyhow::Ok(f64::from(writes) / took.parse::<f64>()?)
    };
    for round in 0..3 {
        let mut primary = Process::run(&mut Command::new(&program))?;
        let port = primary.ask_for("listen", "listening")?;
        primary.ask_for("master bench/kv", "ok")?;
        let mut clone = Process::run(&mut Command::new(&program))?;
        clone.ask_for(&format!("peer 127.0.0.1 {port}"), "ok")?;
        clone.ask_for("clone bench/kv", "ok")?;
        let mut with_file = Process::run(&mut Command::new(&program))?;
        with_file.ask_for(&format!("sqlite bench/{round} {}", file.display()), "ok")?;
        let beside = rate(&mut primary, "unique", 10_000)?;
        let at_clone = rate(&mut clone, "unique", 200)?;
        let put = rate(&mut clone, "put", 2000)?;
        let filed = rate(&mut with_file, "put", 1000)?;
        drop((primary, clone, with_file));
        let (waiting, _) = run(&mut ours, &ours_at, ["1", "1", "1", "unique", "applied"])?;
        let (pipelined, _) = run(&mut ours, &ours_at, ["1", "64", "1", "put", "applied"])?;
        say(&format!(
            "broker: round {round}: put_unique {beside:.0}/s beside the primary; at a clone {at_clone:.0}/s, ours {waiting:.0}/s, {:.0} times; put at a clone {put:.0}/s, ours {pipelined:.0}/s, {:.0} times; put beside the primary, with a file {filed:.0}/s",
            waiting / at_clone,
            pipelined / put,
        ));
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

/// 30 writers on 3 nodes with 3 clones.
fn pipelined(is_durable: bool) -> Result<()> {
    let directory = std::env::temp_dir().join(format!("muster-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let path = directory.join("bench.sqlite");
    let kind = if is_durable {
        path.to_str().context("a path")?
    } else {
        "memory"
    };
    let level = if is_durable { "durable" } else { "applied" };
    for op in ["put", "unique"] {
        let mut primary = Process::start(&["--master", kind])?;
        let address = primary.line()?;
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let with = ["--writers", &address, "10", "64", "4", op, level];
            let mut node = Process::start(&with)?;
            node.line()?;
            nodes.push(node);
        }
        let before: f64 = primary.ask("cpu")?.parse()?;
        for node in &mut nodes {
            node.tell("go")?;
        }
        let (mut rate, mut writes, mut cpu) = (0.0, 0.0, 0.0);
        for node in &mut nodes {
            let found = numbers(&node.line()?)?;
            rate += found[0] / found[1];
            writes += found[0];
            cpu += found[2];
        }
        let primaries = primary.ask("cpu")?.parse::<f64>()? - before;
        say(&format!(
            "pipelined, {level}: {op}: {rate:.0}/s from 30 writers on 3 nodes with 3 clones, {:.2} us of CPU each, {:.2} of it at the primary; {} there",
            (cpu + primaries) * 1e6 / writes,
            primaries * 1e6 / writes,
            mebibytes(memory_bytes_of(primary.child.id()).unwrap_or_default())
        ));
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

fn durable() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("muster-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let path = directory.join("waiting.sqlite");
    let mut primary = Process::start(&["--master", path.to_str().context("a path")?])?;
    let address = primary.line()?;
    let (rate, cpu) = run(&mut primary, &address, ["1", "1", "3", "put", "durable"])?;
    say(&format!(
        "durable: one writer that waits, a commit each: {rate:.0}/s, {:.1} us of CPU each",
        cpu * 1e6
    ));
    drop(primary);
    std::fs::remove_dir_all(&directory)?;
    pipelined(true)
}

fn get() -> Result<()> {
    let mut primary = Process::start(&["--master", "filled"])?;
    let address = primary.line()?;
    one_thread()?.block_on(async {
        let (_endpoint, store) = clone_at(&address).await?;
        let store = store.typed::<String, (u64, String)>();
        let keys: Vec<String> = (0..1000).map(|n| format!("host {}", n * 997)).collect();
        let started = Instant::now();
        let mut gets = 0u32;
        while started.elapsed() < Duration::from_secs(1) {
            for key in &keys {
                let found = store.get(key).await?;
                if found.is_none() {
                    bail!("{key} is missing");
                }
                gets += 1;
            }
        }
        let nanos = started.elapsed().as_nanos() / u128::from(gets);
        say(&format!(
            "get: {nanos} ns each, of a copy of {LARGE} entries, typed; {} of memory",
            mebibytes(memory_bytes().unwrap_or_default())
        ));
        Ok(())
    })
}

fn snapshot(clones: usize) -> Result<()> {
    let mut primary = Process::start(&["--master", "filled"])?;
    let address = primary.line()?;
    let before = memory_bytes_of(primary.child.id()).unwrap_or_default();
    let mut nodes = Vec::new();
    for _ in 0..clones {
        nodes.push(Process::start(&["--clone", &address])?);
    }
    for node in &mut nodes {
        node.tell("go")?;
    }
    let mut slowest: f64 = 0.0;
    for node in &mut nodes {
        let found = numbers(&node.line()?)?;
        #[allow(clippy::cast_precision_loss, reason = "a million")]
        if (found[1] - LARGE as f64).abs() > 0.5 {
            bail!("a clone has {} entries", found[1]);
        }
        slowest = slowest.max(found[0]);
    }
    let peak = peak_memory(primary.child.id())?;
    say(&format!(
        "snapshot: {LARGE} entries to {clones} clones: {slowest:.2} s, the primary's memory {} before, {} at most",
        mebibytes(before),
        mebibytes(peak)
    ));
    Ok(())
}

fn expiry() -> Result<()> {
    one_thread()?.block_on(async {
        let endpoint = start(Forwarding::Relay)?;
        let store = endpoint
            .open_primary(&name(), PrimaryOptions::default())
            .await?;
        let ttl = Duration::from_secs(4);
        let started = Instant::now();
        let mut last = started;
        for number in 0..LARGE {
            store.put_for(&number, &number, ttl).await?;
            last = Instant::now();
        }
        let put = started.elapsed();
        let cpu = cpu_seconds();
        while store.size().await? > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        say(&format!(
            "expiry: {LARGE} entries put in {:.2} s ({:.2} us each, in the same process), the last gone {:.3} s after its end, {:.2} us of CPU each",
            put.as_secs_f64(),
            put.as_secs_f64(),
            last.elapsed().saturating_sub(ttl).as_secs_f64(),
            cpu_seconds() - cpu,
        ));
        Ok(())
    })
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// The most memory that a process has had.
fn peak_memory(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .context("a line VmHWM")?
        .parse()?;
    Ok(kib << 10)
}
