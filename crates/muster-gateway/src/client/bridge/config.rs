//! What a bridge is told, and what is wrong with it.

use muster::StartError;
use muster_wire::{QueueLimits, Topic};

use crate::client::connection::ClientConfig;
use crate::client::url::ServerUrl;

/// Settings of a [`Bridge`](super::Bridge).
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// The server.
    pub url: ServerUrl,
    /// How to present itself there.
    pub client: ClientConfig,
    /// The prefixes of the topics whose events come in from the server.
    pub inward: Vec<String>,
    /// The prefixes of the topics whose events go out to the server.
    pub outward: Vec<String>,
    /// The bounds of what waits for the server, also while it is away; the oldest is dropped, counted.
    pub queue: QueueLimits,
}

/// Why a bridge does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// An event could go round in circles.
    #[error("topics cross a bridge in one direction: `{inward}` comes in, `{outward}` goes out")]
    Loop {
        /// A prefix of topics that come in.
        inward: String,
        /// A prefix of topics that go out, and of some of the same topics.
        outward: String,
    },
    /// Not a topic.
    #[error("`{0}` is no topic prefix")]
    Prefix(String),
    /// The endpoint cannot be taken part in.
    #[error(transparent)]
    Endpoint(#[from] StartError),
}

impl BridgeConfig {
    /// Checks that no topic crosses in both directions, here and together with the other bridges of a
    /// cluster: then no event can go round, whatever the bridges lead to.
    pub fn check(all: &[&Self]) -> Result<(), BridgeError> {
        let inward: Vec<_> = all.iter().flat_map(|config| &config.inward).collect();
        let outward: Vec<_> = all.iter().flat_map(|config| &config.outward).collect();
        Self::check_prefixes(&inward, &outward)
    }

    pub(crate) fn check_prefixes(
        all_inward: &[&String],
        all_outward: &[&String],
    ) -> Result<(), BridgeError> {
        for prefix in all_inward.iter().chain(all_outward) {
            Topic::new(prefix).map_err(|_| BridgeError::Prefix((*prefix).clone()))?;
        }
        for &inward in all_inward {
            let meets = |outward: &&&String| {
                inward.starts_with(outward.as_str()) || outward.starts_with(inward.as_str())
            };
            if let Some(&outward) = all_outward.iter().find(meets) {
                return Err(BridgeError::Loop {
                    inward: inward.clone(),
                    outward: outward.clone(),
                });
            }
        }
        Ok(())
    }
}
