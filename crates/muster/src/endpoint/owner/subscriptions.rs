//! The subscribers of an endpoint, and what the peers are told that it subscribes to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use muster_wire::Mono;
use tokio::sync::oneshot;

use super::Owner;
use crate::endpoint::subscriber::{Subscriber, SubscriberQueue};

/// About what making a new filter costs for each of its prefixes, several times over: whoever subscribes to one prefix
/// after another leaves the owner most of its time.
const FILTER_SHARE: Duration = Duration::from_micros(2);

#[derive(Debug)]
pub(super) struct SubscriberEntry {
    /// How often it subscribes to each prefix.
    prefixes: HashMap<Box<[u8]>, usize>,
    pub(super) queue: Arc<SubscriberQueue>,
    /// Its position in the routing table.
    position: u32,
}

impl SubscriberEntry {
    fn prefixes(&self) -> impl Iterator<Item = &[u8]> {
        self.prefixes.keys().map(|prefix| &**prefix)
    }
}

/// Who waits until subscriptions are in the routing table, and what has to be done for them.
#[derive(Debug, Default)]
pub(super) struct SubscriptionNews {
    /// Whether the routing table is older than the subscriptions.
    is_table_old: bool,
    /// Whether the filter is.
    is_filter_old: bool,
    /// When a new filter is made at the earliest.
    filter_from: Mono,
    answers: Vec<oneshot::Sender<()>>,
    new: Vec<(Subscriber, oneshot::Sender<Subscriber>)>,
}

impl SubscriptionNews {
    /// When a filter is to be made, if one is.
    pub(super) fn due(&self) -> Option<Mono> {
        self.is_filter_old.then_some(self.filter_from)
    }

    fn changed(&mut self) {
        (self.is_table_old, self.is_filter_old) = (true, true);
    }
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
        let entry = SubscriberEntry {
            prefixes: HashMap::new(),
            position: self.routed.insert(Arc::clone(&queue)),
            queue,
        };
        self.subscribers.insert(number, entry);
        self.begin(number, prefixes);
        self.news.changed();
        self.news.new.push((subscriber, done));
    }

    pub(super) fn subscribe(
        &mut self,
        number: u64,
        prefixes: Vec<Box<[u8]>>,
        done: oneshot::Sender<()>,
    ) {
        self.begin(number, prefixes);
        self.news.answers.push(done);
    }

    fn begin(&mut self, number: u64, prefixes: Vec<Box<[u8]>>) {
        let Some(subscriber) = self.subscribers.get_mut(&number) else {
            return;
        };
        let mut begun = Vec::new();
        for prefix in prefixes {
            self.subscriptions.add(&prefix);
            match subscriber.prefixes.entry(prefix) {
                Entry::Occupied(mut held) => *held.get_mut() += 1,
                Entry::Vacant(new) => {
                    begun.push(new.key().clone());
                    new.insert(1);
                }
            }
        }
        if !begun.is_empty() {
            let begun = begun.iter().map(|prefix| &**prefix);
            self.routed.subscribe(subscriber.position, begun);
            self.news.changed();
        }
    }

    /// Ends one subscription to each prefix that the subscriber holds.
    pub(super) fn unsubscribe(
        &mut self,
        number: u64,
        prefixes: Vec<Box<[u8]>>,
        done: oneshot::Sender<()>,
    ) {
        self.news.answers.push(done);
        let Some(subscriber) = self.subscribers.get_mut(&number) else {
            return;
        };
        let mut ended = Vec::new();
        for prefix in prefixes {
            let Some(held) = subscriber.prefixes.get_mut(&prefix) else {
                continue;
            };
            self.subscriptions.remove(&prefix);
            *held -= 1;
            if *held == 0 {
                subscriber.prefixes.remove(&prefix);
                ended.push(prefix);
            }
        }
        if !ended.is_empty() {
            let ended = ended.iter().map(|prefix| &**prefix);
            self.routed.unsubscribe(subscriber.position, ended);
            self.news.changed();
        }
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
            for (prefix, times) in &subscriber.prefixes {
                for _ in 0..*times {
                    self.subscriptions.remove(prefix);
                }
            }
            self.routed
                .remove(subscriber.position, subscriber.prefixes());
            self.news.changed();
        }
    }

    /// Puts what is subscribed to by now into the routing table, once for all commands that have waited, and answers
    /// them. Peers of version 1 know it before anybody relies on it.
    pub(super) fn settle_subscriptions(&mut self) {
        if self.news.is_table_old {
            self.publish_table();
        }
        let now = self.shared.now();
        let is_awaited = self.peers.values().any(|peer| !peer.is_in_mesh());
        if is_awaited || self.news.due().is_some_and(|due| due <= now) {
            self.settle_filter();
        }
        for (subscriber, done) in self.news.new.drain(..) {
            let _ = done.send(subscriber);
        }
        for done in self.news.answers.drain(..) {
            let _ = done.send(());
        }
    }

    /// Makes the filter of all subscriptions, if it may be another one, and tells it.
    pub(super) fn settle_filter(&mut self) {
        if !std::mem::take(&mut self.news.is_filter_old) {
            return;
        }
        // Nobody is told before what he sends then is heard.
        if self.news.is_table_old {
            self.publish_table();
        }
        let now = self.shared.now();
        let filter = self.subscriptions.filter();
        let prefixes = u32::try_from(self.subscriptions.len()).unwrap_or(u32::MAX);
        self.news.filter_from = now.after(FILTER_SHARE.saturating_mul(prefixes));
        if filter == self.filter {
            return;
        }
        self.filter = filter;
        self.peering.set_filter(self.filter.clone());
        self.mesh.mesh.subscribe(self.filter.clone(), now);
        self.tell_version_1();
    }

    /// Subscriptions are in the routing table that is made now.
    pub(super) fn table_knows_subscriptions(&mut self) {
        self.news.is_table_old = false;
    }
}

