//! `muster config`: registers and live settings of a running cluster.

mod picture;
mod session;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use muster::store::{Encoded, Scope, WatchEvent};
use muster_cluster::register::{ConfigKey, Definition, DefinitionKind, nearest_name};
use muster_data::{Data, DataRef, json};

use self::picture::Picture;
use self::session::Session;
use super::store::explained;
use crate::arguments::{ConnectionArguments, Format, seconds};
use crate::cluster::specs;
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, REFUSED, USAGE, one_line, print, say};

/// How long a name that nobody has defined is waited for: a cluster that has just started is still writing its definitions.
const UNKNOWN: Duration = Duration::from_secs(2);

/// How soon it is looked again.
const AGAIN: Duration = Duration::from_millis(100);

/// Show and change the values of a cluster while it runs: registers of its frameworks, and live settings
///
/// What is set counts on all nodes within moments, without a restart, and survives the restart of everything. What the layout says of a
/// live setting is its default: it counts again when the value is unset. Settings that are not live change with the layout and a restart.
///
/// Any node is asked: by default one of the layout's, first of this machine.
///
/// Exit codes: 0 done; 1 there is no such name, or nothing to unset; 2 the value is not one; 3 no node answers; 4 the setting is not live.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Layout file of the cluster [default: muster.toml, or else the layout of this box]
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "address")]
    layout: Option<PathBuf>,
    /// Or the address of a node, such as 127.0.0.1:9999
    #[arg(long, value_name = "ADDRESS", global = true)]
    address: Option<String>,
    /// Time limit, in seconds
    #[arg(long, default_value = "10", value_parser = seconds, global = true)]
    timeout: Duration,
    /// Output format
    #[arg(long, value_enum, default_value_t, global = true)]
    format: Format,
    #[command(flatten)]
    connection: ConnectionArguments,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all values, and what each must be
    List,
    /// Print the value that counts: what is set, or the default. Without a name, all of them
    Get {
        /// The name of a register or a setting
        name: Option<String>,
    },
    /// Set a value on all nodes
    Set {
        /// The name of a register or a setting
        name: String,
        /// The value: 25, 15m, 10.0.0.0/8, a text; elements of a list are separated by commas
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Go back to the default: of a setting, to what the layout says
    Unset {
        /// The name of a register or a setting
        name: String,
    },
    /// Print what is set, and every change, one a line
    Watch {
        /// The name of a register or a setting; without one, all
        name: Option<String>,
        /// Exit after so many lines
        #[arg(long)]
        count: Option<u64>,
    },
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(&self))
    }
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let session = Session::open(arguments).await?;
    let done = perform(&session, arguments).await;
    session.close().await;
    done.map_err(explained)
}

