//! What clients asked and were told.

use serde::{Deserialize, Serialize};

/// One operation of one client, as it stands on a line of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who asked. A client asks one thing after another.
    pub client: u32,
    /// What it is about.
    pub key: String,
    /// When it was asked, in nanoseconds of the machine's monotonic clock.
    pub began: u64,
    /// When the answer came, or was no longer waited for.
    pub ended: u64,
    /// What was asked.
    pub asked: Asked,
    /// What was told.
    pub outcome: Outcome,
}

/// What a key is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A value that is replaced.
    Register,
    /// A value that the first writes.
    Unique,
    /// A number that grows by one.
    Counter,
    /// A list that grows at its end.
    List,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Register, Self::Unique, Self::Counter, Self::List];

    /// Returns the kind's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Unique => "unique",
            Self::Counter => "counter",
            Self::List => "list",
        }
    }
}

/// An operation. Values that are written are never written twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// Read a register.
    Get,
    /// Write a register.
    Put(u64),
    /// Write a register if it has a value. Answered with whether it had.
    Swap {
        /// The value that it must have; `None` for none.
        from: Option<u64>,
        /// The value that it gets.
        to: u64,
    },
    /// Write if nobody has. Answered with whether nobody had.
    PutUnique(u64),
    /// Read who has.
    GetUnique,
    /// Add one. Answered with the sum.
    Increment,
    /// Read a sum.
    GetCounter,
    /// Add at the end of a list.
    Push(u64),
    /// Read a list.
    GetList,
}

impl Asked {
    /// Returns what the key is used as.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Get | Self::Put(_) | Self::Swap { .. } => Kind::Register,
            Self::PutUnique(_) | Self::GetUnique => Kind::Unique,
            Self::Increment | Self::GetCounter => Kind::Counter,
            Self::Push(_) | Self::GetList => Kind::List,
        }
    }

    /// Whether it changes something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(
            self,
            Self::Get | Self::GetUnique | Self::GetCounter | Self::GetList
        )
    }
}

/// What became of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A write was applied.
    Done,
    /// A write was applied, or was not because of what was there.
    Applied(bool),
    /// What was read, or what a number has become; `None` for nothing.
    Value(Option<u64>),
    /// The list that was read.
    List(Vec<u64>),
    /// It was not applied and never will be, or nothing was read.
    Failed,
    /// Nobody knows whether it was or will be applied.
    Unknown,
}
