//! The spool of a node: batches on disk that no logger has acknowledged, those of this life and of former ones.
//!
//! Each life has a directory with a journal of its own. What a life has left there the next one sends, under the numbers and
//! the name of that life: loggers know what they have of it.

#[cfg(any(test, feature = "simulation"))]
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fmt, io};

use muster_data::{Data, DataRef, Encode, Limits, Record};
use muster_spool::{
    Files, Found, Journal, JournalConfig, JournalError, JournalErrorKind, JournalName, Opened,
    Start,
};
use muster_wire::EndpointId;

#[cfg(any(test, feature = "simulation"))]
pub use model::ModelHome;
pub use muster_spool::Position as SpoolPlace;

use super::messages::is_node;
use super::{Batch, Numbers};

/// The name of a life's journal.
const JOURNAL: &str = "batches";

/// The longest record: a batch of records, none of which can be longer than a message.
const LONGEST: u32 = 64 << 20;

/// The kinds of records.
mod kind {
    /// The first of a segment: whose batches these are.
    pub(super) const LIFE: u8 = 1;
    pub(super) const BATCH: u8 = 2;
    pub(super) const FORGOTTEN: u8 = 3;
}

/// The first record of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
struct LifeRecord {
    node: String,
    life: String,
    /// Ranges of numbers that are not open any more.
    forgotten: Vec<u64>,
}

/// Something to be done with the spool of a life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpoolOrder {
    /// Keep a batch.
    Keep {
        /// Its number.
        number: u64,
        /// The batch.
        batch: Batch,
    },
    /// Read a batch.
    Read {
        /// Its number.
        number: u64,
        /// Where it is.
        place: SpoolPlace,
    },
    /// Forget batches.
    Forget(Numbers),
    /// Nothing of a former life is open any more: its directory can go.
    End,
}

/// What has become of a [`SpoolOrder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpoolOutcome {
    /// The spool was synced.
    Synced {
        /// These batches are safe.
        kept: Vec<(u64, SpoolPlace)>,
        /// These are forgotten for good.
        forgotten: Numbers,
    },
    /// A batch is not kept.
    NotKept {
        /// Its number.
        number: u64,
        /// Whether a next life may find it all the same.
        may_be_there: bool,
        /// What went wrong.
        problem: String,
    },
    /// It could not be noted what is to be forgotten. It is tried again.
    NotForgotten {
        /// What went wrong.
        problem: String,
    },
    /// A batch was read.
    Read {
        /// Its number.
        number: u64,
        /// The batch.
        batch: Batch,
    },
    /// A batch can never be read again.
    Damaged {
        /// Its number.
        number: u64,
    },
    /// A batch cannot be read at present.
    NotRead {
        /// Its number.
        number: u64,
        /// What went wrong.
        problem: String,
    },
}

/// A batch that a former life has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBatch {
    /// Where it is.
    pub place: SpoolPlace,
    /// Its stream.
    pub stream: String,
    /// The number of its records.
    pub records: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// What a former life has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The life.
    pub life: EndpointId,
    /// The name of its node.
    pub node: String,
    /// A number that it has not given to any batch that is here, and no lower one than those.
    pub next: u64,
    /// The batches that are open, by their numbers.
    pub batches: BTreeMap<u64, LeftBatch>,
    /// The numbers of batches that are not open any more, as far as the journal says so.
    pub forgotten: Numbers,
    /// The records of the journal that cannot be read, and the segments.
    pub bad: u64,
}

/// Where the lives of a node have their directories.
pub trait SpoolHome: Send {
    /// The files of one directory.
    type Files: Files;

    /// Returns the lives that have a directory.
    ///
    /// # Errors
    /// Those of the file system.
    fn lives(&mut self) -> io::Result<Vec<EndpointId>>;

    /// Opens a life's directory, which is created if there is none.
    ///
    /// # Errors
    /// Of kind `InUse` if another process has it; those of the file system.
    fn open(&mut self, life: EndpointId) -> Result<Self::Files, JournalError>;

