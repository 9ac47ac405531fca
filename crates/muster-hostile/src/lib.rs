//! What every reader of foreign bytes must withstand. There is one function per reader, which
//! panics if a rule is broken. The fuzz targets in `fuzz/` call them, and so does a bounded test
//! that runs with all others, on random bytes and on altered captures.
//!
//! The rules are: no input makes a reader panic; what was read and written again reads the same;
//! and what comes of an input is bounded by the size of the input.
//!
//! A new reader gets a function here, a line in [`TARGETS`], and a file of that name in
//! `fuzz/fuzz_targets/`.
//!
//! # Example
//!
//! ```
//! for target in muster_hostile::TARGETS {
//!     (target.run)(b"");
//!     (target.run)(&[0xff; 64]);
//!     for seed in muster_hostile::seeds(target.name).iter().take(3) {
//!         (target.run)(&seed[..seed.len() / 2]);
//!     }
//! }
//! ```

mod agent;
mod broker_stores;
mod compression;
mod consensus;
mod coordination;
mod handshake;
mod json;
mod mesh;
mod register;
mod seeds;
mod spool;
mod stores;
mod values;
mod wire;
mod zeek;

pub use agent::agent;
pub use broker_stores::broker_stores;
pub use compression::compression;
pub use consensus::consensus;
pub use coordination::coordination;
pub use handshake::handshake;
pub use json::json;
pub use mesh::mesh;
pub use register::register;
pub use seeds::seeds;
pub use spool::spool;
pub use stores::stores;
pub use values::{text, values};
pub use wire::{envelopes, filters, frames};
pub use zeek::{serial, zeek};

/// A reader under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its fuzz target.
    pub name: &'static str,
    /// Reads the bytes. It panics if a rule is broken.
    pub run: fn(&[u8]),
}

/// Every reader.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frames",
        run: frames,
    },
    Target {
        name: "handshake",
        run: handshake,
    },
    Target {
        name: "envelopes",
        run: envelopes,
    },
    Target {
        name: "mesh",
        run: mesh,
    },
    Target {
        name: "compression",
        run: compression,
    },
    Target {
        name: "stores",
        run: stores,
    },
    Target {
        name: "broker_stores",
        run: broker_stores,
    },
    Target {
        name: "filters",
        run: filters,
    },
    Target {
        name: "values",
        run: values,
    },
    Target {
        name: "text",
        run: text,
    },
    Target {
        name: "json",
        run: json,
    },
    Target {
        name: "zeek",
        run: zeek,
    },
    Target {
        name: "serial",
        run: serial,
    },
    Target {
        name: "agent",
        run: agent,
    },
    Target {
        name: "consensus",
        run: consensus,
    },
    Target {
        name: "coordination",
        run: coordination,
    },
    Target {
        name: "register",
        run: register,
    },
    Target {
        name: "spool",
        run: spool,
    },
];
