//! Layouts that are wrong: what each kind of mistake is reported as.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use muster_cluster::{LARGEST_FILE, Layout, LayoutProblemKind, SettingSpec};

const SPECS: &[SettingSpec] =
    &[SettingSpec::count("scan.threshold", 25, "distinct targets that make a scan").positive()];

const MANAGER: &str = "[[node]]\nname = \"manager\"\nrole = \"manager\"\n";

/// The file with its line numbers, then the report.
fn report(cases: &[&str]) -> String {
    let mut text = String::new();
    for case in cases {
        for (index, line) in case.lines().enumerate() {
            writeln!(text, "{:3} | {line}", index + 1).unwrap();
        }
        match Layout::parse(case, "muster.toml", SPECS) {
            Ok(_) => writeln!(text, "no problem").unwrap(),
            Err(error) => writeln!(text, "{error}").unwrap(),
        }
        text.push('\n');
    }
    text
}

/// A manager, followed by this.
fn with_manager(rest: &str) -> String {
    format!("{MANAGER}{rest}")
}

fn report_with_manager(cases: &[&str]) -> String {
    let cases: Vec<_> = cases.iter().map(|case| with_manager(case)).collect();
    report(&cases.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn syntax() {
    insta::assert_snapshot!(report(&[
        "",
        "layout = ",
        "layout = 1\n[[node]\nname = \"x\"\n",
        "a = 1\na = 2\n"
    ]));
}

#[test]
fn schema_and_top_level() {
    insta::assert_snapshot!(
        report_with_manager(&[""])
            + &report(&[
                &format!("layout = 2\n{MANAGER}"),
                &format!("prefix = \"zeek/cluster/\"\ndirectory = \"\"\n{MANAGER}"),
                &format!("prefix = \"zeek/logs/cluster\"\n{MANAGER}"),
                &format!("direktory = \"x\"\ncolour = \"red\"\nscan = 5\n{MANAGER}"),
            ])
    );
}

#[test]
fn links_with_settings() {
    insta::assert_snapshot!(report_with_manager(&[
        "[link]\noverflow = \"block\"\n",
        "[[link]]\nfrom = \"manger\"\nto = \"elsewhere\"\noverflow = \"block\"\n",
        "[[link]]\nto = \"manager\"\n",
        "[[link]]\nbetween = [\"manager\"]\nto = \"worker\"\nbulk_queue = 0\noverflov = \"wait\"\nretry = 3\n",
        "[[link]]\nbetween = [\"manager\", \"127.0.0.1\"]\ninteractive_overflow = \"wait\"\n",
        "[[link]]\nbetween = [\"manager\", \"127.0.0.1\"]\ninteractive_overflow = \"block\"\n",
    ]));
}

#[test]
fn coordinators() {
    let boxes = "[box.a]\naddress = \"10.0.0.1\"\n[box.b]\naddress = \"10.0.0.2\"\n[box.c]\naddress = \"nowhere\"\n";
    let with_boxes = |rest: &str| format!("{boxes}[coordination]\n{rest}");
    insta::assert_snapshot!(report_with_manager(&[
        &with_boxes("count = 2\n"),
        &with_boxes("count = 7\nvoters = \"a\"\n"),
        &with_boxes("voters = [\"a\", \"b\"]\n"),
        &with_boxes("voters = [\"a\", \"b\", \"a\"]\n"),
        &with_boxes("voters = [\"a\", \"c\", \"d\"]\n"),
        "[coordination]\nvoters = [\"east\"]\n",
        "[[node]]\nname = \"w\"\nrole = \"worker\"\ncount = 2\noptions = { \"coordination.count\" = 1 }\n",
    ]));
}

#[test]
fn keys_and_types() {
    insta::assert_snapshot!(
        report_with_manager(&[
            "adress = \"192.0.2.1\"\nnodes = 3\n",
            "port = \"17760\"\ntransit = \"yes\"\npools = \"scan\"\n",
            "port = 65536\n",
            "port = 0\n",
            "address = \"localhost\"\n",
            "address = \"0.0.0.0\"\n",
            "[node]\nx = 1\n",
            "[box.east]\n[box.west]\nadress = \"192.0.2.1\"\n",
        ]) + &report(&[
            "node = 3\nbox = 4\npool = [1]\n",
            "node = [1]\n",
            "box.x = 1\n"
        ])
    );
}

#[test]
fn roles_names_and_counts() {
    insta::assert_snapshot!(report_with_manager(&[
        "[[node]]\n",
        "[[node]]\nname = \"c\"\nrole = \"control\"\n",
        "[[node]]\nname = \"w\"\nrole = \"wroker\"\n",
        "[[node]]\nname = \"a/b\"\nrole = \"worker\"\n",
        "[[node]]\nname = \"w\"\nrole = \"worker\"\ncount = 0\n",
        "[[node]]\nname = \"w\"\nrole = \"worker\"\ncount = 1025\n",
        "[[node]]\nname = \"w\"\nrole = \"worker\"\ncount = 3\nport = 65534\n",
        "[[node]]\nname = \"p\"\nrole = \"proxy\"\ninput = [\"conn.log\"]\n",
    ]));
}

#[test]
fn managers() {
    insta::assert_snapshot!(report(&[
        "[[node]]\nname = \"w\"\nrole = \"worker\"\n",
        &with_manager("[[node]]\nname = \"other\"\nrole = \"manager\"\n"),
    ]));
}

#[test]
fn duplicates() {
    insta::assert_snapshot!(report_with_manager(&[
        "[[node]]\nname = \"manager\"\nrole = \"worker\"\n",
        "[[node]]\nname = \"Manager\"\nrole = \"worker\"\n",
        "[[node]]\nname = \"w\"\nrole = \"worker\"\ncount = 2\n[[node]]\nname = \"w-2\"\nrole = \"worker\"\n",
        "[[node]]\nname = \"a\"\nrole = \"worker\"\nport = 5000\n[[node]]\nname = \"b\"\nrole = \"worker\"\nport = 5000\n",
        "[box.one]\naddress = \"::ffff:127.0.0.1\"\n[[node]]\nname = \"a\"\nrole = \"worker\"\nport = 5000\n\
         [[node]]\nname = \"b\"\nrole = \"worker\"\nbox = \"one\"\nport = 5000\n",
    ]));
}

#[test]
fn boxes_and_pools_that_do_not_exist() {
    insta::assert_snapshot!(report_with_manager(&[
        "[box.east]\naddress = \"192.0.2.1\"\n[[node]]\nname = \"w\"\nrole = \"worker\"\nbox = \"esat\"\n",
        "[pool.scan]\ntype = \"worker\"\n[[node]]\nname = \"w\"\nrole = \"worker\"\ncount = 3\npools = [\"scna\", \"dns\"]\n",
        "[[node]]\nname = \"w\"\nrole = \"worker\"\npools = [\"worker\"]\n",
        "[pool.scan]\n[[node]]\nname = \"p\"\nrole = \"proxy\"\n[[node]]\nname = \"w\"\nrole = \"worker\"\npools = [\"scan\"]\n",
    ]));
}

#[test]
fn pools_that_cannot_be_filled() {
    let proxies = "[[node]]\nname = \"p\"\nrole = \"proxy\"\ncount = 2\n";
    insta::assert_snapshot!(report_with_manager(&[
        &format!("[pool.scan]\nexclusive = true\n{proxies}"),
        &format!("[pool.scan]\nmax_nodes = 0\n{proxies}"),
        &format!("[pool.scan]\ntype = \"manager\"\n{proxies}"),
        &format!("[pool.proxy]\ntype = \"worker\"\n{proxies}"),
        &format!(
            "[pool.scan]\nexclusive = true\nmax_nodes = 2\n[pool.dns]\nexclusive = true\nmax_nodes = 1\n{proxies}"
        ),
        &format!("[pool.scan]\nexclusive = true\nmax_nodes = 2\n[pool.dns]\n{proxies}"),
        "[pool.scan]\ntype = \"worker\"\n",
        &format!(
            "[pool.scan]\nexclusive = true\nmax_nodes = 2\n{proxies}[[node]]\nname = \"q\"\nrole = \"proxy\"\npools = [\"scan\"]\n"
        ),
    ]));
}

#[test]
fn topics_that_start_with_anothers() {
    insta::assert_snapshot!(report_with_manager(&[
        "[pool.proxy-scan]\n[[node]]\nname = \"p\"\nrole = \"proxy\"\n",
        "[pool.my-proxy]\n[[node]]\nname = \"p\"\nrole = \"proxy\"\n[[node]]\nname = \"pp\"\nrole = \"proxy\"\n",
    ]));
}

#[test]
fn settings() {
    insta::assert_snapshot!(report_with_manager(&[
        "options = { scan.treshold = 1 }\n",
        "options = 3\n",
        "[scan]\nthreshold = \"many\"\n[peering]\noverflow = \"wait\"\nretry = \"soon\"\ndata_queue = -1\n",
        "[scan]\nthreshold = 0\nwindow = 5\n[scanner]\nx = 1\n[colours.of]\nx = 1\n",
    ]));
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_their_lines() {
    insta::assert_snapshot!(report(&[r#"layout = 3
color = "red"

[[node]]
name = "w"
role = "worker"
adress = "192.0.2.1"
port = 99999

[[node]]
name = "w"
role = "data"
box = "east"

[pool.scan]
exclusive = true
"#]));
}

#[test]
fn sizes() {
    let kinds = |text: &str| {
        let error = Layout::parse(text, "x", SPECS).unwrap_err();
        error
            .problems()
            .iter()
            .map(|problem| problem.kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        kinds(&"#".repeat(LARGEST_FILE + 1)),
        [LayoutProblemKind::TooLarge]
    );
    let mut many = MANAGER.to_owned();
    for index in 0..5 {
        write!(
            many,
            "[[node]]\nname = \"w{index}\"\nrole = \"worker\"\ncount = 1000\n"
        )
        .unwrap();
    }
    assert_eq!(kinds(&many), [LayoutProblemKind::TooLarge]);
    let mut pools = MANAGER.to_owned();
    for index in 0..300 {
        writeln!(pools, "[pool.p{index}]").unwrap();
    }
    assert!(kinds(&pools).contains(&LayoutProblemKind::TooLarge));
}

#[test]
fn stores() {
    insta::assert_snapshot!(report_with_manager(&[
        "[stores]\ndefault_master_node = \"manger\"\n",
        "[store.\"software/tracked\"]\nmaster = \"data-1\"\nbackend = \"redis\"\n",
        "[store.\"/a\"]\n[store.\"b\"]\nsynchronous = \"sometimes\"\njournal_mode = \"wal\"\npth = \"x\"\n",
        "[store.a]\npath = \"x.sqlite\"\n[store.b]\npath = \"x.sqlite\"\nintegrity_check = 1\n",
        "[store]\nbackend = \"sqlite\"\n",
        "[stores]\ncopies = 9\nmin_copies = 0\n[store.a]\ncopies = 9\n[store.b]\nmin_copies = 9\n",
        "[stores]\ncopies = 2\nmin_copies = 3\n",
        "[stores]\ncopies = 2\n[store.a]\ncopies = 1\nmin_copies = 2\n[store.b]\nmin_copies = 3\n[store.c]\ncopies = 0\nmin_copies = 3\n",
    ]));
}
