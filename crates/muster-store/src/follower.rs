//! A clone that follows whatever primary there is: one of Muster, or else one of Broker.

use std::collections::VecDeque;
use std::time::Duration;

use muster_wire::{EndpointId, Mono};

use crate::broker::{BrokerClone, BrokerCommand, Content, muster_entity};
use crate::op::Op;
use crate::protocol::{Query, Reply, StoreMessage};
use crate::{
    CloneConfig, CopyMode, Entries, Freshness, Level, Notice, Now, Output, Revision, StoreClone,
    StoreName, Token,
};

/// How long a new clone looks for a Muster primary alone.
const MUSTER_FIRST: Duration = Duration::from_millis(500);

/// How long a clone that has had a Muster primary does so: its next one is likely of Muster, too.
const MUSTER_AGAIN: Duration = Duration::from_secs(10);

/// Whose copy is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    Muster,
    Broker,
}

/// A clone without I/O that looks for a Muster primary and, if there is none within a short time,
/// for a master of Broker as well. If a Muster primary appears later, the clone follows it instead.
/// Two primaries of one store have nothing in common, so their differences are reported as changes,
/// and writes that were sent to one are not repeated to the other.
#[derive(Debug)]
pub struct Follower {
    me: EndpointId,
    instance: u64,
    config: CloneConfig,
    lead: Lead,
    muster: StoreClone,
    broker: Option<Box<BrokerClone>>,
    /// When a master of Broker is looked for, unless one of Muster is heard.
    broker_at: Mono,
    /// Whether one is looked for, or followed.
    wants_broker: bool,
    out: VecDeque<Output>,
}

impl Follower {
    /// Creates a clone that has nothing yet. `instance` must be different for all instances on an
    /// endpoint.
    pub fn new(
        name: StoreName,
        me: EndpointId,
        instance: u64,
        config: CloneConfig,
        now: Mono,
    ) -> Self {
        Self {
            me,
            instance,
            lead: Lead::Muster,
            muster: StoreClone::new(name, instance, config.clone(), now),
            broker: None,
            config,
            broker_at: now.after(MUSTER_FIRST),
            wants_broker: false,
            out: VecDeque::new(),
        }
    }

    /// Creates a clone that goes on with what was known of a Muster primary.
    pub(crate) fn with(
        muster: StoreClone,
        me: EndpointId,
        instance: u64,
        config: CloneConfig,
        now: Mono,
    ) -> Self {
        let new = Self::new(muster.name().clone(), me, instance, config, now);
        Self { muster, ..new }
    }

    /// What it knows of a Muster primary, and what it still wants done. What it has of a master of Broker goes to that one.
    pub(crate) fn into_muster(mut self, now: Mono) -> (StoreClone, VecDeque<Output>) {
        if let Some(broker) = self.broker.take()
            && self.lead == Lead::Broker
        {
            self.leave_broker(*broker, now);
        }
        (self.muster, self.out)
    }

    /// Goes on with a Muster primary, after a master of Broker.
    fn leave_broker(&mut self, mut broker: BrokerClone, now: Mono) {
        self.lead = Lead::Muster;
        // Before anything that the Muster primary tells: this one's last words.
        let unsent = broker.take_unsent();
        broker.close();
        while let Some(output) = broker.poll() {
            self.out.push_back(output);
        }
        self.muster.adopt(broker.take_entries(), now);
        for write in unsent {
            let deadline = Some(write.deadline);
            let (op, token) = (write.op, write.token);
            self.muster.write(op, Level::Applied, token, deadline, now);
        }
    }

    /// Coordinators have decided which endpoint is the primary.
    pub(crate) fn assigned(&mut self, primary: EndpointId, epoch: u64, now: Mono) {
        self.muster.assigned(primary, epoch, now);
    }

    #[cfg(test)]
    pub(crate) fn set_sabotage(&mut self, sabotage: crate::instance::Sabotage) {
        self.muster.sabotage = sabotage;
    }

    fn leader(&self) -> Option<&BrokerClone> {
        let broker = self.broker.as_deref();
        broker.filter(|_| self.lead == Lead::Broker)
    }

    /// Returns the entries of the copy.
    pub fn entries(&self) -> &Entries {
        match self.leader() {
            Some(broker) => broker.entries(),
            None => self.muster.entries(),
        }
    }

    /// Returns the last change in the copy, or `None` before the first snapshot. Its timeline is 0
    /// if it follows a master of Broker.
    pub fn applied(&self) -> Option<Revision> {
        match self.leader() {
            Some(broker) => broker.applied().map(|change| Revision {
                timeline: 0,
                change,
            }),
            None => self.muster.applied(),
        }
    }

