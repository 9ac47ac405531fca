//! Who an endpoint is in the mesh, and its settings.

use std::sync::Arc;
use std::time::Duration;

use crate::mesh::database::Limits;
use crate::mesh::seal::Seals;
use crate::{EndpointId, Incarnation};

/// Who an endpoint is in the mesh.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its id, which stands for one life.
    pub id: EndpointId,
    /// Its incarnation, which orders the lives of one name.
    pub incarnation: Incarnation,
    /// Its name among nodes; empty for an endpoint that is no node.
    pub name: String,
    /// Its role.
    pub role: String,
    /// The machine it runs on.
    pub machine: String,
    /// Whether it relays messages of others.
    pub transit: bool,
    /// Whether it may be the home of its peers of version 1, and relay between them and the mesh.
    pub homes: bool,
}

/// The settings of a mesh.
#[derive(Debug, Clone)]
pub struct Config {
    /// The time between two heartbeats.
    pub heartbeat: Duration,
    /// How long a neighbour may be silent before its peering ends.
    pub time_out: Duration,
    /// The bounds of the database.
    pub limits: Limits,
    /// The most entries of the announced filter. If it has more, shorter prefixes are announced.
    pub filter_entries: usize,
    /// What records are sealed with. Records of others without a good seal are then refused; all endpoints of a mesh must
    /// have seals, or none.
    pub seals: Option<Arc<dyn Seals>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            time_out: Duration::from_secs(4),
            limits: Limits::default(),
            filter_entries: crate::mesh::codec::MAX_FILTER_ENTRIES,
            seals: None,
        }
    }
}