    /// Returns the bytes of all directories but that of a life.
    fn bytes_of_others(&mut self, life: EndpointId) -> u64;

    /// Removes a life's directory.
    ///
    /// # Errors
    /// Those of the file system.
    fn remove(&mut self, life: EndpointId) -> io::Result<()>;

    /// Puts a life's directory aside: there is something in it that cannot be read.
    ///
    /// # Errors
    /// Those of the file system.
    fn set_aside(&mut self, life: EndpointId) -> io::Result<()>;
}

/// The journal of one life.
struct LifeSpool<F: Files> {
    node: String,
    life: EndpointId,
    journal: Journal<F>,
    /// The batches that are open, with the segments that have them.
    open: BTreeMap<u64, u64>,
    /// The number of open batches of each segment.
    segments: BTreeMap<u64, usize>,
    kept: Vec<(u64, SpoolPlace)>,
    forgotten: Numbers,
    /// What is to be forgotten and is not noted.
    unnoted: Numbers,
    /// All that was ever forgotten: each segment begins with it, so that none is needed for another one.
    ever: Numbers,
    /// Something of it cannot be read.
    is_damaged: bool,
    scratch: Vec<u8>,
}

/// The spool of a node. It blocks: whoever has it has a thread for it.
pub struct Spool<H: SpoolHome> {
    home: H,
    node: String,
    life: EndpointId,
    limit: u64,
    own: Option<LifeSpool<H::Files>>,
    adopted: Option<LifeSpool<H::Files>>,
    /// The lives of which it was told that they cannot be read.
    told: BTreeSet<EndpointId>,
}

fn config(limit: u64) -> Result<JournalConfig, JournalError> {
    Ok(JournalConfig {
        longest_record: LONGEST,
        limit,
        start: Start::AtOldest,
        ..JournalConfig::new(JournalName::new(JOURNAL)?)
    })
}

/// What cannot be read, apart from an end that was being written.
fn damage(opened: &Opened) -> u64 {
    opened.bad.checksum + opened.bad.length + opened.unreadable.len() as u64
}

impl<F: Files> LifeSpool<F> {
    /// Opens the journal of a life, and reads it.
    fn open(
        files: F,
        node: &str,
        life: EndpointId,
        limit: u64,
    ) -> Result<(Self, Leftover), JournalError> {
        let mut left = Leftover::new(node, life);
        let (journal, opened) = Journal::open(files, config(limit)?, |found| left.take(&found))?;
        left.bad += damage(&opened);
        let mut spool = Self {
            node: left.node.clone(),
            life,
            journal,
            open: BTreeMap::new(),
            segments: BTreeMap::new(),
            kept: Vec::new(),
            forgotten: Numbers::default(),
            unnoted: Numbers::default(),
            ever: left.forgotten.clone(),
            is_damaged: left.bad > 0,
            scratch: Vec::new(),
        };
        for (number, batch) in &left.batches {
            spool.is_open(*number, batch.place);
        }
        Ok((spool, left))
    }

    fn is_open(&mut self, number: u64, place: SpoolPlace) {
        self.is_closed(number);
        self.open.insert(number, place.segment);
        *self.segments.entry(place.segment).or_default() += 1;
    }

    fn is_closed(&mut self, number: u64) {
        let Some(segment) = self.open.remove(&number) else {
            return;
        };
        if let Some(count) = self.segments.get_mut(&segment) {
            *count -= 1;
            if *count == 0 {
                self.segments.remove(&segment);
            }
        }
    }

    fn begin_segment(&mut self) -> Result<(), JournalError> {
        let record = LifeRecord {
            node: self.node.clone(),
            life: self.life.to_string(),
            forgotten: self.ever.to_pairs(),
        };
        self.scratch.clear();
        record.encode(&mut self.scratch);
        self.journal.begin_segment(kind::LIFE, &self.scratch)?;
        Ok(())
    }

    fn keep(&mut self, number: u64, batch: &Batch) -> Result<(), JournalError> {
        if self.journal.needs_segment() {
            self.begin_segment()?;
        }
        self.scratch.clear();
        batch.put_numbered(number, &mut self.scratch);
        let place = self.journal.append(kind::BATCH, &self.scratch)?;
        self.is_open(number, place);
        self.kept.push((number, place));
        Ok(())
    }

