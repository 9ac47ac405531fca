//! Requests between nodes: each is a rig, and what they publish for one another is carried by hand.

use super::*;

/// Twice a number.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Test::double")]
struct Double {
    number: u64,
}

impl Question for Double {
    type Answer = u64;
}

/// What another program takes for it.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Test::double")]
struct OtherDouble {
    number: u64,
    text: String,
}

impl Question for OtherDouble {
    type Answer = u64;
}

/// What another program answers to it.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Test::double")]
struct Spelt {
    number: u64,
}

impl Question for Spelt {
    type Answer = String;
}

/// What a test tells an [`Asker`] to ask.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Test::ask")]
struct AskFor {
    whom: String,
    number: u64,
}

/// Asks, and says what it hears.
struct Asker;

impl Framework for Asker {
    const NAME: &'static str = "asker";

    fn create(_: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::ask);
    }

    fn done(&mut self, cx: &mut Context<'_>) {
        say(cx, "done");
        self.request(To::role(Role::Manager), 1, cx);
    }
}

impl Asker {
    fn ask(&mut self, ask: AskFor, cx: &mut Context<'_>) {
        let AskFor { whom, number } = ask;
        let (verb, rest) = whom.split_once(' ').unwrap_or((&whom, ""));
        match verb {
            "node" => self.request(To::node(&node_name(rest)), number, cx),
            "next" => self.request(To::next(&PoolName::new(rest).unwrap()), number, cx),
            "manager" => self.request(To::role(Role::Manager), number, cx),
            "data" => self.request(To::role(Role::Proxy), number, cx),
            "owner" => self.request(To::owner(&PoolName::proxy(), rest), number, cx),
            "many" => (0..number).for_each(|number| {
                self.request(To::node(&node_name(rest)), 100 + number, cx);
            }),
            "for_ever" => for_ever(self, cx, Ok(0)),
            "pool" => self.scatter(Among::pool(&PoolName::proxy()), usize::MAX, number, cx),
            "first" => self.scatter(Among::pool(&PoolName::proxy()), 1, number, cx),
            "all" => self.scatter(Among::role(Role::Proxy), usize::MAX, number, cx),
            "list" => {
                let names: Vec<NodeName> = rest.split(' ').map(node_name).collect();
                self.scatter(Among::nodes(&names), usize::MAX, number, cx);
            }
            _ => panic!("{whom}"),
        }
    }

    fn request(&mut self, to: To, number: u64, cx: &mut Context<'_>) {
        cx.request(to, &Double { number })
            .within(Duration::from_secs(3))
            .then(move |_: &mut Self, cx, outcome| match outcome {
                Ok(answer) => {
                    assert_eq!(cx.event_time(), Some(Timestamp::from_secs(5)));
                    say(cx, &format!("{number}: {answer}"));
                }
                Err(error) => {
                    let perhaps = if error.may_have_been_handled() {
                        " (perhaps handled)"
                    } else {
                        ""
                    };
                    say(cx, &format!("{number}: {error}{perhaps}"));
                }
            });
    }

    fn scatter(&mut self, among: Among, quorum: usize, number: u64, cx: &mut Context<'_>) {
        cx.scatter(among, &Double { number })
            .within(Duration::from_secs(3))
            .quorum(quorum)
            .gather(|_: &mut Self, cx, gathered| {
                let answers = gathered.answers.iter();
                let answers = answers.map(|(node, answer)| format!("{node} {answer}"));
                let missing = gathered.missing.iter();
                let missing = missing.map(|(node, kind)| format!("not {node}: {kind}"));
                let all: Vec<String> = answers.chain(missing).collect();
                say(cx, &all.join(", "));
            });
    }
}

fn for_ever(_: &mut Asker, cx: &mut Context<'_>, _: Result<u64, RequestError>) {
    let nobody = To::node(&node_name("nobody"));
    cx.request(nobody, &Double { number: 1 }).then(for_ever);
}

/// Doubles numbers, and says so.
struct Doubler;

impl Framework for Doubler {
    const NAME: &'static str = "doubler";

    fn create(_: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.answers(Self::double);
    }
}

impl Doubler {
    fn double(&mut self, question: Double, cx: &mut Context<'_>) -> u64 {
        let at = cx.event_time().map(|at| at.as_nanos() / 1_000_000_000);
        say(cx, &format!("doubles {} at {at:?}", question.number));
        assert_ne!(question.number, 13, "unlucky");
        2 * question.number
    }
}

