//! Names of clusters: endpoints of two clusters do not peer.

use std::fmt;
use std::sync::Arc;

/// The most bytes of a cluster's name.
const LONGEST: usize = 255;

/// The name of a cluster, of 1 to 255 bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(Arc<str>);

/// Why a text is not the name of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name of a cluster has 1 to {LONGEST} bytes, this one has {0}")]
pub struct ClusterNameError(pub usize);

impl ClusterName {
    /// Makes a name of a text.
    ///
    /// # Errors
    ///
    /// Fails if the text is empty or has more than 255 bytes.
    pub fn new(name: &str) -> Result<Self, ClusterNameError> {
        if name.is_empty() || name.len() > LONGEST {
            return Err(ClusterNameError(name.len()));
        }
        Ok(Self(name.into()))
    }

    /// Reads a name as the other side has written it, if it is one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        Self::new(std::str::from_utf8(bytes).ok()?).ok()
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name in quotes, as strangers may have chosen it.
impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Debug for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
