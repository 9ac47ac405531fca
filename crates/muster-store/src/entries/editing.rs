//! Changes of entries that somebody else has decided.

use muster_data::Timestamp;

use super::{Entries, Entry, Place};
use crate::Encoded;
use crate::arithmetic::amend;
use crate::op::{Edit, StoreEvent};

impl Entries {
    /// What an edit does here, without what was before. What an amendment makes may be `known`. Returns `None` if the key has no value
    /// that can be amended so.
    pub(crate) fn event(&self, edit: Edit, known: Option<Encoded>) -> Option<StoreEvent> {
        Some(match edit {
            Edit::Put {
                key,
                value,
                expires,
            } => StoreEvent::Put {
                key,
                value,
                expires,
                old: None,
                amendment: None,
            },
            Edit::Amend {
                key,
                amendment,
                expires,
            } => {
                let value = match known {
                    Some(value) => value,
                    None => amend(&self.get(&key)?.value, &amendment).ok()?.value,
                };
                StoreEvent::Put {
                    key,
                    value,
                    expires,
                    old: None,
                    amendment: Some(amendment),
                }
            }
            Edit::Erase { key } => StoreEvent::Erase { key, old: None },
            Edit::Expire { key } => StoreEvent::Expire { key, old: None },
            Edit::Clear => StoreEvent::Clear { old: Vec::new() },
        })
    }

    /// Makes a change with its number. Returns what it did; `None`, and does nothing, if the key has no value that can be amended so.
    pub(crate) fn perform(&mut self, number: u64, edit: Edit) -> Option<StoreEvent> {
        let mut event = self.event(edit, None)?;
        self.make(number, None, &mut event);
        Some(event)
    }

    /// Makes a change with its number, and notes in it what was before. `place` is where the key of a put was found. Returns when the TTL of
    /// what was there would have ended.
    pub(crate) fn make(
        &mut self,
        number: u64,
        place: Option<Place>,
        event: &mut StoreEvent,
    ) -> Option<Timestamp> {
        let (before, old) = match event {
            StoreEvent::Put {
                key,
                value,
                expires,
                old,
                amendment: _,
            } => {
                let entry = Entry {
                    value: value.clone(),
                    expires: *expires,
                    changed: number,
                };
                let place = place.unwrap_or_else(|| self.locate(key));
                (self.put_at(place, key.clone(), entry), old)
            }
            StoreEvent::Erase { key, old } | StoreEvent::Expire { key, old } => {
                (self.remove(key), old)
            }
            StoreEvent::Clear { old } => {
                let all = self.take().into_iter();
                *old = all.map(|(key, entry)| (key, entry.value)).collect();
                return None;
            }
        };
        let ended = before.as_ref().and_then(|before| before.expires);
        *old = before.map(|before| before.value);
        ended
    }
}
