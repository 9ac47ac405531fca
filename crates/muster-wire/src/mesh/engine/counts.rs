//! What a mesh counts, and how large it is.

use std::collections::BTreeMap;

use crate::counters::Counter;
use crate::mesh::database::Refusal;

/// What happened so far; each under its own name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames of an endpoint that is no neighbour.
    pub not_neighbour: u64,
    /// Transmissions of records to neighbours.
    pub records_sent: u64,
    /// Offers of records to neighbours.
    pub offers: u64,
    /// Floods that came where their tree does not lead.
    pub off_tree: u64,
    /// Exchanges of version lists.
    pub repairs: u64,
    /// Neighbours that did not acknowledge a joining endpoint in time.
    pub join_laggards: u64,
    /// Records not taken, by reason.
    pub refused: BTreeMap<Refusal, u64>,
}

impl Counts {
    /// The counts of the records, by name. Messages are counted where they pass.
    pub fn of_records(&self) -> Vec<Counter> {
        let named = [
            ("mesh_not_neighbour", self.not_neighbour),
            ("mesh_records_sent", self.records_sent),
            ("mesh_offers", self.offers),
            ("mesh_off_tree", self.off_tree),
            ("mesh_repairs", self.repairs),
            ("mesh_join_laggards", self.join_laggards),
        ];
        let refused = self.refused.iter().map(|(refusal, value)| Counter {
            name: "mesh_record_refused",
            labels: vec![("cause", refusal.name().to_owned())],
            value: *value,
        });
        let named = named.into_iter().map(|(name, value)| Counter {
            name,
            labels: Vec::new(),
            value,
        });
        named.chain(refused).collect()
    }
}

impl Refusal {
    /// The refusal in one word, for counters and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "database_full",
            Self::Orphan => "orphan",
            Self::Neighbours => "neighbours",
        }
    }
}

/// How much a mesh remembers; each is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Endpoints in the database.
    pub endpoints: usize,
    /// Slots of the database, those at rest included.
    pub slots: usize,
    /// Cached trees.
    pub cached: usize,
    /// Floods remembered.
    pub floods: usize,
    /// Records that wait to be flooded.
    pub pending: usize,
}
