//! What an agent tells of the stores about which coordinators have decided, and since when something is missing.

use std::collections::{BTreeMap, BTreeSet};

use muster_cluster::coordination::{StoreGroup, View};
use muster_coordination::StoreOrderError;
use muster_gateway::status::{
    COMPLETE, IN, LackStatus, OUT, SHORT, STORE, StoreCopyStatus, StoreCounts, StoreGroupStatus,
    WAITING,
};

use crate::api::Refusal;

/// The stores that are named among what is missing.
const MOST_NAMED: usize = 8;

/// What an operator wants of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreOrder {
    pub(crate) action: StoreAction,
    pub(crate) store: String,
    /// The node that is to have its primary.
    pub(crate) node: String,
}

/// How a node is to get a store's primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreAction {
    /// It moves there, with everything.
    Move,
    /// The store waits, and is to begin with what the node has: what only others have is lost.
    Adopt,
}

/// Since when something is missing. What was so already when this agent began is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Since {
    incomplete: Option<u64>,
    waiting: Option<u64>,
    waits: bool,
}

/// What an agent has noticed of stores.
#[derive(Debug, Default)]
pub(super) struct Groups {
    since: BTreeMap<String, Since>,
    counts: StoreCounts,
}

impl Groups {
    /// Looks at a view that the agent goes by from now on; `wall` is the time in seconds since 1970. At the first one it is not known since
    /// when things are so.
    pub(super) fn look(&mut self, view: &View, wall: u64, is_first: bool) {
        let now = (!is_first).then_some(wall);
        let mut counts = StoreCounts::default();
        let mut since = BTreeMap::new();
        for (store, group) in view.stores() {
            let count = match state(group) {
                COMPLETE => &mut counts.complete,
                SHORT => &mut counts.short,
                _ => &mut counts.waiting,
            };
            *count += 1;
            if group.is_redundant() {
                continue;
            }
            let known = self.since.remove(store);
            let waits = group.waits();
            let waited = known.as_ref().filter(|it| it.waits);
            let next = Since {
                incomplete: known.as_ref().map_or(now, |it| it.incomplete),
                waiting: if waits {
                    waited.map_or(now, |it| it.waiting)
                } else {
                    None
                },
                waits,
            };
            since.insert(store.to_owned(), next);
        }
        (self.since, self.counts) = (since, counts);
    }

    /// How many stores there are by what they are short of.
    pub(super) fn counts(&self) -> StoreCounts {
        self.counts
    }

    /// The first stores that are not complete; those that wait come before the others.
    pub(super) fn lacks(&self, view: &View) -> Vec<LackStatus> {
        let (waiting, short): (Vec<_>, Vec<_>) = self.since.iter().partition(|(_, it)| it.waits);
        let first = waiting.into_iter().chain(short).take(MOST_NAMED);
        let lacks = first.filter_map(|(store, since)| {
            Some(LackStatus {
                kind: STORE.to_owned(),
                name: store.clone(),
                text: lack(store, view.store(store)?),
                since: since.incomplete,
            })
        });
        lacks.collect()
    }

    /// All stores, as they are told.
    pub(super) fn status(&self, view: &View) -> Vec<StoreGroupStatus> {
        let stores = view.stores();
        let told = stores.map(|(store, group)| {
            let since = self.since.get(store).cloned().unwrap_or_default();
            StoreGroupStatus {
                since: since.incomplete,
                waits_since: since.waiting,
                ..told(view, store, group)
            }
        });
        told.collect()
    }
}

fn state(group: &StoreGroup) -> &'static str {
    match (group.waits(), group.is_redundant()) {
        (true, _) => WAITING,
        (false, true) => COMPLETE,
        (false, false) => SHORT,
    }
}

/// What a store is short of, in words.
fn lack(store: &str, group: &StoreGroup) -> String {
    if !group.waits() {
        let (count, goal) = (group.in_sync.len(), group.goal());
        return format!("store {store}: {count} of {goal} copies in sync");
    }
    match &last_copies(group)[..] {
        [] => format!("store {store} waits: none of its nodes is in"),
        nodes => format!(
            "store {store} waits for its last copies, on {}",
            nodes.join(", ")
        ),
    }
}

