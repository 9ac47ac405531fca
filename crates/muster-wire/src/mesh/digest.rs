//! One number that says whether two databases agree (protocol version 2, section 6.3).

use crate::mesh::record::Versions;
use crate::mesh::score::{key, mix};

/// What one endpoint's versions add to the hash. The hash is the wrapping sum over all endpoints in reach.
pub(crate) fn share(versions: Versions) -> u64 {
    let node = mix(key(versions.id) ^ versions.incarnation.0) ^ mix(versions.node);
    mix(node ^ mix(versions.links).rotate_left(1))
}
