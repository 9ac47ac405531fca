//! What a primary sends to the other copies, and what follows from what they have.

use muster_wire::EndpointId;

use super::peers::{Peer, SEND_AGAIN, TELL_COMMITTED};
#[cfg(any(test, feature = "simulation"))]
use super::sabotage::Sabotage;
use super::{Leading, Primary, Role};
use crate::op::Writer;
use crate::protocol::{
    Acknowledgement, Attach, Attached, LogEntry, Query, Replicate, StoreMessage, WriterRow,
    WritersPart,
};
use crate::{Now, Output};

/// The entries of one message to a copy.
const ENTRIES: usize = 4096;

/// Their bytes.
const BYTES: usize = 256 << 10;

/// The entries that may be on their way to a copy.
const WINDOW: u64 = 65_536;

/// The questions that may wait for the copies.
const QUESTIONS: usize = 65_536;

/// The bytes of writers in one message.
const WRITERS_BYTES: usize = 256 << 10;

/// Who asked something.
#[derive(Debug)]
pub(super) struct Question {
    from: EndpointId,
    request: u64,
    query: Query,
    /// It is answered when this entry is committed: then this was the primary after it was asked.
    behind: u64,
}

impl Primary {
    /// Takes a message that is for a primary, or for another copy.
    pub(in crate::primary) fn receive_as_copy(
        &mut self,
        from: EndpointId,
        message: StoreMessage,
        now: Now,
    ) {
        #[cfg(any(test, feature = "simulation"))]
        self.acknowledge_former(from, &message);
        if !self.leads() {
            return self.hear_primary(from, message, now);
        }
        match message {
            StoreMessage::Write(write) => {
                self.decide_write(from, write, now);
                self.advance(now);
            }
            StoreMessage::Query { request, query } => {
                self.ask(from, request, query);
                self.advance(now);
            }
            StoreMessage::Attach(attach) => self.attach(from, attach, now),
            StoreMessage::Acknowledge(acknowledgement) => {
                self.acknowledged(from, acknowledgement, now);
            }
            StoreMessage::FetchWriters { epoch, after } => self.tell_writers(from, epoch, after),
            message => self.answer(from, message, now),
        }
    }

    /// A broken rule: one who was the primary is told that this copy has what it sends.
    #[cfg(any(test, feature = "simulation"))]
    fn acknowledge_former(&mut self, from: EndpointId, message: &StoreMessage) {
        if let StoreMessage::Replicate(it) = message
            && it.epoch < self.epoch
            && self.breaks(Sabotage::AcknowledgesFormer)
        {
            let acknowledgement = Acknowledgement {
                epoch: it.epoch,
                timeline: it.timeline,
                index: (it.first + it.entries.len() as u64).saturating_sub(1),
                durable: 0,
                is_whole: true,
            };
            self.send(from, &StoreMessage::Acknowledge(acknowledgement));
        }
    }

    pub(super) fn leading(
        &mut self,
    ) -> Option<(&mut Leading, &mut super::Log, &super::Assignment)> {
        let replication = self.replication.as_mut()?;
        match &mut replication.role {
            Role::Primary(leading) => {
                Some((leading, &mut replication.log, &replication.assignment))
            }
            Role::Copy(_) => None,
        }
    }

    fn ask(&mut self, from: EndpointId, request: u64, query: Query) {
        #[cfg(any(test, feature = "simulation"))]
        let at_once = self.breaks(Sabotage::AnswersAtOnce);
        let Some((leading, log, _)) = self.leading() else {
            return;
        };
        if leading.questions.len() >= QUESTIONS || log.is_full() {
            return; // it is asked again
        }
        // An entry that changes nothing: whoever has it goes by the epoch of now.
        let is_alone = !leading.peers.iter().any(Peer::is_required);
        // One entry is enough for questions that came before it was sent: what a copy has said before a question counts for nothing.
        let is_sent = leading.peers.iter().any(|peer| peer.sent >= log.last());
        let last = leading.questions.back();
        let waits = !is_sent && last.is_some_and(|last| last.behind == log.last());
        if !waits && (!is_alone || log.last() > log.committed()) {
            log.push(LogEntry::nothing());
        }
        let behind = log.last();
        #[cfg(any(test, feature = "simulation"))]
        let behind = if at_once { 0 } else { behind };
        leading.questions.push_back(Question {
            from,
            request,
            query,
            behind,
        });
    }

