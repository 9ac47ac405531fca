//! The configuration register: named values that everybody in a cluster sees alike, and that are changed while it runs.
//!
//! It is one store, [`STORE`], which is kept on disk. A name has its value there, if somebody has set one, and the
//! [`Definition`] that the nodes of the cluster have written beside it: what the value must be, and what counts without
//! one. So a command line that knows nothing of a framework can still refuse what its nodes would refuse.
//!
//! - [`Register`]: a value of a framework, with its type, default and bounds.
//! - [`ValueType`]: what a value must be. It is checked before a value is written and again where it is read.
//! - [`ConfigKey`]: what the keys of the store stand for.
//!
//! A setting that is declared [live](crate::SettingSpec::live) has a name there as well: what the layout says is its
//! default then.

mod declared;
mod definition;
mod known;
mod type_code;
mod value_type;

use muster_data::{DataRef, Encode, ValueRef};
use muster_store::Encoded;

pub use declared::Register;
pub(crate) use definition::Check;
pub use definition::{Definition, DefinitionError, DefinitionKind};
pub(crate) use known::{Heard, Known, NotKnown};
pub use value_type::{Unfit, ValueType};

use crate::suggestion;

/// The store that the values are in.
pub const STORE: &str = "muster/config";

/// The most bytes of a name.
pub const LONGEST_NAME: usize = 128;

/// The most bytes of an encoded value. A larger one is refused.
pub const LARGEST_VALUE: usize = 64 * 1024;

/// The first element of a key that a definition is under.
const DEFINED: &str = "defined";

/// What a key of the store stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigKey {
    /// The value of this name.
    Value(String),
    /// The definition of this name.
    Definition(String),
}

impl ConfigKey {
    /// Returns what a key stands for, or `None` if it is nothing of the register's.
    pub fn read(key: DataRef<'_>) -> Option<Self> {
        let name_of = |value: DataRef<'_>| {
            let name = value.to::<String>().ok()?;
            is_name(&name).then_some(name)
        };
        match key.get() {
            ValueRef::String(_) => name_of(key).map(Self::Value),
            ValueRef::Vector(_) => {
                let (kind, name) = key.to::<(String, String)>().ok()?;
                (kind == DEFINED && is_name(&name)).then_some(Self::Definition(name))
            }
            _ => None,
        }
    }

    /// Returns the key as the store has it.
    pub fn encoded(&self) -> Encoded {
        match self {
            Self::Value(name) => value_key(name),
            Self::Definition(name) => key_of(&(DEFINED, name.as_str())),
        }
    }
}

/// The key that the value of a name is under.
pub(crate) fn value_key(name: &str) -> Encoded {
    key_of(name)
}

fn key_of(key: &(impl Encode + ?Sized)) -> Encoded {
    Encoded::key(key)
}

/// Returns `true` if a text can be a name: 1 to 128 letters, digits, `.`, `_`, `-`, `/` and `:`.
pub fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(fits)
}

/// Returns the name that was meant by a mistyped one, if one of the known names is like it.
pub fn nearest_name<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    suggestion::nearest(name, known)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use muster_data::Data;

    use super::*;

    #[test]
    fn keys_are_read_as_they_were_written() {
        for key in [
            ConfigKey::Value("scan.threshold".to_owned()),
            ConfigKey::Definition("scan.threshold".to_owned()),
        ] {
            assert_eq!(ConfigKey::read(key.encoded().view()), Some(key));
        }
    }

    #[test]
    fn keys_of_others_are_nothing_of_the_registers() {
        for key in [
            Data::Count(1),
            Data::string(""),
            Data::string("two words"),
            Data::string("a\nb"),
            Data::string(vec![b'a'; LONGEST_NAME + 1]),
            Data::string(b"\xff"),
            Data::vector([Data::string("defined")]),
            Data::vector([Data::string("other"), Data::string("a")]),
            Data::vector([Data::string("defined"), Data::Count(1)]),
        ] {
            let key = Encoded::key(&key);
            assert_eq!(ConfigKey::read(key.view()), None, "{key}");
        }
    }
}
