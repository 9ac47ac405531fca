//! Who an endpoint is in the mesh, and what may be set.

use std::time::Duration;

use crate::mesh::database::Limits;
use crate::{EndpointId, Incarnation};

/// Who an endpoint is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its id: one life.
    pub id: EndpointId,
    /// Which life of its name this is.
    pub incarnation: Incarnation,
    /// Its name among nodes; empty for an endpoint that is no node.
    pub name: String,
    /// Its role.
    pub role: String,
    /// The machine it runs on.
    pub machine: String,
    /// Whether it relays.
    pub transit: bool,
    /// Whether it relays between its peers of version 1 and the mesh, where it is their home.
    pub homes: bool,
}

/// What may be set.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// The time between two heartbeats.
    pub heartbeat: Duration,
    /// A neighbour that says nothing for so long is gone.
    pub time_out: Duration,
    /// What the database holds at most.
    pub limits: Limits,
    /// The entries of the announced filter at most; over it shorter prefixes are announced.
    pub filter_entries: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            time_out: Duration::from_secs(4),
            limits: Limits::default(),
            filter_entries: crate::mesh::codec::MAX_FILTER_ENTRIES,
        }
    }
}
