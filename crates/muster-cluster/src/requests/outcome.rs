//! What became of a request.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::ask::Target;
use super::error::{RequestError, RequestErrorKind};
use crate::layout::NodeName;

/// What became of a request: every node that was asked is in one of the lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// By name, each with its answer, encoded.
    pub(crate) answers: Vec<(NodeName, Bytes)>,
    /// By name.
    pub(crate) missing: Vec<(NodeName, RequestErrorKind)>,
    /// Why nobody in particular has answered.
    pub(crate) unasked: Option<RequestErrorKind>,
}

impl Outcome {
    /// Nobody was asked.
    pub(crate) fn unasked(target: &Target, kind: RequestErrorKind) -> Self {
        let mut outcome = Self::default();
        match target {
            Target::Nodes(nodes) if !nodes.is_empty() => {
                let nodes: BTreeSet<&NodeName> = nodes.iter().collect();
                let missing = nodes.into_iter().map(|node| (node.clone(), kind.clone()));
                outcome.missing.extend(missing);
            }
            Target::Nodes(_) | Target::Owner(..) => outcome.unasked = Some(kind),
        }
        outcome
    }

    /// The outcome where one node was asked.
    pub(crate) fn single(self) -> Result<(NodeName, Bytes), RequestError> {
        if let Some(answer) = self.answers.into_iter().next() {
            return Ok(answer);
        }
        let missing = self.missing.into_iter().next();
        Err(match missing {
            Some((node, kind)) => RequestError::new(kind, Some(node)),
            None => RequestError::new(self.unasked.unwrap_or(RequestErrorKind::Nobody), None),
        })
    }
}