#[cfg(test)]
mod tests {
    use muster_test_support::within;

    use super::*;
    use crate::{Endpoint, EndpointConfig};

    /// Each made a table of its own, and a filter.
    #[tokio::test]
    async fn subscriptions_that_wait_make_few_tables() {
        let endpoint = Endpoint::start(EndpointConfig::default()).unwrap();
        let subscriber = Arc::new(endpoint.subscribe(["first"]).await);
        let before = *endpoint.shared.table_version.borrow();
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..640 {
            let subscriber = Arc::clone(&subscriber);
            waiting.spawn(async move { subscriber.subscribe(format!("topic {number}/")).await });
        }
        within(waiting.join_all()).await;
        let tables = *endpoint.shared.table_version.borrow() - before;
        assert!((1..=64).contains(&tables), "{tables} tables");
        let table = endpoint.shared.table.load();
        assert_eq!(table.route(b"topic 639/x").subscribers, [0]);
        assert_eq!(table.route(b"topic 640/x").subscribers, [0; 0]);
    }

    /// The filter is made later if there are many prefixes, but it is made.
    #[tokio::test]
    async fn peers_come_to_know_the_last_of_many_subscriptions() {
        let [hub, other] = [(); 2].map(|()| Endpoint::start(EndpointConfig::default()).unwrap());
        let address = hub.listen(([127, 0, 0, 1], 0).into(), crate::Exposure::Guarded);
        let address = within(address).await.unwrap().to_string();
        within(other.peer(&address, None)).await.unwrap();
        let subscriber = other.subscribe(["first"]).await;
        for number in 0..500 {
            within(subscriber.subscribe(format!("topic {number}/"))).await;
        }
        for number in 0..499 {
            within(subscriber.unsubscribe(format!("topic {number}/"))).await;
        }
        let mut tables = hub.shared.table_version.subscribe();
        within(async {
            loop {
                let table = hub.shared.table.load();
                let leads = |topic: &[u8]| !table.route(topic).peers.is_empty();
                if leads(b"topic 499/x") && !leads(b"topic 498/x") && leads(b"first") {
                    break;
                }
                tables.changed().await.unwrap();
            }
        })
        .await;
    }
}
