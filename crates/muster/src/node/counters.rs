//! The counters of a whole node, and what describes them.

use std::collections::BTreeMap;

use muster_cluster::coordination::Standing;
use muster_cluster::node::{NodeCounts, NodeState};
use muster_store::StoreBudgetReport;
use muster_wire::counters::{Counter, Descriptor, DropLedger};
use muster_wire::mesh::Counts;

use super::report::NodeReport;
use crate::endpoint::{EndpointCounts, connections_refused};
use crate::store::StoreReport;

/// The name of peers that are no nodes, and of former ones: together, so that whoever connects cannot make labels.
const OTHER_PEERS: &str = "other";

mod descriptors {
    muster_wire::counters! {
        /// 1 for the state that the node is in, 0 for the others: `starting`, `ready`, `degraded` (not all nodes that it is
        /// linked with are up, or it fails at something) or `stopping`. `muster status` names what is missing and what fails.
        pub(super) STATE = gauge("muster_node_state").labels(&["state"]);
        /// What the node fails at, by kind: `log` (records of so many streams cannot be written), `log_files` (a logger
        /// cannot write, and others have its share), `spool` (what should wait on disk cannot be written or read there), `store` (so many stores
        /// cannot be opened), `store_memory` (the stores have no room: `stores.node_memory_limit`), `layout` (so many nodes run with other layouts),
        /// `lease` (by the coordinators' word the node is out, or it hears too few of them) or `others`. Anything but 0 is a loss:
        /// `muster status` says which, why, and since when.
        pub(super) TROUBLES = gauge("muster_node_troubles").labels(&["kind"]);
        /// 1 for what the node may do by the word of the cluster's coordinators, 0 for the others: `alone` (it has never heard of
        /// any), `in`, `suspended` (its lease is over: it was stopped, or hears too few of them) or `out`. A cluster of one box has
        /// no coordinators.
        pub(super) STANDING = gauge("muster_node_standing").labels(&["standing"]);
        /// The number of the last decision of the coordinators that the node goes by. One that stays behind that of its agent
        /// (`muster_coordination_epoch`) does not hear them.
        pub(super) EPOCH = gauge("muster_node_epoch");
        /// The number of the decision that let the node in; 0 if it is not in. It changes when the node was out.
        pub(super) SESSION = gauge("muster_node_session");
        /// Time since the node's loop reported last. More than 2 seconds means that a handler of a framework hangs or that
        /// the machine is overloaded: everything else that is said of the loop is as old.
        pub(super) REPORT_AGE = gauge("muster_node_report_age_seconds").in_nanoseconds();
        /// Log records that wait for their batch, or for a logger. Growth means that no logger is alive or that they do
        /// not keep up; in the end records are lost (`muster_log_records_lost_total`).
        pub(super) RECORDS_WAITING = gauge("muster_log_records_waiting");
        /// Messages that wait for the node's loop. Growth means that its frameworks do not keep up; in the end messages
        /// are dropped: spread the work over more nodes.
        pub(super) INBOX = gauge("muster_inbox_messages");
        /// The event time up to which the inputs have been read, since 1970. What it falls behind the clock is the delay of
        /// live input: give the node a smaller share of it.
        pub(super) INPUT_LOW = gauge("muster_input_low_timestamp_seconds").in_nanoseconds();
    }
}

impl NodeReport {
    /// Returns the descriptors of everything that [`NodeReport::counters`] may return, except what frameworks count
    /// ([`Registry::counters`](muster_cluster::node::Registry::counters)).
    pub fn descriptors() -> Vec<&'static Descriptor> {
        let [mesh, peers, connections] = EndpointCounts::DESCRIPTORS;
        let all = [
            descriptors::ALL,
            NodeCounts::DESCRIPTORS,
            mesh,
            Counts::DESCRIPTORS,
            peers,
            connections,
            StoreReport::DESCRIPTORS,
            StoreBudgetReport::DESCRIPTORS,
            DropLedger::DESCRIPTORS,
        ];
        all.into_iter().flatten().collect()
    }

    /// Returns everything that the node counts, each value with its descriptor. Values of the same descriptor and
    /// labels, as those of several peers without a name, are to be added up.
    pub fn counters(&self) -> Vec<Counter> {
        let age = u64::try_from(self.age.as_nanos()).unwrap_or(u64::MAX);
        let mut all = vec![
            descriptors::REPORT_AGE.of(age),
            descriptors::RECORDS_WAITING.of(self.waiting_records as u64),
            descriptors::INBOX.of(self.inbox as u64),
            connections_refused(self.connections_refused),
        ];
        all.extend(NodeState::ALL.map(|state| {
            let labels = [("state", state.name().to_owned())];
            descriptors::STATE.of_each(labels, (self.state == state).into())
        }));
        let mut kinds = BTreeMap::from(
            ["log", "store", "store_memory", "layout", "lease", "others"].map(|kind| (kind, 0)),
        );
        for trouble in &self.troubles {
            *kinds.entry(trouble.cause.name()).or_default() += 1;
        }
        let troubles = kinds.into_iter();
        all.extend(troubles.map(|(kind, count)| {
            descriptors::TROUBLES.of_each([("kind", kind.to_owned())], count)
        }));
        if let Some(coordination) = &self.coordination {
            all.extend(Standing::ALL.map(|standing| {
                let labels = [("standing", standing.name().to_owned())];
                let is_so = coordination.standing == standing;
                descriptors::STANDING.of_each(labels, is_so.into())
            }));
            all.push(descriptors::EPOCH.of(coordination.epoch));
            all.push(descriptors::SESSION.of(coordination.session));
        }
        let low = self.input_low.and_then(|low| u64::try_from(low).ok());
        all.extend(low.map(|low| descriptors::INPUT_LOW.of(low)));
        all.extend(self.counts.counters());
        all.extend(self.mesh.iter().cloned());
        all.extend(self.unrouted.counters("none", ""));
        all.extend(self.joining_dropped.counters("joining", ""));
        all.extend(self.relay_dropped.counters("relay", ""));
        all.extend(self.subscribers_dropped.counters("subscriber", ""));
        all.extend(self.inbox_dropped.counters_of_subscriber("node"));
        all.extend(self.store_memory.counters());
        all.extend(self.stores.iter().flat_map(StoreReport::counters));
        for peer in &self.peers {
            let name = peer.node.as_deref().unwrap_or(OTHER_PEERS);
            all.extend(peer.report.counters(name));
        }
        all
    }
}
