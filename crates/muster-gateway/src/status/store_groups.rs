//! Who keeps the stores of a cluster, as coordinators have decided it, and what is not redundant.

use serde::{Deserialize, Serialize};

use super::coordinators::{CoordinatorsStatus, WAITING};

/// The state of a store that has a primary and as many copies in sync as it is to have.
pub const COMPLETE: &str = "complete";

/// The state of a store that has a primary, and too few copies in sync.
pub const SHORT: &str = "short";

/// The kind of what a store is short of.
pub const STORE: &str = "store";

/// The kind of what coordinators are short of.
pub const COORDINATORS: &str = "coordinators";

/// The stores of a cluster, as coordinators have decided who keeps them and as one box knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoresStatus {
    /// [`VERSION`](super::VERSION).
    pub version: u32,
    /// The box that knows this; empty if the cluster has no boxes.
    #[serde(rename = "box")]
    pub box_name: String,
    /// The box whose coordinator decides, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The number of the election.
    pub term: u64,
    /// How often the coordinators were recovered from the loss of most of them.
    pub generation: u64,
    /// The number of the last decision that is known; 0 if nothing is decided.
    pub epoch: u64,
    /// The stores, by name. A store of which nothing is decided has its primary where the layout puts it.
    pub stores: Vec<StoreGroupStatus>,
}

/// A store, as coordinators have decided who keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoreGroupStatus {
    /// Its name.
    pub store: String,
    /// Whether its copies are kept in files; otherwise they are in memory.
    pub persistent: bool,
    /// How many copies are wanted.
    pub copies: u64,
    /// Below so many copies in sync nothing is acknowledged.
    pub min_copies: u64,
    /// How many copies are to be in sync: as many as are wanted, but no more than there are boxes with candidates.
    pub goal: u64,
    /// complete (as many copies are in sync as are to be), short (fewer are), or waiting (it has no primary).
    pub state: String,
    /// Whether it is complete.
    pub redundant: bool,
    /// Since when it is not complete, in seconds since 1970, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Since when it has no primary, in seconds since 1970, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_since: Option<u64>,
    /// The copy that decides. There is none while the store waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<StoreCopyStatus>,
    /// The copies that have everything that was acknowledged. While the store waits, those that it waits for.
    pub in_sync: Vec<StoreCopyStatus>,
    /// A node that was told to become a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joining: Option<StoreCopyStatus>,
    /// The nodes that may have a copy, in order of preference.
    pub candidates: Vec<StoreCopyStatus>,
    /// The number of the decision by which it was opened.
    pub opened: u64,
    /// The number of the decision with which its present history began.
    pub began: u64,
    /// The number of the last decision about it.
    pub changed: u64,
}

/// A node that has a copy of a store, or may have one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoreCopyStatus {
    /// Its name.
    pub node: String,
    /// Its box, if it is known.
    #[serde(rename = "box")]
    pub box_name: String,
    /// in or out: whether the node is.
    pub state: String,
}

/// How many stores there are about which coordinators have decided, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoreCounts {
    /// Stores that have a primary and as many copies in sync as they are to have.
    pub complete: u64,
    /// Stores that have a primary and too few copies in sync.
    pub short: u64,
    /// Stores that have no primary.
    pub waiting: u64,
}

/// Something without which the loss of a box may cost something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LackStatus {
    /// coordinators or store.
    pub kind: String,
    /// The box, or the store; empty if it is about all coordinators.
    pub name: String,
    /// What it is, in words.
    pub text: String,
    /// Since when, in seconds since 1970, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

impl StoreGroupStatus {
    /// Returns whether it has no primary.
    pub fn waits(&self) -> bool {
        self.state == WAITING
    }

    /// Returns whether it has a primary that acknowledges nothing, as too few copies are in sync.
    pub fn is_below_minimum(&self) -> bool {
        !self.waits() && (self.in_sync.len() as u64) < self.min_copies
    }
}

impl StoreCounts {
    /// Returns how many stores are not complete.
    pub fn incomplete(&self) -> u64 {
        self.short.saturating_add(self.waiting)
    }

    /// Returns how many stores there are.
    pub fn all(&self) -> u64 {
        self.complete.saturating_add(self.incomplete())
    }
}

impl CoordinatorsStatus {
    /// Says whether all is redundant, by what it says of the coordinators and of the stores. The lacks of stores stay as they are.
    pub fn judge(&mut self) {
        self.lacks.retain(|lack| lack.kind == STORE);
        let own = self.own_lacks();
        self.lacks.splice(0..0, own);
        let is_redundant = self.lacks.is_empty() && self.stores.incomplete() == 0;
        self.redundant = (!self.voters.is_empty()).then_some(is_redundant);
    }

