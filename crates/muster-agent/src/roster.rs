//! Whom the agents of a cluster know besides its boxes and nodes: the operators. And which certificates of boxes they take no
//! more.
//!
//! The box of the authority makes the roster, signs it and tells it to the others, who tell it to one another: whoever has an
//! older one takes the later, from whomever it comes. An operator is known as long as the roster has them, so that nothing
//! has to be remembered of those who were removed.

mod keeper;
mod spread;

use std::collections::BTreeMap;

use openssl::sha::sha256;
use serde::{Deserialize, Serialize};

pub(crate) use self::keeper::{Keeper, NotChanged, SignedRoster};
pub(crate) use self::spread::{LaterRoster, keep_up, spread, take};
use crate::api::Role;
use crate::pki::{CERTIFICATE_DAYS, hexadecimal};
use crate::token::Token;

/// The most operators.
pub(crate) const MOST_OPERATORS: usize = 500;

/// The most boxes whose earlier certificates are refused.
const MOST_FORGOTTEN: usize = 500;

/// The longest name of an operator, in bytes: that of a certificate's common name.
const LONGEST_NAME: usize = 64;

/// How long operators are shown whose certificate or token has ended, in seconds.
const SHOWN_AFTER: f64 = 7.0 * 86_400.0;

/// Checks the name of an operator.
///
/// # Errors
///
/// Says what a name has, if this is none.
pub fn check_operator_name(name: &str) -> Result<(), String> {
    Roster::check_name(name).map_err(|refusal| refusal.to_string())
}

/// By what an operator is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Proof {
    /// A certificate with this serial number, in hexadecimal digits.
    Certificate(String),
    /// A token: its id, and the SHA-256 of its secret.
    Token { id: String, secret: String },
}

/// An operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Operator {
    pub(crate) role: Role,
    pub(crate) proof: Proof,
    /// When they were added, in seconds since 1970.
    pub(crate) added: f64,
    /// When the certificate or token ends.
    pub(crate) ends: f64,
}

/// Why an operator cannot be added or removed, or a box forgotten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RosterRefusal {
    #[error(
        "an operator's name has 1 to {LONGEST_NAME} ASCII letters, digits, and the characters _ . -"
    )]
    Name,
    #[error(
        "there is an operator {0} already: --replace gives them a new certificate or token, and ends the old one"
    )]
    There(String),
    #[error("there is no operator {0}")]
    Missing(String),
    #[error("there are {MOST_OPERATORS} operators already")]
    Full,
    #[error("too many boxes were forgotten in the last 90 days")]
    TooManyForgotten,
}

/// Why somebody is not known by what they show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    #[error("was removed, or this box has not heard of it yet")]
    Removed,
    #[error("has ended")]
    Ended,
}

/// The operators of a cluster, and the boxes that were forgotten.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Roster {
    pub(crate) cluster: String,
    /// Of two the higher is the later: milliseconds since 1970, or one more than the version before.
    pub(crate) version: u64,
    pub(crate) operators: BTreeMap<String, Operator>,
    /// Certificates of these boxes are not taken that were made until then, in whole seconds since 1970.
    #[serde(default)]
    pub(crate) forgotten: BTreeMap<String, i64>,
}

impl Roster {
    fn check_name(name: &str) -> Result<(), RosterRefusal> {
        // A name is part of a path.
        let is_path = matches!(name, "." | "..");
        let is_good = name.len() <= LONGEST_NAME && muster_cluster::NodeName::new(name).is_ok();
        (is_good && !is_path)
            .then_some(())
            .ok_or(RosterRefusal::Name)
    }

    /// Refuses a name that cannot be added, with what is known of it.
    pub(crate) fn check_new(&self, name: &str, replaces: bool) -> Result<(), RosterRefusal> {
        Self::check_name(name)?;
        let is_there = self.operators.contains_key(name);
        if is_there && !replaces {
            return Err(RosterRefusal::There(name.to_owned()));
        }
        if !is_there && self.operators.len() >= MOST_OPERATORS {
            return Err(RosterRefusal::Full);
        }
        Ok(())
    }

