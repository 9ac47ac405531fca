//! What a logger's diary says: which batches are where in which files, and what is decided about them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use muster_cluster::node::{BatchId, LogDelivery, LogNotes, Numbers, ProducerRecord};
use muster_data::{Record, Timestamp};
use muster_wire::EndpointId;

use super::files::{FileEvent, Placed};

/// The producers that are remembered though nothing of them is undecided, the ones that were heard last.
const MOST_PRODUCERS: usize = 4096;

/// An entry of the diary.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    /// A file was begun.
    Opened(Opened),
    /// A file is closed.
    Closed(Closed),
    /// A file has its final name, or is not the logger's any more.
    Gone(Gone),
    /// A batch was written.
    Written(Written),
    /// Something was decided.
    Decided(Decided),
    /// All entries before were safe.
    Mark,
}

/// A file was begun.
#[derive(Debug, Clone, PartialEq, Record)]
pub(super) struct Opened {
    pub(super) file: u64,
    pub(super) stream: String,
    pub(super) path: String,
    /// The bytes of its header, and their checksum.
    pub(super) header: u64,
    pub(super) checksum: u64,
    pub(super) opened: Timestamp,
}

/// A file is closed.
#[derive(Debug, Clone, PartialEq, Record)]
pub(super) struct Closed {
    pub(super) file: u64,
    pub(super) path: String,
    pub(super) end: Timestamp,
    /// Where its last line begins and ends.
    pub(super) footer: Vec<u64>,
}

/// A file has its final name, or is not the logger's any more.
#[derive(Debug, Clone, PartialEq, Record)]
pub(super) struct Gone {
    pub(super) file: u64,
}

/// A batch was written.
#[derive(Debug, Clone, PartialEq, Record)]
pub(super) struct Written {
    pub(super) file: u64,
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) checksum: u64,
    /// Who waits for it, if anybody does: the producer and its node, the batch's number and the first open one.
    pub(super) producer: Option<String>,
    pub(super) node: Option<String>,
    pub(super) number: Option<u64>,
    pub(super) floor: Option<u64>,
}

/// Something was decided about batches of a producer.
#[derive(Debug, Clone, PartialEq, Record)]
pub(super) struct Decided {
    pub(super) producer: String,
    pub(super) node: String,
    pub(super) floor: u64,
    pub(super) keep: Vec<u64>,
    pub(super) keep_shared: Vec<u64>,
    pub(super) strike: Vec<u64>,
    pub(super) promise: Vec<u64>,
}

/// All that the diary says, as the first record of a segment has it.
#[derive(Debug, Clone, Default, PartialEq, Record)]
pub(super) struct Snapshot {
    pub(super) next_file: u64,
    pub(super) files: Vec<FileSnapshot>,
    pub(super) batches: Vec<Written>,
    pub(super) producers: Vec<ProducerSnapshot>,
}

/// A file in a [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Record)]
pub(super) struct FileSnapshot {
    pub(super) file: u64,
    pub(super) stream: String,
    pub(super) path: String,
    pub(super) opened: Timestamp,
    /// The time of its end, if it is closed.
    pub(super) end: Option<Timestamp>,
    /// The bytes of header and footer.
    pub(super) frame: u64,
    /// Ranges of bytes that count.
    pub(super) counts: Vec<u64>,
    /// Entries about it may be lost.
    pub(super) is_doubtful: bool,
}

/// A producer in a [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Record)]
pub(super) struct ProducerSnapshot {
    pub(super) producer: String,
    pub(super) node: String,
    pub(super) floor: u64,
    pub(super) kept: Vec<u64>,
    pub(super) struck: Vec<u64>,
    pub(super) promised: Vec<u64>,
}

/// A file that has no final name yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct File {
    pub(super) stream: String,
    pub(super) path: PathBuf,
    pub(super) opened: Timestamp,
    /// The time of its end, if it is closed.
    pub(super) end: Option<Timestamp>,
    /// The bytes of header and footer.
    pub(super) frame: u64,
    /// The bytes that count: header, footer, and batches that are not struck.
    pub(super) counts: Numbers,
    /// How many batches in it are undecided.
    pub(super) undecided: usize,
    /// Entries about it may be lost: what does not count by the diary is put aside.
    pub(super) is_doubtful: bool,
}

