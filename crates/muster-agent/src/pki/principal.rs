//! Who has a certificate.

use std::fmt;

use openssl::x509::X509Ref;

/// What somebody is in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A box, by its agent.
    Box,
    /// A node.
    Node,
    /// A person.
    Operator,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Box => "box",
            Self::Node => "node",
            Self::Operator => "operator",
        }
    }
}

/// Who has a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// Its name.
    pub(crate) name: String,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cluster,
            kind,
            name,
        } = self;
        write!(f, "muster://{cluster}/{}/{name}", kind.word())
    }
}

impl Principal {
    fn parse(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("muster://")?.split('/');
        let (cluster, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
        let kinds = [Kind::Box, Kind::Node, Kind::Operator];
        let kind = kinds.into_iter().find(|known| known.word() == kind)?;
        let is_whole = parts.next().is_none() && !cluster.is_empty() && !name.is_empty();
        is_whole.then(|| Self {
            cluster: cluster.to_owned(),
            kind,
            name: name.to_owned(),
        })
    }

    /// Returns who a certificate is of, if it says that once.
    pub(crate) fn of(certificate: &X509Ref) -> Option<Self> {
        let alternatives = certificate.subject_alt_names()?;
        let mut found = alternatives
            .iter()
            .filter_map(|name| Self::parse(name.uri()?));
        let principal = found.next()?;
        found.next().is_none().then_some(principal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_whole_or_not_at_all() {
        for kind in [Kind::Box, Kind::Node, Kind::Operator] {
            let node = Principal {
                cluster: "east".to_owned(),
                kind,
                name: "data-1".to_owned(),
            };
            let text = node.to_string();
            assert_eq!(Principal::parse(&text), Some(node));
        }
        for wrong in [
            "muster://east/node",
            "muster://east/node/",
            "muster:///node/a",
            "muster://east/node/a/b",
            "muster://east/king/a",
            "https://east/node/a",
        ] {
            assert_eq!(Principal::parse(wrong), None, "{wrong}");
        }
    }
}
