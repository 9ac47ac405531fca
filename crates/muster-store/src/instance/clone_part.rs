//! An instance that is a clone: beside what it follows, the node that is asked to open the primary.

use std::collections::VecDeque;
use std::time::Duration;

use muster_wire::{EndpointId, Mono};

use super::{CloneReport, InstanceConfig, Notice, Output};
use crate::{CloneConfig, Follower, Freshness, StoreClone, StoreName};

/// How often the node that should have the primary is asked to open it, until the primary is heard: soon at first,
/// as that node mostly starts at the same time.
const ASK_SOON: Duration = Duration::from_millis(50);
const ASK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct ClonePart {
    pub(super) follower: Follower,
    config: CloneConfig,
    /// When the node that should have the primary is asked next, and how long until it is asked once more.
    ask_at: Option<Mono>,
    pause: Duration,
    listens_to_broker: bool,
    was_stale: bool,
    out: VecDeque<Output>,
    #[cfg(test)]
    asks_once: bool,
}

impl ClonePart {
    pub(super) fn new(
        name: &StoreName,
        instance: &InstanceConfig,
        config: CloneConfig,
        now: Mono,
    ) -> Self {
        let (me, number) = (instance.endpoint, instance.number);
        let follower = Follower::new(name.clone(), me, number, config.clone(), now);
        Self::with(follower, config, now)
    }

    /// A clone that goes on with what was known before.
    pub(super) fn with(follower: Follower, config: CloneConfig, now: Mono) -> Self {
        Self {
            ask_at: config.ask_to_open.then_some(now),
            follower,
            config,
            pause: ASK_SOON,
            listens_to_broker: false,
            was_stale: false,
            out: VecDeque::new(),
            #[cfg(test)]
            asks_once: false,
        }
    }

    /// What goes on when it becomes a copy. All that it still wants done goes to `out`.
    pub(super) fn into_client(
        self,
        out: &mut VecDeque<Output>,
        now: Mono,
    ) -> (StoreClone, CloneConfig) {
        out.extend(self.out);
        if self.listens_to_broker {
            out.push_back(Output::ListenToBroker(false));
        }
        let (client, rest) = self.follower.into_muster(now);
        out.extend(rest);
        (client, self.config)
    }

    #[cfg(test)]
    pub(super) fn with_sabotage(mut self, sabotage: super::Sabotage) -> Self {
        if sabotage == super::Sabotage::AsksNobody {
            self.ask_at = None;
        }
        self.follower.set_sabotage(sabotage);
        self.asks_once = sabotage == super::Sabotage::AsksOnce;
        self
    }

    pub(super) fn lost(&mut self, endpoint: EndpointId, now: Mono) {
        self.follower.lost(endpoint, now);
        if !self.follower.hears_primary(now) {
            let soon = now.after(self.pause);
            self.ask_at = self.ask_at.map(|at| at.min(soon));
        }
    }

    pub(super) fn tick(&mut self, now: Mono) {
        self.follower.tick(now);
        if self.ask_at.is_some_and(|at| at <= now) {
            // A primary that is known may be lost again: its node begins anew and knows of no store.
            let next = if let Some(until) = self.follower.heard_until(now) {
                until.max(now.after(self.pause))
            } else {
                self.out.push_back(Output::AskToOpen);
                let next = now.after(self.pause);
                self.pause = (self.pause * 2).min(ASK_EVERY);
                next
            };
            self.ask_at = Some(next);
            #[cfg(test)]
            if self.asks_once {
                self.ask_at = None;
            }
        }
        let is_stale = self.follower.freshness(now) == Freshness::Stale;
        if is_stale != std::mem::replace(&mut self.was_stale, is_stale) {
            let notice = if is_stale {
                Notice::Stale
            } else {
                Notice::Recovered
            };
            self.out.push_back(Output::Notice(notice));
        }
    }

    pub(super) fn next_tick(&self) -> Mono {
        let follower = self.follower.next_tick();
        self.ask_at.map_or(follower, |at| at.min(follower))
    }

    pub(super) fn report(&self, now: Mono) -> CloneReport {
        CloneReport {
            primary: self.follower.primary(),
            freshness: self.follower.freshness(now),
            missing: self.follower.missing(),
            unsettled: self.follower.unsettled(),
        }
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        let wants = self.follower.wants_broker();
        if wants != std::mem::replace(&mut self.listens_to_broker, wants) {
            return Some(Output::ListenToBroker(wants));
        }
        self.out.pop_front().or_else(|| self.follower.poll())
    }
}