/// Answers the same question in another way.
struct Other<Q>(std::marker::PhantomData<fn() -> Q>);

impl<Q: Question<Answer: Default>> Framework for Other<Q> {
    const NAME: &'static str = "other";

    fn create(_: &Site<'_>) -> Option<Self> {
        Some(Self(std::marker::PhantomData))
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.answers::<Q>(|_, _, _| Q::Answer::default());
    }
}

/// Nodes that see one another, each in the life of its place.
struct Net(Vec<Rig>);

const MANAGER: usize = 0;

impl Net {
    /// A manager that asks, and two data nodes that answer.
    fn new() -> Self {
        Self::with(&registry())
    }

    fn with(of_data: &Registry) -> Self {
        let own = registry();
        let rigs = [("manager", &own), ("data-1", of_data), ("data-2", of_data)];
        let rigs = rigs
            .into_iter()
            .enumerate()
            .map(|(number, (name, registry))| {
                let number = u8::try_from(number).unwrap();
                Rig::in_life(number, LAYOUT, name, registry).unwrap()
            });
        let mut this = Self(rigs.collect());
        for one in 0..3 {
            for other in 0..3 {
                if one != other {
                    this.sees(one, other);
                }
            }
        }
        this.carry();
        this.said(MANAGER);
        for data in [1, 2] {
            this.said(data);
        }
        this
    }

    fn sees(&mut self, one: usize, other: usize) {
        let other = id(u8::try_from(other).unwrap());
        self.0[one].step(Input::Reach(other, Reach::PeerUp(Version::V1)));
    }

    fn loses(&mut self, one: usize, other: usize) {
        let other = id(u8::try_from(other).unwrap());
        self.0[one].step(Input::Reach(other, Reach::PeerDown(Version::V1)));
    }

    /// Takes what was published for single lives: from whom, to whom, what.
    fn take(&mut self) -> Vec<(usize, usize, Bytes)> {
        let mut taken = Vec::new();
        for from in 0..self.0.len() {
            for (topic, payload) in std::mem::take(&mut self.0[from].published) {
                let to = (0..self.0.len()).find(|to| {
                    let life = id(u8::try_from(*to).unwrap());
                    topic == format!("zeek/cluster/nodeid/{life}/")
                });
                taken.extend(to.map(|to| (from, to, payload)));
            }
        }
        taken
    }

    fn hand_over(&mut self, (from, to, payload): &(usize, usize, Bytes)) {
        let from = id(u8::try_from(*from).unwrap());
        self.0[*to].step(Input::Message { from, payload });
    }

    /// Carries what is published until nothing is.
    fn carry(&mut self) {
        loop {
            let taken = self.take();
            if taken.is_empty() {
                return;
            }
            for message in &taken {
                self.hand_over(message);
            }
        }
    }

    fn ask(&mut self, whom: &str, number: u64) {
        let ask = AskFor {
            whom: whom.to_owned(),
            number,
        };
        let payload = encoded(AskFor::NAME, Some(Timestamp::from_secs(5)), None, &ask);
        self.0[MANAGER].step(Input::Raise(&payload));
    }

    fn said(&mut self, of: usize) -> Vec<String> {
        let said = self.0[of].said().into_iter();
        let said = said.map(|text| text.replace("asker: ", "").replace("doubler: ", ""));
        let own = |text: &String| !text.starts_with("node ") && !text.starts_with("pool ");
        said.filter(own).collect()
    }

    fn counts(&self, of: usize) -> &NodeCounts {
        self.0[of].node.counts()
    }
}

fn registry() -> Registry {
    Registry::new().with::<Asker>().with::<Doubler>()
}

