//! Judges from outside whether a cluster has kept its word: what clients asked of it and what they were told goes in, lies come out.
//!
//! A client that is told nothing in time does not know whether its write was applied: it may have been, once. Everything else
//! must fit: an acknowledged write is there, once, and nobody sees what is not, or time running backwards.

mod counter;
mod history;
mod list;
mod register;
mod unique;

use std::collections::BTreeMap;
use std::fmt;

pub use self::history::{Asked, Kind, Outcome, Record};

/// Something that the cluster said and that is not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lie {
    /// The key that it is about.
    pub key: String,
    /// In words.
    pub text: String,
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

/// Finds all lies of a history. Keys are judged one by one: each has one kind of operation.
#[must_use]
pub fn judge(history: &[Record]) -> Vec<Lie> {
    let mut keys: BTreeMap<(Kind, &str), Vec<&Record>> = BTreeMap::new();
    for record in history {
        let of_key = keys.entry((record.asked.kind(), &record.key)).or_default();
        of_key.push(record);
    }
    let mut lies = Vec::new();
    for ((kind, key), records) in keys {
        let found = match kind {
            Kind::Register => register::judge(&records),
            Kind::Unique => unique::judge(&records),
            Kind::Counter => counter::judge(&records),
            Kind::List => list::judge(&records),
        };
        lies.extend(found.into_iter().map(|text| Lie {
            key: key.to_owned(),
            text,
        }));
    }
    lies
}

#[cfg(test)]
mod forged {
    //! Histories made up for tests.

    use super::*;

    /// An operation of a client that was answered.
    pub(super) fn said(client: u32, times: (u64, u64), asked: Asked, outcome: Outcome) -> Record {
        Record {
            client,
            key: "k".to_owned(),
            began: times.0,
            ended: times.1,
            asked,
            outcome,
        }
    }

    pub(super) fn lies(history: &[Record]) -> Vec<String> {
        judge(history).into_iter().map(|lie| lie.text).collect()
    }
}
