//! Carries out what the instances want done.

use std::time::Duration;

use muster_wire::EndpointId;

use super::{Event, World, all_tokens, lists, tokens};
use crate::instance::{Notice, Output};
use crate::op::{Answer, StoreEvent};
use crate::protocol::Reply;
use crate::simulation::watch;
use crate::{CopyRequest, WriteOutcome};

impl World {
    fn is_cut(&self, id: EndpointId) -> bool {
        let number = self.number_of(id);
        number.is_some_and(|number| self.nodes[number].cut_until > self.now)
    }

    /// A message's way: mostly once, seldom twice, and sometimes not at all.
    fn send(&mut self, from: EndpointId, to: EndpointId, bytes: &[u8]) {
        if self.is_cut(from) || self.is_cut(to) {
            return;
        }
        if self.is_bad && self.random.chance(self.loss) {
            return;
        }
        let times = 1 + u32::from(self.is_bad && self.random.chance(2));
        for _ in 0..times {
            let slow = self.is_bad && self.random.chance(5);
            let most = if slow { 60_000 } else { 800 };
            let delay = Duration::from_micros(200 + self.random.number(most));
            let bytes = bytes.to_vec();
            self.later(to, delay, Event::Message { from, bytes });
        }
    }

    /// When a node's disk has done one thing more.
    fn disk_takes(&mut self, number: usize, hang: u64) -> Duration {
        let hangs = self.is_bad && self.random.chance(2);
        let most = if hangs { hang } else { 20_000 };
        let takes = Duration::from_micros(500 + self.random.number(most));
        let now = self.now;
        let Some(process) = &mut self.nodes[number].process else {
            return takes;
        };
        process.disk_until = process.disk_until.max(now).after(takes);
        process.disk_until.since(now)
    }

    /// The coordinators are asked for something.
    fn request(&mut self, from: EndpointId, epoch: u64, request: CopyRequest) {
        if !self.is_cut(from) {
            let delay = Duration::from_millis(1 + self.random.number(20));
            let at = self.now.after(delay);
            self.council.asked(at, from, epoch, request);
        }
    }

    /// Does what a node's instance wants done.
    pub(super) fn collect(&mut self, number: usize) {
        while let Some(process) = &mut self.nodes[number].process
            && let Some(output) = process.instance.poll()
        {
            let me = process.id;
            match output {
                Output::Broadcast(bytes) | Output::Find(bytes) => {
                    for to in self.others(number) {
                        self.send(me, to, &bytes);
                    }
                }
                Output::Send(to, bytes) => self.send(me, to, &bytes),
                Output::Request { epoch, request } => self.request(me, epoch, request),
                Output::ListenToBroker(true) => {
                    self.later(me, Duration::from_millis(1), Event::Listening);
                }
                Output::Load { limit } => {
                    let delay = self.disk_takes(number, 5_000_000);
                    self.later(me, delay, Event::Loaded { limit });
                }
                Output::Commit(commit) => {
                    let delay = self.disk_takes(number, 2_000_000);
                    self.later(me, delay, Event::Committed(commit));
                }
                Output::FindRival => process.instance.rival_found(None),
                Output::Changed(change) => {
                    let changes_nothing = matches!(
                        &change.event,
                        StoreEvent::Put { value, old: Some(old), .. } if value == old
                    );
                    let told = format!("{change:?}");
                    let fits = watch(&mut process.watched, change.event);
                    if changes_nothing || !fits {
                        self.fails(format!(
                            "WATCH: node {number} was told of a false change: {told}"
                        ));
                    }
                }
                Output::Settled(settled) => self.settled(settled.token, settled.outcome),
                Output::Replied { request, reply, .. } => self.replied(request, &reply),
                Output::NoReply { request } => {
                    let question = &mut self.questions[usize::try_from(request).unwrap()];
                    if std::mem::replace(&mut question.is_over, true) {
                        self.fails("ONCE: answered, and then given up".to_owned());
                    }
                }
                Output::Notice(Notice::WritesGivenUp) => self.given_up(number),
                _ => {}
            }
        }
        if self.random.chance(5) {
            self.look_at_reads(number);
        }
    }

    /// What a node had written alone is not what the others have.
    fn given_up(&mut self, number: usize) {
        self.loses();
        let Some(process) = &self.nodes[number].process else {
            return;
        };
        let kept = self.nodes[number].disk.persisted().entries;
        let kept = all_tokens(&kept.into_iter().map(|(k, e)| (k, e.value)).collect());
        let before = process.alone.clone().unwrap_or_default();
        let entries = process.instance.entries().map(lists).unwrap_or_default();
        let written = all_tokens(&entries);
        let written = written.union(&kept).copied();
        self.excused
            .extend(written.filter(|token| !before.contains(token)));
    }

    pub(super) fn settled(&mut self, token: u64, outcome: WriteOutcome) {
        let losses = self.losses;
        let is_alone = self.is_somebody_alone();
        let asked = &mut self.asked[usize::try_from(token).unwrap()];
        if asked.outcome.is_some() {
            return self.fails(format!("ONCE: {token} was settled twice"));
        }
        let is_done = matches!(outcome, Ok(Answer::Done { .. }));
        asked.outcome = Some(outcome);
        // Longer than that nobody waits for what is read.
        let is_soon = self.now.since(asked.at) < Duration::from_secs(10);
        let (number, key) = (asked.node, asked.key.clone());
        if !is_done || !is_soon || asked.losses < losses || is_alone {
            return;
        }
        let process = self.nodes[number].process.as_ref();
        let entries = process.and_then(|process| process.instance.entries());
        let list = entries.and_then(|entries| entries.get(&key));
        let is_there = list.is_some_and(|entry| tokens(&entry.value).contains(&token));
        if !is_there && !self.excused.contains(&token) {
            self.fails(format!(
                "OWN: {token} of node {number} was acknowledged, and is not read there"
            ));
        }
    }

    fn replied(&mut self, request: u64, reply: &Reply) {
        let losses = self.losses;
        let is_alone = self.is_somebody_alone();
        let question = &mut self.questions[usize::try_from(request).unwrap()];
        if std::mem::replace(&mut question.is_over, true) {
            return self.fails(format!("ONCE: question {request} was answered twice"));
        }
        let Reply::Entry(entry) = reply else { return };
        if question.losses != losses || is_alone {
            return;
        }
        let there = entry.as_ref().map(|entry| tokens(&entry.value));
        let there: std::collections::BTreeSet<_> = there.unwrap_or_default().into_iter().collect();
        let missing = question.expected.difference(&there);
        let missing = missing.copied().find(|it| !self.excused.contains(it));
        let key = question.key.clone();
        if let Some(missing) = missing {
            self.fails(format!(
                "ANSWER: {missing} was known before {key} was asked for, and is not in the answer"
            ));
        }
        self.shown.entry(key).or_default().extend(there);
    }
}
