//! The metrics of a box: what its agent knows, with what its nodes count.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use muster_gateway::Metrics;
use muster_gateway::status::{ClusterStatus, ELSEWHERE, ProcessStatus};
use muster_wire::counters::{Counter, Descriptor};

use crate::archive::ArchiveCounts;
use crate::boxes::Boxes;
use crate::mesh::MeshPlace;
use crate::mesh::coordinators;
use crate::node_socket::ask_metrics;
use crate::place::Places;
use crate::supervisor::ProcessState;
use crate::usage::{self, Usage};

/// How long a node may take to tell its metrics.
const ANSWER: Duration = Duration::from_secs(2);

/// The role that the agent's own metrics have.
const AGENT: &str = "agent";

mod descriptors {
    muster_wire::counters! {
        /// Always 1; the label says which version of the program the agent of the box runs.
        pub(super) BUILD_INFO = gauge("muster_build_info").labels(&["version"]);
        /// Time that the process has spent on processors, its own and the system's for it.
        pub(super) CPU = counter("process_cpu_seconds_total").in_nanoseconds();
        /// Memory of the process that is in the machine's. Growth without end means that a store grows, or a defect.
        pub(super) MEMORY = gauge("process_resident_memory_bytes");
        /// Files and connections that the process has open.
        pub(super) OPEN_FILES = gauge("process_open_fds");
        /// When the process started, since 1970.
        pub(super) STARTED = gauge("process_start_time_seconds").in_nanoseconds();
        /// 1 if the node runs, is ready and has just reported; 0 otherwise. `muster status` says why it is not.
        pub(super) UP = gauge("muster_node_up");
        /// 1 for the state that the node's process is in, 0 for the others: `running`, `waiting` (it ended and is started again
        /// soon), `failing` (it ends again and again), `stopping`, `held` (somebody asked for its end), `failed` (it cannot be configured) or `ended`.
        /// `muster status` has the reason of the last end.
        pub(super) PROCESS_STATE = gauge("muster_node_process_state").labels(&["state"]);
        /// How often the node's process was started again. Growth means that it crashes or is asked to: `muster events` has the
        /// reasons.
        pub(super) RESTARTS = counter("muster_node_restarts_total");
        /// 1 if the node has told its agent its own metrics; they are missing otherwise. 0 means that the node does not
        /// run, hangs, or is of a version that does not tell them.
        pub(super) TOLD = gauge("muster_node_metrics_told");
        /// When the certificate ends that the box, or one of its nodes, has of the cluster's authority, since 1970. It is renewed
        /// after two thirds of its life; one that comes near its end means that the box with the authority is away.
        pub(super) CERTIFICATE = gauge("muster_certificate_expiry_timestamp_seconds").in_nanoseconds();
        /// What is left for nodes on the file system that a directory of the box is on.
        pub(super) AVAILABLE = gauge("muster_filesystem_available_bytes").labels(&["directory"]);
        /// The size of the file system that a directory of the box is on.
        pub(super) SIZE = gauge("muster_filesystem_size_bytes").labels(&["directory"]);
        /// The clock of the box as it was asked, since 1970. What it is apart from the time of the scrape, and from the clocks
        /// of other boxes, is what clocks are off by.
        pub(super) CLOCK = gauge("muster_clock_timestamp_seconds").in_nanoseconds();
    }
}

/// Returns what describes the metrics that an agent has besides those of its nodes
/// ([`NodeMetrics::descriptors`](muster_gateway::NodeMetrics::descriptors)).
pub fn agent_metrics() -> Vec<&'static Descriptor> {
    let all = [
        descriptors::ALL,
        ArchiveCounts::DESCRIPTORS,
        coordinators::DESCRIPTORS,
    ];
    all.into_iter().flatten().collect()
}

/// What an agent knows of its box at one moment.
#[derive(Debug)]
pub(crate) struct BoxMetrics {
    /// The cluster and the box, if they have names.
    pub(crate) names: Vec<(&'static str, String)>,
    /// The box's own clock, since 1970.
    pub(crate) clock: Duration,
    pub(crate) status: ClusterStatus,
    pub(crate) own: Part,
    /// What crosses the agent's links of the mesh.
    pub(crate) mesh: Vec<Counter>,
    /// What it knows of the coordinators, if it is in a mesh.
    pub(crate) coordination: Vec<Counter>,
    /// What its archive counts, if it has one.
    pub(crate) archive: Vec<Counter>,
    /// Those of the nodes that are here, in the order of the status.
    pub(crate) nodes: Vec<Part>,
}

/// What there is besides the status of the agent, or of a node.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) usage: Option<Usage>,
    /// When its certificate ends, since 1970.
    pub(crate) certificate: Option<Duration>,
    /// What a node counts, if it has told.
    pub(crate) told: Option<Metrics>,
}