    /// A copy wants to follow.
    fn attach(&mut self, from: EndpointId, attach: Attach, now: Now) {
        let (timeline, epoch) = (self.timeline, self.epoch);
        let Some((leading, log, _)) = self.leading() else {
            return;
        };
        let Some(peer) = leading.peers.get_mut(from) else {
            return; // it is not named, or one of us does not know yet that it is
        };
        if attach.epoch != epoch {
            let fenced = StoreMessage::Fenced { epoch };
            if attach.epoch < epoch {
                self.send(from, &fenced);
            }
            return;
        }
        let continues = attach.timeline == timeline && log.covers(attach.index);
        let index = if continues {
            attach.index
        } else {
            log.committed()
        };
        peer.is_attached = true;
        peer.is_whole = continues;
        (peer.began, peer.sent, peer.told) = (index, index, 0);
        peer.index = if continues { index } else { 0 };
        peer.durable = 0;
        peer.progress = now.mono;
        self.tell_where_it_begins(from);
        self.advance(now);
    }

    fn tell_where_it_begins(&mut self, to: EndpointId) {
        let (timeline, epoch) = (self.timeline, self.epoch);
        let Some((leading, log, _)) = self.leading() else {
            return;
        };
        let Some(peer) = leading.peers.get_mut(to) else {
            return;
        };
        let attached = Attached {
            epoch,
            timeline,
            index: peer.began,
            change: log.changes_at(peer.began),
            // It has not said that it has anything of this yet.
            continues: peer.is_whole,
        };
        self.send(to, &StoreMessage::Attached(attached));
    }

    /// A copy says what it has.
    fn acknowledged(&mut self, from: EndpointId, it: Acknowledgement, now: Now) {
        let (timeline, epoch) = (self.timeline, self.epoch);
        let Some((leading, log, _)) = self.leading() else {
            return;
        };
        let Some(peer) = leading.peers.get_mut(from) else {
            return;
        };
        // What was said in another epoch was said to another primary, or of another one's entries.
        if it.epoch != epoch || it.timeline != timeline {
            return;
        }
        if !peer.is_attached {
            // It does not know that it was given up.
            let attach = Attach {
                epoch,
                timeline: if it.is_whole { timeline } else { 0 },
                index: it.index,
            };
            return self.attach(from, attach, now);
        }
        if it.index < peer.began {
            // What it was told last is on its way, or lost.
            return self.tell_where_it_begins(from);
        }
        let index = it.index.min(log.last());
        if index > peer.index {
            peer.progress = now.mono;
            peer.send_again = now.mono.after(SEND_AGAIN);
        }
        peer.index = peer.index.max(index);
        peer.durable = peer.durable.max(it.durable.min(log.last()));
        peer.is_whole |= it.is_whole;
        self.advance(now);
    }

    /// Commits what all have, answers, and sends on.
    pub(super) fn advance(&mut self, now: Now) {
        self.send_entries(now);
        if self.must_wait() {
            return;
        }
        if self.waits_for_disk() {
            self.commit();
            return self.request(now);
        }
        self.tell_held(now);
        self.answer_questions();
        #[cfg(any(test, feature = "simulation"))]
        let commits_alone = self.breaks(Sabotage::CommitsAlone);
        let Some((leading, log, _)) = self.leading() else {
            return;
        };
        let upto = leading.peers.index(log.last());
        #[cfg(any(test, feature = "simulation"))]
        let upto = if commits_alone { log.last() } else { upto };
        if upto > log.committed() {
            let told = self.make_committed(upto, now.mono);
            if self.commit_queue.is_some() {
                for (writer, results) in &told {
                    let session = self.sessions.of(*writer, now.mono);
                    session.mark(Some(upto), results.next - 1);
                }
            }
            if let Some((leading, ..)) = self.leading() {
                leading.held = told;
            }
            if self.waits_for_disk() {
                // Those who watch here see what is read here.
                self.tell(now.mono);
            } else {
                self.tell_held(now);
            }
            self.commit();
        }
        if !self.waits_for_disk() {
            self.answer_questions();
        }
        self.tell_durable();
        self.request(now);
        if let Some((leading, log, _)) = self.leading() {
            leading.peers.give_up_slow(log.first_for_newcomers());
            log.trim(leading.peers.needed());
        }
        self.send_news(now);
    }

