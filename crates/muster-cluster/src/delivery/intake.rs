//! What a logger has of the batches of others: which it has taken, which are safe, and which of them count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_wire::{EndpointId, Mono};

use super::messages::{DeliveryNote, LogSettle, LogSettled, LogVerdict, is_node, producer};
use super::{MOST_NUMBERS, Numbers};

/// The producers that are known. One that has nothing undecided is forgotten for a new one, the longest unheard first.
const MOST_PRODUCERS: usize = 4096;

/// The batches of all producers together that are here and not decided.
const MOST_HELD: usize = 1 << 20;

/// How often a logger looks at what is not decided.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a logger waits for its producer's word before it says again what it has; twice as long each time.
const ACKNOWLEDGE_AGAIN: Duration = Duration::from_secs(2);
const ACKNOWLEDGE_AGAIN_AT_MOST: Duration = Duration::from_secs(60);

/// How long loggers that are out are waited for before the others decide without them.
const WAIT_FOR_OUT: Duration = Duration::from_secs(600);

/// A disk that has synced nothing for this long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(5);

/// A batch of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    /// The life of the node that has made it.
    pub producer: EndpointId,
    /// Its number in that life.
    pub number: u64,
}

/// What identifies a batch that a logger writes, for its diary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDelivery {
    /// The batch.
    pub id: BatchId,
    /// The name of the node that has made it.
    pub node: String,
    /// The first number that was open at its producer.
    pub floor: u64,
}

/// What is decided about batches of a producer that a logger has: its diary keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogNotes {
    /// The life of the producer.
    pub producer: EndpointId,
    /// The name of its node.
    pub node: String,
    /// The first number that was open at the producer.
    pub floor: u64,
    /// These count here, and are nowhere else.
    pub keep: Numbers,
    /// These count here, and may be elsewhere, too.
    pub keep_shared: Numbers,
    /// These do not count here.
    pub strike: Numbers,
    /// None of these is taken any more.
    pub promise: Numbers,
}

/// What a logger's diary has of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerRecord {
    /// The life of the producer.
    pub producer: EndpointId,
    /// The name of its node.
    pub node: String,
    /// The first number that was open.
    pub floor: u64,
    /// These are in files, and not decided.
    pub held: Numbers,
    /// These count here, and may be elsewhere.
    pub kept: Numbers,
    /// These do not count here.
    pub struck: Numbers,
    /// None of these is taken any more.
    pub promised: Numbers,
}

impl LogNotes {
    fn new(producer: EndpointId, window: &Window) -> Self {
        Self {
            producer,
            node: window.node.clone(),
            floor: window.floor,
            keep: Numbers::default(),
            keep_shared: Numbers::default(),
            strike: Numbers::default(),
            promise: Numbers::default(),
        }
    }

    fn is_empty(&self) -> bool {
        let sets = [&self.keep, &self.keep_shared, &self.strike, &self.promise];
        sets.iter().all(|numbers| numbers.is_empty())
    }
}

/// A batch that is here and not decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// It is on its way to the file.
    Writing,
    /// It is in the file, and perhaps in memory only.
    Written,
    Safe,
}

/// What a logger knows of a producer.
#[derive(Debug, Default)]
struct Window {
    node: String,
    floor: u64,
    held: BTreeMap<u64, Held>,
    /// These count here, and nowhere else; from `floor` on.
    kept: Numbers,
    /// These count here, and another logger may ask for them.
    kept_shared: Numbers,
    /// These do not count here; from `floor` on.
    struck: Numbers,
    /// Another logger was told that they will not be taken, or how they stand. The producer's word counts no more.
    promised: Numbers,
    heard: Mono,
    wait: Duration,
    acknowledge_at: Mono,
    settling: Option<Settling>,
}

/// Loggers decide among themselves about batches of a producer.
#[derive(Debug)]
struct Settling {
    batches: Numbers,
    since: Mono,
    /// Who has answered.
    answered: BTreeSet<String>,
    /// What counts elsewhere by what they have said.
    elsewhere: Numbers,
}

impl Window {
    fn safe(&self) -> Numbers {
        let safe = self.held.iter().filter(|(_, held)| **held == Held::Safe);
        safe.map(|(number, _)| *number).collect()
    }

    fn raise_floor(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.kept.remove_below(floor);
            self.struck.remove_below(floor);
        }
    }
}

/// What becomes of a batch that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is written.
    New,
    /// It is here: that is said again.
    Known,
    /// It is being written.
    Nothing,
    /// It is at another logger.
    GoBack,
    /// It is open no more, as its producer has said.
    Decided,
    /// There is no room for it.
    Full,
    /// The note that came with it has no meaning.
    Malformed,
}

