//! Tokens that let a box join, `muster1.AUTHORITY.ID.SECRET`, and those of operators, `musterop1.AUTHORITY.ID.SECRET`.
//!
//! A token carries the SHA-256 of the authority's certificate, so that whoever shows it tells the secret to nobody else.
//! Agents keep a hash of the secret alone. One that lets a box join is used once.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use openssl::sha::sha256;
use serde::{Deserialize, Serialize};

use crate::launch::write_whole;
use crate::pki::hexadecimal;

/// The most tokens that are kept; of those that are used or have expired the oldest go first.
const MOST: usize = 200;

/// The longest time that a token is valid.
pub(crate) const LONGEST_TTL: Duration = Duration::from_secs(30 * 86_400);

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A box joins with it.
    Join,
    /// An operator shows it.
    Operator,
}

impl TokenKind {
    /// What it begins with.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Join => "muster1",
            Self::Operator => "musterop1",
        }
    }
}

/// A token, as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    /// The SHA-256 of the authority's certificate, in hexadecimal digits.
    pub(crate) authority: String,
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Token {
    /// Makes one of random bytes.
    pub(crate) fn from_random(kind: TokenKind, authority: String, random: &[u8; 40]) -> Self {
        Self {
            kind,
            authority,
            id: hexadecimal(&random[..8]),
            secret: hexadecimal(&random[8..]),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            authority,
            id,
            secret,
        } = self;
        write!(f, "{}.{authority}.{id}.{secret}", kind.word())
    }
}

/// A text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no token: one looks like muster1.AUTHORITY.ID.SECRET, that of an operator musterop1.AUTHORITY.ID.SECRET"
)]
pub struct TokenError;

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (word, rest) = text.trim().split_once('.').ok_or(TokenError)?;
        let kinds = [TokenKind::Join, TokenKind::Operator];
        let kind = kinds.into_iter().find(|kind| kind.word() == word);
        let parts: Vec<&str> = rest.split('.').collect();
        let [authority, id, secret] = parts[..] else {
            return Err(TokenError);
        };
        let digits = |part: &str, length: usize| {
            let is_right = part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
            is_right
                .then(|| part.to_ascii_lowercase())
                .ok_or(TokenError)
        };
        Ok(Self {
            kind: kind.ok_or(TokenError)?,
            authority: digits(authority, 64)?,
            id: digits(id, 16)?,
            secret: digits(secret, 64)?,
        })
    }
}

/// Why a token is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TokenRefusal {
    #[error("the token is not known here")]
    Unknown,
    #[error("the token has been used")]
    Used,
    #[error("the token has expired")]
    Expired,
    #[error("the token is for another box")]
    OtherBox,
    #[error("the token is an operator's: no box joins with it")]
    OfOperator,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    /// The SHA-256 of the secret.
    secret: String,
    /// In seconds since 1970.
    expires: f64,
    /// The only box that may use it.
    #[serde(default)]
    for_box: Option<String>,
    /// The box that has used it.
    #[serde(default)]
    used_by: Option<String>,
}

/// The tokens of a cluster.
#[derive(Debug)]
pub(crate) struct Tokens {
    path: PathBuf,
    known: BTreeMap<String, Known>,
}

impl Tokens {
    /// Reads them.
    pub(crate) fn open(directory: &Path) -> std::io::Result<Self> {
        let path = directory.join("tokens.json");
        let known = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, known })
    }

    fn write(&self) -> std::io::Result<()> {
        write_whole(&self.path, &serde_json::to_vec(&self.known)?)
    }

    /// Makes a token from random bytes.
    pub(crate) fn create(
        &mut self,
        authority: String,
        ttl: Duration,
        for_box: Option<String>,
        now: f64,
        random: &[u8; 40],
    ) -> std::io::Result<Token> {
        let token = Token::from_random(TokenKind::Join, authority, random);
        while self.known.len() >= MOST {
            let is_over = |known: &Known| known.used_by.is_some() || known.expires < now;
            let by_expiry = |known: &&Known| (!is_over(known), known.expires.to_bits());
            let oldest = self.known.iter().min_by_key(|(_, known)| by_expiry(known));
            let Some(id) = oldest.map(|(id, _)| id.clone()) else {
                break;
            };
            self.known.remove(&id);
        }
        let known = Known {
            secret: hash(&token.secret),
            expires: now + ttl.min(LONGEST_TTL).as_secs_f64(),
            for_box,
            used_by: None,
        };
        self.known.insert(token.id.clone(), known);
        self.write()?;
        Ok(token)
    }

    /// Finds out whether a box may use a token.
    pub(crate) fn check(&self, token: &Token, name: &str, now: f64) -> Result<(), TokenRefusal> {
        if token.kind != TokenKind::Join {
            return Err(TokenRefusal::OfOperator);
        }
        let known = self.known.get(&token.id).ok_or(TokenRefusal::Unknown)?;
        let shown = hash(&token.secret);
        if !openssl::memcmp::eq(shown.as_bytes(), known.secret.as_bytes()) {
            return Err(TokenRefusal::Unknown);
        }
        if known.used_by.is_some() {
            return Err(TokenRefusal::Used);
        }
        if known.expires < now {
            return Err(TokenRefusal::Expired);
        }
        match &known.for_box {
            Some(only) if only != name => Err(TokenRefusal::OtherBox),
            _ => Ok(()),
        }
    }

    /// Takes a token that was checked: nobody uses it again.
    pub(crate) fn take(&mut self, token: &Token, name: &str) -> std::io::Result<()> {
        if let Some(known) = self.known.get_mut(&token.id) {
            known.used_by = Some(name.to_owned());
        }
        self.write()
    }
}

