//! A framework on every node that changes registers as it is told, and remembers all that it hears.

use std::cell::RefCell;

use muster_cluster::node::{
    Context, Declarations, Framework, RegisterChange, SettingChange, Site, WriteError,
};
use muster_cluster::register::Register;
use muster_cluster::{SettingSpec, SettingValue};
use muster_data::Record;
use muster_store::WriteFailure;
use muster_wire::EndpointId;

/// A value that is set. The first counts while nobody has.
pub(crate) const LEVEL: Register<u64> = Register::new("test.level", || 0, "set by anybody");

/// A value that is swapped.
pub(crate) const TURN: Register<u64> = Register::new("test.turn", || 0, "swapped by anybody");

/// A live setting, and what it may be.
pub(crate) const LIMIT: &str = "follower.limit";
pub(crate) const MOST: u64 = 1_000;

/// What somebody has heard of.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) life: EndpointId,
    /// A register, or the setting.
    pub(crate) name: &'static str,
    pub(crate) old: u64,
    pub(crate) new: u64,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// It has changed nothing.
    Not,
    /// Perhaps.
    Unknown,
}

/// What all frameworks of a run remember.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) heard: Vec<Heard>,
    /// By the number of the change, what a swap has expected and what became of it.
    pub(crate) outcomes: Vec<(u64, Outcome)>,
    pub(crate) expected: Vec<(u64, u64)>,
}

thread_local! {
    /// A cluster runs on one thread.
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// Takes what was remembered so far.
pub(crate) fn remembered() -> Memory {
    MEMORY.take()
}

fn remember(act: impl FnOnce(&mut Memory)) {
    MEMORY.with_borrow_mut(act);
}

/// A node is to change something. Every change has its number, and sets the value to it.
#[derive(Debug, Clone, Copy, PartialEq, Record)]
#[record(name = "Test::change")]
pub(crate) struct Change {
    pub(crate) number: u64,
    pub(crate) is_swap: bool,
    /// The swap is one of a node that compares by itself.
    pub(crate) is_broken: bool,
}

/// A node is asked what it goes by.
#[derive(Debug, Clone, Copy, PartialEq, Record)]
#[record(name = "Test::tell")]
pub(crate) struct Tell {}

pub(crate) struct Follower;

impl Framework for Follower {
    const NAME: &'static str = "follower";

    const SETTINGS: &'static [SettingSpec] = &[SettingSpec::count(LIMIT, 0, "how far")
        .within(0, MOST)
        .live()];

    fn create(_: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.register(&LEVEL);
        declarations.register(&TURN);
        declarations.on(Self::change);
        declarations.on(Self::tell);
    }

    fn register_changed(&mut self, change: &RegisterChange<'_>, cx: &mut Context<'_>) {
        for register in [&LEVEL, &TURN] {
            if let Some((old, new)) = change.of(register) {
                assert_eq!(cx.register(register).get(), new);
                heard(cx, register.name(), old, new);
            }
        }
    }

    fn setting_changed(&mut self, change: &SettingChange<'_>, cx: &mut Context<'_>) {
        let count = |value: &SettingValue| match value {
            SettingValue::Count(count) => *count,
            other => panic!("{other:?}"),
        };
        assert_eq!(cx.settings().count(LIMIT), count(change.new));
        heard(cx, LIMIT, count(change.old), count(change.new));
    }
}

fn heard(cx: &Context<'_>, name: &'static str, old: u64, new: u64) {
    let life = cx.id();
    remember(|memory| {
        memory.heard.push(Heard {
            life,
            name,
            old,
            new,
        });
    });
}

impl Follower {
    #[allow(
        clippy::needless_pass_by_value,
        clippy::unused_self,
        reason = "a handler"
    )]
    fn change(&mut self, change: Change, cx: &mut Context<'_>) {
        let number = change.number;
        if !change.is_swap {
            let set = cx.register(&LEVEL).set(&number);
            return set.then(move |_: &mut Self, _, outcome| ended(number, &outcome, |()| true));
        }
        let expected = cx.register(&TURN).get();
        remember(|memory| memory.expected.push((number, expected)));
        if change.is_broken {
            let set = cx.register(&TURN).set(&number);
            return set.then(move |_: &mut Self, _, outcome| ended(number, &outcome, |()| true));
        }
        let swap = cx.register(&TURN).swap(&expected, &number);
        swap.then(move |_: &mut Self, _, outcome| ended(number, &outcome, |won| *won));
    }

    /// It says what it has by hearing of it once more.
    #[allow(clippy::unused_self, reason = "a handler")]
    fn tell(&mut self, _: Tell, cx: &mut Context<'_>) {
        for register in [&LEVEL, &TURN] {
            let value = cx.register(register).get();
            heard(cx, register.name(), value, value);
        }
        let limit = cx.settings().count(LIMIT);
        heard(cx, LIMIT, limit, limit);
    }
}

fn ended<T>(number: u64, outcome: &Result<T, WriteError>, done: impl Fn(&T) -> bool) {
    let outcome = match outcome {
        Ok(answer) if done(answer) => Outcome::Done,
        Ok(_)
        | Err(
            WriteError::Refused(_)
            | WriteError::Unfit(_)
            | WriteError::Failed(
                WriteFailure::NoPrimary | WriteFailure::TooMany | WriteFailure::Closed,
            ),
        ) => Outcome::Not,
        Err(_) => Outcome::Unknown,
    };
    remember(|memory| memory.outcomes.push((number, outcome)));
}