/// What waits until what was written before is safe.
#[derive(Debug, Clone)]
enum Behind {
    Batch(BatchId),
    Note(LogNotes),
    Promise(LogNotes, String, LogSettled),
    Nothing,
}

/// What follows when what was written is safe.
#[derive(Debug, Default)]
pub(crate) struct Safe {
    /// The batches that can be acknowledged, by producer.
    pub(crate) batches: BTreeMap<EndpointId, Numbers>,
    /// The answers that can be given, and to whom.
    pub(crate) answers: Vec<(String, LogSettled)>,
}

/// What a logger has to do about what is not decided.
#[derive(Debug, Default)]
pub(crate) struct Undecided {
    /// What is said again to producers.
    pub(crate) batches: BTreeMap<EndpointId, Numbers>,
    /// What other loggers are asked.
    pub(crate) questions: Vec<(String, LogSettle)>,
    pub(crate) notes: Vec<LogNotes>,
}

/// What a logger knows of others when it looks at what is not decided.
pub(crate) struct Surroundings<'a> {
    pub(crate) me: &'a str,
    /// The other loggers, and whether they can be asked.
    pub(crate) loggers: &'a [(String, bool)],
    /// Whether a life of a node is gone for good.
    pub(crate) is_gone: &'a dyn Fn(EndpointId, &str) -> bool,
    /// Whether loggers may decide among themselves: this one is in.
    pub(crate) may_settle: bool,
}

/// The batches of all producers at one logger.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    windows: BTreeMap<EndpointId, Window>,
    held: usize,
    /// The number of the last thing that was handed to the files.
    last: u64,
    /// What was handed to the files and is not safe: since when, and what waits for it.
    unsafe_since: BTreeMap<u64, (Mono, Behind)>,
    look_at: Option<Mono>,
    /// What is to be noted again, as the files have not taken it.
    again: Vec<LogNotes>,
}

impl Intake {
    /// Begins with what the diary has.
    pub(crate) fn recover(&mut self, records: Vec<ProducerRecord>, now: Mono) {
        for record in records {
            let held = record.held.iter().map(|number| (number, Held::Safe));
            let window = Window {
                node: record.node,
                floor: record.floor,
                held: held.collect(),
                kept: Numbers::default(),
                kept_shared: record.kept,
                struck: record.struck,
                promised: record.promised,
                heard: now,
                wait: ACKNOWLEDGE_AGAIN,
                // Who is there is told at once.
                acknowledge_at: now,
                settling: None,
            };
            self.held += window.held.len();
            self.windows.insert(record.producer, window);
        }
        self.look_at = (self.held > 0).then_some(now);
    }

    /// Returns `true` if something of a producer is remembered.
    pub(crate) fn knows(&self, producer: EndpointId) -> bool {
        self.windows.contains_key(&producer)
    }

    /// Returns the number of batches that are here and not decided.
    pub(crate) fn undecided(&self) -> usize {
        self.held
    }

    /// Returns `true` if what was handed to the files some time ago is not safe: the disk hangs.
    pub(crate) fn hangs(&self, now: Mono) -> bool {
        let oldest = self.unsafe_since.values().next();
        oldest.is_some_and(|(since, _)| now.since(*since) >= HANGS_AFTER)
    }

    /// A batch has arrived.
    pub(crate) fn arrive(
        &mut self,
        note: &DeliveryNote,
        now: Mono,
    ) -> Result<(Arrival, LogDelivery), Arrival> {
        let producer = producer(&note.producer).filter(|_| is_node(&note.node));
        let producer = producer.ok_or(Arrival::Malformed)?;
        let number = note.number;
        if note.floor > number || number - note.floor > MOST_NUMBERS {
            return Err(Arrival::Malformed);
        }
        let has_room = self.held < MOST_HELD;
        let Some(window) = self.window(producer, &note.node, now) else {
            return Err(Arrival::Full);
        };
        window.raise_floor(note.floor);
        let arrival = if number < window.floor {
            Arrival::Decided
        } else if let Some(held) = window.held.get(&number) {
            match held {
                Held::Safe => Arrival::Known,
                Held::Writing | Held::Written => Arrival::Nothing,
            }
        } else if window.kept.contains(number) || window.kept_shared.contains(number) {
            Arrival::Known
        } else if window.struck.contains(number) || window.promised.contains(number) {
            Arrival::GoBack
        } else if has_room {
            Arrival::New
        } else {
            Arrival::Full
        };
        let delivery = LogDelivery {
            id: BatchId { producer, number },
            node: note.node.clone(),
            floor: window.floor,
        };
        if arrival == Arrival::New {
            window.held.insert(number, Held::Writing);
            self.held += 1;
        }
        Ok((arrival, delivery))
    }