/// The nodes that have what a store waits for.
fn last_copies(group: &StoreGroup) -> Vec<&str> {
    group.in_sync.iter().map(|it| it.node.as_str()).collect()
}

fn told(view: &View, store: &str, group: &StoreGroup) -> StoreGroupStatus {
    let copy = |node: &str| {
        let member = view.get(node);
        let candidate = group.candidates.iter().find(|it| it.node == node);
        let is_in = member.is_some_and(|it| it.out.is_none());
        StoreCopyStatus {
            node: node.to_owned(),
            box_name: match (member, candidate) {
                (Some(member), _) => member.box_name.clone(),
                (None, Some(candidate)) => candidate.box_name.clone(),
                (None, None) => String::new(),
            },
            state: if is_in { IN } else { OUT }.to_owned(),
        }
    };
    StoreGroupStatus {
        store: store.to_owned(),
        persistent: group.persistent,
        copies: group.copies,
        min_copies: group.min_copies,
        goal: group.goal(),
        state: state(group).to_owned(),
        redundant: group.is_redundant(),
        since: None,
        waits_since: None,
        primary: group.primary.as_ref().map(|it| copy(&it.node)),
        in_sync: group.in_sync.iter().map(|it| copy(&it.node)).collect(),
        joining: group.joining.as_ref().map(|it| copy(&it.node)),
        candidates: group.candidates.iter().map(|it| copy(&it.node)).collect(),
        opened: group.opened,
        began: group.began,
        changed: group.changed,
    }
}

/// Why an order is not carried out, by what is known of its store.
pub(super) fn refusal(view: Option<&View>, order: &StoreOrder, error: StoreOrderError) -> Refusal {
    let StoreOrder { store, node, .. } = order;
    let group = view.and_then(|view| view.store(store));
    match (error, group) {
        (StoreOrderError::NotLeading, _) => {
            Refusal::busy("the coordinator of this box does not lead any more")
        }
        (StoreOrderError::UnknownStore, _) | (_, None) => Refusal::unknown(format!(
            "there is no store {store} about which coordinators have decided: no node has opened it"
        )),
        (StoreOrderError::NoCandidate, Some(group)) => {
            let candidates: Vec<&str> = group.candidates.iter().map(|it| &*it.node).collect();
            Refusal::conflict(format!(
                "node {node} may have no copy of store {store}: {} may",
                candidates.join(", ")
            ))
        }
        (StoreOrderError::Out, Some(_)) => Refusal::conflict(format!(
            "node {node} is out: `muster coordinators` says why"
        )),
        (StoreOrderError::Waits, Some(group)) => {
            let text = lack(store, group);
            Refusal::conflict(format!(
                "{text}: it has no primary that could move, until a node with one of them is in again"
            ))
        }
        (StoreOrderError::HasPrimary, Some(group)) => {
            let primary = group.primary.as_ref().map_or("a node", |it| &it.node);
            Refusal::conflict(format!(
                "store {store} does not wait: its primary is on {primary}, and there is nothing to adopt"
            ))
        }
        (error, Some(_)) => Refusal::conflict(format!("store {store}: {error}")),
    }
}

/// The coordinators that one of them does not hear, with the time since when, in seconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Away(BTreeMap<String, u64>);

impl Away {
    /// Looks who is away.
    pub(super) fn look(&mut self, away: BTreeSet<String>, wall: u64) {
        self.0.retain(|name, _| away.contains(name));
        for name in away {
            self.0.entry(name).or_insert(wall);
        }
    }

    pub(super) fn since(&self) -> BTreeMap<String, u64> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use muster_cluster::coordination::{Membership, OutReason, StoreCandidate, StoreCopy};
    use muster_wire::EndpointId;

