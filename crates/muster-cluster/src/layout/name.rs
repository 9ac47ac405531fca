//! Names and roles: newtypes whose existence proves that the text is usable in a topic.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

/// The longest node or pool name in bytes; keeps every topic far below the 65,535 of the wire.
pub const LONGEST_NAME: usize = 128;

/// A text that is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a name: a name has 1 to {LONGEST_NAME} letters, digits, `_`, `.` or `-`")]
pub struct NameError {
    text: String,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 to 128 ASCII letters, digits, `_`, `.` and `-`. Ordered bytewise, as Zeek's `strcmp`
        /// orders nodes when pools are filled. Cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text and makes it a name.
            ///
            /// # Errors
            /// [`NameError`] if the text is not a name.
            pub fn new(text: &str) -> Result<Self, NameError> {
                let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
                if text.is_empty() || text.len() > LONGEST_NAME || !text.bytes().all(fits) {
                    return Err(NameError { text: text.chars().take(LONGEST_NAME).collect() });
                }
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// The name of a node, such as `worker-1`. Names decide who owns which key.
    NodeName
}

/// What the names in the mesh of boxes' agents begin with: no node is called so.
pub const AGENT_PREFIX: &str = "agent.";

name! {
    /// The name of a pool: the built-in `proxy`, `worker`, `logger` and `manager`, or one of the layout's own.
    PoolName
}

impl PoolName {
    /// The built-in pool of all proxies (data nodes).
    pub fn proxy() -> Self {
        static NAME: LazyLock<PoolName> = LazyLock::new(|| PoolName("proxy".into()));
        NAME.clone()
    }

    /// The built-in pool of all workers.
    pub fn worker() -> Self {
        static NAME: LazyLock<PoolName> = LazyLock::new(|| PoolName("worker".into()));
        NAME.clone()
    }

    /// The built-in pool of all loggers.
    pub fn logger() -> Self {
        static NAME: LazyLock<PoolName> = LazyLock::new(|| PoolName("logger".into()));
        NAME.clone()
    }

    /// The built-in pool of all managers. Its keys are *duties*: what one manager does, and another one when that is gone. Zeek has no
    /// such pool.
    pub fn manager() -> Self {
        static NAME: LazyLock<PoolName> = LazyLock::new(|| PoolName("manager".into()));
        NAME.clone()
    }

    pub(crate) fn is_manager(&self) -> bool {
        self.as_str() == "manager"
    }

    /// Whether this is one of Zeek's own three pools, whose topics have no trailing slash.
    pub fn is_built_in(&self) -> bool {
        matches!(self.as_str(), "proxy" | "worker" | "logger")
    }
}

/// What a node does in the cluster; Zeek's `Cluster::NodeType` without `NONE` and `CONTROL`.
///
/// Ordered as the layers of the star: hubs first, workers last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Takes the log records of all others.
    Logger,
    /// Coordinates; without a logger it takes the logs as well.
    Manager,
    /// A data node: holds state and keyed work for the workers.
    Proxy,
    /// Reads input and publishes what it sees.
    Worker,
}

impl Role {
    /// All roles, in their order.
    pub const ALL: [Self; 4] = [Self::Logger, Self::Manager, Self::Proxy, Self::Worker];

    /// The role's name in layouts and topics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logger => "logger",
            Self::Manager => "manager",
            Self::Proxy => "proxy",
            Self::Worker => "worker",
        }
    }

    /// Reads a role's name; `data` is another name for a proxy. Returns `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "data" {
            return Some(Self::Proxy);
        }
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Returns `true` if nodes of this role are linked to one another, and relay unless the layout says otherwise: all
    /// but workers.
    pub const fn is_hub(self) -> bool {
        !matches!(self, Self::Worker)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(NodeName::new("worker-1").unwrap().as_str(), "worker-1");
        for text in ["", "a/b", "a b", "ä", "*", &"x".repeat(129)] {
            assert!(NodeName::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn data_is_another_name_of_proxy() {
        assert_eq!(Role::from_name("data"), Some(Role::Proxy));
        assert_eq!(Role::from_name("control"), None);
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.as_str()), Some(role));
        }
    }
}
