//! What can be done with a store on the command line.

use anyhow::Result;
use muster::store::{OpKind, StoreNeed};
use muster_data::Data;

use super::super::message;
use crate::output::Failure;

/// An operation of `muster store`, with its arguments.
pub(super) enum Operation {
    Get(Data),
    Put(Data, Data),
    Erase(Data),
    Increment(Data, Data),
    Keys,
    Size,
    Dump,
    Watch(Option<String>),
    Load(Option<String>),
    Clear,
}

impl Operation {
    /// Reads the operation and its arguments.
    pub(super) fn read(words: &[String]) -> Result<Self> {
        let Some((operation, arguments)) = words.split_first() else {
            return Err(usage("the operation is missing"));
        };
        let data = |at: usize| message::argument(at + 1, &arguments[at]);
        let is = |least: usize, most: usize| {
            if (least..=most).contains(&arguments.len()) {
                Ok(())
            } else {
                let given = arguments.len();
                Err(usage(&format!(
                    "`{operation}` takes {least} to {most} arguments, {given} given"
                )))
            }
        };
        Ok(match operation.as_str() {
            "get" => {
                is(1, 1)?;
                Self::Get(data(0)?)
            }
            "put" => {
                is(2, 2)?;
                Self::Put(data(0)?, data(1)?)
            }
            "erase" => {
                is(1, 1)?;
                Self::Erase(data(0)?)
            }
            "increment" => {
                is(1, 2)?;
                let amount = if arguments.len() > 1 {
                    data(1)?
                } else {
                    Data::Count(1)
                };
                Self::Increment(data(0)?, amount)
            }
            "keys" => {
                is(0, 0)?;
                Self::Keys
            }
            "size" => {
                is(0, 0)?;
                Self::Size
            }
            "dump" => {
                is(0, 0)?;
                Self::Dump
            }
            "clear" => {
                is(0, 0)?;
                Self::Clear
            }
            "watch" => {
                is(0, 1)?;
                Self::Watch(arguments.first().cloned())
            }
            "load" => {
                is(0, 1)?;
                Self::Load(arguments.first().cloned())
            }
            other => return Err(usage(&format!("there is no operation `{other}`"))),
        })
    }

    /// What is needed of a store that is not open. Whoever only looks, or removes, makes none.
    pub(super) fn need(&self, persistent: bool) -> StoreNeed {
        match self {
            Self::Put(..) | Self::Increment(..) | Self::Load(_) if persistent => {
                StoreNeed::Persistent
            }
            Self::Put(..) | Self::Increment(..) | Self::Load(_) => StoreNeed::Any,
            Self::Get(_)
            | Self::Erase(_)
            | Self::Keys
            | Self::Size
            | Self::Dump
            | Self::Watch(_)
            | Self::Clear => StoreNeed::Existing,
        }
    }

    /// Whether all entries are needed here.
    pub(super) fn needs_copy(&self) -> bool {
        matches!(self, Self::Keys | Self::Dump | Self::Watch(_))
    }
}

/// How a write is said on the command line, if it can be.
fn words_of(kind: OpKind) -> Option<&'static str> {
    match kind {
        OpKind::Put => Some("put KEY VALUE"),
        OpKind::PutUnique => Some("put --unique KEY VALUE"),
        OpKind::Erase => Some("erase KEY"),
        OpKind::Add => Some("increment KEY [AMOUNT]"),
        OpKind::Clear => Some("clear"),
        // A negative amount subtracts, and a revision is nothing to type.
        OpKind::Subtract | OpKind::Swap | OpKind::Expire => None,
    }
}

/// What was typed wrong, and what may be typed.
pub(super) fn usage(problem: &str) -> anyhow::Error {
    let writes: Vec<_> = OpKind::ALL.iter().copied().filter_map(words_of).collect();
    Failure::new(problem.to_owned())
        .hint(format!(
            "muster store ADDRESS NAME get KEY | keys | size | dump | watch [PREFIX] | load [FILE] | {}, or \
             muster store FILE.sqlite get KEY | keys | size | dump",
            writes.join(" | ")
        ))
        .code(2)
        .into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_wrong_is_told() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        for (wrong, problem) in [
            ("gett k", "no operation `gett`"),
            ("get", "`get` takes 1 to 1 arguments, 0 given"),
            ("put k", "`put` takes 2 to 2 arguments, 1 given"),
        ] {
            let error = Operation::read(&words(wrong)).err().unwrap().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
