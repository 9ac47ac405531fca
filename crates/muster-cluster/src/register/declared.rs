//! A register as its author declares it.

use muster_data::{DataRef, DecodeOwned, Encode, Typed, to_data};

use super::definition::Check;
use super::{Definition, DefinitionKind, ValueType};

/// A value of a framework that the whole cluster shares, and that is changed while it runs. It is a constant of the framework;
/// [`Declarations::register`](crate::node::Declarations::register) declares it, and
/// [`Context::register`](crate::node::Context::register) reads and changes it.
///
/// What is written is checked by type and bounds before, and again by every node that reads it. A type that has conditions of its own
/// checks them where it is [decoded](muster_data::Decode).
///
/// ```
/// use muster_cluster::register::Register;
///
/// const MOST_ALERTS: Register<u64> =
///     Register::new("alerts.most_per_minute", || 100, "alerts of one source in a minute").within(1, 10_000);
/// const MODE: Register<String> =
///     Register::new("alerts.mode", || "tell".to_owned(), "what becomes of an alert").one_of(&["tell", "block"]);
/// ```
#[derive(Debug)]
pub struct Register<T> {
    name: &'static str,
    default: fn() -> T,
    bounds: Option<(T, T)>,
    words: &'static [&'static str],
    help: &'static str,
}

impl<T> Register<T> {
    /// Returns a register of this name, which is unique in the cluster: letters, digits, `.`, `_`, `-`, `/` and `:`, at most 128 of them.
    /// `default` makes the value that counts while nobody has set one; `help` says in one line what it is for.
    pub const fn new(name: &'static str, default: fn() -> T, help: &'static str) -> Self {
        Self {
            name,
            default,
            bounds: None,
            words: &[],
            help,
        }
    }

    /// Returns its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the value that counts while nobody has set one.
    pub fn default_value(&self) -> T {
        (self.default)()
    }
}

impl<T: Copy> Register<T> {
    /// Makes the register refuse values below `least` and above `most`.
    #[must_use]
    pub const fn within(mut self, least: T, most: T) -> Self {
        self.bounds = Some((least, most));
        self
    }
}

impl Register<String> {
    /// Makes the register refuse texts that are none of these.
    #[must_use]
    pub const fn one_of(mut self, words: &'static [&'static str]) -> Self {
        self.words = words;
        self
    }
}

impl<T: Encode + DecodeOwned + Typed> Register<T> {
    /// Returns what is written of it into the store.
    pub fn definition(&self) -> Definition {
        let bounds = self.bounds.as_ref();
        let takes = ValueType::new(T::data_type())
            .within(
                bounds.map(|(least, _)| to_data(least)),
                bounds.map(|(_, most)| to_data(most)),
            )
            .one_of(self.words.iter().copied());
        Definition {
            kind: DefinitionKind::Register,
            takes,
            default: to_data(&self.default_value()),
            help: self.help.to_owned(),
        }
    }

    pub(crate) fn check() -> Check {
        fn decodes<T: DecodeOwned>(value: DataRef<'_>) -> Result<(), muster_data::ConvertError> {
            value.to::<T>().map(|_| ())
        }
        Check::Register(decodes::<T>)
    }
}
