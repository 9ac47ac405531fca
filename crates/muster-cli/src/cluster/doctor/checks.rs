//! What is looked at: the state of the cluster in, verdicts out.

mod coordinators;

use muster_cluster::AGENT_PREFIX;
use muster_gateway::status::{
    AgentStatus, BoxStatus, ClusterStatus, DiskStatus, ELSEWHERE, FAILED, GONE, NodeStatus,
    ProcessStatus, SILENT, UNKNOWN, UP,
};
use serde::Serialize;

/// Clocks that differ by so many seconds confuse whoever reads logs of several boxes.
const CLOCKS_WARN: f64 = 0.5;

/// Clocks that differ by so many seconds have put what several boxes tell out of order.
const CLOCKS_FAIL: f64 = 1.0;

/// A certificate of which less is left was not renewed in time: 90 days, and a third of them is left then.
const CERTIFICATE_WARN: f64 = 14.0;

/// The part of a disk below which there is soon none left.
const DISK_WARN: f64 = 0.1;

/// See [`DISK_WARN`].
const DISK_FAIL: f64 = 0.02;

/// A hub of a large cluster has more connections than the usual 1,024 files.
const OPEN_FILES_WARN: u64 = 4096;

/// So many seconds after the start of an agent or a node its links should stand.
const LINKS_AFTER: f64 = 5.0;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Ok,
    Warning,
    Failure,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARN",
            Self::Failure => "FAIL",
        }
    }
}

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) verdict: Verdict,
    /// What was looked at.
    pub(super) what: &'static str,
    pub(super) text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

/// Collects what is wrong with one kind of thing; if nothing is, that is told.
struct Looking<'a> {
    what: &'static str,
    found: &'a mut Vec<Check>,
    has_found: bool,
}

impl Looking<'_> {
    fn tell(&mut self, verdict: Verdict, text: String, remedy: impl Into<String>) {
        self.has_found = true;
        self.found.push(Check {
            verdict,
            what: self.what,
            text,
            remedy: Some(remedy.into()),
        });
    }

    fn warn(&mut self, text: String, remedy: impl Into<String>) {
        self.tell(Verdict::Warning, text, remedy);
    }

    fn fail(&mut self, text: String, remedy: impl Into<String>) {
        self.tell(Verdict::Failure, text, remedy);
    }

    fn end(self, all_is_well: &str) {
        if !self.has_found {
            self.found.push(Check {
                verdict: Verdict::Ok,
                what: self.what,
                text: all_is_well.to_owned(),
                remedy: None,
            });
        }
    }
}

/// Looks at everything.
pub(super) fn checks(status: &ClusterStatus) -> Vec<Check> {
    let mut found = Vec::new();
    let mut look = |what, with: &dyn Fn(&mut Looking<'_>), all_is_well: &str| {
        let mut looking = Looking {
            what,
            found: &mut found,
            has_found: false,
        };
        with(&mut looking);
        looking.end(all_is_well);
    };
    look("agents", &|at| agents(status, at), "every box answers");
    look("nodes", &|at| nodes(status, at), "every node is ready");
    look(
        "coordinators",
        &|at| coordinators::coordinators(status, at),
        "they decide and are all there, or there is nothing to decide",
    );
    look(
        "managers",
        &|at| managers(status, at),
        "one is active, or there is one only",
    );
    look(
        "troubles",
        &|at| troubles(status, at),
        "no node fails at anything",
    );
    look(
        "lost",
        &|at| lost(status, at),
        "nothing was lost since the nodes started",
    );
    look(
        "links",
        &|at| links(status, at),
        "every link of the layout stands",
    );
    look(
        "stores",
        &|at| stores(status, at),
        "every store has one primary, and copies are up to date",
    );
    look(
        "copies",
        &|at| coordinators::copies(status, at),
        "every store has as many copies in sync as it is to have",
    );
    look(
        "programs",
        &|at| programs(status, at),
        "all run the program that is on disk",
    );
    look("clocks", &|at| clocks(status, at), "they agree");
    look(
        "certificates",
        &|at| certificates(status, at),
        "none ends soon",
    );
    look("disks", &|at| disks(status, at), "there is room");
    look(
        "limits",
        &|at| limits(status, at),
        "enough files may be open",
    );
    found
}

