//! Stores whose copies coordinators decide about: what nodes ask of them, and what they do by their word.

use std::time::Duration;

use bytes::Bytes;
use muster_cluster::coordination::{StoreGroup, event, voters};
use muster_cluster::node::{StoreAuthority, copy_config, placement_by_coordinators};
use muster_store::{CopyRequest, Placement, StoreName};
use muster_wire::{Class, Kind, Topic};

use super::{Listens, Open};
use crate::agenda::Item;
use crate::cluster::{Cluster, agent};
use crate::nanos;

/// How often coordinators are asked for a store of which they have decided nothing yet.
const WANT_AGAIN: Duration = Duration::from_millis(500);

/// How often they are asked to keep one otherwise.
const WANT_OTHERWISE: u32 = 20;

/// Something that nodes do not do on purpose, to see that a test notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Neglect {
    /// They do everything.
    #[default]
    Nothing,
    /// Stores are not told that their node's lease is over.
    Suspension,
    /// Coordinators are not told what stores ask them for.
    Requests,
    /// Nodes are not told that stores which they watch have changed.
    Changes,
}

impl Cluster {
    /// A node asks the coordinators from now on for the stores that it uses.
    pub(in crate::cluster) fn begin_wants(&mut self, position: usize) {
        let is_node = position < self.layout.nodes().len() && !self.nodes[position].is_zeek;
        let has_coordinators = is_node && !voters(&self.layout).is_empty();
        if let Some(life) = &mut self.nodes[position].life {
            // Without coordinators everything is clear from the beginning.
            life.stores.authority = (!has_coordinators).then_some(StoreAuthority::Layout);
        }
        if has_coordinators {
            self.want_again(position, 1);
        }
    }

    fn want_again(&mut self, position: usize, round: u32) {
        let (node, life) = (position, self.nodes[position].lives);
        let at = self.now + nanos(WANT_AGAIN);
        self.agenda.add(at, Item::Wants { node, life, round });
    }

    pub(in crate::cluster) fn want_stores(&mut self, position: usize, round: u32) {
        for store in self.stores_of(position) {
            self.want_store(position, &store, round.is_multiple_of(WANT_OTHERWISE));
        }
        self.want_again(position, round.wrapping_add(1));
    }

    /// Asks the coordinators for a store, unless they have decided about it.
    fn want_store(&mut self, position: usize, store: &StoreName, otherwise: bool) {
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        let group = life.stores.groups.get(store);
        let goes_by = life.stores.authority;
        if goes_by != Some(StoreAuthority::Coordinators) || (group.is_some() && !otherwise) {
            return;
        }
        let asked = || {
            let stores = life.stores.lock();
            stores.get(store).is_some_and(|open| open.is_persistent)
        };
        let persistent = group.map_or_else(asked, |group| group.persistent);
        let Some(plan) = self.layout.store(store, persistent) else {
            return;
        };
        let wanted = plan.wanted(store);
        if group.is_none_or(|group| wanted.is_news_of_primary(group, life.id)) {
            self.tell_coordinators(position, event(&wanted));
        }
    }

    /// A store asks the coordinators for a decision about its copies.
    pub(super) fn ask_coordinators(
        &mut self,
        position: usize,
        store: &StoreName,
        epoch: u64,
        request: CopyRequest,
    ) {
        if self.boxes.neglect == Neglect::Requests {
            return;
        }
        let life = self.nodes[position].life.as_ref();
        let group = life.and_then(|life| life.stores.groups.get(store));
        let asked = group.and_then(|group| group.asks(store, epoch, request));
        if let Some(asked) = asked {
            self.tell_coordinators(position, asked);
        }
    }

    fn tell_coordinators(&mut self, position: usize, event: Vec<u8>) {
        let payload = Bytes::from(event);
        let topics = self.layout.topics();
        let listens = |of_box: String| topics.agent(&agent::name_of(&of_box));
        let topics: Vec<Topic> = voters(&self.layout)
            .into_iter()
            .filter_map(listens)
            .collect();
        for topic in topics {
            self.publish(position, Class::Control, Kind::Data, &topic, &payload);
        }
    }

