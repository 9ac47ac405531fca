//! ZeekControl's `node.cfg`: a section for every node. Refuses what ZeekControl refuses, where it matters to a layout.

use std::collections::BTreeMap;
use std::net::IpAddr;

use muster_cluster::{NodeName, Role};

use super::ini::{Ini, Section, Value};
use super::{Imported, Nodes, Note, Problem, Resolve};

/// Keys of ZeekControl that say how Zeek captures packets: a layout has no use for them.
const OF_CAPTURE: [&str; 5] = [
    "interface",
    "lb_method",
    "lb_interfaces",
    "pin_cpus",
    "ether",
];

/// Keys of ZeekControl that say how Zeek's processes run.
const OF_PROCESSES: [&str; 4] = ["env_vars", "aux_scripts", "zeekbase", "brobase"];

/// Reads a file. Returns what was left out.
pub(super) fn import(
    text: &str,
    resolve: Resolve<'_>,
    imported: &mut Imported,
) -> Result<Vec<Note>, Problem> {
    let ini = Ini::parse(text)?;
    let (mut nodes, mut notes) = (Vec::new(), Vec::new());
    for section in ini.sections() {
        let values = ini.values(section)?;
        nodes.push(Node::read(section, &values, resolve, &mut notes)?);
        notes.extend(left_out(section, &values));
    }
    check(&nodes)?;
    for node in nodes {
        imported.host(node.line, &node.host, node.address);
        imported.nodes(&Nodes {
            line: node.line,
            name: node.name,
            role: node.role,
            host: &node.host,
            port: None,
            count: node.processes,
        });
    }
    Ok(notes)
}

/// The values of a section that a layout has no place for.
fn left_out(section: &Section, values: &BTreeMap<String, Value>) -> Vec<Note> {
    let mut notes = Vec::new();
    for (key, value) in values {
        let about = match key.as_str() {
            "type" | "host" | "lb_procs" => continue,
            _ if value.text.is_empty() => continue,
            "zone_id" => "an address of a layout has no zone",
            key if OF_CAPTURE.contains(&key) => "it is about capturing packets",
            key if OF_PROCESSES.contains(&key) => "it is about Zeek's processes",
            _ => "no such key is known",
        };
        notes.push(Note {
            line: value.line,
            message: format!("left out `{key}` of {}: {about}", section.name),
        });
    }
    notes
}

/// A section, understood.
struct Node<'a> {
    name: &'a str,
    line: usize,
    role: Role,
    is_standalone: bool,
    /// The host as the file names it, without a zone.
    host: String,
    host_line: usize,
    address: IpAddr,
    processes: Option<u32>,
}

impl<'a> Node<'a> {
    fn read(
        section: &'a Section,
        values: &BTreeMap<String, Value>,
        resolve: Resolve<'_>,
        notes: &mut Vec<Note>,
    ) -> Result<Self, Problem> {
        let (name, line) = (section.name.as_str(), section.line);
        NodeName::new(name)
            .map_err(|error| Problem::new(line, error.to_string(), "rename the node"))?;
        // An empty value is none.
        let value = |key: &str| values.get(key).filter(|value| !value.text.is_empty());
        let missing =
            |what: &str, hint| Problem::new(line, format!("node `{name}` has no {what}"), hint);
        let types = "types are manager, logger, proxy, worker and standalone";
        let kind = value("type").ok_or_else(|| missing("type", types))?;
        let role = match kind.text.to_lowercase().as_str() {
            // One process that does everything: the manager stands in for logger and proxy.
            "manager" | "standalone" => Role::Manager,
            "logger" => Role::Logger,
            "proxy" => Role::Proxy,
            "worker" => Role::Worker,
            unknown => {
                let message = format!("unknown type `{unknown}` of node `{name}`");
                return Err(Problem::new(kind.line, message, types));
            }
        };
        let host =
            value("host").ok_or_else(|| missing("host", "say where it runs: host=localhost"))?;
        let (bare, zone) = match host.text.split_once('%') {
            Some((bare, zone)) => (bare, Some(zone)),
            None => (host.text.as_str(), None),
        };
        if let Some(zone) = zone {
            notes.push(Note {
                line: host.line,
                message: format!(
                    "left out zone `%{zone}` of {name}: an address of a layout has no zone"
                ),
            });
        }
        let address = resolve(bare).ok_or_else(|| {
            let message = format!("host `{bare}` of node `{name}` has no known address");
            Problem::new(host.line, message, "write its IP address instead")
        })?;
        let processes = match value("lb_procs") {
            Some(count) => Some(processes(count, name, role)?),
            None => None,
        };
        Ok(Self {
            name,
            line,
            role,
            is_standalone: kind.text.eq_ignore_ascii_case("standalone"),
            host: bare.to_owned(),
            host_line: host.line,
            address,
            processes,
        })
    }
}