async fn perform(session: &Session, arguments: &Arguments) -> Result<ExitCode> {
    let format = arguments.format;
    match &arguments.action {
        Action::List | Action::Get { name: None } => {
            print(&session.picture().await?.all(format))?;
        }
        Action::Get { name: Some(name) } => {
            let picture = defined(session, name).await?;
            print(&picture.one(name, format)?)?;
        }
        Action::Set { name, value } => return set(session, name, value).await,
        Action::Unset { name } => {
            let before = session.picture().await?;
            if !session.store.erase(name.as_str()).await? {
                defined(session, name).await?;
                say(&format!("{name} is not set"));
                return Ok(ExitCode::FAILURE);
            }
            say(&match before.definition(name) {
                Some(definition) => {
                    let default = Definition::shown(&definition.default);
                    let by = match definition.kind {
                        DefinitionKind::Register => "the default",
                        DefinitionKind::Setting => "as the layout says",
                    };
                    format!("{name} is {} again, {by}", one_line(default.into()))
                }
                None => format!("{name} is not set any more"),
            });
        }
        Action::Watch { name, count } => {
            if let Some(name) = name {
                defined(session, name).await?;
            }
            watch(session, name.as_deref(), *count, format).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(session: &Session, name: &str, value: &str) -> Result<ExitCode> {
    let picture = defined(session, name).await?;
    let Some(definition) = picture.definition(name) else {
        return Err(Failure::new(format!(
            "`{name}` is defined by nodes of another version, in a way that this one does not understand"
        ))
        .code(REFUSED)
        .into());
    };
    let data = definition.read_text(value);
    let data = data.map_err(|unfit| {
        let unfit = one_line(unfit.to_string().into());
        Failure::new(format!("`{name}` {unfit}")).code(USAGE)
    })?;
    session.store.put(name, &data).await?;
    let (now, before) = (Definition::shown(&data), picture.shown(name));
    say(&format!(
        "{name} is {}, and was {}",
        one_line(now.into()),
        one_line(before.into())
    ));
    Ok(ExitCode::SUCCESS)
}

/// What is there, if the name is among it.
async fn defined(session: &Session, name: &str) -> Result<Picture> {
    let end = tokio::time::Instant::now() + UNKNOWN;
    loop {
        let picture = session.picture().await?;
        if picture.knows(name) {
            return Ok(picture);
        }
        let spec = specs().into_iter().find(|spec| spec.key() == name);
        let spec = spec.or_else(|| {
            let core = muster_cluster::CORE_SETTINGS.iter();
            core.copied().find(|spec| spec.key() == name)
        });
        if spec.is_some_and(|spec| !spec.is_live()) {
            return Err(not_live(name).into());
        }
        if tokio::time::Instant::now() >= end {
            return Err(match spec {
                Some(_) => Failure::new(format!("no node of this cluster follows `{name}`"))
                    .hint("its frameworks do not run here, or its nodes are of an earlier version")
                    .into(),
                None => unknown(name, &picture).into(),
            });
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn not_live(name: &str) -> Failure {
    let (section, key) = name.split_once('.').unwrap_or(("", name));
    Failure::new(format!(
        "the setting `{name}` is not live: it changes with the layout and a restart"
    ))
    .hint(format!(
        "set `{key}` in section [{section}] of the layout, and restart the nodes; `muster config list` shows what is live"
    ))
    .code(REFUSED)
}

fn unknown(name: &str, picture: &Picture) -> Failure {
    let specs = specs();
    let settings = specs.iter().chain(muster_cluster::CORE_SETTINGS);
    let mut known: Vec<&str> = picture.names().collect();
    for spec in settings {
        known.push(spec.key());
    }
    let nearest = nearest_name(name, known);
    let hint = match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "`muster config list` shows all".to_owned(),
    };
    Failure::new(format!("there is no register and no setting `{name}`")).hint(hint)
}

/// What is set, then every change.
async fn watch(
    session: &Session,
    name: Option<&str>,
    count: Option<u64>,
    format: Format,
) -> Result<()> {
    let mut watch = session.store.watch(Scope::All);
    let mut lines = 0;
    while count.is_none_or(|count| lines < count) {
        let event = tokio::select! {
            event = watch.next() => event?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let (key, old, new) = match event {
            WatchEvent::Insert { key, value } => (key, None, Some(value)),
            WatchEvent::Update { key, old, new } => (key, Some(old), Some(new)),
            WatchEvent::Erase { key, old } | WatchEvent::Expire { key, old } => {
                (key, Some(old), None)
            }
            WatchEvent::Synced => continue,
            WatchEvent::Restarted => {
                say("fell behind; all values follow again");
                continue;
            }
        };
        let key = ConfigKey::read(Encoded::of(&key).view());
        let Some(ConfigKey::Value(key)) = key else {
            continue;
        };
        if name.is_none_or(|name| name == key) {
            print(&line(&key, old.as_ref(), new.as_ref(), format))?;
            lines += 1;
        }
    }
    Ok(())
}

/// A change as one line.
fn line(name: &str, old: Option<&Data>, new: Option<&Data>, format: Format) -> String {
    let shown = |data: &Data| one_line(Definition::shown(data).into()).into_owned();
    match format {
        Format::Text => {
            let was = old.map_or_else(String::new, |old| format!(" (was {})", shown(old)));
            let is = new.map_or_else(
                || " is unset".to_owned(),
                |new| format!(" = {}", shown(new)),
            );
            format!("{name}{is}{was}\n")
        }
        Format::Json => {
            let event = if new.is_some() { "set" } else { "unset" };
            let value = |key: &str, data: Option<&Data>| {
                data.map_or_else(String::new, |data| {
                    format!(",\"{key}\":{}", typed_json(data))
                })
            };
            let (new, old) = (value("value", new), value("old", old));
            format!("{{\"event\":\"{event}\",\"name\":\"{name}\"{new}{old}}}\n")
        }
    }
}

/// A value as JSON, with its type.
fn typed_json(data: &Data) -> String {
    let encoded = muster_data::encode_to_vec(data);
    json::to_string(DataRef::from_validated(&encoded))
}
