//! Topics: what steers every message.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The prefix of topics that never leave an endpoint and are never announced.
pub const LOCAL_PREFIX: &[u8] = b"<$>/local/";

/// The topic of control envelopes.
pub const RESERVED: &[u8] = b"<$>";

/// The topic of envelopes that one endpoint sends to another through a peer of version 1, to find out
/// whether that forwards (protocol version 2, section 12).
pub(crate) const THROUGH: &[u8] = b"<$>/muster/through";

/// A topic: at most 65,535 bytes, usually UTF-8 text with `/` between its parts, and not below
/// [`LOCAL_PREFIX`]. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<[u8]>);

/// Why bytes are not a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// It has more than 65,535 bytes: this many.
    #[error("a topic has at most 65535 bytes, this one has {0}")]
    TooLong(usize),
    /// It is below `<$>/local/`, which never crosses an endpoint's border.
    #[error("topics below <$>/local/ are reserved for the endpoint itself")]
    Local,
}

impl Topic {
    /// Makes a topic of bytes.
    ///
    /// # Errors
    ///
    /// Fails if there are more than 65,535 bytes, or if they begin with [`LOCAL_PREFIX`].
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, TopicError> {
        let bytes = bytes.as_ref();
        if bytes.len() > usize::from(u16::MAX) {
            return Err(TopicError::TooLong(bytes.len()));
        }
        if bytes.starts_with(LOCAL_PREFIX) {
            return Err(TopicError::Local);
        }
        Ok(Self(bytes.into()))
    }

    /// Returns the topic's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns `true` if it is the other one or a clone of it. Others may be equal nevertheless.
    pub fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns `true` if the subscription `prefix` matches this topic: a plain byte prefix, as in
    /// Broker.
    pub fn has_prefix(&self, prefix: &[u8]) -> bool {
        self.0.starts_with(prefix)
    }

    /// Returns the topic as a label for metrics and counters. Node names and endpoint ids are
    /// replaced by `*`, and what is longer than 64 bytes is cut, so that the number of labels stays
    /// bounded.
    ///
    /// `zeek/cluster/node/worker-1/` becomes `zeek/cluster/node/*/`.
    pub fn normalized(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let mut label = String::with_capacity(text.len().min(64));
        let mut replace_next = false;
        for (index, part) in text.split('/').enumerate() {
            if index > 0 {
                label.push('/');
            }
            let is_id = part.len() == 36 && part.parse::<crate::EndpointId>().is_ok();
            if (replace_next && !part.is_empty()) || is_id {
                label.push('*');
            } else {
                label.push_str(part);
            }
            replace_next = matches!(part, "node" | "nodeid");
            if label.len() > 64 {
                let cut = (0..=64)
                    .rev()
                    .find(|&at| label.is_char_boundary(at))
                    .unwrap_or(0);
                label.truncate(cut);
                label.push('~');
                break;
            }
        }
        label
    }
}

impl Borrow<[u8]> for Topic {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_replace_names_and_ids() {
        let label = |text: &str| Topic::new(text).unwrap().normalized();
        assert_eq!(label("zeek/cluster/node/worker-1/"), "zeek/cluster/node/*/");
        assert_eq!(
            label("zeek/cluster/nodeid/ffffffff-ffff-4fff-bfff-ffffffffffff/"),
            "zeek/cluster/nodeid/*/"
        );
        assert_eq!(label("zeek/cluster/all/"), "zeek/cluster/all/");
        assert!(label(&"x".repeat(500)).len() <= 65);
    }

    #[test]
    fn refuses_local_and_long_topics() {
        assert_eq!(
            Topic::new("<$>/local/data/statuses"),
            Err(TopicError::Local)
        );
        assert_eq!(
            Topic::new(vec![b'x'; 65_536]),
            Err(TopicError::TooLong(65_536))
        );
    }
}