    /// Tells everybody what was made.
    fn tell_held(&mut self, now: Now) {
        let Some((leading, ..)) = self.leading() else {
            return;
        };
        let told = std::mem::take(&mut leading.held);
        self.tell(now.mono);
        let endpoints: Vec<_> = told.keys().map(|writer| writer.endpoint).collect();
        self.tell_committed_to(&endpoints, now);
        let is_persistent = self.commit_queue.is_some();
        for (writer, mut results) in told {
            if is_persistent {
                let session = self.sessions.of(writer, now.mono);
                (results.durable, results.failed) = session.kept();
            }
            self.send(writer.endpoint, &StoreMessage::Results(results));
        }
    }

    /// Whether a writer will be told something when it is on disk.
    pub(super) fn holds_for(&mut self, writer: Writer) -> bool {
        let leading = self.leading();
        leading.is_some_and(|(leading, ..)| leading.held.contains_key(&writer))
    }

    /// Sends what copies do not have yet, as far as they keep up.
    fn send_entries(&mut self, now: Now) {
        let at = self.store_time(now).wall;
        let Some(replication) = self.replication.as_mut() else {
            return;
        };
        let Role::Primary(leading) = &mut replication.role else {
            return;
        };
        let log = &replication.log;
        for peer in leading.peers.iter_mut().filter(|peer| peer.is_attached) {
            if peer.sent > peer.has() && now.mono >= peer.send_again {
                peer.sent = peer.has();
            }
            while peer.sent < log.last() && peer.sent - peer.index.min(peer.sent) < WINDOW {
                let (change, entries) = log.from(peer.sent + 1, ENTRIES, BYTES);
                let entries: Vec<&LogEntry> = entries.collect();
                if entries.is_empty() {
                    break;
                }
                let mut writers: Vec<(Writer, u64)> = Vec::new();
                for (writer, _) in entries.iter().filter_map(|entry| entry.by) {
                    if writers.last().is_none_or(|(last, _)| *last != writer)
                        && !writers.iter().any(|(known, _)| *known == writer)
                    {
                        writers.push((writer, self.sessions.first_open(writer)));
                    }
                }
                let first = peer.sent + 1;
                if peer.sent <= peer.has() {
                    // What is sent behind entries that wait does not put them off.
                    peer.send_again = now.mono.after(SEND_AGAIN);
                }
                peer.sent += entries.len() as u64;
                peer.told = log.committed();
                peer.tell_at = None;
                let replicate = Replicate {
                    epoch: self.epoch,
                    timeline: self.timeline,
                    committed: log.committed(),
                    first,
                    change,
                    writers,
                    entries,
                    at,
                };
                let message = StoreMessage::encode_replicate(&self.name, &replicate);
                self.out.push_back(Output::Send(peer.id, message));
            }
        }
    }

    /// A copy whose own writes are answered is told first that all have them: what it reads has them then.
    fn tell_committed_to(&mut self, endpoints: &[EndpointId], now: Now) {
        let Some((leading, log, _)) = self.leading() else {
            return;
        };
        let mut told = Vec::new();
        for peer in leading.peers.iter_mut() {
            if peer.is_attached && peer.told < log.committed() && endpoints.contains(&peer.id) {
                peer.told = log.committed();
                told.push(peer.id);
            }
        }
        for id in told {
            self.tell_committed(id, now);
        }
    }

