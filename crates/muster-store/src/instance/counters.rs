//! The counters of a store.

use muster_wire::counters::{Counter, Descriptor};

use super::report::{
    CloneReport, CopiesReport, CopyReport, CopyRole, PrimaryReport, StorePart, StoreReport,
};
use crate::Freshness;

mod descriptors {
    muster_wire::counters! {
        /// 1 for each store that is open on the node. `part` is `primary`, `standby`, `joining` or `clone`; `backend` is what
        /// persists the state, `memory` if nothing does.
        pub(super) INFO = gauge("muster_store_info").labels(&["store", "part", "backend"]);
        /// Entries that are here; none on a clone without a copy. Growth without end means that entries are put without
        /// a time to live and never erased.
        pub(super) ENTRIES = gauge("muster_store_entries").labels(&["store"]);
        /// Memory that the entries take, roughly. Growth without end means that entries are put without a time to live
        /// and never erased.
        pub(super) BYTES = gauge("muster_store_bytes").labels(&["store"]);
        /// Writers on other nodes that the primary remembers, 4,096 at most.
        pub(super) WRITERS = gauge("muster_store_writers").labels(&["store"]);
        /// Clones of Broker's protocol that the primary serves: those of Zeek's nodes.
        pub(super) BROKER_CLONES = gauge("muster_store_broker_clones").labels(&["store"]);
        /// Changes that are applied and wait for the backend. Growth means that the disk is slower than the writers:
        /// a crash would lose these changes unless their writers waited for the disk.
        pub(super) PENDING_COMMITS = gauge("muster_store_pending_commits").labels(&["store"]);
        /// 1 if the backend failed the last time. Nothing is persisted as long as it does: look at the node's log and
        /// at the disk.
        pub(super) BACKEND_FAILING = gauge("muster_store_backend_failing").labels(&["store"]);
        /// 1 if another endpoint in reach has a primary of the same store, too. The two have nothing to do with one
        /// another: end one of them, or place the store by the layout.
        pub(super) HAS_RIVAL = gauge("muster_store_has_rival").labels(&["store"]);
        /// Failures of the backend, after each of which it is tried again. Any growth means that the disk is full or
        /// broken: look at the node's log.
        pub(super) BACKEND_FAILURES = counter("muster_store_backend_failures_total").labels(&["store"]);
        /// 1 if the clone has a copy of the primary's state. 0 for long means that its primary is out of reach.
        pub(super) ATTACHED = gauge("muster_store_attached").labels(&["store"]);
        /// 1 if the clone has not heard its primary for too long. What it answers may be old: look whether the node with the
        /// primary is up and linked.
        pub(super) STALE = gauge("muster_store_stale").labels(&["store"]);
        /// Changes that the clone has been told of and is missing. They are asked for again; growth means that the link
        /// to the primary loses messages.
        pub(super) MISSING_CHANGES = gauge("muster_store_missing_changes").labels(&["store"]);
        /// Writes of this node that wait for their primary. Growth means that the primary is away or overloaded.
        pub(super) UNSETTLED_WRITES = gauge("muster_store_unsettled_writes").labels(&["store"]);
        /// The last decision of the coordinators about the store that a copy knows. It is the same on all copies, unless one
        /// does not hear the coordinators.
        pub(super) EPOCH = gauge("muster_store_epoch").labels(&["store"]);
        /// Copies that have everything. Fewer than the store is to have means that the next failure may stop or lose it.
        pub(super) COPIES_IN_SYNC = gauge("muster_store_copies_in_sync").labels(&["store"]);
        /// Entries that not all copies are known to have. Growth means that one of them, or the way there, is slower than
        /// the writers.
        pub(super) WAITING_ENTRIES = gauge("muster_store_waiting_entries").labels(&["store"]);
        /// Entries that the copy which lags most does not have in memory, at the primary.
        pub(super) COPY_LAG = gauge("muster_store_copy_lag").labels(&["store"]);
    }
}

impl StoreReport {
    /// The descriptors of all that [`StoreReport::counters`] returns.
    pub const DESCRIPTORS: &'static [Descriptor] = descriptors::ALL;

    /// Returns the counters of the store.
    pub fn counters(&self) -> Vec<Counter> {
        let (part, backend) = match &self.part {
            StorePart::Primary(primary) => ("primary", primary.backend),
            StorePart::Clone(_) => ("clone", "memory"),
            StorePart::Copy(copy) if copy.copies.role == CopyRole::Joining => {
                ("joining", copy.backend)
            }
            StorePart::Copy(copy) => ("standby", copy.backend),
        };
        let name = || self.name.to_string();
        let info = [
            ("store", name()),
            ("part", part.to_owned()),
            ("backend", backend.to_owned()),
        ];
        let of_part = match &self.part {
            StorePart::Primary(primary) => of_primary(primary),
            StorePart::Clone(clone) => of_clone(clone),
            StorePart::Copy(copy) => of_copy(copy),
        };
        let both = [
            (descriptors::ENTRIES, self.entries as u64),
            (descriptors::BYTES, self.bytes as u64),
        ];
        let values = both.into_iter().chain(of_part);
        let values = values.map(|(what, value)| what.of_each([("store", name())], value));
        std::iter::once(descriptors::INFO.of_each(info, 1))
            .chain(values)
            .collect()
    }
}

fn of_primary(primary: &PrimaryReport) -> Vec<(Descriptor, u64)> {
    let mut all = vec![
        (descriptors::WRITERS, primary.writers as u64),
        (descriptors::BROKER_CLONES, primary.broker_clones as u64),
        (descriptors::PENDING_COMMITS, primary.pending_commits as u64),
        (descriptors::BACKEND_FAILING, primary.is_failing.into()),
        (descriptors::HAS_RIVAL, primary.rival.is_some().into()),
        (descriptors::BACKEND_FAILURES, primary.failures),
    ];
    if let Some(copies) = &primary.copies {
        all.extend(of_copies(copies));
        let lag = copies.others.iter().map(|other| other.lag).max();
        all.push((descriptors::COPY_LAG, lag.unwrap_or(0)));
    }
    all
}

fn of_copies(copies: &CopiesReport) -> [(Descriptor, u64); 3] {
    [
        (descriptors::EPOCH, copies.epoch),
        (descriptors::COPIES_IN_SYNC, copies.in_sync as u64),
        (descriptors::WAITING_ENTRIES, copies.waiting),
    ]
}

fn of_copy(copy: &CopyReport) -> Vec<(Descriptor, u64)> {
    let mut all = vec![
        (descriptors::PENDING_COMMITS, copy.pending_commits as u64),
        (descriptors::BACKEND_FAILING, copy.is_failing.into()),
        (descriptors::BACKEND_FAILURES, copy.failures),
        (descriptors::UNSETTLED_WRITES, copy.unsettled as u64),
        (
            descriptors::STALE,
            (copy.freshness == Freshness::Stale).into(),
        ),
    ];
    all.extend(of_copies(&copy.copies));
    all
}

fn of_clone(clone: &CloneReport) -> Vec<(Descriptor, u64)> {
    let is_attached = clone.freshness != Freshness::Unattached;
    let is_stale = clone.freshness == Freshness::Stale;
    vec![
        (descriptors::ATTACHED, is_attached.into()),
        (descriptors::STALE, is_stale.into()),
        (descriptors::MISSING_CHANGES, clone.missing),
        (descriptors::UNSETTLED_WRITES, clone.unsettled as u64),
    ]
}