fn node_name(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// A key of the first data node.
fn key_of(net: &Net, owner: &str) -> String {
    let pools = net.0[MANAGER].node.pools();
    let owns = |key: &String| {
        let owner = pools.owner(&PoolName::proxy(), &Key::from(key));
        owner.map(NodeName::as_str)
    };
    let mut keys = (0..100).map(|number| format!("key-{number}"));
    keys.find(|key| owns(key) == Some(owner)).unwrap()
}

#[test]
fn a_node_is_asked_by_name_by_role_in_turn_and_by_key() {
    let mut net = Net::new();
    net.ask("node data-2", 7);
    assert_eq!(net.said(MANAGER), NOTHING);
    net.carry();
    assert_eq!(net.said(MANAGER), ["7: 14"]);
    assert_eq!(net.said(2), ["doubles 7 at Some(5)"]);
    for (number, whom) in [
        (8, "next proxy"),
        (9, "next proxy"),
        (10, "data"),
        (11, "data"),
    ] {
        net.ask(whom, number);
        net.carry();
        assert_eq!(net.said(MANAGER), [format!("{number}: {}", 2 * number)]);
    }
    assert_eq!((net.said(1).len(), net.said(2).len()), (2, 2));
    let key = key_of(&net, "data-2");
    net.ask(&format!("owner {key}"), 12);
    net.carry();
    assert_eq!(net.said(MANAGER), ["12: 24"]);
    assert_eq!(net.said(2), ["doubles 12 at Some(5)"]);
    let counts = net.counts(MANAGER);
    assert_eq!((counts.questions_asked, counts.questions_repeated), (6, 0));
    assert_eq!(net.counts(2).questions_handled, 4);
}

#[test]
fn a_node_may_ask_itself() {
    let mut net = Net::new();
    net.ask("manager", 7);
    let said = net.said(MANAGER);
    assert_eq!(said, ["doubles 7 at Some(5)", "7: 14"]);
    assert!(net.take().is_empty(), "nothing leaves the node");
    assert_eq!(net.0[MANAGER].node.open_requests(), 0);
}

#[test]
fn what_was_not_sent_was_not_handled() {
    let mut net = Net::new();
    net.ask("node logger-1", 1);
    net.ask("node nobody", 2);
    net.ask("next logger", 3);
    net.ask("next misspelt", 4);
    // A Zeek node, and one of a former release.
    net.0[MANAGER].up("worker-1", 20);
    let zeek = Hello {
        name: "worker-2".to_owned(),
        id: id(21).to_string(),
    };
    net.0[MANAGER].step(Input::Reach(id(21), Reach::PeerUp(Version::V1)));
    let payload = encoded(Hello::NAME, None, None, &zeek);
    net.0[MANAGER].step(Input::Message {
        from: id(21),
        payload: &payload,
    });
    net.ask("node worker-1", 5);
    net.ask("node worker-2", 6);
    net.carry();
    let said = net.said(MANAGER);
    let unable = "the node is a Zeek process, or of a release that answers no requests";
    assert_eq!(
        said,
        [
            "1: request to logger-1: nobody is there to ask",
            "2: request to nobody: nobody is there to ask",
            "3: request: nobody is there to ask",
            "Test::double is asked in pool `misspelt`, which the layout does not have",
            "4: request: nobody is there to ask",
            &format!("5: request to worker-1: {unable}"),
            &format!("6: request to worker-2: {unable}"),
        ]
    );
    assert_eq!(net.counts(MANAGER).questions_not_handled, 6);
    assert_eq!(net.counts(MANAGER).questions_asked, 0);
}

#[test]
fn a_node_without_a_handler_refuses() {
    let mut net = Net::with(&Registry::new().with::<Asker>());
    net.ask("node data-1", 1);
    net.carry();
    let said = net.said(MANAGER);
    assert_eq!(
        said,
        ["1: request to data-1: no framework of the node answers this question"]
    );
    assert_eq!(net.counts(1).questions_refused, 1);
}

#[test]
fn other_fields_are_refused_and_other_answers_are_no_answers() {
    let mut net = Net::with(&Registry::new().with::<Other<OtherDouble>>());
    net.ask("node data-1", 1);
    net.carry();
    let said = net.said(MANAGER);
    assert_eq!(
        said,
        ["1: request to data-1: the node takes this question with other fields"]
    );
    let told = net.said(1).join("\n");
    assert!(
        told.contains("framework other refused question Test::double"),
        "{told}"
    );
    let mut net = Net::with(&Registry::new().with::<Other<Spelt>>());
    net.ask("node data-1", 1);
    net.ask("first", 1);
    net.carry();
    let said = net.said(MANAGER);
    assert!(said[0].starts_with("1: request to data-1: the answer is of another type"));
    assert!(said[0].ends_with("(perhaps handled)"), "{said:?}");
    let both = said[1].matches("the answer is of another type").count();
    assert_eq!(both, 2, "it counts for no quorum: {said:?}");
}

#[test]
fn a_panic_is_told_and_costs_one_question() {
    let mut net = Net::new();
    net.ask("node data-1", 13);
    net.ask("node data-1", 14);
    net.carry();
    assert_eq!(
        net.said(MANAGER),
        [
            "13: request to data-1: its handler has panicked (perhaps handled)",
            "14: 28"
        ]
    );
    assert_eq!(net.counts(1).panics, 1);
}

#[test]
fn a_question_that_comes_twice_is_handled_once() {
    let mut net = Net::new();
    net.ask("node data-1", 7);
    let question = net.take().pop().unwrap();
    net.hand_over(&question);
    let lost = net.take();
    assert_eq!(lost.len(), 1);
    // The answer was lost: the question is sent again, and answered again.
    net.0[MANAGER].pass(Duration::from_millis(500));
    net.carry();
    assert_eq!(net.said(MANAGER), ["7: 14"]);
    assert_eq!(net.said(1), ["doubles 7 at Some(5)"]);
    // Copies of both come late.
    net.hand_over(&question);
    net.hand_over(&lost[0]);
    net.carry();
    assert_eq!(net.said(MANAGER), NOTHING);
    assert_eq!(net.said(1), NOTHING);
    assert_eq!(net.counts(MANAGER).questions_repeated, 1);
    assert_eq!(net.counts(MANAGER).answers_late, 2);
    assert_eq!(net.counts(1).questions_again, 2);
}

#[test]
fn a_request_ends_at_its_deadline() {
    let mut net = Net::new();
    net.ask("node data-1", 7);
    net.0[MANAGER].pass(Duration::from_millis(2_999));
    assert_eq!(net.said(MANAGER), NOTHING);
    assert_eq!(net.0[MANAGER].node.open_requests(), 1);
    net.0[MANAGER].pass(Duration::from_millis(1));
    assert_eq!(
        net.said(MANAGER),
        ["7: request to data-1: no answer by the deadline (perhaps handled)"]
    );
    // The answer of a node that was too slow.
    net.carry();
    assert_eq!(net.said(MANAGER), NOTHING);
    assert!(net.counts(MANAGER).answers_late > 0);
    assert_eq!(net.counts(MANAGER).questions_unknown, 1);
}

#[test]
fn a_request_ends_with_its_node_and_that_to_an_owner_goes_to_the_next_one() {
    let mut net = Net::new();
    let key = key_of(&net, "data-1");
    net.ask("node data-1", 7);
    net.ask(&format!("owner {key}"), 8);
    let lost = net.take();
    net.loses(MANAGER, 1);
    assert_eq!(
        net.said(MANAGER),
        ["7: request to data-1: the node is gone (perhaps handled)"]
    );
    net.carry();
    assert_eq!(net.said(MANAGER), ["8: 16"]);
    assert_eq!(net.said(2), ["doubles 8 at Some(5)"]);
    // The first owner has lived all the time, and is heard too late.
    for message in &lost {
        net.hand_over(message);
    }
    net.carry();
    assert_eq!(net.said(MANAGER), NOTHING);
}

#[test]
fn of_a_key_without_an_owner_the_next_one_is_waited_for() {
    let mut net = Net::new();
    let key = key_of(&net, "data-1");
    net.ask(&format!("owner {key}"), 8);
    net.take();
    net.loses(MANAGER, 1);
    net.loses(MANAGER, 2);
    net.take();
    net.0[MANAGER].pass(Duration::from_secs(1));
    assert_eq!(net.said(MANAGER), NOTHING);
    net.loses(2, MANAGER);
    net.sees(MANAGER, 2);
    net.sees(2, MANAGER);
    net.carry();
    assert_eq!(net.said(MANAGER), ["8: 16"]);
    net.loses(MANAGER, 2);
    net.ask(&format!("owner {key}"), 9);
    let nobody = "9: request: nobody is there to ask";
    assert_eq!(net.said(MANAGER), [nobody]);
}

#[test]
fn many_are_asked_and_who_is_missing_is_named() {
    let mut net = Net::new();
    for whom in ["pool", "all"] {
        net.ask(whom, 7);
        net.carry();
        assert_eq!(net.said(MANAGER), ["data-1 14, data-2 14"]);
    }
    net.ask("list data-2 data-2 manager logger-1", 7);
    net.carry();
    assert_eq!(
        net.said(MANAGER).last().unwrap(),
        "data-2 14, manager 14, not logger-1: nobody is there to ask"
    );
    // One dies while it is asked, and is missing from then on.
    net.ask("pool", 8);
    net.loses(MANAGER, 1);
    assert_eq!(net.said(MANAGER), NOTHING);
    net.carry();
    assert_eq!(
        net.said(MANAGER),
        ["data-2 16, not data-1: the node is gone"]
    );
    net.ask("pool", 9);
    net.carry();
    assert_eq!(
        net.said(MANAGER),
        ["data-2 18, not data-1: nobody is there to ask"]
    );
}

#[test]
fn enough_answers_end_a_request() {
    let mut net = Net::new();
    net.ask("first", 7);
    net.carry();
    assert_eq!(
        net.said(MANAGER),
        ["data-1 14, not data-2: enough others had answered before"]
    );
    let counts = net.counts(MANAGER);
    assert_eq!((counts.questions_unknown, counts.answers_late), (0, 1));
}

#[test]
fn a_node_that_stops_ends_its_requests_before_anything_else() {
    let mut net = Net::new();
    net.ask("node data-1", 7);
    net.0[MANAGER].step(Input::Stop);
    assert_eq!(
        net.said(MANAGER),
        [
            "7: request to data-1: this node has stopped before an answer came (perhaps handled)",
            "done",
            "1: request to manager: this node stops, and asks nobody any more",
        ]
    );
}

#[test]
fn too_many_requests_are_refused_and_each_has_an_outcome() {
    let mut net = Net::new();
    net.ask("many data-1", 1_100);
    assert_eq!(net.0[MANAGER].node.open_requests(), 1_024);
    assert_eq!(net.counts(MANAGER).questions_not_handled, 76);
    net.carry();
    assert_eq!(net.0[MANAGER].node.open_requests(), 0);
    assert_eq!(net.counts(1).questions_handled, 1_024);
}

#[test]
fn a_framework_that_asks_for_ever_keeps_nobody_else_from_work() {
    let mut net = Net::new();
    net.ask("for_ever", 1);
    let now = net.0[MANAGER].now.mono;
    assert_eq!(net.0[MANAGER].node.next_deadline(), Some(now));
    net.0[MANAGER].step(Input::Tick);
    let asked = net.counts(MANAGER).questions_not_handled;
    assert!((10..200_000).contains(&asked), "{asked}");
}

#[test]
fn two_frameworks_that_answer_the_same_are_named() {
    let registry = Registry::new().with::<Doubler>().with::<Other<Double>>();
    let error = Rig::with("data-1", &registry).err().unwrap();
    let text = "question `Test::double` is answered by framework `doubler`, and again by framework `other`";
    assert_eq!(error.to_string(), text);
}

#[test]
fn whoever_is_no_node_is_neither_answered_nor_heard() {
    let mut net = Net::new();
    net.ask("node data-1", 7);
    let (_, _, question) = net.take().pop().unwrap();
    net.0[1].step(Input::Message {
        from: id(77),
        payload: &question,
    });
    assert_eq!(net.said(1), NOTHING);
    assert_eq!(net.counts(1).control_events_refused, 1);
    net.hand_over(&(MANAGER, 1, question));
    let (_, _, answer) = net.take().pop().unwrap();
    net.0[MANAGER].step(Input::Message {
        from: id(77),
        payload: &answer,
    });
    // Another node has nothing to say to that either.
    net.hand_over(&(2, MANAGER, answer.clone()));
    assert_eq!(net.said(MANAGER), NOTHING);
    net.hand_over(&(1, MANAGER, answer));
    assert_eq!(net.said(MANAGER), ["7: 14"]);
}

#[test]
fn questions_and_answers_that_are_none_are_refused() {
    let mut net = Net::new();
    for event in ["Muster::question", "Muster::answer"] {
        let payload = encoded(event, None, None, &row(1));
        net.hand_over(&(MANAGER, 1, Bytes::from(payload)));
    }
    assert_eq!(net.counts(1).events_refused, 2);
    // An answer to nothing, and one in a way that later releases may know.
    let mut payload = Vec::new();
    let unknown = [Data::from(7_u64), Data::from(99_u64), Data::None];
    let unknown = Data::vector(unknown);
    zeek::put_event(&mut payload, "Muster::answer", Metadata::default(), |out| {
        unknown.encode(out);
    });
    net.hand_over(&(MANAGER, 1, Bytes::from(payload)));
    assert_eq!(net.counts(1).answers_late, 1);
}