/// The agents that answer, with what their boxes are called.
fn answering(status: &ClusterStatus) -> Vec<(String, &AgentStatus)> {
    if status.boxes.is_empty() {
        let agent = status.agent.iter();
        return agent.map(|agent| ("this box".to_owned(), agent)).collect();
    }
    let boxes = status.boxes.iter();
    boxes
        .filter_map(|known| Some((format!("box {}", known.name), known.process.as_ref()?)))
        .collect()
}

fn reporting(status: &ClusterStatus) -> impl Iterator<Item = (&str, &NodeStatus)> {
    let nodes = status.nodes.iter().filter(|node| node.pid.is_some());
    nodes.filter_map(|node| Some((node.node.as_str(), node.report.as_ref()?)))
}

fn agents(status: &ClusterStatus, at: &mut Looking<'_>) {
    for known in status.boxes.iter().filter(|known| known.agent == GONE) {
        let BoxStatus {
            name,
            address,
            reason,
            ..
        } = known;
        let why = reason.as_deref().unwrap_or("no answer");
        let remedy = if why.contains("was forgotten") {
            "`muster join` lets a box of this name in again; or take it out of the layout"
        } else {
            "is the machine up, its agent running, and port 17700 open between the boxes?"
        };
        at.fail(
            format!("box {name} ({address}) does not answer: {why}"),
            remedy,
        );
    }
}

fn nodes(status: &ClusterStatus, at: &mut Looking<'_>) {
    for node in &status.nodes {
        let ProcessStatus {
            node: name,
            process,
            reason,
            report,
            ..
        } = node;
        let why = reason.as_deref().unwrap_or("no reason is known");
        let state = report.as_ref().map_or("", |report| report.state.as_str());
        match (process.as_str(), state) {
            // Boxes that do not answer are told by themselves.
            (ELSEWHERE | UNKNOWN, _) | ("running", "ready") => {}
            (FAILED, _) => at.fail(
                format!("{name} cannot be configured: {why}"),
                format!("mend that, then `muster restart {name}`"),
            ),
            ("failing" | "waiting", _) => at.fail(
                format!("{name} has ended: {why}"),
                format!("`muster logs {name}` has more"),
            ),
            ("held", _) => at.warn(
                format!("{name} was stopped by somebody"),
                format!("`muster start {name}` starts it; `muster events` says who it was"),
            ),
            ("running", SILENT) => at.fail(
                format!("{name} hangs: it reports nothing"),
                format!("`muster restart {name}`, if it does not come back by itself"),
            ),
            (process, state) => at.warn(
                format!("{name} is {process}, {state}"),
                "look again in a moment; `muster status` says what it waits for",
            ),
        }
        if node.restarts > 2 {
            at.warn(
                format!("{name} was started again {} times", node.restarts),
                format!("`muster events` says when and why, `muster logs {name}` what it said"),
            );
        }
    }
}

fn troubles(status: &ClusterStatus, at: &mut Looking<'_>) {
    for (name, report) in reporting(status) {
        for trouble in &report.troubles {
            let text = format!(
                "{name}: {}: {} ({} times)",
                trouble.what, trouble.text, trouble.count
            );
            let remedy = match trouble.kind.as_str() {
                "log" => "make room, or mend the directory: it goes on by itself",
                "store" => "mend the file or its directory: the store is opened again by itself",
                "lease" => {
                    "`muster coordinators` says whether they decide; it goes on by itself when it reaches them"
                }
                "layout" => {
                    "the boxes have different layouts: copy the right one to all, then restart the nodes"
                }
                _ => "the node tries again by itself",
            };
            at.fail(text, remedy);
        }
    }
}

fn lost(status: &ClusterStatus, at: &mut Looking<'_>) {
    for (name, report) in reporting(status) {
        let dropped: Vec<String> = report
            .dropped()
            .into_iter()
            // Nobody wanted these.
            .filter(|(cause, messages)| cause != "no_subscriber" && *messages > 0)
            .map(|(cause, messages)| format!("{messages} {cause}"))
            .collect();
        if !dropped.is_empty() {
            at.warn(
                format!("{name} dropped messages: {}", dropped.join(", ")),
                "somebody behind it does not keep up: its queues are in `muster status --format json`",
            );
        }
        let records = [
            "records_failed",
            "records_removed",
            "records_dropped",
            "records_refused",
            "records_invalid",
            "records_unsettled",
            "records_spoilt",
        ];
        let records: u64 = records.iter().map(|count| report.count(count)).sum();
        if records > 0 {
            at.fail(
                format!("{name} lost {records} log records"),
                "`muster status` says by what",
            );
        }
    }
}

