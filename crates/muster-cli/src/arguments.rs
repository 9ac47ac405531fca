//! What can be typed, as far as several commands share it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

use crate::commands::Command;
use crate::output::Failure;

/// Messaging, state and cluster layer for Zeek and for Rust programs.
#[derive(Debug, Parser)]
#[command(
    name = "muster",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed or a problem, 2 wrong usage, 3 nothing is running there, 4 refused, 5 some boxes did not answer, 78 a node or an agent cannot be configured"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

// The layout of a running cluster, as an option. (A doc comment would become the help of the commands.)
#[derive(Debug, Args)]
pub(crate) struct LayoutOption {
    /// Layout file of the cluster [default: muster.toml, or else the layout of this box]
    #[arg(long = "layout", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

// The layout of a running cluster, with or without the option's name. (A doc comment would become the help of the commands.)
#[derive(Debug, Args)]
pub(crate) struct LayoutFile {
    /// Layout file of the cluster [default: muster.toml, or else the layout of this box]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Layout file of the cluster, as an option
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    layout: Option<PathBuf>,
}

impl LayoutFile {
    /// What was typed, if anything.
    pub(crate) fn given(&self) -> Option<&Path> {
        self.file.as_deref().or(self.layout.as_deref())
    }
}

// How the connection is protected. (A doc comment would become the help of the commands.)
#[derive(Debug, Args)]
pub(crate) struct ConnectionArguments {
    /// TLS mode of the endpoint [default: off, for loopback addresses only]
    #[arg(long = "tls", value_enum)]
    pub(crate) mode: Option<TlsMode>,
    /// File with trusted certificate authorities
    #[arg(long, value_name = "FILE")]
    pub(crate) ssl_cafile: Option<PathBuf>,
    /// Directory with trusted certificate authorities
    #[arg(long, value_name = "DIR")]
    pub(crate) ssl_capath: Option<PathBuf>,
    /// Certificate to present
    #[arg(long, value_name = "FILE")]
    pub(crate) ssl_certificate: Option<PathBuf>,
    /// Private key of the certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) ssl_keyfile: Option<PathBuf>,
    /// Passphrase of the private key
    #[arg(long, value_name = "TEXT")]
    pub(crate) ssl_passphrase: Option<String>,
    /// File with the token for a WebSocket server
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

impl ConnectionArguments {
    /// The token for a WebSocket server, if there is one.
    pub(crate) fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.token_file else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
        Ok(Some(text.trim().to_owned()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsMode {
    /// No TLS
    Off,
    /// Encrypted, but peers are not authenticated: Zeek's default
    Anonymous,
    /// Encrypted, and both sides present certificates
    Mutual,
}

/// Reads a number of seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
