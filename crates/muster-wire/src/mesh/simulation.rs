//! Many endpoints in one thread, in simulated time, from one seed: links with delays that fail, hang
//! and heal, endpoints that restart, messages under way all the time. The rules are checked after
//! every step; a run that breaks one prints the line that brings it again.
//!
//! `MESH_SEEDS=1000` runs more seeds of small graphs, `MESH_SIZE=250` and `MESH_LARGE_SEEDS=5` larger
//! graphs and more of them. A thousand endpoints are a test of their own, for a release build:
//! `cargo test --release -p muster-wire a_thousand_endpoints -- --ignored --nocapture`.

mod graphs;
mod guests;
mod layout;
mod ledger;
mod network;
mod oracle;
mod random;
mod scenario;
mod tests;

/// A rule to break on purpose, to see that the simulator notices.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// None.
    #[default]
    Nothing,
    /// Messages go to all neighbours, and those that were here before are taken again.
    Storm,
    /// Messages go to all neighbours.
    Flooding,
    /// Neighbours never compare their databases again after they have met.
    NoRepair,
    /// A link counts if one of its ends announces it.
    NoTwoWayCheck,
    /// The tree that stood before a change is not used.
    OneTree,
    /// Joining endpoints are told at once that all know them.
    NoBarrier,
    /// Every peer of a version 1 endpoint takes itself for its home.
    ManyHomes,
    /// Nobody asks who has heard a message of or for version 1 directly.
    NoPeers,
    /// Nobody finds out which version 1 endpoints forward.
    NoQuestions,
    /// No rule is broken, but the smallest records are offered before they are sent.
    OffersAll,
    /// The same, and who is offered records takes their versions for the records.
    BelievedOffers,
    /// Those below are not waited for before it is said that all agree.
    HastyAgreement,
}

impl Sabotage {
    /// From how many bytes on records are offered.
    pub(super) fn offered_from(self, bytes: usize) -> usize {
        match self {
            Self::OffersAll | Self::BelievedOffers => 1,
            _ => bytes,
        }
    }
}