fn links(status: &ClusterStatus, at: &mut Looking<'_>) {
    for (name, report) in reporting(status) {
        let links = report.detours.iter();
        for other in links.filter(|other| has_settled(status, name) && has_settled(status, other)) {
            at.fail(
                format!("{name} has no link with {other}, and reaches it through others"),
                format!("something may block it: `muster logs {name} --grep {other}`"),
            );
        }
    }
    for (name, agent) in answering(status) {
        let Some(mesh) = &agent.mesh else {
            continue;
        };
        if let Some(problem) = &mesh.problem {
            at.fail(
                format!("{name}: {problem}"),
                "boxes reach one another at port 17701, besides 17700 and those of nodes",
            );
        }
        if agent.time - agent.started < LINKS_AFTER {
            continue;
        }
        let missing = mesh.links.iter().filter(|link| !link.connected);
        for link in missing.filter(|link| has_settled(status, &link.peer)) {
            at.fail(
                format!("the agent of {name} has no link with {}", link.peer),
                "is port 17701 open between the boxes? Until then messages take other ways",
            );
        }
    }
}

/// Whether a node, or an agent by its name in the mesh, has been up for long enough to be linked with all that it should be.
fn has_settled(status: &ClusterStatus, peer: &str) -> bool {
    if let Some(of_box) = peer.strip_prefix(AGENT_PREFIX) {
        let found = status.boxes.iter().find(|known| known.name == of_box);
        let agent = found.filter(|known| known.agent == UP);
        let agent = agent.and_then(|known| known.process.as_ref());
        return agent.is_some_and(|agent| agent.time - agent.started >= LINKS_AFTER);
    }
    let found = status.nodes.iter().find(|node| node.node == peer);
    let uptime = found.filter(|node| node.process == "running");
    let uptime = uptime.map(|node| node.uptime_seconds.unwrap_or(f64::INFINITY));
    uptime.is_some_and(|uptime| uptime >= LINKS_AFTER)
}

fn stores(status: &ClusterStatus, at: &mut Looking<'_>) {
    for (name, report) in reporting(status) {
        for store in &report.stores {
            let of_store = &store.store;
            if let Some(rival) = store
                .master
                .as_ref()
                .and_then(|primary| primary.rival.as_ref())
            {
                at.fail(
                    format!("store {of_store} has two primaries: {name}, and {rival}"),
                    "the boxes have different layouts: copy the right one to all, then restart the nodes",
                );
            }
            let clone = store.clone.as_ref().filter(|clone| clone.state != "fresh");
            if let Some(clone) = clone {
                at.warn(
                    format!("store {of_store} on {name} is {}", clone.state),
                    "its primary may be away; it catches up by itself",
                );
            }
        }
    }
}

fn managers(status: &ClusterStatus, at: &mut Looking<'_>) {
    match status.active_managers().as_deref() {
        None | Some([_]) => {}
        Some([]) => at.fail(
            "none is active: what is said to the manager waits".to_owned(),
            "`muster coordinators` says whether they decide; it takes a few seconds when one is lost",
        ),
        Some(several) => at.fail(
            format!("{} take themselves for the active one", several.join(" and ")),
            "without coordinators both sides of a cut have one; otherwise it is over in a moment",
        ),
    }
}

fn programs(status: &ClusterStatus, at: &mut Looking<'_>) {
    for node in status.nodes.iter().filter(|node| node.outdated) {
        at.warn(
            format!("{} runs another program than the one on disk", node.node),
            format!("`muster restart {}`", node.node),
        );
    }
    let agents = answering(status);
    for (name, agent) in &agents {
        if agent.outdated {
            at.warn(
                format!("the agent of {name} runs another program than the one on disk"),
                "`muster agent reload` there",
            );
        }
    }
    let mut versions: Vec<&str> = agents
        .iter()
        .map(|(_, agent)| agent.version.as_str())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        at.warn(
            format!("the boxes have different versions: {}", versions.join(", ")),
            "install the same one on all",
        );
    }
}

