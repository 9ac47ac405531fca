//! `muster import`: a layout from ZeekControl's `node.cfg`, with the same node names, so that keys keep
//! their owners.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, ToSocketAddrs};
use std::process::ExitCode;

use anyhow::{Context, Result};
use muster_cluster::{Layout, NodeName};

use super::specs;
use crate::arguments::Import;
use crate::output::{Failure, print, say};

/// Keys of ZeekControl that say how Zeek captures packets: a layout has no use for them.
const OF_CAPTURE: [&str; 8] = [
    "interface",
    "lb_method",
    "lb_interfaces",
    "pin_cpus",
    "env_vars",
    "aux_scripts",
    "zone_id",
    "ether",
];

pub(crate) fn run(arguments: &Import) -> Result<ExitCode> {
    let file = arguments.file.display().to_string();
    let text =
        std::fs::read_to_string(&arguments.file).with_context(|| format!("cannot read {file}"))?;
    let sections = parse(&text).map_err(|problem| problem.of(&file))?;
    let layout = layout(&sections, resolve).map_err(|problem| problem.of(&file))?;
    // What is printed must be a layout; what is wrong with it is wrong with the file.
    Layout::parse(&layout, &format!("layout of {file}"), &specs())
        .map_err(|error| Failure::new(error.to_string().trim_end().to_owned()))?;
    for section in &sections {
        for (key, (_, line)) in &section.values {
            if OF_CAPTURE.contains(&key.as_str()) {
                say(&format!(
                    "{file}:{line}: left out `{key}` of {}: it is about capturing packets",
                    section.name
                ));
            }
        }
    }
    print(&layout)?;
    Ok(ExitCode::SUCCESS)
}

/// A section of an INI file: a node.
#[derive(Debug)]
struct Section {
    name: String,
    line: usize,
    /// Value and line by key.
    values: BTreeMap<String, (String, usize)>,
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

fn parse(text: &str) -> Result<Vec<Section>, Problem> {
    let mut sections: Vec<Section> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = content
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let name = name.trim().to_owned();
            sections.push(Section {
                name,
                line,
                values: BTreeMap::new(),
            });
            continue;
        }
        let (key, value) = content.split_once(['=', ':']).ok_or_else(|| {
            Problem::new(
                line,
                format!("`{content}` is neither [NODE] nor KEY=VALUE"),
                "is this a node.cfg of ZeekControl?",
            )
        })?;
        let section = sections.last_mut().ok_or_else(|| {
            Problem::new(
                line,
                "a value before the first [NODE]",
                "is this a node.cfg of ZeekControl?",
            )
        })?;
        section
            .values
            .insert(key.trim().to_lowercase(), (value.trim().to_owned(), line));
    }
    if sections.is_empty() {
        return Err(Problem::new(
            1,
            "no nodes",
            "a node.cfg has a [NODE] section per node",
        ));
    }
    Ok(sections)
}

fn layout(
    sections: &[Section],
    resolve: impl Fn(&str) -> Option<IpAddr>,
) -> Result<String, Problem> {
    let mut boxes: BTreeMap<&str, IpAddr> = BTreeMap::new();
    let mut nodes = String::new();
    for section in sections {
        NodeName::new(&section.name)
            .map_err(|error| Problem::new(section.line, error.to_string(), "rename the node"))?;
        let value = |key: &str| {
            section
                .values
                .get(key)
                .map(|(value, line)| (value.as_str(), *line))
        };
        let (kind, line) = value("type").ok_or_else(|| {
            Problem::new(
                section.line,
                format!("node `{}` has no type", section.name),
                "types are manager, logger, proxy, worker and standalone",
            )
        })?;
        let role = match kind.to_lowercase().as_str() {
            role @ ("manager" | "logger" | "proxy" | "worker") => role.to_owned(),
            // One process that does everything: the manager stands in for logger and proxy.
            "standalone" => "manager".to_owned(),
            _ => {
                let message = format!("unknown type `{kind}`");
                return Err(Problem::new(
                    line,
                    message,
                    "types are manager, logger, proxy, worker and standalone",
                ));
            }
        };
        let (host, line) = value("host").unwrap_or(("localhost", section.line));
        let address = resolve(host).ok_or_else(|| {
            Problem::new(
                line,
                format!("host `{host}` has no known address"),
                "write its IP address instead",
            )
        })?;
        boxes.insert(host, address);
        let _ = write!(
            nodes,
            "\n[[node]]\nname = {:?}\nrole = {role:?}\nbox = {host:?}\n",
            section.name
        );
        if let Some((count, line)) = value("lb_procs") {
            let count: u32 = count.parse().map_err(|_| {
                Problem::new(
                    line,
                    format!("lb_procs is no number: `{count}`"),
                    "lb_procs=4 makes four workers",
                )
            })?;
            // As ZeekControl names them: NAME-1 to NAME-4.
            let _ = writeln!(nodes, "count = {count}");
        }
    }
    let mut text = "layout = 1\n".to_owned();
    for (host, address) in boxes {
        let _ = write!(text, "\n[box.{host:?}]\naddress = \"{address}\"\n");
    }
    text.push_str(&nodes);
    Ok(text)
}

fn resolve(host: &str) -> Option<IpAddr> {
    if host == "localhost" {
        return Some(IpAddr::from([127, 0, 0, 1]));
    }
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    (host, 0)
        .to_socket_addrs()
        .ok()?
        .next()
        .map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(text: &str) -> Result<String, Problem> {
        let known = |host: &str| {
            if host == "sensor" {
                Some(IpAddr::from([10, 0, 0, 9]))
            } else {
                resolve(host).filter(|_| !host.ends_with(".invalid"))
            }
        };
        layout(&parse(text)?, known)
    }

    const CLUSTER: &str = "# a cluster\n[logger-1]\ntype=logger\nhost=localhost\n\n[manager]\ntype=manager\nhost = localhost\n[proxy-1]\ntype=proxy\nhost=10.0.0.2\n[worker-a]\ntype=worker\nhost=sensor\ninterface=af_packet::eth0\nlb_method=custom\nlb_procs=3\npin_cpus=0,1,2\n";

    #[test]
    fn a_cluster_keeps_its_names_and_hosts() {
        let text = import(CLUSTER).unwrap();
        insta::assert_snapshot!(text);
        let layout = Layout::parse(&text, "test", &specs()).unwrap();
        let names: Vec<&str> = layout
            .nodes()
            .iter()
            .map(|node| node.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "logger-1",
                "manager",
                "proxy-1",
                "worker-a-1",
                "worker-a-2",
                "worker-a-3"
            ]
        );
    }

    #[test]
    fn a_standalone_zeek_becomes_a_manager() {
        let text = import("[zeek]\ntype=standalone\nhost=localhost\ninterface=eth0\n").unwrap();
        assert!(
            Layout::parse(&text, "test", &specs())
                .unwrap()
                .manager_is_logger()
        );
    }

    #[test]
    fn problems_name_their_line() {
        let line = |text: &str| import(text).unwrap_err().line;
        assert_eq!(line("[a]\nhost=localhost\n"), 1);
        assert_eq!(line("[a]\n\ntype=boss\n"), 3);
        assert_eq!(line("type=worker\n"), 1);
        assert_eq!(line("[a]\nnonsense\n"), 2);
        assert_eq!(line("[a]\ntype=worker\nlb_procs=many\n"), 3);
        assert_eq!(line("[a]\ntype=worker\nhost=nowhere.invalid\n"), 3);
        assert_eq!(line("[a b]\ntype=worker\n"), 1);
        assert_eq!(line(""), 1);
    }
}
