//! How a Muster primary serves clones of Broker's protocol.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use muster_data::{Timespan, Timestamp};
use muster_wire::Mono;

use super::channel::{
    CONSUMERS, Consumer, Feedback, HEARTBEAT, Producer, Received, Resend, TIMEOUT,
};
use super::codec::{BrokerCommand, Content, EVERYBODY, Entity, FIXED};
use super::is_muster;
use crate::op::{Answer, Change, Op, StoreEvent};
use crate::{Notice, Now, Output, Primary, State};

/// A clone that asks to be attached once more this soon has not had the time to get the answer.
const ASKS_AGAIN: Duration = Duration::from_secs(1);

/// The bytes of an envelope around a snapshot, at most.
const ENVELOPE: usize = 1024;

/// The whole state of a store, for one clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The command that carries it.
    pub command: BrokerCommand,
    /// About how many bytes it takes.
    pub size: usize,
}

/// Something that a [`Change`] does not say and that its broadcast needs.
#[derive(Debug)]
struct Note {
    change: u64,
    publisher: Entity,
    /// The sum of an addition: told without its TTL.
    is_sum: bool,
}

/// The result of a conditional write. It is told behind the changes that it was decided by, and when nobody can take it back.
#[derive(Debug)]
struct PendingResult {
    /// The last change before it, or of it.
    change: u64,
    /// Its entry, where there are copies.
    index: u64,
    content: Content,
}

#[derive(Debug)]
struct WriterPath {
    events: Consumer<Content>,
    heard: Mono,
}

/// The clones of Broker's protocol that a Muster primary serves as their master. Without any it
/// costs nothing.
#[derive(Debug)]
pub struct BrokerClones {
    me: Entity,
    frame_limit: usize,
    channel: Producer,
    writers: HashMap<Entity, WriterPath>,
    notes: VecDeque<Note>,
    /// The last change that was told.
    told: u64,
    /// All copies have what was decided up to this entry; 0 where there are none.
    committed: u64,
    results: VecDeque<PendingResult>,
    /// Writes wait, because too much is on its way to other copies.
    is_blocked: bool,
    told_too_large: bool,
    out: VecDeque<Output>,
}

impl BrokerClones {
    /// Creates the state for a master with the name `me`, which no other instance of its endpoint
    /// has. `frame_limit` is the size of the largest frame that is sent to a peer, in bytes.
    pub fn new(me: Entity, frame_limit: usize, now: Mono) -> Self {
        Self {
            me,
            frame_limit,
            channel: Producer::new(now),
            writers: HashMap::new(),
            notes: VecDeque::new(),
            told: 0,
            committed: 0,
            results: VecDeque::new(),
            is_blocked: false,
            told_too_large: false,
            out: VecDeque::new(),
        }
    }

    /// Returns the number of clones that are attached.
    pub fn attached(&self) -> usize {
        self.channel.consumers().count()
    }

    /// Takes a command that its sender's endpoint has sent. Writes are applied to `master`, and the
    /// resulting changes are to be passed to [`BrokerClones::changed`].
    pub fn receive(&mut self, command: BrokerCommand, master: &mut Primary, now: Now) {
        let BrokerCommand {
            number,
            sender,
            receiver,
            content,
        } = command;
        // Muster's own clones attach by Muster's protocol.
        if (receiver != EVERYBODY && receiver != self.me) || is_muster(sender) {
            return;
        }
        let is_for_me = receiver == self.me;
        if let Some(writer) = self.writers.get_mut(&sender) {
            writer.heard = now.mono;
        }
        match content {
            Content::Nack { numbers } if numbers == [0] => {
                self.attach(sender, master.state(), now.mono);
            }
            Content::Nack { numbers } if is_for_me => {
                for resend in self.channel.nack(sender, &numbers, now.mono) {
                    let bytes = match resend {
                        Resend::Event(bytes) => bytes,
                        Resend::Failed(number) => {
                            let failed = Content::RetransmitFailed { number };
                            self.command(0, sender, failed).encode()
                        }
                    };
                    self.out
                        .push_back(Output::BrokerToClone(sender.endpoint, bytes));
                }
            }
            Content::CumulativeAck { number } if is_for_me => {
                self.channel.acked(sender, number, now.mono);
            }
            Content::AttachWriter { offset, heartbeat } if is_for_me => {
                self.attach_writer(sender, offset, heartbeat, now.mono);
            }
            Content::Keepalive { number } if number > 0 => {
                if let Some(writer) = self.writers.get_mut(&sender) {
                    writer.events.exists(number, now.mono);
                }
            }
            Content::RetransmitFailed { number } if is_for_me => {
                if let Some(writer) = self.writers.get_mut(&sender) {
                    writer.events.lost(number, now.mono);
                }
                self.apply_events(sender, master, now);
            }
            event if event.is_event() && is_for_me => {
                if let Some(writer) = self.writers.get_mut(&sender) {
                    let size = event.size();
                    writer.events.event(number, event, size, now.mono);
                }
                self.apply_events(sender, master, now);
            }
            _ => {}
        }
    }