fn clocks(status: &ClusterStatus, at: &mut Looking<'_>) {
    for known in &status.boxes {
        let offset = known.clock_offset_seconds.unwrap_or_default();
        let text = format!("the clock of box {} is off by {offset:+.1} s", known.name);
        let remedy = "set the clocks, as with chrony";
        if offset.abs() >= CLOCKS_FAIL {
            at.fail(text, remedy);
        } else if offset.abs() >= CLOCKS_WARN {
            at.warn(text, remedy);
        }
    }
}

fn certificates(status: &ClusterStatus, at: &mut Looking<'_>) {
    for (name, agent) in answering(status) {
        let Some(days) = agent.certificate_days else {
            continue;
        };
        let remedy = "the box of the authority has to run for renewals; `muster events` says what went wrong";
        if days <= 0.0 {
            at.fail(format!("the certificate of {name} has ended"), remedy);
        } else if days < CERTIFICATE_WARN && agent.time - agent.started > 86_400.0 {
            at.warn(
                format!("the certificate of {name} ends in {days:.1} days"),
                remedy,
            );
        }
    }
}

fn disks(status: &ClusterStatus, at: &mut Looking<'_>) {
    for (name, agent) in answering(status) {
        for disk in &agent.disks {
            let DiskStatus {
                directory,
                size_bytes,
                available_bytes,
            } = disk;
            #[allow(clippy::cast_precision_loss, reason = "a part of it")]
            let part = *available_bytes as f64 / (*size_bytes).max(1) as f64;
            let text = format!(
                "{directory} on {name} has {} MiB left, {:.0} %",
                available_bytes >> 20,
                part * 100.0
            );
            let remedy = "remove old logs, or give it more room";
            if part < DISK_FAIL {
                at.fail(text, remedy);
            } else if part < DISK_WARN {
                at.warn(text, remedy);
            }
        }
    }
}

