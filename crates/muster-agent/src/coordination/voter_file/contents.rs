//! What a file holds, without the bytes of it: enough to know what fits behind it, and to seal it.

use flate2::Crc;
use muster_consensus::{
    Batch, ClusterId, DiskId, Entry, Kept, MAX_LOG_BYTES, MAX_LOG_ENTRIES, Promise, Snapshot,
};

/// The most entries of a file. A voter has half of that, and a few more.
pub(super) const MAX_ENTRIES: usize = 2 * MAX_LOG_ENTRIES;

/// The most bytes of all entries of a file.
pub(super) const MAX_BYTES: usize = 2 * MAX_LOG_BYTES;

/// Returns the checksum of bytes: CRC-32, which finds every flipped bit and every short burst.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A row that is to be written: an entry, or a snapshot.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) number: u64,
    pub(super) content: Vec<u8>,
    pub(super) checksum: u32,
}

impl Row {
    fn new(number: u64, content: Vec<u8>) -> Self {
        Self {
            number,
            checksum: checksum(&content),
            content,
        }
    }
}

/// A batch as it is written.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The group, if the file begins with this.
    pub(super) cluster: Option<ClusterId>,
    pub(super) promise: Option<Promise>,
    pub(super) snapshot: Option<Row>,
    pub(super) clears: bool,
    pub(super) entries: Vec<Row>,
}

/// Why a batch is refused.
pub(super) type Unfit = &'static str;

impl Rows {
    /// Encodes a batch. What could not be read again is refused.
    pub(super) fn of(batch: &Batch) -> Result<Self, Unfit> {
        let entries = batch.entries.iter().map(|entry| {
            let content = entry.encode();
            match Entry::decode(&content) {
                Ok(_) => Ok(Row::new(entry.index, content)),
                Err(_) => Err("an entry is out of bounds"),
            }
        });
        let snapshot = batch.snapshot.as_ref().map(|snapshot| {
            let content = snapshot.encode();
            match Snapshot::decode(&content) {
                Ok(_) => Ok(Row::new(snapshot.index, content)),
                Err(_) => Err("a state is out of bounds"),
            }
        });
        let promise = batch.promise.as_ref();
        if promise.is_some_and(|promise| Promise::decode(&promise.encode()).is_err()) {
            return Err("a promise is out of bounds");
        }
        Ok(Self {
            cluster: None,
            promise: batch.promise,
            snapshot: snapshot.transpose()?,
            clears: batch.clears,
            entries: entries.collect::<Result<_, _>>()?,
        })
    }

    /// Encodes what a file begins with.
    pub(super) fn beginning(kept: &Kept) -> Result<Self, Unfit> {
        let rows = Self::of(&Batch {
            promise: Some(kept.promise),
            snapshot: kept.snapshot.clone(),
            clears: true,
            entries: kept.entries.clone(),
            sync: true,
        })?;
        Ok(Self {
            cluster: Some(kept.cluster),
            ..rows
        })
    }

    /// Returns `true` if there is nothing but a promise.
    pub(super) fn only_promise(&self) -> bool {
        self.cluster.is_none() && self.snapshot.is_none() && self.entries.is_empty()
    }

    /// Returns what it counts for in memory.
    pub(super) fn weight(&self) -> usize {
        let rows = self.snapshot.iter().chain(&self.entries);
        rows.map(|row| row.content.len()).sum()
    }
}

/// What a file holds once everything is written that was taken.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) disk: DiskId,
    pub(super) cluster: Option<ClusterId>,
    pub(super) promise: Promise,
    /// Index and checksum.
    pub(super) snapshot: Option<(u64, u32)>,
    /// Checksums and lengths, of all entries behind the snapshot.
    pub(super) entries: Vec<(u32, usize)>,
}

impl Contents {
    /// Returns those of a file that has only its identity.
    pub(super) fn new(disk: DiskId) -> Self {
        Self {
            disk,
            cluster: None,
            promise: Promise::default(),
            snapshot: None,
            entries: Vec::new(),
        }
    }

    /// Takes what is to be written, as [`Kept::write`] does. What would leave a gap, or make the file too large, is refused,
    /// and nothing has changed then.
    pub(super) fn take(&mut self, rows: &Rows) -> Result<(), Unfit> {
        let base = self.snapshot.map_or(0, |(index, _)| index);
        // Of the entries that are there, those from the one place to the other stay.
        let (mut from, mut to) = (0, self.entries.len());
        let mut after = base;
        if let Some(row) = &rows.snapshot {
            let covered = row.number.checked_sub(base);
            from = match covered {
                _ if rows.clears => to,
                Some(covered) => usize::try_from(covered).unwrap_or(usize::MAX).min(to),
                None => return Err("a state is older than the one that is there"),
            };
            after = row.number;
        }
        if let Some(first) = rows.entries.first() {
            let has_state = rows.snapshot.is_some() || self.snapshot.is_some();
            let place = first.number.checked_sub(after + 1);
            let place = place.and_then(|place| usize::try_from(place).ok());
            let place = place.filter(|place| has_state && *place <= to - from);
            let mut numbered = rows.entries.iter().zip(first.number..);
            match place {
                Some(place) if numbered.all(|(row, number)| row.number == number) => {
                    to = from + place;
                }
                _ => return Err("entries do not follow those that are there"),
            }
        }
        let new = rows.entries.iter();
        let new: Vec<_> = new.map(|row| (row.checksum, row.content.len())).collect();
        let all = self.entries[from..to].iter().chain(&new);
        let bytes: usize = all.map(|(_, length)| length).sum();
        if to - from + new.len() > MAX_ENTRIES || bytes > MAX_BYTES {
            return Err("it would have more entries than a voter's file may");
        }
        self.entries.truncate(to);
        self.entries.drain(..from);
        self.entries.extend(new);
        if let Some(row) = &rows.snapshot {
            self.snapshot = Some((row.number, row.checksum));
        }
        if let Some(promise) = rows.promise {
            self.promise = promise;
        }
        if let Some(cluster) = rows.cluster {
            self.cluster = Some(cluster);
        }
        Ok(())
    }

    /// Returns a checksum of all that is there. It is written with each change, so that a file is found out whose parts are each
    /// sound, and are not of one time, or of which one is missing.
    pub(super) fn seal(&self) -> u32 {
        let mut crc = Crc::new();
        crc.update(&self.disk.0);
        if let Some(cluster) = &self.cluster {
            crc.update(&cluster.0);
        }
        let promise = self.promise.encode();
        let (index, sum) = self.snapshot.unwrap_or_default();
        crc.update(&(promise.len() as u64).to_le_bytes());
        crc.update(&promise);
        crc.update(&index.to_le_bytes());
        crc.update(&sum.to_le_bytes());
        crc.update(&(self.entries.len() as u64).to_le_bytes());
        for (sum, _) in &self.entries {
            crc.update(&sum.to_le_bytes());
        }
        crc.sum()
    }
}
