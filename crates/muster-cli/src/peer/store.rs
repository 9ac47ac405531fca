//! `muster store`: reads and changes a data store, through any endpoint of its cluster, or reads a store's file.

mod entries;
pub(super) mod opening;
mod operation;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use muster::store::{
    BackendErrorKind, CloneOptions, CopyMode, Encoded, Scope, Sqlite, Store, StoreError,
    StoreErrorKind, StoreFinder, StoreName, WatchEvent,
};
use muster_data::{Data, DataRef, json};

use self::entries::{dump, load};
use self::opening::Wanted;
use self::operation::{Operation, usage};
use crate::arguments::{ConnectionArguments, Format, seconds};
use crate::commands::{Execute, on_runtime};
use crate::output::Failure;

/// Read and change a data store, or read a store's file
///
/// Operations: `get KEY`, `put KEY VALUE`, `erase KEY`, `increment KEY [AMOUNT]`, `keys`, `size`, `dump`,
/// `watch [PREFIX]`, `load [FILE]`, `clear`. Keys and values are written like the arguments of `publish`:
/// `count:5`, `addr:10.0.0.1`, `"text"`, `[1, 2]`, or JSON. `dump` prints one line of JSON per entry, and `load`
/// reads them. A file supports `get`, `keys`, `size` and `dump`, while no process has it open.
///
/// A store that nobody in the cluster has open is opened where the layout puts it: by `put`, `increment` and `load`, and
/// by the others if the layout names it or it was persistent.
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
    /// Wait until writes are on the primary's disk; a store that is opened for them is persistent
    #[arg(long)]
    pub(crate) durable: bool,
    /// If the store is opened by this: keep it on disk, unless the layout says otherwise
    #[arg(long)]
    pub(crate) persistent: bool,
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

/// The file name's end that makes a target a file.
const FILE: &str = ".sqlite";

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
    let finder = StoreFinder::new(&endpoint).await;
    let node = super::dial(&endpoint, &arguments.target, false).await?.id;
    let wanted = Wanted {
        endpoint: &endpoint,
        finder,
        store: &name,
        need: operation.need(arguments.persistent || arguments.durable),
        connection: Some(&arguments.connection),
        absent,
    };
    let limit = match wanted.in_sight(node, arguments.timeout).await {
        Ok(limit) => limit,
        Err(error) => {
            endpoint.shut_down().await;
            return Err(error);
        }
    };
    let mut options = CloneOptions::default();
    if !operation.needs_copy() {
        options.config.copy = CopyMode::None;
    }
    let store = endpoint.open_clone(&name, options).await?;
    let store = store.within(limit);
    let store = if arguments.durable {
        store.durable()
    } else {
        store
    };
    let done = perform(&store, operation, arguments).await;
    drop(store);
    endpoint.shut_down().await;
    done.map_err(explained)
}

/// What to say of a store that does not do what it is asked.
pub(super) fn explained(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<StoreError>() {
        Ok(error) if matches!(error.kind(), StoreErrorKind::Refused(_)) => {
            Failure::new(error.to_string()).into()
        }
        Ok(error) => Failure::new(error.to_string())
            .hint("give the address of a node of the store's cluster, and see with `muster status` whether its nodes are up")
            .into(),
        Err(error) => error,
    }
}

/// Nobody has it, and nothing is kept of it.
fn absent(name: &StoreName) -> Failure {
    Failure::new(format!("nobody has opened store {name}")).hint(format!(
        "`put`, `increment` and `load` open it, and so does a node that uses it, or the layout if it names it: \
         `[store.\"{name}\"]`"
    ))
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
            let sum = match store.increment(&key, &amount).await {
                Err(error) if matches!(error.kind(), StoreErrorKind::Refused(_)) => {
                    let stored = store.get(&key).await?;
                    return Err(cannot_add(&error, stored.as_ref(), &amount).into());
                }
                sum => sum?,
            };
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

/// Says why an amount cannot be added to what is stored.
fn cannot_add(error: &StoreError, stored: Option<&Data>, amount: &Data) -> Failure {
    let Some(stored) = stored else {
        return Failure::new(format!("{error}: {amount} can be added to nothing"));
    };
    let store = error.store();
    let kind = error.kind();
    let failure = Failure::new(format!(
        "store {store}: cannot add {amount} to {stored}: {kind}"
    ));
    match (stored, amount) {
        (Data::Count(_), Data::Integer(_)) => {
            failure.hint("a count has no negative values; `put KEY int:1` stores an int, which has")
        }
        (Data::Integer(_), Data::Count(count)) => {
            failure.hint(format!("an int is added to an int: int:{count}"))
        }
        _ => failure,
    }
}

/// The operations on a file, which nobody may have open.
fn of_file(path: &Path, arguments: &Arguments) -> Result<ExitCode> {
    let operation = Operation::read(&arguments.words)?;
    let entries = Sqlite::read(path).map_err(|error| {
        let in_use = error.kind() == BackendErrorKind::Locked;
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
