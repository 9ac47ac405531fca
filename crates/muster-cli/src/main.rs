//! The `muster` command: runs, supervises and inspects clusters.
//!
//! Data goes to stdout, talk to stderr. Exit codes: 0 success, 1 failure (for `status`: some node is
//! not ready), 2 wrong usage, 3 no cluster runs there. A closed pipe is success.

mod arguments;
mod bench;
mod cluster;
mod gateway;
mod output;
mod peer;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    output::start_log(&arguments.command);
    match run(arguments.command) {
        Ok(code) => code,
        Err(error) => output::failed(&error),
    }
}

fn run(command: Command) -> Result<ExitCode> {
    raise_descriptor_limit();
    match &command {
        Command::Bench(arguments) => return bench::run(arguments),
        Command::BenchWorker(arguments) => return bench::work(arguments),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let code = runtime.block_on(async {
        match command {
            Command::Demo(arguments) => cluster::demo::run(&arguments).await,
            Command::Run(arguments) => cluster::run::run(&arguments).await,
            Command::Node(arguments) => cluster::node::run(&arguments).await,
            Command::Check(arguments) => cluster::check::run(&arguments),
            Command::Import(arguments) => cluster::import::run(&arguments),
            Command::Tls(command) => cluster::certificates::run(&command).await,
            Command::Status(arguments) => cluster::control::status(&arguments).await,
            Command::Stop(arguments) => cluster::control::stop(&arguments).await,
            Command::Restart(arguments) => cluster::control::restart(&arguments).await,
            Command::Subscribe(arguments) => peer::subscribe::run(&arguments).await,
            Command::Publish(arguments) => peer::publish::run(&arguments).await,
            Command::Store(arguments) => peer::store::run(&arguments).await,
            Command::Ping(arguments) => peer::ping::run(&arguments).await,
            Command::Gateway(arguments) => gateway::run(&arguments).await,
            Command::Peers(arguments) => peer::peers::run(&arguments).await,
            // Without this runtime: their processes have what they need.
            Command::Bench(_) | Command::BenchWorker(_) => Ok(ExitCode::SUCCESS),
        }
    });
    // A thread that reads the terminal or a pipe cannot be joined.
    runtime.shutdown_background();
    code
}

/// A hub of a large cluster needs more descriptors than the usual soft limit allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
