//! One request that is open.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_wire::{EndpointId, Mono};

use super::ask::EncodedQuestion;
use super::error::RequestErrorKind;
use super::outcome::Outcome;
use crate::hrw::Key;
use crate::layout::{NodeName, PoolName};

/// A request, and how far it is.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) question: EncodedQuestion,
    pub(super) deadline: Mono,
    pub(super) quorum: usize,
    /// If whoever owns a key is asked.
    pub(super) key: Option<(PoolName, Key)>,
    /// Those that have not answered.
    pub(super) asked: BTreeMap<NodeName, Place>,
    /// The former owners of the key that were asked, and the numbers under which they would be asked again.
    pub(super) former: BTreeMap<EndpointId, u64>,
    pub(super) outcome: Outcome,
    pub(super) bytes: usize,
}

/// How far it is with a node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// It is in, but has not been seen yet.
    Waiting,
    /// It was asked.
    Sent(Sent),
}

/// A question that was sent to a life of a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) to: EndpointId,
    pub(super) number: u64,
    pub(super) again: Mono,
    /// How long it was waited before.
    pub(super) waited: Duration,
    pub(super) is_away: bool,
}

impl Place {
    /// Why the node is missing if it is not waited for any more, and `kind` if it was asked.
    pub(super) fn missing(self, kind: RequestErrorKind) -> RequestErrorKind {
        match self {
            Self::Waiting => RequestErrorKind::Nobody,
            Self::Sent(_) => kind,
        }
    }
}

impl Open {
    /// A life of a node is waited for under this number.
    pub(super) fn is_asked(&self, node: &NodeName, life: EndpointId, number: u64) -> bool {
        let place = self.asked.get(node);
        matches!(place, Some(Place::Sent(sent)) if sent.to == life && sent.number == number)
    }

    /// Nobody is asked, and nobody has said anything.
    pub(super) fn is_unasked(&self) -> bool {
        let outcome = &self.outcome;
        self.asked.is_empty() && outcome.answers.is_empty() && outcome.missing.is_empty()
    }
}
