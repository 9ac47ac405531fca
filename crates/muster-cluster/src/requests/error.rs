//! Why a request has no answer.

use std::fmt;

use muster_data::ConvertError;

use crate::layout::NodeName;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    kind: RequestErrorKind,
    node: Option<NodeName>,
}

/// Why a node has not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestErrorKind {
    /// The node is down or out, or it could not be reached before the deadline: it was sent nothing. Without a node: no member of the
    /// pool or role is there.
    #[error("nobody is there to ask")]
    Nobody,
    /// As many requests of this node are open as there may be.
    #[error("too many requests of this node are open")]
    TooMany,
    /// The question is larger than a message may be.
    #[error("the question is larger than a message may be")]
    TooLarge,
    /// This node stops, and asks nobody any more.
    #[error("this node stops, and asks nobody any more")]
    Stopping,
    /// The node is a Zeek process, or of a release that answers no requests.
    #[error("the node is a Zeek process, or of a release that answers no requests")]
    Unable,
    /// No framework of the node answers this question.
    #[error("no framework of the node answers this question")]
    NoHandler,
    /// A framework of the node answers a question of this name with other fields.
    #[error("the node takes this question with other fields")]
    WrongQuestion,
    /// The question was sent, and no answer has come by the deadline.
    #[error("no answer by the deadline")]
    NoAnswer,
    /// The question was sent, and then the node was down or out.
    #[error("the node is gone")]
    Gone,
    /// Enough other nodes had answered before.
    #[error("enough others had answered before")]
    NotAwaited,
    /// This node has stopped before an answer came.
    #[error("this node has stopped before an answer came")]
    Stopped,
    /// The handler of the question has panicked.
    #[error("its handler has panicked")]
    Panicked,
    /// The node has handled the question, and no longer knows the answer.
    #[error("the node no longer knows its answer")]
    Forgotten,
    /// The answer is larger than a message may be, or than this node has room for.
    #[error("the answer is too large")]
    AnswerTooLarge,
    /// The answer is of another type.
    #[error("the answer is of another type: {0}")]
    WrongAnswer(ConvertError),
}

impl RequestErrorKind {
    /// Returns `false` if it is certain that no node has handled the question. Otherwise one may have: to ask once more can have it
    /// handled twice.
    pub fn may_have_been_handled(&self) -> bool {
        match self {
            Self::Nobody
            | Self::TooMany
            | Self::TooLarge
            | Self::Stopping
            | Self::Unable
            | Self::NoHandler
            | Self::WrongQuestion => false,
            Self::NoAnswer
            | Self::Gone
            | Self::NotAwaited
            | Self::Stopped
            | Self::Panicked
            | Self::Forgotten
            | Self::AnswerTooLarge
            | Self::WrongAnswer(_) => true,
        }
    }
}

impl RequestError {
    pub(crate) fn new(kind: RequestErrorKind, node: Option<NodeName>) -> Self {
        Self { kind, node }
    }

    /// Returns why.
    pub fn kind(&self) -> &RequestErrorKind {
        &self.kind
    }

    /// Returns the node that was asked last, or was to be asked. `None` if there was none.
    pub fn node(&self) -> Option<&NodeName> {
        self.node.as_ref()
    }

    /// Returns `false` if it is certain that no node has handled the question: see
    /// [`RequestErrorKind::may_have_been_handled`].
    pub fn may_have_been_handled(&self) -> bool {
        self.kind.may_have_been_handled()
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "request to {node}: {}", self.kind),
            None => write!(f, "request: {}", self.kind),
        }
    }
}

impl std::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            RequestErrorKind::WrongAnswer(error) => Some(error),
            _ => None,
        }
    }
}