    fn forget(&mut self, numbers: &Numbers) {
        for number in numbers.iter() {
            self.is_closed(number);
        }
        self.unnoted.extend(numbers);
    }

    /// Notes what is forgotten, so that a next life does not send it.
    fn note_forgotten(&mut self) -> Result<(), JournalError> {
        if self.unnoted.is_empty() {
            return Ok(());
        }
        let unnoted = self.unnoted.clone();
        self.ever.extend(&unnoted);
        let pairs: Vec<Data> = unnoted.to_pairs().into_iter().map(Data::from).collect();
        self.scratch.clear();
        pairs.encode(&mut self.scratch);
        // A segment can be begun even if the journal is full: so older ones can go.
        if self.journal.append(kind::FORGOTTEN, &self.scratch).is_err() {
            self.begin_segment()?;
        }
        self.unnoted = Numbers::default();
        self.forgotten.extend(&unnoted);
        Ok(())
    }

    fn needs_sync(&self) -> bool {
        !self.kept.is_empty() || !self.forgotten.is_empty() || !self.unnoted.is_empty()
    }

    fn sync(&mut self) -> Vec<SpoolOutcome> {
        let mut outcomes = Vec::new();
        if let Err(error) = self.note_forgotten() {
            let problem = error.to_string();
            outcomes.push(SpoolOutcome::NotForgotten { problem });
        }
        let first = self.segments.first_key_value().map(|(it, _)| *it);
        let present = self.journal.present();
        let before = first.into_iter().chain(present).min();
        // What cannot be read may be readable later.
        if let Some(before) = before.filter(|_| !self.is_damaged) {
            self.journal.release(before);
        }
        let Some(unsynced) = self.journal.take_unsynced() else {
            return outcomes;
        };
        let failure = match unsynced.sync() {
            // Segments that cannot be removed are tried again.
            Ok(synced) => {
                let _ = self.journal.synced(synced);
                None
            }
            Err(error) => {
                self.journal.sync_failed();
                Some(error.to_string())
            }
        };
        let kept = std::mem::take(&mut self.kept);
        let forgotten = std::mem::take(&mut self.forgotten);
        let Some(problem) = failure else {
            outcomes.push(SpoolOutcome::Synced { kept, forgotten });
            return outcomes;
        };
        self.unnoted.extend(&forgotten);
        if !self.unnoted.is_empty() {
            let problem = problem.clone();
            outcomes.push(SpoolOutcome::NotForgotten { problem });
        }
        for (number, _) in kept {
            self.is_closed(number);
            let problem = problem.clone();
            outcomes.push(SpoolOutcome::NotKept {
                number,
                may_be_there: true,
                problem,
            });
        }
        outcomes
    }

    fn read(&mut self, number: u64, place: SpoolPlace) -> SpoolOutcome {
        let outcome = self.read_at(number, place);
        self.is_damaged |= !matches!(outcome, SpoolOutcome::Read { .. });
        outcome
    }

    fn read_at(&self, number: u64, place: SpoolPlace) -> SpoolOutcome {
        match self.journal.get(place) {
            Ok((kind::BATCH, bytes)) => match Batch::read_numbered(&bytes) {
                Some((found, batch)) if found == number => SpoolOutcome::Read { number, batch },
                _ => SpoolOutcome::Damaged { number },
            },
            Ok(_) => SpoolOutcome::Damaged { number },
            Err(error) if error.kind() == JournalErrorKind::Damaged => {
                SpoolOutcome::Damaged { number }
            }
            Err(error) => SpoolOutcome::NotRead {
                number,
                problem: error.to_string(),
            },
        }
    }
}

impl Leftover {
    /// Reads what a life has in a directory, which may be in use. Nothing is changed there.
    ///
    /// # Errors
    /// Those of a directory that cannot be read.
    pub fn read(directory: &Path, life: EndpointId) -> Result<Self, JournalError> {
        let mut left = Self::new("", life);
        let opened = muster_spool::read(directory, &config(u64::MAX)?, |found| left.take(&found))?;
        left.bad += damage(&opened);
        Ok(left)
    }

