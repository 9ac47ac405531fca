//! Zeek's `zeek.conf`, from which its systemd generator makes a cluster: plain options and one interface,
//! or a section `[zeek]` and a section `[interface NAME]` for each interface.
//!
//! The names of nodes are those of Zeek's cluster layout generator, `logger-1`, `proxy-1`, `worker-1` or
//! `worker-NAME-1`, behind the prefix of their host if there is one; the manager is always `manager`.

use std::net::{IpAddr, Ipv4Addr};

use muster_cluster::{NodeName, Role};

use super::{Imported, Nodes, Note, Problem, Resolve};

/// Options that say how Zeek captures packets: a layout has no use for them.
const OF_CAPTURE: [&str; 4] = [
    "interface",
    "workers_cpu_list",
    "worker_numa_policy",
    "workers_numa_policy",
];

/// Options for Zeek's processes, besides those that end like [`PROCESS_ENDINGS`].
const OF_PROCESSES: [&str; 11] = [
    "user",
    "group",
    "args",
    "env",
    "archiver",
    "base_dir",
    "path",
    "ext_path",
    "ext_zeek_path",
    "metrics_port",
    "restart_interval_sec",
];

/// How options for one kind of process end, behind its name.
const PROCESS_ENDINGS: [&str; 5] = ["_args", "_env", "_nice", "_memory_max", "_cpu_set"];

/// What such options begin with.
const PROCESS_KINDS: [&str; 6] = [
    "manager",
    "logger",
    "proxy",
    "worker",
    "archiver",
    "cluster_backend",
];

/// One `key = value`, perhaps with more values on lines of their own.
#[derive(Debug)]
struct Assignment<'a> {
    key: String,
    value: &'a str,
    line: usize,
    /// The line of its second value.
    more: Option<usize>,
}

#[derive(Debug, Default)]
struct Section<'a> {
    /// Empty for options that stand before any section.
    name: &'a str,
    line: usize,
    options: Vec<Assignment<'a>>,
}

/// What the options of one host come to.
#[derive(Debug)]
struct Host<'a> {
    manager: bool,
    loggers: u32,
    proxies: u32,
    /// Numbers of workers by the name of their interface, which may be empty.
    workers: Vec<(&'a str, u32)>,
    prefix: Option<&'a str>,
    address: Option<(&'a str, IpAddr)>,
    port: Option<(u16, usize)>,
}

/// Reads a file, of this host if its name says so; says what was left out.
pub(super) fn import(
    text: &str,
    host_name: Option<&str>,
    resolve: Resolve<'_>,
    imported: &mut Imported,
) -> Result<Vec<Note>, Problem> {
    let sections = parse(text)?;
    let mut notes = Vec::new();
    let mut host = read(&sections, &mut notes)?;
    host.prefix = host.prefix.or(host_name);
    let (box_name, address) = match (host_name, host.address) {
        (Some(name), Some((_, address))) => (name, address),
        (Some(name), None) => {
            let address = resolve(name).ok_or_else(|| {
                let message = format!("host `{name}` has no known address");
                Problem::new(1, message, "set `cluster_address` in this file")
            })?;
            (name, address)
        }
        (None, Some((text, address))) if !address.is_loopback() => (text, address),
        (None, Some((_, address))) => ("localhost", address),
        (None, None) => ("localhost", Ipv4Addr::LOCALHOST.into()),
    };
    imported.host(1, box_name, address);
    host.add_to(box_name, imported)?;
    Ok(notes)
}

impl Host<'_> {
    fn add_to(&self, host: &str, imported: &mut Imported) -> Result<(), Problem> {
        let prefix = self.prefix.unwrap_or_default();
        let prefixed = |name: &str| {
            if prefix.is_empty() {
                name.to_owned()
            } else {
                format!("{prefix}-{name}")
            }
        };
        let mut groups = Vec::new();
        if self.manager {
            groups.push(("manager".to_owned(), Role::Manager, None));
        }
        groups.push((prefixed("logger"), Role::Logger, Some(self.loggers)));
        groups.push((prefixed("proxy"), Role::Proxy, Some(self.proxies)));
        for (interface, workers) in &self.workers {
            let name = match *interface {
                "" => prefixed("worker"),
                interface => prefixed(&format!("worker-{interface}")),
            };
            groups.push((name, Role::Worker, Some(*workers)));
        }
        // As Zeek hands them out: in this order, and none to workers, which do not listen there.
        let mut next = self.port.map(|(port, _)| u32::from(port));
        for (name, role, count) in groups {
            if count == Some(0) {
                continue;
            }
            let mut port = None;
            if let Some(first) = next.filter(|_| role != Role::Worker) {
                let after = first.saturating_add(count.unwrap_or(1));
                next = Some(after);
                port = u16::try_from(first).ok().filter(|_| after <= 1 << 16);
                if port.is_none() {
                    let line = self.port.map_or(1, |(_, line)| line);
                    let message = format!("the ports of `{name}` would go beyond 65535");
                    return Err(Problem::new(line, message, "begin with a lower port"));
                }
            }
            imported.nodes(&Nodes {
                line: 1,
                name: &name,
                role,
                host,
                port,
                count,
            });
        }
        Ok(())
    }
}

