//! How pools fill, who owns which key, and what a failure moves.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use muster_cluster::{Key, Layout, NodeName, PoolName, Pools, site_id};
use proptest::prelude::*;

/// The keys that Zeek's own tests divide.
const KEYS: [u64; 8] = [0, 1, 2, 3, 13, 37, 42, 101];

fn layout(rest: &str) -> Layout {
    let text = format!("[[node]]\nname = \"manager\"\nrole = \"manager\"\n{rest}");
    Layout::parse(&text, "x", &[]).unwrap_or_else(|error| panic!("{error}"))
}

fn nodes(role: &str, count: usize) -> String {
    format!("[[node]]\nname = \"{role}\"\nrole = \"{role}\"\ncount = {count}\n")
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn pool(text: &str) -> PoolName {
    PoolName::new(text).unwrap()
}

/// The pools with every node of the layout alive.
fn all_alive(layout: &Layout) -> Pools {
    let mut pools = Pools::new(layout, None);
    for node in layout.nodes() {
        pools.node_up(&node.name);
    }
    pools
}

/// One line per key: its owner in each of the pools.
fn owners(pools: &Pools, names: &[&str]) -> String {
    let mut text = String::new();
    for key in KEYS {
        write!(text, "{key:>3}").unwrap();
        for name in names {
            let owner = pools
                .owner(&pool(name), &Key::from(key))
                .map_or("-", NodeName::as_str);
            write!(text, "  {name}: {owner:8}").unwrap();
        }
        text.push('\n');
    }
    text
}

/// The nodes whose turn it is, eight times.
fn turns(pools: &mut Pools, name: &str) -> String {
    let turns: Vec<_> = (0..8)
        .map(|_| {
            pools
                .next(&pool(name), "test")
                .map_or("-".to_owned(), ToString::to_string)
        })
        .collect();
    turns.join(" ")
}

/// One line per pool: its members in the order of assignment.
fn members(layout: &Layout) -> String {
    let mut text = String::new();
    for (name, view) in Pools::new(layout, None).iter() {
        let members: Vec<_> = view
            .members()
            .iter()
            .map(|member| member.name.as_str())
            .collect();
        writeln!(text, "{name}: {}", members.join(" ")).unwrap();
    }
    text
}

#[test]
fn owners_before_and_after_a_failure() {
    let layout = layout(&nodes("proxy", 3));
    let mut pools = all_alive(&layout);
    let mut text = format!("all alive\n{}\n", owners(&pools, &["proxy"]));
    let changes = pools.node_down(&name("proxy-2"));
    write!(
        text,
        "proxy-2 is down\n{}\nmoved\n",
        owners(&pools, &["proxy"])
    )
    .unwrap();
    for key in KEYS.map(Key::from) {
        let (before, after) = (changes[0].owner_before(&key), changes[0].owner_after(&key));
        if before != after {
            writeln!(
                text,
                "digest {:10}: {} -> {}",
                key.digest(),
                before.unwrap(),
                after.unwrap()
            )
            .unwrap();
        }
    }
    pools.node_up(&name("proxy-2"));
    write!(text, "\nproxy-2 is back\n{}", owners(&pools, &["proxy"])).unwrap();
    insta::assert_snapshot!(text);
}

/// The expectations of Zeek's test `topic_distribution`.
#[test]
fn two_proxies_divide_keys_as_in_zeek() {
    let layout = layout(&nodes("proxy", 2));
    let mut pools = all_alive(&layout);
    let owner = |pools: &Pools| {
        KEYS.map(|key| {
            pools
                .owner(&pool("proxy"), &Key::from(key))
                .map(ToString::to_string)
        })
    };
    let expected = [2, 1, 2, 2, 1, 1, 1, 1].map(|number| Some(format!("proxy-{number}")));
    assert_eq!(owner(&pools), expected);
    assert_eq!(
        turns(&mut pools, "proxy"),
        "proxy-1 proxy-2 proxy-1 proxy-2 proxy-1 proxy-2 proxy-1 proxy-2"
    );
    pools.node_down(&name("proxy-1"));
    assert_eq!(owner(&pools), [(); 8].map(|()| Some("proxy-2".to_owned())));
    assert_eq!(turns(&mut pools, "proxy"), ["proxy-2"; 8].join(" "));
    pools.node_down(&name("proxy-2"));
    assert_eq!(owner(&pools), [const { None }; 8]);
    assert_eq!(turns(&mut pools, "proxy"), ["-"; 8].join(" "));
}

/// The expectations of Zeek's test `custom_pool_limits`: the built-in pool takes one of two, the
/// custom pool both. (Zeek's custom pool there sorts before the built-in one, as here.)
#[test]
fn a_limited_pool_shares_its_nodes() {
    let layout = layout(&format!(
        "[pool.proxy]\nmax_nodes = 1\n[pool.my_pool]\n{}",
        nodes("proxy", 2)
    ));
    let mut pools = all_alive(&layout);
    let mut text = owners(&pools, &["proxy", "my_pool"]);
    for name in ["proxy", "my_pool"] {
        writeln!(text, "{name}: {}", turns(&mut pools, name)).unwrap();
    }
    insta::assert_snapshot!(text);
}

/// The expectations of Zeek's test `custom_pool_exclusivity`.
#[test]
fn an_exclusive_pool_keeps_its_nodes() {
    let layout = layout(&format!(
        "[pool.proxy]\nmax_nodes = 1\nexclusive = true\n[pool.my_pool]\n{}",
        nodes("proxy", 2)
    ));
    assert_eq!(
        members(&layout),
        "logger: manager\nmanager: manager\nmy_pool: proxy-2\nproxy: proxy-1\nworker: \n"
    );
}

#[test]
fn how_pools_fill() {
    let exclusive =
        "[pool.a]\nmax_nodes = 2\nexclusive = true\n[pool.z]\nmax_nodes = 1\nexclusive = true\n";
    let limited = "[pool.a]\nmax_nodes = 2\n[pool.b]\nmax_nodes = 2\n[pool.c]\nmax_nodes = 2\n";
    let named = "[pool.scan]\n[pool.dns]\nmax_nodes = 1\nexclusive = true\n\
                 [[node]]\nname = \"big\"\nrole = \"proxy\"\ncount = 2\npools = [\"scan\", \"dns\"]\n";
    let overlapping = "[pool.a]\n[pool.b]\ntype = \"worker\"\nmax_nodes = 3\n";
    let mut text = String::new();
    for (title, case) in [
        (
            "exclusive pools take first",
            format!("{exclusive}{}", nodes("proxy", 5)),
        ),
        (
            "limited pools go round",
            format!("{limited}{}", nodes("proxy", 5)),
        ),
        (
            "named members only",
            format!("{named}{}", nodes("proxy", 3)),
        ),
        (
            "overlapping",
            format!("{overlapping}{}{}", nodes("proxy", 2), nodes("worker", 11)),
        ),
        ("loggers, and no manager among them", nodes("logger", 2)),
    ] {
        writeln!(text, "{title}\n{}", members(&layout(&case))).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_node_counts_itself_from_the_start_and_for_good() {
    let layout = layout(&nodes("proxy", 2));
    let me = name("proxy-2");
    let mut pools = Pools::new(&layout, Some(&me));
    assert_eq!(pools.owner(&pool("proxy"), &Key::from(1_u64)), Some(&me));
    assert!(pools.node_up(&me).is_empty());
    assert!(pools.node_down(&me).is_empty());
    assert_eq!(pools.node_up(&name("proxy-1")).len(), 1);
    assert_eq!(
        pools.owner(&pool("proxy"), &Key::from(1_u64)),
        Some(&name("proxy-1"))
    );
    assert_eq!(pools.owner(&pool("proxy"), &Key::from(2_u64)), Some(&me));
}

#[test]
fn a_change_is_told_once_and_by_pool() {
    let layout = layout(&format!("[pool.a]\n{}", nodes("proxy", 2)));
    let mut pools = Pools::new(&layout, None);
    let told: Vec<_> = pools
        .node_up(&name("proxy-1"))
        .iter()
        .map(|change| (change.pool.to_string(), change.up))
        .collect();
    assert_eq!(told, [("a".to_owned(), true), ("proxy".to_owned(), true)]);
    assert!(pools.node_up(&name("proxy-1")).is_empty());
    assert!(pools.node_down(&name("proxy-2")).is_empty());
    assert!(pools.node_up(&name("nobody")).is_empty());
    assert_eq!(pools.owner(&pool("no-such"), &Key::from(1_u64)), None);
    assert_eq!(pools.next(&pool("no-such"), ""), None);
}

#[test]
fn each_purpose_has_its_own_turn() {
    let layout = layout(&nodes("logger", 3));
    let mut pools = all_alive(&layout);
    let logger = PoolName::logger();
    assert_eq!(pools.next(&logger, "logs"), Some(&name("logger-1")));
    assert_eq!(pools.next(&logger, "other"), Some(&name("logger-1")));
    pools.node_down(&name("logger-2"));
    assert_eq!(pools.next(&logger, "logs"), Some(&name("logger-3")));
    assert_eq!(pools.next(&logger, "logs"), Some(&name("logger-1")));
}

/// Site ids are 32 bits of a hash; two names that share one get numbers that keep them apart.
#[test]
fn members_with_the_same_hash_are_kept_apart() {
    let (first, second) = ("proxy-835102", "proxy-98419");
    assert_eq!(site_id(first, 0), site_id(second, 0));
    let node = |name: &str| format!("[[node]]\nname = \"{name}\"\nrole = \"proxy\"\n");
    let layout = layout(&format!("{}{}", node(second), node(first)));
    let pools = Pools::new(&layout, None);
    let members = pools.view(&PoolName::proxy()).unwrap().members();
    let sites: Vec<_> = members
        .iter()
        .map(|member| (member.name.as_str(), member.site))
        .collect();
    assert_eq!(
        sites,
        [(first, site_id(first, 0)), (second, site_id(second, 1))]
    );
}

proptest! {
    #[test]
    fn a_failure_moves_the_keys_of_the_dead_node_only(
        count in 2..40_usize,
        dead in 0..40_usize,
        keys in prop::collection::vec(any::<u64>(), 1..200),
    ) {
        let layout = layout(&nodes("proxy", count));
        let mut pools = all_alive(&layout);
        let dead = name(&format!("proxy-{}", dead % count + 1));
        let changes = pools.node_down(&dead);
        prop_assert_eq!(changes.len(), 1);
        for key in keys.into_iter().map(Key::from) {
            let before = changes[0].owner_before(&key);
            let after = changes[0].owner_after(&key);
            prop_assert_ne!(after, Some(&dead));
            prop_assert!(after.is_some());
            prop_assert!(before == after || before == Some(&dead));
            prop_assert_eq!(after, pools.owner(&PoolName::proxy(), &key));
        }
    }
}
