//! The owner's side of the mesh: one [`Mesh`], and what of its state the routing table was made from.

use std::sync::Arc;
use std::time::Duration;

use muster_wire::EndpointId;
use muster_wire::mesh::{Config, Decision, Identity, Mesh, Routes};

use super::config::{EndpointConfig, Forwarding};

/// A neighbour that hangs is found by its connection's pings, whatever its own settings are: the mesh
/// itself gives nobody up.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

pub(crate) struct MeshPart {
    pub(crate) mesh: Mesh,
    /// What the routing table was made from.
    routes: Option<Arc<Routes>>,
}

impl MeshPart {
    pub(crate) fn new(me: EndpointId, config: &EndpointConfig) -> Self {
        let node = &config.identity;
        let identity = Identity {
            id: me,
            incarnation: node.incarnation,
            name: node.name.clone(),
            role: node.role.clone(),
            machine: node.machine.clone(),
            transit: config.forwarding == Forwarding::Relay,
        };
        let mut mesh = Config {
            time_out: NEVER,
            ..Config::default()
        };
        if !config.heartbeat.interval.is_zero() {
            mesh.heartbeat = config.heartbeat.interval;
        }
        Self {
            mesh: Mesh::new(identity, mesh),
            routes: None,
        }
    }

    /// Where messages go now, if that is not what the routing table was made from.
    pub(crate) fn changed_routes(&mut self) -> Option<Arc<Routes>> {
        let routes = self.mesh.routes();
        let is_known = self.routes.as_ref();
        if is_known.is_some_and(|known| Arc::ptr_eq(known, &routes)) {
            return None;
        }
        self.routes = Some(Arc::clone(&routes));
        Some(routes)
    }

    /// Where the routing table's messages go.
    pub(crate) fn routes(&mut self) -> Arc<Routes> {
        self.changed_routes();
        let routes = self.routes.clone();
        routes.unwrap_or_else(|| self.mesh.routes())
    }

    pub(crate) fn poll(&mut self) -> Option<Decision> {
        self.mesh.poll()
    }
}