    /// Returns the endpoint of its primary, if it follows one.
    pub fn primary(&self) -> Option<EndpointId> {
        match self.leader() {
            Some(broker) => broker.master().map(|primary| primary.endpoint),
            None => self.muster.primary(),
        }
    }

    /// Returns `true` if it follows a primary. A Muster primary must have been heard lately.
    pub fn hears_primary(&self, now: Mono) -> bool {
        match self.leader() {
            Some(broker) => broker.master().is_some(),
            None => self.muster.hears_primary(now),
        }
    }

    /// Returns until when the primary counts as heard, if nothing more is heard from it, or `None`
    /// if it is not heard now. A master of Broker is heard as long as its connection is up.
    pub fn heard_until(&self, now: Mono) -> Option<Mono> {
        match self.leader() {
            Some(broker) => broker.master().map(|_| now),
            None => self.muster.heard_until().filter(|until| *until > now),
        }
    }

    /// Returns how old the copy may be.
    pub fn freshness(&self, now: Mono) -> Freshness {
        match self.leader() {
            Some(broker) => broker.freshness(now),
            None => self.muster.freshness(now),
        }
    }

    /// Returns how many changes the copy is missing, as far as its primary has told. A master of
    /// Broker announces no change before sending it.
    pub fn missing(&self) -> u64 {
        match self.leader() {
            Some(_) => 0,
            None => self.muster.missing(),
        }
    }

    /// Returns the number of writes that are not settled.
    pub fn unsettled(&self) -> usize {
        let broker = self.broker.as_deref();
        self.muster.unsettled() + broker.map_or(0, BrokerClone::unsettled)
    }

    /// Returns `true` if all writes are settled.
    pub fn is_settled(&self) -> bool {
        let broker = self.broker.as_deref();
        self.muster.is_settled() && broker.is_none_or(BrokerClone::is_settled)
    }

    /// Returns `true` if the topic of Broker's clones is to be listened to.
    pub fn wants_broker(&self) -> bool {
        self.wants_broker
    }

    /// Notes that the topic of Broker's clones is listened to, so that a master's answer would
    /// arrive.
    pub fn listening(&mut self, now: Mono) {
        if self.wants_broker && self.broker.is_none() {
            let me = muster_entity(self.me, self.instance);
            let clone = BrokerClone::new(me, self.config.clone(), now);
            self.broker = Some(Box::new(clone));
        }
    }

    /// Sets whether changes are reported. They need not be where nobody watches.
    pub fn set_watched(&mut self, is_watched: bool) {
        self.muster.set_watched(is_watched);
    }

    /// Sends a write to the primary, as [`StoreClone::write`] does. A master of Broker does not
    /// support compare-and-swap and durable writes: they end with
    /// [`WriteRefusal::Unsupported`](crate::op::WriteRefusal::Unsupported).
    pub fn write(&mut self, op: Op, level: Level, token: Token, deadline: Option<Mono>, now: Mono) {
        match &mut self.broker {
            Some(broker) if self.lead == Lead::Broker => {
                broker.write(op, level, token, deadline, now);
            }
            _ => self.muster.write(op, level, token, deadline, now),
        }
    }

    /// Asks the primary a question. A master of Broker does not answer any, so the copy here
    /// answers in its place.
    pub fn query(&mut self, request: u64, query: Query, now: Mono) {
        let Some(broker) = self.leader() else {
            return self.muster.query(request, query, now);
        };
        let reply = match query {
            Query::Get(key) => Reply::Entry(broker.entries().get(&key).cloned()),
            Query::Size => Reply::Size(broker.entries().len() as u64),
        };
        let change = broker.applied().unwrap_or(0);
        let revision = Revision {
            timeline: 0,
            change,
        };
        self.out.push_back(Output::Replied {
            request,
            revision,
            reply,
        });
    }

    /// Takes a message of Muster's protocol from an endpoint.
    pub fn receive(&mut self, from: EndpointId, message: StoreMessage, now: Mono) {
        self.muster.receive(from, message, now);
        if !self.muster.hears_primary(now) {
            return;
        }
        self.broker_at = now.after(MUSTER_AGAIN);
        self.wants_broker = false;
        if let Some(broker) = self.broker.take()
            && self.lead == Lead::Broker
        {
            self.leave_broker(*broker, now);
            self.out.push_back(Output::Notice(Notice::FollowsMuster));
        }
    }