    use super::*;
    use crate::api::RefusalKind;

    fn life(node: &str) -> EndpointId {
        EndpointId::from_random([node.as_bytes()[0]; 16])
    }

    /// Nodes of the boxes a, b, c have their names; c is out.
    fn view(stores: &[(&str, &str)]) -> View {
        let mut view = View::founded([7; 16], 0);
        for (node, out) in [("a", None), ("b", None), ("c", Some(OutReason::Silent))] {
            let membership = Membership {
                box_name: node.to_owned(),
                life: life(node),
                incarnation: 1,
                session: 1,
                changed: 1,
                out,
            };
            view.set(1, node, membership);
        }
        for (store, copies) in stores {
            view.set_store(2, store, group(copies));
        }
        view
    }

    /// A store with copies as in `*a b`, the first of which is the primary; of nodes that nobody has heard of there may be some, too.
    fn group(copies: &str) -> StoreGroup {
        let copy = |node: &str| StoreCopy::new(node, life(node));
        let words: Vec<&str> = copies.split_whitespace().collect();
        let primary = words.iter().find_map(|word| word.strip_prefix('*'));
        let in_sync = words.iter().map(|word| copy(word.trim_start_matches('*')));
        StoreGroup {
            opened: 2,
            began: 2,
            changed: 2,
            persistent: true,
            copies: 2,
            min_copies: 1,
            candidates: ["a", "b", "c", "d"]
                .map(|node| StoreCandidate {
                    node: node.to_owned(),
                    box_name: node.to_owned(),
                })
                .into(),
            primary: primary.map(copy),
            in_sync: in_sync.collect(),
            joining: None,
        }
    }

    #[test]
    fn stores_are_told_with_boxes_and_who_is_in() {
        let mut groups = Groups::default();
        let mut view = view(&[]);
        let mut joins = group("*a c");
        joins.joining = Some(StoreCopy::new("d", life("d")));
        view.set_store(3, "x", joins);
        groups.look(&view, 100, false);
        let told = groups.status(&view);
        let [told] = &told[..] else {
            panic!("one store")
        };
        let copy = |it: &StoreCopyStatus| format!("{} of {} {}", it.node, it.box_name, it.state);
        assert_eq!(told.primary.as_ref().map(copy).unwrap(), "a of a in");
        let in_sync: Vec<String> = told.in_sync.iter().map(copy).collect();
        assert_eq!(in_sync, ["a of a in", "c of c out"]);
        // Of whom nothing was decided is known where it would be.
        assert_eq!(told.joining.as_ref().map(copy).unwrap(), "d of d out");
        assert_eq!(
            (told.state.as_str(), told.redundant, told.goal, told.since),
            (COMPLETE, true, 2, None)
        );
        assert_eq!(told.candidates.len(), 4);
    }

    #[test]
    fn it_is_known_since_when_a_store_is_short_and_waits() {
        let mut groups = Groups::default();
        let mut told = |copies: &str, wall, is_first| {
            let view = view(&[("x", copies)]);
            groups.look(&view, wall, is_first);
            let told = groups.status(&view).remove(0);
            (told.state, told.since, told.waits_since)
        };
        let is = |state: &str, since, waits| (state.to_owned(), since, waits);
        // When this agent began it was so already.
        assert_eq!(told("c", 10, true), is(WAITING, None, None));
        assert_eq!(told("c", 11, false), is(WAITING, None, None));
        assert_eq!(told("*a", 12, false), is(SHORT, None, None));
        assert_eq!(told("*a b", 13, false), is(COMPLETE, None, None));
        assert_eq!(told("*a", 14, false), is(SHORT, Some(14), None));
        assert_eq!(told("a", 15, false), is(WAITING, Some(14), Some(15)));
        assert_eq!(told("a", 16, false), is(WAITING, Some(14), Some(15)));
        assert_eq!(told("*a", 17, false), is(SHORT, Some(14), None));
        assert_eq!(told("a", 18, false), is(WAITING, Some(14), Some(18)));
        assert_eq!(told("*a b", 19, false), is(COMPLETE, None, None));
    }

