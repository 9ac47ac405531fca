//! The account of a run: what every node sent, and what became of it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use muster_gateway::status::{NodeStatus, VERSION};
use serde::{Deserialize, Serialize};

use super::status::causes;

/// A life of a node with the last that it reported.
#[derive(Debug, Clone)]
pub(crate) struct LifeReport {
    pub(crate) node: String,
    pub(crate) role: String,
    pub(crate) report: NodeStatus,
}

/// The account of one node over all its lives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeAccount {
    pub(crate) node: String,
    pub(crate) role: String,
    pub(crate) lives: u64,
    /// Messages received from peers.
    pub(crate) events_in: u64,
    /// Messages for peers, one for each peer that it was for.
    pub(crate) events_out: u64,
    /// Of those: received by the peer.
    pub(crate) delivered: u64,
    /// Of those: dropped, by cause.
    pub(crate) dropped: BTreeMap<String, u64>,
    /// Of those: handed to a peer that died before it reported, or lost with a connection.
    pub(crate) unknown: u64,
    /// The same, by the node that they were for.
    #[serde(default)]
    pub(crate) unknown_with: BTreeMap<String, u64>,
    /// Of the messages received: dropped because the node's handlers did not keep up. They were
    /// delivered, so they are no part of what became of the messages of others.
    pub(crate) inbox_dropped: u64,
    /// Messages and values refused as malformed.
    pub(crate) refused: u64,
    pub(crate) notices: u64,
    /// Log records written on the node, to be sent to a logger.
    pub(crate) records_logged: u64,
    /// Log records that the node, a logger, reported as written.
    pub(crate) records_written: u64,
    pub(crate) panics: u64,
}

/// The account of all log records: `logged` is the sum of `acknowledged`, `unacknowledged`, `open` and `dropped`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordAccount {
    /// Written by frameworks.
    pub(crate) logged: u64,
    /// Acknowledged by a logger: safe on its disk.
    #[serde(default)]
    pub(crate) acknowledged: u64,
    /// Given to a logger that acknowledges nothing.
    #[serde(default)]
    pub(crate) unacknowledged: u64,
    /// Neither acknowledged nor dropped when their node ended: they may be in the files.
    #[serde(default)]
    pub(crate) open: u64,
    /// Dropped, and counted as such.
    pub(crate) dropped: u64,
    /// Counted in the files.
    pub(crate) in_files: u64,
    /// Acknowledged, and not in the files: there should be none.
    #[serde(default)]
    pub(crate) missing: u64,
    /// In the files, by stream.
    pub(crate) by_stream: BTreeMap<String, u64>,
}

impl RecordAccount {
    /// Settles what lives have reported with what is in the files.
    fn settle(lives: &[LifeReport], by_stream: BTreeMap<String, u64>) -> Self {
        let sum = |keys: &[&str]| -> u64 {
            let lives = lives.iter();
            let counts = lives.flat_map(|life| keys.iter().map(|key| life.report.count(key)));
            counts.sum()
        };
        let acknowledged = sum(&["records_acknowledged"]);
        let unacknowledged = sum(&["records_unacknowledged"]);
        let dropped = sum(&[
            "records_dropped",
            "records_invalid",
            "records_unsettled",
            "records_spoilt",
        ]);
        let in_files: u64 = by_stream.values().sum();
        // A life that died may have logged more than it reported: its records are in the files.
        let settled = acknowledged + unacknowledged + dropped;
        let logged = sum(&["records_logged"]).max(settled).max(in_files);
        Self {
            logged,
            acknowledged,
            unacknowledged,
            open: logged - settled,
            dropped,
            in_files,
            missing: acknowledged.saturating_sub(in_files),
            by_stream,
        }
    }
}

/// The account of a whole run: version 1 of the schema.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) version: u32,
    /// Where logs and files are.
    pub(crate) directory: String,
    pub(crate) seconds: f64,
    pub(crate) nodes: Vec<NodeAccount>,
    /// The sum over the nodes.
    pub(crate) total: NodeAccount,
    pub(crate) records: RecordAccount,
    /// The notices in the files, in words.
    pub(crate) notices: Vec<String>,
}