    /// Adds an operator, or gives them another certificate or token.
    pub(crate) fn add(
        &mut self,
        name: &str,
        operator: Operator,
        replaces: bool,
    ) -> Result<(), RosterRefusal> {
        self.check_new(name, replaces)?;
        self.operators.insert(name.to_owned(), operator);
        Ok(())
    }

    pub(crate) fn remove(&mut self, name: &str) -> Result<(), RosterRefusal> {
        let removed = self.operators.remove(name);
        removed
            .map(drop)
            .ok_or_else(|| RosterRefusal::Missing(name.to_owned()))
    }

    /// From now on only certificates of this box are taken that are made later.
    pub(crate) fn forget(&mut self, name: &str, now: f64) -> Result<(), RosterRefusal> {
        let is_there = self.forgotten.contains_key(name);
        if !is_there && self.forgotten.len() >= MOST_FORGOTTEN {
            return Err(RosterRefusal::TooManyForgotten);
        }
        self.forgotten.insert(name.to_owned(), seconds(now));
        Ok(())
    }

    /// Makes it a later one, without what is of no more use.
    pub(crate) fn advance(&mut self, now: f64) {
        self.operators
            .retain(|_, operator| operator.ends + SHOWN_AFTER > now);
        let life = i64::from(CERTIFICATE_DAYS + 1) * 86_400;
        self.forgotten
            .retain(|_, until| until.saturating_add(life) > seconds(now));
        let version = std::time::Duration::try_from_secs_f64(now).unwrap_or_default();
        let version = u64::try_from(version.as_millis()).unwrap_or(u64::MAX);
        self.version = version.max(self.version.saturating_add(1));
    }

    /// Returns what somebody may do who has a certificate of this name and serial number.
    pub(crate) fn by_certificate(
        &self,
        name: &str,
        serial: &str,
        now: f64,
    ) -> Result<Role, Unknown> {
        let operator = self.operators.get(name).ok_or(Unknown::Removed)?;
        match &operator.proof {
            Proof::Certificate(known) if known == serial => {}
            _ => return Err(Unknown::Removed),
        }
        operator.role_at(now)
    }

    /// Returns who shows a token, and what they may do.
    pub(crate) fn by_token(&self, token: &Token, now: f64) -> Result<(&str, Role), Unknown> {
        let shown = secret_hash(token);
        let is_it = |proof: &Proof| match proof {
            Proof::Token { id, secret } => {
                *id == token.id && openssl::memcmp::eq(shown.as_bytes(), secret.as_bytes())
            }
            Proof::Certificate(_) => false,
        };
        let mut operators = self.operators.iter();
        let found = operators.find(|(_, operator)| shown.len() == 64 && is_it(&operator.proof));
        let (name, operator) = found.ok_or(Unknown::Removed)?;
        Ok((name, operator.role_at(now)?))
    }

    /// Whether a certificate of a box is taken, by the time at which it was made.
    pub(crate) fn takes_box(&self, name: &str, made: i64) -> bool {
        self.forgotten.get(name).is_none_or(|until| made > *until)
    }

    /// When a certificate of a box has to have been made that is taken, at the earliest.
    pub(crate) fn box_from(&self, name: &str) -> Option<i64> {
        self.forgotten
            .get(name)
            .map(|until| until.saturating_add(1))
    }
}

impl Operator {
    fn role_at(&self, now: f64) -> Result<Role, Unknown> {
        if self.ends > now {
            return Ok(self.role);
        }
        Err(Unknown::Ended)
    }
}