/// Splits a file as Zeek does: a comment begins its line, and a line that begins with a space belongs to
/// the option before it.
fn parse(text: &str) -> Result<Vec<Section<'_>>, Problem> {
    let hint = "is this a zeek.conf of Zeek's systemd generator?";
    let mut sections = vec![Section::default()];
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim_end();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if let Some(name) = content
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            if sections.iter().any(|section| section.name == name) {
                let message = format!("section `{name}` stands twice");
                return Err(Problem::new(line, message, "Zeek refuses that, too"));
            }
            sections.push(Section {
                name,
                line,
                options: Vec::new(),
            });
            continue;
        }
        let options = match sections.last_mut() {
            Some(section) => &mut section.options,
            None => continue,
        };
        if content.starts_with(char::is_whitespace) {
            let option = options.last_mut().ok_or_else(|| {
                Problem::new(line, "an indented line that continues nothing", hint)
            })?;
            option.more.get_or_insert(line);
            continue;
        }
        let begins_key =
            |first: char| first == '_' || first.is_ascii_lowercase() || first.is_ascii_digit();
        let (key, value) = content
            .split_once('=')
            .filter(|_| content.starts_with(begins_key))
            .ok_or_else(|| {
                let message = format!("`{content}` is neither a section nor `key = value`");
                Problem::new(line, message, hint)
            })?;
        let key = key.trim().to_lowercase();
        if options.iter().any(|option| option.key == key) {
            let message = format!("`{key}` stands twice");
            return Err(Problem::new(line, message, "Zeek refuses that, too"));
        }
        options.push(Assignment {
            key,
            value: value.trim(),
            line,
            more: None,
        });
    }
    let unnamed = sections.remove(0);
    match (unnamed.options.first(), sections.is_empty()) {
        (None, false) => Ok(sections),
        (Some(_), true) => Ok(vec![unnamed]),
        (None, true) => Err(Problem::new(1, "no options", hint)),
        (Some(option), false) => Err(Problem::new(
            option.line,
            "an option stands before the first section",
            "a file has sections or it has none; put it into [zeek]",
        )),
    }
}

fn read<'a>(sections: &[Section<'a>], notes: &mut Vec<Note>) -> Result<Host<'a>, Problem> {
    let mut host = Host {
        manager: false,
        loggers: 0,
        proxies: 0,
        workers: Vec::new(),
        prefix: None,
        address: None,
        port: None,
    };
    for section in sections {
        let place = match section.name {
            "" => String::new(),
            name => format!(" in [{name}]"),
        };
        let is_interface = section.name.starts_with("interface");
        if !is_interface && !matches!(section.name, "" | "zeek") {
            notes.push(Note {
                line: section.line,
                message: format!("left out [{}]: no such section is known", section.name),
            });
            continue;
        }
        if is_interface || section.name.is_empty() {
            host.workers.extend(workers(section)?);
        }
        for option in &section.options {
            let known = match option.key.as_str() {
                "workers" | "interface" if section.name == "zeek" => {
                    return Err(Problem::new(
                        option.line,
                        format!("`{}` has no place in [zeek]", option.key),
                        "put it into a section [interface NAME]",
                    ));
                }
                "workers" => true,
                _ if is_interface => false,
                key => host.set(key, option)?,
            };
            if !known {
                notes.push(Note {
                    line: option.line,
                    message: format!("left out `{}`{place}: {}", option.key, about(&option.key)),
                });
            }
        }
    }
    Ok(host)
}

/// Why an option is left out.
fn about(key: &str) -> &'static str {
    let of_process = PROCESS_ENDINGS.iter().any(|ending| {
        let kind = key.strip_suffix(ending);
        kind.is_some_and(|kind| PROCESS_KINDS.contains(&kind))
    });
    if OF_CAPTURE.contains(&key) {
        "it is about capturing packets"
    } else if of_process || OF_PROCESSES.contains(&key) {
        "it is about Zeek's processes"
    } else {
        "no such option is known"
    }
}