/// A batch in a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub(super) file: u64,
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) checksum: u32,
    /// The diary said behind it that all was safe.
    pub(super) is_safe: bool,
    /// How many records it has, if this life has written it.
    pub(super) records: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Producer {
    node: String,
    floor: u64,
    kept: Numbers,
    struck: Numbers,
    promised: Numbers,
    /// A later one is larger.
    heard: u64,
}

/// What the diary says.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) next_file: u64,
    pub(super) files: BTreeMap<u64, File>,
    /// The undecided batches, and where they are.
    pub(super) batches: HashMap<BatchId, Place>,
    /// Batches without a producer that no mark followed yet.
    pub(super) unsafe_places: Vec<Place>,
    producers: HashMap<EndpointId, Producer>,
    heard: u64,
    /// Records that this life has written and that are struck.
    struck: u64,
}

/// Adds bytes from one place up to another one.
fn add(counts: &mut Numbers, offset: u64, end: u64) {
    if let Some(last) = end.checked_sub(1) {
        counts.insert_range(offset, last);
    }
}

fn remove(counts: &mut Numbers, offset: u64, end: u64) {
    let Some(last) = end.checked_sub(1) else {
        return;
    };
    let kept: Vec<(u64, u64)> = counts.ranges().collect();
    *counts = Numbers::default();
    for (first, end) in kept {
        if first < offset {
            counts.insert_range(first, end.min(offset - 1));
        }
        if end > last {
            counts.insert_range(first.max(last + 1), end);
        }
    }
}

fn path_text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Entry {
    /// Returns the entry of what has happened to a file.
    pub(super) fn of_file(directory: &std::path::Path, event: &FileEvent) -> Option<Self> {
        let path_text =
            |path: &std::path::Path| path_text(path.strip_prefix(directory).unwrap_or(path));
        Some(match event {
            FileEvent::Opened {
                number,
                stream,
                path,
                header,
                checksum,
                opened,
            } => Self::Opened(Opened {
                file: *number,
                stream: stream.clone(),
                path: path_text(path.as_path()),
                header: *header,
                checksum: (*checksum).into(),
                opened: *opened,
            }),
            FileEvent::Closed {
                number,
                path,
                end,
                footer,
            } => Self::Closed(Closed {
                file: *number,
                path: path_text(path.as_path()),
                end: *end,
                footer: vec![footer.0, footer.1],
            }),
            FileEvent::LetGo { number } => Self::Gone(Gone { file: *number }),
            FileEvent::Strange { .. } => return None,
        })
    }

    /// Returns the entry of a batch.
    pub(super) fn of_batch(placed: &Placed, delivery: Option<&LogDelivery>) -> Self {
        Self::Written(Written {
            file: placed.number,
            offset: placed.offset,
            end: placed.end,
            checksum: placed.checksum.into(),
            producer: delivery.map(|it| it.id.producer.to_string()),
            node: delivery.map(|it| it.node.clone()),
            number: delivery.map(|it| it.id.number),
            floor: delivery.map(|it| it.floor),
        })
    }

    /// Returns the entry of what is decided.
    pub(super) fn of_notes(notes: &LogNotes) -> Self {
        Self::Decided(Decided {
            producer: notes.producer.to_string(),
            node: notes.node.clone(),
            floor: notes.floor,
            keep: notes.keep.to_pairs(),
            keep_shared: notes.keep_shared.to_pairs(),
            strike: notes.strike.to_pairs(),
            promise: notes.promise.to_pairs(),
        })
    }
}

impl Written {
    fn id(&self) -> Option<BatchId> {
        Some(BatchId {
            producer: self.producer.as_ref()?.parse().ok()?,
            number: self.number?,
        })
    }
}

impl File {
    /// Returns `true` if no record in it counts.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.len() <= self.frame
    }
}

impl Ledger {
    /// Takes an entry. Returns `None` if it has no meaning.
    pub(super) fn take(&mut self, entry: &Entry) -> Option<()> {
        match entry {
            Entry::Opened(it) => {
                let mut counts = Numbers::default();
                add(&mut counts, 0, it.header);
                let file = File {
                    stream: it.stream.clone(),
                    path: PathBuf::from(&it.path),
                    opened: it.opened,
                    end: None,
                    frame: it.header,
                    counts,
                    undecided: 0,
                    is_doubtful: false,
                };
                self.files.insert(it.file, file);
                let header = Place {
                    file: it.file,
                    offset: 0,
                    end: it.header,
                    checksum: u32::try_from(it.checksum).ok()?,
                    is_safe: false,
                    records: 0,
                };
                self.unsafe_places.extend((it.header > 0).then_some(header));
                self.next_file = self.next_file.max(it.file.saturating_add(1));
            }
            Entry::Closed(it) => {
                let file = self.files.get_mut(&it.file)?;
                file.path = PathBuf::from(&it.path);
                file.end = Some(it.end);
                if let [begin, end] = it.footer[..] {
                    add(&mut file.counts, begin, end);
                    file.frame += end.saturating_sub(begin);
                }
            }
            Entry::Gone(it) => self.forget(it.file),
            Entry::Written(it) => self.written(it)?,
            Entry::Decided(it) => self.decided(it)?,
            Entry::Mark => {
                self.unsafe_places.clear();
                for place in self.batches.values_mut() {
                    place.is_safe = true;
                }
            }
        }
        Some(())
    }

