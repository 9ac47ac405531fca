//! What the tests of Muster's crates share.
//!
//! [`Random`] gives the same numbers for the same seed on every machine, so that a test that fails
//! can be repeated with its seed:
//!
//! ```
//! use muster_test_support::Random;
//!
//! let (mut once, mut again) = (Random::new(7), Random::new(7));
//! assert!((0..100).all(|_| once.next() == again.next()));
//! assert!(once.below(6) < 6);
//! ```

mod random;
mod seeds;
#[cfg(feature = "tokio")]
mod within;

pub use random::Random;
pub use seeds::{first_that_finds, seeds};
#[cfg(feature = "tokio")]
pub use within::{PATIENCE, within};
