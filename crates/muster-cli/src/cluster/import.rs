//! `muster import`: a layout from a file of Zeek's, ZeekControl's `node.cfg` or the `zeek.conf` of its
//! systemd units, with the same node names, so that keys keep their owners.

mod imported;
mod ini;
mod networks_cfg;
mod node_cfg;
mod zeek_conf;

use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use muster_cluster::Layout;

use self::imported::{Imported, Nodes};
use super::specs;
use crate::commands::Execute;
use crate::output::{Failure, print, say};

/// Convert ZeekControl's node.cfg or Zeek's zeek.conf to a layout, and print it
///
/// Nodes keep the names that Zeek gives them, so keys keep their owners.
///
/// From a node.cfg, the layout takes the nodes with their `type`, `host` and `lb_procs`, and from the
/// networks.cfg beside it, if there is one, the `local_nets` of frameworks. From a zeek.conf, which Zeek's systemd units are generated from, it takes `manager`, `loggers`, `proxies`, the `workers`
/// of all interfaces, `cluster_node_prefix`, `address` and `port`; without `port`, nodes get Muster's
/// default ports. Instead of a single zeek.conf, FILE may be a directory with one HOST.zeek.conf for
/// each host, like Zeek's etc/zeek/cluster. Everything else in these files concerns packet capture or
/// processes: it is left out, and each such line is reported on stderr.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A node.cfg, a zeek.conf, or a directory of HOST.zeek.conf files
    pub(crate) file: PathBuf,
    /// Format of the file [default: detected from its contents]
    #[arg(long, value_enum)]
    pub(crate) from: Option<ImportFormat>,
    /// ZeekControl's list of local networks [default: networks.cfg beside a node.cfg, if there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) networks: Option<PathBuf>,
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

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        run(&self)
    }
}

/// How the names of files in a directory end, one file for each host.
const OF_HOST: &str = ".zeek.conf";

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let path = &arguments.file;
    let files = if path.is_dir() {
        files_of_hosts(path)?
    } else {
        vec![path.clone()]
    };
    let mut imported = Imported::default();
    let mut networks = arguments.networks.clone();
    for path in &files {
        let text = read(path)?;
        let file = imported.begin(path);
        let format = arguments.from.unwrap_or_else(|| format_of(path, &text));
        let notes = match format {
            ImportFormat::NodeCfg => {
                networks = networks
                    .or_else(|| Some(path.with_file_name(NETWORKS)).filter(|path| path.exists()));
                node_cfg::import(&text, &resolve, &mut imported)
            }
            ImportFormat::ZeekConf => {
                zeek_conf::import(&text, host_of(path), &resolve, &mut imported)
            }
        };
        for note in notes.map_err(|problem| problem.of(&file))? {
            say(&format!("{file}:{}: {}", note.line, note.message));
        }
    }
    if let Some(path) = networks {
        let text = read(&path)?;
        let file = imported.begin(&path);
        networks_cfg::import(&text, &mut imported).map_err(|problem| problem.of(&file))?;
    }
    let layout = imported.layout(&specs());
    // What is printed must be a layout; what is wrong with it is wrong with the files.
    let source = path.display().to_string();
    Layout::parse(&layout.text, &source, &specs())
        .map_err(|error| Failure::new(layout.explain(&error)))?;
    print(&layout.text)?;
    Ok(ExitCode::SUCCESS)
}

/// What ZeekControl calls its list of local networks.
const NETWORKS: &str = "networks.cfg";

/// Reads a file as text; bytes that are no UTF-8, as in an old comment, do not matter.
fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The files of a cluster's hosts, in the order in which Zeek reads them.
fn files_of_hosts(directory: &Path) -> Result<Vec<PathBuf>> {
    let name = directory.display();
    let mut files = Vec::new();
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("cannot read directory {name}"))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read directory {name}"))?
            .path();
        if host_of(&path).is_some() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(
            Failure::new(format!("no files named HOST{OF_HOST} in {name}"))
                .hint("the directory must have one such file for every host of the cluster")
                .into(),
        );
    }
    files.sort();
    Ok(files)
}

/// The host that a file is about, if its name is `HOST.zeek.conf`.
fn host_of(path: &Path) -> Option<&str> {
    let host = path.file_name()?.to_str()?.strip_suffix(OF_HOST)?;
    (!host.is_empty()).then_some(host)
}

/// What a file is: every node of a `node.cfg` has a type, and no section of a `zeek.conf` has.
fn format_of(path: &Path, text: &str) -> ImportFormat {
    let mut lines = text.lines().map(str::trim);
    let has_type = lines.any(|line| {
        let key = line.split_once(['=', ':']).map(|(key, _)| key.trim());
        key.is_some_and(|key| key.eq_ignore_ascii_case("type"))
    });
    let named = path.extension().is_some_and(|extension| extension == "cfg");
    if has_type || named {
        ImportFormat::NodeCfg
    } else {
        ImportFormat::ZeekConf
    }
}

/// Something to tell that does not stop the import.
#[derive(Debug, PartialEq, Eq)]
struct Note {
    line: usize,
    message: String,
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    line: usize,
    message: String,
    hint: &'static str,
}

impl Problem {
    fn new(line: usize, message: impl Into<String>, hint: &'static str) -> Self {
        Self {
            line,
            message: message.into(),
            hint,
        }
    }

    fn of(self, file: &str) -> Failure {
        Failure::new(format!("{file}:{}: {}", self.line, self.message)).hint(self.hint)
    }
}

/// Finds the address of a host, given by name or address.
type Resolve<'a> = &'a dyn Fn(&str) -> Option<IpAddr>;

/// The first IPv4 address of a host, or else its first address, as ZeekControl chooses.
fn resolve(host: &str) -> Option<IpAddr> {
    if host == "localhost" {
        return Some(IpAddr::from([127, 0, 0, 1]));
    }
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    let addresses = (host, 0).to_socket_addrs().ok()?;
    let addresses: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    v4.or(addresses.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_content_or_else_by_its_name() {
        let format = |name: &str, text: &str| format_of(Path::new(name), text);
        let standalone = "[zeek]\ntype=standalone\nhost=localhost\n";
        assert_eq!(format("any", standalone), ImportFormat::NodeCfg);
        assert_eq!(format("zeek.conf", standalone), ImportFormat::NodeCfg);
        assert_eq!(format("any", "[a]\nType : worker\n"), ImportFormat::NodeCfg);
        assert_eq!(format("node.cfg", "[a]\n"), ImportFormat::NodeCfg);
        for text in [
            "interface = eth0\nworkers = 2\n",
            "[zeek]\nmanager = 1\n",
            "",
        ] {
            assert_eq!(format("any", text), ImportFormat::ZeekConf);
        }
    }

    #[test]
    fn a_host_is_what_its_file_is_named_after() {
        let host = |path: &str| host_of(Path::new(path)).map(str::to_owned);
        assert_eq!(
            host("/etc/zeek/cluster/c-w-01.zeek.conf"),
            Some("c-w-01".into())
        );
        assert_eq!(host("/etc/zeek/zeek.conf"), None);
        assert_eq!(host(".zeek.conf"), None);
    }
}