    fn new(node: &str, life: EndpointId) -> Self {
        Self {
            life,
            node: node.to_owned(),
            next: 0,
            batches: BTreeMap::new(),
            forgotten: Numbers::default(),
            bad: 0,
        }
    }

    /// Takes a record of the journal.
    fn take(&mut self, found: &Found<'_>) {
        if self.understand(found).is_none() {
            self.bad += 1;
        }
    }

    fn understand(&mut self, found: &Found<'_>) -> Option<()> {
        let limits = Limits {
            depth: 16,
            elements: found.bytes.len() as u64,
            bytes: found.bytes.len(),
        };
        let value = || DataRef::parse(found.bytes, &limits).ok();
        match found.kind {
            kind::LIFE => {
                let record = value()?.to::<LifeRecord>().ok()?;
                let is_ours = is_node(&record.node) && record.life == self.life.to_string();
                self.node = is_ours.then_some(record.node)?;
                self.forget(&record.forgotten)
            }
            kind::BATCH => {
                let (number, batch) = Batch::read_numbered(found.bytes)?;
                let left = LeftBatch {
                    place: found.position,
                    stream: batch.head.name().to_owned(),
                    records: batch.records,
                    bytes: batch.bytes(),
                };
                self.next = self.next.max(number.checked_add(1)?);
                self.batches.insert(number, left);
                Some(())
            }
            kind::FORGOTTEN => self.forget(&value()?.to::<Vec<u64>>().ok()?),
            _ => None,
        }
    }

    fn forget(&mut self, pairs: &[u64]) -> Option<()> {
        let forgotten = Numbers::from_pairs(pairs)?;
        self.forgotten.extend(&forgotten);
        for (first, last) in forgotten.ranges() {
            let gone: Vec<u64> = self
                .batches
                .range(first..=last)
                .map(|(it, _)| *it)
                .collect();
            for number in gone {
                self.batches.remove(&number);
            }
        }
        Some(())
    }
}

impl<H: SpoolHome> fmt::Debug for Spool<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool")
            .field("node", &self.node)
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

impl<H: SpoolHome> Spool<H> {
    /// Creates the spool of a life of a node. Directories of all its lives together have `limit` bytes at most, and a segment more.
    pub fn new(home: H, node: &str, life: EndpointId, limit: u64) -> Self {
        Self {
            home,
            node: node.to_owned(),
            life,
            limit,
            own: None,
            adopted: None,
            told: BTreeSet::new(),
        }
    }

    /// Returns what a former life has left, if there is one and no other is adopted. Lives of which nothing is open are removed.
    /// What cannot be opened is told once.
    pub fn adopt(&mut self) -> (Option<Leftover>, Vec<String>) {
        let mut problems = Vec::new();
        if self.adopted.is_some() {
            return (None, problems);
        }
        let lives = match self.home.lives() {
            Ok(lives) => lives,
            Err(error) => {
                problems.push(format!("the spool cannot be listed: {error}"));
                return (None, problems);
            }
        };
        let own = self.life;
        if let Some(spool) = &mut self.own {
            let others = self.home.bytes_of_others(own);
            spool.journal.set_limit(self.limit.saturating_sub(others));
        }
        for life in lives.into_iter().filter(|life| *life != own) {
            let files = self.home.open(life);
            let opened = files.and_then(|files| LifeSpool::open(files, &self.node, life, u64::MAX));
            let (spool, left) = match opened {
                Ok(opened) => opened,
                // Its process still runs.
                Err(error) if error.kind() == JournalErrorKind::InUse => continue,
                Err(error) => {
                    if self.told.insert(life) {
                        problems.push(format!("the spool of life {life} cannot be read: {error}"));
                    }
                    continue;
                }
            };
            if left.bad > 0 {
                let bad = left.bad;
                problems.push(format!(
                    "{bad} records in the spool of life {life} cannot be read"
                ));
            }
            if left.batches.is_empty() {
                problems.extend(self.end(spool));
                continue;
            }
            self.adopted = Some(spool);
            return (Some(left), problems);
        }
        (None, problems)
    }

