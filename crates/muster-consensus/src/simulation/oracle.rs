//! What must hold, whatever happens.

use std::collections::BTreeMap;

use crate::id::DiskId;
use crate::message::{Body, Message};
use crate::{Content, Entry, Kept};

/// What all voters together have done.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// Who has led a term: the voter and its life.
    leaders: BTreeMap<u64, (usize, u64)>,
    /// What was applied at each index, with everything before it.
    chain: BTreeMap<u64, u64>,
    /// What was agreed on, of what was proposed.
    pub(super) data: u64,
}

/// A voter's state: the last index, and a digest of all entries up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) index: u64,
    pub(super) digest: u64,
}

impl State {
    pub(super) const FOUNDED: Self = Self {
        index: 1,
        digest: 7,
    };

    pub(super) fn bytes(self) -> Vec<u8> {
        [self.index.to_be_bytes(), self.digest.to_be_bytes()].concat()
    }

    pub(super) fn read(bytes: &[u8]) -> Self {
        let number = |at: usize| {
            let part = bytes.get(at..at + 8).expect("a state of 16 bytes");
            u64::from_be_bytes(part.try_into().expect("eight bytes"))
        };
        Self {
            index: number(0),
            digest: number(8),
        }
    }
}

pub(super) fn digest(mut from: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        from = (from ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    from
}

impl Oracle {
    /// I1: one leader per term.
    pub(super) fn leads(&mut self, term: u64, voter: (usize, u64)) -> Result<(), String> {
        match self.leaders.insert(term, voter) {
            Some(other) if other != voter => {
                Err(format!("I1: {other:?} and {voter:?} lead term {term}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether anything was applied at an index.
    pub(super) fn knows(&self, index: u64) -> bool {
        self.chain.contains_key(&index)
    }

    /// I1: the same entries everywhere, in order.
    pub(super) fn apply(&mut self, state: &mut State, entry: &Entry) -> Result<(), String> {
        if entry.index != state.index + 1 {
            return Err(format!(
                "I1: entry {} is applied behind {}",
                entry.index, state.index
            ));
        }
        let first = !self.chain.contains_key(&entry.index);
        if first && matches!(entry.content, Content::Data(_)) {
            self.data += 1;
        }
        *state = State {
            index: entry.index,
            digest: digest(state.digest, &entry.encode()),
        };
        self.agree(*state)
    }

    /// I1: a state is that of its index.
    pub(super) fn agree(&mut self, state: State) -> Result<(), String> {
        let agreed = *self.chain.entry(state.index).or_insert(state.digest);
        if agreed == state.digest {
            Ok(())
        } else {
            Err(format!("I1: two states at index {}", state.index))
        }
    }

    /// I2 and I3: what a message says is on its sender's disk.
    pub(super) fn sends(
        disk: DiskId,
        kept: &Kept,
        to: DiskId,
        message: &Message,
    ) -> Result<(), String> {
        let promise = &kept.promise;
        let term = message.body.term().unwrap_or(0);
        let told = match &message.body {
            Body::WrongDisk | Body::Vote { pre: true, .. } => true,
            Body::VoteReply { pre, granted, .. } => {
                if *granted && kept.snapshot.is_none() {
                    return Err(format!("I3: {disk} is empty and votes"));
                }
                let votes = promise.term == term && promise.vote == to.number();
                *pre || promise.term >= term && (!granted || votes || promise.term > term)
            }
            Body::Vote { .. } => {
                promise.term > term || promise.term == term && promise.vote == disk.number()
            }
            Body::AppendReply {
                index,
                rejected: None,
                ..
            } => promise.term >= term && kept.last() >= *index,
            _ => promise.term >= term,
        };
        if told {
            Ok(())
        } else {
            let body = &message.body;
            Err(format!(
                "I2: {disk} says {body:?}, and its disk {promise:?}"
            ))
        }
    }
}
