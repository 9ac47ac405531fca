//! A framework that asks what it is told, and who keeps account of it: what was asked, handled and answered, outside of all nodes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_cluster::node::{
    Among, Context, Declarations, Framework, Gathered, Question, Registry, RequestError,
    RequestErrorKind, Site, To,
};
use muster_cluster::{NodeName, PoolName, Role};
use muster_data::Record;
use muster_wire::{EndpointId, Mono};

/// A request that a node is to make.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::ask")]
pub(crate) struct Ask {
    /// No two requests have the same.
    pub(crate) request: u64,
    /// `all`, `node`, `role` or `owner`.
    pub(crate) of: String,
    /// The node, or the key.
    pub(crate) whom: String,
    /// In milliseconds.
    pub(crate) within: u64,
    /// With so many answers it ends.
    pub(crate) quorum: u64,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::share")]
struct Share {
    request: u64,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::part")]
pub(crate) struct Part {
    request: u64,
    by: String,
}

impl Question for Share {
    type Answer = Part;
}

/// A request that was made.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) ask: Ask,
    /// The life that has asked.
    pub(crate) by: EndpointId,
    pub(crate) at: Mono,
    pub(crate) outcomes: Vec<(Mono, Outcome)>,
}

/// What became of it.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Single(Result<Part, RequestError>),
    Gathered(Gathered<Part>),
}

/// What has happened in a run. The nodes of a simulation have one thread.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) asked: BTreeMap<u64, Asked>,
    /// By request, and the life of a node with its name, how often it was handled.
    pub(crate) handled: BTreeMap<(u64, EndpointId), (String, u32)>,
}

thread_local! {
    static LEDGER: RefCell<Ledger> = RefCell::default();
}

/// Asks and answers.
struct Sharing;

impl Framework for Sharing {
    const NAME: &'static str = "sharing";

    fn create(_: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::ask);
        declarations.answers(Self::share);
    }
}

#[allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "handlers"
)]
impl Sharing {
    fn ask(&mut self, ask: Ask, cx: &mut Context<'_>) {
        let request = ask.request;
        let within = Duration::from_millis(ask.within);
        let asked = Asked {
            ask: ask.clone(),
            by: cx.id(),
            at: cx.now(),
            outcomes: Vec::new(),
        };
        of_ledger(|ledger| ledger.asked.insert(request, asked));
        let question = Share { request };
        let to = match ask.of.as_str() {
            "all" => {
                let quorum = usize::try_from(ask.quorum).unwrap();
                return cx
                    .scatter(Among::pool(&PoolName::worker()), &question)
                    .within(within)
                    .quorum(quorum)
                    .gather(move |_: &mut Self, cx, gathered| {
                        note(request, cx, Outcome::Gathered(gathered));
                    });
            }
            "node" => To::node(&NodeName::new(&ask.whom).unwrap()),
            "role" => To::role(Role::Proxy),
            _ => To::owner(&PoolName::proxy(), ask.whom.as_str()),
        };
        cx.request(to, &question)
            .within(within)
            .then(move |_: &mut Self, cx, outcome| note(request, cx, Outcome::Single(outcome)));
    }

    fn share(&mut self, question: Share, cx: &mut Context<'_>) -> Part {
        let (request, by) = (question.request, cx.name().to_string());
        of_ledger(|ledger| {
            let handled = ledger.handled.entry((request, cx.id()));
            handled.or_insert((by.clone(), 0)).1 += 1;
        });
        Part { request, by }
    }
}

fn note(request: u64, cx: &Context<'_>, outcome: Outcome) {
    let (by, now) = (cx.id(), cx.now());
    of_ledger(|ledger| {
        let asked = ledger.asked.get_mut(&request).unwrap();
        assert_eq!(asked.by, by, "whoever has asked is told");
        asked.outcomes.push((now, outcome));
    });
}

fn of_ledger<R>(act: impl FnOnce(&mut Ledger) -> R) -> R {
    LEDGER.with_borrow_mut(act)
}

pub(crate) fn registry() -> Registry {
    of_ledger(|ledger| *ledger = Ledger::default());
    Registry::new().with::<Sharing>()
}

/// Takes the account of a run that has ended.
pub(crate) fn take() -> Ledger {
    of_ledger(std::mem::take)
}

/// Returns `true` if a request has an outcome.
pub(crate) fn has_outcome(request: u64) -> bool {
    of_ledger(|ledger| {
        let asked = ledger.asked.get(&request);
        asked.is_some_and(|asked| !asked.outcomes.is_empty())
    })
}

impl Ledger {
    /// What holds for every request, whatever happens. `workers` are the members of the pool that is asked as a whole.
    pub(crate) fn check(&self, workers: &BTreeSet<String>) -> Result<(), String> {
        for ((request, life), (node, times)) in &self.handled {
            if *times > 1 {
                return Err(format!(
                    "AGAIN: {node} ({life}) has handled {request} {times} times"
                ));
            }
        }
        for (request, asked) in &self.asked {
            if asked.outcomes.len() > 1 {
                return Err(format!("TWICE: {request} has two outcomes"));
            }
            for (_, outcome) in &asked.outcomes {
                self.check_outcome(*request, asked, outcome, workers)?;
            }
        }
        Ok(())
    }

    fn check_outcome(
        &self,
        request: u64,
        asked: &Asked,
        outcome: &Outcome,
        workers: &BTreeSet<String>,
    ) -> Result<(), String> {
        let handled = |node: Option<&str>| {
            let of_request = self.handled.range((request, MIN)..=(request, MAX));
            let mut of_request = of_request.map(|(_, (by, _))| by);
            of_request.any(|by| node.is_none_or(|node| node == by))
        };
        let is_right = |part: &Part, node: &str| {
            part.request == request && part.by == node && handled(Some(node))
        };
        let lies = |node: Option<&str>, kind: &RequestErrorKind| {
            handled(node) && !kind.may_have_been_handled()
        };
        match outcome {
            Outcome::Single(Ok(part)) => {
                let is_whom = asked.ask.of != "node" || part.by == asked.ask.whom;
                if !is_right(part, &part.by) || !is_whom {
                    return Err(format!("WRONG: {part:?} for {request}"));
                }
            }
            Outcome::Single(Err(error)) => {
                if lies(None, error.kind()) {
                    return Err(format!("LIE: {request} was handled: {error}"));
                }
            }
            Outcome::Gathered(gathered) => {
                let answers = gathered.answers.iter().map(|(node, _)| node);
                let missing = gathered.missing.iter().map(|(node, _)| node);
                let mut named: Vec<&str> = answers.chain(missing).map(NodeName::as_str).collect();
                named.sort_unstable();
                if !named.iter().copied().eq(workers.iter().map(String::as_str)) {
                    return Err(format!("NAMES: {request}: {named:?}"));
                }
                for (node, part) in &gathered.answers {
                    if !is_right(part, node.as_str()) {
                        return Err(format!("WRONG: {part:?} of {node} for {request}"));
                    }
                }
                for (node, kind) in &gathered.missing {
                    if lies(Some(node.as_str()), kind) {
                        return Err(format!("LIE: {node} has handled {request}: {kind}"));
                    }
                }
            }
        }
        Ok(())
    }
}

const MIN: EndpointId = EndpointId::from_bytes([0; 16]);
const MAX: EndpointId = EndpointId::from_bytes([255; 16]);
