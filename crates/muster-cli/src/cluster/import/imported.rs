//! What the files come to: a layout, in which each line knows the line that it comes from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use muster_cluster::{LayoutError, Role, SettingSpec, SettingValue};

/// How settings that take [`Imported::network`] end.
const LOCAL_NETS: &str = ".local_nets";

/// The hosts, nodes and networks of all files read so far.
#[derive(Debug, Default)]
pub(super) struct Imported {
    file: String,
    boxes: BTreeMap<String, Entry>,
    nodes: Vec<Entry>,
    networks: Vec<String>,
}

/// A piece of the layout.
#[derive(Debug)]
struct Entry {
    text: String,
    origin: Origin,
}

/// A line of a file that was read.
#[derive(Debug, Clone)]
struct Origin {
    file: String,
    line: usize,
}

/// Nodes as one entry of a layout.
#[derive(Debug)]
pub(super) struct Nodes<'a> {
    pub(super) line: usize,
    pub(super) name: &'a str,
    pub(super) role: Role,
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
    /// Makes as many nodes, NAME-1 and so on, as Zeek names them.
    pub(super) count: Option<u32>,
}

impl Imported {
    /// Begins with a file; lines are its from now on. Returns its name.
    pub(super) fn begin(&mut self, path: &Path) -> String {
        self.file = path.display().to_string();
        self.file.clone()
    }

    /// Takes a host; nodes are on it by this name.
    pub(super) fn host(&mut self, line: usize, host: &str, address: IpAddr) {
        let host = box_name(host);
        let text = format!("\n[box.{host:?}]\naddress = \"{address}\"\n");
        let entry = self.entry(line, text);
        self.boxes.insert(host, entry);
    }

    pub(super) fn nodes(&mut self, nodes: &Nodes<'_>) {
        let Nodes {
            line,
            name,
            role,
            host,
            port,
            count,
        } = nodes;
        let (role, host) = (role.to_string(), box_name(host));
        let mut text = format!("\n[[node]]\nname = {name:?}\nrole = {role:?}\nbox = {host:?}\n");
        if let Some(port) = port {
            let _ = writeln!(text, "port = {port}");
        }
        if let Some(count) = count {
            let _ = writeln!(text, "count = {count}");
        }
        let entry = self.entry(*line, text);
        self.nodes.push(entry);
    }

    /// Takes a network as a local one.
    pub(super) fn network(&mut self, network: String) {
        if !self.networks.contains(&network) {
            self.networks.push(network);
        }
    }

    fn entry(&self, line: usize, text: String) -> Entry {
        let file = self.file.clone();
        Entry {
            text,
            origin: Origin { file, line },
        }
    }

    /// The layout of everything that was read.
    pub(super) fn layout(&self, specs: &[SettingSpec]) -> Written {
        let mut written = Written {
            text: "layout = 1\n".to_owned(),
            origins: Vec::new(),
        };
        for entry in self.boxes.values().chain(&self.nodes) {
            let first = written.text.lines().count() + 1;
            written.origins.push((first, entry.origin.clone()));
            written.text.push_str(&entry.text);
        }
        if self.networks.is_empty() {
            return written;
        }
        // ZeekControl's networks come in addition to private address space.
        for spec in specs {
            if let (Some(section), SettingValue::TextList(defaults)) =
                (spec.key().strip_suffix(LOCAL_NETS), spec.default_value())
            {
                let mut all = defaults.clone();
                all.extend(
                    self.networks
                        .iter()
                        .filter(|net| !defaults.contains(net))
                        .cloned(),
                );
                let _ = write!(written.text, "\n[{section}]\nlocal_nets = {all:?}\n");
            }
        }
        written
    }
}

/// The name of a host's box: names of a layout have no colons, as addresses of IPv6 do.
fn box_name(host: &str) -> String {
    host.replace(':', "-")
}

/// A layout as text.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) text: String,
    /// First lines of the text, in order, with where they come from.
    origins: Vec<(usize, Origin)>,
}

impl Written {
    /// Says what is wrong with the layout, at the lines that were read.
    pub(super) fn explain(&self, error: &LayoutError) -> String {
        let mut lines = Vec::new();
        for problem in error.problems() {
            let mut problem = problem.clone();
            let next = self
                .origins
                .partition_point(|(first, _)| *first <= problem.line);
            if let Some((_, origin)) = next.checked_sub(1).and_then(|at| self.origins.get(at)) {
                problem.file.clone_from(&origin.file);
                problem.line = origin.line;
            }
            lines.push(problem.to_string());
        }
        lines.join("\n")
    }
}