    fn window(&mut self, producer: EndpointId, node: &str, now: Mono) -> Option<&mut Window> {
        if !self.windows.contains_key(&producer) {
            if self.windows.len() >= MOST_PRODUCERS {
                let settled = self
                    .windows
                    .iter()
                    .filter(|(_, window)| window.held.is_empty());
                let oldest = settled
                    .min_by_key(|(_, window)| window.heard)
                    .map(|(id, _)| *id);
                self.windows.remove(&oldest?);
            }
            let window = Window {
                node: node.to_owned(),
                wait: ACKNOWLEDGE_AGAIN,
                acknowledge_at: now.after(ACKNOWLEDGE_AGAIN),
                ..Window::default()
            };
            self.windows.insert(producer, window);
        }
        let window = self.windows.get_mut(&producer)?;
        window.heard = now;
        Some(window)
    }

    fn behind(&mut self, behind: Behind, now: Mono) -> u64 {
        self.last += 1;
        self.unsafe_since.insert(self.last, (now, behind));
        self.last
    }

    /// A batch goes to the files. Returns the number by which they tell of it.
    pub(crate) fn writing(&mut self, id: Option<BatchId>, now: Mono) -> u64 {
        if let Some(id) = id {
            return self.behind(Behind::Batch(id), now);
        }
        // Nobody waits until it is safe.
        self.last += 1;
        self.last
    }

    /// Notes go to the files. Returns the number by which they tell of it.
    pub(crate) fn noting(&mut self, notes: Option<LogNotes>, now: Mono) -> u64 {
        self.behind(notes.map_or(Behind::Nothing, Behind::Note), now)
    }

    /// Returns what has to be noted again.
    pub(crate) fn take_again(&mut self) -> Vec<LogNotes> {
        std::mem::take(&mut self.again)
    }

    /// Returns `true` if what has this number is a batch that a producer waits for.
    pub(crate) fn is_batch(&self, sequence: u64) -> bool {
        let behind = self.unsafe_since.get(&sequence);
        behind.is_some_and(|(_, behind)| matches!(behind, Behind::Batch(_)))
    }

    /// The batch of this number is in its file. Returns what is noted of it, if it does not count any more.
    pub(crate) fn written(&mut self, sequence: u64) -> Option<LogNotes> {
        let (_, behind) = self.unsafe_since.get(&sequence)?;
        let Behind::Batch(id) = behind else {
            return None;
        };
        let window = self.windows.get_mut(&id.producer)?;
        if let Some(held) = window.held.get_mut(&id.number) {
            *held = Held::Written;
            return None;
        }
        // Another logger was quicker.
        let mut notes = LogNotes::new(id.producer, window);
        notes.strike.insert(id.number);
        Some(notes)
    }

    /// What has this number could not be written, and nothing of it is in a file. Returns the batch, if it is one.
    pub(crate) fn not_written(&mut self, sequence: u64, now: Mono) -> Option<BatchId> {
        let (_, behind) = self.unsafe_since.remove(&sequence)?;
        match behind {
            Behind::Batch(id) => {
                self.forget(id);
                return Some(id);
            }
            // Whoever waits for an answer asks again.
            Behind::Note(notes) | Behind::Promise(notes, ..) => {
                self.again.push(notes);
                self.look_at.get_or_insert(now.after(LOOK_EVERY));
            }
            Behind::Nothing => {}
        }
        None
    }

    /// A batch that has arrived is not taken.
    pub(crate) fn forget(&mut self, id: BatchId) {
        let window = self.windows.get_mut(&id.producer);
        if window.is_some_and(|window| window.held.remove(&id.number).is_some()) {
            self.held -= 1;
        }
    }

    /// All that was handed to the files up to a number is safe.
    pub(crate) fn synced(&mut self, through: u64, now: Mono) -> Safe {
        let mut safe = Safe::default();
        let later = self.unsafe_since.split_off(&through.saturating_add(1));
        for (_, (_, behind)) in std::mem::replace(&mut self.unsafe_since, later) {
            match behind {
                Behind::Nothing | Behind::Note(_) => {}
                Behind::Promise(_, to, answer) => safe.answers.push((to, answer)),
                Behind::Batch(id) => {
                    let window = self.windows.get_mut(&id.producer);
                    let held = window.and_then(|window| window.held.get_mut(&id.number));
                    if let Some(held) = held {
                        *held = Held::Safe;
                        safe.batches
                            .entry(id.producer)
                            .or_default()
                            .insert(id.number);
                        self.look_at.get_or_insert(now.after(LOOK_EVERY));
                    }
                }
            }
        }
        safe
    }

