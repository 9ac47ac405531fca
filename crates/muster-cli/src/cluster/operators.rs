//! `muster operator`: people who ask agents from other machines.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use muster_agent::{CredentialError, KnownOperator, NewOperator, Role, check_operator_name};
use muster_data::Timestamp;

use super::agent_client::Target;
use super::logs::Since;
use crate::arguments::{Format, RemoteArguments};
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, REFUSED, USAGE, print, say};

/// People who ask agents from other machines
#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Let somebody in: with a key and a certificate in one file, or with a token
    ///
    /// It is done by the box that has the authority, for an admin, and all agents know it at once. The key is made here and
    /// stays in the file.
    Add(Add),
    /// Show who is let in
    List(List),
    /// Let somebody in no more: their certificate or token is of no use from now on
    Remove(Remove),
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The operator's name
    #[arg(value_name = "NAME")]
    name: String,
    /// What they may do
    #[arg(long, value_enum)]
    role: RoleName,
    /// How many days it is valid
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
    /// Seconds instead of days
    #[arg(long, hide = true, value_name = "SECONDS", conflicts_with = "days")]
    seconds: Option<u32>,
    /// Make a token instead of a certificate, and print it: it is shown once
    #[arg(long)]
    token: bool,
    /// The file for what is theirs [default: NAME.pem; a token is printed]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Instead of what they have now, which ends
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    remote: RemoteArguments,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    remote: RemoteArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The operator's name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    remote: RemoteArguments,
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleName {
    /// Look at states, metrics and events
    Viewer,
    /// And read logs and records; restart, stop and start nodes
    Operator,
    /// And make tokens and operators, and forget boxes
    Admin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Self::Viewer,
            RoleName::Operator => Self::Operator,
            RoleName::Admin => Self::Admin,
        }
    }
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(async move {
            match self {
                Self::Add(arguments) => add(&arguments).await?,
                Self::List(arguments) => list(&arguments).await?,
                Self::Remove(arguments) => remove(&arguments).await?,
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

async fn add(arguments: &Add) -> Result<()> {
    let name = &arguments.name;
    check(name)?;
    let target = Target::of_box_or(&arguments.remote).await?;
    let in_days = Duration::from_secs(86_400) * arguments.days;
    let new = NewOperator {
        name: name.clone(),
        role: arguments.role.into(),
        ttl: arguments
            .seconds
            .map_or(in_days, |seconds| Duration::from_secs(seconds.into())),
        by_token: arguments.token,
        replace: arguments.replace,
    };
    let usual = || (!arguments.token).then(|| PathBuf::from(format!("{name}.pem")));
    // Nobody is let in whose file cannot be written.
    let place = match arguments.out.clone().or_else(usual) {
        Some(path) => Some((new_file(&path)?, path)),
        None => None,
    };
    let added = target.client().add_operator(&new).await;
    let added = match added {
        Ok(added) => added,
        Err(error) => {
            if let Some((_, path)) = &place {
                let _ = std::fs::remove_file(path);
            }
            return Err(match &error {
                CredentialError::Client(error) => target.failure(error).into(),
                error => Failure::new(error.to_string()).into(),
            });
        }
    };
    let until = day(now() + new.ttl.as_secs_f64());
    let who = format!("{} {name}, until {until}", new.role);
    if let Some((mut file, path)) = place {
        let mut text = added.secret;
        if !arguments.token {
            text.insert_str(0, &format!("# Muster: {who}. For {name} alone.\n"));
        }
        file.write_all(text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.display();
        say(&format!("added {who}; {path} is for {name} alone"));
    } else {
        print(&format!("{}\n", added.secret))?;
        say(&format!("added {who}; the token is shown this once"));
    }
    if let Some(note) = added.note {
        say(&note);
    }
    Ok(())
}

fn check(name: &str) -> Result<()> {
    let checked = check_operator_name(name);
    Ok(checked.map_err(|problem| Failure::new(problem).code(USAGE))?)
}

/// A file for its owner alone, which was not there.
fn new_file(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    file.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return Failure::new(format!("{} is there already", path.display()))
                .hint("move it away, or name another file: --out FILE")
                .code(REFUSED)
                .into();
        }
        anyhow::Error::from(error).context(format!("cannot write {}", path.display()))
    })
}

async fn list(arguments: &List) -> Result<()> {
    let target = Target::of_box_or(&arguments.remote).await?;
    let operators = target.client().operators().await;
    let operators = operators.map_err(|error| target.failure(&error))?;
    match arguments.format {
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&operators)?)),
        Format::Text => print(&table(&operators, now())),
    }
}

fn table(operators: &[KnownOperator], now: f64) -> String {
    if operators.is_empty() {
        return "no operators: `muster operator add` lets people in from other machines\n"
            .to_owned();
    }
    let mut text = format!(
        "{:<20} {:<9} {:<12} {:<21} until\n",
        "operator", "role", "by", "added"
    );
    for operator in operators {
        let ended = if operator.ends <= now { " (ended)" } else { "" };
        // A string takes everything.
        let _ = writeln!(
            text,
            "{:<20} {:<9} {:<12} {:<21} {}{ended}",
            operator.name,
            operator.role.name(),
            operator.by,
            day(operator.added),
            day(operator.ends)
        );
    }
    text
}

async fn remove(arguments: &Remove) -> Result<()> {
    check(&arguments.name)?;
    let target = Target::of_box_or(&arguments.remote).await?;
    let name = &arguments.name;
    let removed = format!("removed operator {name}");
    let what = format!("operators/{name}/remove");
    target.change_and_say(&what, Some(&removed)).await
}

fn now() -> f64 {
    super::logs::moment(Some(Since::Ago(Duration::ZERO)))
}

/// A time to the second, UTC.
fn day(seconds: f64) -> String {
    Timestamp::from_secs_f64(seconds.floor()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_who_may_what_and_whose_time_is_over() {
        let of = |name: &str, role, ends| KnownOperator {
            name: name.to_owned(),
            role,
            by: "token".to_owned(),
            added: 0.0,
            ends,
        };
        let text = table(
            &[
                of("alice", Role::Admin, 100.0),
                of("bob", Role::Viewer, 50.0),
            ],
            60.0,
        );
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with("alice                admin     token"),
            "{text}"
        );
        assert!(
            !lines[1].contains("ended") && lines[2].ends_with(" (ended)"),
            "{text}"
        );
        assert!(table(&[], 0.0).starts_with("no operators"));
    }
}
