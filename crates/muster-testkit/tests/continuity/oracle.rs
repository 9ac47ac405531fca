//! What must never be seen, whoever fails: it is looked at after everything that happens.

use std::collections::{BTreeMap, BTreeSet};

use muster_cluster::coordination::{OutReason, StoreGroup, View};
use muster_store::StorePart;
use muster_testkit::Cluster;
use muster_wire::EndpointId;

use super::layout::STORES;

/// What a view says.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    members: Vec<(String, u64, EndpointId, Option<OutReason>)>,
    stores: Vec<(String, StoreGroup)>,
}

impl Said {
    fn of(view: &View) -> Self {
        let members = view.members();
        let stores = view.stores();
        Self {
            members: members
                .map(|(name, it)| (name.to_owned(), it.session, it.life, it.out))
                .collect(),
            stores: stores
                .map(|(name, group)| (name.to_owned(), group.clone()))
                .collect(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// The view of each epoch, the same for everybody.
    views: BTreeMap<u64, Said>,
    /// The epochs that coordinators know to be agreed on.
    agreed: BTreeSet<u64>,
    /// The epoch that each process has shown last, by its name and its life.
    shown: BTreeMap<(String, Option<u64>), u64>,
    /// The sessions that were given up for their silence.
    silent: BTreeSet<(String, u64)>,
    /// What a primary had decided when its node had no lease, and it was the only copy in sync: epoch and index.
    without_lease: BTreeMap<(String, &'static str), (u64, u64)>,
    wrong: Option<String>,
}

impl Oracle {
    pub(crate) fn silent(&self) -> usize {
        self.silent.len()
    }

    pub(crate) fn epochs(&self) -> u64 {
        self.views.len() as u64
    }

    pub(crate) fn verdict(&mut self) -> Result<(), String> {
        self.wrong.take().map_or(Ok(()), Err)
    }

    fn fails(&mut self, wrong: String) {
        self.wrong.get_or_insert(wrong);
    }

    /// Something has happened to a process.
    pub(crate) fn look(&mut self, cluster: &Cluster, name: &str) {
        if let Some(of_box) = name.strip_prefix("agent.") {
            if let Some(view) = cluster.coordinator(of_box).and_then(|it| it.view()) {
                self.agreed.insert(view.epoch());
                self.sees(cluster, name, None, view);
            }
            return;
        }
        if !cluster.is_alive(name) {
            return;
        }
        let node = cluster.node(name);
        if let Some(view) = node.view() {
            self.sees(cluster, name, Some(cluster.life(name)), view);
        }
        let session = node.coordination().map_or(0, |known| known.session);
        if cluster.has_lease(name) {
            let is_over = self.silent.contains(&(name.to_owned(), session));
            if is_over {
                self.fails(format!("I6: {name} acts, and was given up for its silence"));
            }
            self.without_lease.retain(|(node, _), _| node != name);
        } else {
            self.look_at_suspended(cluster, name);
        }
    }

    /// A process shows a view.
    fn sees(&mut self, cluster: &Cluster, name: &str, life: Option<u64>, view: &View) {
        let epoch = view.epoch();
        let shown = self.shown.entry((name.to_owned(), life)).or_default();
        let before = std::mem::replace(shown, epoch);
        if epoch == before || epoch == 0 {
            return;
        }
        if life.is_some() && epoch < before {
            self.fails(format!("I5: {name} goes back from {before} to {epoch}"));
        }
        // Whoever leads tells only what it knows to be agreed on.
        if !self.agreed.contains(&epoch) {
            self.fails(format!(
                "I5: {name} has a view of epoch {epoch}, which nobody has agreed on yet"
            ));
        }
        let said = Said::of(view);
        let silent = said.members.iter();
        let silent = silent.filter(|(.., out)| *out == Some(OutReason::Silent));
        let silent: Vec<_> = silent
            .map(|(node, session, ..)| (node.clone(), *session))
            .collect();
        if *self.views.entry(epoch).or_insert(said) != Said::of(view) {
            self.fails(format!("I5: {name} sees another view of epoch {epoch}"));
        }
        for (node, session) in silent {
            if self.silent.insert((node.clone(), session)) && acts(cluster, &node, session) {
                self.fails(format!("I6: {node} is given up while its lease runs"));
            }
        }
    }

    /// A node without a lease decides nothing alone.
    fn look_at_suspended(&mut self, cluster: &Cluster, name: &str) {
        for store in STORES {
            let report = cluster.store_report(name, store);
            let copies = match report.map(|report| report.part) {
                Some(StorePart::Primary(primary)) => primary.copies,
                _ => None,
            };
            let alone = copies.filter(|copies| copies.others.iter().all(|it| !it.is_in_sync));
            let key = (name.to_owned(), store);
            let Some(copies) = alone else {
                self.without_lease.remove(&key);
                continue;
            };
            let is = (copies.epoch, copies.index);
            let before = self.without_lease.insert(key, is);
            if let Some(before) = before.filter(|before| before.0 == is.0 && before.1 < is.1) {
                self.fails(format!(
                    "B2: {name} decides about {store} alone without a lease: {before:?}, {is:?}"
                ));
            }
        }
    }
}

/// Whether a node acts on a lease of a session.
fn acts(cluster: &Cluster, node: &str, session: u64) -> bool {
    let has_lease = cluster.is_alive(node) && cluster.has_lease(node);
    let known = has_lease.then(|| cluster.node(node).coordination());
    known.flatten().is_some_and(|it| it.session == session)
}
