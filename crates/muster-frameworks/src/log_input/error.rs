//! Why an input cannot start.

/// Why an input cannot start.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The speed is negative or not a number.
    #[error("a speed of {0} times real time; it has to be 0 (as fast as possible) or more")]
    Speed(f64),
}
