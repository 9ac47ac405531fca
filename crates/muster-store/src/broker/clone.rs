//! A clone of a store whose master is one of Broker or Zeek.

mod applying;

use std::collections::VecDeque;
use std::time::Duration;

use muster_data::{Timespan, Timestamp};
use muster_wire::{EndpointId, Mono};

use super::channel::{Consumer, Feedback, HEARTBEAT, Producer, Resend, TIMEOUT};
use super::codec::{BrokerCommand, Content, EVERYBODY, Entity};
use super::pending::Pending;
use super::translation;
use crate::budget::MissingCopy;
use crate::op::{Answer, Op, WriteRefusal};
use crate::writes::Unsent;
use crate::{CloneConfig, Encoded, Entries, Freshness, Level, Notice, Now, Output, Token};

/// How often a clone without a master looks for one, at first and at most.
const FIND: Duration = Duration::from_millis(200);
const FIND_SLOWLY: Duration = Duration::from_secs(1);

/// The master that a clone follows.
#[derive(Debug, Clone, Copy)]
struct Master {
    entity: Entity,
    /// When anything of it was heard last.
    heard: Mono,
    /// When it has said something to this clone alone last: it does so every half second until it has
    /// forgotten the clone, though its broadcasts go on.
    addressed: Mono,
}

/// What becomes of what the clone hears.
#[derive(Debug)]
enum Copies {
    Kept,
    TooLarge,
    /// The node's stores have no room for it.
    NoRoom {
        _counted: MissingCopy,
    },
}

/// Why a clone needs a snapshot once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Events are gone for good.
    Lost,
    /// The master has forgotten the clone.
    Forgotten,
}

/// A clone without I/O.
///
/// A master of Broker neither answers writes nor numbers its changes for all. So changes are
/// counted here, and the outcome of a write is known by its echo (`pending.rs`).
#[derive(Debug)]
pub struct BrokerClone {
    me: Entity,
    config: CloneConfig,
    master: Option<Master>,
    entries: Entries,
    changes: u64,
    /// Whether there has been a snapshot.
    has_copy: bool,
    /// Whether it may have a copy: one that took too much memory is given up.
    copies: Copies,
    events: Consumer<Content>,
    /// Why a snapshot is needed although the master is known.
    wants_snapshot: Option<Need>,
    /// The master's events up to this number are in the last snapshot.
    covered: u64,
    find_at: Option<Mono>,
    find_after: Duration,
    channel: Producer,
    /// The offset that the master's ear for this clone's writes is opened with, until it has confirmed it.
    opens: Option<u64>,
    pending: Pending,
    warned: bool,
    out: VecDeque<Output>,
}

impl BrokerClone {
    /// Creates a clone that looks for a master. `me` must be different for all instances on an
    /// endpoint.
    pub fn new(me: Entity, config: CloneConfig, now: Mono) -> Self {
        Self {
            me,
            master: None,
            entries: Entries::within(&config.budget),
            config,
            changes: 0,
            has_copy: false,
            copies: Copies::Kept,
            events: Consumer::new(),
            wants_snapshot: None,
            covered: 0,
            find_at: Some(now),
            find_after: FIND,
            channel: Producer::new(now),
            opens: None,
            pending: Pending::default(),
            warned: false,
            out: VecDeque::new(),
        }
    }

    /// Returns the entries of the copy.
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Takes over what was read of another master so far, before the first snapshot: what is different in that
    /// is told as changes.
    pub(crate) fn adopt(&mut self, entries: Entries) {
        let last = entries.iter().map(|(_, entry)| entry.changed).max();
        self.changes = self.changes.max(last.unwrap_or(0));
        self.entries = entries;
    }

    /// What it has, for whoever follows another master from now on.
    pub(crate) fn take_entries(&mut self) -> Entries {
        let nothing = Entries::within(&self.config.budget);
        std::mem::replace(&mut self.entries, nothing)
    }

