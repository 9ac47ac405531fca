//! The status, from what nodes, gateways and bridges count.

use std::collections::BTreeMap;
use std::time::Duration;

use muster::cluster::node::{CoordinationReport, Trouble};
use muster::store::{
    CloneReport, CopiesReport, CopyReport, CopyRole, Freshness, OtherCopyReport, PrimaryReport,
    StorePart, StoreReport,
};
use muster::{NodeReport, PeerLine};
use muster_wire::counters::{DropCause, DropLedger};

use super::{
    BridgeStatus, ClientStatus, CloneStatus, CoordinationStatus, CopiesStatus, CopyStatus,
    GatewayStatus, InputStatus, MasterStatus, NodeStatus, OtherCopyStatus, PeerStatus, QueueStatus,
    StoreStatus, TroubleStatus,
};
use crate::client::BridgeCounts;
use crate::clients::{ClientReport, GatewayCounts};

impl NodeStatus {
    /// Returns the status of a node by its report. Its monitor, gateway and bridge are to be added.
    pub fn new(report: &NodeReport) -> Self {
        let (counts, by_name) = counts(report);
        let frameworks = report.counts.frameworks.iter();
        let frameworks = frameworks
            .filter(|(_, count)| count.value > 0)
            .map(|((framework, name), count)| (format!("{framework}.{name}"), count.value))
            .collect();
        Self {
            id: report.id.to_string(),
            state: report.state.name().to_owned(),
            age_seconds: report.age.as_secs_f64(),
            counts,
            by_name,
            frameworks,
            waiting_records: report.waiting_records,
            inbox: QueueStatus {
                messages: report.inbox,
                dropped: by_cause(&report.inbox_dropped),
            },
            unrouted: report
                .unrouted
                .entries()
                .map(|dropped| (dropped.topic.to_owned(), dropped.messages))
                .collect(),
            connections_refused: report.connections_refused,
            subscribers_dropped: by_cause(&report.subscribers_dropped),
            input: report.input_ended.map(|ended| InputStatus {
                ended,
                low: report
                    .input_low
                    .map(|nanos| Duration::from_nanos(nanos.unsigned_abs()).as_secs_f64()),
            }),
            peers: report.peers.iter().map(PeerStatus::new).collect(),
            stores: report.stores.iter().map(StoreStatus::new).collect(),
            troubles: report.troubles.iter().map(TroubleStatus::new).collect(),
            detours: report.detours.clone(),
            coordination: report.coordination.map(CoordinationStatus::new),
            active_manager: report.active_manager,
            monitor: None,
            gateway: None,
            bridge: None,
        }
    }
}

impl TroubleStatus {
    fn new(trouble: &Trouble) -> Self {
        Self {
            kind: trouble.cause.name().to_owned(),
            what: trouble.cause.to_string(),
            text: trouble.text.clone(),
            count: trouble.count,
            since: trouble.since.as_secs_f64(),
        }
    }
}

impl CoordinationStatus {
    fn new(report: CoordinationReport) -> Self {
        let CoordinationReport {
            standing,
            session,
            epoch,
        } = report;
        Self {
            standing: standing.name().to_owned(),
            session,
            epoch,
        }
    }
}

impl GatewayStatus {
    /// Returns the status of a gateway by its counts.
    pub fn new(counts: &GatewayCounts) -> Self {
        let mut dropped = counts.dropped.clone();
        dropped.merge(&counts.inbox_dropped);
        let client = |client: &ClientReport| ClientStatus {
            number: client.number,
            address: client.address.to_string(),
            grant: client.grant.clone(),
            application: client.application.clone(),
            events_in: client.events_in,
            events_out: client.events_out,
            queued: client.queued.0,
        };
        Self {
            accepted: counts.accepted,
            turned_away: counts.turned_away,
            events_in: counts.events_in,
            events_out: counts.events_out,
            refused: counts.refused,
            dropped: by_cause(&dropped),
            clients: counts.clients.iter().map(client).collect(),
        }
    }
}

impl BridgeStatus {
    /// Returns the status of a bridge by its counts.
    pub fn new(counts: &BridgeCounts) -> Self {
        Self {
            server: counts.server.clone(),
            connected: counts.connected,
            connections: counts.connections,
            events_in: counts.events_in,
            events_out: counts.events_out,
            errors: counts.errors,
            dropped: by_cause(&counts.dropped),
            last_error: counts.last_error.clone(),
        }
    }
}

impl StoreStatus {
    fn new(report: &StoreReport) -> Self {
        let mut status = Self {
            store: report.name.to_string(),
            entries: report.entries,
            bytes: report.bytes,
            ..Self::default()
        };
        match &report.part {
            StorePart::Primary(master) => status.master = Some(MasterStatus::new(master)),
            StorePart::Clone(clone) => status.clone = Some(CloneStatus::new(clone)),
            StorePart::Copy(copy) => status.copy = Some(CopyStatus::new(copy)),
            _ => {}
        }
        status
    }
}

