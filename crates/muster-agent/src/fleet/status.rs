//! What a fleet tells of its nodes and of the machine.

use std::os::unix::fs::MetadataExt;

use muster_gateway::status::{
    AgentStatus, ClusterStatus, DiskStatus, ELSEWHERE, ProcessStatus, SILENT, SILENT_AFTER, VERSION,
};

use super::{Fleet, PlannedNode};
use crate::journal::now;
use crate::node_socket::Report;
use crate::place::Places;
use crate::process;
use crate::supervisor::ProcessState;
use crate::usage;

impl Fleet {
    /// The state of every node.
    pub fn status(&self) -> ClusterStatus {
        ClusterStatus {
            version: VERSION,
            layout: self.layout.clone(),
            cluster: self.cluster.clone(),
            agent: Some(AgentStatus {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started: self.started,
                outdated: self.is_outdated(),
                certificate_days: None,
                time: now(),
                open_files_limit: open_files_limit(),
                disks: disks(&self.places),
                archive: None,
                mesh: None,
            }),
            boxes: Vec::new(),
            coordinators: None,
            nodes: self.nodes.iter().map(|node| self.process(node)).collect(),
        }
    }

    fn process(&self, node: &PlannedNode) -> ProcessStatus {
        let now = self.now();
        let name = &node.name;
        let Some((state, restarts)) = self.supervisor.get(name) else {
            return ProcessStatus {
                node: name.clone(),
                role: node.role.to_string(),
                process: ELSEWHERE.to_owned(),
                ..ProcessStatus::default()
            };
        };
        let life = self.lives.get(name);
        let pid = life.and_then(|life| life.pid);
        let is_running = matches!(state, ProcessState::Running { .. });
        let reported = life.and_then(|life| life.report.as_ref());
        let mut report = reported.and_then(Report::read);
        let came = life.filter(|_| is_running).and_then(|life| life.reported);
        let age = report
            .as_ref()
            .zip(came)
            .map(|(report, came)| report.age_after(now.since(came)));
        if let Some(report) = report.as_mut().filter(|_| age > Some(SILENT_AFTER)) {
            SILENT.clone_into(&mut report.state);
        }
        let uptime = match state {
            ProcessState::Running { since } => {
                let known = pid.and_then(usage::age);
                Some(known.unwrap_or_else(|| now.since(since)))
            }
            _ => None,
        };
        ProcessStatus {
            node: name.clone(),
            role: node.role.to_string(),
            box_name: None,
            process: state.name().to_owned(),
            pid,
            uptime_seconds: uptime.map(|uptime| uptime.as_secs_f64()),
            restarts,
            outdated: pid.is_some_and(|pid| process::is_outdated(pid, self.launcher.own_program())),
            reason: if reported.is_some() && report.is_none() {
                Some("it reports what an agent of this version cannot read".to_owned())
            } else {
                self.reasons.get(name).cloned()
            },
            report,
            report_age_seconds: age.map(|age| age.as_secs_f64()),
        }
    }
}

fn open_files_limit() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

/// The file systems of the places, each once.
fn disks(places: &Places) -> Vec<DiskStatus> {
    let mut known = Vec::new();
    let mut disks = Vec::new();
    for directory in [&places.state, &places.logs, &places.run] {
        let device = std::fs::metadata(directory).map(|metadata| metadata.dev());
        let (Ok(device), Ok(disk)) = (device, rustix::fs::statvfs(directory)) else {
            continue;
        };
        if known.contains(&device) {
            continue;
        }
        known.push(device);
        disks.push(DiskStatus {
            directory: directory.display().to_string(),
            size_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
            available_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        });
    }
    disks
}