    /// Returns the number of the last change, as counted here, or `None` before the first snapshot.
    pub fn applied(&self) -> Option<u64> {
        self.has_copy.then_some(self.changes)
    }

    /// Returns its master, if it follows one.
    pub fn master(&self) -> Option<Entity> {
        self.master.map(|master| master.entity)
    }

    /// Returns how old the copy may be.
    pub fn freshness(&self, now: Mono) -> Freshness {
        match self.master {
            _ if !self.has_copy => Freshness::Unattached,
            Some(master) if now.since(master.heard) < self.config.stale_interval => {
                Freshness::Fresh
            }
            _ => Freshness::Stale,
        }
    }

    /// Sends a write to the master. It is settled by `deadline` or, without one, within
    /// [`CloneConfig::mutation_buffer_interval`]. A master of Broker supports no compare-and-swap
    /// and does not tell what is on its disk, so swaps and durable writes are refused.
    pub fn write(&mut self, op: Op, level: Level, token: Token, deadline: Option<Mono>, now: Mono) {
        let refusal = match level {
            Level::Durable => Some(WriteRefusal::Unsupported),
            Level::Applied => translation::refusal(&op),
        };
        if let Some(refusal) = refusal {
            self.pending.settle(token, Ok(Answer::Refused(refusal)));
        } else {
            let interval = self.config.mutation_buffer_interval;
            let deadline = deadline.unwrap_or_else(|| now.after(interval));
            self.pending.submit(op, token, deadline);
        }
        self.send_writes();
        self.settle();
    }

    /// Takes a write that was meant for another master.
    pub(crate) fn take_over(&mut self, write: Unsent, level: Level, now: Mono) {
        let Unsent {
            op,
            token,
            deadline,
        } = write;
        self.write(op, level, token, Some(deadline), now);
    }

    /// The writes that no master was sent.
    pub(crate) fn take_unsent(&mut self) -> VecDeque<Unsent> {
        self.pending.take_unsent()
    }

    /// Takes a command that its sender's endpoint has sent. It is ignored if it is not from the
    /// clone's master, or is for another clone.
    pub fn receive(&mut self, command: BrokerCommand, now: Now) {
        let BrokerCommand {
            number,
            sender,
            receiver,
            content,
        } = command;
        let is_for_me = receiver == self.me;
        if !is_for_me && receiver != EVERYBODY {
            return;
        }
        if let Content::AckClone {
            offset,
            heartbeat,
            state,
        } = content
        {
            if is_for_me {
                self.attached(sender, offset, heartbeat, state, now.mono);
            }
            self.settle();
            return;
        }
        let Some(master) = self.master.as_mut().filter(|m| m.entity == sender) else {
            return;
        };
        master.heard = now.mono;
        if is_for_me {
            master.addressed = now.mono;
        }
        self.warned = false;
        match content {
            Content::Keepalive { number } if number > 0 => self.events.exists(number, now.mono),
            Content::RetransmitFailed { number } => self.events.lost(number, now.mono),
            Content::CumulativeAck { number } if is_for_me => {
                self.opens = None;
                self.channel.acked(sender, number, now.mono);
                self.pending.acked(number, now.mono);
            }
            Content::Nack { numbers } if is_for_me => self.resend(sender, &numbers, now.mono),
            event if event.is_event() => {
                let size = event.size();
                self.events.event(number, event, size, now.mono);
            }
            _ => {}
        }
        self.apply_events(now);
        self.give_up_if_too_large();
        if self.events.is_complete() && self.wants_snapshot.is_none() {
            self.pending.caught_up(now.mono, &self.entries);
        }
        self.send_writes();
        self.settle();
    }

    /// Notes that an endpoint is out of reach. If it had the master, another one is accepted at
    /// once.
    pub fn lost(&mut self, endpoint: EndpointId, now: Mono) {
        if let Some(master) = &mut self.master
            && master.entity.endpoint == endpoint
        {
            let timeout = u64::try_from(self.config.primary_timeout.as_nanos()).unwrap_or(u64::MAX);
            master.heard = Mono(master.heard.0.min(now.0.saturating_sub(timeout)));
            self.find(now);
        }
    }

