//! `muster store`: reads and changes a data store, through any endpoint of its cluster, or reads a store's file.

use std::io::{BufRead, BufReader, Read as _, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use muster::store::{
    CloneOptions, CopyMode, Encoded, Entry, OpKind, Scope, Sqlite, Store, StoreName, WatchEvent,
};
use muster_data::{Data, DataRef, Limits, Timestamp, json};
use serde_json::value::RawValue;

use super::message;
use crate::arguments::{ConnectionArguments, Format, seconds};
use crate::commands::{Execute, on_runtime};
use crate::output::Failure;

/// Read and change a data store, or read a store's file
///
/// Operations: `get KEY`, `put KEY VALUE`, `erase KEY`, `increment KEY [AMOUNT]`, `keys`, `size`, `dump`,
/// `watch [PREFIX]`, `load [FILE]`, `clear`. Keys and values are written like the arguments of `publish`:
/// `count:5`, `addr:10.0.0.1`, `"text"`, `[1, 2]`, or JSON. `dump` prints one line of JSON per entry, and `load`
/// reads them. A file supports `get`, `keys`, `size` and `dump`, while no process has it open.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address of an endpoint of the cluster, such as `127.0.0.1:9999`, or a SQLite file
    pub(crate) target: String,
    /// The store's name (omitted for a file), the operation, and its arguments
    #[arg(
        required = true,
        allow_negative_numbers = true,
        value_name = "NAME OPERATION [ARGUMENT]"
    )]
    pub(crate) words: Vec<String>,
    /// For `put`: time to live of the entry, in seconds
    #[arg(long, value_parser = seconds)]
    pub(crate) lifetime: Option<Duration>,
    /// For `put`: only write if the key is absent; otherwise exit with code 1
    #[arg(long)]
    pub(crate) unique: bool,
    /// Wait until writes are on the primary's disk
    #[arg(long)]
    pub(crate) durable: bool,
    /// For `watch`: exit after this many changes
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// Time limit of an operation, in seconds
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// Output format of keys, values and changes; `dump` always prints JSON
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
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

/// The writes of `load` that are under way at one time.
const AT_ONCE: usize = 4096;

/// The file name's end that makes a target a file.
const FILE: &str = ".sqlite";

enum Operation {
    Get(Data),
    Put(Data, Data),
    Erase(Data),
    Increment(Data, Data),
    Keys,
    Size,
    Dump,
    Watch(Option<String>),
    Load(Option<String>),
    Clear,
}

impl Operation {
    fn read(words: &[String]) -> Result<Self> {
        let Some((operation, arguments)) = words.split_first() else {
            return Err(usage("the operation is missing"));
        };
        let data = |at: usize| message::argument(at + 1, &arguments[at]);
        let is = |least: usize, most: usize| {
            if (least..=most).contains(&arguments.len()) {
                Ok(())
            } else {
                let given = arguments.len();
                Err(usage(&format!(
                    "`{operation}` takes {least} to {most} arguments, {given} given"
                )))
            }
        };
        Ok(match operation.as_str() {
            "get" => {
                is(1, 1)?;
                Self::Get(data(0)?)
            }
            "put" => {
                is(2, 2)?;
                Self::Put(data(0)?, data(1)?)
            }
            "erase" => {
                is(1, 1)?;
                Self::Erase(data(0)?)
            }
            "increment" => {
                is(1, 2)?;
                let amount = if arguments.len() > 1 {
                    data(1)?
                } else {
                    Data::Count(1)
                };
                Self::Increment(data(0)?, amount)
            }
            "keys" => {
                is(0, 0)?;
                Self::Keys
            }
            "size" => {
                is(0, 0)?;
                Self::Size
            }
            "dump" => {
                is(0, 0)?;
                Self::Dump
            }
            "clear" => {
                is(0, 0)?;
                Self::Clear
            }
            "watch" => {
                is(0, 1)?;
                Self::Watch(arguments.first().cloned())
            }
            "load" => {
                is(0, 1)?;
                Self::Load(arguments.first().cloned())
            }
            other => return Err(usage(&format!("there is no operation `{other}`"))),
        })
    }