    /// Takes a change of the master's state. While clones are attached, all changes must be passed
    /// here, in order.
    pub fn changed(&mut self, change: &Change, now: Now) {
        let mut note = None;
        while let Some(first) = self.notes.front()
            && first.change <= change.number
        {
            note = self.notes.pop_front();
        }
        let note = note.filter(|note| note.change == change.number);
        if self.channel.is_heard() {
            let publisher = note.as_ref().map(|note| note.publisher);
            // The master's own writes have no instance.
            let writer = change
                .writer
                .filter(|writer| writer.endpoint != self.me.endpoint || writer.instance != 0);
            let publisher = publisher.or(writer).unwrap_or(self.me);
            let is_sum = note.is_some_and(|note| note.is_sum);
            let content = match &change.event {
                StoreEvent::Put {
                    key,
                    value,
                    expires,
                    ..
                } => Content::Put {
                    key: key.clone(),
                    value: value.clone(),
                    ttl: expires
                        .filter(|_| !is_sum)
                        .map(|expires| left(expires, now.wall)),
                    publisher,
                },
                StoreEvent::Erase { key, .. } => Content::Erase {
                    key: key.clone(),
                    publisher,
                },
                StoreEvent::Expire { key, .. } => Content::Expire {
                    key: key.clone(),
                    publisher: self.me,
                },
                StoreEvent::Clear { .. } => Content::Clear { publisher },
            };
            self.broadcast(content);
        }
        self.told = self.told.max(change.number);
        self.tell_results();
    }

    /// Notes that more may be on all copies of the master, if there are several. It is called behind
    /// [`BrokerClones::changed`].
    pub fn advanced(&mut self, master: &mut Primary, now: Now) {
        self.committed = master.committed_index();
        self.tell_results();
        if self.is_blocked && !master.is_full() {
            self.is_blocked = false;
            let mut writers: Vec<Entity> = self.writers.keys().copied().collect();
            writers.sort_unstable();
            for writer in writers {
                self.apply_events(writer, master, now);
            }
        }
    }

    /// Does what is due at the time `now`.
    pub fn tick(&mut self, now: Now) {
        for dropped in self.channel.drop_silent(now.mono) {
            self.out
                .push_back(Output::Notice(Notice::BrokerCloneDropped(dropped)));
        }
        self.writers
            .retain(|_, writer| now.mono.since(writer.heard) < TIMEOUT);
        if self.channel.tick(now.mono) {
            // Broker's clones heed keepalives only if they are addressed to them.
            let number = self.channel.number();
            let consumers: Vec<Entity> = self.channel.consumers().collect();
            for consumer in consumers {
                let keepalive = self.command(0, consumer, Content::Keepalive { number });
                let keepalive = Output::BrokerToClone(consumer.endpoint, keepalive.encode());
                self.out.push_back(keepalive);
            }
        }
        let me = self.me;
        for (writer, path) in &mut self.writers {
            let content = match path.events.tick(now.mono) {
                Some(Feedback::Ack(number)) => Content::CumulativeAck { number },
                Some(Feedback::Nack(numbers)) => Content::Nack { numbers },
                None => continue,
            };
            let command = BrokerCommand {
                number: 0,
                sender: me,
                receiver: *writer,
                content,
            };
            let answer = Output::BrokerToClone(writer.endpoint, command.encode());
            self.out.push_back(answer);
        }
    }

    /// Returns when [`BrokerClones::tick`] has something to do, at the latest, or `None` while no
    /// clone is served.
    pub fn next_tick(&self) -> Option<Mono> {
        let writers = self.writers.values();
        let writers = writers.filter_map(|path| path.events.next_tick());
        writers.chain(self.channel.next_tick()).min()
    }