fn limits(status: &ClusterStatus, at: &mut Looking<'_>) {
    for (name, agent) in answering(status) {
        let limit = agent.open_files_limit;
        if limit > 0 && limit < OPEN_FILES_WARN {
            at.warn(
                format!("{name}: a process may have {limit} files open"),
                "raise the hard limit (LimitNOFILE in the unit, or limits.conf)",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_gateway::status::{QueueStatus, TroubleStatus};

    use super::*;

    fn node(name: &str) -> ProcessStatus {
        ProcessStatus {
            node: name.to_owned(),
            process: "running".to_owned(),
            pid: Some(7),
            report: Some(NodeStatus {
                state: "ready".to_owned(),
                ..NodeStatus::default()
            }),
            ..ProcessStatus::default()
        }
    }

    fn known(name: &str) -> BoxStatus {
        BoxStatus {
            name: name.to_owned(),
            process: Some(AgentStatus {
                version: "1.0.0".to_owned(),
                time: 200_000.0,
                open_files_limit: 65_536,
                certificate_days: Some(60.0),
                disks: vec![DiskStatus {
                    directory: "/var".to_owned(),
                    size_bytes: 1000 << 20,
                    available_bytes: 500 << 20,
                }],
                ..AgentStatus::default()
            }),
            ..BoxStatus::default()
        }
    }

    fn well() -> ClusterStatus {
        ClusterStatus {
            nodes: vec![node("data-1"), node("worker-1")],
            boxes: vec![known("a"), known("b")],
            ..ClusterStatus::default()
        }
    }

    /// What is not well, as lines.
    fn found(change: impl FnOnce(&mut ClusterStatus)) -> Vec<String> {
        let mut status = well();
        change(&mut status);
        let checks = checks(&status);
        let bad = checks.iter().filter(|check| check.verdict > Verdict::Ok);
        bad.map(|check| {
            assert!(check.remedy.is_some(), "{check:?}");
            format!("{} {}: {}", check.verdict.word(), check.what, check.text)
        })
        .collect()
    }

    fn report(status: &mut ClusterStatus, change: impl FnOnce(&mut NodeStatus)) {
        change(status.nodes[0].report.get_or_insert_default());
    }

    fn agent(status: &mut ClusterStatus, change: impl FnOnce(&mut AgentStatus)) {
        change(status.boxes[1].process.get_or_insert_default());
    }

    #[test]
    fn a_cluster_that_is_well_has_a_line_for_each_check() {
        let checks = checks(&well());
        assert!(
            checks.iter().all(|check| check.verdict == Verdict::Ok),
            "{checks:?}"
        );
        assert_eq!(checks.len(), 14);
    }

    #[test]
    fn each_thing_that_is_wrong_is_named() {
        let gone = found(|status| {
            GONE.clone_into(&mut status.boxes[1].agent);
            status.boxes[1].reason = Some("timed out".to_owned());
            status.boxes[1].process = None;
        });
        assert_eq!(gone, ["FAIL agents: box b () does not answer: timed out"]);
        let held = found(|status| "held".clone_into(&mut status.nodes[0].process));
        assert_eq!(held, ["WARN nodes: data-1 was stopped by somebody"]);
        let failed = found(|status| {
            FAILED.clone_into(&mut status.nodes[0].process);
            status.nodes[0].reason = Some("no such directory".to_owned());
        });
        assert_eq!(
            failed,
            ["FAIL nodes: data-1 cannot be configured: no such directory"]
        );
        let hangs = found(|status| report(status, |node| SILENT.clone_into(&mut node.state)));
        assert_eq!(hangs, ["FAIL nodes: data-1 hangs: it reports nothing"]);
        let trouble = found(|status| {
            report(status, |node| {
                node.troubles.push(TroubleStatus {
                    kind: "log".to_owned(),
                    what: "log conn".to_owned(),
                    text: "no space left".to_owned(),
                    count: 3,
                    since: 0.0,
                });
            });
        });
        assert_eq!(
            trouble,
            ["FAIL troubles: data-1: log conn: no space left (3 times)"]
        );
        let lost = found(|status| {
            report(status, |node| {
                node.counts.insert("records_failed".to_owned(), 9);
                let dropped = [("overflow".to_owned(), 4)].into();
                node.inbox = QueueStatus {
                    messages: 0,
                    dropped,
                };
            });
        });
        assert_eq!(
            lost,
            [
                "WARN lost: data-1 dropped messages: 4 overflow",
                "FAIL lost: data-1 lost 9 log records"
            ]
        );
        let link = found(|status| report(status, |node| node.detours.push("worker-1".to_owned())));
        assert_eq!(
            link,
            ["FAIL links: data-1 has no link with worker-1, and reaches it through others"]
        );
        let idle = found(|status| report(status, |node| node.active_manager = Some(false)));
        assert_eq!(
            idle,
            ["FAIL managers: none is active: what is said to the manager waits"]
        );
        let one = found(|status| report(status, |node| node.active_manager = Some(true)));
        assert_eq!(one, [""; 0]);
        let two = found(|status| {
            for node in &mut status.nodes {
                let report = node.report.get_or_insert_default();
                report.active_manager = Some(true);
            }
        });
        assert_eq!(
            two,
            ["FAIL managers: data-1 and worker-1 take themselves for the active one"]
        );
        let young = found(|status| {
            report(status, |node| node.detours.push("worker-1".to_owned()));
            status.nodes[1].uptime_seconds = Some(1.0);
        });
        assert_eq!(young, [""; 0]);
        let old = found(|status| status.nodes[1].outdated = true);
        assert_eq!(
            old,
            ["WARN programs: worker-1 runs another program than the one on disk"]
        );
        let versions = found(|status| agent(status, |of_b| "1.1.0".clone_into(&mut of_b.version)));
        assert_eq!(
            versions,
            ["WARN programs: the boxes have different versions: 1.0.0, 1.1.0"]
        );
        let clock = found(|status| status.boxes[1].clock_offset_seconds = Some(-1.25));
        assert_eq!(clock, ["FAIL clocks: the clock of box b is off by -1.2 s"]);
        let clock = found(|status| status.boxes[1].clock_offset_seconds = Some(0.75));
        assert_eq!(clock, ["WARN clocks: the clock of box b is off by +0.8 s"]);
        let ends = found(|status| agent(status, |of_b| of_b.certificate_days = Some(3.0)));
        assert_eq!(
            ends,
            ["WARN certificates: the certificate of box b ends in 3.0 days"]
        );
        let disk = found(|status| {
            agent(status, |of_b| of_b.disks[0].available_bytes = 10 << 20);
        });
        assert_eq!(disk, ["FAIL disks: /var on box b has 10 MiB left, 1 %"]);
        let files = found(|status| agent(status, |of_b| of_b.open_files_limit = 1024));
        assert_eq!(
            files,
            ["WARN limits: box b: a process may have 1024 files open"]
        );
    }
}
