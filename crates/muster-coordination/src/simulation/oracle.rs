//! What must never be seen, whoever fails.

use std::collections::{BTreeMap, BTreeSet};

use muster_cluster::coordination::{OutReason, View};
use muster_wire::EndpointId;

/// Who is in by a view: name, session, life, and why it is out.
type Members = Vec<(String, u64, EndpointId, Option<OutReason>)>;

/// A group, and an epoch of it.
type Key = ([u8; 16], u64);

#[derive(Default)]
pub(super) struct Oracle {
    /// The view of each epoch, the same for everybody.
    views: BTreeMap<Key, Members>,
    /// The groups, by how often coordinators were recovered.
    clusters: BTreeMap<u64, [u8; 16]>,
    /// What was told before its teller had it agreed on, until a coordinator has, with who told it.
    ahead: BTreeMap<Key, String>,
    /// The sessions that were given up for their silence.
    silent: BTreeSet<(String, u64)>,
    /// Of these, those that the present group has given up.
    over: BTreeSet<(String, u64)>,
}

fn members(view: &View) -> Members {
    let members = view.members();
    members
        .map(|(name, it)| (name.to_owned(), it.session, it.life, it.out))
        .collect()
}

impl Oracle {
    /// Somebody has a view. Returns the sessions that it shows as given up for the first time.
    pub(super) fn sees(&mut self, who: &str, view: &View) -> Result<Vec<(String, u64)>, String> {
        if view.epoch() == 0 {
            return Ok(Vec::new());
        }
        let cluster = *view.cluster();
        if !self.clusters.is_empty() && !self.clusters.contains_key(&view.generation()) {
            // Whoever goes on alone may have missed some of it.
            self.over.clear();
        }
        let known = self.clusters.entry(view.generation()).or_insert(cluster);
        if *known != cluster {
            return Err(format!("I3: {who} sees a second group of coordinators"));
        }
        let is = members(view);
        let key = (cluster, view.epoch());
        let known = self.views.entry(key).or_insert_with(|| is.clone());
        if *known != is {
            return Err(format!(
                "I5: {who} sees another view of epoch {}: {is:?}, not {known:?}",
                view.epoch()
            ));
        }
        let silent = is
            .iter()
            .filter(|(.., out)| *out == Some(OutReason::Silent))
            .map(|(name, session, ..)| (name.clone(), *session));
        let new: Vec<_> = silent.filter(|it| self.silent.insert(it.clone())).collect();
        if !self.is_replaced(view) {
            self.over.extend(new.iter().cloned());
        }
        Ok(new)
    }

    /// Somebody has told a view, and knows it to be agreed on only up to an epoch.
    pub(super) fn is_told(&mut self, who: &str, view: &View, agreed: u64) {
        if view.epoch() > agreed {
            let key = (*view.cluster(), view.epoch());
            self.ahead.insert(key, who.to_owned());
        }
    }

    /// A coordinator knows a view to be agreed on.
    pub(super) fn is_agreed(&mut self, view: &View) {
        self.ahead.remove(&(*view.cluster(), view.epoch()));
    }

    /// Everything that was told was agreed on, in the end.
    pub(super) fn check_told(&self) -> Result<(), String> {
        match self.ahead.first_key_value() {
            None => Ok(()),
            Some(((_, epoch), who)) => Err(format!(
                "I5: {who} has told a view of epoch {epoch} that nobody has agreed on"
            )),
        }
    }

    /// Whether a session was given up for its silence.
    pub(super) fn is_silent(&self, node: &str, session: u64) -> bool {
        let mut silent = self.silent.iter();
        silent.any(|(name, given_up)| name == node && *given_up == session)
    }

    pub(super) fn epochs(&self) -> usize {
        self.views.len()
    }

    /// Whether a session was given up for its silence.
    pub(super) fn was_given_up(&self, node: &str, session: u64) -> bool {
        self.over.contains(&(node.to_owned(), session))
    }

    pub(super) fn silent(&self) -> usize {
        self.silent.len()
    }

    /// Whether others have gone on without those who have this view.
    pub(super) fn is_replaced(&self, view: &View) -> bool {
        let newest = self.clusters.last_key_value();
        newest.is_some_and(|(generation, _)| view.generation() < *generation)
    }

    pub(super) fn groups(&self) -> usize {
        self.clusters.len()
    }
}
