//! `docs/metrics.md` says of every metric what its descriptor says.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use muster_gateway::NodeMetrics;
use muster_wire::counters::Descriptor;

/// With this variable in the environment the document is written anew.
const RENEW: &str = "RENEW_DOCUMENTS";

/// What stands before the tables.
const HEAD: &str = "\
# Metrics

A node serves its metrics as `/metrics` on its monitor's address (`monitor.listen`; by default on loopback, 1,000 above the node's
port): in Prometheus's text format 0.0.4, or as OpenMetrics if the header `Accept` asks for that. `muster status --format json` and
`/status` have the same numbers; *key* is the name below `counts` there.

The agent of a box serves those of all its nodes and its own as one target ([guide](guide/agent.md#prometheus)), each with the labels
`cluster`, `box`, `node` and `role`; what is the agent's own has the role `agent` and no node.

Every number is described once, beside the code that counts it, and this page is made from these descriptions. Do not edit it: change
the description and run

    RENEW_DOCUMENTS=1 cargo test -p muster-cli --test metrics_document

Labels have few values: topics stand without the names and ids of nodes, names from the network beyond the first 64 are `other`, and
so are peers that are no nodes.
";

/// What stands before the table of the agents.
const AGENTS: &str = "
## Of agents

With the labels of a node these are about the node, or its process, as its agent sees it.
";

/// What stands before the table of the frameworks.
const FRAMEWORKS: &str = "
## Of frameworks

`muster status` shows them as `FRAMEWORK.NAME`. Every framework that raises notices has `muster_FRAMEWORK_notices_raised_total` as well:
";

fn document() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("\n## Of nodes\n");
    let of_nodes = NodeMetrics::descriptors().into_iter().cloned();
    table(of_nodes, &mut text);
    let raised = muster_frameworks::Notice::RAISED.help;
    text.push_str(FRAMEWORKS.trim_end());
    let mut letters = raised.chars();
    let first = letters.next().unwrap().to_ascii_lowercase();
    writeln!(text, "\n{first}{}", letters.as_str()).unwrap();
    table(muster_frameworks::standard().counters(), &mut text);
    text.push_str(AGENTS);
    table(
        muster_agent::agent_metrics().into_iter().cloned(),
        &mut text,
    );
    text
}

fn table(descriptors: impl IntoIterator<Item = Descriptor>, text: &mut String) {
    let mut families: BTreeMap<String, Vec<Descriptor>> = BTreeMap::new();
    for descriptor in descriptors {
        let family = families.entry(descriptor.name.to_string()).or_default();
        family.push(descriptor);
    }
    text.push_str("\n| name | type | labels | key | meaning |\n| --- | --- | --- | --- | --- |\n");
    for (name, family) in families {
        let first = &family[0];
        let labels = labels(&family);
        let keys = family.iter().filter(|counter| !counter.key.is_empty());
        let keys: Vec<String> = keys.map(|counter| format!("`{}`", counter.key)).collect();
        let (kind, keys) = (first.kind.name(), keys.join(", "));
        let help = first.help.replace('|', "\\|");
        writeln!(text, "| `{name}` | {kind} | {labels} | {keys} | {help} |").unwrap();
    }
}

/// The labels of a metric, the fixed ones with their values.
fn labels(family: &[Descriptor]) -> String {
    let mut fixed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in family.iter().flat_map(|counter| counter.fixed) {
        fixed.entry(name).or_default().push(value);
    }
    let fixed = fixed.into_iter();
    let fixed = fixed.map(|(name, values)| format!("`{name}`: {}", values.join(", ")));
    let others = family[0].labels.iter().map(|name| format!("`{name}`"));
    fixed.chain(others).collect::<Vec<_>>().join("; ")
}

#[test]
fn the_document_says_what_the_descriptions_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let expected = document();
    if std::env::var_os(RENEW).is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    if found == expected {
        return;
    }
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("metrics.md");
    std::fs::write(&copy, &expected).unwrap();
    panic!(
        "docs/metrics.md is not what {} is; {RENEW}=1 in the environment of this test writes it anew",
        copy.display()
    );
}

#[test]
fn metrics_of_frameworks_and_nodes_have_different_names() {
    let frameworks = muster_frameworks::standard().counters();
    assert!(frameworks.len() > 20);
    for of_node in NodeMetrics::descriptors() {
        let twin = frameworks
            .iter()
            .find(|counter| counter.name == of_node.name);
        assert_eq!(twin, None);
    }
    for counter in &frameworks {
        assert!(counter.help.ends_with('.'), "{}", counter.name);
    }
}
