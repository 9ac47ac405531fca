//! Feeds between nodes: each is a rig, and what they publish for one another is carried by hand.

use super::*;
use crate::feed::{Feed, FeedErrorKind, FeedEvent};

const LIST: Feed<u64, String> = Feed::new("test/list");

/// The same list, as another program has it.
const OTHER: Feed<u64, u64> = Feed::new("test/list");

/// The topic that followers hear.
const TOPIC: &str = "zeek/cluster/feed/test/list/";

/// What a test tells a [`Lister`] to do to its list.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Test::change")]
struct Change {
    what: String,
    key: u64,
    value: String,
}

/// Has the list on managers, and follows it on data nodes and managers.
struct Lister(Role);

impl Framework for Lister {
    const NAME: &'static str = "lister";

    fn create(site: &Site<'_>) -> Option<Self> {
        Some(Self(site.node.role))
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        if self.0 == Role::Manager {
            declarations.feed_source(&LIST);
        }
        if self.0 == Role::Worker {
            declarations.feed(&OTHER, Self::other);
        } else {
            declarations.feed(&LIST, Self::told);
        }
        declarations.on(Self::change);
    }
}

impl Lister {
    fn change(&mut self, change: Change, cx: &mut Context<'_>) {
        let mut list = cx.feed(&LIST);
        let done = match &*change.what {
            "put" => list.put(&change.key, &change.value),
            "remove" => list.remove(&change.key).map(drop),
            "get" => {
                let (value, len) = (list.get(&change.key), list.len());
                return say(cx, &format!("{value:?} of {len}"));
            }
            _ => list.open(),
        };
        if let Err(error) = done {
            assert!(matches!(
                error.kind(),
                FeedErrorKind::NotSource | FeedErrorKind::ItemTooLarge { .. }
            ));
            say(cx, &error.to_string());
        }
    }

    fn told(&mut self, event: FeedEvent<u64, String>, cx: &mut Context<'_>) {
        match event {
            FeedEvent::Put { key: 13, .. } => panic!("unlucky"),
            FeedEvent::Begun { source } => say(cx, &format!("begun {source}")),
            FeedEvent::Put { key, value } => say(cx, &format!("put {key} {value}")),
            FeedEvent::Removed { key } => say(cx, &format!("removed {key}")),
            FeedEvent::Complete => say(cx, "complete"),
            FeedEvent::Gone => say(cx, "gone"),
        }
    }

    fn other(&mut self, event: FeedEvent<u64, u64>, cx: &mut Context<'_>) {
        say(cx, &format!("{event:?}"));
    }
}

/// Two of the same.
struct Again;

impl Framework for Again {
    const NAME: &'static str = "again";

    fn create(_: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.feed_source(&LIST);
    }
}

/// Another source.
struct Rival;

impl Framework for Rival {
    const NAME: &'static str = "rival";

    fn create(_: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.feed_source(&LIST);
    }

    fn init(&mut self, cx: &mut Context<'_>) {
        cx.feed(&LIST).put(&5, &"r".to_owned()).unwrap();
        cx.feed(&LIST).open().unwrap();
    }
}

struct Unnamed;

impl Framework for Unnamed {
    const NAME: &'static str = "unnamed";

    fn create(_: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        const NOT: Feed<u64, u64> = Feed::new("two words");
        declarations.feed_source(&NOT);
    }
}

