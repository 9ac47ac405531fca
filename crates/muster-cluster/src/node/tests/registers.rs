//! The register on a node: what counts, who hears of it, what is written.

use std::collections::BTreeMap;
use std::sync::Mutex;

use muster_store::op::{Answer, Op};
use muster_store::{Encoded, Entry, Level, Revision};

use super::*;
use crate::register::{ConfigKey, Definition, DefinitionKind, Register, STORE};
use crate::settings::{Origin, SettingSpec};

const MOST: Register<u64> = Register::new("test.most", || 10, "how many").within(1, 100);

const LAYOUT: &str = r#"
    [follower]
    limit = 20
    [[node]]
    name = "manager"
    role = "manager"
    [[node]]
    name = "worker"
    role = "worker"
    input = ["conn.log"]
"#;

/// Says what it hears of the register, and changes it.
struct Follower;

impl Framework for Follower {
    const NAME: &'static str = "follower";

    const SETTINGS: &'static [SettingSpec] = &[
        SettingSpec::count("follower.limit", 5, "how far").live(),
        SettingSpec::count("follower.fixed", 5, "how far for ever"),
    ];

    fn create(_site: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::act);
        declarations.register(&MOST);
    }

    fn register_changed(&mut self, change: &RegisterChange<'_>, cx: &mut Context<'_>) {
        let (old, new) = change.of(&MOST).unwrap();
        assert_eq!(cx.register(&MOST).get(), new);
        say(cx, &format!("{} {old} -> {new}", change.name()));
    }

    fn setting_changed(&mut self, change: &SettingChange<'_>, cx: &mut Context<'_>) {
        let limit = cx.settings().count("follower.limit");
        let origin = cx.settings().origin("follower.limit");
        assert_eq!(change.new, cx.settings().value(change.key));
        say(
            cx,
            &format!("{} {} -> {limit} ({origin})", change.key, change.old),
        );
    }
}

impl Follower {
    fn act(&mut self, act: Act, cx: &mut Context<'_>) {
        let register = cx.register(&MOST);
        match act.what.split(' ').collect::<Vec<_>>()[..] {
            ["set", value] => {
                register
                    .set(&value.parse().unwrap())
                    .then(|_: &mut Self, cx, outcome| {
                        let present = cx.register(&MOST).get();
                        say(cx, &format!("{outcome:?}, {present} counts"));
                    });
            }
            ["swap", expected, value] => register
                .swap(&expected.parse().unwrap(), &value.parse().unwrap())
                .then(|_: &mut Self, cx, outcome| say(cx, &format!("{outcome:?}"))),
            ["unset"] => register
                .unset()
                .then(|_: &mut Self, cx, outcome| say(cx, &format!("{outcome:?}"))),
            _ => panic!("{act:?}"),
        }
    }
}

/// What the node reads.
#[derive(Debug, Clone, Default)]
struct Copy(Arc<Mutex<Option<BTreeMap<Encoded, Entry>>>>);

impl StoreReads for Copy {
    fn get(&self, store: &StoreName, key: &Encoded) -> Option<Entry> {
        assert_eq!(store.as_str(), STORE);
        self.0.lock().unwrap().as_ref()?.get(key).cloned()
    }

    fn versioned(&self, store: &StoreName, key: &Encoded) -> Option<(Encoded, Revision)> {
        let entry = self.get(store, key)?;
        let (timeline, change) = (1, entry.changed);
        Some((entry.value, Revision { timeline, change }))
    }

    fn is_attached(&self, _: &StoreName) -> bool {
        self.0.lock().unwrap().is_some()
    }

    fn size(&self, _: &StoreName) -> usize {
        self.0.lock().unwrap().as_ref().map_or(0, BTreeMap::len)
    }
}

/// A node and the copy of the register that it has.
struct Follows {
    rig: Rig,
    copy: Copy,
    writes: Vec<(Op, Level, u64)>,
    changes: u64,
}

impl Follows {
    fn new(node: &str) -> Self {
        let registry = Registry::new().with::<Follower>();
        let mut rig = Rig::of(LAYOUT, node, &registry).unwrap();
        let copy = Copy::default();
        rig.node.set_stores(Box::new(copy.clone()));
        Self {
            rig,
            copy,
            writes: Vec::new(),
            changes: 0,
        }
    }