    /// Takes a command of Broker's protocol.
    pub fn receive_broker(&mut self, command: BrokerCommand, now: Now) {
        let Some(broker) = &mut self.broker else {
            return;
        };
        if self.lead == Lead::Broker {
            return broker.receive(command, now);
        }
        if !matches!(command.content, Content::AckClone { .. }) {
            return;
        }
        // What is different in its snapshot is told as changes.
        broker.adopt(self.muster.entries().clone());
        broker.receive(command, now);
        let Some(primary) = broker.master() else {
            return;
        };
        self.muster.take_entries();
        self.lead = Lead::Broker;
        for (write, level) in self.muster.take_unsent() {
            broker.take_over(write, level, now.mono);
        }
        let follows = Output::Notice(Notice::FollowsBroker(primary.endpoint));
        self.out.push_back(follows);
    }

    /// Notes that an endpoint is out of reach. If it had the primary, another one is accepted at
    /// once.
    pub fn lost(&mut self, endpoint: EndpointId, now: Mono) {
        self.muster.lost(endpoint, now);
        if let Some(broker) = &mut self.broker {
            broker.lost(endpoint, now);
        }
    }

    /// Notes that a possible primary is in reach. A clone that has no primary asks at once.
    pub fn discovered(&mut self, now: Mono) {
        self.muster.discovered(now);
        if let Some(broker) = &mut self.broker {
            broker.discovered(now);
        }
    }

    /// Does what is due at the time `now`.
    pub fn tick(&mut self, now: Mono) {
        self.muster.tick(now);
        if let Some(broker) = &mut self.broker {
            broker.tick(now);
        }
        if !self.wants_broker && now >= self.broker_at {
            // Without a copy it hears its primary only if it asks.
            let is_quiet = self.config.copy == CopyMode::None && self.muster.primary().is_some();
            if is_quiet || self.muster.hears_primary(now) {
                self.broker_at = now.after(MUSTER_AGAIN);
            } else {
                self.wants_broker = true;
            }
        }
    }

    /// Returns when [`Follower::tick`] has something to do, at the latest.
    pub fn next_tick(&self) -> Mono {
        let broker = self.broker.as_deref().map(BrokerClone::next_tick);
        let wants = (!self.wants_broker).then_some(self.broker_at);
        let others = [broker, wants].into_iter().flatten().min();
        let muster = self.muster.next_tick();
        others.map_or(muster, |others| others.min(muster))
    }

    /// Settles all waiting writes, because the store is closed.
    pub fn close(&mut self, now: Mono) {
        self.muster.close(now);
        if let Some(broker) = &mut self.broker {
            broker.close();
        }
    }

    /// Returns the next thing to do, or `None` if there is nothing.
    pub fn poll(&mut self) -> Option<Output> {
        if let Some(output) = self.out.pop_front() {
            return Some(output);
        }
        if let Some(output) = self.broker.as_mut().and_then(|broker| broker.poll()) {
            self.out.push_back(output);
            return self.out.pop_front();
        }
        self.muster.poll()
    }
}

#[cfg(test)]
mod tests {
    use muster_data::Timestamp;

    use super::*;
    use crate::broker::Entity;
    use crate::op::{Answer, Change, StoreEvent, WriteRefusal};
    use crate::{Encoded, SettledWrite, StoreBudget};

    fn endpoint(number: u8) -> EndpointId {
        EndpointId::from_random([number; 16])
    }

    fn at(millis: u64) -> Mono {
        Mono(1 + millis * 1_000_000)
    }

    fn follower() -> Follower {
        let name = StoreName::new("kv").unwrap();
        Follower::new(name, endpoint(1), 3, CloneConfig::default(), at(0))
    }

    fn drain(follower: &mut Follower) -> Vec<Output> {
        std::iter::from_fn(|| follower.poll()).collect()
    }

    /// A master of Broker attaches the follower, whose store has one key then.
    fn attach(follower: &mut Follower, key: &str, now: Mono) -> Vec<Output> {
        follower.tick(now);
        assert!(follower.wants_broker());
        follower.listening(now);
        follower.tick(now);
        let primary = Entity {
            endpoint: endpoint(2),
            instance: 7,
        };
        let command = BrokerCommand {
            number: 1,
            sender: primary,
            receiver: muster_entity(endpoint(1), 3),
            content: Content::AckClone {
                offset: 1,
                heartbeat: 5,
                state: vec![(Encoded::key(key), Encoded::of(&1u64))],
            },
        };
        let wall = Timestamp::from_nanos(0);
        follower.receive_broker(command, Now { mono: now, wall });
        drain(follower)
    }

    fn put(key: &str) -> Op {
        Op::Put {
            key: Encoded::key(key),
            value: Encoded::of(&2u64),
            ttl: None,
        }
    }

    fn settled(outputs: &[Output]) -> Vec<&SettledWrite> {
        let settled = outputs.iter().filter_map(|output| match output {
            Output::Settled(settled) => Some(settled),
            _ => None,
        });
        settled.collect()
    }

