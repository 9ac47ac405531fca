//! Stores whose copies coordinators decide about: what the node asks of them, and what it does by their word.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_cluster::coordination::{StoreGroup, event, voters};
use muster_cluster::node::{StoreAuthority, copy_config};
use muster_cluster::{Layout, StorePlan};
use muster_store::{Sqlite, StoreName};
use muster_wire::{Class, Topic};

use super::{NodeStores, sqlite_options};
use crate::store::{Copies, OpenBackend, Store, is_elsewhere};

/// How often coordinators are asked for a store of which they have decided nothing yet.
const WANT_AGAIN: Duration = Duration::from_millis(500);

/// How often they are asked to keep one otherwise.
const WANT_OTHERWISE: u32 = 20;

impl NodeStores {
    /// It is clear who says which nodes keep a store: those that wait for it are opened.
    pub(crate) fn go_by(&self, authority: StoreAuthority) {
        self.0.authority.send_replace(Some(authority));
    }

    /// This node may act for so long by what coordinators have said last.
    pub(crate) fn may_decide_for(&self, left: Option<Duration>) {
        let until = left.map(|left| self.0.endpoint.now().after(left));
        self.0.lease.set(until);
    }

    /// Coordinators have decided about stores.
    pub(crate) fn decided(&self, groups: Vec<(String, StoreGroup)>) {
        for (name, group) in groups {
            let Ok(name) = StoreName::new(&name) else {
                continue;
            };
            let is_to_keep = group.names(self.0.endpoint.id());
            let persistent = group.persistent;
            self.0.groups().insert(name.clone(), group);
            match self.find(&name) {
                // One that is about to be opened looks by itself when it is.
                Some(store) => self.follow(&store),
                None if is_to_keep => self.begin(name, persistent, false),
                None => {}
            }
        }
    }

    /// Does what was decided about a store that is open.
    pub(super) fn follow(&self, store: &Store) {
        let name = store.name();
        let group = self.0.groups().get(name).cloned();
        let Some(group) = group.filter(|_| store.is_open()) else {
            return;
        };
        let Ok(plan) = self.plan(name, group.persistent) else {
            return;
        };
        let backend = group.persistent.then(|| self.open_file(&plan, &group));
        let config = copy_config(&self.0.node, &self.0.budget, &group);
        store.assign(Copies {
            group,
            config,
            kind: "sqlite",
            backend,
            coordinators: Arc::clone(&self.0.coordinators),
            lease: Arc::clone(&self.0.lease),
        });
    }

    fn open_file(&self, plan: &StorePlan, group: &StoreGroup) -> OpenBackend {
        let (path, options) = (self.file_of_copy(plan, group), sqlite_options(&plan.file));
        Arc::new(move || Box::new(Sqlite::new(path.clone(), options.clone())))
    }

    /// The file of this node's copy. Nodes may share a directory, so each has its own; only the node of the layout's choice goes on with
    /// the one that the store has without copies.
    fn file_of_copy(&self, plan: &StorePlan, group: &StoreGroup) -> PathBuf {
        let shared = self.path(plan);
        let own = self.own_file(plan);
        let node = &self.0.node;
        let had_it = group.in_sync.iter().any(|it| it.node == node.name.as_str());
        let goes_on = plan.is_at(node) || (had_it && shared.is_file());
        if !own.is_file() && goes_on {
            return shared;
        }
        own
    }

    fn own_file(&self, plan: &StorePlan) -> PathBuf {
        let shared = self.path(plan);
        let extension = match shared.extension() {
            Some(extension) => format!("{}.{}", self.0.node.name, extension.display()),
            None => self.0.node.name.to_string(),
        };
        shared.with_extension(extension)
    }

    /// Whether something is kept here of a store.
    pub(super) fn files(&self, plan: &StorePlan) -> Vec<PathBuf> {
        let mut files = vec![self.own_file(plan)];
        files.extend(plan.is_at(&self.0.node).then(|| self.path(plan)));
        files
    }

    /// Waits until it is clear who says which nodes keep a store.
    pub(super) async fn authority(&self) -> StoreAuthority {
        let mut authority = self.0.authority.subscribe();
        let known = authority.wait_for(Option::is_some).await;
        // The sender is this node's own.
        known
            .ok()
            .and_then(|it| *it)
            .unwrap_or(StoreAuthority::Layout)
    }

    /// Asks the coordinators, again and again, for the stores that are used here and of which they have decided nothing.
    pub(super) fn ask_for_groups(&self) {
        let inner = Arc::downgrade(&self.0);
        self.0.runtime.spawn(async move {
            let mut round: u32 = 0;
            loop {
                tokio::time::sleep(WANT_AGAIN).await;
                let Some(inner) = inner.upgrade() else {
                    return;
                };
                round = round.wrapping_add(1);
                let this = NodeStores(inner);
                let names: Vec<_> = this.0.stores().keys().cloned().collect();
                for name in names {
                    this.want(&name, round.is_multiple_of(WANT_OTHERWISE));
                }
            }
        });
    }

    /// Asks the coordinators for a store, unless they have decided about it.
    pub(super) fn want(&self, name: &StoreName, otherwise: bool) {
        if *self.0.authority.borrow() != Some(StoreAuthority::Coordinators) {
            return;
        }
        let group = self.0.groups().get(name).cloned();
        if group.is_some() && !otherwise {
            return;
        }
        let persistent = match &group {
            Some(group) => group.persistent,
            None => self.0.are_persistent().contains(name),
        };
        let Ok(plan) = self.plan(name, persistent) else {
            return;
        };
        let wanted = plan.wanted(name);
        let is_wanted = match &group {
            // A process of Zeek's may have it.
            None => !is_elsewhere(&self.0.endpoint, name),
            Some(group) => wanted.is_news_of_primary(group, self.0.endpoint.id()),
        };
        if !is_wanted {
            return;
        }
        let payload = Bytes::from(event(&wanted));
        let mut publisher = self.0.endpoint.publisher();
        for topic in self.0.coordinators.iter() {
            let _ = publisher.publish_encoded(topic, payload.clone(), Class::Control);
        }
    }
}

/// Where the coordinators of a layout listen; empty if it has none.
pub(super) fn coordinators(layout: &Layout) -> Arc<[Topic]> {
    let topics = layout.topics();
    let boxes = voters(layout).into_iter();
    let listens = |of_box| topics.agent(&format!("{}{of_box}", muster_cluster::AGENT_PREFIX));
    boxes.filter_map(listens).collect()
}