    /// Returns the next thing to do, or `None` if there is nothing.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn command(&self, number: u64, receiver: Entity, content: Content) -> BrokerCommand {
        BrokerCommand {
            number,
            sender: self.me,
            receiver,
            content,
        }
    }

    fn broadcast(&mut self, content: Content) {
        let number = self.channel.number() + 1;
        let bytes = self.command(number, EVERYBODY, content).encode();
        for dropped in self.channel.push(bytes.clone()) {
            self.out
                .push_back(Output::Notice(Notice::BrokerCloneDropped(dropped)));
        }
        self.out.push_back(Output::BrokerBroadcast(bytes));
    }

    /// Attaches a clone, for the first time or anew: with the state of now, and the offset of now. A change
    /// that is made and not yet told comes twice then, which does no harm: all of them are puts and removals.
    fn attach(&mut self, clone: Entity, state: &State, now: Mono) {
        let entries = state.entries();
        let attached = self.channel.attached(clone);
        if attached.is_some_and(|attached| now.since(attached) < ASKS_AGAIN)
            || (attached.is_none() && !self.channel.has_room())
        {
            return;
        }
        let sizes = entries
            .iter()
            .map(|(key, entry)| key.size() + entry.value.size());
        let size = FIXED + 15 + sizes.sum::<usize>();
        if size + ENVELOPE > self.frame_limit {
            if !std::mem::replace(&mut self.told_too_large, true) {
                self.out
                    .push_back(Output::Notice(Notice::BrokerCloneTooLarge(clone, size)));
            }
            return;
        }
        self.told_too_large = false;
        self.channel.attach(clone, now);
        // What was done while nobody was attached may never be told.
        self.told = self.told.max(state.changes());
        let offset = self.channel.number();
        let state = entries.in_order();
        let state = state.map(|(key, entry)| (key.clone(), entry.value.clone()));
        let content = Content::AckClone {
            offset,
            heartbeat: HEARTBEAT,
            state: state.collect(),
        };
        let command = self.command(offset, clone, content);
        let snapshot = Snapshot { command, size };
        self.out
            .push_back(Output::BrokerSnapshot(Box::new(snapshot)));
        if attached.is_none() {
            self.out
                .push_back(Output::Notice(Notice::BrokerCloneAttached(clone)));
        }
    }

    fn attach_writer(&mut self, writer: Entity, offset: u64, heartbeat: u16, now: Mono) {
        if self.writers.len() >= CONSUMERS && !self.writers.contains_key(&writer) {
            return;
        }
        let path = self.writers.entry(writer).or_insert_with(|| WriterPath {
            events: Consumer::new(),
            heard: now,
        });
        if !path.events.is_open() {
            path.events.open(offset, heartbeat, now);
        }
        let number = path.events.next().saturating_sub(1);
        let ack = self.command(0, writer, Content::CumulativeAck { number });
        let ack = Output::BrokerToClone(writer.endpoint, ack.encode());
        self.out.push_back(ack);
    }

    fn apply_events(&mut self, writer: Entity, master: &mut Primary, now: Now) {
        if master.is_full() {
            self.is_blocked = true;
        }
        while !master.is_full()
            && let Some(path) = self.writers.get_mut(&writer)
            && let Some(received) = path.events.take(now.mono)
        {
            if let Received::Event(content) = received {
                self.apply(writer, content, master, now);
            }
        }
    }

    fn apply(&mut self, writer: Entity, content: Content, master: &mut Primary, now: Now) {
        let mut asker = None;
        let mut is_sum = false;
        let (op, publisher) = match content {
            Content::Put {
                key,
                value,
                ttl,
                publisher,
            } => {
                let op = Op::Put { key, value, ttl };
                (op, publisher)
            }
            Content::PutUnique {
                key,
                value,
                ttl,
                who,
                request,
                publisher,
            } => {
                asker = Some((who, request));
                let op = Op::PutUnique { key, value, ttl };
                (op, publisher)
            }
            Content::Erase { key, publisher } => (Op::Erase { key }, publisher),
            Content::Add {
                key,
                value,
                initial,
                ttl,
                publisher,
            } => {
                is_sum = true;
                let op = Op::Add {
                    key,
                    value,
                    initial,
                    ttl,
                };
                (op, publisher)
            }
            Content::Subtract {
                key,
                value,
                ttl,
                publisher,
            } => {
                is_sum = true;
                let op = Op::Subtract { key, value, ttl };
                (op, publisher)
            }
            Content::Clear { publisher } => (Op::Clear, publisher),
            _ => return, // a master's events are no clone's to send
        };
        // The writer is who has sent it: what it says of others has no say in anything but the broadcast.
        let answer = master.apply_foreign(writer, op, now);
        if let Answer::Refused(refusal) = answer {
            self.out
                .push_back(Output::Notice(Notice::BrokerWriteRefused(writer, refusal)));
        }
        if !self.channel.is_heard() {
            return;
        }
        if let Answer::Done { change, .. } = answer
            && (publisher != writer || is_sum)
        {
            self.notes.push_back(Note {
                change,
                publisher,
                is_sum,
            });
        }
        if let Some((who, request)) = asker {
            let result = Content::PutUniqueResult {
                inserted: matches!(answer, Answer::Done { .. }),
                who,
                request,
                publisher: self.me,
            };
            let (index, change) = master.decided();
            self.results.push_back(PendingResult {
                change,
                index,
                content: result,
            });
            self.committed = master.committed_index();
            self.tell_results();
        }
    }

    /// Tells the results whose changes are told, and that all copies have.
    fn tell_results(&mut self) {
        while let Some(first) = self.results.front()
            && first.change <= self.told
            && first.index <= self.committed
            && let Some(first) = self.results.pop_front()
        {
            if self.channel.is_heard() {
                self.broadcast(first.content);
            }
        }
    }
}

/// What is left of a TTL.
fn left(expires: Timestamp, now: Timestamp) -> Timespan {
    let nanos = expires.as_nanos().saturating_sub(now.as_nanos());
    Timespan::from_nanos(nanos.max(0))
}

#[cfg(test)]
mod tests;