/// The interface of a section, and its number of workers.
fn workers<'a>(section: &Section<'a>) -> Result<Option<(&'a str, u32)>, Problem> {
    let find = |key: &str| section.options.iter().find(|option| option.key == key);
    let (interface, workers) = (find("interface"), find("workers"));
    let name = match section.name {
        "" => "",
        name => name
            .strip_prefix("interface ")
            .filter(|name| is_word(name))
            .ok_or_else(|| {
                let message = format!("[{name}] names no interface");
                let hint = "write [interface NAME] with small letters, digits, `-` and `_`";
                Problem::new(section.line, message, hint)
            })?,
    };
    match (interface, workers) {
        (None, None) if name.is_empty() => Ok(None),
        (Some(interface), Some(workers)) => {
            if !name.is_empty() && interface.value.is_empty() {
                let message = format!("the interface of [{}] is empty", section.name);
                return Err(Problem::new(interface.line, message, "name the interface"));
            }
            Ok(Some((name, workers.number(u32::MAX)?)))
        }
        (Some(option), None) if option.value.is_empty() && name.is_empty() => Ok(None),
        (Some(option), None) => Err(Problem::new(
            option.line,
            "an interface without `workers`",
            "`workers = 2` makes two workers for it",
        )),
        (None, Some(option)) => Err(Problem::new(
            option.line,
            "`workers` without an interface",
            "`interface = af_packet::eth0` says where they listen",
        )),
        (None, None) => Err(Problem::new(
            section.line,
            format!("[{}] has no interface", section.name),
            "it needs `interface` and `workers`",
        )),
    }
}