    /// What was handed to the files and is not safe never will be, though it may be there: it does not count. Returns the
    /// batches, by producer.
    pub(crate) fn not_synced(&mut self) -> BTreeMap<EndpointId, Numbers> {
        let mut lost: BTreeMap<EndpointId, Numbers> = BTreeMap::new();
        for (_, (_, behind)) in std::mem::take(&mut self.unsafe_since) {
            match behind {
                Behind::Batch(id) => {
                    lost.entry(id.producer).or_default().insert(id.number);
                    self.forget(id);
                }
                Behind::Note(notes) | Behind::Promise(notes, ..) => self.again.push(notes),
                Behind::Nothing => {}
            }
        }
        let notes = lost.iter().filter_map(|(producer, numbers)| {
            let mut notes = LogNotes::new(*producer, self.windows.get(producer)?);
            notes.strike = numbers.clone();
            Some(notes)
        });
        let notes: Vec<LogNotes> = notes.collect();
        self.again.extend(notes);
        lost
    }

    /// A producer says what counts. Returns what is noted, or `None` if the message has no meaning.
    pub(crate) fn verdict(&mut self, verdict: &LogVerdict, now: Mono) -> Option<LogNotes> {
        let id = producer(&verdict.producer)?;
        let [keep, keep_shared, strike, settle] = [
            &verdict.keep,
            &verdict.keep_shared,
            &verdict.strike,
            &verdict.settle,
        ]
        .map(|pairs| Numbers::from_pairs(pairs));
        let (keep, keep_shared, strike, settle) = (keep?, keep_shared?, strike?, settle?);
        let window = self.windows.get_mut(&id)?;
        window.raise_floor(verdict.floor);
        window.heard = now;
        window.wait = ACKNOWLEDGE_AGAIN;
        window.acknowledge_at = now.after(window.wait);
        let mut notes = LogNotes::new(id, window);
        let undecided: Vec<u64> = window.held.keys().copied().collect();
        for number in undecided {
            if settle.contains(number) {
                window.promised.insert(number);
            }
            // What another logger was told holds.
            if window.promised.contains(number) {
                continue;
            }
            let is_asked = window
                .settling
                .as_ref()
                .is_some_and(|it| it.batches.contains(number));
            if strike.contains(number) {
                notes.strike.insert(number);
            } else if keep_shared.contains(number) || (is_asked && keep.contains(number)) {
                notes.keep_shared.insert(number);
            } else if keep.contains(number) {
                notes.keep.insert(number);
            }
        }
        self.decide(&notes);
        Some(notes).filter(|notes| !notes.is_empty())
    }

    /// Carries out what is decided.
    fn decide(&mut self, notes: &LogNotes) {
        let Some(window) = self.windows.get_mut(&notes.producer) else {
            return;
        };
        for number in notes
            .keep
            .iter()
            .chain(notes.keep_shared.iter())
            .chain(notes.strike.iter())
        {
            if window.held.remove(&number).is_some() {
                self.held -= 1;
            }
        }
        window.kept.extend(&notes.keep);
        window.kept.remove_below(window.floor);
        window.kept_shared.extend(&notes.keep_shared);
        window.struck.extend(&notes.strike);
        if let Some(settling) = &mut window.settling {
            let gone = settling
                .batches
                .iter()
                .filter(|number| !window.held.contains_key(number));
            let gone: Vec<u64> = gone.collect();
            for number in gone {
                settling.batches.remove(number);
            }
            if settling.batches.is_empty() {
                window.settling = None;
            }
        }
    }

    /// Another logger asks for batches of a producer that is gone. The answer comes when the promise in it is safe. Returns
    /// the number by which the files tell of that, and what is noted.
    pub(crate) fn asked(
        &mut self,
        from: &str,
        question: &LogSettle,
        now: Mono,
    ) -> Option<(u64, LogNotes)> {
        let id = producer(&question.producer).filter(|_| is_node(&question.node))?;
        let asked = Numbers::from_pairs(&question.batches)?;
        if asked.len() > MOST_NUMBERS {
            return None;
        }
        let window = self.window(id, &question.node, now)?;
        let mut answer = LogSettled {
            producer: question.producer.clone(),
            asked: question.batches.clone(),
            kept: Vec::new(),
            held: Vec::new(),
        };
        let (mut kept, mut held) = (Numbers::default(), Numbers::default());
        let mut notes = LogNotes::new(id, window);
        for number in asked.iter() {
            match window.held.get(&number) {
                Some(Held::Safe) => held.insert(number),
                // It is asked again.
                Some(Held::Writing | Held::Written) => return None,
                None => {}
            }
            if window.kept.contains(number) || window.kept_shared.contains(number) {
                kept.insert(number);
                continue;
            }
            window.promised.insert(number);
            notes.promise.insert(number);
        }
        (answer.kept, answer.held) = (kept.to_pairs(), held.to_pairs());
        self.look_at.get_or_insert(now.after(LOOK_EVERY));
        let promise = Behind::Promise(notes.clone(), from.to_owned(), answer);
        let sequence = self.behind(promise, now);
        Some((sequence, notes))
    }

