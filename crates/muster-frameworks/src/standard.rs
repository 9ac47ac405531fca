//! The frameworks that a Muster node runs unless its program chooses others. A new framework needs a file of its own,
//! and a line here.

use muster_cluster::node::Registry;

use crate::log_input::InputCounters;
use crate::zeek::{KnownCerts, Software, ZeekProxy};
use crate::{KnownHosts, KnownServices, Notices, Probe, ScanDetection};

/// Returns a registry with all frameworks of this crate.
pub fn standard() -> Registry {
    Registry::new()
        .with::<KnownHosts>()
        .with::<KnownServices>()
        .with::<ScanDetection>()
        .with::<Notices>()
        .with::<KnownCerts>()
        .with::<Software>()
        .with::<ZeekProxy>()
        .with::<InputCounters>()
        .with::<Probe>()
}
