//! Amendments of large values: rows of a table that Broker ignores, until the whole value is written again.

use std::collections::HashMap;

use muster_data::Timestamp;
use rusqlite::{Connection, Transaction, params};

use crate::arithmetic::amend;
use crate::op::Amendment;
use crate::{Encoded, Entry};

/// What a row takes in a file besides key and part, roughly.
const ROW: usize = 32;

/// Which rows of the store are older than the amendments of their keys. So much is written in amendments of a value as the value is large;
/// then it is written whole.
#[derive(Debug, Default)]
pub(super) struct Amended {
    /// With what the keys have now. `None` after a failure: what of it is in the file is not known, and every value is written whole.
    keys: Option<HashMap<Encoded, Now>>,
}

#[derive(Debug)]
struct Now {
    entry: Entry,
    /// The bytes of its amendments.
    bytes: usize,
}

impl Amended {
    /// There are no amendments in the file.
    pub(super) fn none() -> Self {
        Self {
            keys: Some(HashMap::new()),
        }
    }

    /// A transaction has failed.
    pub(super) fn is_unknown(&mut self) {
        self.keys = None;
    }

    /// Writes an entry whole.
    pub(super) fn put(
        &mut self,
        transaction: &Transaction<'_>,
        key: &Encoded,
        entry: &Entry,
    ) -> rusqlite::Result<()> {
        self.forget(transaction, key)?;
        put(transaction, key, entry)
    }

    /// A key's amendments are of no use any more.
    pub(super) fn forget(
        &mut self,
        transaction: &Transaction<'_>,
        key: &Encoded,
    ) -> rusqlite::Result<()> {
        let is_amended = match &mut self.keys {
            None => true,
            Some(keys) => !keys.is_empty() && keys.remove(key).is_some(),
        };
        if is_amended {
            let mut forget =
                transaction.prepare_cached("DELETE FROM muster_amendment WHERE key = ?")?;
            forget.execute([key.as_bytes()])?;
        }
        Ok(())
    }

    /// All keys are removed.
    pub(super) fn clear(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute("DELETE FROM muster_amendment", [])?;
        *self = Self::none();
        Ok(())
    }

    /// Writes an amendment, or the whole entry if that pays.
    pub(super) fn amend(
        &mut self,
        transaction: &Transaction<'_>,
        key: &Encoded,
        entry: &Entry,
        amendment: &Amendment,
    ) -> rusqlite::Result<()> {
        let Some(keys) = &mut self.keys else {
            return self.put(transaction, key, entry);
        };
        let part = amendment.part();
        let more = key.size() + part.size() + ROW;
        let bytes = keys.get(key).map_or(0, |now| now.bytes) + more;
        if bytes > entry.value.size() {
            return self.put(transaction, key, entry);
        }
        let mut add = transaction.prepare_cached(
            "INSERT INTO muster_amendment(key, subtracts, part, expiry) VALUES(?, ?, ?, ?)",
        )?;
        let subtracts = matches!(amendment, Amendment::Subtract(_));
        let expiry = entry.expires.map(Timestamp::as_nanos);
        add.execute(params![key.as_bytes(), subtracts, part.as_bytes(), expiry])?;
        let entry = entry.clone();
        keys.insert(key.clone(), Now { entry, bytes });
        Ok(())
    }

    /// Writes all values whole, so that others read them, too.
    pub(super) fn write_whole(&mut self, connection: &mut Connection) -> rusqlite::Result<()> {
        let Some(keys) = &self.keys else {
            return Ok(());
        };
        if keys.is_empty() {
            return Ok(());
        }
        let transaction = connection.transaction()?;
        for (key, now) in keys {
            put(&transaction, key, &now.entry)?;
        }
        transaction.execute("DELETE FROM muster_amendment", [])?;
        transaction.commit()?;
        *self = Self::none();
        Ok(())
    }

    /// Amends what was read of the rows of the store. Returns what is damaged, if something is.
    pub(super) fn read(
        &mut self,
        connection: &Connection,
        entries: &mut [(Encoded, Entry)],
    ) -> rusqlite::Result<Option<String>> {
        *self = Self::none();
        let is_there = connection.query_row(
            "SELECT count(*) FROM sqlite_master WHERE name = 'muster_amendment'",
            [],
            |row| row.get::<_, i64>(0),
        )?;
        if is_there == 0 {
            return Ok(None);
        }
        let mut statement = connection.prepare(
            "SELECT number, key, subtracts, part, expiry FROM muster_amendment ORDER BY number",
        )?;
        let mut rows = statement.query([])?;
        let mut places: HashMap<Encoded, usize> = HashMap::new();
        let mut is_placed = false;
        while let Some(row) = rows.next()? {
            if !is_placed {
                is_placed = true;
                let keys = entries.iter().map(|(key, _)| key.clone());
                places = keys.zip(0..).collect();
            }
            let number: i64 = row.get(0)?;
            let damaged = || Some(format!("amendment {number} fits to no entry"));
            let value = |column: usize| {
                let bytes = row.get_ref(column).ok()?.as_blob().ok()?;
                Encoded::parse(bytes).ok()
            };
            let (Some(key), Some(part)) = (value(1), value(3)) else {
                return Ok(damaged());
            };
            let amendment = if row.get(2)? {
                Amendment::Subtract(part)
            } else {
                Amendment::Add(part)
            };
            let expires: Option<i64> = row.get(4)?;
            let key = key.into_key();
            let place = places.get(&key).and_then(|place| entries.get_mut(*place));
            let Some((_, entry)) = place else {
                return Ok(damaged());
            };
            let Ok(amended) = amend(&entry.value, &amendment) else {
                return Ok(damaged());
            };
            entry.value = amended.value;
            entry.expires = expires.map(Timestamp::from_nanos);
            if let Some(keys) = &mut self.keys {
                let (entry, bytes) = (entry.clone(), usize::MAX / 2);
                keys.insert(key, Now { entry, bytes });
            }
        }
        Ok(None)
    }
}

fn put(transaction: &Transaction<'_>, key: &Encoded, entry: &Entry) -> rusqlite::Result<()> {
    let mut put = transaction
        .prepare_cached("INSERT OR REPLACE INTO store(key, value, expiry) VALUES(?, ?, ?)")?;
    let expiry = entry.expires.map(Timestamp::as_nanos);
    put.execute(params![key.as_bytes(), entry.value.as_bytes(), expiry])?;
    Ok(())
}
