//! What coordinators say to one another, besides what their consensus does.

use muster_data::Record;

/// A voter is there.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::voter")]
pub(crate) struct Present {
    /// The identity of its file: 16 bytes.
    pub(crate) disk: Vec<u8>,
    /// The group that it belongs to: 16 bytes, or none.
    pub(crate) cluster: Vec<u8>,
    pub(crate) generation: u64,
    /// The boxes whose agents vote, by its layout, in their order.
    pub(crate) voters: Vec<String>,
}

/// A group is there: the receiver belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::begin")]
pub(crate) struct Begin {
    pub(crate) cluster: Vec<u8>,
    pub(crate) generation: u64,
    /// The receiver's file.
    pub(crate) disk: Vec<u8>,
    /// The group as it was founded; none if it has changed since, so that the receiver begins as a stranger.
    pub(crate) founders: Vec<Founder>,
}

#[derive(Debug, Clone, PartialEq, Eq, Record)]
pub(crate) struct Founder {
    pub(crate) name: String,
    pub(crate) disk: Vec<u8>,
}

/// A message of the consensus.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::consensus")]
pub(crate) struct Carried {
    pub(crate) message: Vec<u8>,
    /// The round of a leader's heartbeat, which the answer repeats. Former releases do not say it.
    pub(crate) round: Option<u64>,
}
