//! What a primary remembers of the writers of other nodes, besides what its state does.

use std::collections::{HashMap, VecDeque};

use muster_wire::Mono;

use crate::PersistedWriter;
use crate::op::{Answer, Writer};
use crate::protocol::{Results, WriterRow, decode_answers, encode_answers};

/// The writers remembered; the one that was not heard of for longest is forgotten first.
const SESSIONS: usize = 4096;

/// The answers kept of one writer, until it says that it has them.
const ANSWERS: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<Writer, Session>);

/// One writer's.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// With consecutive numbers from the first.
    answers: VecDeque<Answer>,
    first: u64,
    /// The lowest number that the writer waits for, as it said last.
    open: u64,
    heard: Mono,
    /// Numbers of commands, each with the generation that it and those before are kept with.
    marks: VecDeque<(u64, u64)>,
    durable: u64,
    failed: u64,
}

impl Sessions {
    /// What became of a command, if it is remembered.
    pub(super) fn answer(&self, writer: Writer, number: u64) -> Option<Answer> {
        let session = self.0.get(&writer)?;
        let place = usize::try_from(number.checked_sub(session.first)?).ok()?;
        session.answers.get(place).cloned()
    }

    /// The writers remembered.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The answers that a writer may still ask for, encoded.
    pub(super) fn answers_of(&self, writer: Writer) -> Vec<u8> {
        match self.0.get(&writer) {
            Some(session) if !session.answers.is_empty() => {
                encode_answers(session.first, session.answers.iter())
            }
            _ => Vec::new(),
        }
    }

    /// A writer of a former timeline.
    pub(super) fn restore(&mut self, kept: &PersistedWriter) {
        if let Some((first, answers)) = decode_answers(&kept.answers) {
            let session = self.0.entry(kept.writer).or_default();
            session.first = first;
            session.answers = answers.into();
        }
    }

    /// What was decided behind the last that is committed comes to nothing, or is decided anew.
    pub(super) fn forget_marks(&mut self) {
        for session in self.0.values_mut() {
            session.marks.clear();
        }
    }

    /// Forgets the answers that a writer has.
    pub(super) fn forget_below(&mut self, writer: Writer, number: u64) {
        if let Some(session) = self.0.get_mut(&writer) {
            session.forget_below(number);
        }
    }

    /// The answers kept of a writer: the number of the first, and all.
    pub(super) fn answers(&self, writer: Writer) -> (u64, Vec<Answer>) {
        self.0.get(&writer).map_or((0, Vec::new()), |session| {
            (session.first, session.answers.iter().cloned().collect())
        })
    }

    /// The number of the lowest command whose answer a writer may still ask for.
    pub(super) fn first_open(&self, writer: Writer) -> u64 {
        self.0.get(&writer).map_or(0, |session| session.open)
    }

    /// Takes over what another copy knows of a writer.
    pub(super) fn adopt(&mut self, row: WriterRow) {
        let session = self.0.entry(row.writer).or_default();
        session.first = row.first;
        session.answers = row.answers.into();
    }

    /// Forgets everybody.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// A writer that was just heard.
    pub(super) fn of(&mut self, writer: Writer, now: Mono) -> &mut Session {
        if self.0.len() >= SESSIONS && !self.0.contains_key(&writer) {
            let oldest = self.0.iter().min_by_key(|(_, session)| session.heard);
            if let Some(oldest) = oldest.map(|(writer, _)| *writer) {
                self.0.remove(&oldest);
            }
        }
        let session = self.0.entry(writer).or_default();
        session.heard = now;
        session
    }

    /// A generation is on disk, or could not be put there: what its writers are told, of no timeline yet.
    pub(super) fn kept(&mut self, generation: u64, is_durable: bool) -> Vec<(Writer, Results)> {
        let mut told = Vec::new();
        for (writer, session) in &mut self.0 {
            let mut reached = None;
            while let Some((number, with)) = session.marks.front()
                && *with <= generation
            {
                reached = Some(*number);
                session.marks.pop_front();
            }
            let Some(number) = reached else {
                continue;
            };
            if is_durable {
                session.durable = number;
            } else {
                session.failed = number;
            }
            let results = Results {
                instance: writer.instance,
                timeline: 0,
                epoch: 0,
                next: session.first + session.answers.len() as u64,
                durable: session.durable,
                failed: session.failed,
                number: 0,
                answers: Vec::new(),
            };
            told.push((*writer, results));
        }
        // The same in every run of a simulation.
        told.sort_unstable_by_key(|(writer, _)| *writer);
        told
    }
}

impl Session {
    /// Notes what became of the writer's commands from this one on.
    pub(super) fn note(&mut self, from: u64, answers: impl IntoIterator<Item = Answer>) {
        for (number, answer) in (from..).zip(answers) {
            let next = self.first + self.answers.len() as u64;
            if number < next && !self.answers.is_empty() {
                // A new copy may have been told of it ahead of its turn.
                continue;
            }
            if next != number {
                self.answers.clear();
                self.first = number;
            }
            self.answers.push_back(answer);
            if self.answers.len() > ANSWERS {
                self.answers.pop_front();
                self.first += 1;
            }
        }
    }

    /// The writer has the answers below this number.
    pub(super) fn forget_below(&mut self, number: u64) {
        self.open = self.open.max(number);
        while self.first < number && self.answers.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// All up to this number are kept with a generation, or are on disk.
    pub(super) fn mark(&mut self, generation: Option<u64>, number: u64) {
        let Some(generation) = generation else {
            self.durable = self.durable.max(number);
            return;
        };
        match self.marks.back_mut() {
            Some((marked, with)) if *with == generation => *marked = number.max(*marked),
            _ => self.marks.push_back((number, generation)),
        }
    }

    /// How far its commands are on disk, and could not be put there.
    pub(super) fn kept(&self) -> (u64, u64) {
        (self.durable, self.failed)
    }
}