    fn tell_committed(&mut self, to: EndpointId, now: Now) {
        let (timeline, epoch) = (self.timeline, self.epoch);
        let at = self.store_time(now).wall;
        let Some((_, log, _)) = self.leading() else {
            return;
        };
        let replicate = Replicate {
            epoch,
            timeline,
            committed: log.committed(),
            first: 0,
            change: 0,
            writers: Vec::new(),
            entries: Vec::new(),
            at,
        };
        self.send(to, &StoreMessage::Replicate(replicate));
    }

    /// Tells copies what is committed, if nothing else brings them that: at once where the disk is waited for.
    fn send_news(&mut self, now: Now) {
        let is_persistent = self.commit_queue.is_some();
        let Some((leading, log, _)) = self.leading() else {
            return;
        };
        let mut due = Vec::new();
        for peer in leading.peers.iter_mut() {
            if !peer.is_attached || peer.told >= log.committed() {
                peer.tell_at = None;
                continue;
            }
            let at = peer.tell_at.get_or_insert(now.mono.after(TELL_COMMITTED));
            if is_persistent || *at <= now.mono {
                peer.told = log.committed();
                peer.tell_at = None;
                due.push(peer.id);
            }
        }
        for id in due {
            self.tell_committed(id, now);
        }
    }

    fn answer_questions(&mut self) {
        loop {
            let Some((leading, log, _)) = self.leading() else {
                return;
            };
            let committed = log.committed();
            let first = leading.questions.front();
            if first.is_none_or(|first| first.behind > committed) {
                return;
            }
            let Some(question) = leading.questions.pop_front() else {
                return;
            };
            let reply = StoreMessage::Reply {
                request: question.request,
                timeline: self.timeline,
                last: self.state.changes(),
                reply: self.reply(&question.query),
                epoch: self.epoch,
            };
            self.send(question.from, &reply);
        }
    }

    /// Tells writers what is on all disks.
    fn tell_durable(&mut self) {
        if self.commit_queue.is_none() {
            return;
        }
        let own = self.own_durable();
        let Some((leading, ..)) = self.leading() else {
            return;
        };
        let durable = leading.peers.durable(own);
        if let Some(replication) = self.replication.as_mut()
            && durable > replication.durable
        {
            replication.durable = durable;
            self.tell_kept(durable, true);
        }
    }

    /// The backend here has failed: whoever waits for it is told.
    pub(super) fn tell_not_kept(&mut self) {
        let upto = self.replication.as_ref().map_or(0, |it| it.committing);
        self.tell_kept(upto, false);
    }

    /// Asks the coordinators for what is due.
    fn request(&mut self, now: Now) {
        let durable = self.commit_queue.is_some().then(|| self.own_durable());
        #[cfg(any(test, feature = "simulation"))]
        let counts_late = self.breaks(Sabotage::CountsNewcomersLate);
        let Some((leading, log, assignment)) = self.leading() else {
            return;
        };
        let epoch = assignment.epoch;
        let requests = leading
            .peers
            .requests((log.last(), log.committed()), durable, now.mono);
        #[cfg(any(test, feature = "simulation"))]
        if counts_late {
            leading.peers.iter_mut().for_each(Peer::gives_up);
        }
        let requests = requests.into_iter();
        let outputs = requests.map(|request| Output::Request { epoch, request });
        self.out.extend(outputs);
    }

    /// A new copy asks for writers: those behind one, in order.
    fn tell_writers(&mut self, to: EndpointId, epoch: u64, after: Option<Writer>) {
        if epoch != self.epoch {
            return;
        }
        let behind = |(writer, _): &(Writer, u64)| after.is_none_or(|after| *writer > after);
        let mut writers: Vec<_> = self.state.writers().filter(behind).collect();
        writers.sort_unstable();
        let mut bytes = 0;
        let mut rows = Vec::new();
        let all = writers.len();
        for (writer, number) in writers {
            if bytes >= WRITERS_BYTES {
                break;
            }
            let (first, answers) = self.sessions.answers(writer);
            bytes += 32 + answers.len() * 8;
            rows.push(WriterRow {
                writer,
                number,
                first,
                answers,
            });
        }
        let part = WritersPart {
            epoch,
            timeline: self.timeline,
            after,
            is_last: rows.len() == all,
            rows,
        };
        self.send(to, &StoreMessage::Writers(part));
    }
}