impl BoxMetrics {
    /// Asks the nodes, all at once, and looks at the rest.
    pub(crate) async fn look(
        places: &Places,
        boxes: Option<&Boxes>,
        archive: Option<&ArchiveCounts>,
        status: ClusterStatus,
    ) -> Self {
        let clock = SystemTime::now();
        let file = boxes.map(|boxes| &boxes.config().file);
        let mut names = Vec::new();
        let cluster = file.map(|file| &file.cluster).or(status.cluster.as_ref());
        names.extend(cluster.map(|cluster| ("cluster", cluster.clone())));
        names.extend(file.map(|file| ("box", file.name.clone())));
        let identity = boxes.map(|boxes| &boxes.config().identity);
        let nodes = here(&status).map(async |node| {
            let socket = places.node_socket(&node.node);
            let told = async { ask_metrics(&socket, node.pid?).await.ok() };
            Part {
                told: tokio::time::timeout(ANSWER, told).await.ok().flatten(),
                usage: node.pid.and_then(usage::of),
                certificate: identity.and_then(|files| files.of_node(&node.node).expiry()),
            }
        });
        let nodes = join_all(nodes).await;
        let mesh = boxes.and_then(Boxes::mesh);
        let coordination = match mesh {
            Some(mesh) => coordinators::counters(&mesh.coordinators().await),
            None => Vec::new(),
        };
        Self {
            names,
            mesh: mesh.map(MeshPlace::counters).unwrap_or_default(),
            coordination,
            clock: clock.duration_since(UNIX_EPOCH).unwrap_or_default(),
            own: Part {
                usage: usage::of(std::process::id()),
                certificate: identity.and_then(|files| files.of_box().expiry()),
                told: None,
            },
            archive: archive.map(ArchiveCounts::counters).unwrap_or_default(),
            nodes,
            status,
        }
    }

    /// Returns all of them, each with the cluster, the box, the node and the role that it is of.
    pub(crate) fn metrics(self) -> Metrics {
        let mut all = Metrics::default();
        let names = self.names.iter().map(|(name, value)| (*name, &value[..]));
        let names: Vec<(&str, &str)> = names.collect();
        let mut add = |whose: &[(&str, &str)], counters: Vec<Counter>, told: Option<Metrics>| {
            let labels = [&names[..], whose].concat();
            let mut own = Metrics::default();
            own.add(counters);
            all.merge(own, &labels);
            if let Some(told) = told {
                all.merge(told, &labels);
            }
        };
        let mut own = vec![descriptors::CLOCK.of(nanoseconds(self.clock))];
        if let Some(agent) = &self.status.agent {
            let version = [("version", agent.version.clone())];
            own.push(descriptors::BUILD_INFO.of_each(version, 1));
            for disk in &agent.disks {
                let directory = || [("directory", disk.directory.clone())];
                let available = disk.available_bytes;
                own.push(descriptors::AVAILABLE.of_each(directory(), available));
                own.push(descriptors::SIZE.of_each(directory(), disk.size_bytes));
            }
        }
        own.extend(self.own.counters());
        own.extend(self.mesh);
        own.extend(self.coordination);
        own.extend(self.archive);
        add(&[("role", AGENT)], own, None);
        for (node, part) in here(&self.status).zip(self.nodes) {
            let mut counters = of_node(node);
            counters.push(descriptors::TOLD.of(part.told.is_some().into()));
            counters.extend(part.counters());
            let whose = [("node", &node.node[..]), ("role", &node.role[..])];
            add(&whose, counters, part.told);
        }
        all
    }
}

/// The nodes of this box.
fn here(status: &ClusterStatus) -> impl Iterator<Item = &ProcessStatus> {
    let nodes = status.nodes.iter();
    nodes.filter(|node| node.process != ELSEWHERE)
}

fn of_node(node: &ProcessStatus) -> Vec<Counter> {
    let states = ProcessState::NAMES.map(|state| {
        let labels = [("state", state.to_owned())];
        descriptors::PROCESS_STATE.of_each(labels, (node.process == state).into())
    });
    let mut counters = Vec::from(states);
    counters.push(descriptors::UP.of(node.is_ready().into()));
    counters.push(descriptors::RESTARTS.of(node.restarts.into()));
    counters
}

