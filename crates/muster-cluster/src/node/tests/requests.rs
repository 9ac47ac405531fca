//! Requests between nodes: each is a rig, and what they publish for one another is carried by hand.

mod answers;
mod trouble;

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