    /// It has a copy, and has written its definitions.
    fn attached(node: &str) -> Self {
        let mut this = Self::new(node);
        *this.copy.0.lock().unwrap() = Some(BTreeMap::new());
        this.step(Input::Tick);
        for (op, ..) in std::mem::take(&mut this.writes) {
            this.apply(op);
        }
        this
    }

    fn step(&mut self, input: Input<'_>) {
        self.rig.node.step(input, self.rig.now);
        for effect in self.rig.node.take_effects() {
            match effect {
                Effect::WriteStore {
                    store,
                    op,
                    level,
                    token,
                    ..
                } => {
                    assert_eq!(store.as_str(), STORE);
                    self.writes.push((op, level, token));
                }
                Effect::Report(report) => {
                    let text = report.text.replace("follower: ", "");
                    self.rig.said.push(text);
                }
                Effect::StartInputs => self.rig.input_starts += 1,
                _ => {}
            }
        }
    }

    fn act(&mut self, what: &str) {
        let what = what.to_owned();
        let payload = encoded(Act::NAME, None, None, &Act { what });
        self.step(Input::Raise(&payload));
    }

    /// What the primary does with a write; the node has not heard of it yet.
    fn apply(&mut self, op: Op) {
        self.changes += 1;
        let changed = self.changes;
        let mut copy = self.copy.0.lock().unwrap();
        let entries = copy.get_or_insert_default();
        match op {
            Op::Put { key, value, .. } => {
                let expires = None;
                let entry = Entry {
                    value,
                    expires,
                    changed,
                };
                entries.insert(key, entry);
            }
            Op::Erase { key } => {
                entries.remove(&key);
            }
            other => panic!("{other:?}"),
        }
    }

    /// The store has another value, and the node hears of it.
    fn stored(&mut self, name: &str, value: Option<&Data>) {
        let key = ConfigKey::Value(name.to_owned()).encoded();
        let value = value.map(Encoded::of);
        self.apply(match value.clone() {
            Some(value) => Op::Put {
                key: key.clone(),
                value,
                ttl: None,
            },
            None => Op::Erase { key: key.clone() },
        });
        let event = match value {
            Some(value) => StoreEvent::Put {
                key,
                value,
                expires: None,
                old: None,
                amendment: None,
            },
            None => StoreEvent::Erase { key, old: None },
        };
        let store = StoreName::new(STORE).unwrap();
        self.step(Input::StoreChanged {
            store: &store,
            event: &event,
        });
    }

    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.rig.said)
    }
}

#[test]
fn a_node_that_declares_nothing_does_not_open_the_register() {
    let opened = |rig: &Rig| {
        let opens = |line: &&String| line.starts_with("open ");
        rig.said.iter().filter(opens).cloned().collect::<Vec<_>>()
    };
    assert_eq!(opened(&Rig::new("data-1")), Vec::<String>::new());
    let registry = Registry::new().with::<Follower>();
    let rig = Rig::of(LAYOUT, "worker", &registry).unwrap();
    assert_eq!(opened(&rig), [format!("open {STORE}")]);
}

#[test]
fn a_framework_hears_of_the_values_of_its_register() {
    let mut node = Follows::attached("worker");
    node.said();
    node.stored("test.most", Some(&Data::Count(7)));
    node.stored("test.other", Some(&Data::Count(8)));
    node.stored("test.most", Some(&Data::Count(9)));
    node.stored("test.most", Some(&Data::Count(9)));
    node.stored("test.most", None);
    assert_eq!(
        node.said(),
        ["test.most 10 -> 7", "test.most 7 -> 9", "test.most 9 -> 10"]
    );
    assert_eq!(node.rig.node.counts().register_changes, 3);
}