/// Nodes that see one another, each in the life of its place.
struct Net(Vec<(&'static str, u8, Rig)>);

impl Net {
    fn new(names: &[&'static str]) -> Self {
        let mut this = Self(Vec::new());
        for name in names {
            let number = u8::try_from(this.0.len()).unwrap();
            this.join(name, number);
        }
        this
    }

    fn join(&mut self, name: &'static str, number: u8) {
        self.join_with(name, number, &Registry::new().with::<Lister>());
    }

    fn join_with(&mut self, name: &'static str, number: u8, registry: &Registry) {
        let mut rig = Rig::in_life(number, LAYOUT, name, registry).unwrap();
        for (other, life, their) in &mut self.0 {
            rig.now = their.now;
            rig.up(other, *life);
            their.up(name, number);
        }
        rig.published.clear();
        self.0.push((name, number, rig));
    }

    fn kill(&mut self, name: &str) {
        let at = self.0.iter().position(|(other, ..)| *other == name);
        let (_, life, _) = self.0.remove(at.unwrap());
        for (_, _, rig) in &mut self.0 {
            rig.step(Input::Reach(id(life), Reach::PeerDown(Version::V1)));
        }
    }

    fn rig(&mut self, name: &str) -> &mut Rig {
        let mut all = self.0.iter_mut();
        &mut all.find(|(other, ..)| *other == name).unwrap().2
    }

    fn change(&mut self, name: &str, what: &str, key: u64, value: &str) {
        let change = Change {
            what: what.to_owned(),
            key,
            value: value.to_owned(),
        };
        let payload = encoded(Change::NAME, None, None, &change);
        self.rig(name).step(Input::Raise(&payload));
    }

    /// Lets time pass, and carries what is published.
    fn pass(&mut self, span: Duration) {
        for _ in 0..span.as_millis() {
            for (_, _, rig) in &mut self.0 {
                rig.pass(Duration::from_millis(1));
            }
            let mut taken = Vec::new();
            for (_, life, rig) in &mut self.0 {
                let published = std::mem::take(&mut rig.published).into_iter();
                taken.extend(published.map(|(topic, payload)| (*life, topic, payload)));
            }
            for (from, topic, payload) in taken {
                for (_, life, rig) in &mut self.0 {
                    let own = format!("zeek/cluster/nodeid/{}/", id(*life));
                    if *life != from && (topic == own || topic == TOPIC) {
                        let from = id(from);
                        let payload = &payload[..];
                        rig.step(Input::Message { from, payload });
                    }
                }
            }
        }
    }

    fn said(&mut self, name: &str) -> Vec<String> {
        let said = self.rig(name).said().into_iter();
        let said = said.map(|text| text.replace("lister: ", ""));
        let said = said.map(|text| text.replace(" (further ones are only counted)", ""));
        let own = |text: &String| !text.starts_with("node ") && !text.starts_with("pool ");
        said.filter(own).collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn followers_take_the_list_and_then_what_changes() {
    let mut net = Net::new(&["manager", "data-1"]);
    net.change("manager", "put", 1, "a");
    net.change("manager", "put", 2, "b");
    net.pass(2 * SECOND);
    assert_eq!(net.said("data-1"), NOTHING, "the list is not open");
    net.change("manager", "open", 0, "");
    net.pass(SECOND);
    let all = ["begun manager", "put 1 a", "put 2 b", "complete"];
    assert_eq!(net.said("data-1"), all);
    assert_eq!(
        net.said("manager"),
        all,
        "the source's own node follows, too"
    );
    net.change("manager", "put", 1, "c");
    net.change("manager", "put", 1, "c");
    net.change("manager", "remove", 2, "");
    net.change("manager", "remove", 2, "");
    net.pass(SECOND);
    assert_eq!(net.said("data-1"), ["put 1 c", "removed 2"]);
    net.join("data-2", 9);
    net.pass(SECOND);
    assert_eq!(net.said("data-2"), ["begun manager", "put 1 c", "complete"]);
    let counts = net.rig("data-1").node.counts();
    assert_eq!((counts.feed_changes, counts.feed_lists), (4, 1));
    assert_eq!(counts.feed_parts_dropped, 0);
    let counts = net.rig("manager").node.counts();
    // Two lists, one again for who joined, and two changes that went together for each of two.
    assert_eq!(counts.feed_parts_sent, 5);
    net.said("manager");
    net.change("manager", "get", 1, "");
    assert_eq!(net.said("manager"), ["Some(\"c\") of 1"]);
}

#[test]
fn a_new_life_of_the_source_replaces_the_list_once_it_is_open() {
    let mut net = Net::new(&["manager", "data-1"]);
    for (key, value) in [(1, "a"), (2, "b")] {
        net.change("manager", "put", key, value);
    }
    net.change("manager", "open", 0, "");
    net.pass(SECOND);
    net.said("data-1");
    net.kill("manager");
    assert_eq!(net.said("data-1"), ["gone"]);
    net.join("manager", 7);
    net.change("manager", "put", 2, "B");
    net.change("manager", "put", 3, "c");
    net.pass(2 * SECOND);
    assert_eq!(net.said("data-1"), NOTHING);
    assert_eq!(net.rig("data-1").node.followed_items(LIST.name()), Some(2));
    net.change("manager", "open", 0, "");
    net.pass(SECOND);
    assert_eq!(
        net.said("data-1"),
        [
            "begun manager",
            "put 2 B",
            "put 3 c",
            "removed 1",
            "complete"
        ]
    );
}

#[test]
fn of_two_sources_the_one_whose_name_comes_first_is_followed() {
    let mut net = Net::new(&["manager", "data-1"]);
    net.change("manager", "put", 1, "a");
    net.change("manager", "open", 0, "");
    net.pass(SECOND);
    net.said("data-1");
    net.join_with("data-2", 8, &Registry::new().with::<Rival>());
    net.pass(Duration::from_millis(300));
    let said = net.said("data-1");
    let told = ["begun data-2", "put 5 r", "removed 1", "complete"];
    let warning = "feed `test/list` has two sources, data-2 and manager: data-2 is followed";
    assert!(
        said.iter().any(|text| text.starts_with(warning)),
        "{said:?}"
    );
    let said: Vec<&String> = said.iter().filter(|it| !it.starts_with("feed")).collect();
    assert_eq!(said, told.iter().collect::<Vec<_>>());
    net.kill("data-2");
    net.pass(SECOND);
    let told = ["gone", "begun manager", "put 1 a", "removed 5", "complete"];
    assert_eq!(net.said("data-1"), told);
}

#[test]
fn what_cannot_be_read_or_handled_costs_one_item() {
    let mut net = Net::new(&["manager", "data-1", "worker-1"]);
    for key in [12, 13, 14] {
        net.change("manager", "put", key, "a");
    }
    net.change("manager", "open", 0, "");
    net.pass(SECOND);
    let said = net.said("data-1").join("\n");
    assert!(
        said.contains("put 12 a") && said.contains("put 14 a"),
        "{said}"
    );
    assert!(
        said.contains("unlucky") && said.ends_with("complete"),
        "{said}"
    );
    assert_eq!(net.rig("data-1").node.counts().panics, 1);
    let said = net.said("worker-1").join("\n");
    assert!(
        said.contains("cannot read an item of feed `test/list`"),
        "{said}"
    );
    assert!(said.ends_with("Complete"), "{said}");
    let counts = net.rig("worker-1").node.counts();
    assert_eq!((counts.feed_changes, counts.feed_changes_refused), (0, 3));
}

#[test]
fn only_the_source_changes_the_list_and_items_are_bounded() {
    let mut net = Net::new(&["manager", "data-1"]);
    net.change("data-1", "put", 1, "a");
    let not_source = "feed `test/list`: this node is not declared as its source";
    assert_eq!(net.said("data-1"), [not_source]);
    net.change("manager", "put", 1, &"x".repeat(300_000));
    let said = net.said("manager").join("");
    assert!(said.contains("an item of 3000"), "{said}");
}

#[test]
fn strangers_and_what_is_no_part_are_refused() {
    let mut net = Net::new(&["manager", "data-1"]);
    net.change("manager", "open", 0, "");
    net.pass(SECOND);
    net.said("data-1");
    let part = encoded("Muster::feed_part", None, None, &row(1));
    let rig = net.rig("data-1");
    let (node, stranger) = (id(0), id(99));
    for from in [node, stranger] {
        let payload = &part[..];
        rig.step(Input::Message { from, payload });
    }
    let counts = rig.node.counts();
    assert_eq!(
        (counts.events_refused, counts.control_events_refused),
        (1, 1)
    );
    assert_eq!(rig.node.followed_items("nothing"), None);
}

#[test]
fn a_feed_is_declared_once_and_under_a_name() {
    let twice = Registry::new().with::<Lister>().with::<Again>();
    let error = Rig::with("manager", &twice).err();
    assert!(matches!(error, Some(NodeError::FeedTwice("test/list"))));
    let unnamed = Registry::new().with::<Unnamed>();
    let error = Rig::with("manager", &unnamed).err();
    assert!(matches!(error, Some(NodeError::FeedName("two words"))));
}