    /// Notes that a possible master is in reach. A clone that has no master asks at once.
    pub fn discovered(&mut self, now: Mono) {
        if self.needs_master(now) {
            self.find(now);
        }
    }

    /// Does what is due at the time `now`.
    pub fn tick(&mut self, now: Mono) {
        self.pending.expire(now);
        if let Some(master) = self.master {
            self.follow(master, now);
        }
        if self.find_at.is_none() && self.needs_master(now) {
            self.find(now);
        }
        if self.find_at.is_some_and(|at| at <= now) {
            if self.needs_master(now) {
                let ask = self.command(0, EVERYBODY, Content::Nack { numbers: vec![0] });
                self.out.push_back(Output::BrokerFind(ask));
                self.find_at = Some(now.after(self.find_after));
                self.find_after = (self.find_after * 2).min(FIND_SLOWLY);
            } else {
                self.find_at = None;
            }
        }
        self.send_writes();
        self.settle();
    }

    /// Returns when [`BrokerClone::tick`] has something to do, at the latest.
    pub fn next_tick(&self) -> Mono {
        let silent = self.master.map(|master| {
            let gone = master.heard.after(self.config.primary_timeout);
            gone.min(master.addressed.after(TIMEOUT))
        });
        let silent = silent.filter(|_| self.find_at.is_none());
        let channels = [self.events.next_tick(), self.channel.next_tick()];
        let channels = channels.into_iter().flatten();
        let others = [self.find_at, silent, self.pending.next_tick()];
        let next = channels.chain(others.into_iter().flatten()).min();
        next.unwrap_or(Mono(u64::MAX))
    }

    /// Returns `true` if all writes are settled.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns the number of writes that are not settled.
    pub fn unsettled(&self) -> usize {
        self.pending.len()
    }

    /// Settles all waiting writes, because the store is closed.
    pub fn close(&mut self) {
        self.pending.close();
        self.settle();
    }

