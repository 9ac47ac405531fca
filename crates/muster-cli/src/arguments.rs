//! What can be typed, as far as several commands share it.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use muster_agent::AGENT_PORT;

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
    #[arg(long = "layout", value_name = "FILE", conflicts_with = "server")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
}

// The layout of a running cluster, with or without the option's name. (A doc comment would become the help of the commands.)
#[derive(Debug, Args)]
pub(crate) struct LayoutFile {
    /// Layout file of the cluster [default: muster.toml, or else the layout of this box]
    #[arg(value_name = "FILE", conflicts_with = "server")]
    file: Option<PathBuf>,
    /// Layout file of the cluster, as an option
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "server"])]
    layout: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
}

impl LayoutFile {
    /// What was typed, if anything.
    pub(crate) fn given(&self) -> Option<&Path> {
        self.file.as_deref().or(self.layout.as_deref())
    }
}

/// Above these options in the help of a command.
const REMOTE: &str = "From another machine";

// The agent of a box on another machine. (A doc comment would become the help of the commands.)
#[derive(Debug, Args)]
pub(crate) struct RemoteArguments {
    /// The agent to ask, of any box of the cluster: https://HOST[:PORT] [default port: 17700]
    #[arg(long, value_name = "URL", help_heading = REMOTE)]
    pub(crate) server: Option<Server>,
    /// Who asks: the file that `muster operator add` has written
    #[arg(
        long,
        value_name = "FILE",
        help_heading = REMOTE,
        requires = "server",
        conflicts_with = "token_file"
    )]
    pub(crate) identity: Option<PathBuf>,
    /// Or the file with the token that `muster operator add --token` has printed [default: the variable MUSTER_TOKEN]
    #[arg(long, value_name = "FILE", requires = "server", help_heading = REMOTE)]
    pub(crate) token_file: Option<PathBuf>,
    /// With a token: the certificate of the cluster's authority [default: asked for, and taken if it is the one that the
    /// token names]
    #[arg(
        long,
        value_name = "FILE",
        help_heading = REMOTE,
        requires = "server",
        conflicts_with = "identity"
    )]
    pub(crate) authority: Option<PathBuf>,
}

/// Where an agent listens for other machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// A name or an address.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "https://[{host}]:{port}")
        } else {
            write!(f, "https://{host}:{port}")
        }
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not where an agent listens, as https://10.77.0.1:17700");
        let rest = match text.split_once("://") {
            Some(("https", rest)) => rest,
            Some((scheme, _)) => return Err(format!("agents speak https, and not {scheme}")),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
                let port = port.strip_prefix(':').or(port.is_empty().then_some(""));
                (host, port.ok_or_else(wrong)?)
            }
            None if rest.parse::<Ipv6Addr>().is_ok() => (rest, ""),
            None => rest.split_once(':').unwrap_or((rest, "")),
        };
        let fits = |letter: char| letter.is_ascii_alphanumeric() || ".-_:%".contains(letter);
        if host.is_empty() || !host.chars().all(fits) {
            return Err(wrong());
        }
        let port = match port {
            "" => AGENT_PORT,
            port => port.parse().map_err(|_| wrong())?,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

// How the connection is protected. (A doc comment would become the help of the commands.)
#[derive(Debug, Args)]
pub(crate) struct ConnectionArguments {
    /// TLS mode of the endpoint [default: off, for loopback addresses only]
    #[arg(long = "tls", value_enum, global = true)]
    pub(crate) mode: Option<TlsMode>,
    /// File with trusted certificate authorities
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ssl_cafile: Option<PathBuf>,
    /// Directory with trusted certificate authorities
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) ssl_capath: Option<PathBuf>,
    /// Certificate to present
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ssl_certificate: Option<PathBuf>,
    /// Private key of the certificate
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ssl_keyfile: Option<PathBuf>,
    /// Passphrase of the private key
    #[arg(long, value_name = "TEXT", global = true)]
    pub(crate) ssl_passphrase: Option<String>,
    /// File with the token for a WebSocket server
    #[arg(long, value_name = "FILE", global = true)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_named_by_url_or_host() {
        for (text, host, port) in [
            ("https://10.77.0.1:17700", "10.77.0.1", 17_700),
            ("https://10.77.0.1", "10.77.0.1", 17_700),
            (
                "https://sensor.example.org:18000/",
                "sensor.example.org",
                18_000,
            ),
            ("10.77.0.1", "10.77.0.1", 17_700),
            ("https://[2001:db8::1]:18000", "2001:db8::1", 18_000),
            ("https://[2001:db8::1]", "2001:db8::1", 17_700),
            ("2001:db8::1", "2001:db8::1", 17_700),
        ] {
            let server = text.parse::<Server>();
            let host = host.to_owned();
            assert_eq!(server, Ok(Server { host, port }), "{text}");
            let again = server.map(|server| server.to_string().parse::<Server>());
            assert_eq!(again, Ok(text.parse::<Server>()), "{text}");
        }
        for wrong in [
            "",
            "https://",
            "http://10.77.0.1",
            "https://10.77.0.1:port",
            "https://10.77.0.1:99999",
            "https://10.77.0.1/v1/status",
            "https://[2001:db8::1",
            "https://[2001:db8::1]18000",
        ] {
            assert!(wrong.parse::<Server>().is_err(), "{wrong}");
        }
    }
}
