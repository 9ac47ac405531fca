//! What a mesh counts, and how large it is.

use std::collections::BTreeMap;

use crate::counters::{Counter, Descriptor};
use crate::mesh::database::Refusal;

mod descriptors {
    crate::counters! {
        /// Control frames of the mesh that came from an endpoint which is no neighbour, as in the moment after a link
        /// was lost. Steady growth means that two endpoints disagree about their link: restart one of the two.
        pub(super) NOT_NEIGHBOUR = counter("muster_mesh_not_neighbour_frames_total").key("mesh_not_neighbour");
        /// Transmissions of records, by which endpoints tell one another who is there, who is linked with whom and who
        /// subscribes to what. They follow changes: steady growth without any means that a node or link comes and goes.
        pub(super) RECORDS_SENT = counter("muster_mesh_records_sent_total").key("mesh_records_sent");
        /// Records that came from neighbours and were known here. Beside those that are sent, they say how much of what is told
        /// need not have been: with the start of a large mesh most of it, otherwise little.
        pub(super) RECORDS_KNOWN = counter("muster_mesh_records_known_total").key("mesh_records_known");
        /// Offers of records to neighbours that may have them, as when links are made. Steady growth means that links
        /// come and go.
        pub(super) OFFERS = counter("muster_mesh_offers_total").key("mesh_offers");
        /// Records that arrived where their tree does not lead, because the sender had older news of the mesh. Some
        /// come with every change of links; nothing is lost.
        pub(super) OFF_TREE = counter("muster_mesh_off_tree_records_total").key("mesh_off_tree");
        /// Comparisons of all records with a neighbour after something was missed. Growth without changes of links
        /// means that control frames are lost: look at the links' drops.
        pub(super) REPAIRS = counter("muster_mesh_repairs_total").key("mesh_repairs");
        /// Neighbours that did not acknowledge a joining endpoint in time, so that it was announced without them.
        /// Growth means that a node is overloaded or hangs: look at `muster_node_report_age_seconds`.
        pub(super) JOIN_LAGGARDS = counter("muster_mesh_join_laggards_total").key("mesh_join_laggards");
        /// Records of this endpoint that it did not announce itself, and answered by newer ones. A restart with an endpoint
        /// id of before makes one; growth means that an endpoint forges records: the log names the neighbours that they
        /// came by.
        pub(super) CONTRADICTED = counter("muster_mesh_contradicted_records_total").key("mesh_contradicted");
        /// Records that were not taken, by cause: `database_full` (more endpoints than a mesh may have), `orphan`
        /// (links of an endpoint that does not relay), `neighbours` (more links than a record holds), `absurd` (a number
        /// that its endpoint cannot have reached), or with mutual TLS `unsealed` (of an endpoint without, or of a version
        /// before seals), `untrusted` and `out_of_date` (its certificate is not good here), `identity` (its certificate is not
        /// that of its endpoint) or `seal` (it is not what its endpoint has signed). Any growth means that part of the mesh
        /// is not known here: make it smaller, or give it more relays; `absurd`, `identity` and `seal` mean that somebody
        /// forges records: the log names the neighbours that they came by.
        pub(super) RECORDS_REFUSED = counter("muster_mesh_records_refused_total").labels(&["cause"]);
    }
}

/// What has happened so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames from an endpoint that is not a neighbour.
    pub not_neighbour: u64,
    /// Transmissions of records to neighbours.
    pub records_sent: u64,
    /// Records that came from neighbours and were known.
    pub records_known: u64,
    /// Offers of records to neighbours.
    pub offers: u64,
    /// Floods that arrived where their tree does not lead.
    pub off_tree: u64,
    /// Exchanges of version lists.
    pub repairs: u64,
    /// Neighbours that did not acknowledge a joining endpoint in time.
    pub join_laggards: u64,
    /// Records of this endpoint that it did not announce.
    pub contradicted: u64,
    /// Records that were refused, by reason.
    pub refused: BTreeMap<Refusal, u64>,
}

impl Counts {
    /// The descriptors of all that [`Counts::of_records`] returns.
    pub const DESCRIPTORS: &'static [Descriptor] = descriptors::ALL;

    /// Returns the counters of the records. Messages are counted elsewhere, where they pass.
    pub fn of_records(&self) -> Vec<Counter> {
        let refused = |(refusal, value): (&Refusal, &u64)| {
            let labels = [("cause", refusal.name().to_owned())];
            descriptors::RECORDS_REFUSED.of_each(labels, *value)
        };
        let counters = [
            descriptors::NOT_NEIGHBOUR.of(self.not_neighbour),
            descriptors::RECORDS_SENT.of(self.records_sent),
            descriptors::RECORDS_KNOWN.of(self.records_known),
            descriptors::OFFERS.of(self.offers),
            descriptors::OFF_TREE.of(self.off_tree),
            descriptors::REPAIRS.of(self.repairs),
            descriptors::JOIN_LAGGARDS.of(self.join_laggards),
            descriptors::CONTRADICTED.of(self.contradicted),
        ];
        let refused = self.refused.iter().map(refused);
        counters.into_iter().chain(refused).collect()
    }
}

impl Refusal {
    /// Returns `true` if it is about whose record it is.
    pub fn is_of_seals(self) -> bool {
        match self {
            Self::Full | Self::Orphan | Self::Neighbours | Self::Absurd => false,
            Self::Unsealed | Self::Seal | Self::Untrusted | Self::OutOfDate | Self::Identity => {
                true
            }
        }
    }

    /// Returns the refusal in one word, for counters and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "database_full",
            Self::Orphan => "orphan",
            Self::Neighbours => "neighbours",
            Self::Absurd => "absurd",
            Self::Unsealed => "unsealed",
            Self::Seal => "seal",
            Self::Untrusted => "untrusted",
            Self::OutOfDate => "out_of_date",
            Self::Identity => "identity",
        }
    }
}

/// How much a mesh remembers. Each number is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Endpoints in the database, this one included.
    pub endpoints: usize,
    /// Slots of the database, including those that are not in use.
    pub slots: usize,
    /// Cached trees.
    pub cached: usize,
    /// Floods that are remembered.
    pub floods: usize,
    /// Records and endpoints that wait: to be flooded, to join, to be offered, or to come in reach
    /// again.
    pub pending: usize,
}