    /// Removes the directory of a life of which nothing is open.
    fn end(&mut self, spool: LifeSpool<H::Files>) -> Option<String> {
        let (life, is_damaged) = (spool.life, spool.is_damaged);
        drop(spool);
        let ended = if is_damaged {
            self.home.set_aside(life)
        } else {
            self.home.remove(life)
        };
        let problem = |error| format!("the spool of life {life} cannot be removed: {error}");
        ended.err().map(problem)
    }

    fn own(&mut self) -> Result<&mut LifeSpool<H::Files>, JournalError> {
        let own = if let Some(own) = self.own.take() {
            own
        } else {
            let files = self.home.open(self.life)?;
            let others = self.home.bytes_of_others(self.life);
            let limit = self.limit.saturating_sub(others);
            LifeSpool::open(files, &self.node, self.life, limit)?.0
        };
        Ok(self.own.insert(own))
    }

    /// The journal of a life, if it is open.
    fn of(&mut self, life: EndpointId) -> Option<&mut LifeSpool<H::Files>> {
        let spools = [&mut self.own, &mut self.adopted];
        spools
            .into_iter()
            .flatten()
            .find(|spool| spool.life == life)
    }

    /// Carries out an order. Returns what has become of it, unless that is known with the next [`sync`](Self::sync).
    pub fn carry_out(&mut self, life: EndpointId, order: SpoolOrder) -> Option<SpoolOutcome> {
        match order {
            SpoolOrder::Keep { number, batch } => {
                let kept = self.own().and_then(|own| own.keep(number, &batch));
                let error = kept.err()?;
                Some(SpoolOutcome::NotKept {
                    number,
                    may_be_there: matches!(
                        error.kind(),
                        JournalErrorKind::Io | JournalErrorKind::NoSpace
                    ),
                    problem: error.to_string(),
                })
            }
            SpoolOrder::Read { number, place } => {
                let read = self.of(life).map(|spool| spool.read(number, place));
                Some(read.unwrap_or(SpoolOutcome::Damaged { number }))
            }
            SpoolOrder::Forget(numbers) => {
                if let Some(spool) = self.of(life) {
                    spool.forget(&numbers);
                    return None;
                }
                // Nothing of it was ever kept.
                Some(SpoolOutcome::Synced {
                    kept: Vec::new(),
                    forgotten: numbers,
                })
            }
            SpoolOrder::End => {
                let ended = self.adopted.take_if(|spool| spool.life == life);
                // If that fails, the next life tries it again.
                let _ = ended.map(|spool| self.end(spool));
                None
            }
        }
    }

    /// Returns `true` if something is to be made safe.
    pub fn needs_sync(&self) -> bool {
        let spools = [&self.own, &self.adopted];
        spools
            .iter()
            .any(|spool| spool.as_ref().is_some_and(LifeSpool::needs_sync))
    }

    /// Makes safe what was kept and forgotten.
    pub fn sync(&mut self) -> Vec<(EndpointId, SpoolOutcome)> {
        let spools = [&mut self.own, &mut self.adopted];
        let spools = spools.into_iter().flatten();
        let spools = spools.filter(|spool| spool.needs_sync());
        let outcomes = spools.flat_map(|spool| {
            let life = spool.life;
            spool.sync().into_iter().map(move |outcome| (life, outcome))
        });
        outcomes.collect()
    }

    /// The number of batches of this life that are in the spool.
    #[cfg(test)]
    pub(super) fn batches(&self) -> usize {
        self.own.as_ref().map_or(0, |own| own.open.len())
    }

    /// Ends the spool of this life. Its directory stays if anything in it is open. Returns what went wrong.
    pub fn close(mut self) -> Option<String> {
        let own = self.own.take()?;
        if own.open.is_empty() {
            return self.end(own);
        }
        None
    }
}
