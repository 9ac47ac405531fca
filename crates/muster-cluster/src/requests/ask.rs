//! Who is to be asked what, and who is where.

use std::time::Duration;

use bytes::Bytes;
use muster_data::Timestamp;
use muster_wire::EndpointId;

use crate::hrw::Key;
use crate::layout::{NodeName, PoolName};

/// Where a node is, as the asker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is down, or out by the word of the coordinators.
    Out,
    /// It is in, but out of reach for the moment.
    Away,
    /// It is there, and answers no requests.
    Unable,
    /// It is there, in this life.
    There(EndpointId),
}

/// Who is where.
pub(crate) trait Whereabouts {
    /// Returns where a node is.
    fn standing(&self, node: &NodeName) -> Standing;

    /// Returns the node that owns a key of a pool, if there is one.
    fn owner(&self, pool: &PoolName, key: Key) -> Option<NodeName>;
}

/// A question to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EncodedQuestion {
    /// The name of its type.
    pub(crate) name: &'static str,
    /// It, encoded.
    pub(crate) arguments: Bytes,
    /// The event time at which it is asked, however often it is sent.
    pub(crate) at: Timestamp,
}

/// Who is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Each of these, once.
    Nodes(Vec<NodeName>),
    /// Whoever owns a key of a pool.
    Owner(PoolName, Key),
}

/// A request to be made.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) target: Target,
    pub(crate) question: EncodedQuestion,
    pub(crate) within: Duration,
    /// With so many answers it ends.
    pub(crate) quorum: usize,
}