impl MasterStatus {
    fn new(report: &PrimaryReport) -> Self {
        Self {
            backend: report.backend.to_owned(),
            writers: report.writers,
            broker_clones: report.broker_clones,
            unkept: report.pending_commits,
            failures: report.failures,
            failing: report.is_failing,
            rival: report.rival.map(|id| id.to_string()),
            copies: report.copies.as_ref().map(CopiesStatus::new),
        }
    }
}

impl CopiesStatus {
    fn new(report: &CopiesReport) -> Self {
        let other = |other: &OtherCopyReport| OtherCopyStatus {
            endpoint: other.endpoint.to_string(),
            in_sync: other.is_in_sync,
            attached: other.is_attached,
            lag: other.lag,
            disk_lag: other.disk_lag,
        };
        Self {
            epoch: report.epoch,
            in_sync: report.in_sync,
            min_copies: report.min_copies,
            waiting: report.waiting,
            others: report.others.iter().map(other).collect(),
        }
    }
}

impl CopyStatus {
    fn new(report: &CopyReport) -> Self {
        let role = match report.copies.role {
            CopyRole::Joining => "joining",
            _ => "standby",
        };
        Self {
            master: report.primary.map(|id| id.to_string()),
            role: role.to_owned(),
            state: state_of(report.freshness).to_owned(),
            backend: report.backend.to_owned(),
            unkept: report.pending_commits,
            failures: report.failures,
            failing: report.is_failing,
            unsettled: report.unsettled,
            copies: CopiesStatus::new(&report.copies),
        }
    }
}

fn state_of(freshness: Freshness) -> &'static str {
    match freshness {
        Freshness::Unattached => "unattached",
        Freshness::Fresh => "fresh",
        Freshness::Stale => "stale",
    }
}

impl CloneStatus {
    fn new(report: &CloneReport) -> Self {
        Self {
            master: report.primary.map(|id| id.to_string()),
            state: state_of(report.freshness).to_owned(),
            missing: report.missing,
            unsettled: report.unsettled,
        }
    }
}

impl PeerStatus {
    fn new(line: &PeerLine) -> Self {
        let report = &line.report;
        Self {
            node: line.node.clone(),
            id: report.peer.id.to_string(),
            address: report.peer.address.clone(),
            transport: report.peer.transport.name().to_owned(),
            connected: report.connected,
            messages_in: report.messages_in,
            messages_out: report.messages_out,
            bytes_in: report.bytes_in,
            bytes_out: report.bytes_out,
            refused_in: report.refused.total(),
            queue: QueueStatus {
                messages: report.queued,
                dropped: by_cause(&report.dropped),
            },
            queue_bytes: report.queued_bytes,
        }
    }
}

/// The labels whose values are names from the network.
const NAMES: [&str; 2] = ["event", "identifier"];

type ByKey<T> = BTreeMap<String, T>;

/// The counts by their keys, and those of them that are counted by names.
fn counts(report: &NodeReport) -> (ByKey<u64>, ByKey<ByKey<u64>>) {
    let described = NodeReport::descriptors().into_iter();
    let keys = described.map(|descriptor| descriptor.key);
    let mut counts: ByKey<u64> = keys
        .filter(|key| !key.is_empty())
        .map(|key| (key.to_owned(), 0))
        .collect();
    let mut by_name: ByKey<ByKey<u64>> = BTreeMap::new();
    let own = report.counts.counters();
    for counter in own.iter().chain(&report.mesh) {
        let key = counter.key();
        if key.is_empty() {
            continue;
        }
        *counts.entry(key.to_owned()).or_default() += counter.value;
        let mut names = counter.labels.iter();
        if let Some((_, name)) = names.find(|(label, _)| NAMES.contains(label)) {
            let names = by_name.entry(key.to_owned()).or_default();
            *names.entry(name.clone()).or_default() += counter.value;
        }
    }
    let reordered = report.subscribers_dropped.by_cause();
    let reordered = reordered.get(&DropCause::Reordered).copied();
    // Drops are one metric, by queue and cause; here they have keys of their own.
    for (key, messages) in [
        ("local_dropped", report.counts.local_dropped.total()),
        ("mesh_held_dropped", report.joining_dropped.total()),
        ("mesh_no_next_hop", report.relay_dropped.total()),
        ("mesh_reordered_dropped", reordered.unwrap_or_default()),
    ] {
        counts.insert(key.to_owned(), messages);
    }
    (counts, by_name)
}

fn by_cause(ledger: &DropLedger) -> BTreeMap<String, u64> {
    ledger
        .by_cause()
        .into_iter()
        .map(|(cause, messages)| (cause.name().to_owned(), messages))
        .collect()
}