fn hash(secret: &str) -> String {
    hexadecimal(&sha256(secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn create(tokens: &mut Tokens, for_box: Option<&str>, seed: u8) -> Token {
        let for_box = for_box.map(ToOwned::to_owned);
        let authority = "ab".repeat(32);
        let created = tokens.create(authority, HOUR, for_box, 1000.0, &[seed; 40]);
        created.unwrap()
    }

    #[test]
    fn a_token_is_used_once_in_time_by_whom_it_is_for() {
        let directory = tempfile::tempdir().unwrap();
        let mut tokens = Tokens::open(directory.path()).unwrap();
        let token = create(&mut tokens, None, 1);
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
        assert_eq!(tokens.check(&token, "b", 1000.0), Ok(()));
        assert_eq!(
            tokens.check(&token, "b", 4601.0),
            Err(TokenRefusal::Expired)
        );
        tokens.take(&token, "b").unwrap();
        // Written down: the agent may be another one by now.
        let mut tokens = Tokens::open(directory.path()).unwrap();
        assert_eq!(tokens.check(&token, "b", 1000.0), Err(TokenRefusal::Used));
        let bound = create(&mut tokens, Some("b"), 2);
        assert_eq!(
            tokens.check(&bound, "c", 1000.0),
            Err(TokenRefusal::OtherBox)
        );
        assert_eq!(tokens.check(&bound, "b", 1000.0), Ok(()));
        let forged = Token {
            secret: "0".repeat(64),
            ..bound.clone()
        };
        assert_eq!(
            tokens.check(&forged, "b", 1000.0),
            Err(TokenRefusal::Unknown)
        );
        let text = std::fs::read_to_string(directory.path().join("tokens.json")).unwrap();
        assert!(!text.contains(&bound.secret));
    }

    #[test]
    fn tokens_are_bounded_and_those_that_are_over_go_first() {
        let directory = tempfile::tempdir().unwrap();
        let mut tokens = Tokens::open(directory.path()).unwrap();
        let used = create(&mut tokens, None, 0);
        tokens.take(&used, "b").unwrap();
        for number in 0..MOST {
            let mut random = [9; 40];
            random[..8].copy_from_slice(&(number as u64).to_be_bytes());
            let authority = "ab".repeat(32);
            tokens
                .create(authority, HOUR, None, 1000.0, &random)
                .unwrap();
        }
        assert_eq!(tokens.known.len(), MOST);
        assert_eq!(tokens.check(&used, "b", 1000.0), Err(TokenRefusal::Unknown));
    }

    #[test]
    fn the_token_of_an_operator_lets_no_box_in() {
        let directory = tempfile::tempdir().unwrap();
        let mut tokens = Tokens::open(directory.path()).unwrap();
        let token = create(&mut tokens, None, 1);
        let of_operator = Token {
            kind: TokenKind::Operator,
            ..token
        };
        let text = of_operator.to_string();
        assert!(text.starts_with("musterop1."), "{text}");
        assert_eq!(text.parse(), Ok(of_operator.clone()));
        assert_eq!(
            tokens.check(&of_operator, "b", 1000.0),
            Err(TokenRefusal::OfOperator)
        );
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = format!(
            "muster1.{}.{}.{}",
            "a".repeat(64),
            "b".repeat(16),
            "c".repeat(64)
        );
        assert!(good.parse::<Token>().is_ok());
        for wrong in [
            String::new(),
            "muster1".to_owned(),
            good.replace("muster1", "muster2"),
            format!("{good}.d"),
            good[..good.len() - 1].to_owned(),
            good.replace('c', "x"),
        ] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
    }
}