    #[test]
    fn a_copy_of_brokers_that_has_no_room_is_given_up_whole() {
        let name = StoreName::new("kv").unwrap();
        let config = CloneConfig {
            budget: StoreBudget::new(100),
            ..CloneConfig::default()
        };
        let budget = config.budget.clone();
        let mut follower = Follower::new(name, endpoint(1), 3, config, at(0));
        follower.set_watched(true);
        let outputs = attach(&mut follower, "k", at(500));
        assert!(outputs.contains(&Output::Notice(Notice::NoRoomForCopy)));
        assert!(follower.entries().is_empty());
        assert_eq!(follower.freshness(at(500)), Freshness::Unattached);
        let changed = outputs.iter().filter_map(|output| match output {
            Output::Changed(change) => Some(&change.event),
            _ => None,
        });
        assert!(matches!(
            changed.collect::<Vec<_>>()[..],
            [StoreEvent::Put { .. }, StoreEvent::Clear { .. }]
        ));
        let report = budget.report();
        assert_eq!((report.used, report.missing_copies), (0, 1));
        drop(follower);
        assert_eq!(budget.report().missing_copies, 0);
    }

    #[test]
    fn writes_that_wait_go_to_the_primary_that_is_found() {
        let mut follower = follower();
        follower.write(put("a"), Level::Applied, 1, None, at(0));
        follower.write(put("b"), Level::Durable, 2, None, at(0));
        follower.tick(at(100));
        assert!(!follower.wants_broker(), "a Muster primary may answer yet");
        drain(&mut follower);
        let outputs = attach(&mut follower, "k", at(500));
        assert!(outputs.contains(&Output::Notice(Notice::FollowsBroker(endpoint(2)))));
        let sent = outputs.iter().filter_map(|output| match output {
            Output::BrokerFind(bytes) => Some(BrokerCommand::decode(bytes).unwrap()),
            _ => None,
        });
        let events: Vec<BrokerCommand> = sent.filter(|sent| sent.content.is_event()).collect();
        assert!(matches!(&events[..], [event] if event.number == 2));
        let refused = SettledWrite {
            token: 2,
            outcome: Ok(Answer::Refused(WriteRefusal::Unsupported)),
        };
        assert_eq!(settled(&outputs), [&refused]);
        assert_eq!(follower.primary(), Some(endpoint(2)));
        assert_eq!(follower.freshness(at(500)), Freshness::Fresh);
        follower.query(9, Query::Size, at(500));
        let revision = Revision {
            timeline: 0,
            change: 1,
        };
        let replied = Output::Replied {
            request: 9,
            revision,
            reply: Reply::Size(1),
        };
        assert_eq!(drain(&mut follower), [replied], "the copy answers");
    }

    #[test]
    fn a_muster_primary_takes_over_what_is_read_and_what_waits() {
        let mut follower = follower();
        attach(&mut follower, "k", at(500));
        follower.write(put("a"), Level::Applied, 1, None, at(600));
        drain(&mut follower);
        let alive = StoreMessage::Alive {
            epoch: 0,
            timeline: 5,
            last: 0,
        };
        follower.receive(endpoint(3), alive, at(700));
        let outputs = drain(&mut follower);
        assert!(outputs.contains(&Output::Notice(Notice::FollowsMuster)));
        assert!(!follower.wants_broker());
        // It was sent to the other primary, and never heard of again.
        let lost = SettledWrite {
            token: 1,
            outcome: Err(crate::WriteFailure::Unknown),
        };
        assert_eq!(settled(&outputs), [&lost]);
        assert_eq!(follower.entries().len(), 1);
        let chunk = crate::protocol::Chunk {
            epoch: 0,
            instance: 3,
            timeline: 5,
            as_of: 0,
            after: None,
            entries: Vec::new(),
            is_last: true,
        };
        follower.receive(endpoint(3), StoreMessage::Chunk(chunk), at(800));
        let erased = drain(&mut follower).into_iter().any(|output| {
            let Output::Changed(Change { event, .. }) = output else {
                return false;
            };
            matches!(event, StoreEvent::Erase { .. })
        });
        assert!(erased && follower.entries().is_empty());
        assert_eq!(
            follower.applied(),
            Some(Revision {
                timeline: 5,
                change: 0
            })
        );
    }

    #[test]
    fn a_clone_that_hears_its_primary_looks_for_no_other() {
        let mut follower = follower();
        for second in 0..60 {
            let now = at(second * 1000);
            let alive = StoreMessage::Alive {
                epoch: 0,
                timeline: 5,
                last: 0,
            };
            follower.receive(endpoint(3), alive, now);
            follower.tick(now);
            assert!(!follower.wants_broker());
        }
        follower.tick(at(69_500));
        assert!(follower.wants_broker());
    }
}