impl Part {
    fn counters(&self) -> Vec<Counter> {
        let mut counters = Vec::new();
        if let Some(usage) = &self.usage {
            counters.push(descriptors::CPU.of(nanoseconds(usage.cpu)));
            counters.push(descriptors::MEMORY.of(usage.resident));
            counters.push(descriptors::STARTED.of(nanoseconds(usage.started)));
            let open = usage.open_files;
            counters.extend(open.map(|open| descriptors::OPEN_FILES.of(open)));
        }
        let ends = self.certificate.map(nanoseconds);
        counters.extend(ends.map(|ends| descriptors::CERTIFICATE.of(ends)));
        counters
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use muster_gateway::status::{AgentStatus, DiskStatus, NodeStatus};
    use muster_gateway::{MetricsFormat, NodeMetrics};

    use super::*;

    fn node(name: &str, process: &str) -> ProcessStatus {
        ProcessStatus {
            node: name.to_owned(),
            role: "data".to_owned(),
            process: process.to_owned(),
            restarts: 3,
            report_age_seconds: Some(0.1),
            report: Some(NodeStatus {
                state: "ready".to_owned(),
                ..NodeStatus::default()
            }),
            ..ProcessStatus::default()
        }
    }

    fn told() -> Metrics {
        mod sample {
            muster_wire::counters! {
                /// Cups.
                pub(super) CUPS = counter("muster_cups_total").labels(&["sort"]);
            }
        }
        let mut metrics = Metrics::default();
        metrics.add([sample::CUPS.of_each([("sort", "green".to_owned())], 7)]);
        metrics
    }

    fn metrics() -> BoxMetrics {
        let names = ["far", "manager", "data-1"];
        let processes = [ELSEWHERE, "running", "held"];
        BoxMetrics {
            names: vec![("cluster", "east".to_owned()), ("box", "a".to_owned())],
            clock: Duration::from_millis(1_700_000_000_500),
            mesh: Vec::new(),
            coordination: vec![],
            status: ClusterStatus {
                agent: Some(AgentStatus {
                    version: "1.2.3".to_owned(),
                    disks: vec![DiskStatus {
                        directory: "/var/log".to_owned(),
                        size_bytes: 100,
                        available_bytes: 40,
                    }],
                    ..AgentStatus::default()
                }),
                nodes: names
                    .iter()
                    .zip(processes)
                    .map(|(name, process)| node(name, process))
                    .collect(),
                ..ClusterStatus::default()
            },
            own: Part {
                certificate: Some(Duration::from_secs(1_800_000_000)),
                ..Part::default()
            },
            archive: ArchiveCounts::default().counters(),
            nodes: vec![
                Part {
                    usage: Some(Usage {
                        cpu: Duration::from_millis(2250),
                        resident: 4096,
                        open_files: Some(9),
                        started: Duration::from_secs(1_600_000_000),
                    }),
                    told: Some(told()),
                    certificate: None,
                },
                Part::default(),
            ],
        }
    }

    #[test]
    fn each_sample_says_whose_it_is() {
        let text = metrics().metrics().text(MetricsFormat::Text);
        let manager = "cluster=\"east\",box=\"a\",node=\"manager\",role=\"data\"";
        let data = "cluster=\"east\",box=\"a\",node=\"data-1\",role=\"data\"";
        let agent = "cluster=\"east\",box=\"a\",role=\"agent\"";
        for line in [
            format!("muster_build_info{{{agent},version=\"1.2.3\"}} 1"),
            format!("muster_clock_timestamp_seconds{{{agent}}} 1700000000.500000000"),
            format!("muster_filesystem_size_bytes{{{agent},directory=\"/var/log\"}} 100"),
            format!("muster_certificate_expiry_timestamp_seconds{{{agent}}} 1800000000.000000000"),
            format!("muster_archive_waiting_files{{{agent}}} 0"),
            format!("muster_node_up{{{manager}}} 1"),
            format!("muster_node_up{{{data}}} 0"),
            format!("muster_node_process_state{{{data},state=\"held\"}} 1"),
            format!("muster_node_process_state{{{manager},state=\"held\"}} 0"),
            format!("muster_node_restarts_total{{{data}}} 3"),
            format!("muster_node_metrics_told{{{manager}}} 1"),
            format!("muster_node_metrics_told{{{data}}} 0"),
            format!("process_cpu_seconds_total{{{manager}}} 2.250000000"),
            format!("process_open_fds{{{manager}}} 9"),
            format!("muster_cups_total{{{manager},sort=\"green\"}} 7"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        // What is on another machine is told by that.
        assert!(!text.contains("far"), "{text}");
        let helps = text
            .lines()
            .filter(|line| line.starts_with("# HELP muster_node_up "));
        assert_eq!(helps.count(), 1);
    }

    #[test]
    fn an_agents_metrics_are_none_of_a_nodes() {
        for own in agent_metrics() {
            let mut of_nodes = NodeMetrics::descriptors().into_iter();
            assert!(of_nodes.all(|of_node| of_node.name != own.name), "{own:?}");
            assert!(own.help.ends_with('.'), "{}", own.name);
        }
    }

    #[test]
    fn a_label_of_a_node_is_not_one_that_its_agent_adds() {
        // Those that say the same as the agent.
        let same = ["muster_node_info"];
        for descriptor in NodeMetrics::descriptors() {
            let fixed = descriptor.fixed.iter().map(|(name, _)| name);
            for label in fixed.chain(descriptor.labels) {
                let is_added = ["cluster", "box", "node", "role"].contains(label);
                let name = &descriptor.name[..];
                assert!(!is_added || same.contains(&name), "{name}: {label}");
            }
        }
    }
}
