//! Operators: people who ask agents from afar, by a certificate or a token.

use std::time::Duration;

use openssl::x509::X509;
use serde::{Deserialize, Serialize};

use super::{Desk, failed};
use crate::api::{Refusal, RefusalKind, Role};
use crate::journal::now;
use crate::pki::{self, Kind, Principal};
use crate::roster::{self, Keeper, NotChanged, Operator, Proof, Roster, RosterRefusal};
use crate::token::{Token, TokenKind};

/// The longest time that an operator's certificate or token is valid.
const LONGEST_TTL: Duration = Duration::from_secs(366 * 86_400);

/// A request for a new operator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct OperatorRequest {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) ttl_seconds: u64,
    /// A request for a certificate, as PEM. Without it they get a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<String>,
    /// Whether what they had before ends.
    #[serde(default)]
    pub(crate) replace: bool,
}

/// What they get: one of both.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct OperatorAnswer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The certificate of the authority, by which agents are known.
    pub(crate) authority: String,
    /// What whoever asked should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// An operator, as others may see them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KnownOperator {
    /// The name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// By what they are known: `certificate` or `token`.
    pub by: String,
    /// When they were added, in seconds since 1970.
    pub added: f64,
    /// When their certificate or token ends, in seconds since 1970.
    pub ends: f64,
}

/// The operators of a roster.
pub(crate) fn known(roster: &Roster) -> Vec<KnownOperator> {
    let operators = roster.operators.iter();
    let known = operators.map(|(name, operator)| KnownOperator {
        name: name.clone(),
        role: operator.role,
        by: match operator.proof {
            Proof::Certificate(_) => "certificate",
            Proof::Token { .. } => "token",
        }
        .to_owned(),
        added: operator.added,
        ends: operator.ends,
    });
    known.collect()
}

impl Desk {
    /// Adds an operator: signs their request for a certificate, or makes a token.
    pub(crate) fn add_operator(
        &self,
        request: &OperatorRequest,
        keeper: &Keeper,
    ) -> Result<OperatorAnswer, Refusal> {
        let name = &request.name;
        let ttl = Duration::from_secs(request.ttl_seconds);
        if ttl.is_zero() || ttl > LONGEST_TTL {
            let text = "an operator's certificate or token is valid for 1 to 366 days";
            return Err(Refusal::malformed(text));
        }
        // Nothing is signed for whom the roster does not take.
        keeper
            .roster()
            .check_new(name, request.replace)
            .map_err(|refused| refusal(&refused))?;
        let mut answer = OperatorAnswer {
            authority: self.authority.pem().map_err(|error| failed(&error))?,
            ..OperatorAnswer::default()
        };
        let proof = if let Some(request) = &request.request {
            let (certificate, proof) = self.certify(name, request, ttl)?;
            answer.certificate = Some(certificate);
            proof
        } else {
            let (token, proof) = self.operator_token()?;
            answer.token = Some(token);
            proof
        };
        let now = now();
        let operator = Operator {
            role: request.role,
            proof,
            added: now,
            ends: now + ttl.as_secs_f64(),
        };
        let added = keeper.change(&self.authority, |roster| {
            roster.add(name, operator, request.replace)
        });
        added.map_err(|error| not_changed(&error))?;
        Ok(answer)
    }

    fn certify(
        &self,
        name: &str,
        request: &str,
        ttl: Duration,
    ) -> Result<(String, Proof), Refusal> {
        let principal = Principal {
            cluster: self.file.cluster.clone(),
            kind: Kind::Operator,
            name: name.to_owned(),
        };
        let signed = self.authority.sign(request, &principal, &[], ttl);
        let signed = signed.map_err(|error| Refusal::malformed(error.to_string()))?;
        let certificate = X509::from_pem(signed.as_bytes());
        let certificate = certificate.map_err(|error| failed(&error))?;
        let serial = pki::serial_of(&certificate).map_err(|error| failed(&error))?;
        Ok((signed, Proof::Certificate(serial)))
    }

    fn operator_token(&self) -> Result<(String, Proof), Refusal> {
        let mut random = [0; 40];
        openssl::rand::rand_bytes(&mut random).map_err(|error| failed(&error))?;
        let authority = self.authority.fingerprint();
        let authority = authority.map_err(|error| failed(&error))?;
        let token = Token::from_random(TokenKind::Operator, authority, &random);
        let proof = Proof::Token {
            id: token.id.clone(),
            secret: roster::secret_hash(&token),
        };
        Ok((token.to_string(), proof))
    }

    /// Removes an operator: from now on their certificate or token is of no use.
    pub(crate) fn remove_operator(&self, name: &str, keeper: &Keeper) -> Result<(), Refusal> {
        let removed = keeper.change(&self.authority, |roster| roster.remove(name));
        removed.map_err(|error| not_changed(&error))
    }
}

fn not_changed(error: &NotChanged) -> Refusal {
    match error {
        NotChanged::Refused(refused) => refusal(refused),
        error => failed(error),
    }
}

fn refusal(refused: &RosterRefusal) -> Refusal {
    let kind = match refused {
        RosterRefusal::Name => RefusalKind::Malformed,
        RosterRefusal::Missing(_) => RefusalKind::Unknown,
        _ => RefusalKind::Conflict,
    };
    Refusal::new(kind, refused.to_string())
}
