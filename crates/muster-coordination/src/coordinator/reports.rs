//! What an operator should know of stores when something is decided about them.
//!
//! When a box dies, hundreds of stores may have another primary at once. Of more than [`MOST_LINES`] only the numbers are told.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Severity, clip};
use crate::state::{Applied, Moved, Restarted};

/// The stores that are told of by name when one entry is applied, of each kind.
const MOST_LINES: usize = 8;

/// The ways of primaries that a summary names.
const MOST_WAYS: usize = 4;

type Report = (Severity, String);

/// Returns what there is to tell of an entry.
pub(super) fn reports_of(applied: &Applied) -> Vec<Report> {
    let (waiting, moved): (Vec<_>, Vec<_>) = applied.moved.iter().partition(|it| it.to.is_none());
    let (on_disk, in_memory): (Vec<_>, Vec<_>) =
        applied.restarted.iter().partition(|it| it.persistent);
    let mut reports = Vec::new();
    tell(&mut reports, &moved, has_moved, all_have_moved);
    tell(&mut reports, &waiting, waits, all_wait);
    tell(&mut reports, &in_memory, begins_empty, all_begin_empty);
    tell(&mut reports, &on_disk, begins_with, all_begin_with);
    reports
}

fn tell<T>(
    reports: &mut Vec<Report>,
    what: &[&T],
    one: impl Fn(&T) -> Report,
    all: impl Fn(&[&T]) -> Report,
) {
    if what.len() > MOST_LINES {
        reports.push(all(what));
    } else {
        reports.extend(what.iter().map(|it| one(it)));
    }
}

/// The store's name as it may stand in a report.
fn about(store: &str, text: &str) -> String {
    format!("coordination: store {}{text}", clip(store))
}

fn has_moved(moved: &Moved) -> Report {
    let to = clip(moved.to.as_deref().unwrap_or("-"));
    let text = match &moved.from {
        Some(from) => format!(": its primary moved from {} to {to}", clip(from)),
        None => format!(" goes on: its primary is on {to}"),
    };
    (Severity::Info, about(&moved.store, &text))
}

fn all_have_moved(moved: &[&Moved]) -> Report {
    let mut ways: BTreeMap<(Option<&str>, Option<&str>), usize> = BTreeMap::new();
    for it in moved {
        let way = (it.from.as_deref(), it.to.as_deref());
        *ways.entry(way).or_default() += 1;
    }
    let mut ways: Vec<_> = ways.into_iter().collect();
    ways.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let named = ways.iter().take(MOST_WAYS).map(|((from, to), count)| {
        let from = from.map_or_else(String::new, |it| format!(" from {}", clip(it)));
        format!("{count}{from} to {}", clip(to.unwrap_or("-")))
    });
    let mut named: Vec<String> = named.collect();
    if ways.len() > MOST_WAYS {
        named.push("others otherwise".to_owned());
    }
    let count = moved.len();
    let text = format!(
        "coordination: {count} stores have another primary: {}",
        named.join(", ")
    );
    (Severity::Info, text)
}

fn waits(waiting: &Moved) -> Report {
    let nodes: Vec<String> = waiting.in_sync.iter().map(|node| clip(node)).collect();
    let text = match &nodes[..] {
        [] => " waits: no node that may have a copy is in".to_owned(),
        [only] => format!(" waits: its last copy is on {only}, which is out"),
        _ => format!(
            " waits: its last copies are on {}, which are out",
            nodes.join(", ")
        ),
    };
    (Severity::Warning, about(&waiting.store, &text))
}

fn all_wait(waiting: &[&Moved]) -> Report {
    let count = waiting.len();
    let text = format!(
        "coordination: {count} stores wait for their last copies, whose nodes are out: `muster stores` names them"
    );
    (Severity::Warning, text)
}

fn begins_empty(restarted: &Restarted) -> Report {
    let last = clip(&restarted.last);
    let text = format!(" begins empty: its last copy, in the memory of node {last}, is gone");
    (Severity::Warning, about(&restarted.store, &text))
}

fn all_begin_empty(restarted: &[&Restarted]) -> Report {
    let count = restarted.len();
    let text = format!(
        "coordination: {count} stores begin empty: their last copies, in the memory of nodes, are gone"
    );
    (Severity::Warning, text)
}

/// A store with files goes on with one of them. If it is not that of the last primary, something may be missing in it.
fn begins_with(restarted: &Restarted) -> Report {
    let with = restarted.with.as_deref().map_or_else(String::new, clip);
    let text = format!(" begins with what node {with} has on disk");
    (severity(restarted), about(&restarted.store, &text))
}