    /// A file is not the logger's any more.
    pub(super) fn forget(&mut self, number: u64) {
        self.files.remove(&number);
        self.batches.retain(|_, place| place.file != number);
        self.unsafe_places.retain(|place| place.file != number);
    }

    fn written(&mut self, it: &Written) -> Option<()> {
        let place = Place {
            file: it.file,
            offset: it.offset,
            end: it.end,
            checksum: u32::try_from(it.checksum).ok()?,
            is_safe: false,
            records: 0,
        };
        let file = self
            .files
            .get_mut(&it.file)
            .filter(|_| it.offset < it.end)?;
        add(&mut file.counts, it.offset, it.end);
        let Some(id) = it.id() else {
            self.unsafe_places.push(place);
            return Some(());
        };
        file.undecided += 1;
        self.batches.insert(id, place);
        let floor = it.floor.unwrap_or(0);
        self.producer(id.producer, it.node.as_deref().unwrap_or_default(), floor);
        Some(())
    }

    fn producer(&mut self, id: EndpointId, node: &str, floor: u64) -> &mut Producer {
        self.heard += 1;
        let producer = self.producers.entry(id).or_default();
        if producer.node.is_empty() {
            node.clone_into(&mut producer.node);
        }
        if floor > producer.floor {
            producer.floor = floor;
            producer.struck.remove_below(floor);
        }
        producer.heard = self.heard;
        producer
    }

    fn decided(&mut self, it: &Decided) -> Option<()> {
        let id: EndpointId = it.producer.parse().ok()?;
        let keep = Numbers::from_pairs(&it.keep)?;
        let keep_shared = Numbers::from_pairs(&it.keep_shared)?;
        let strike = Numbers::from_pairs(&it.strike)?;
        let promise = Numbers::from_pairs(&it.promise)?;
        let producer = self.producer(id, &it.node, it.floor);
        producer.kept.extend(&keep_shared);
        producer.struck.extend(&strike);
        producer.promised.extend(&promise);
        for number in keep.iter().chain(keep_shared.iter()) {
            self.settle(BatchId {
                producer: id,
                number,
            });
        }
        for number in strike.iter() {
            if let Some(place) = self.settle(BatchId {
                producer: id,
                number,
            }) && let Some(file) = self.files.get_mut(&place.file)
            {
                self.struck += place.records;
                remove(&mut file.counts, place.offset, place.end);
            }
        }
        Some(())
    }

    /// Says how many records a batch has that was just written.
    pub(super) fn has_records(&mut self, id: BatchId, records: u64) {
        if let Some(place) = self.batches.get_mut(&id) {
            place.records = records;
        }
    }

    /// Returns the number of records that were struck since the last call.
    pub(super) fn take_struck(&mut self) -> u64 {
        std::mem::take(&mut self.struck)
    }

    /// A batch is decided.
    fn settle(&mut self, id: BatchId) -> Option<Place> {
        let place = self.batches.remove(&id)?;
        if let Some(file) = self.files.get_mut(&place.file) {
            file.undecided -= 1;
        }
        // Its bytes are looked at as well, if nobody has said that they are safe.
        if !place.is_safe {
            self.unsafe_places.push(place);
        }
        Some(place)
    }

    /// The bytes of a batch are not what the diary says: it was never written.
    pub(super) fn lost(&mut self, place: &Place) {
        let id = self
            .batches
            .iter()
            .find(|(_, known)| *known == place)
            .map(|(id, _)| *id);
        if let Some(id) = id {
            self.batches.remove(&id);
            if let Some(file) = self.files.get_mut(&place.file) {
                file.undecided -= 1;
            }
        }
        self.unsafe_places.retain(|known| known != place);
        if let Some(file) = self.files.get_mut(&place.file) {
            remove(&mut file.counts, place.offset, place.end);
        }
        // What is without a header was never made safe, and cannot be read.
        let number = place.file;
        if place.offset == 0
            && let Some(file) = self.files.get_mut(&number).filter(|file| file.frame > 0)
        {
            (file.counts, file.undecided) = (Numbers::default(), 0);
            self.batches.retain(|_, place| place.file != number);
        }
    }

