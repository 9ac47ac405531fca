//! The coordinator of a box at work, alone and with nodes that are played.

use muster::EndpointConfig;
use muster_coordination::Part;
use muster_test_support::within;

use super::super::groups::StoreAction;
use super::*;

const ALONE: &str = "[box.a]\naddress = \"127.0.0.1\"\n[box.b]\naddress = \"127.0.0.2\"\n\
    [[node]]\nname = \"manager\"\nrole = \"manager\"\nbox = \"a\"\n";

fn work(directory: &Path) -> Work {
    let layout = Layout::parse(ALONE, "two.toml", &[]).unwrap();
    let config = CoordinationConfig::of(&layout, "a", directory);
    let endpoint = Endpoint::start(EndpointConfig::default()).unwrap();
    Work::new(config, endpoint, Arc::new(Journal::open(directory)))
}

/// Lets it work until its coordinator decides alone.
async fn until_it_decides(work: &mut Work) {
    loop {
        work.tick().await;
        work.carry_out().await;
        if work.coordinator.as_ref().is_some_and(Coordinator::decides) {
            return;
        }
        let wait = Duration::from_millis(10);
        if let Ok(Some(done)) = tokio::time::timeout(wait, next_done(&mut work.writing)).await {
            work.written(done);
        }
    }
}

/// What its coordinator wanted done was thrown away for ever after.
#[tokio::test]
async fn a_box_whose_file_could_not_be_put_aside_takes_part_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut work = work(directory.path());
    work.begin().await;
    std::fs::remove_file(work.path()).unwrap();
    work.renew();
    let done = within(next_done(&mut work.writing)).await.unwrap();
    assert!(matches!(done, Done::Failed { .. }), "{done:?}");
    work.written(done);
    assert!(work.coordinator.is_none());
    assert!(work.problem.as_ref().unwrap().contains("cannot rename"));
    work.begin().await;
    within(until_it_decides(&mut work)).await;
    let status = work.coordinator.as_ref().unwrap().status();
    assert_eq!((status.part, work.problem), (Part::Leader, None));
}

/// A file that is moved away while it cannot be used is made anew.
#[tokio::test]
async fn a_damaged_file_costs_the_vote_until_it_is_moved_away() {
    let directory = tempfile::tempdir().unwrap();
    let mut work = work(directory.path());
    std::fs::write(work.path(), "no database at all, but long enough to be one").unwrap();
    work.begin().await;
    assert!(work.coordinator.is_none());
    assert!(work.problem.as_ref().unwrap().contains(MOVE_AWAY));
    std::fs::rename(work.path(), directory.path().join("aside")).unwrap();
    // When it is time to try again.
    work.retry_at = now();
    within(until_it_decides(&mut work)).await;
}

const TWO: &str = "[box.a]\naddress = \"127.0.0.1\"\n[box.b]\naddress = \"127.0.0.2\"\n\
    [[node]]\nname = \"manager\"\nrole = \"manager\"\nbox = \"a\"\n\
    [[node]]\nname = \"data\"\nrole = \"data\"\nbox = \"b\"\n";

/// The coordinator of box a, which decides alone, in the mesh.
struct Decides {
    orders: mpsc::Sender<Order>,
    address: std::net::SocketAddr,
    topics: Topics,
    journal: Arc<Journal>,
    _directory: tempfile::TempDir,
}

