//! What a process of a measurement does.

use serde::{Deserialize, Serialize};

use crate::{Layout, Payload, Plan, Traffic};

/// What a process of a measurement does, as it is told on its command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "snake_case")]
pub enum Job {
    /// Receive, and count.
    Subscribe {
        /// By this engine.
        engine: String,
        /// Where the engine's server is, if it has one.
        hub: Option<String>,
        /// What comes.
        traffic: Traffic,
    },
    /// Send as fast as it goes.
    Publish {
        /// By this engine.
        engine: String,
        /// Where the subscribers are.
        addresses: Vec<String>,
        /// What to send.
        traffic: Traffic,
        /// For how long.
        seconds: f64,
    },
    /// Send back what comes.
    Echo {
        /// By this engine.
        engine: String,
        /// Where the engine's server is, if it has one.
        hub: Option<String>,
    },
    /// Send at a pace, and time the answers.
    Probe {
        /// By this engine.
        engine: String,
        /// Where the echo is.
        address: String,
        /// The pace.
        plan: Plan,
    },
    /// Be an endpoint of Muster with so many peers, and tell what that costs.
    Idle {
        /// The peers to wait for.
        peers: u32,
        /// How long to look.
        seconds: f64,
    },
    /// Be so many endpoints, peers of the one at the address.
    Crowd {
        /// Where it is.
        address: String,
        /// How many.
        endpoints: u32,
    },
    /// Be the subscriber at the end of a chain.
    Last {
        /// What comes.
        payload: Payload,
    },
    /// Be a relay of a chain.
    Relay {
        /// Where the next of the chain is.
        next: String,
    },
    /// Be the publisher at the beginning of a chain.
    First {
        /// Where the next of the chain is.
        next: String,
        /// The others of the chain.
        others: u32,
        /// What to send.
        payload: Payload,
        /// For how long.
        seconds: f64,
        /// Whether to wait for what the subscriber has seen.
        paced: bool,
    },
    /// Be all endpoints of a mesh, until each knows all.
    Start(Layout),
    /// Run a program, and end it when told to or left alone.
    Guard {
        /// The program.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
}

impl Job {
    /// What it is called in a failure.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Subscribe { .. } => "a subscriber",
            Self::Publish { .. } => "the publisher",
            Self::Echo { .. } => "the echo",
            Self::Probe { .. } => "the probe",
            Self::Idle { .. } => "the idle endpoint",
            Self::Crowd { .. } => "the crowd of peers",
            Self::Last { .. } => "the chain's subscriber",
            Self::Relay { .. } => "a relay",
            Self::First { .. } => "the chain's publisher",
            Self::Start(_) => "the mesh",
            Self::Guard { program, .. } => program,
        }
    }
}
