//! What can be typed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::output::Failure;

/// Messaging, state and cluster layer for Zeek and for Rust programs.
#[derive(Debug, Parser)]
#[command(name = "muster", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole cluster on bundled logs of real traffic, kill two nodes, and account for everything
    Demo(Demo),
    /// Run every node of a layout on this machine, supervised
    Run(Run),
    /// Run one node of a layout
    Node(Node),
    /// Check a layout and print what it resolves to
    Check(Check),
    /// Print the layout of a cluster that ZeekControl's node.cfg or Zeek's zeek.conf describes
    ///
    /// Nodes have the names that Zeek gives them, so that keys have the same owners.
    ///
    /// Of a node.cfg, a layout takes the nodes with `type`, `host` and `lb_procs`. Of a zeek.conf,
    /// which Zeek's systemd units are made from, it takes `manager`, `loggers`, `proxies`, `workers`
    /// of all interfaces, `cluster_node_prefix`, `address`, and `port`, if there is one: otherwise
    /// nodes have Muster's own ports. Instead of one zeek.conf it may be a directory with a file
    /// HOST.zeek.conf for every host, as in Zeek's etc/zeek/cluster. What else the files say is about
    /// capturing packets or about processes; it is left out, and each line of it is told on stderr.
    Import(Import),
    /// Make and check certificates for the nodes of a layout
    #[command(subcommand)]
    Tls(TlsCommand),
    /// Show the state of every node of a running cluster
    Status(Status),
    /// Stop a running cluster in order
    Stop(Stop),
    /// Stop one node in order and start it again
    Restart(Restart),
    /// Print what is published below topic prefixes
    Subscribe(Subscribe),
    /// Publish an event, or messages from stdin
    Publish(Publish),
    /// Show whom an endpoint is, and what it subscribes to
    Peers(Peers),
    /// Read and change a data store, or a store's file
    ///
    /// Operations: `get KEY`, `put KEY VALUE`, `erase KEY`, `increment KEY [AMOUNT]`, `keys`, `size`, `dump`,
    /// `watch [PREFIX]`, `load [FILE]`, `clear`. Keys and values are typed as the arguments of `publish`:
    /// `count:5`, `addr:10.0.0.1`, `"text"`, `[1, 2]`, or JSON. `dump` prints, and `load` reads, a line of JSON for
    /// each entry. Of a file, which no process may have open, `get`, `keys`, `size` and `dump` are possible.
    Store(Store),
    /// Measure how long an endpoint takes to answer
    Ping(Ping),
    /// Serve WebSocket clients of an endpoint
    Gateway(Gateway),
    /// Measure Muster on this machine: messages a second, round trips, and what an idle endpoint costs
    ///
    /// Everything goes between processes of its own over loopback TCP. Beside it, the same is measured with
    /// bare sockets, which no messaging system can beat.
    Bench(Bench),
    /// One process of `bench`
    #[command(hide = true)]
    BenchWorker(BenchWorker),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where logs and files go, kept afterwards [default: a new temporary directory]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Replay this many times faster than real time
    #[arg(long, default_value_t = 60.0)]
    pub(crate) speed: f64,
    /// The form of the summary
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Leave all nodes alive
    #[arg(long)]
    pub(crate) no_kill: bool,
    /// Change a setting of the layout, as `scan.threshold=20`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The layout
    #[arg(value_name = "FILE", default_value = "muster.toml")]
    pub(crate) layout: PathBuf,
    /// Change a setting of the layout, as `scan.threshold=20`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Listen without encryption on addresses that others can reach
    #[arg(long)]
    pub(crate) plaintext_anywhere: bool,
    /// Listen with anonymous TLS on addresses that others can reach
    #[arg(long)]
    pub(crate) anonymous_anywhere: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Node {
    /// The node's name in the layout
    pub(crate) name: String,
    /// The layout
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    pub(crate) layout: PathBuf,
    /// Change a setting of the layout, as `scan.threshold=20`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Listen without encryption on addresses that others can reach
    #[arg(long)]
    pub(crate) plaintext_anywhere: bool,
    /// Listen with anonymous TLS on addresses that others can reach
    #[arg(long)]
    pub(crate) anonymous_anywhere: bool,
    /// Report to, and live and end with, the process at the other end of stdin and stdout
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The layout
    #[arg(value_name = "FILE", default_value = "muster.toml")]
    pub(crate) layout: PathBuf,
    /// Change a setting of the layout, as `scan.threshold=20`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Print settings that nobody changed as well
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A node.cfg, a zeek.conf, or a directory of HOST.zeek.conf
    pub(crate) file: PathBuf,
    /// Which of the two a file is [default: what it looks like]
    #[arg(long, value_enum)]
    pub(crate) from: Option<ImportFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportFormat {
    /// ZeekControl's file
    #[value(name = "node.cfg")]
    NodeCfg,
    /// The file of Zeek's systemd units
    #[value(name = "zeek.conf")]
    ZeekConf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TlsCommand {
    /// Make an authority, and a certificate for every node that has none
    Init(TlsInit),
    /// Say what each node would use, whether it can, and when it expires
    Check(TlsCheck),
}

#[derive(Debug, Args)]
pub(crate) struct TlsInit {
    /// The layout
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    pub(crate) layout: PathBuf,
    /// Where they go, relative to the layout
    #[arg(long, default_value = "tls")]
    pub(crate) dir: PathBuf,
    /// How long the nodes' certificates are valid
    #[arg(long, default_value_t = 365)]
    pub(crate) days: u32,
}

#[derive(Debug, Args)]
pub(crate) struct TlsCheck {
    /// The layout
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    pub(crate) layout: PathBuf,
}

/// The layout of a running cluster, with or without the option's name.
#[derive(Debug, Args)]
pub(crate) struct LayoutFile {
    /// The layout of the cluster [default: muster.toml]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same, as other commands take it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    layout: Option<PathBuf>,
}

impl LayoutFile {
    pub(crate) fn path(&self) -> &Path {
        let given = self.file.as_deref().or(self.layout.as_deref());
        given.unwrap_or(Path::new("muster.toml"))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) layout: LayoutFile,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    pub(crate) layout: LayoutFile,
}

#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// The node's name
    pub(crate) node: String,
    /// The layout of the cluster
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    pub(crate) layout: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    /// The endpoint, as `127.0.0.1:9999`, or a WebSocket server, as `ws://127.0.0.1:27759`
    pub(crate) address: String,
    /// Topic prefixes; the empty one matches everything
    #[arg(required = true)]
    pub(crate) prefixes: Vec<String>,
    /// End after this many messages
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// The form of a message, one a line
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Dial again when the endpoint is not there or goes away
    #[arg(long)]
    pub(crate) follow_reconnect: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The endpoint, as `127.0.0.1:9999`, or a WebSocket server, as `ws://127.0.0.1:27759`
    pub(crate) address: String,
    /// The topic
    #[arg(required_unless_present = "lines")]
    pub(crate) topic: Option<String>,
    /// The event's name
    #[arg(required_unless_present = "lines")]
    pub(crate) event: Option<String>,
    /// The event's arguments, as `count:5`, `addr:10.0.0.1`, `"text"`, `[1, 2]`, or JSON
    #[arg(allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    /// Publish the messages on stdin instead, as `subscribe --format json` prints them
    #[arg(long, conflicts_with_all = ["topic", "event", "arguments"])]
    pub(crate) lines: bool,
    /// How long to wait until the endpoint subscribes to the topic, in seconds
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Store {
    /// An endpoint of the cluster, as `127.0.0.1:9999`, or a SQLite file
    pub(crate) target: String,
    /// The store's name (not for a file), the operation, and what it takes
    #[arg(
        required = true,
        allow_negative_numbers = true,
        value_name = "NAME OPERATION [ARGUMENT]"
    )]
    pub(crate) words: Vec<String>,
    /// For `put`: how long the value lives, in seconds
    #[arg(long, value_parser = seconds)]
    pub(crate) lifetime: Option<Duration>,
    /// For `put`: only if the key is absent; otherwise the exit code is 1
    #[arg(long)]
    pub(crate) unique: bool,
    /// Wait until what is written is on the master's disk
    #[arg(long)]
    pub(crate) durable: bool,
    /// For `watch`: end after this many changes
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// How long an operation may take, in seconds
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// The form of keys, values and changes; `dump` is JSON in any case
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Peers {
    /// The endpoint, as `127.0.0.1:9999`, or a WebSocket server, as `ws://127.0.0.1:27759`
    pub(crate) address: String,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Ping {
    /// The endpoint, as `127.0.0.1:9999`, or a WebSocket server, as `ws://127.0.0.1:27759`
    pub(crate) address: String,
    /// How many times, one a second
    #[arg(long, default_value_t = 1)]
    pub(crate) count: u32,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// The endpoint to peer with, as `127.0.0.1:9999`
    pub(crate) address: String,
    /// Where WebSocket clients are served
    #[arg(long, default_value_t = muster_gateway::GatewayConfig::default().address)]
    pub(crate) listen: SocketAddr,
    /// File of the tokens that clients must show; without it only loopback is listened on
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    /// Certificate for wss://
    #[arg(long, value_name = "FILE", requires = "keyfile")]
    pub(crate) certificate: Option<PathBuf>,
    /// The certificate's private key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) keyfile: Option<PathBuf>,
    /// Authorities of clients' certificates, which they must then show
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) client_cafile: Option<PathBuf>,
    /// Serve unencrypted on addresses that others can reach; tokens can be read on the way
    #[arg(long)]
    pub(crate) plaintext_anywhere: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to measure [default: everything but `start`]
    #[arg(value_enum)]
    pub(crate) measurements: Vec<Measurement>,
    /// How long each of the measurements takes, in seconds
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// The form of the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measurement {
    /// Messages of six sizes from one publisher to one and to four subscribers
    Throughput,
    /// Messages of three sizes over anonymous TLS
    Tls,
    /// Messages of six sizes by the protocol of the mesh and by Broker's
    Versions,
    /// Round trips at 10,000 messages a second, beside those of a bare blocking echo
    Latency,
    /// Messages of 1 MiB, beside a plain TCP stream
    Stream,
    /// Messages through one relay and through two, beside a direct link
    Chain,
    /// From nothing until every endpoint of a mesh knows all: 64 over TCP, 160 and 608 in one process,
    /// which may take minutes; only if named
    Start,
    /// An endpoint alone, one with 100 peers that send heartbeats, and a cluster's node
    Idle,
}

#[derive(Debug, Args)]
pub(crate) struct BenchWorker {
    /// What it does
    pub(crate) job: String,
}

/// How the connection is protected.
#[derive(Debug, Args)]
pub(crate) struct ConnectionArguments {
    /// How the endpoint protects its connections [default: off, for loopback addresses only]
    #[arg(long = "tls", value_enum)]
    pub(crate) mode: Option<TlsMode>,
    /// File of trusted authorities
    #[arg(long, value_name = "FILE")]
    pub(crate) ssl_cafile: Option<PathBuf>,
    /// Directory of trusted authorities
    #[arg(long, value_name = "DIR")]
    pub(crate) ssl_capath: Option<PathBuf>,
    /// Our certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) ssl_certificate: Option<PathBuf>,
    /// Our certificate's private key
    #[arg(long, value_name = "FILE")]
    pub(crate) ssl_keyfile: Option<PathBuf>,
    /// The key's passphrase
    #[arg(long, value_name = "TEXT")]
    pub(crate) ssl_passphrase: Option<String>,
    /// File with the token that a WebSocket server asks for
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
    /// Not at all
    Off,
    /// Encrypted, to whoever is there: Zeek's default
    Anonymous,
    /// Encrypted, with certificates on both sides
    Mutual,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