#[test]
fn a_value_that_is_there_already_is_told_at_the_start() {
    let mut node = Follows::new("worker");
    node.said();
    let key = ConfigKey::Value("test.most".to_owned()).encoded();
    let value = Encoded::of(&33_u64);
    node.apply(Op::Put {
        key,
        value,
        ttl: None,
    });
    node.step(Input::Tick);
    assert_eq!(node.said(), ["test.most 10 -> 33"]);
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_the_expected_one() {
    let mut node = Follows::attached("worker");
    node.stored("test.most", Some(&Data::Count(7)));
    node.said();
    node.stored("test.most", Some(&Data::string("many")));
    assert_eq!(
        node.said(),
        [
            "the register's value of `test.most` is refused: it takes a whole number between 1 and 100, not string `\"many\"`; 7 counts"
        ]
    );
    node.stored("test.most", Some(&Data::string("many")));
    node.stored("test.most", Some(&Data::Count(101)));
    assert_eq!(node.said().len(), 1);
    assert_eq!(node.rig.node.counts().register_values_refused, 2);
    node.stored("test.most", Some(&Data::Count(8)));
    assert_eq!(node.said(), ["test.most 7 -> 8"]);
}

#[test]
fn a_live_setting_changes_and_goes_back_to_the_layout() {
    let mut node = Follows::attached("worker");
    node.said();
    let limit = |node: &Follows| {
        let settings = &node.rig.node.core.node.settings;
        (
            settings.count("follower.limit"),
            settings.origin("follower.limit"),
        )
    };
    let by_layout = limit(&node);
    assert_eq!(by_layout, (20, Origin::Layout { line: 3 }));
    node.stored("follower.limit", Some(&Data::Count(25)));
    assert_eq!(limit(&node), (25, Origin::Register));
    node.stored("follower.fixed", Some(&Data::Count(25)));
    node.stored("follower.limit", Some(&Data::Integer(-1)));
    node.stored("follower.limit", None);
    assert_eq!(limit(&node), by_layout);
    let said = node.said();
    let told = |line: &&String| line.starts_with("follower.limit");
    let of_framework = said.iter().filter(told);
    assert_eq!(
        of_framework.collect::<Vec<_>>(),
        [
            "follower.limit 20 -> 25 (register)",
            "follower.limit 25 -> 20 (layout, line 3)"
        ]
    );
    assert_eq!(node.rig.node.core.node.settings.count("follower.fixed"), 5);
    // What is set is kept apart from what the layout says, even if it is the same.
    node.stored("follower.limit", Some(&Data::Count(20)));
    assert_eq!(limit(&node), (20, Origin::Register));
    assert_eq!(node.said(), Vec::<String>::new());
}

#[test]
fn without_a_copy_the_last_value_counts() {
    let mut node = Follows::attached("worker");
    node.stored("test.most", Some(&Data::Count(7)));
    node.said();
    *node.copy.0.lock().unwrap() = None;
    let store = StoreName::new(STORE).unwrap();
    node.step(Input::StoreChanged {
        store: &store,
        event: &StoreEvent::Clear { old: Vec::new() },
    });
    assert_eq!(node.said(), Vec::<String>::new());
    node.copy.0.lock().unwrap().get_or_insert_default();
    node.stored("test.other", Some(&Data::Count(1)));
    assert_eq!(node.said(), ["test.most 7 -> 10"]);
}

#[test]
fn a_write_is_read_before_its_outcome_is_told() {
    let mut node = Follows::attached("worker");
    node.said();
    node.act("set 42");
    let [(op, level, token)] = &std::mem::take(&mut node.writes)[..] else {
        panic!("one write");
    };
    assert_eq!(*level, Level::Durable);
    node.apply(op.clone());
    let value = None;
    node.step(Input::StoreAnswer {
        token: *token,
        outcome: &Ok(Answer::Done { change: 1, value }),
    });
    assert_eq!(node.said(), ["test.most 10 -> 42", "Ok(()), 42 counts"]);
}

#[test]
fn what_cannot_be_is_decided_without_a_write() {
    let mut node = Follows::attached("worker");
    node.said();
    node.act("set 101");
    node.act("swap 11 12");
    node.act("swap 10 0");
    assert_eq!(node.writes, []);
    let said = node.said();
    assert!(said[0].starts_with("Err(Unfit("), "{said:?}");
    assert_eq!(said[1], "Ok(false)");
    assert!(said[2].starts_with("Err(Unfit("), "{said:?}");
}

#[test]
fn a_swap_replaces_what_was_seen_and_nothing_else() {
    let mut node = Follows::attached("worker");
    let seen = |node: &mut Follows| match &std::mem::take(&mut node.writes)[..] {
        [(Op::Swap { seen, .. }, Level::Durable, _)] => *seen,
        other => panic!("{other:?}"),
    };
    node.act("swap 10 11");
    assert_eq!(seen(&mut node), Revision::ABSENT);
    node.stored("test.most", Some(&Data::Count(10)));
    let change = node.changes;
    node.act("swap 10 11");
    let timeline = 1;
    assert_eq!(seen(&mut node), Revision { timeline, change });
    // What does not fit is replaced as what counts instead.
    node.stored("test.most", Some(&Data::string("many")));
    let change = node.changes;
    node.act("swap 10 11");
    assert_eq!(seen(&mut node), Revision { timeline, change });
}

#[test]
fn nodes_write_what_a_value_must_be_and_give_up_if_others_write_something_else() {
    let mut node = Follows::new("worker");
    *node.copy.0.lock().unwrap() = Some(BTreeMap::new());
    node.step(Input::Tick);
    assert_eq!(node.writes.len(), 2);
    let Op::Put { key, value, .. } = node.writes[0].0.clone() else {
        panic!("a put");
    };
    let name = "follower.limit".to_owned();
    assert_eq!(
        ConfigKey::read(key.view()),
        Some(ConfigKey::Definition(name))
    );
    let definition = Definition::read(&value).unwrap();
    assert_eq!(definition.kind, DefinitionKind::Setting);
    assert_eq!(definition.default, Data::Count(20));
    let mut looks = 0;
    for second in 1..600 {
        node.rig.now.mono = Mono::default().after(Duration::from_secs(second));
        node.step(Input::Tick);
        looks = node.writes.len() / 2;
    }
    assert_eq!(looks, 5);
    // Whoever finds them writes nothing.
    let mut node = Follows::attached("worker");
    node.rig.now.mono = Mono::default().after(Duration::from_secs(10));
    node.step(Input::Tick);
    assert_eq!(node.writes, []);
    assert_eq!(node.rig.node.core.registers.next_deadline(), None);
}

#[test]
fn an_input_waits_for_the_register_and_not_for_ever() {
    let starts = |node: &Follows| node.rig.input_starts;
    let mut node = Follows::new("worker");
    node.rig.up("manager", 2);
    let ready = encoded(Ready::NAME, None, None, &Ready {});
    let from = id(2);
    node.step(Input::Message {
        from,
        payload: &ready,
    });
    assert_eq!(starts(&node), 0);
    assert_eq!(node.rig.node.state(), NodeState::Starting);
    node.copy.0.lock().unwrap().get_or_insert_default();
    node.step(Input::Tick);
    assert_eq!(starts(&node), 1);
    assert_eq!(node.rig.node.state(), NodeState::Ready);

    let mut node = Follows::new("worker");
    node.rig.up("manager", 2);
    node.step(Input::Message {
        from,
        payload: &ready,
    });
    node.rig.now.mono = Mono::default().after(Duration::from_secs(4));
    node.step(Input::Tick);
    assert_eq!(starts(&node), 0);
    node.rig.now.mono = Mono::default().after(Duration::from_secs(5));
    node.step(Input::Tick);
    assert_eq!(starts(&node), 1);
}

/// Declares what no other framework may.
struct Other<const CASE: u8>;

impl<const CASE: u8> Framework for Other<CASE> {
    const NAME: &'static str = "other";

    fn create(_site: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        let register: Register<u64> = match CASE {
            0 => Register::new("test.most", || 10, "how many").within(1, 100),
            1 => Register::new("test.most", || 11, "how many"),
            2 => Register::new("two words", || 11, ""),
            3 => Register::new("test.other", || 11, "").within(1, 10),
            _ => Register::new("follower.limit", || 11, ""),
        };
        declarations.register(&register);
    }
}

#[test]
fn a_register_is_declared_in_one_way() {
    fn of<const CASE: u8>() -> Result<(), NodeError> {
        let registry = Registry::new().with::<Follower>().with::<Other<CASE>>();
        Rig::of(LAYOUT, "worker", &registry).map(|_| ())
    }
    assert_eq!(of::<0>(), Ok(()));
    assert_eq!(of::<1>(), Err(NodeError::RegisterConflict("test.most")));
    assert_eq!(of::<2>(), Err(NodeError::RegisterName("two words")));
    let refused = of::<3>();
    assert!(matches!(
        refused,
        Err(NodeError::RegisterDefault("test.other", _))
    ));
    assert_eq!(
        of::<4>(),
        Err(NodeError::RegisterConflict("follower.limit"))
    );
}