    #[test]
    fn what_is_missing_is_named_and_of_many_the_first() {
        let mut groups = Groups::default();
        let mut found = |stores: &[(&str, &str)]| {
            let view = view(stores);
            groups.look(&view, 100, false);
            let lacks = groups.lacks(&view).into_iter();
            (groups.counts(), lacks.map(|it| it.text).collect::<Vec<_>>())
        };
        let (counts, lacks) = found(&[("u", "*a b"), ("v", "*a"), ("w", "a c"), ("x", "")]);
        assert_eq!((counts.complete, counts.short, counts.waiting), (1, 1, 2));
        assert_eq!((counts.incomplete(), counts.all()), (3, 4));
        assert_eq!(
            lacks,
            [
                "store w waits for its last copies, on a, c",
                "store x waits: none of its nodes is in",
                "store v: 1 of 2 copies in sync",
            ]
        );
        let names: Vec<String> = (0..20).map(|number| format!("s{number:02}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), "*a")).collect();
        let (counts, lacks) = found(&many);
        assert_eq!((counts.short, lacks.len()), (20, MOST_NAMED));
        assert_eq!(lacks[0], "store s00: 1 of 2 copies in sync");
        assert_eq!(found(&[]), (StoreCounts::default(), Vec::new()));
    }

    #[test]
    fn an_order_is_refused_in_words_that_help() {
        let mut view = view(&[("waits", "c"), ("has", "*a")]);
        view.set_store(3, "empty", group(""));
        let refused = |store: &str, node: &str, error| {
            let order = StoreOrder {
                store: store.to_owned(),
                node: node.to_owned(),
                action: StoreAction::Move,
            };
            let refusal = refusal(Some(&view), &order, error);
            (refusal.kind, refusal.error)
        };
        for (store, node, error, kind, text) in [
            (
                "has",
                "a",
                StoreOrderError::NotLeading,
                RefusalKind::Busy,
                "the coordinator of this box does not lead any more",
            ),
            (
                "none",
                "a",
                StoreOrderError::UnknownStore,
                RefusalKind::Unknown,
                "there is no store none about which coordinators have decided: no node has opened it",
            ),
            (
                "has",
                "x",
                StoreOrderError::NoCandidate,
                RefusalKind::Conflict,
                "node x may have no copy of store has: a, b, c, d may",
            ),
            (
                "has",
                "c",
                StoreOrderError::Out,
                RefusalKind::Conflict,
                "node c is out: `muster coordinators` says why",
            ),
            (
                "waits",
                "a",
                StoreOrderError::Waits,
                RefusalKind::Conflict,
                "store waits waits for its last copies, on c: it has no primary that could move, until a node with one of them is in again",
            ),
            (
                "has",
                "b",
                StoreOrderError::HasPrimary,
                RefusalKind::Conflict,
                "store has does not wait: its primary is on a, and there is nothing to adopt",
            ),
        ] {
            let found = refused(store, node, error);
            assert_eq!(found, (kind, text.to_owned()));
        }
        let (_, text) = refused("empty", "a", StoreOrderError::Waits);
        assert!(text.starts_with("store empty waits: none of its nodes is in"));
    }

    #[test]
    fn whoever_comes_back_was_away() {
        let mut away = Away::default();
        let mut look = |names: &[&str], wall| {
            away.look(names.iter().map(|it| (*it).to_owned()).collect(), wall);
            away.since().into_iter().collect::<Vec<_>>()
        };
        let of = |name: &str, since| (name.to_owned(), since);
        assert_eq!(look(&["b"], 5), [of("b", 5)]);
        assert_eq!(look(&["b", "c"], 6), [of("b", 5), of("c", 6)]);
        assert_eq!(look(&["c"], 7), [of("c", 6)]);
        assert_eq!(look(&["b", "c"], 8), [of("b", 8), of("c", 6)]);
    }
}
