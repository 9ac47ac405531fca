//! The description of a counter, and a value of one.

use std::borrow::Cow;

/// Whether a value only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It grows from 0 as long as the process lives.
    Counter,
    /// It rises and falls.
    Gauge,
}

impl Kind {
    /// Prometheus's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// The base unit of a value that is no plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// Returns the unit of the metric of this name, without `_total`: it is the last word.
    pub fn of(name: &str) -> Option<Self> {
        let last = name.rsplit('_').next()?;
        [Self::Bytes, Self::Seconds]
            .into_iter()
            .find(|unit| unit.name() == last)
    }

    /// Prometheus's word for it, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
        }
    }
}

/// What one step of a value is worth in the unit of its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// One.
    #[default]
    One,
    /// A billionth: the value is in nanoseconds, the metric in seconds.
    Nano,
}

/// What a number means: its names, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The name of the metric, by Prometheus's conventions, as `muster_peer_bytes_total`. Several counters may
    /// share one, apart by their labels.
    pub name: Cow<'static, str>,
    /// The key in `muster status --format json` below `counts`; empty if the number is elsewhere there.
    pub key: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// What it means, and what an operator does when it grows: sentences.
    pub help: &'static str,
    /// Labels with the same value in every sample of this counter, as `("direction", "in")`.
    pub fixed: &'static [(&'static str, &'static str)],
    /// The names of all other labels, in order. Their values come from a bounded set.
    pub labels: &'static [&'static str],
    /// What one step of the value is worth.
    pub scale: Scale,
}

impl Descriptor {
    /// Describes a number that only grows. Its name ends in `_total`.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(Cow::Borrowed(name), help, Kind::Counter)
    }

    /// Describes a number that rises and falls.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(Cow::Borrowed(name), help, Kind::Gauge)
    }

    /// Describes a number of either kind. Its name may be made at run time, as those of frameworks are.
    pub const fn new(name: Cow<'static, str>, help: &'static str, kind: Kind) -> Self {
        Self {
            name,
            key: "",
            kind,
            help,
            fixed: &[],
            labels: &[],
            scale: Scale::One,
        }
    }

    /// Sets the key below `counts` in the status as JSON.
    #[must_use]
    pub const fn key(mut self, key: &'static str) -> Self {
        self.key = key;
        self
    }

    /// Sets labels whose values do not change.
    #[must_use]
    pub const fn fixed(mut self, labels: &'static [(&'static str, &'static str)]) -> Self {
        self.fixed = labels;
        self
    }

    /// Sets the names of the labels whose values come with each sample.
    #[must_use]
    pub const fn labels(mut self, names: &'static [&'static str]) -> Self {
        self.labels = names;
        self
    }

    /// Declares that the value is in nanoseconds and the metric in seconds.
    #[must_use]
    pub const fn in_nanoseconds(mut self) -> Self {
        self.scale = Scale::Nano;
        self
    }

    /// Returns the name without `_total`, as OpenMetrics names a family.
    pub fn family(&self) -> &str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(&self.name),
            Kind::Gauge => &self.name,
        }
    }

    /// Returns the unit, which the name ends with, if there is one.
    pub fn unit(&self) -> Option<Unit> {
        Unit::of(self.family())
    }

    /// Returns a value with no labels besides the fixed ones.
    pub fn of(self, value: u64) -> Counter {
        self.of_each([], value)
    }

    /// Returns a value with labels: those of [`Descriptor::labels`], in the same order.
    pub fn of_each<const N: usize>(
        self,
        labels: [(&'static str, String); N],
        value: u64,
    ) -> Counter {
        debug_assert!(
            self.labels.iter().eq(labels.iter().map(|(name, _)| name)),
            "{}",
            self.name
        );
        Counter {
            descriptor: self,
            labels: labels.into(),
            value,
        }
    }
}

/// A value of a counter, with its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// What it means.
    pub descriptor: Descriptor,
    /// Bounded label values, as in `("cause", "queue_full")`, besides the fixed ones.
    pub labels: Vec<(&'static str, String)>,
    /// The count since the start, or the present value.
    pub value: u64,
}

impl Counter {
    /// Returns the key in the status as JSON.
    pub fn key(&self) -> &'static str {
        self.descriptor.key
    }

    /// Returns all labels, the fixed ones first.
    pub fn all_labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let fixed = self.descriptor.fixed.iter().copied();
        let own = self.labels.iter();
        fixed.chain(own.map(|(name, value)| (*name, value.as_str())))
    }
}

