//! The commands: one line each.
//!
//! A command is a file with a struct `Arguments`: what can be typed behind the command's name. Its doc comment is the command's
//! help, and it knows how to [`Execute`] itself.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// What a command does.
pub(crate) trait Execute {
    /// How much the log on stderr tells, unless `MUSTER_LOG` says otherwise.
    const LOG_LEVEL: &'static str = "warn";

    /// Does it. What waits for the network or for time runs [on a runtime](on_runtime).
    fn execute(self) -> Result<ExitCode>;
}

/// Runs a command to its end on a new runtime.
pub(crate) fn on_runtime(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let code = runtime.block_on(command);
    // A thread that reads the terminal or a pipe cannot be joined.
    runtime.shutdown_background();
    code
}

macro_rules! commands {
    ($($(#[$attribute:meta])* $name:ident = $($module:ident)::+;)+) => {
        #[derive(Debug, Subcommand)]
        pub(crate) enum Command {
            $($(#[$attribute])* $name(crate::$($module)::+::Arguments),)+
        }

        impl Command {
            pub(crate) fn log_level(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => <crate::$($module)::+::Arguments as Execute>::LOG_LEVEL,)+
                }
            }

            pub(crate) fn execute(self) -> Result<ExitCode> {
                match self {
                    $(Self::$name(arguments) => arguments.execute(),)+
                }
            }
        }
    };
}

commands! {
    Demo = cluster::demo;
    Run = cluster::run;
    Node = cluster::node;
    Check = cluster::check;
    Import = cluster::import;
    #[command(subcommand)] Tls = cluster::certificates;
    Status = cluster::status;
    Stop = cluster::stop;
    Start = cluster::start;
    Restart = cluster::restart;
    Events = cluster::events;
    Logs = cluster::logs;
    Records = cluster::records;
    Doctor = cluster::doctor;
    Agent = cluster::agent;
    Init = cluster::init;
    Join = cluster::join;
    #[command(subcommand)] Token = cluster::token;
    #[command(subcommand)] Box = cluster::boxes;
    #[command(subcommand)] Operator = cluster::operators;
    Coordinators = cluster::coordinators;
    Stores = cluster::stores;
    Spool = cluster::spool;
    Subscribe = peer::subscribe;
    Publish = peer::publish;
    Peers = peer::peers;
    Store = peer::store;
    Config = peer::config;
    Ping = peer::ping;
    Gateway = gateway;
    Bench = bench;
    #[command(hide = true)] Completions = documents::completions;
    #[command(hide = true)] Man = documents::manual;
    #[command(hide = true)] BenchWorker = bench::worker;
}