    /// Returns what the logger begins with.
    pub(super) fn records(&self) -> Vec<ProducerRecord> {
        let mut held: HashMap<EndpointId, Numbers> = HashMap::new();
        for id in self.batches.keys() {
            held.entry(id.producer).or_default().insert(id.number);
        }
        let records = self.producers.iter().map(|(id, producer)| ProducerRecord {
            producer: *id,
            node: producer.node.clone(),
            floor: producer.floor,
            held: held.remove(id).unwrap_or_default(),
            kept: producer.kept.clone(),
            struck: producer.struck.clone(),
            promised: producer.promised.clone(),
        });
        records.collect()
    }

    /// Returns all of it, without producers of whom nothing has to be remembered.
    pub(super) fn snapshot(&mut self) -> Snapshot {
        self.forget_producers();
        let files = self.files.iter().map(|(number, file)| FileSnapshot {
            file: *number,
            stream: file.stream.clone(),
            path: path_text(&file.path),
            opened: file.opened,
            end: file.end,
            frame: file.frame,
            counts: file.counts.to_pairs(),
            is_doubtful: file.is_doubtful,
        });
        let batches = self.batches.iter().map(|(id, place)| {
            let producer = self.producers.get(&id.producer);
            Written {
                file: place.file,
                offset: place.offset,
                end: place.end,
                checksum: place.checksum.into(),
                producer: Some(id.producer.to_string()),
                node: producer.map(|producer| producer.node.clone()),
                number: Some(id.number),
                floor: producer.map(|producer| producer.floor),
            }
        });
        let bytes = self.unsafe_places.iter().map(|place| Written {
            file: place.file,
            offset: place.offset,
            end: place.end,
            checksum: place.checksum.into(),
            producer: None,
            node: None,
            number: None,
            floor: None,
        });
        let batches = batches.chain(bytes);
        let producers = self
            .producers
            .iter()
            .map(|(id, producer)| ProducerSnapshot {
                producer: id.to_string(),
                node: producer.node.clone(),
                floor: producer.floor,
                kept: producer.kept.to_pairs(),
                struck: producer.struck.to_pairs(),
                promised: producer.promised.to_pairs(),
            });
        Snapshot {
            next_file: self.next_file,
            files: files.collect(),
            batches: batches.collect(),
            producers: producers.collect(),
        }
    }

    fn forget_producers(&mut self) {
        let held: std::collections::HashSet<EndpointId> =
            self.batches.keys().map(|id| id.producer).collect();
        let mut free: Vec<(u64, EndpointId)> = self
            .producers
            .iter()
            .filter(|(id, _)| !held.contains(id))
            .map(|(id, producer)| (producer.heard, *id))
            .collect();
        free.sort_unstable();
        for (_, id) in free.iter().take(free.len().saturating_sub(MOST_PRODUCERS)) {
            self.producers.remove(id);
        }
    }

    /// Reads what [`snapshot`](Self::snapshot) makes. Returns `None` if it has no meaning.
    pub(super) fn of_snapshot(snapshot: &Snapshot) -> Option<Self> {
        let mut ledger = Self {
            next_file: snapshot.next_file,
            ..Self::default()
        };
        for it in &snapshot.files {
            let file = File {
                stream: it.stream.clone(),
                path: PathBuf::from(&it.path),
                opened: it.opened,
                end: it.end,
                frame: it.frame,
                counts: Numbers::from_pairs(&it.counts)?,
                undecided: 0,
                is_doubtful: it.is_doubtful,
            };
            ledger.files.insert(it.file, file);
        }
        for it in &snapshot.producers {
            let producer = Producer {
                node: it.node.clone(),
                floor: it.floor,
                kept: Numbers::from_pairs(&it.kept)?,
                struck: Numbers::from_pairs(&it.struck)?,
                promised: Numbers::from_pairs(&it.promised)?,
                heard: 0,
            };
            ledger.producers.insert(it.producer.parse().ok()?, producer);
        }
        for it in &snapshot.batches {
            ledger.written(it)?;
        }
        Some(ledger)
    }
}
