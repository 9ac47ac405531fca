//! What a process of a measurement does.

use serde::{Deserialize, Serialize};

use crate::{Layout, Payload, Plan, Traffic};

/// The job of one process of a measurement, as given on its command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "snake_case")]
pub enum Job {
    /// Receive, and count.
    Subscribe {
        /// The engine.
        engine: String,
        /// The address of the engine's server, if it has one.
        hub: Option<String>,
        /// What is received.
        traffic: Traffic,
    },
    /// Send as fast as possible.
    Publish {
        /// The engine.
        engine: String,
        /// The addresses of the subscribers.
        addresses: Vec<String>,
        /// What to send.
        traffic: Traffic,
        /// For how many seconds.
        seconds: f64,
    },
    /// Send back what is received.
    Echo {
        /// The engine.
        engine: String,
        /// The address of the engine's server, if it has one.
        hub: Option<String>,
    },
    /// Send at a pace, and time the answers.
    Probe {
        /// The engine.
        engine: String,
        /// The address of the echo.
        address: String,
        /// The pace.
        plan: Plan,
    },
    /// Be a Muster endpoint with peers and no work, and report what that costs.
    Idle {
        /// The number of peers to wait for.
        peers: u32,
        /// For how many seconds to measure.
        seconds: f64,
    },
    /// Be many endpoints that are peers of one.
    Crowd {
        /// The address of that one.
        address: String,
        /// The number of endpoints.
        endpoints: u32,
    },
    /// Be the subscriber at the end of a chain.
    Last {
        /// What is received.
        payload: Payload,
    },
    /// Be a relay of a chain.
    Relay {
        /// The address of the next endpoint of the chain.
        next: String,
    },
    /// Be the publisher at the beginning of a chain.
    First {
        /// The address of the next endpoint of the chain.
        next: String,
        /// The number of the other endpoints of the chain.
        others: u32,
        /// What to send.
        payload: Payload,
        /// For how many seconds.
        seconds: f64,
        /// Whether to keep to what the subscriber has seen.
        paced: bool,
    },
    /// Be all endpoints of a mesh, until each knows all others.
    Start(Layout),
    /// Run a program, and end it when told to, or when the measuring process is gone.
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
