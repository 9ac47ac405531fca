//! What the agent's loop is asked, and what it answers.

use muster_gateway::status::ClusterStatus;
use tokio::sync::oneshot;

use super::{Refusal, Role};
use crate::boxes::Renewed;

/// What the agent's loop is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Status,
    /// All certificates are there, and these are new.
    Certified(Vec<Renewed>),
    Change(Change),
}

/// What somebody wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Restart(String),
    Stop(String),
    Start(String),
    StopAll,
    Reopen,
    Reload,
}

impl Change {
    /// Its name, and the node that it is about.
    pub(super) fn name(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Restart(node) => ("restart", Some(node)),
            Self::Stop(node) => ("stop", Some(node)),
            Self::Start(node) => ("start", Some(node)),
            Self::StopAll => ("stop all", None),
            Self::Reopen => ("reopen", None),
            Self::Reload => ("reload", None),
        }
    }

    /// The role that it needs.
    pub(super) fn role(&self) -> Role {
        match self {
            Self::Restart(_) | Self::Stop(_) | Self::Start(_) => Role::Operator,
            Self::StopAll | Self::Reopen | Self::Reload => Role::Admin,
        }
    }
}

/// What the agent's loop answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Response {
    Status(Box<ClusterStatus>),
    Done,
    Noted(String),
}

/// A request with the way back to who asked.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Result<Response, Refusal>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_all_nodes_needs_an_admin() {
        let one = Change::Restart("a".to_owned());
        assert_eq!(
            (one.role(), one.name()),
            (Role::Operator, ("restart", Some("a")))
        );
        for all in [Change::StopAll, Change::Reopen, Change::Reload] {
            assert_eq!((all.role(), all.name().1), (Role::Admin, None));
        }
    }
}