/// Declares counters: constants of type [`Descriptor`](crate::counters::Descriptor), each with a
/// doc comment that is also its help text, and `ALL`, which holds all of them. A module has at most
/// one such list. A further counter of the same metric, with other fixed labels, follows the first
/// and names it.
///
/// ```
/// mod tea {
///     muster_wire::counters! {
///         /// Cups that were filled. Growth means that somebody is thirsty: buy tea.
///         pub(crate) CUPS = counter("tea_cups_total").key("cups");
///         /// Bytes of leaves left.
///         pub(crate) LEAVES = gauge("tea_leaves_bytes").labels(&["sort"]);
///     }
/// }
///
/// assert_eq!(tea::ALL.len(), 2);
/// assert_eq!(tea::CUPS.help, "Cups that were filled. Growth means that somebody is thirsty: buy tea.");
/// assert_eq!(tea::CUPS.of(3).value, 3);
/// assert_eq!(tea::LEAVES.unit(), Some(muster_wire::counters::Unit::Bytes));
/// ```
#[macro_export]
macro_rules! counters {
    (@begin $other:ident [] []) => { $other };
    (@begin $kind:ident [$name:literal] [$($help:literal)+]) => {
        $crate::counters::Descriptor::$kind($name, concat!($($help),+).trim_ascii_start())
    };
    ($(
        $(#[doc = $help:literal])*
        $visibility:vis $constant:ident = $kind:ident $(($name:literal))?
            $(.$attribute:ident($($argument:expr),*))*;
    )+) => {
        $(
            $(#[doc = $help])*
            $visibility const $constant: $crate::counters::Descriptor =
                $crate::counters!(@begin $kind [$($name)?] [$($help)*])
                    $(.$attribute($($argument),*))*;
        )+

        /// All counters that are declared here.
        pub(crate) const ALL: &[$crate::counters::Descriptor] = &[$($constant),+];
    };
}

#[cfg(test)]
mod tests {
    mod sample {
        counters! {
            /// Bytes in,
            /// of all.
            pub(super) BYTES_IN = counter("x_bytes_total").key("in").fixed(&[("direction", "in")]);
            pub(super) BYTES_OUT = BYTES_IN.key("out").fixed(&[("direction", "out")]);
            /// A time.
            pub(super) LOW = gauge("x_low_timestamp_seconds").labels(&["of"]).in_nanoseconds();
            /// A number.
            pub(super) SIZE = gauge("x_size");
        }
    }

    use super::*;
    use sample::{ALL, BYTES_IN, BYTES_OUT, LOW, SIZE};

    #[test]
    fn a_comment_is_the_help() {
        assert_eq!(BYTES_IN.help, "Bytes in, of all.");
        assert_eq!(BYTES_OUT.help, BYTES_IN.help);
        assert_eq!((BYTES_OUT.key, BYTES_IN.key), ("out", "in"));
        assert_eq!(ALL, [BYTES_IN, BYTES_OUT, LOW, SIZE]);
    }

    #[test]
    fn the_unit_is_in_the_name() {
        let units: Vec<_> = ALL.iter().map(Descriptor::unit).collect();
        let bytes = Some(Unit::Bytes);
        assert_eq!(units, [bytes, bytes, Some(Unit::Seconds), None]);
        assert_eq!(BYTES_IN.family(), "x_bytes");
        assert_eq!(SIZE.family(), "x_size");
    }

    #[test]
    fn fixed_labels_come_before_the_others() {
        let both = LOW.fixed(&[("direction", "in")]);
        let counter = both.of_each([("of", "a".to_owned())], 5);
        let labels: Vec<_> = counter.all_labels().collect();
        assert_eq!(labels, [("direction", "in"), ("of", "a")]);
        assert_eq!(BYTES_IN.of(1).key(), "in");
    }
}
