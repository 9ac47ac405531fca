//! One number that says whether two databases agree (protocol version 2, section 6.3).

use crate::mesh::record::Versions;
use crate::mesh::score::{key, mix};

/// The hash over the versions of some endpoints, in any order.
pub(crate) fn hash(versions: impl IntoIterator<Item = Versions>) -> u64 {
    versions.into_iter().fold(0, |sum, versions| {
        let node = mix(key(versions.id) ^ versions.incarnation.0) ^ mix(versions.node);
        sum.wrapping_add(mix(node ^ mix(versions.links).rotate_left(1)))
    })
}
