//! Broker's stores on the wire: a Muster master that serves Broker's clones, and a clone of Broker's master.
//!
//! The protocol is that of section 7 of the protocol version 1. Both sides speak it without I/O, with the
//! time as an argument, as everything here does. Where they do better than Broker's:
//!
//! - A clone that asks to be attached once more gets a fresh snapshot with a fresh offset.
//! - Keepalives are addressed to each clone, as Broker's ignore those that are not: so the loss of a last event
//!   is noticed.
//! - A clone that was dropped as silent, and has missed nothing that is not kept, is served on.
//! - [`BrokerClone`] follows a master that was started anew, attaches afresh when its master has forgotten it,
//!   and tells of every write what became of it, as far as can be known.
//! - Buffers are bounded, and what a number claims costs nothing.
//!
//! A master answers an endpoint directly, so clone and master have to be on peers of one another.

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

/// The name under which an instance of a store on a Muster endpoint looks for masters of Broker.
pub fn muster_entity(endpoint: muster_wire::EndpointId, instance: u64) -> Entity {
    Entity {
        endpoint,
        instance: MUSTER | (instance & 0xffff_ffff),
    }
}

fn is_muster(entity: Entity) -> bool {
    entity.instance >> 32 == MUSTER >> 32
}