impl Account {
    /// Settles the reports of all lives, with what was counted in the files.
    pub(crate) fn settle(lives: &[LifeReport], by_stream: BTreeMap<String, u64>) -> Self {
        let by_id: HashMap<&str, &LifeReport> = lives
            .iter()
            .map(|life| (life.report.id.as_str(), life))
            .collect();
        let mut nodes: Vec<NodeAccount> = Vec::new();
        for life in lives {
            let at = nodes
                .iter()
                .position(|account| account.node == life.node)
                .unwrap_or_else(|| {
                    let (node, role) = (life.node.clone(), life.role.clone());
                    nodes.push(NodeAccount {
                        node,
                        role,
                        ..NodeAccount::default()
                    });
                    nodes.len() - 1
                });
            nodes[at].add(&settle_life(life, &by_id));
        }
        let mut total = NodeAccount {
            node: "all".to_owned(),
            ..NodeAccount::default()
        };
        for account in &nodes {
            total.add(account);
        }
        let records = RecordAccount::settle(lives, by_stream);
        Self {
            version: VERSION,
            nodes,
            total,
            records,
            ..Self::default()
        }
    }

    /// The account as tables.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{:<10} {:>5} {:>10} {:>10} {:>10} {:>8} {:>8} {:>7} {:>8} {:>7} {:>7}  {}\n",
            "node",
            "lives",
            "events in",
            "events out",
            "delivered",
            "dropped",
            "unknown",
            "inbox",
            "notices",
            "logged",
            "written",
            "dropped because"
        );
        for account in self.nodes.iter().chain([&self.total]) {
            let dropped: u64 = account.dropped.values().sum();
            let _ = writeln!(
                text,
                "{:<10} {:>5} {:>10} {:>10} {:>10} {:>8} {:>8} {:>7} {:>8} {:>7} {:>7}  {}",
                account.node,
                account.lives,
                account.events_in,
                account.events_out,
                account.delivered,
                dropped,
                account.unknown,
                account.inbox_dropped,
                account.notices,
                account.records_logged,
                account.records_written,
                causes(&account.dropped),
            );
        }
        let records = &self.records;
        let _ = writeln!(
            text,
            "\nlog records: {} logged = {} acknowledged + {} open + {} dropped",
            records.logged,
            records.acknowledged,
            records.open + records.unacknowledged,
            records.dropped
        );
        let _ = writeln!(
            text,
            "in the files: {} records, {} acknowledged ones are missing",
            records.in_files, records.missing
        );
        let streams: Vec<String> = records
            .by_stream
            .iter()
            .map(|(stream, rows)| format!("{stream} {rows}"))
            .collect();
        let _ = writeln!(text, "by stream: {}", streams.join(", "));
        text
    }
}

/// The account of one life. What a peer received is known from the peer; where one of the two died
/// before its last report, the difference is unknown.
fn settle_life(life: &LifeReport, by_id: &HashMap<&str, &LifeReport>) -> NodeAccount {
    let report = &life.report;
    let mut account = NodeAccount {
        lives: 1,
        events_in: report.peers.iter().map(|peer| peer.messages_in).sum(),
        inbox_dropped: report.inbox.dropped.values().sum(),
        refused: report.count("events_refused")
            + report.peers.iter().map(|peer| peer.refused_in).sum::<u64>(),
        notices: report.of_frameworks("notices"),
        records_logged: report.count("records_logged"),
        records_written: report.count("records_written"),
        panics: report.count("panics"),
        ..NodeAccount::default()
    };
    let unrouted: u64 = report.unrouted.values().sum();
    if unrouted > 0 {
        account.events_out += unrouted;
        account.dropped.insert("no_subscriber".to_owned(), unrouted);
    }
    for peer in exchanges(report).into_values() {
        for (cause, messages) in &peer.dropped {
            *account.dropped.entry(cause.clone()).or_default() += messages;
        }
        let dropped: u64 = peer.dropped.values().sum();
        let other = by_id.get(peer.id);
        let received = match (other, peer.node) {
            (Some(other), _) => {
                let from_here = other
                    .report
                    .peers
                    .iter()
                    .filter(|back| back.id == report.id);
                from_here.map(|back| back.messages_in).sum()
            }
            // It said hello and died before its first report.
            (None, Some(_)) => 0,
            // A peer that is no node, as `muster subscribe`, tells nothing.
            (None, None) => peer.handed,
        };
        let handed = peer.handed.max(received);
        account.events_out += handed + dropped;
        account.delivered += received;
        account.unknown += handed - received;
        if handed > received {
            let name = other.map(|other| other.node.as_str()).or(peer.node);
            *account
                .unknown_with
                .entry(name.unwrap_or("-").to_owned())
                .or_default() += handed - received;
        }
    }
    account
}

