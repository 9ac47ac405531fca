//! Stores as a table, and lines below it of what is not as it should be.

use std::fmt::Write as _;

use muster_gateway::status::{OUT, StoreCopyStatus, StoreGroupStatus, StoresStatus};

use crate::cluster::coordinators::since;

/// The names of the columns.
const HEAD: [&str; 7] = [
    "store",
    "kept",
    "copies",
    "primary",
    "in sync",
    "joining",
    "redundant",
];

// What is written below goes to a string, which takes everything.

/// Stores in words.
pub(super) fn text(status: &StoresStatus) -> String {
    if status.box_name.is_empty() {
        return "stores: nothing is decided about them: one box\n".to_owned();
    }
    if status.epoch == 0 {
        return "stores: nothing is decided yet: `muster coordinators` says why\n".to_owned();
    }
    let count = match status.stores.len() {
        0 => "none is open".to_owned(),
        count => count.to_string(),
    };
    let mut text = format!("stores: {count}, epoch {}", status.epoch);
    if status.leader.as_ref() != Some(&status.box_name) {
        let _ = write!(text, " (as box {} knows)", status.box_name);
    }
    text.push('\n');
    let mut rows = vec![HEAD.map(ToOwned::to_owned)];
    rows.extend(status.stores.iter().map(row));
    if rows.len() > 1 {
        table(&rows, &mut text);
    }
    for store in &status.stores {
        for problem in problems(store) {
            let _ = writeln!(text, "{problem}");
        }
    }
    if status.stores.iter().any(StoreGroupStatus::waits) {
        text.push_str(
            "a store that waits goes on when one of its last copies is back; if they are lost for good: `muster stores adopt STORE NODE`\n",
        );
    }
    text
}

/// Rows with columns as wide as they have to be.
pub(in crate::cluster) fn table<const N: usize>(rows: &[[String; N]], text: &mut String) {
    let width = |at: usize| {
        let widths = rows.iter().map(|row| row[at].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
}

fn row(store: &StoreGroupStatus) -> [String; 7] {
    let dash = || "-".to_owned();
    let in_sync = match &store.in_sync[..] {
        [] => dash(),
        copies => names(copies),
    };
    let redundant = match (store.redundant, store.goal) {
        // One copy is enough, by whoever wanted the store so.
        (true, 1) => "-",
        (true, _) => "yes",
        (false, _) => "no",
    };
    [
        store.store.clone(),
        if store.persistent { "disk" } else { "memory" }.to_owned(),
        format!("{}/{}", store.in_sync.len(), store.copies),
        store.primary.as_ref().map_or_else(dash, place),
        in_sync,
        store
            .joining
            .as_ref()
            .map_or_else(dash, |it| it.node.clone()),
        redundant.to_owned(),
    ]
}

fn names(copies: &[StoreCopyStatus]) -> String {
    let names: Vec<&str> = copies.iter().map(|it| it.node.as_str()).collect();
    names.join(", ")
}

/// A node with its box.
pub(super) fn place(copy: &StoreCopyStatus) -> String {
    if copy.box_name.is_empty() {
        copy.node.clone()
    } else {
        format!("{} (box {})", copy.node, copy.box_name)
    }
}

/// Nodes with their boxes.
pub(super) fn places(copies: &[StoreCopyStatus]) -> String {
    let places: Vec<String> = copies.iter().map(place).collect();
    places.join(", ")
}

/// What is not as it should be with a store, a line each.
fn problems(store: &StoreGroupStatus) -> Vec<String> {
    let name = &store.store;
    if store.waits() {
        let since = since(store.waits_since);
        let waits = format!("store {name} has no primary{since}");
        return vec![match &store.in_sync[..] {
            [] => format!("{waits}: none of its nodes is in"),
            copies => format!("{waits}: it waits for what is on {}", places(copies)),
        }];
    }
    let mut problems = Vec::new();
    let count = store.in_sync.len();
    if !store.redundant {
        let since = since(store.since);
        let next = next(store).map_or_else(String::new, |next| format!("; {next}"));
        problems.push(format!(
            "store {name}: {count} of {} copies in sync{since}{next}",
            store.goal
        ));
    }
    if store.is_below_minimum() {
        problems.push(format!(
            "store {name} acknowledges nothing: it needs {} copies in sync, and has {count}",
            store.min_copies
        ));
    }
    problems
}

/// What comes next, of a store that has too few copies.
fn next(store: &StoreGroupStatus) -> Option<String> {
    if let Some(joining) = &store.joining {
        return Some(format!("{} gets one", joining.node));
    }
    let has_copy = |node: &str| store.in_sync.iter().any(|it| it.node == node);
    let others = store.candidates.iter().filter(|it| !has_copy(&it.node));
    let out = others.filter(|it| it.state == OUT).map(|it| &*it.node);
    let out: Vec<&str> = out.collect();
    (!out.is_empty()).then(|| format!("out: {}", out.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{status, store};
    use super::*;

    #[test]
    fn stores_are_a_table_and_what_is_wrong_stands_below() {
        let mut memory = store("known/hosts", "*data-1@a");
        memory.persistent = false;
        memory.joining = memory.candidates.get(1).cloned();
        memory.since = Some(1_700_000_000);
        let mut waits = store("software/tracked", "data-1@a! data-2@b!");
        waits.since = Some(1_700_000_000);
        waits.waits_since = Some(1_700_000_100);
        let mut alone = store("alone", "*manager@a");
        (alone.copies, alone.goal, alone.redundant) = (1, 1, true);
        let mut short = store("y", "*data-1@a");
        short.min_copies = 2;
        let complete = store("zone", "*data-2@b data-1@a");
        let empty = store("empty", "");
        insta::assert_snapshot!(text(&status(&[
            alone, empty, memory, waits, short, complete
        ])));
    }

    #[test]
    fn where_nothing_is_decided_that_is_said() {
        let none = StoresStatus::default();
        assert_eq!(
            text(&none),
            "stores: nothing is decided about them: one box\n"
        );
        let mut early = status(&[]);
        assert_eq!(text(&early), "stores: none is open, epoch 17\n");
        early.leader = Some("b".to_owned());
        let known = text(&early);
        assert_eq!(known, "stores: none is open, epoch 17 (as box a knows)\n");
        early.epoch = 0;
        assert!(text(&early).starts_with("stores: nothing is decided yet"));
    }
}
