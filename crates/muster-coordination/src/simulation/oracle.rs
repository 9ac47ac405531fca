//! What must never be seen, whoever fails.

use std::collections::{BTreeMap, BTreeSet};

use muster_cluster::coordination::{OutReason, View};

/// Who is in by a view: name, session, life, and why it is out.
type Members = Vec<(String, u64, String, Option<OutReason>)>;

#[derive(Default)]
pub(super) struct Oracle {
    /// The view of each epoch, the same for everybody.
    views: BTreeMap<([u8; 16], u64), Members>,
    clusters: BTreeSet<[u8; 16]>,
    /// The sessions that were given up for their silence, and when.
    silent: BTreeSet<(String, u64)>,
}

fn members(view: &View) -> Members {
    let members = view.members();
    members
        .map(|(name, it)| (name.to_owned(), it.session, it.life.to_string(), it.out))
        .collect()
}

impl Oracle {
    /// Somebody has a view. Returns the sessions that it shows as given up for the first time.
    pub(super) fn sees(&mut self, who: &str, view: &View) -> Result<Vec<(String, u64)>, String> {
        if view.epoch() == 0 {
            return Ok(Vec::new());
        }
        self.clusters.insert(*view.cluster());
        if self.clusters.len() > 1 {
            return Err(format!("I3: {who} sees a second group of coordinators"));
        }
        let is = members(view);
        let key = (*view.cluster(), view.epoch());
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
        Ok(silent.filter(|it| self.silent.insert(it.clone())).collect())
    }

    pub(super) fn epochs(&self) -> usize {
        self.views.len()
    }

    pub(super) fn silent(&self) -> usize {
        self.silent.len()
    }
}
