//! How a program without a layout has the cluster open a store.

use std::time::Duration;

use muster_cluster::node::{NeedStore, StoreNeed, StoreState};
use muster_data::DataRef;
use muster_store::StoreName;
use muster_wire::zeek::EventRef;
use muster_wire::{Class, EndpointId, Topic};

use super::is_elsewhere;
use crate::endpoint::{Delivery, Endpoint, Subscriber};

/// How long an answer is waited for before the question is asked again: it, or its answer, may have been lost.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Has the nodes of a cluster open stores, for an endpoint that is no node and has no layout, such as a command line. Nodes
/// need none: [`Node::store`](crate::Node::store) does it all.
///
/// ```no_run
/// # async fn example(endpoint: muster::Endpoint) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use muster::store::{CloneOptions, StoreFinder, StoreName, StoreNeed};
///
/// let name = StoreName::new("software/tracked")?;
/// let mut finder = StoreFinder::new(&endpoint).await;
/// let node = endpoint.peer("127.0.0.1:17760", None).await?;
/// let limit = Duration::from_secs(5);
/// let state = finder.ask(node.id, &name, StoreNeed::Persistent, limit).await;
/// println!("{state:?}");
/// let tracked = endpoint.open_clone(&name, CloneOptions::default()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StoreFinder {
    endpoint: Endpoint,
    answers: Subscriber,
}

impl StoreFinder {
    /// Listens for answers from now on. An endpoint that does so before it dials hears the first answer; otherwise it may have
    /// to ask again, which it does.
    pub async fn new(endpoint: &Endpoint) -> Self {
        let topic = StoreState::topic(endpoint.id());
        Self {
            endpoint: endpoint.clone(),
            answers: endpoint.subscribe([topic.as_bytes()]).await,
        }
    }

    /// Asks how it is with a store, and has it opened if it is not open and is needed so. The question goes to `node` or, if
    /// that is no node of a cluster, such as an agent, to the first node in reach by name, of those that relay if there are
    /// any; the node that should have the primary answers, wherever it is. If the node relays for nobody, such as a worker, the
    /// answer is [`StoreState::Elsewhere`]: dial that node, and ask it.
    ///
    /// Returns `None` if nobody answers within `limit`: there is no node, or none that understands. The question is repeated
    /// until then, so a late answer may be to an earlier question about the same store.
    pub async fn ask(
        &mut self,
        node: EndpointId,
        store: &StoreName,
        need: StoreNeed,
        limit: Duration,
    ) -> Option<StoreState> {
        let answered = async {
            loop {
                if let Some(topic) = self.topic_of(node) {
                    let question = NeedStore::new(store, need).event();
                    // One that is lost is asked again.
                    let _ = self.endpoint.publisher().publish_encoded(
                        &topic,
                        question,
                        Class::Interactive,
                    );
                }
                let answer = tokio::time::timeout(ASK_AGAIN, self.answer(store)).await;
                if let Ok(answer) = answer {
                    return answer;
                }
            }
        };
        tokio::time::timeout(limit, answered).await.ok().flatten()
    }

    /// Returns `true` if another endpoint in reach has the primary of a store, of Muster or of Broker: it need not be asked for.
    pub fn sees(&self, store: &StoreName) -> bool {
        is_elsewhere(&self.endpoint, store)
    }

    /// The next answer about a store. `None` if the endpoint has ended.
    async fn answer(&mut self, store: &StoreName) -> Option<StoreState> {
        while let Some(delivery) = self.answers.receive().await {
            let Delivery::Batch(batch) = delivery else {
                continue;
            };
            let found = batch.iter().find_map(|message| {
                let event = EventRef::read(DataRef::from_validated(message.payload)).ok()?;
                let (name, state) = StoreState::read(&event)?;
                (name == *store).then_some(state)
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Where a node is asked, or another one in its place.
    fn topic_of(&self, node: EndpointId) -> Option<Topic> {
        let filter = self.endpoint.filter_of(node).unwrap_or_default();
        if let Some(topic) = id_topic(node, filter.iter().map(Vec::as_slice)) {
            return Some(topic);
        }
        let mut others = self.endpoint.mesh_in_reach();
        others.sort_by(|one, other| (!one.transit, &one.name).cmp(&(!other.transit, &other.name)));
        let mut others = others.iter();
        others.find_map(|other| id_topic(other.id, other.filter.entries()))
    }
}

/// The topic on which one life of a node hears what is for it alone, among those that an endpoint listens to. Its beginning is
/// the cluster's affair.
fn id_topic<'a>(id: EndpointId, mut filter: impl Iterator<Item = &'a [u8]>) -> Option<Topic> {
    let end = format!("/nodeid/{id}/");
    let entry = filter.find(|entry| entry.ends_with(end.as_bytes()))?;
    Topic::new(entry).ok()
}
