//! What is decided about a state and not yet made in it, because not all copies have it.

use std::collections::HashMap;

use crate::Encoded;
use crate::entries::{ENTRY_OVERHEAD, Entries, Entry};
use crate::op::{Edit, StoreEvent, Writer};

/// The changes behind the state, by what they leave: a command that is decided now must see them, and nobody else may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    /// What the last change of a key leaves of it, with that change's number.
    keys: HashMap<Encoded, (Option<Entry>, u64)>,
    /// The last change that removes everything; 0 if there is none. What comes behind it is in `keys`.
    cleared: u64,
    /// The numbers of the last commands of writers.
    writers: HashMap<Writer, u64>,
    /// The memory that its entries take.
    bytes: usize,
}

impl Pending {
    /// What a key has, if a change decides that.
    #[allow(
        clippy::option_option,
        reason = "what is decided may be that the key is removed"
    )]
    pub(crate) fn get(&self, key: &Encoded) -> Option<Option<&Entry>> {
        match self.keys.get(key) {
            Some((entry, _)) => Some(entry.as_ref()),
            None if self.cleared > 0 => Some(None),
            None => None,
        }
    }

    /// Returns `true` if a change is to come that concerns a key.
    pub(crate) fn changes_key(&self, key: &Encoded) -> bool {
        self.cleared > 0 || self.keys.contains_key(key)
    }

    /// The number of the last command of a writer that has one here.
    pub(crate) fn last_of(&self, writer: Writer) -> Option<u64> {
        self.writers.get(&writer).copied()
    }

    /// The memory that its entries take, at most so much more than what they replace.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns `true` if no key is left when all is made.
    pub(crate) fn leaves_nothing_of(&self, entries: &Entries) -> bool {
        let puts = self.keys.values().filter(|(entry, _)| entry.is_some());
        if puts.count() > 0 {
            return false;
        }
        let kept = |key| !self.keys.contains_key(key);
        self.cleared > 0 || !entries.iter().any(|(key, _)| kept(key))
    }

    /// Notes a command.
    pub(crate) fn note(&mut self, writer: Writer, number: u64) {
        self.writers.insert(writer, number);
    }

    /// Adds a change behind all that are here.
    pub(crate) fn add(&mut self, number: u64, event: &StoreEvent) {
        match event {
            StoreEvent::Put {
                key,
                value,
                expires,
                ..
            } => {
                let entry = Entry {
                    value: value.clone(),
                    expires: *expires,
                    changed: number,
                };
                self.set(key, Some(entry), number);
            }
            StoreEvent::Erase { key, .. } | StoreEvent::Expire { key, .. } => {
                self.set(key, None, number);
            }
            StoreEvent::Clear { .. } => {
                self.keys.clear();
                self.bytes = 0;
                self.cleared = number;
            }
        }
    }

    fn set(&mut self, key: &Encoded, entry: Option<Entry>, number: u64) {
        self.bytes += cost(key, entry.as_ref());
        let before = self.keys.insert(key.clone(), (entry, number));
        if let Some((before, _)) = before {
            self.bytes -= cost(key, before.as_ref());
        }
    }

    /// A command is over.
    pub(crate) fn end(&mut self, writer: Writer, number: u64) {
        if self.writers.get(&writer) == Some(&number) {
            self.writers.remove(&writer);
        }
    }

    /// A change is made. Returns the value that it leaves, if no later one concerns its key.
    pub(crate) fn made(&mut self, number: u64, edit: &Edit) -> Option<Encoded> {
        let Some(key) = edit.key() else {
            if self.cleared == number {
                self.cleared = 0;
            }
            return None;
        };
        let (_, last) = self.keys.get(key)?;
        if *last != number {
            return None;
        }
        let (entry, _) = self.keys.remove(key)?;
        self.bytes -= cost(key, entry.as_ref());
        entry.map(|entry| entry.value)
    }
}

fn cost(key: &Encoded, entry: Option<&Entry>) -> usize {
    entry.map_or(0, |entry| key.size() + entry.value.size() + ENTRY_OVERHEAD)
}