/// What one life sent to another, over all their peerings: two lives that lost their connection have
/// peered again.
#[derive(Debug, Default)]
struct Exchange<'a> {
    id: &'a str,
    node: Option<&'a str>,
    handed: u64,
    dropped: BTreeMap<String, u64>,
}

fn exchanges(report: &NodeStatus) -> BTreeMap<&str, Exchange<'_>> {
    let mut exchanges: BTreeMap<&str, Exchange<'_>> = BTreeMap::new();
    for peer in &report.peers {
        let exchange = exchanges.entry(&peer.id).or_default();
        exchange.id = &peer.id;
        exchange.node = exchange.node.or(peer.node.as_deref());
        exchange.handed += peer.messages_out + peer.queue.messages as u64;
        for (cause, messages) in &peer.queue.dropped {
            *exchange.dropped.entry(cause.clone()).or_default() += messages;
        }
    }
    exchanges
}

impl NodeAccount {
    fn add(&mut self, other: &Self) {
        self.lives += other.lives;
        self.events_in += other.events_in;
        self.events_out += other.events_out;
        self.delivered += other.delivered;
        for (cause, messages) in &other.dropped {
            *self.dropped.entry(cause.clone()).or_default() += messages;
        }
        self.unknown += other.unknown;
        for (node, messages) in &other.unknown_with {
            *self.unknown_with.entry(node.clone()).or_default() += messages;
        }
        self.inbox_dropped += other.inbox_dropped;
        self.refused += other.refused;
        self.notices += other.notices;
        self.records_logged += other.records_logged;
        self.records_written += other.records_written;
        self.panics += other.panics;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_gateway::status::{PeerStatus, QueueStatus};

    fn life(node: &str, id: &str, peers: &[(&str, u64, u64)], logged: u64) -> LifeReport {
        let peers = peers
            .iter()
            .map(|(id, messages_out, messages_in)| PeerStatus {
                id: (*id).to_owned(),
                messages_out: *messages_out,
                messages_in: *messages_in,
                ..PeerStatus::default()
            });
        let report = NodeStatus {
            id: id.to_owned(),
            peers: peers.collect(),
            counts: [("records_logged".to_owned(), logged)].into(),
            ..NodeStatus::default()
        };
        LifeReport {
            node: node.to_owned(),
            role: "worker".to_owned(),
            report,
        }
    }

    #[test]
    fn what_two_orderly_lives_exchange_is_delivered() {
        let lives = [
            life("a", "A", &[("B", 10, 3)], 0),
            life("b", "B", &[("A", 3, 10)], 0),
        ];
        let account = Account::settle(&lives, BTreeMap::new());
        let total = &account.total;
        assert_eq!(
            (total.events_out, total.delivered, total.unknown),
            (13, 13, 0)
        );
    }

    #[test]
    fn what_was_handed_to_a_life_that_died_is_unknown() {
        let lives = [
            life("a", "A", &[("B1", 10, 6), ("B2", 5, 0)], 0),
            // The first life died after it had reported 4 of the 10 received, and 5 sent of 6.
            life("b", "B1", &[("A", 5, 4)], 0),
            life("b", "B2", &[("A", 0, 5)], 0),
        ];
        let account = Account::settle(&lives, BTreeMap::new());
        let of = |name: &str| {
            account
                .nodes
                .iter()
                .find(|node| node.node == name)
                .unwrap()
                .clone()
        };
        assert_eq!(
            (of("a").events_out, of("a").delivered, of("a").unknown),
            (15, 9, 6)
        );
        assert_eq!(
            (
                of("b").events_out,
                of("b").delivered,
                of("b").unknown,
                of("b").lives
            ),
            (6, 6, 0, 2)
        );
    }

    #[test]
    fn drops_are_part_of_what_was_sent() {
        let mut sender = life("a", "A", &[("B", 10, 0)], 0);
        sender.report.peers[0].queue = QueueStatus {
            messages: 0,
            dropped: [("drop_oldest".to_owned(), 7)].into(),
        };
        let lives = [sender, life("b", "B", &[("A", 0, 10)], 0)];
        let account = Account::settle(&lives, BTreeMap::new());
        let dropped: u64 = account.total.dropped.values().sum();
        assert_eq!(
            (account.total.events_out, account.total.delivered, dropped),
            (17, 10, 7)
        );
    }

    #[test]
    fn several_peerings_of_the_same_two_lives_are_summed() {
        let lives = [
            life("a", "A", &[("B", 10, 3), ("B", 4, 2), ("B", 1, 0)], 0),
            life("b", "B", &[("A", 0, 1), ("A", 3, 9), ("A", 2, 4)], 0),
        ];
        let account = Account::settle(&lives, BTreeMap::new());
        let sums = |account: &NodeAccount| {
            (
                account.events_in,
                account.events_out,
                account.delivered,
                account.unknown,
            )
        };
        assert_eq!(sums(&account.nodes[0]), (5, 15, 14, 1));
        assert_eq!(sums(&account.nodes[1]), (14, 5, 5, 0));
        assert_eq!(account.nodes[0].unknown_with, [("b".to_owned(), 1)].into());
    }

    #[test]
    fn what_the_inbox_of_the_receiver_dropped_was_delivered() {
        let mut receiver = life("b", "B", &[("A", 0, 10)], 0);
        receiver.report.inbox.dropped = [("drop_oldest".to_owned(), 4)].into();
        let lives = [life("a", "A", &[("B", 10, 0)], 0), receiver];
        let account = Account::settle(&lives, BTreeMap::new());
        let total = &account.total;
        assert_eq!((total.events_out, total.delivered), (10, 10));
        assert_eq!((total.dropped.len(), total.inbox_dropped), (0, 4));
        let text = account.text();
        let cells = |line: usize| -> Vec<&str> {
            let line = text.lines().nth(line).unwrap();
            line.split_whitespace().collect()
        };
        // The columns before it have two names of two words.
        assert_eq!(cells(0)[9], "inbox");
        assert_eq!(cells(2)[5..8], ["0", "0", "4"]);
    }

    #[test]
    fn a_life_that_died_before_it_reported_received_nothing_that_is_known() {
        let mut sender = life("a", "A", &[("B", 10, 0), ("X", 5, 0)], 0);
        sender.report.peers[0].node = Some("b".to_owned());
        let account = Account::settle(&[sender], BTreeMap::new());
        let total = &account.total;
        // The other is no node: it tells nothing, and is taken to have received everything.
        assert_eq!(
            (total.events_out, total.delivered, total.unknown),
            (15, 5, 10)
        );
    }

    #[test]
    fn records_are_counted_in_the_files() {
        let mut life = life("a", "A", &[], 10);
        life.report
            .counts
            .insert("records_acknowledged".to_owned(), 6);
        life.report.counts.insert("records_dropped".to_owned(), 1);
        let settle = |rows: u64| {
            let rows = [("known_hosts".to_owned(), rows), ("notice".to_owned(), 1)].into();
            let account = Account::settle(std::slice::from_ref(&life), rows).records;
            (
                account.logged,
                account.open,
                account.in_files,
                account.missing,
            )
        };
        assert_eq!(settle(6), (10, 3, 7, 0));
        // What is safe is not there.
        assert_eq!(settle(3), (10, 3, 4, 2));
        // More rows in the files than reported: a life died after it had logged them.
        assert_eq!(settle(12), (13, 6, 13, 0));
    }
}
