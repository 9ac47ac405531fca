//! Who asks an agent, and what they may.

use std::fmt;

use axum::extract::Request;
use axum::http::HeaderMap;
use muster_gateway::http::{Caller, ClientCertificate};
use serde::{Deserialize, Serialize};

use super::{FOR, Refusal};
use crate::pki::{Kind, Principal};

/// The longest name of whom a box asks for, in bytes.
const LONGEST_NAME: usize = 256;

/// What whoever asks may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look at states and events.
    Viewer,
    /// Read logs, which tell what the traffic was; restart, stop and start nodes.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Returns the role's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asker {
    role: Option<Role>,
    who: String,
    caller: Option<Caller>,
    principal: Option<Principal>,
}

impl Asker {
    /// Whoever is known by the socket, or by a certificate of the cluster.
    fn new(
        by_socket: Option<Role>,
        caller: Option<Caller>,
        principal: Option<Principal>,
        headers: &HeaderMap,
    ) -> Self {
        let from = caller.map_or_else(|| "nobody".to_owned(), |caller| caller.to_string());
        let role = match (by_socket, &principal) {
            (Some(role), _) => Some(role),
            // A box passes on what it has let a person do.
            (None, Some(principal)) if principal.kind == Kind::Box => Some(Role::Operator),
            _ => None,
        };
        let mut who = match &principal {
            Some(principal) => format!("{principal} at {from}"),
            None => from,
        };
        let is_box = by_socket.is_none() && role.is_some();
        let person = headers.get(FOR).and_then(|name| name.to_str().ok());
        if let Some(person) = person.filter(|name| is_box && name.len() <= LONGEST_NAME) {
            who = format!("{person}, by {who}");
        }
        Self {
            role,
            who,
            caller,
            principal,
        }
    }

    pub(super) fn role(&self) -> Option<Role> {
        self.role
    }

    /// Who it is, for the audit log.
    pub(super) fn who(&self) -> &str {
        &self.who
    }

    pub(super) fn caller(&self) -> Option<Caller> {
        self.caller
    }

    /// Who a certificate says that it is.
    pub(super) fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// Whether another box asks.
    pub(super) fn is_box(&self) -> bool {
        let principal = self.principal.as_ref();
        principal.is_some_and(|principal| principal.kind == Kind::Box)
    }

    /// Refuses whoever has not the role that is needed.
    pub(super) fn need(&self, needed: Role) -> Result<(), Refusal> {
        if self.role >= Some(needed) {
            return Ok(());
        }
        let what = match (self.role, &self.principal) {
            (Some(Role::Viewer), _) => "a viewer".to_owned(),
            (Some(role), _) => format!("an {role}"),
            (None, Some(principal)) => principal.to_string(),
            (None, None) => "who shows no certificate".to_owned(),
        };
        let who_may = match needed {
            Role::Viewer => "viewers",
            Role::Operator => "an operator",
            Role::Admin => "an admin",
        };
        Err(Refusal::forbidden(format!(
            "{what} may not do that, but {who_may} may"
        )))
    }
}

/// Finds out who makes a request, and puts that into it.
pub(super) fn find(by_socket: Option<Role>, mut request: Request) -> Request {
    let extensions = request.extensions();
    let caller = extensions.get::<Caller>().copied();
    let certificate = extensions.get::<ClientCertificate>();
    let principal = certificate.and_then(|shown| Principal::of(&shown.0));
    let asker = Asker::new(by_socket, caller, principal, request.headers());
    request.extensions_mut().insert(asker);
    request
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn principal(kind: Kind) -> Principal {
        Principal {
            cluster: "east".to_owned(),
            kind,
            name: "b".to_owned(),
        }
    }

    #[test]
    fn a_socket_or_a_certificate_gives_a_role_and_a_node_has_none() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        let mut headers = HeaderMap::new();
        headers.insert(FOR, "user 1000".parse().unwrap());
        let address = Some(Caller::Address("192.0.2.2:5".parse().unwrap()));
        let local = Some(Caller::Process { uid: 7, pid: None });
        let viewer = Asker::new(Some(Role::Viewer), local, None, &headers);
        assert!(viewer.need(Role::Viewer).is_ok() && viewer.need(Role::Operator).is_err());
        // For whom somebody asks, only a box is believed.
        assert_eq!(viewer.who(), "user 7");
        let of_box = Asker::new(None, address, Some(principal(Kind::Box)), &headers);
        assert!(of_box.need(Role::Operator).is_ok() && of_box.need(Role::Admin).is_err());
        assert_eq!(
            of_box.who(),
            "user 1000, by muster://east/box/b at 192.0.2.2:5"
        );
        for nobody in [Some(principal(Kind::Node)), None] {
            let asker = Asker::new(None, address, nobody, &headers);
            assert!(asker.need(Role::Viewer).is_err());
            assert!(!asker.who().contains("user 1000"));
        }
    }
}