fn severity(restarted: &Restarted) -> Severity {
    if restarted.with.as_ref() == Some(&restarted.last) {
        Severity::Info
    } else {
        Severity::Warning
    }
}

fn all_begin_with(restarted: &[&Restarted]) -> Report {
    let others = restarted.iter();
    let others = others.filter(|it| severity(it) != Severity::Info).count();
    let count = restarted.len();
    let mut text = format!("coordination: {count} stores begin with what their nodes have on disk");
    if others == 0 {
        return (Severity::Info, text);
    }
    let _ = write!(
        text,
        ", {others} of them with another copy than that of their last primary"
    );
    (Severity::Warning, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(moved: Vec<Moved>, restarted: Vec<Restarted>) -> Vec<String> {
        let applied = Applied {
            has_changed: true,
            restarted,
            moved,
        };
        let reports = reports_of(&applied).into_iter();
        let told = reports.map(|(severity, text)| {
            let text = text.strip_prefix("coordination: ").unwrap();
            format!("{severity:?} {text}")
        });
        told.collect()
    }

    fn moved(store: &str, from: Option<&str>, to: Option<&str>, in_sync: &[&str]) -> Moved {
        Moved {
            store: store.to_owned(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
            in_sync: in_sync.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    fn restarted(persistent: bool, last: &str, with: Option<&str>) -> Restarted {
        Restarted {
            store: "x".to_owned(),
            persistent,
            last: last.to_owned(),
            with: with.map(str::to_owned),
        }
    }

    #[test]
    fn a_few_stores_are_told_of_by_name() {
        let (a, b) = (Some("a"), Some("b"));
        let reports = told(
            vec![
                moved("x", a, b, &["b"]),
                moved("y", a, None, &["a"]),
                moved("z\n", a, None, &["a", "b"]),
                moved("v", a, None, &[]),
                moved("w", None, a, &["a"]),
            ],
            vec![
                restarted(false, "a", b),
                restarted(true, "a", a),
                restarted(true, "a", b),
            ],
        );
        assert_eq!(
            reports,
            [
                "Info store x: its primary moved from a to b",
                "Info store w goes on: its primary is on a",
                "Warning store y waits: its last copy is on a, which is out",
                "Warning store z\\n waits: its last copies are on a, b, which are out",
                "Warning store v waits: no node that may have a copy is in",
                "Warning store x begins empty: its last copy, in the memory of node a, is gone",
                "Info store x begins with what node a has on disk",
                "Warning store x begins with what node b has on disk",
            ]
        );
    }

    #[test]
    fn of_many_stores_only_the_numbers_are_told() {
        let to = |to: Option<&'static str>| move |_| moved("x", Some("a"), to, &["a"]);
        let mut all: Vec<Moved> = (0..300).map(to(Some("b"))).collect();
        all.extend((0..12).map(to(Some("c"))));
        all.extend((0..9).map(to(None)));
        let begun = |count: usize, persistent, with| {
            let one = restarted(persistent, "a", Some(with));
            vec![one; count]
        };
        let restarted = [
            begun(9, false, "b"),
            begun(8, true, "a"),
            begun(1, true, "b"),
        ]
        .concat();
        assert_eq!(
            told(all, restarted),
            [
                "Info 312 stores have another primary: 300 from a to b, 12 from a to c",
                "Warning 9 stores wait for their last copies, whose nodes are out: `muster stores` names them",
                "Warning 9 stores begin empty: their last copies, in the memory of nodes, are gone",
                "Warning 9 stores begin with what their nodes have on disk, 1 of them with another copy than that of their last primary",
            ]
        );
        let nodes = ["b", "c", "d", "e", "f"];
        let all = nodes.iter().cycle().take(10);
        let all = all.map(|node| moved("x", None, Some(node), &[])).collect();
        assert_eq!(
            told(all, begun(9, true, "a")),
            [
                "Info 10 stores have another primary: 2 to b, 2 to c, 2 to d, 2 to e, others otherwise",
                "Info 9 stores begin with what their nodes have on disk",
            ]
        );
    }

    #[test]
    fn eight_are_few_and_nine_are_many() {
        let some = |count| vec![moved("x", Some("a"), Some("b"), &[]); count];
        assert_eq!(told(some(8), Vec::new()).len(), 8);
        assert_eq!(told(some(9), Vec::new()).len(), 1);
        assert_eq!(told(Vec::new(), Vec::new()).len(), 0);
    }
}
