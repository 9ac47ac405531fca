//! `muster stores`: who keeps the stores, as coordinators have decided it, and how an operator changes that.

mod ordering;
pub(super) mod table;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use muster_gateway::status::StoresStatus;

use super::agent_client::Target;
use crate::arguments::{Format, LayoutOption, seconds};
use crate::commands::{Execute, on_runtime};
use crate::output::print;

/// Show which nodes keep the stores, and which has the primary of each, as the coordinators have decided it
///
/// What is in a store, `muster store` reads.
///
/// Exit codes: 0 every store has its primary and its copies, or nothing is decided; 1 one waits or has too few copies in sync; 3 no agent.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    layout: LayoutOption,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Move a store's primary to another node
    ///
    /// A node that has no copy in sync gets one first, which takes its time. Nothing that was acknowledged is lost.
    Move(Move),
    /// Have a store that waits for its last copies begin with what a node has: what only others have is lost
    ///
    /// It is for a store whose last copies are lost for good, with their machines or disks. If those nodes can come back, wait for them: then
    /// the store goes on by itself, and nothing is lost.
    Adopt(Adopt),
}

#[derive(Debug, Args)]
struct Order {
    /// The store's name
    #[arg(value_name = "STORE")]
    store: String,
    /// The node that is to have the primary
    #[arg(value_name = "NODE")]
    node: String,
    /// Wait so many seconds at most until it is done
    #[arg(long, value_parser = seconds, default_value = "120")]
    timeout: Duration,
    #[command(flatten)]
    layout: LayoutOption,
}

#[derive(Debug, Args)]
struct Move {
    #[command(flatten)]
    order: Order,
}

#[derive(Debug, Args)]
struct Adopt {
    #[command(flatten)]
    order: Order,
    /// Needed: what only other nodes have is lost
    #[arg(long)]
    lose_what_others_have: bool,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(async {
            match self.action {
                Some(Action::Move(arguments)) => ordering::move_to(&arguments.order).await,
                Some(Action::Adopt(arguments)) => {
                    ordering::adopt(&arguments.order, arguments.lose_what_others_have).await
                }
                None => show(&self).await,
            }
        })
    }
}

async fn show(arguments: &Arguments) -> Result<ExitCode> {
    let target = Target::of(&arguments.layout).await?;
    let stores = target.stores().await?;
    print(&match arguments.format {
        Format::Text => table::text(&stores),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&stores)?),
    })?;
    Ok(code(&stores))
}

fn code(stores: &StoresStatus) -> ExitCode {
    if stores.stores.iter().all(|store| store.redundant) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use muster_gateway::status::{
        COMPLETE, IN, OUT, SHORT, StoreCopyStatus, StoreGroupStatus, WAITING,
    };

    use super::*;

    /// A node as in `data-1@a`, which is out as in `data-1@a!`.
    pub(super) fn copy(text: &str) -> StoreCopyStatus {
        let is_out = text.ends_with('!');
        let (node, box_name) = text.trim_end_matches('!').split_once('@').unwrap();
        StoreCopyStatus {
            node: node.to_owned(),
            box_name: box_name.to_owned(),
            state: if is_out { OUT } else { IN }.to_owned(),
        }
    }

    /// A store with copies as in `*data-1@a data-2@b +data-3@c`: the primary, one in sync, one that joins. Two are wanted.
    pub(super) fn store(name: &str, copies: &str) -> StoreGroupStatus {
        let words = || copies.split_whitespace();
        let primary = words().find_map(|word| word.strip_prefix('*'));
        let joining = words().find_map(|word| word.strip_prefix('+'));
        let in_sync = words().filter(|word| !word.starts_with('+'));
        let in_sync: Vec<_> = in_sync
            .map(|word| copy(word.trim_start_matches('*')))
            .collect();
        let state = match (primary, in_sync.len()) {
            (None, _) => WAITING,
            (Some(_), 1) => SHORT,
            _ => COMPLETE,
        };
        StoreGroupStatus {
            store: name.to_owned(),
            persistent: true,
            copies: 2,
            min_copies: 1,
            goal: 2,
            state: state.to_owned(),
            redundant: state == COMPLETE,
            primary: primary.map(copy),
            in_sync,
            joining: joining.map(copy),
            candidates: ["data-1@a", "data-2@b", "data-3@c!"].map(copy).into(),
            opened: 3,
            began: 3,
            changed: 5,
            ..StoreGroupStatus::default()
        }
    }

    pub(super) fn status(stores: &[StoreGroupStatus]) -> StoresStatus {
        StoresStatus {
            version: 1,
            box_name: "a".to_owned(),
            leader: Some("a".to_owned()),
            term: 3,
            epoch: 17,
            stores: stores.to_vec(),
            ..StoresStatus::default()
        }
    }

    #[test]
    fn a_store_that_is_not_complete_makes_the_command_fail() {
        let complete = store("x", "*data-1@a data-2@b");
        let short = store("y", "*data-1@a");
        let waits = store("z", "data-1@a!");
        for (stores, expected) in [
            (vec![], ExitCode::SUCCESS),
            (vec![complete.clone()], ExitCode::SUCCESS),
            (vec![complete.clone(), short], ExitCode::FAILURE),
            (vec![complete, waits], ExitCode::FAILURE),
        ] {
            assert_eq!(code(&status(&stores)), expected);
        }
    }
}
