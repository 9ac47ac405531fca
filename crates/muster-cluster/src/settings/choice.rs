//! Settings that are one of a few words.

/// A type whose values are written as one of a few words: see [`SettingSpec::choice`](super::SettingSpec::choice).
pub trait Choice: Copy + PartialEq + 'static {
    /// The words, in the order in which they are shown.
    const NAMES: &'static [&'static str];
    /// What they stand for, in the same order.
    const VALUES: &'static [Self];

    /// Returns what a word stands for.
    fn from_name(name: &str) -> Option<Self> {
        let at = Self::NAMES.iter().position(|known| *known == name)?;
        Self::VALUES.get(at).copied()
    }

    /// Returns the word for a value.
    fn name(self) -> &'static str {
        let at = Self::VALUES.iter().position(|known| *known == self);
        at.and_then(|at| Self::NAMES.get(at)).unwrap_or(&"")
    }
}

/// Makes a type a [`Choice`] by its words: `choice!(Speed { "fast" => Speed::Fast, "slow" => Speed::Slow });`.
#[macro_export]
macro_rules! choice {
    ($type:ty { $($name:literal => $value:expr),+ $(,)? }) => {
        impl $crate::Choice for $type {
            const NAMES: &'static [&'static str] = &[$($name),+];
            const VALUES: &'static [Self] = &[$($value),+];
        }
    };
}