    /// It is clear who says which nodes keep a store: those that wait for it are opened.
    pub(in crate::cluster) fn stores_go_by(&mut self, position: usize, authority: StoreAuthority) {
        if let Some(life) = &mut self.nodes[position].life {
            life.stores.authority = Some(authority);
        }
        for store in self.stores_of(position) {
            self.open_placed(position, &store);
        }
    }

    /// Coordinators have decided about stores.
    pub(in crate::cluster) fn stores_decided(
        &mut self,
        position: usize,
        groups: Vec<(String, StoreGroup)>,
    ) {
        for (name, group) in groups {
            let (Ok(store), Some(life)) = (StoreName::new(&name), &mut self.nodes[position].life)
            else {
                continue;
            };
            let (is_to_keep, persistent) = (group.names(life.id), group.persistent);
            let is_known = life.stores.lock().contains_key(&store);
            life.stores.groups.insert(store.clone(), group);
            if is_known {
                // One that is about to be opened looks by itself when it is.
                self.follow(position, &store);
            } else if is_to_keep && let Some(plan) = self.layout.store(&store, persistent) {
                self.place_store(position, &store, plan, persistent);
                self.open_placed(position, &store);
            }
        }
    }

    /// Opens a store that takes writes already, if it is clear who says which nodes keep it.
    pub(super) fn open_placed(&mut self, position: usize, store: &StoreName) {
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        let Some(authority) = life.stores.authority else {
            return;
        };
        let node = &self.layout.nodes()[position];
        let budget = &life.stores.budget;
        let opened = self.with_open(position, store, |open, _| {
            if !std::mem::take(&mut open.is_waiting) {
                return None;
            }
            let placement = match authority {
                StoreAuthority::Layout => open.plan.placement(node, budget),
                StoreAuthority::Coordinators => placement_by_coordinators(node, budget),
            };
            let is_primary = matches!(placement, Placement::Primary { .. });
            open.listens = Listens {
                to_writers: is_primary,
                to_primary: !is_primary,
                ..open.listens
            };
            Some(placement)
        });
        let Some(placement) = opened.flatten() else {
            return;
        };
        if let Placement::Primary {
            backend: Some(_), ..
        } = placement
        {
            self.disk_for(position, store);
        }
        // Everybody hears of it before anything of it is said.
        self.subscribe_to_stores(position);
        self.with_store(position, store, |instance, now| {
            instance.open(placement, now);
        });
        self.store_did(position, store);
        self.want_store(position, store, false);
        self.follow(position, store);
    }

    fn disk_for(&mut self, position: usize, store: &StoreName) {
        let disk = (position, store.clone());
        self.disks.kept.entry(disk).or_default();
    }

    /// Does what was decided about a store that is open.
    fn follow(&mut self, position: usize, store: &StoreName) {
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        let Some(group) = life.stores.groups.get(store).cloned() else {
            return;
        };
        let config = copy_config(&self.layout.nodes()[position], &life.stores.budget, &group);
        let backend = group.persistent.then_some("sqlite");
        let is_open = |open: &mut Open, _| {
            let is_news = open.follows.is_none_or(|known| known < group.changed);
            let follows = is_news && !open.is_waiting;
            open.follows = open.follows.max(follows.then_some(group.changed));
            follows
        };
        if self.with_open(position, store, is_open) != Some(true) {
            return;
        }
        if group.persistent {
            self.disk_for(position, store);
        }
        self.with_store(position, store, |instance, now| {
            instance.assign(group.assignment(), &config, backend, now);
        });
        self.store_did(position, store);
    }

    /// What a store is has perhaps changed.
    pub(super) fn look_at_part(&mut self, position: usize, store: &StoreName) {
        let has_changed = self.with_open(position, store, |open, _| {
            if open.follows.is_none() {
                return false;
            }
            let listens = Listens {
                to_writers: open.instance.is_primary(),
                to_primary: !open.instance.keeps_copy(),
                ..open.listens
            };
            std::mem::replace(&mut open.listens, listens) != listens
        });
        if has_changed == Some(true) {
            self.subscribe_to_stores(position);
        }
    }
}
