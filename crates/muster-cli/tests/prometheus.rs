//! What is shipped for Prometheus and Grafana names metrics that there are, and does what it says.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use muster_gateway::NodeMetrics;
use serde_json::Value;

const RULES: &str = "prometheus/muster.rules.yml";
const RULE_TESTS: &str = "prometheus/muster.rules.test.yml";
const DASHBOARD: &str = "grafana/muster.json";

fn packaging(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../packaging")
        .join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(packaging(file)).unwrap()
}

/// The metrics that agents have at `/metrics`.
fn known() -> BTreeSet<String> {
    let of_nodes = NodeMetrics::descriptors();
    let of_nodes = of_nodes.iter().map(|described| described.name.to_string());
    let of_agents = muster_agent::agent_metrics();
    let of_agents = of_agents.iter().map(|described| described.name.to_string());
    let frameworks = muster_frameworks::standard().counters();
    let of_frameworks = frameworks
        .iter()
        .map(|described| described.name.to_string());
    of_nodes.chain(of_agents).chain(of_frameworks).collect()
}

/// The words of a text that are names of metrics.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words
        .filter(|word| word.starts_with("muster_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn rules_and_dashboard_name_metrics_that_there_are() {
    let known = known();
    for (file, least) in [(RULES, 8), (RULE_TESTS, 8), (DASHBOARD, 30)] {
        let text = text(file);
        let named = named(&text);
        assert!(named.len() >= least, "{file}: {named:?}");
        for name in named {
            assert!(known.contains(name), "{file} names {name}");
        }
    }
}

#[test]
fn every_rule_has_a_summary_a_command_and_a_test() {
    let (rules, tests) = (text(RULES), text(RULE_TESTS));
    let mut alerts = 0;
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        for key in ["expr:", "severity:", "summary:", "command:"] {
            assert!(rule.contains(key), "{name} has no {key}");
        }
        let mut tested = tests.split("- alertname: ").skip(1);
        let fires =
            tested.any(|test| test.lines().next() == Some(name) && test.contains("exp_alerts:"));
        assert!(fires, "no test has {name} fire");
        alerts += 1;
    }
    assert!(alerts >= 9);
}

#[test]
fn the_dashboard_is_complete() {
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).unwrap();
    let list = |value: &Value, key: &str| -> Vec<String> {
        let items = value.as_array().unwrap().iter();
        items
            .map(|item| item[key].as_str().unwrap().to_owned())
            .collect()
    };
    let variables = list(&dashboard["templating"]["list"], "name");
    assert_eq!(variables, ["datasource", "cluster", "box", "node"]);
    let panels = dashboard["panels"].as_array().unwrap();
    let rows = panels.iter().filter(|panel| panel["type"] == "row");
    let rows: Vec<&str> = rows.map(|row| row["title"].as_str().unwrap()).collect();
    assert_eq!(rows, ["Overview", "Nodes", "Links", "Stores", "Logs"]);
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        if panel["type"] == "row" {
            continue;
        }
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
        for query in list(&panel["targets"], "expr") {
            assert!(query.contains("cluster=~\"$cluster\""), "{query}");
            let open = query.matches(['(', '{', '[']).count();
            assert_eq!(open, query.matches([')', '}', ']']).count(), "{query}");
        }
    }
}

#[test]
fn promtool_takes_the_rules_and_they_fire_as_they_should() {
    for (verb, file) in [("check", RULES), ("test", RULE_TESTS)] {
        let mut command = Command::new("promtool");
        command.args([verb, "rules"]).arg(packaging(file));
        let Ok(output) = command.output() else {
            eprintln!(
                "SKIPPED: the program promtool is not there (Debian's package prometheus has it)"
            );
            return;
        };
        let said = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&said)
        );
    }
}
