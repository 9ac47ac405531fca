//! Broker's stores on the wire: a Muster master that serves Broker's clones, and a clone of Broker's master.
//!
//! The protocol is that of section 7 of the protocol version 1. Both sides speak it without I/O, with the
//! time as an argument, as everything here does.

mod channel;
mod codec;

pub use codec::{Command, CommandError, Content, EVERYBODY, Entity};
