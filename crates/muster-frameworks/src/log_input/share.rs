//! Which worker sees which connection.

use muster_data::{Address, Port};

use crate::zeek_log::ConnectionRef;

/// One of several equal shares of all connections.
///
/// A hash of a connection's two ends (address and port) and its protocol decides its share, whichever end is the
/// originator: both directions, and the rows of all logs that name the connection with the same protocol, belong to
/// one worker. The hash is the same in every process and release, so a connection's share depends only on the number
/// of shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    index: u32,
    of: u32,
}

/// There is no such share, such as the third of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no share {index} of {of}: shares count from 0, and there is at least one")]
pub struct ShareError {
    index: u32,
    of: u32,
}

impl Share {
    /// All connections.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// Returns share `index`, counted from 0, of `of` shares.
    ///
    /// # Errors
    /// [`ShareError`] if `index` is not below `of`.
    pub const fn new(index: u32, of: u32) -> Result<Self, ShareError> {
        if index < of {
            Ok(Self { index, of })
        } else {
            Err(ShareError { index, of })
        }
    }

    /// The number of this share, counted from 0.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// The number of shares.
    pub const fn of(self) -> u32 {
        self.of
    }

    /// Returns `true` if the connection belongs to this share.
    pub fn has(self, connection: &ConnectionRef<'_>) -> bool {
        if self.of == 1 {
            return true;
        }
        let hash = connection_hash(
            (connection.orig_h, connection.orig_p),
            (connection.resp_h, connection.resp_p),
        );
        hash % u64::from(self.of) == u64::from(self.index)
    }
}

/// Hash of a connection, the same when its ends are swapped.
fn connection_hash(one: (Address, Port), other: (Address, Port)) -> u64 {
    let (low, high) = if one <= other {
        (one, other)
    } else {
        (other, one)
    };
    let mut hash = 0x6d75_7374_6572_0001;
    for (address, port) in [low, high] {
        let bits = u128::from_be_bytes(*address.as_bytes());
        let [upper, lower] = [bits >> 64, bits & u128::from(u64::MAX)];
        for half in [upper, lower] {
            hash = mix(hash ^ u64::try_from(half).unwrap_or_default());
        }
        hash = mix(hash ^ (u64::from(port.number) << 8 | port.protocol as u64));
    }
    hash
}

/// Spreads every bit over all 64: the finalizer of the SplitMix64 generator.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn end(host: u32, port: u16) -> (Address, Port) {
        (std::net::Ipv4Addr::from(host).into(), Port::tcp(port))
    }

    #[test]
    fn the_hash_is_fixed() {
        let hash = connection_hash(end(0x0a00_0001, 40000), end(0x0a00_0002, 80));
        assert_eq!(hash, 0xf0b3_8a04_9385_ae5a);
    }

    #[test]
    fn shares_are_even() {
        for of in [2_u32, 3, 4, 5, 7, 16] {
            let mut counts = vec![0_u32; of as usize];
            for n in 0..20_000_u32 {
                let source = end(
                    0x0a00_0000 + n / 200,
                    40000 + u16::try_from(n % 200).unwrap(),
                );
                let hash = connection_hash(source, end(0x0a00_0002, 80));
                counts[usize::try_from(hash % u64::from(of)).unwrap()] += 1;
            }
            let fair = 20_000 / of;
            assert!(
                counts.iter().all(|count| count.abs_diff(fair) < fair / 5),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn impossible_shares() {
        assert!(Share::new(1, 2).is_ok());
        assert!(Share::new(2, 2).is_err());
        assert!(Share::new(0, 0).is_err());
    }

    proptest! {
        #[test]
        fn swapped_ends_stay_together(a: u32, b: u32, p: u16, q: u16) {
            let (one, other) = (end(a, p), end(b, q));
            prop_assert_eq!(connection_hash(one, other), connection_hash(other, one));
        }
    }
}
