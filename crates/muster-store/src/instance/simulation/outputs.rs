//! Carries out what the instances want done, over the bad network and the slow disks.

use std::time::Duration;

use super::{Event, Violation, World};
use crate::instance::{Notice, Output};
use crate::simulation::watch;

impl World {
    /// A message's way: once, twice or not at all.
    fn send(&mut self, to: usize, event: impl Fn() -> Event) {
        if self.is_bad && self.random.chance(20) {
            return;
        }
        let times = 1 + u32::from(self.is_bad && self.random.chance(20));
        for _ in 0..times {
            let most = if self.is_bad && self.random.chance(20) {
                100_000
            } else {
                1_000
            };
            let delay = Duration::from_micros(1_000 + self.random.number(most));
            self.schedule(to, delay, event());
        }
    }

    /// Does what a node's instance wants done.
    pub(super) fn collect(&mut self, number: usize) {
        while let Some(process) = &mut self.nodes[number].process
            && let Some(output) = process.instance.poll()
        {
            let from = process.endpoint;
            match output {
                Output::Broadcast(bytes) | Output::Find(bytes) => {
                    for to in (0..self.nodes.len()).filter(|to| *to != number) {
                        let bytes = bytes.clone();
                        self.send(to, || Event::Message {
                            from,
                            bytes: bytes.clone(),
                        });
                    }
                }
                Output::Send(to, bytes) => {
                    if let Some(to) = self.number_of(to) {
                        self.send(to, || Event::Message {
                            from,
                            bytes: bytes.clone(),
                        });
                    }
                }
                Output::AskToOpen => self.send(0, || Event::AskedToOpen),
                Output::ListenToBroker(true) => {
                    self.schedule(number, Duration::from_millis(1), Event::Listening);
                }
                Output::Load { limit } => {
                    // Now and then a disk hangs for longer than a write waits.
                    let hangs = self.scenario.has_faults && self.random.chance(20);
                    let most = if hangs { 20_000 } else { 50 };
                    let delay = Duration::from_millis(1 + self.random.number(most));
                    self.schedule(number, delay, Event::Loaded { limit });
                }
                Output::Commit(commit) => {
                    let hangs = self.scenario.has_faults && self.random.chance(2);
                    let most = if hangs { 10_000_000 } else { 20_000 };
                    let delay = Duration::from_micros(200 + self.random.number(most));
                    self.schedule(number, delay, Event::Committed(commit));
                }
                Output::FindRival => {
                    let others = self.nodes.iter().enumerate();
                    let mut others = others.filter(|(other, _)| *other != number);
                    let rival = others.find_map(|(_, node)| {
                        let process = node.process.as_ref()?;
                        process.instance.is_primary().then_some(process.endpoint)
                    });
                    if let Some(process) = &mut self.nodes[number].process {
                        process.instance.rival_found(rival);
                    }
                }
                Output::Changed(change) => {
                    if !watch(&mut process.watched, change.event) {
                        self.fails(Violation::NotEqual);
                    }
                }
                Output::Settled(settled) => self.settled(settled.token, settled.outcome),
                Output::Replied { request, .. } => self.answered(request, true),
                Output::NoReply { request } => self.answered(request, false),
                Output::Notice(Notice::Rival(rival)) => process.rival = Some(rival),
                Output::Notice(Notice::NoRoomForCopy) => self.given_up += 1,
                Output::Notice(Notice::RoomForCopy) => self.fetched_again += 1,
                Output::Notice(_)
                | Output::Request { .. }
                | Output::ListenToBroker(false)
                | Output::Opened
                | Output::OpenFailed
                | Output::Attached
                // Nobody here speaks Broker's protocol.
                | Output::BrokerBroadcast(_)
                | Output::BrokerFind(_)
                | Output::BrokerToClone(..)
                | Output::BrokerToMaster(..)
                | Output::BrokerSnapshot(_) => {}
            }
        }
    }

    fn answered(&mut self, request: u64, is_answered: bool) {
        let question = &mut self.questions[usize::try_from(request).unwrap()];
        question.end.get_or_insert(is_answered);
    }
}