    /// Whether all entries are needed here.
    fn needs_copy(&self) -> bool {
        matches!(self, Self::Keys | Self::Dump | Self::Watch(_))
    }
}

/// How a write is said on the command line, if it can be.
fn words_of(kind: OpKind) -> Option<&'static str> {
    match kind {
        OpKind::Put => Some("put KEY VALUE"),
        OpKind::PutUnique => Some("put --unique KEY VALUE"),
        OpKind::Erase => Some("erase KEY"),
        OpKind::Add => Some("increment KEY [AMOUNT]"),
        OpKind::Clear => Some("clear"),
        // A negative amount subtracts, and a revision is nothing to type.
        OpKind::Subtract | OpKind::Swap | OpKind::Expire => None,
    }
}

fn usage(problem: &str) -> anyhow::Error {
    let writes: Vec<_> = OpKind::ALL.iter().copied().filter_map(words_of).collect();
    Failure::new(problem.to_owned())
        .hint(format!(
            "muster store ADDRESS NAME get KEY | keys | size | dump | watch [PREFIX] | load [FILE] | {}, or \
             muster store FILE.sqlite get KEY | keys | size | dump",
            writes.join(" | ")
        ))
        .code(2)
        .into()
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let path = Path::new(&arguments.target);
    if arguments.target.ends_with(FILE) || path.is_file() {
        return of_file(path, arguments);
    }
    let (name, words) = arguments.words.split_first().expect("clap asks for one");
    let operation = Operation::read(words)?;
    let name =
        StoreName::new(name).map_err(|error| Failure::new(format!("`{name}`: {error}")).code(2))?;
    let endpoint = super::start(&arguments.target, &arguments.connection)?;
    super::dial(&endpoint, &arguments.target, false).await?;
    let mut options = CloneOptions::default();
    if !operation.needs_copy() {
        options.config.copy = CopyMode::None;
    }
    let store = endpoint.open_clone(&name, options).await?;
    let store = store.within(arguments.timeout);
    let store = if arguments.durable {
        store.durable()
    } else {
        store
    };
    let done = perform(&store, operation, arguments).await;
    drop(store);
    endpoint.shut_down().await;
    done.map_err(|error| match error.downcast::<muster::store::StoreError>() {
        Ok(error) => Failure::new(error.to_string())
            .hint("ask a node that relays (a manager, logger or data node, not a worker); a store is open while a node uses it, or if the layout names it: `[store.\"NAME\"]`")
            .into(),
        Err(error) => error,
    })
}