    /// Returns the next thing to do, or `None` if there is nothing.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn needs_master(&self, now: Mono) -> bool {
        self.wants_snapshot.is_some()
            || self.master.is_none_or(|master| self.is_silent(master, now))
    }

    fn is_silent(&self, master: Master, now: Mono) -> bool {
        now.since(master.heard) >= self.config.primary_timeout
    }

    fn find(&mut self, now: Mono) {
        self.find_after = FIND;
        self.find_at = Some(now);
    }

    /// What a clone with a master does from time to time.
    fn follow(&mut self, master: Master, now: Mono) {
        if now.since(master.addressed) >= TIMEOUT && self.wants_snapshot != Some(Need::Forgotten) {
            // It will have before it hears us, at the latest: the channels begin anew.
            self.wants_snapshot = Some(Need::Forgotten);
            self.pending.abandon(true);
            self.channel.forget();
            self.opens = Some(self.channel.number());
            self.find(now);
        }
        let content = match self.events.tick(now) {
            Some(Feedback::Ack(number)) => Some(Content::CumulativeAck { number }),
            Some(Feedback::Nack(numbers)) => Some(Content::Nack { numbers }),
            None => None,
        };
        if let Some(content) = content {
            let answer = self.command(0, master.entity, content);
            self.send(master.entity, answer);
        }
        if self.channel.tick(now) {
            self.open(master.entity);
            let number = self.channel.number();
            let keepalive = self.command(0, EVERYBODY, Content::Keepalive { number });
            self.out.push_back(Output::BrokerFind(keepalive));
        }
    }

    /// A master has attached this clone.
    fn attached(
        &mut self,
        from: Entity,
        offset: u64,
        heartbeat: u16,
        state: Vec<(Encoded, Encoded)>,
        now: Mono,
    ) {
        if let Some(master) = &mut self.master
            && master.entity == from
        {
            master.heard = now;
            master.addressed = now;
            let Some(need) = self.wants_snapshot.take() else {
                return; // the channel needs none
            };
            self.covered = self.events.end().saturating_sub(1).max(offset);
            if need == Need::Forgotten {
                self.events = Consumer::new();
            }
            // To one that it knows Broker repeats the offset of the first snapshot: what came since stays.
            self.events.open(offset, heartbeat, now);
            self.pending.skipped();
            self.take_snapshot(state);
            self.acknowledge(from);
            self.open(from);
            return;
        }
        if let Some(master) = self.master {
            if !self.is_silent(master, now) {
                if !std::mem::replace(&mut self.warned, true) {
                    let both =
                        Output::Notice(Notice::TwoPrimaries(master.entity.endpoint, from.endpoint));
                    self.out.push_back(both);
                }
                return;
            }
            self.pending.abandon(false);
        }
        self.master = Some(Master {
            entity: from,
            heard: now,
            addressed: now,
        });
        self.wants_snapshot = None;
        self.events = Consumer::new();
        self.events.open(offset, heartbeat, now);
        self.covered = offset;
        self.take_snapshot(state);
        self.acknowledge(from);
        self.channel = Producer::new(now);
        self.attach_writer(from, now);
        self.send_writes();
    }

    fn acknowledge(&mut self, master: Entity) {
        let number = self.events.next().saturating_sub(1);
        let ack = self.command(0, master, Content::CumulativeAck { number });
        self.send(master, ack);
    }

    /// Opens the way of this clone's writes.
    fn attach_writer(&mut self, master: Entity, now: Mono) {
        self.channel.attach(master, now);
        self.opens = Some(self.channel.number());
        self.open(master);
    }

    /// Asks the master to hear this clone's writes, until it has said that it does.
    fn open(&mut self, master: Entity) {
        if let Some(offset) = self.opens {
            let heartbeat = HEARTBEAT;
            let attach = Content::AttachWriter { offset, heartbeat };
            let attach = self.command(0, master, attach);
            self.out.push_back(Output::BrokerFind(attach));
        }
    }

    fn send_writes(&mut self) {
        let Some(master) = self.master else {
            return;
        };
        // What a master that has forgotten us is sent would be lost.
        while self.channel.has_space()
            && self.wants_snapshot.is_none()
            && let Some(content) = self.pending.send(self.channel.number() + 1, self.me)
        {
            let number = self.channel.number() + 1;
            let event = self.command(number, master.entity, content);
            self.channel.push(event.clone());
            self.out.push_back(Output::BrokerFind(event));
        }
    }

    fn resend(&mut self, master: Entity, numbers: &[u64], now: Mono) {
        if let Some(first) = numbers.first() {
            self.opens = None;
            self.pending.acked(first.saturating_sub(1), now);
        }
        for resend in self.channel.nack(master, numbers, now) {
            let bytes = match resend {
                Resend::Event(bytes) => bytes,
                Resend::Failed(number) => {
                    self.command(0, master, Content::RetransmitFailed { number })
                }
            };
            self.send(master, bytes);
        }
    }

    fn settle(&mut self) {
        for settled in self.pending.settled() {
            self.out.push_back(Output::Settled(settled));
        }
    }

    fn command(&self, number: u64, receiver: Entity, content: Content) -> Vec<u8> {
        let command = BrokerCommand {
            number,
            sender: self.me,
            receiver,
            content,
        };
        command.encode()
    }

    fn send(&mut self, to: Entity, bytes: Vec<u8>) {
        self.out
            .push_back(Output::BrokerToMaster(to.endpoint, bytes));
    }
}

fn end(now: Timestamp, ttl: Timespan) -> Timestamp {
    Timestamp::from_nanos(now.as_nanos().saturating_add(ttl.as_nanos()))
}
