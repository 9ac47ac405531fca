//! The `muster` command: runs, supervises and inspects clusters.
//!
//! Data goes to stdout, talk to stderr. Exit codes: 0 success, 1 failure (for `status`: some node is
//! not ready), 2 wrong usage, 3 no cluster runs there, 4 refused, 5 some boxes did not answer, 78 a
//! node or an agent cannot be configured. A closed pipe is success.

mod arguments;
mod bench;
mod cluster;
mod commands;
mod documents;
mod gateway;
mod log;
mod output;
mod peer;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    log::start(command.log_level());
    raise_descriptor_limit();
    match command.execute() {
        Ok(code) => code,
        Err(error) => output::failed(&error),
    }
}

/// A hub of a large cluster needs more descriptors than the usual soft limit allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
