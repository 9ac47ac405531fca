//! Who may publish and see what.

use std::path::Path;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use serde::Deserialize;

/// The token that a request shows.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = shown.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Returns whether a request shows a token, as `Authorization: Bearer TOKEN`. The time this takes tells nothing of it but its
/// length.
pub fn shows_token(token: &str, headers: &HeaderMap) -> bool {
    let shown = bearer(headers).unwrap_or_default();
    shown.len() == token.len() && openssl::memcmp::eq(shown.as_bytes(), token.as_bytes())
}

/// What a client may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whom it was given to, for logs and reports.
    pub name: String,
    /// The prefixes of topics that may be published to.
    pub publish: Vec<String>,
    /// The prefixes of topics that may be subscribed to.
    pub subscribe: Vec<String>,
}

impl Grant {
    /// Everything.
    pub fn everything(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            publish: vec![String::new()],
            subscribe: vec![String::new()],
        }
    }

    /// Whether messages of a topic may be published.
    pub fn may_publish(&self, topic: &str) -> bool {
        self.publish.iter().any(|prefix| topic.starts_with(prefix))
    }

    /// Whether all topics with a prefix may be seen.
    pub fn may_subscribe(&self, prefix: &str) -> bool {
        let mut granted = self.subscribe.iter();
        granted.any(|granted| prefix.starts_with(granted))
    }
}

/// The tokens that clients show, each with what it permits.
///
/// As a file:
///
/// ```toml
/// [[token]]
/// name = "siem"
/// token = "a long random text"
/// subscribe = ["zeek/logs/", "/alerts/"]
/// publish = ["/siem/"]
/// ```
///
/// A client sends its token in the HTTP header `Authorization: Bearer <token>`.
#[derive(Clone, Default)]
pub struct Tokens {
    tokens: Vec<(String, Arc<Grant>)>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.tokens.iter().map(|(_, grant)| &grant.name);
        f.debug_list().entries(names).finish()
    }
}

/// Why tokens cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenProblem {
    /// The file cannot be read.
    #[error("cannot read tokens from {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The text is not as it should be.
    #[error("{0}")]
    Malformed(String),
    /// Anybody could guess it.
    #[error("the token of `{0}` has fewer than {SHORTEST} characters")]
    Short(String),
    /// A header cannot carry it.
    #[error("the token of `{0}` has characters besides printable ASCII")]
    Unprintable(String),
    /// Two clients could not be told apart.
    #[error("`{0}` and `{1}` have the same token")]
    Twice(String, String),
    /// It would permit nothing.
    #[error("the token of `{0}` permits neither `publish` nor `subscribe`")]
    Idle(String),
    /// Nobody could come in.
    #[error("there are no tokens")]
    None,
}

/// The shortest token that is accepted, in characters.
pub(crate) const SHORTEST: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    token: String,
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    subscribe: Vec<String>,
}

impl Tokens {
    /// Reads a file of tokens.
    pub fn load(path: &Path) -> Result<Self, TokenProblem> {
        let text = std::fs::read_to_string(path).map_err(|source| TokenProblem::File {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(&text).map_err(|problem| match problem {
            TokenProblem::Malformed(text) => {
                TokenProblem::Malformed(format!("{}: {text}", path.display()))
            }
            other => TokenProblem::Malformed(format!("{}: {other}", path.display())),
        })
    }

    /// Reads the text of a file of tokens.
    pub fn parse(text: &str) -> Result<Self, TokenProblem> {
        let document: Document =
            toml::from_str(text).map_err(|error| TokenProblem::Malformed(error.to_string()))?;
        let mut tokens: Vec<(String, Arc<Grant>)> = Vec::new();
        for entry in document.token {
            let Entry {
                name,
                token,
                publish,
                subscribe,
            } = entry;
            if token.len() < SHORTEST {
                return Err(TokenProblem::Short(name));
            }
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(TokenProblem::Unprintable(name));
            }
            if publish.is_empty() && subscribe.is_empty() {
                return Err(TokenProblem::Idle(name));
            }
            if let Some((_, other)) = tokens.iter().find(|(known, _)| *known == token) {
                return Err(TokenProblem::Twice(other.name.clone(), name));
            }
            let grant = Grant {
                name,
                publish,
                subscribe,
            };
            tokens.push((token, Arc::new(grant)));
        }
        if tokens.is_empty() {
            return Err(TokenProblem::None);
        }
        Ok(Self { tokens })
    }

    /// What a token permits. The time this takes tells nothing of the tokens but their lengths.
    pub(crate) fn grant(&self, shown: &str) -> Option<Arc<Grant>> {
        let mut found = None;
        for (token, grant) in &self.tokens {
            let is_same = token.len() == shown.len()
                && openssl::memcmp::eq(token.as_bytes(), shown.as_bytes());
            if is_same {
                found = Some(Arc::clone(grant));
            }
        }
        found
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [[token]]
        name = "siem"
        token = "0123456789abcdef"
        subscribe = ["zeek/logs/"]
        publish = ["/siem/"]
    "#;

    #[test]
    fn a_token_permits_prefixes() {
        let tokens = Tokens::parse(FILE).unwrap();
        assert!(tokens.grant("0123456789abcdeF").is_none());
        let grant = tokens.grant("0123456789abcdef").unwrap();
        assert!(grant.may_publish("/siem/alert"));
        assert!(!grant.may_publish("/sie"));
        assert!(grant.may_subscribe("zeek/logs/Conn"));
        // A shorter prefix would show more.
        assert!(!grant.may_subscribe("zeek/"));
        assert!(!grant.may_subscribe(""));
        assert!(!format!("{tokens:?}").contains("0123"));
    }

    #[test]
    fn unusable_tokens_are_named() {
        let text = FILE.replace("0123456789abcdef", "short");
        assert!(matches!(Tokens::parse(&text), Err(TokenProblem::Short(name)) if name == "siem"));
        let twice = format!("{FILE}{}", FILE.replace("siem\"", "other\""));
        assert!(matches!(
            Tokens::parse(&twice),
            Err(TokenProblem::Twice(..))
        ));
        let idle = FILE
            .replace("[\"zeek/logs/\"]", "[]")
            .replace("[\"/siem/\"]", "[]");
        assert!(matches!(Tokens::parse(&idle), Err(TokenProblem::Idle(_))));
        assert!(matches!(Tokens::parse(""), Err(TokenProblem::None)));
        let unknown = FILE.replace("publish", "publsh");
        let problem = Tokens::parse(&unknown).unwrap_err().to_string();
        assert!(
            problem.contains("publsh") && problem.contains("line"),
            "{problem}"
        );
    }
}