    /// Another logger has answered.
    pub(crate) fn answered(&mut self, me: &str, from: &str, answer: &LogSettled) -> Option<()> {
        let id = producer(&answer.producer)?;
        let (asked, kept, held) = (
            Numbers::from_pairs(&answer.asked)?,
            Numbers::from_pairs(&answer.kept)?,
            Numbers::from_pairs(&answer.held)?,
        );
        let settling = self.windows.get_mut(&id)?.settling.as_mut()?;
        if settling
            .batches
            .iter()
            .any(|number| !asked.contains(number))
        {
            return None; // to an earlier question
        }
        settling.elsewhere.extend(&kept);
        // Of two that have it the first one by name keeps it.
        if from < me {
            settling.elsewhere.extend(&held);
        }
        settling.answered.insert(from.to_owned());
        Some(())
    }

    /// When [`look`](Self::look) has something to do.
    pub(crate) fn look_at(&self) -> Option<Mono> {
        self.look_at
    }

    /// When the disk [hangs](Self::hangs), if it does nothing until then.
    pub(crate) fn hangs_at(&self) -> Option<Mono> {
        let oldest = self.unsafe_since.values().next();
        oldest.map(|(since, _)| since.after(HANGS_AFTER))
    }

    /// Looks at what is not decided: producers that are there are told again, and of those that are gone the loggers decide.
    pub(crate) fn look(&mut self, around: &Surroundings<'_>, now: Mono) -> Undecided {
        let mut found = Undecided::default();
        if self.look_at.is_none_or(|at| at > now) {
            return found;
        }
        for (id, window) in &mut self.windows {
            let safe = window.safe();
            if safe.is_empty() {
                continue;
            }
            let is_gone = (around.is_gone)(*id, &window.node);
            let is_promised = safe.iter().any(|number| window.promised.contains(number));
            if !is_gone && window.acknowledge_at <= now {
                window.wait = (window.wait * 2).min(ACKNOWLEDGE_AGAIN_AT_MOST);
                window.acknowledge_at = now.after(window.wait);
                found.batches.insert(*id, safe.clone());
            }
            if !around.may_settle || !(is_gone || is_promised) {
                continue;
            }
            let ours = || {
                let ours = safe.iter();
                ours.filter(|number| is_gone || window.promised.contains(*number))
                    .collect()
            };
            let settling = window.settling.get_or_insert_with(|| Settling {
                batches: ours(),
                since: now,
                answered: BTreeSet::new(),
                elsewhere: Numbers::default(),
            });
            let is_patient = now.since(settling.since) < WAIT_FOR_OUT;
            let mut is_over = true;
            for (logger, is_up) in around.loggers {
                if settling.answered.contains(logger) || logger == around.me {
                    continue;
                }
                is_over &= !*is_up && !is_patient;
                if *is_up {
                    let question = LogSettle {
                        producer: id.to_string(),
                        node: window.node.clone(),
                        batches: settling.batches.to_pairs(),
                    };
                    found.questions.push((logger.clone(), question));
                }
            }
            if is_over && let Some(settling) = window.settling.take() {
                let mut notes = LogNotes::new(*id, window);
                for number in settling.batches.iter() {
                    if settling.elsewhere.contains(number) {
                        notes.strike.insert(number);
                    } else {
                        notes.keep_shared.insert(number);
                    }
                }
                found.notes.push(notes);
            }
        }
        for notes in &found.notes {
            self.decide(notes);
        }
        let is_needed = self.held > 0 || !self.again.is_empty();
        self.look_at = is_needed.then(|| now.after(LOOK_EVERY));
        found
    }

    /// Breaks a rule, for the test of it.
    #[cfg(test)]
    pub(super) fn forget_promises(&mut self, producer: EndpointId) {
        if let Some(window) = self.windows.get_mut(&producer) {
            window.promised = Numbers::default();
        }
    }
}