async fn perform(store: &Store, operation: Operation, arguments: &Arguments) -> Result<ExitCode> {
    let format = arguments.format;
    match operation {
        Operation::Get(key) => match store.get(&key).await? {
            Some(value) => print(&value, format)?,
            None => return Ok(ExitCode::FAILURE),
        },
        Operation::Put(key, value) if arguments.unique => {
            let won = match arguments.lifetime {
                Some(lifetime) => store.put_unique_for(&key, &value, lifetime).await?,
                None => store.put_unique(&key, &value).await?,
            };
            if !won {
                return Ok(ExitCode::FAILURE);
            }
        }
        Operation::Put(key, value) => match arguments.lifetime {
            Some(lifetime) => store.put_for(&key, &value, lifetime).await?,
            None => store.put(&key, &value).await?,
        },
        Operation::Erase(key) => {
            if !store.erase(&key).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Operation::Increment(key, amount) => {
            let sum = store.increment(&key, &amount).await?;
            print(&sum, format)?;
        }
        Operation::Keys => {
            for key in store.keys().await? {
                print(&key, format)?;
            }
        }
        Operation::Size => out(&format!("{}\n", store.size().await?))?,
        Operation::Dump => {
            store.attached().await?;
            let entries = store.entries().await?;
            dump(&entries)?;
        }
        Operation::Watch(prefix) => watch(store, prefix, arguments).await?,
        Operation::Load(file) => load(store, file).await?,
        Operation::Clear => store.clear().await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The operations on a file, which nobody may have open.
fn of_file(path: &Path, arguments: &Arguments) -> Result<ExitCode> {
    let operation = Operation::read(&arguments.words)?;
    let entries = Sqlite::read(path).map_err(|error| {
        let in_use = error.to_string().contains("locked");
        let failure = Failure::new(error.to_string());
        if in_use {
            failure.hint(
                "a running node has it open; ask that node with `muster store ADDRESS NAME ...`",
            )
        } else {
            failure
        }
    })?;
    let format = arguments.format;
    match operation {
        Operation::Get(key) => {
            let key = Encoded::key(&key);
            let found = entries.iter().find(|(known, _)| *known == key);
            match found {
                Some((_, entry)) => print(&entry.value.to_data(), format)?,
                None => return Ok(ExitCode::FAILURE),
            }
        }
        Operation::Keys => {
            for (key, _) in &entries {
                print(&key.to_data(), format)?;
            }
        }
        Operation::Size => out(&format!("{}\n", entries.len()))?,
        Operation::Dump => dump(&entries)?,
        _ => {
            return Err(usage(
                "a file only supports `get`, `keys`, `size` and `dump`",
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn out(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// A value as it may be typed again.
fn print(value: &Data, format: Format) -> Result<()> {
    out(&format!("{}\n", shown(value, format)))
}

fn shown(value: &Data, format: Format) -> String {
    match format {
        Format::Text => value.to_string(),
        Format::Json => {
            let encoded = muster_data::encode_to_vec(value);
            json::to_string(DataRef::from_validated(&encoded))
        }
    }
}

/// One line of JSON for each entry.
fn dump(entries: &[(Encoded, Entry)]) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut line = Vec::new();
    for (key, entry) in entries {
        line.clear();
        line.extend_from_slice(b"{\"key\":");
        json::write(&mut line, key.view());
        line.extend_from_slice(b",\"value\":");
        json::write(&mut line, entry.value.view());
        if let Some(expires) = entry.expires {
            line.extend_from_slice(format!(",\"expires\":\"{expires}\"").as_bytes());
        }
        line.extend_from_slice(b"}\n");
        out.write_all(&line)?;
    }
    out.flush()?;
    Ok(())
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    key: &'a RawValue,
    #[serde(borrow)]
    value: &'a RawValue,
    expires: Option<String>,
}

/// Puts the entries of lines of JSON, many at a time.
async fn load(store: &Store, file: Option<String>) -> Result<()> {
    let source: Box<dyn std::io::Read + Send> = match &file {
        Some(file) => {
            let opened = std::fs::File::open(file);
            Box::new(opened.with_context(|| format!("cannot read {file}"))?)
        }
        None => Box::new(std::io::stdin()),
    };
    let mut source = BufReader::new(source);
    let mut under_way = tokio::task::JoinSet::new();
    let (mut loaded, mut over) = (0u64, 0u64);
    for number in 1.. {
        let mut line = String::new();
        let read = source.by_ref().take(LONGEST_LINE).read_line(&mut line);
        if read.with_context(|| format!("line {number}"))? == 0 {
            break;
        }
        if line.trim().is_empty() {
            continue;
        }
        let (key, value, lifetime) = entry_of(number, &line)?;
        if lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
            over += 1;
            continue;
        }
        while under_way.len() >= AT_ONCE {
            settle(&mut under_way).await?;
        }
        let store = store.clone();
        under_way.spawn(async move {
            match lifetime {
                Some(lifetime) => store.put_for(&key, &value, lifetime).await,
                None => store.put(&key, &value).await,
            }
        });
        loaded += 1;
    }
    while !under_way.is_empty() {
        settle(&mut under_way).await?;
    }
    let passed_over = if over > 0 {
        format!("; {over} whose lifetime is over were left out")
    } else {
        String::new()
    };
    let _ = writeln!(std::io::stderr(), "loaded {loaded} entries{passed_over}");
    Ok(())
}

async fn settle(
    under_way: &mut tokio::task::JoinSet<Result<(), muster::store::StoreError>>,
) -> Result<()> {
    if let Some(done) = under_way.join_next().await {
        done??;
    }
    Ok(())
}

fn entry_of(number: usize, line: &str) -> Result<(Data, Data, Option<Duration>)> {
    let failed = |problem: String| {
        Failure::new(format!("line {number}: {problem}"))
            .hint("each line must be as `muster store ... dump` prints it: {\"key\": ..., \"value\": ...}")
    };
    let line: Line<'_> = serde_json::from_str(line).map_err(|error| failed(error.to_string()))?;
    let data = |raw: &RawValue| {
        let read = json::read(raw.get().as_bytes(), &Limits::default());
        read.map_err(|error| failed(error.to_string()))
    };
    let expires = line.expires.map(|expires| {
        let expires: Result<Timestamp, _> = expires.parse();
        expires.map_err(|error| failed(format!("`expires`: {error}")))
    });
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let lifetime = expires.transpose()?.map(|expires| {
        let end = u64::try_from(expires.as_nanos()).unwrap_or(0);
        Duration::from_nanos(end).saturating_sub(now)
    });
    Ok((data(line.key)?, data(line.value)?, lifetime))
}

/// What is there, then every change, one a line.
async fn watch(store: &Store, prefix: Option<String>, arguments: &Arguments) -> Result<()> {
    let scope = prefix.map_or(Scope::All, Scope::prefix);
    let format = arguments.format;
    let mut watch = store.watch(scope);
    store.attached().await?;
    let mut changes = 0u64;
    while arguments.count.is_none_or(|count| changes < count) {
        let event = tokio::select! {
            event = watch.next() => event?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let show = |data: &Data| shown(data, format);
        let line = match (&event, format) {
            (WatchEvent::Insert { key, value }, Format::Text) => {
                format!("insert {} = {}", show(key), show(value))
            }
            (WatchEvent::Update { key, old, new }, Format::Text) => {
                format!("update {} = {} (was {})", show(key), show(new), show(old))
            }
            (WatchEvent::Erase { key, old }, Format::Text) => {
                format!("erase {} (was {})", show(key), show(old))
            }
            (WatchEvent::Expire { key, old }, Format::Text) => {
                format!("expire {} (was {})", show(key), show(old))
            }
            (WatchEvent::Insert { key, value }, Format::Json) => {
                json_line("insert", key, None, Some(value))
            }
            (WatchEvent::Update { key, old, new }, Format::Json) => {
                json_line("update", key, Some(old), Some(new))
            }
            (WatchEvent::Erase { key, old }, Format::Json) => {
                json_line("erase", key, Some(old), None)
            }
            (WatchEvent::Expire { key, old }, Format::Json) => {
                json_line("expire", key, Some(old), None)
            }
            (WatchEvent::Synced, _) => {
                let _ = writeln!(std::io::stderr(), "all that is there; changes follow");
                continue;
            }
            (WatchEvent::Restarted, _) => {
                let _ = writeln!(std::io::stderr(), "fell behind; all entries follow again");
                continue;
            }
        };
        changes += 1;
        out(&format!("{line}\n"))?;
    }
    Ok(())
}

fn json_line(event: &str, key: &Data, old: Option<&Data>, new: Option<&Data>) -> String {
    let value = |name: &str, value: Option<&Data>| {
        value.map_or_else(String::new, |value| {
            format!(",\"{name}\":{}", shown(value, Format::Json))
        })
    };
    format!(
        "{{\"event\":\"{event}\",\"key\":{}{}{}}}",
        shown(key, Format::Json),
        value("old", old),
        value("new", new)
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_dumped_line_reads_back() {
        let key = Data::vector([Data::Count(1), Data::from("a")]);
        let line = format!(
            "{{\"key\":{},\"value\":{},\"expires\":\"2100-01-01T00:00:00Z\"}}",
            shown(&key, Format::Json),
            shown(&Data::Count(5), Format::Json)
        );
        let (found, value, lifetime) = entry_of(1, &line).unwrap();
        assert_eq!((found, value), (key, Data::Count(5)));
        assert!(lifetime.unwrap() > Duration::from_secs(365 * 86_400));
        let error = entry_of(7, "{\"key\":1}").err().unwrap().to_string();
        assert!(error.starts_with("line 7: "), "{error}");
    }

    #[test]
    fn what_is_typed_wrong_is_told() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        for (wrong, problem) in [
            ("gett k", "no operation `gett`"),
            ("get", "`get` takes 1 to 1 arguments, 0 given"),
            ("put k", "`put` takes 2 to 2 arguments, 1 given"),
        ] {
            let error = Operation::read(&words(wrong)).err().unwrap().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