impl Decides {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::parse(TWO, "two.toml", &[]).unwrap();
        let config = CoordinationConfig::of(&layout, "a", directory.path());
        let topics = config.topics.clone();
        let endpoint = endpoint(&agent_name("a"));
        let journal = Arc::new(Journal::open(directory.path()));
        let work = Work::new(config, endpoint.clone(), Arc::clone(&journal));
        let subscriber = endpoint.subscribe_with_statuses(work.topics(), INBOX);
        let subscriber = subscriber.await;
        let any = "127.0.0.1:0".parse().unwrap();
        let address = endpoint.listen(any, muster::Exposure::Guarded).await;
        let (orders, waiting) = mpsc::channel(4);
        tokio::spawn(work.run(subscriber, waiting));
        Self {
            orders,
            address: address.unwrap(),
            topics,
            journal,
            _directory: directory,
        }
    }

    async fn shown(&self) -> ShownStores {
        let (answer, shown) = oneshot::channel();
        self.orders.send(Order::ShowStores(answer)).await.unwrap();
        shown.await.unwrap()
    }

    /// The only store, when it is so: its state, primary and copies in sync.
    async fn until(&self, what: &str) -> StoreGroupStatus {
        within(async {
            loop {
                let mut shown = self.shown().await.stores;
                if let Some(store) = shown.pop().filter(|store| text(store) == what) {
                    return store;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    async fn order(&self, action: StoreAction, store: &str, node: &str) -> Result<(), String> {
        let order = StoreOrder {
            action,
            store: store.to_owned(),
            node: node.to_owned(),
        };
        let (done, outcome) = oneshot::channel();
        self.orders.send(Order::Store(order, done)).await.unwrap();
        outcome.await.unwrap().map_err(|it| it.error)
    }

    /// A node is there, and renews its lease as long as this is kept.
    fn plays(&self, node: &'static str, of_box: &'static str) -> Played {
        let endpoint = endpoint(node);
        endpoint.dial(&self.address.to_string(), Some(Duration::from_millis(100)));
        let to = self.topics.agent(&agent_name("a")).unwrap();
        let renewing = tokio::spawn(renews(endpoint.publisher(), to.clone(), node, of_box));
        Played {
            endpoint,
            to,
            renewing,
        }
    }
}

/// A node renews its lease until this is dropped.
async fn renews(mut publisher: Publisher, to: Topic, node: &'static str, of_box: &'static str) {
    let mut number = 0;
    loop {
        number += 1;
        let renew = coordination::Renew {
            node: node.to_owned(),
            box_name: of_box.to_owned(),
            incarnation: 1,
            session: 0,
            number,
            alone: None,
        };
        let event = Bytes::from(coordination::event(&renew));
        let _ = publisher.publish_encoded(&to, event, Class::Control);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn endpoint(name: &str) -> Endpoint {
    let identity = muster::NodeIdentity {
        name: name.to_owned(),
        ..muster::NodeIdentity::default()
    };
    Endpoint::start(EndpointConfig {
        identity,
        ..EndpointConfig::default()
    })
    .unwrap()
}

fn text(store: &StoreGroupStatus) -> String {
    let primary = store.primary.as_ref().map_or("nobody", |it| &it.node);
    let in_sync: Vec<&str> = store.in_sync.iter().map(|it| it.node.as_str()).collect();
    let joining = store.joining.as_ref();
    let joining = joining.map_or_else(String::new, |it| format!(" +{}", it.node));
    format!("{} {primary} ({}){joining}", store.state, in_sync.join(" "))
}

struct Played {
    endpoint: Endpoint,
    to: Topic,
    renewing: tokio::task::JoinHandle<()>,
}

impl Played {
    fn says<R: Record + muster_data::Encode>(&self, record: &R) {
        let event = Bytes::from(coordination::event(record));
        let mut publisher = self.endpoint.publisher();
        let _ = publisher.publish_encoded(&self.to, event, Class::Control);
    }

    async fn dies(self) {
        self.renewing.abort();
        self.endpoint.shut_down().await;
    }
}

/// What an operator sees of a store and does about it, on the box that leads: nodes want it, get copies and die.
#[tokio::test(flavor = "multi_thread")]
async fn stores_are_shown_moved_and_adopted() {
    let decides = Decides::start().await;
    let (manager, data) = (decides.plays("manager", "a"), decides.plays("data", "b"));
    let wanted = coordination::StoreWanted {
        store: "x".to_owned(),
        persistent: true,
        copies: 2,
        min_copies: 1,
        candidates: [("manager", "a"), ("data", "b")]
            .map(|(node, of_box)| coordination::StoreCandidate {
                node: node.to_owned(),
                box_name: of_box.to_owned(),
            })
            .into(),
    };
    let mut is_open = false;
    while !is_open {
        manager.says(&wanted);
        tokio::time::sleep(Duration::from_millis(50)).await;
        is_open = !decides.shown().await.stores.is_empty();
    }
    let short = decides.until("short manager (manager) +data").await;
    assert_eq!((short.redundant, short.goal), (false, 2));
    manager.says(&coordination::CopyJoined {
        store: "x".to_owned(),
        epoch: short.changed,
        node: "data".to_owned(),
        life: data.endpoint.id().to_string(),
    });
    decides.until("complete manager (manager data)").await;

    let refused = decides.order(StoreAction::Move, "y", "data").await;
    assert!(refused.unwrap_err().contains("no node has opened it"));
    let refused = decides.order(StoreAction::Move, "x", "other").await;
    assert!(refused.unwrap_err().contains("manager, data may"));
    let refused = decides.order(StoreAction::Adopt, "x", "data").await;
    assert!(refused.unwrap_err().contains("nothing to adopt"));
    decides.order(StoreAction::Move, "x", "data").await.unwrap();
    decides.until("complete data (manager data)").await;

    // The manager dies, and then the last copy.
    manager.dies().await;
    let short = decides.until("short data (data)").await;
    assert!(short.since.is_some() && short.waits_since.is_none());
    data.dies().await;
    let waits = decides.until("waiting nobody (data)").await;
    assert!(waits.since == short.since && waits.waits_since.is_some());
    let back = decides.plays("manager", "a");
    let until_in = async {
        loop {
            let waits = decides.until("waiting nobody (data)").await;
            let mut candidates = waits.candidates.iter();
            if candidates.any(|it| it.node == "manager" && it.state == "in") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(until_in).await;
    let refused = decides.order(StoreAction::Move, "x", "manager").await;
    assert!(
        refused
            .unwrap_err()
            .contains("waits for its last copies, on data")
    );
    let refused = decides.order(StoreAction::Adopt, "x", "data").await;
    assert!(refused.unwrap_err().contains("node data is out"));
    let adopted = decides.order(StoreAction::Adopt, "x", "manager").await;
    adopted.unwrap();
    let anew = decides.until("short manager (manager)").await;
    assert!(anew.began > short.began);
    let (answer, shown) = oneshot::channel();
    decides.orders.send(Order::Show(answer)).await.unwrap();
    let shown = shown.await.unwrap();
    assert_eq!((shown.stores.short, shown.stores.all()), (1, 1));
    assert_eq!(shown.lacks[0].text, "store x: 1 of 2 copies in sync");

    // All of it is among the events of the box.
    let events: Vec<String> = decides
        .journal
        .since(0.0)
        .into_iter()
        .inspect(|event| assert_eq!(event.kind, EventKind::Coordination))
        .map(|event| event.text)
        .collect();
    assert_eq!(
        events,
        [
            "this box leads from now on",
            "store x: its primary moved from manager to data",
            "store x waits: its last copy is on data, which is out",
            "store x begins with what node manager has on disk",
        ]
    );
    back.dies().await;
}

/// The agent of box b, which has no vote and is linked with a node of box a alone.
struct Remote {
    work: Work,
    subscriber: Subscriber,
    orders: mpsc::Receiver<Order>,
    _directory: tempfile::TempDir,
}

impl Remote {
    async fn linked_with(relay: &Played) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let address = relay.endpoint.listen(any, muster::Exposure::Guarded).await;
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::parse(TWO, "two.toml", &[]).unwrap();
        let config = CoordinationConfig::of(&layout, "b", directory.path());
        let endpoint = endpoint(&agent_name("b"));
        let journal = Arc::new(Journal::open(directory.path()));
        let work = Work::new(config, endpoint.clone(), journal);
        let subscriber = endpoint.subscribe_with_statuses(work.topics(), INBOX).await;
        endpoint.dial(
            &address.unwrap().to_string(),
            Some(Duration::from_millis(100)),
        );
        let (_, orders) = mpsc::channel(1);
        Self {
            work,
            subscriber,
            orders,
            _directory: directory,
        }
    }

    async fn until(&mut self, is_so: impl Fn(&Work) -> bool) {
        within(async {
            while !is_so(&self.work) {
                assert!(self.work.step(&mut self.subscriber, &mut self.orders).await);
            }
        })
        .await;
    }
}

/// The only way to the coordinators leads through a node that was out. The agent fenced it, so it never heard that it was in again.
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_on_the_only_way_to_the_coordinators_is_lifted() {
    let decides = Decides::start().await;
    let mut relay = decides.plays("manager", "a");
    let mut remote = Remote::linked_with(&relay).await;
    remote
        .until(|work| work.fences.hold() && work.view.is_in("manager") == Some(true))
        .await;
    relay.renewing.abort();
    relay.says(&coordination::Leaving {
        node: "manager".to_owned(),
        session: 0,
    });
    remote
        .until(|work| work.view.is_in("manager") == Some(false))
        .await;
    remote
        .until(|work| !work.reach.reaches(&agent_name("a")))
        .await;
    let (publisher, to) = (relay.endpoint.publisher(), relay.to.clone());
    relay.renewing = tokio::spawn(renews(publisher, to, "manager", "a"));
    remote
        .until(|work| work.view.is_in("manager") == Some(true))
        .await;
    remote.until(|work| work.fences.hold()).await;
    relay.dies().await;
}