    /// What the coordinators themselves are short of.
    fn own_lacks(&self) -> Vec<LackStatus> {
        let lack = |name: &str, text: String, since| LackStatus {
            kind: COORDINATORS.to_owned(),
            name: name.to_owned(),
            text,
            since,
        };
        let mut lacks = Vec::new();
        if self.part == WAITING {
            let text = "the coordinators have not begun".to_owned();
            return vec![lack("", text, None)];
        }
        if !self.decides() {
            lacks.push(lack("", "no coordinator leads".to_owned(), None));
        }
        if let [only] = &self.voters[..] {
            let name = &only.box_name;
            let text = format!("box {name} decides alone");
            lacks.push(lack(name, text, None));
        }
        for voter in &self.voters {
            let name = &voter.box_name;
            if !voter.present {
                lacks.push(lack(name, format!("box {name} is away"), voter.away_since));
            } else if !voter.votes {
                lacks.push(lack(name, format!("box {name} has no vote yet"), None));
            } else if voter.problem.is_some() {
                let text = format!("the coordinator of box {name} has a problem");
                lacks.push(lack(name, text, None));
            }
        }
        lacks
    }

    /// Returns since when not all is redundant, in seconds since 1970, if that is known.
    pub fn not_redundant_since(&self) -> Option<u64> {
        let since: Option<Vec<u64>> = self.lacks.iter().map(|lack| lack.since).collect();
        since?.into_iter().min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::coordinators::NO_PART;
    use super::super::coordinators::tests::three;
    use super::*;

    fn judged(change: impl FnOnce(&mut CoordinatorsStatus)) -> (Option<bool>, String, Option<u64>) {
        let mut status = three();
        change(&mut status);
        status.judge();
        let once = status.clone();
        status.judge();
        assert_eq!(status, once);
        let texts: Vec<&str> = status.lacks.iter().map(|it| it.text.as_str()).collect();
        (
            status.redundant,
            texts.join("; "),
            status.not_redundant_since(),
        )
    }

    fn short(since: Option<u64>) -> LackStatus {
        LackStatus {
            kind: STORE.to_owned(),
            name: "x".to_owned(),
            text: "store x: 1 of 2 copies in sync".to_owned(),
            since,
        }
    }

    #[test]
    fn all_is_redundant_if_coordinators_and_stores_are() {
        type Case = (
            fn(&mut CoordinatorsStatus),
            Option<bool>,
            &'static str,
            Option<u64>,
        );
        let away = |it: &mut CoordinatorsStatus| {
            it.voters[2].present = false;
            it.voters[2].away_since = Some(7);
        };
        let cases: [Case; 10] = [
            (|_| {}, Some(true), "", None),
            (|it| it.stores.complete = 3, Some(true), "", None),
            (|it| it.voters.clear(), None, "", None),
            (away, Some(false), "box c is away", Some(7)),
            (
                |it| it.voters[1].votes = false,
                Some(false),
                "box b has no vote yet",
                None,
            ),
            (
                |it| it.voters[1].problem = Some("broken".to_owned()),
                Some(false),
                "the coordinator of box b has a problem",
                None,
            ),
            (
                |it| it.voters.truncate(1),
                Some(false),
                "box a decides alone",
                None,
            ),
            (
                |it| it.leader = None,
                Some(false),
                "no coordinator leads",
                None,
            ),
            (
                |it| {
                    it.leader = None;
                    WAITING.clone_into(&mut it.part);
                    it.voters[1].present = false;
                },
                Some(false),
                "the coordinators have not begun",
                None,
            ),
            (
                |it| {
                    it.stores.short = 1;
                    it.lacks = vec![short(Some(5))];
                },
                Some(false),
                "store x: 1 of 2 copies in sync",
                Some(5),
            ),
        ];
        for (change, redundant, lacks, since) in cases {
            let expected = (redundant, lacks.to_owned(), since);
            assert_eq!(judged(change), expected);
        }
        // The earliest of all, unless one is not known.
        let both = |since| {
            judged(|it| {
                away(it);
                it.stores.short = 1;
                it.lacks = vec![short(since)];
            })
        };
        let text = "box c is away; store x: 1 of 2 copies in sync".to_owned();
        assert_eq!(both(Some(9)), (Some(false), text.clone(), Some(7)));
        assert_eq!(both(None), (Some(false), text, None));
    }

    #[test]
    fn a_box_without_a_coordinator_knows_of_stores_too() {
        let (redundant, ..) = judged(|it| {
            NO_PART.clone_into(&mut it.part);
            it.stores.waiting = 1;
        });
        assert_eq!(redundant, Some(false));
    }
}
