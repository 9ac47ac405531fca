//! The score that spreads children over parents (protocol version 2, section 7.2).

use crate::EndpointId;

/// The finalizer of SplitMix64: every bit of the result depends on every bit of `x`.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Returns an endpoint's id as a key of 64 bits.
pub fn key(id: EndpointId) -> u64 {
    let bytes = u128::from_be_bytes(*id.as_bytes());
    let high = u64::try_from(bytes >> 64).unwrap_or_default();
    let low = u64::try_from(bytes & u128::from(u64::MAX)).unwrap_or_default();
    mix(mix(high) ^ low)
}

/// The part of a score that all parents of one child share.
pub(crate) fn half_score(origin: u64, child: u64) -> u64 {
    mix(origin ^ child.rotate_left(1))
}

/// Returns how well `parent` suits `child` in the tree of `origin`, each given by its [`key`]. The
/// parent with the highest score is chosen.
pub fn score(origin: u64, child: u64, parent: u64) -> u64 {
    mix(half_score(origin, child) ^ parent)
}