/// The SHA-256 of a token's secret, in hexadecimal digits.
pub(crate) fn secret_hash(token: &Token) -> String {
    hexadecimal(&sha256(token.secret.as_bytes()))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a time that is too far away is the last one there is"
)]
fn seconds(time: f64) -> i64 {
    time.floor() as i64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::token::TokenKind;

    fn operator(proof: Proof) -> Operator {
        Operator {
            role: Role::Operator,
            proof,
            added: 1000.0,
            ends: 2000.0,
        }
    }

    fn by_serial(serial: &str) -> Operator {
        operator(Proof::Certificate(serial.to_owned()))
    }

    #[test]
    fn an_operator_is_known_by_one_certificate_until_it_ends_or_they_are_removed() {
        let mut roster = Roster::default();
        roster.add("alice", by_serial("01"), false).unwrap();
        assert_eq!(
            roster.by_certificate("alice", "01", 1500.0),
            Ok(Role::Operator)
        );
        for (name, serial) in [("alice", "02"), ("bob", "01")] {
            let known = roster.by_certificate(name, serial, 1500.0);
            assert_eq!(known, Err(Unknown::Removed), "{name} {serial}");
        }
        let late = roster.by_certificate("alice", "01", 2000.0);
        assert_eq!(late, Err(Unknown::Ended));
        let again = roster.add("alice", by_serial("02"), false).unwrap_err();
        assert!(again.to_string().contains("--replace"), "{again}");
        roster.add("alice", by_serial("02"), true).unwrap();
        assert!(roster.by_certificate("alice", "01", 1500.0).is_err());
        assert!(roster.by_certificate("alice", "02", 1500.0).is_ok());
        roster.remove("alice").unwrap();
        assert!(roster.by_certificate("alice", "02", 1500.0).is_err());
        let missing = RosterRefusal::Missing("alice".to_owned());
        assert_eq!(roster.remove("alice"), Err(missing));
    }

    #[test]
    fn a_token_is_known_by_its_secret() {
        let token = Token::from_random(TokenKind::Operator, "ab".repeat(32), &[7; 40]);
        let mut roster = Roster::default();
        let proof = Proof::Token {
            id: token.id.clone(),
            secret: secret_hash(&token),
        };
        roster.add("bob", operator(proof), false).unwrap();
        let known = roster.by_token(&token, 1500.0);
        assert_eq!(known, Ok(("bob", Role::Operator)));
        assert_eq!(roster.by_token(&token, 2500.0), Err(Unknown::Ended));
        let forged = Token {
            secret: "0".repeat(64),
            ..token.clone()
        };
        assert_eq!(roster.by_token(&forged, 1500.0), Err(Unknown::Removed));
        // A certificate of that name is another matter.
        assert!(roster.by_certificate("bob", "", 1500.0).is_err());
        assert!(
            !serde_json::to_string(&roster)
                .unwrap()
                .contains(&token.secret)
        );
    }

    #[test]
    fn names_and_numbers_are_bounded() {
        let mut roster = Roster::default();
        for wrong in ["", ".", "..", "a/b", "a b", "\u{e9}", &"a".repeat(65)] {
            let refused = roster.add(wrong, by_serial("01"), false);
            assert_eq!(refused, Err(RosterRefusal::Name), "{wrong}");
        }
        for number in 0..MOST_OPERATORS {
            let name = format!("o{number}");
            roster.add(&name, by_serial("01"), false).unwrap();
        }
        let full = roster.add("one-more", by_serial("01"), false);
        assert_eq!(full, Err(RosterRefusal::Full));
        assert!(roster.add("o3", by_serial("02"), true).is_ok());
        for number in 0..MOST_FORGOTTEN {
            roster.forget(&format!("b{number}"), 1000.0).unwrap();
        }
        assert!(roster.forget("one-more", 1000.0).is_err());
        assert!(roster.forget("b7", 1001.0).is_ok());
        // The whole of it fits into the body of a request.
        assert!(serde_json::to_vec(&roster).unwrap().len() < 1 << 18);
    }

    #[test]
    fn a_box_that_was_forgotten_needs_a_later_certificate() {
        let mut roster = Roster::default();
        assert!(roster.takes_box("b", 0) && roster.box_from("b").is_none());
        roster.forget("b", 1000.9).unwrap();
        assert!(!roster.takes_box("b", 1000) && roster.takes_box("b", 1001));
        assert!(roster.takes_box("c", 0));
        assert_eq!(roster.box_from("b"), Some(1001));
    }

    #[test]
    fn what_is_of_no_more_use_goes_and_versions_only_rise() {
        let mut roster = Roster::default();
        roster.add("alice", by_serial("01"), false).unwrap();
        roster.forget("b", 1000.0).unwrap();
        roster.advance(2001.5);
        assert_eq!(roster.version, 2_001_500);
        assert!(!roster.operators.is_empty() && !roster.forgotten.is_empty());
        // The clock went back.
        roster.advance(1000.0);
        assert_eq!(roster.version, 2_001_501);
        roster.advance(100.0 * 86_400.0);
        assert!(roster.operators.is_empty() && roster.forgotten.is_empty());
    }
}