/// How many workers a section makes.
fn processes(value: &Value, name: &str, role: Role) -> Result<u32, Problem> {
    let (line, text) = (value.line, &value.text);
    if role != Role::Worker {
        let message = format!("`lb_procs` of node `{name}`, which is no worker");
        return Err(Problem::new(
            line,
            message,
            "only workers share packets among processes",
        ));
    }
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| {
        let message = format!("`lb_procs` of node `{name}` is no number above 0: `{text}`");
        Problem::new(line, message, "lb_procs=4 makes four workers")
    })
}

/// What no single section shows.
fn check(nodes: &[Node<'_>]) -> Result<(), Problem> {
    let Some(first) = nodes.first() else {
        let hint = "a node.cfg has a [NODE] section for each node";
        return Err(Problem::new(1, "no nodes", hint));
    };
    if let Some(standalone) = nodes.iter().find(|node| node.is_standalone)
        && nodes.len() > 1
    {
        let message = format!(
            "node `{}` is standalone, and there are others",
            standalone.name
        );
        let hint = "a cluster has a manager; a standalone Zeek is the only node";
        return Err(Problem::new(standalone.line, message, hint));
    }
    let mut managers = nodes.iter().filter(|node| node.role == Role::Manager);
    let manager = managers.next().ok_or_else(|| {
        Problem::new(
            first.line,
            "no node is the manager",
            "one node needs type=manager",
        )
    })?;
    if let Some(second) = managers.next() {
        let message = format!(
            "`{}` and `{}` are both the manager",
            manager.name, second.name
        );
        return Err(Problem::new(
            second.line,
            message,
            "a cluster has one manager",
        ));
    }
    let is_here = |node: &Node<'_>| node.address.is_loopback();
    if is_here(manager)
        && let Some(elsewhere) = nodes.iter().find(|node| !is_here(node))
    {
        let message = format!(
            "node `{}` is at {}, but the manager at {}, where only this machine reaches it",
            elsewhere.name, elsewhere.address, manager.address
        );
        let hint = "give the manager an address that all hosts reach";
        return Err(Problem::new(elsewhere.host_line, message, hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use muster_cluster::Layout;

    use super::super::resolve;
    use super::*;
    use crate::cluster::specs;

    fn import_noted(text: &str) -> Result<(String, Vec<Note>), Problem> {
        let known = |host: &str| {
            if host == "sensor" {
                Some(IpAddr::from([10, 0, 0, 9]))
            } else {
                resolve(host).filter(|_| !host.ends_with(".invalid"))
            }
        };
        let mut imported = Imported::default();
        let notes = super::import(text, &known, &mut imported)?;
        Ok((imported.layout(&specs()).text, notes))
    }

    fn import(text: &str) -> Result<String, Problem> {
        import_noted(text).map(|(layout, _)| layout)
    }

    /// A manager, and a worker with these lines.
    fn worker(lines: &str) -> String {
        format!("[m]\ntype=manager\nhost=localhost\n[a]\ntype=worker\nhost=localhost\n{lines}")
    }

    #[test]
    fn what_is_left_out_is_told() {
        let (_, notes) = import_noted(&worker("interface=eth0\nlb_proc=2\npin_cpus=\n")).unwrap();
        let told = notes.iter().map(|note| (note.line, note.message.as_str()));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                (
                    7,
                    "left out `interface` of a: it is about capturing packets"
                ),
                (8, "left out `lb_proc` of a: no such key is known"),
            ]
        );
    }

    #[test]
    fn an_address_loses_its_zone() {
        let text = "[m]\ntype=manager\nhost=fe80::1%%eth0\n[a]\nTYPE: worker\nhost=fe80::2\n";
        let (layout, notes) = import_noted(text).unwrap();
        assert!(layout.contains("address = \"fe80::1\""), "{layout}");
        let zone = "left out zone `%eth0` of m: an address of a layout has no zone";
        assert_eq!(notes[0].message, zone);
        assert_eq!(
            Layout::parse(&layout, "test", &specs())
                .unwrap()
                .nodes()
                .len(),
            2
        );
    }

    const CLUSTER: &str = "# a cluster\n[logger-1]\ntype=logger\nhost=10.0.0.1\n\n[manager] # the head\ntype=manager\nhost = 10.0.0.1\n[proxy-1]\ntype=proxy\nhost=10.0.0.2\n[worker-a]\ntype=worker\nhost=sensor\ninterface=af_packet::eth0\nlb_method=custom\nlb_procs=3\npin_cpus=0,1,\n    2\n";

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
        assert_eq!(line("[a]\ntype=manager\n"), 1);
        assert_eq!(line("[a]\ntype=manager\nhost=\n"), 1);
        assert_eq!(line("[a]\n\ntype=boss\n"), 3);
        assert_eq!(line("type=worker\n"), 1);
        assert_eq!(line("[a]\nnonsense\n"), 2);
        assert_eq!(line(&worker("lb_procs=many\n")), 7);
        assert_eq!(line(&worker("lb_procs=0\n")), 7);
        assert_eq!(
            line("[a]\ntype=manager\nhost=h\nlb_procs=2\nhost=nowhere.invalid\n"),
            5
        );
        assert_eq!(line("[a]\ntype=worker\nhost=nowhere.invalid\n"), 3);
        assert_eq!(line("[a b]\ntype=worker\n"), 1);
        assert_eq!(line(""), 1);
    }

    #[test]
    fn what_zeekcontrol_refuses_is_refused() {
        let problem = |text: &str| import(text).unwrap_err();
        let elsewhere =
            problem(&worker("").replace("type=worker\nhost=localhost", "type=worker\nhost=sensor"));
        assert_eq!(elsewhere.line, 6);
        assert!(elsewhere.message.contains("10.0.0.9"), "{elsewhere:?}");
        let second = problem(&worker("[m2]\ntype=manager\nhost=localhost\n"));
        assert_eq!(second.line, 7);
        let standalone = problem(&worker("[z]\ntype=standalone\nhost=localhost\n"));
        assert_eq!(standalone.line, 7);
        let none = problem("[a]\ntype=worker\nhost=localhost\n");
        assert!(none.message.contains("manager"), "{none:?}");
    }

    /// Two workers come to the same names: the layout's own check tells it, at the line of the file.
    #[test]
    fn what_the_layout_refuses_is_told_at_its_line() {
        let text = worker("lb_procs=2\nlb_method=custom\n[a-1]\ntype=worker\nhost=localhost\n");
        let mut imported = Imported::default();
        imported.begin(Path::new("etc/node.cfg"));
        super::import(&text, &resolve, &mut imported).unwrap();
        let layout = imported.layout(&specs());
        let error = Layout::parse(&layout.text, "layout", &specs()).unwrap_err();
        let said = layout.explain(&error);
        assert!(said.starts_with("etc/node.cfg:9: "), "{said}");
    }
}
