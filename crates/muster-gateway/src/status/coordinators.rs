//! The coordinators of a cluster, as they are shown.

use serde::{Deserialize, Serialize};

use super::store_groups::{LackStatus, StoreCounts};

/// The part of a box that has no coordinator, or whose coordinator cannot use its file.
pub const NO_PART: &str = "none";

/// The part of a coordinator that waits until all are there: nothing was ever decided.
pub const WAITING: &str = "waiting";

/// The part of the coordinator that decides.
pub const LEADER: &str = "leader";

/// The state of a node that is in.
pub const IN: &str = "in";

/// The state of a node that is out.
pub const OUT: &str = "out";

/// The coordinators of a cluster, as one box knows them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CoordinatorsStatus {
    /// [`VERSION`](super::VERSION).
    pub version: u32,
    /// The box that knows this; empty if the cluster has no boxes.
    #[serde(rename = "box")]
    pub box_name: String,
    /// What its coordinator does: leader, follower, candidate, learner (it has no vote), waiting (for all to be there, so that they
    /// begin), or none (it has no coordinator).
    pub part: String,
    /// The box whose coordinator decides, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The number of the election.
    pub term: u64,
    /// The number of the last decision that is known.
    pub epoch: u64,
    /// How often the coordinators were recovered from the loss of most of them.
    pub generation: u64,
    /// The id of the group, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The coordinators. There are none in a cluster of one box.
    pub voters: Vec<CoordinatorStatus>,
    /// The nodes about which something is decided. The status of a cluster leaves them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberStatus>,
    /// The boxes that have to be there so that the coordinators begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<String>,
    /// When the last decision about a node was made, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<u64>,
    /// What is not as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The number of the last decision that the agent of the box goes by.
    pub agent_epoch: u64,
    /// How many stores there are about which coordinators have decided.
    #[serde(default)]
    pub stores: StoreCounts,
    /// Whether the coordinators go on deciding when a box is lost, and every store has as many copies in sync as it is to have. A cluster
    /// without coordinators does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundant: Option<bool>,
    /// What is missing for that. Of the stores the first are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<LackStatus>,
}

/// A coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CoordinatorStatus {
    /// Its box.
    #[serde(rename = "box")]
    pub box_name: String,
    /// Whether it is heard.
    pub present: bool,
    /// Whether it votes.
    pub votes: bool,
    /// What it says that it does, if its agent was asked and has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// What it says that is not as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Since when it is not heard, in seconds since 1970, by the clock of a coordinator that notices it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_since: Option<u64>,
}

/// A node about which coordinators have decided.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemberStatus {
    /// Its name.
    pub node: String,
    /// Its box.
    #[serde(rename = "box")]
    pub box_name: String,
    /// in or out.
    pub state: String,
    /// Why it is out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The number of the decision that let it in.
    pub session: u64,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// How long ago the leader has heard it. Only the leader knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_seconds: Option<f64>,
}

/// What a node has of its coordinators.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CoordinationStatus {
    /// alone (it has never heard of any), in, suspended (its lease is over) or out.
    pub standing: String,
    /// The number of the decision that let it in; 0 if it is not in.
    pub session: u64,
    /// The number of the last decision that it goes by; 0 if it knows none.
    pub epoch: u64,
}

impl CoordinatorsStatus {
    /// Returns whether something is decided when it has to be: somebody leads, or there is nothing to decide.
    pub fn decides(&self) -> bool {
        self.voters.is_empty() || self.leader.is_some()
    }

    /// Returns whether all is as it should be: somebody leads, all coordinators are there and vote, and none has a problem.
    pub fn is_well(&self) -> bool {
        let is_well =
            |voter: &CoordinatorStatus| voter.present && voter.votes && voter.problem.is_none();
        self.decides() && self.problem.is_none() && self.voters.iter().all(is_well)
    }

    /// Returns the boxes whose coordinators are not heard.
    pub fn away(&self) -> impl Iterator<Item = &str> {
        let away = self.voters.iter().filter(|voter| !voter.present);
        away.map(|voter| voter.box_name.as_str())
    }

    /// Returns whether most coordinators are not heard: those that are left decide nothing.
    pub fn most_are_away(&self) -> bool {
        let away = self.away().count();
        away > 0 && (self.voters.len() - away) * 2 <= self.voters.len()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::status) fn three() -> CoordinatorsStatus {
        let voter = |name: &str| CoordinatorStatus {
            box_name: name.to_owned(),
            present: true,
            votes: true,
            ..CoordinatorStatus::default()
        };
        CoordinatorsStatus {
            leader: Some("a".to_owned()),
            voters: ["a", "b", "c"].map(voter).into(),
            ..CoordinatorsStatus::default()
        }
    }

    #[test]
    fn all_is_well_only_if_somebody_leads_and_all_are_there() {
        assert!(three().is_well());
        let mut away = three();
        away.voters[2].present = false;
        assert!(!away.is_well() && away.decides() && !away.most_are_away());
        away.voters[1].present = false;
        assert!(away.most_are_away());
        assert_eq!(away.away().collect::<Vec<_>>(), ["b", "c"]);
        let nobody = CoordinatorsStatus {
            leader: None,
            ..three()
        };
        assert!(!nobody.decides() && !nobody.is_well());
        let mut learns = three();
        learns.voters[0].votes = false;
        assert!(!learns.is_well());
        let mut problem = three();
        problem.voters[0].problem = Some("its file cannot be used".to_owned());
        assert!(!problem.is_well());
        // A cluster of one box decides nothing.
        let none = CoordinatorsStatus::default();
        assert!(none.is_well() && !none.most_are_away());
    }
}
