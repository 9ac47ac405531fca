//! Broker's stores on the wire: a Muster primary that serves Broker's clones, and a clone of
//! Broker's master.
//!
//! The protocol is that of section 7 of protocol version 1. Both sides speak it without I/O and
//! with the time as an argument, as all of this crate does. They do better than Broker's in these
//! points:
//!
//! - A clone that asks to be attached once more gets a fresh snapshot with a fresh offset.
//! - Keepalives are addressed to each clone, because Broker's ignore those that are not. So the
//!   loss of a last event is noticed.
//! - A clone that was dropped as silent continues to be served, if it has missed nothing that is no
//!   longer kept.
//! - [`BrokerClone`] follows a master that was started anew, attaches again when its master has
//!   forgotten it, and reports the outcome of every write, as far as it can be known.
//! - Buffers are bounded, and a claimed number costs nothing.
//!
//! A master answers an endpoint directly, so clone and master must be on endpoints that are peers.

mod channel;
mod clone;
mod clones;
mod codec;
mod pending;
#[cfg(test)]
mod simulation;
mod translation;

pub use clone::BrokerClone;
pub use clones::{BrokerClones, Snapshot};
pub use codec::{BrokerCommand, CommandError, Content, EVERYBODY, Entity};

/// In the upper half of an instance: a clone of Muster, which a Muster master serves by Muster's protocol.
const MUSTER: u64 = 0x4d75_7374 << 32;

/// Returns the name under which an instance of a store on a Muster endpoint looks for masters of
/// Broker.
pub fn muster_entity(endpoint: muster_wire::EndpointId, instance: u64) -> Entity {
    Entity {
        endpoint,
        instance: MUSTER | (instance & 0xffff_ffff),
    }
}

fn is_muster(entity: Entity) -> bool {
    entity.instance >> 32 == MUSTER >> 32
}