/// Whether Zeek takes a text as the name of an interface's section.
fn is_word(text: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

impl<'a> Host<'a> {
    /// Takes an option that is not an interface's; says whether a layout has a use for it.
    fn set(&mut self, key: &str, option: &Assignment<'a>) -> Result<bool, Problem> {
        match key {
            "manager" => self.manager = option.number(1)? == 1,
            "loggers" => self.loggers = option.number(u32::MAX)?,
            "proxies" => self.proxies = option.number(u32::MAX)?,
            "cluster_node_prefix" => {
                let prefix = option.single()?;
                let fits =
                    prefix.is_empty() || (is_word(prefix) && !prefix.starts_with(['-', '_']));
                if !fits || NodeName::new(&format!("{prefix}-logger")).is_err() {
                    let message = format!("`{prefix}` is no prefix of node names");
                    let hint = "a prefix has small letters, digits, `-` and `_`";
                    return Err(Problem::new(option.line, message, hint));
                }
                self.prefix = Some(prefix);
            }
            "address" | "cluster_address" => {
                let text = option.single()?;
                let bare = text
                    .strip_prefix('[')
                    .and_then(|text| text.strip_suffix(']'))
                    .unwrap_or(text);
                let address = bare.parse().map_err(|_| {
                    let message = format!("`{text}` is no IP address");
                    Problem::new(option.line, message, "write 10.0.0.1 or [2001:db8::1]")
                })?;
                self.address = Some((bare, address));
            }
            "port" | "cluster_port" => {
                let port = option.number(u16::MAX.into())?;
                let port = u16::try_from(port).unwrap_or_default();
                if port == 0 {
                    let hint = "without `port` nodes have Muster's own ports";
                    return Err(Problem::new(option.line, "port 0 is none", hint));
                }
                self.port = Some((port, option.line));
            }
            // The nodes of that script may have any names.
            "cluster_layout" if !option.value.is_empty() => {
                return Err(Problem::new(
                    option.line,
                    format!("the nodes are in `{}`, a script of Zeek's", option.value),
                    "such a layout has to be written by hand, with the names of that script",
                ));
            }
            "cluster_layout" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'a> Assignment<'a> {
    /// The value, if it is the only one.
    fn single(&self) -> Result<&'a str, Problem> {
        match self.more {
            None => Ok(self.value),
            Some(line) => {
                let message = format!("`{}` has more than one value", self.key);
                Err(Problem::new(
                    line,
                    message,
                    "only `..._args` and `..._env` may",
                ))
            }
        }
    }

    fn number(&self, most: u32) -> Result<u32, Problem> {
        let text = self.single()?;
        let number = text.parse().ok().filter(|number| *number <= most);
        number.ok_or_else(|| {
            let message = format!("`{}` cannot be `{text}`", self.key);
            let hint = if most == 1 {
                "0 and 1 are possible"
            } else {
                "it is a number"
            };
            Problem::new(self.line, message, hint)
        })
    }
}

#[cfg(test)]
mod tests {
    use muster_cluster::Layout;

    use super::*;
    use crate::cluster::specs;

    fn known(host: &str) -> Option<IpAddr> {
        (host == "c-mgr").then(|| IpAddr::from([10, 0, 0, 7]))
    }

    /// The layout, what was told, and the nodes that the layout has.
    fn import(files: &[(Option<&str>, &str)]) -> Result<String, Problem> {
        let mut imported = Imported::default();
        let mut told = Vec::new();
        for (host, text) in files {
            let notes = super::import(text, *host, &known, &mut imported)?;
            told.extend(
                notes
                    .iter()
                    .map(|note| format!("{}: {}", note.line, note.message)),
            );
        }
        let text = imported.layout(&specs()).text;
        let layout = Layout::parse(&text, "test", &specs()).unwrap();
        let nodes = layout.nodes().iter();
        let nodes: Vec<String> = nodes
            .map(|node| format!("{} {}", node.name, node.address))
            .collect();
        let (told, nodes) = (told.join("\n"), nodes.join("\n"));
        Ok(format!("{text}\n# Told:\n{told}\n\n# Nodes:\n{nodes}\n"))
    }

    const PLAIN: &str = "\
# The smallest cluster.
interface = af_packet::eth1
workers = 2
manager = 1
loggers = 1
proxies = 1
";

    const SECTIONS: &str = "\
[zeek]
manager = 1
loggers = 3
proxies = 2
address = 192.168.0.1
port = 5000
metrics_port = 0
logger_cpu_set = 0,1
logger_nicer = 2
env =
  LD_PRELOAD=/usr/local/lib/libjemalloc.so
  # not a comment
cluster_backend_args =
  policy/frameworks/cluster/backend/broker

[interface eth1]
interface = af_packet::eth1
workers = 2
workers_cpu_list = 4-7
worker_args = AF_Packet::fanout_id=42

[interface eth_2]
interface = napatech::${worker_index0}
workers = 1
colour = green

[notes]
of = mine
";

    #[test]
    fn options_without_sections_make_a_cluster() {
        insta::assert_snapshot!(import(&[(None, PLAIN)]).unwrap());
    }

    #[test]
    fn sections_name_the_workers_of_their_interfaces() {
        insta::assert_snapshot!(import(&[(None, SECTIONS)]).unwrap());
    }

    /// One file for each host: names begin with the host's, except the manager's, unless the file has
    /// another prefix or an empty one.
    #[test]
    fn files_of_hosts_make_one_cluster() {
        let worker =
            "[zeek]\ncluster_address = 10.0.0.2\n[interface eth1]\ninterface = eth1\nworkers = 2\n";
        let own =
            "address = [2001:db8::3]\ncluster_node_prefix = w3\ninterface = eth0\nworkers = 1\n";
        let bare = "address = 10.0.0.4\ncluster_node_prefix =\nproxies = 1\n";
        let files = [
            (Some("c-mgr"), "manager = 1\nloggers = 2\n"),
            (Some("c-w-01"), worker),
            (Some("c-w-02"), own),
            (Some("c-w-03"), bare),
        ];
        insta::assert_snapshot!(import(&files).unwrap());
    }

    #[test]
    fn a_manager_alone_is_fine() {
        let text =
            "[zeek]\nmanager = 1\nloggers = 0\n\n[interface a]\ninterface = a\nworkers = 0\n";
        insta::assert_snapshot!(import(&[(None, text)]).unwrap());
    }

    #[test]
    fn problems_name_their_line() {
        let line = |text: &str| import(&[(None, text)]).unwrap_err().line;
        for (text, expected) in [
            ("", 1),
            ("nonsense\n", 1),
            ("manager: 1\n", 1),
            ("manager = 2\n", 1),
            ("manager = 1\nloggers = many\n", 2),
            ("manager = 1\nproxies = -1\n", 2),
            ("interface = eth0\n", 1),
            ("workers = 2\n", 1),
            ("interface =\nworkers = 1typo\n", 2),
            ("manager = 1\n\nmanager = 1\n", 3),
            ("  stray\n", 1),
            ("manager = 1\n[zeek]\n", 1),
            ("[zeek]\n[zeek]\n", 2),
            ("[zeek]\nmanager = 1\nworkers = 2\n", 3),
            ("[interface A]\ninterface = a\nworkers = 1\n", 1),
            ("[zeek]\n[interface a]\ninterface =\nworkers = 1\n", 3),
            ("[zeek]\n[interface a]\n", 2),
            ("manager =\n  1\n", 2),
            ("address = 10.0.0.256\n", 1),
            ("cluster_node_prefix = a.b\n", 1),
            ("cluster_node_prefix = -a\n", 1),
            ("port = 0\n", 1),
            ("port = 70000\n", 1),
            ("manager = 1\nloggers = 3\nport = 65533\n", 3),
            ("cluster_layout = /etc/zeek/my.zeek\n", 1),
        ] {
            assert_eq!(line(text), expected, "{text:?}");
        }
        let unknown = import(&[(Some("nowhere"), "manager = 1\n")]).unwrap_err();
        assert!(unknown.message.contains("`nowhere`"));
        assert!(import(&[(None, "manager = 1\nloggers = 2\nport = 65533\n")]).is_ok());
    }
}
