//! ZeekControl's `node.cfg`: a section for every node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use muster_cluster::{NodeName, Role};

use super::{Imported, Nodes, Note, Problem};

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

/// Reads a file; says what was left out.
pub(super) fn import(
    text: &str,
    resolve: &dyn Fn(&str) -> Option<IpAddr>,
    imported: &mut Imported,
) -> Result<Vec<Note>, Problem> {
    let sections = parse(text)?;
    let mut notes = Vec::new();
    for section in &sections {
        node(section, resolve, imported)?;
        for (key, (_, line)) in &section.values {
            let about = match key.as_str() {
                "type" | "host" | "lb_procs" => continue,
                key if OF_CAPTURE.contains(&key) => "it is about capturing packets",
                _ => "a layout knows nothing of the kind",
            };
            notes.push(Note {
                line: *line,
                message: format!("left out `{key}` of {}: {about}", section.name),
            });
        }
    }
    Ok(notes)
}

/// A section of an INI file: a node.
#[derive(Debug)]
struct Section {
    name: String,
    line: usize,
    /// Value and line by key.
    values: BTreeMap<String, (String, usize)>,
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

fn node(
    section: &Section,
    resolve: &dyn Fn(&str) -> Option<IpAddr>,
    imported: &mut Imported,
) -> Result<(), Problem> {
    NodeName::new(&section.name)
        .map_err(|error| Problem::new(section.line, error.to_string(), "rename the node"))?;
    let value = |key: &str| {
        section
            .values
            .get(key)
            .map(|(value, line)| (value.as_str(), *line))
    };
    let types = "types are manager, logger, proxy, worker and standalone";
    let (kind, line) = value("type").ok_or_else(|| {
        let message = format!("node `{}` has no type", section.name);
        Problem::new(section.line, message, types)
    })?;
    let role = match kind.to_lowercase().as_str() {
        // One process that does everything: the manager stands in for logger and proxy.
        "manager" | "standalone" => Role::Manager,
        "logger" => Role::Logger,
        "proxy" => Role::Proxy,
        "worker" => Role::Worker,
        _ => return Err(Problem::new(line, format!("unknown type `{kind}`"), types)),
    };
    let (host, line) = value("host").unwrap_or(("localhost", section.line));
    let address = resolve(host).ok_or_else(|| {
        let message = format!("host `{host}` has no known address");
        Problem::new(line, message, "write its IP address instead")
    })?;
    let count = match value("lb_procs") {
        None => None,
        Some((count, line)) => Some(count.parse().map_err(|_| {
            let message = format!("lb_procs is no number: `{count}`");
            Problem::new(line, message, "lb_procs=4 makes four workers")
        })?),
    };
    imported.host(host, address);
    imported.nodes(&Nodes {
        name: &section.name,
        role,
        host,
        port: None,
        count,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
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
        Ok((imported.layout(), notes))
    }

    fn import(text: &str) -> Result<String, Problem> {
        import_noted(text).map(|(layout, _)| layout)
    }

    #[test]
    fn what_is_left_out_is_told() {
        let (_, notes) = import_noted("[a]\ntype=worker\ninterface=eth0\nlb_proc=2\n").unwrap();
        let told = notes.iter().map(|note| (note.line, note.message.as_str()));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                (
                    3,
                    "left out `interface` of a: it is about capturing packets"
                ),
                (
                    4,
                    "left out `lb_proc` of a: a layout knows nothing of the kind"
                ),
            ]
        );
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
