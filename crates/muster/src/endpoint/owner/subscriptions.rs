//! The subscribers of an endpoint, and what the peers are told that it subscribes to.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Owner;
use crate::endpoint::subscriber::{Subscriber, SubscriberQueue};

#[derive(Debug)]
pub(super) struct SubscriberEntry {
    pub(super) prefixes: Vec<Box<[u8]>>,
    pub(super) queue: Arc<SubscriberQueue>,
}

impl Owner {
    /// Its subscriber goes back to whoever asked, unless nobody waits for it.
    pub(super) fn new_subscriber(
        &mut self,
        prefixes: Vec<Box<[u8]>>,
        mut subscriber: Subscriber,
        done: oneshot::Sender<Subscriber>,
    ) {
        let number = self.number();
        let queue = subscriber.register(number);
        for prefix in &prefixes {
            self.subscriptions.add(prefix);
        }
        self.subscribers
            .insert(number, SubscriberEntry { prefixes, queue });
        self.subscriptions_changed();
        let _ = done.send(subscriber);
    }

    pub(super) fn subscribe(&mut self, number: u64, prefixes: Vec<Box<[u8]>>) {
        let Some(subscriber) = self.subscribers.get_mut(&number) else {
            return;
        };
        for prefix in &prefixes {
            self.subscriptions.add(prefix);
        }
        subscriber.prefixes.extend(prefixes);
        self.subscriptions_changed();
    }

    /// Ends one subscription to each prefix that the subscriber holds.
    pub(super) fn unsubscribe(&mut self, number: u64, prefixes: Vec<Box<[u8]>>) {
        let Some(subscriber) = self.subscribers.get_mut(&number) else {
            return;
        };
        let mut left: HashMap<Box<[u8]>, usize> = HashMap::new();
        for prefix in prefixes {
            *left.entry(prefix).or_default() += 1;
        }
        let subscriptions = &mut self.subscriptions;
        subscriber.prefixes.retain(|held| {
            let Some(left) = left.get_mut(held).filter(|left| **left > 0) else {
                return true;
            };
            *left -= 1;
            subscriptions.remove(held);
            false
        });
        self.subscriptions_changed();
    }

    /// Drops the subscribers whose end could not be told.
    pub(super) fn drop_abandoned(&mut self) {
        let abandoned: Vec<u64> = self
            .subscribers
            .iter()
            .filter(|(_, subscriber)| subscriber.queue.is_closed())
            .map(|(number, _)| *number)
            .collect();
        for number in abandoned {
            self.drop_subscriber(number);
        }
    }

    pub(super) fn drop_subscriber(&mut self, number: u64) {
        if let Some(subscriber) = self.subscribers.remove(&number) {
            subscriber.queue.retire();
            for prefix in &subscriber.prefixes {
                self.subscriptions.remove(prefix);
            }
            self.subscriptions_changed();
        }
    }

    fn subscriptions_changed(&mut self) {
        self.publish_table();
        let filter = self.subscriptions.filter();
        if filter == self.filter {
            return;
        }
        self.filter = filter;
        self.peering.set_filter(self.filter.clone());
        let now = self.shared.now();
        self.mesh.mesh.subscribe(self.filter.clone(), now);
        self.tell_version_1();
    }
}
