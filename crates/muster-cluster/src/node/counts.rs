//! What a node counts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use muster_wire::counters::{Counter, Descriptor, DropLedger, Kind};

use super::by_name::ByName;

/// A counter of a framework, declared in [`Framework::COUNTERS`](super::Framework::COUNTERS).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterSpec {
    /// The name that [`Context::count`](super::Context::count) takes. `muster status` shows it as `FRAMEWORK.NAME`, the
    /// metrics as `muster_FRAMEWORK_NAME_total`.
    pub name: &'static str,
    /// What the number means, and what an operator does when it grows, in sentences.
    pub help: &'static str,
}

impl CounterSpec {
    /// Returns a counter of this name, with its meaning in sentences.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help }
    }

    /// Returns the counter as a metric of a framework.
    pub fn descriptor(&self, framework: &str) -> Descriptor {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name = format!("muster_{framework}_{}_total", self.name);
        let name: String = name.chars().map(letter).collect();
        Descriptor::new(Cow::Owned(name), self.help, Kind::Counter)
    }
}

/// What a framework has counted under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameworkCount {
    /// The counter.
    pub spec: CounterSpec,
    /// Its count.
    pub value: u64,
}

mod descriptors {
    muster_wire::counters! {
        /// Messages that the node's loop took: `in` from peers (events, and what Zeek's nodes send of their logs), `local`
        /// events of the node itself (rows of its inputs, and what it addressed to itself), `out` events that it published.
        pub(super) EVENTS_IN = counter("muster_events_total").key("events_in").fixed(&[("direction", "in")]);
        pub(super) EVENTS_LOCAL = EVENTS_IN.key("events_local").fixed(&[("direction", "local")]);
        pub(super) EVENTS_OUT = EVENTS_IN.key("events_out").fixed(&[("direction", "out")]);
        /// Messages that were no events, and events whose arguments were not as declared. Any growth means that somebody
        /// publishes with another version of a script or program: the node's log names the event.
        pub(super) EVENTS_REFUSED = counter("muster_events_refused_total").key("events_refused");
        /// Control events of nodes (`Muster::...`) that came from endpoints which are no nodes of the cluster: they are not
        /// obeyed. A few while nodes start are of nodes whose hello is still on its way; later ones mean that somebody
        /// imitates a node.
        pub(super) CONTROL_EVENTS_REFUSED = counter("muster_control_events_refused_total").key("control_events_refused");
        /// Events of other nodes that no framework of this one handles, by the event's name: the first 64 names one by one,
        /// the rest as `other`. Nothing is wrong with them; a name that should be handled is misspelt, or its framework
        /// does not run here.
        pub(super) EVENTS_UNHANDLED = counter("muster_events_unhandled_total").key("events_unhandled").labels(&["event"]);
        /// Events that went to a node which is a Zeek process and does not know them, by the event's name. Any growth means
        /// that a framework's keys or topics belong to a Zeek node: give the layout a data node of Muster for them.
        pub(super) EVENTS_LOST_ON_ZEEK = counter("muster_events_lost_on_zeek_total").key("events_lost_on_zeek").labels(&["event"]);
        /// Handlers and hooks of frameworks that panicked; each cost one event. Any growth is a defect of a framework: the
        /// node's log names it.
        pub(super) PANICS = counter("muster_handler_panics_total").key("panics");
        /// Log records that the frameworks of this node wrote, and those of Zeek's nodes that it gives on to loggers.
        pub(super) RECORDS_LOGGED = counter("muster_log_records_logged_total").key("records_logged");
        /// Log records on their way between nodes: `out` was handed on to a logger, perhaps this node, `in` arrived at this
        /// node, a logger.
        pub(super) RECORDS_SENT = counter("muster_log_records_total").key("records_sent").fixed(&[("direction", "out")]);
        pub(super) RECORDS_RECEIVED = RECORDS_SENT.key("records_received").fixed(&[("direction", "in")]);
        /// Log records that this node, a logger, has written to its files.
        pub(super) RECORDS_WRITTEN = counter("muster_log_records_written_total").key("records_written");
        /// Log records that this node, a logger, has written and that count at another logger: they are taken out of a file
        /// before it gets its final name. A few follow every loss of a logger or of a connection to one.
        pub(super) RECORDS_STRUCK = counter("muster_log_records_struck_total").key("records_struck");
        /// Log records that are in no file, by stream and reason: `no_logger` (none took them while there was room for them, or
        /// before their node ended), `not_written` (the files of a logger could not be written, as on a full disk: other
        /// loggers are given what is acknowledged), `removed` (somebody removed the file that they were in), `refused` (of a
        /// Zeek node: nothing had told of their columns, they did not fit them, or this node is no logger), `invalid` (no
        /// logger writes such a stream), `unsettled` (they may be in the files of a logger that did not come back) or `spool`
        /// (a disk has lost them while they waited for a logger). Any growth but of `not_written` is a loss: look at the
        /// loggers, their disks and their logs.
        pub(super) RECORDS_DROPPED = counter("muster_log_records_lost_total").key("records_dropped")
            .fixed(&[("reason", "no_logger")]).labels(&["stream"]);
        pub(super) RECORDS_FAILED = RECORDS_DROPPED.key("records_failed")
            .fixed(&[("reason", "not_written")]).labels(&["stream"]);
        pub(super) RECORDS_REFUSED = RECORDS_DROPPED.key("records_refused")
            .fixed(&[("reason", "refused")]).labels(&["stream"]);
        pub(super) RECORDS_REMOVED = RECORDS_DROPPED.key("records_removed")
            .fixed(&[("reason", "removed")]).labels(&["stream"]);
        pub(super) RECORDS_INVALID = RECORDS_DROPPED.key("records_invalid")
            .fixed(&[("reason", "invalid")]).labels(&["stream"]);
        pub(super) RECORDS_UNSETTLED = RECORDS_DROPPED.key("records_unsettled")
            .fixed(&[("reason", "unsettled")]).labels(&["stream"]);
        pub(super) RECORDS_SPOILT = RECORDS_DROPPED.key("records_spoilt")
            .fixed(&[("reason", "spool")]).labels(&["stream"]);
        /// Log records that this node has kept on its disk until a logger has them.
        pub(super) RECORDS_SPOOLED = counter("muster_log_records_spooled_total").key("records_spooled");
        /// Log records that were open when this node ended, and are on its disk for its next life.
        pub(super) RECORDS_LEFT = counter("muster_log_records_left_total").key("records_left");
        /// Log records of former lives of this node, or of others, that it has found on its disk and sends.
        pub(super) RECORDS_FOUND = counter("muster_log_records_found_total").key("records_found");
        /// Log records of this node that a logger has acknowledged: they are safe on its disk.
        pub(super) RECORDS_ACKNOWLEDGED = counter("muster_log_records_acknowledged_total").key("records_acknowledged");
        /// Log records of this node that went to loggers which acknowledge nothing: Zeek's, and those of former releases.
        pub(super) RECORDS_UNACKNOWLEDGED = counter("muster_log_records_unacknowledged_total").key("records_unacknowledged");
        /// Batches of log records that this node sent again, as their logger had not acknowledged them. A few follow every
        /// loss of a connection.
        pub(super) BATCHES_REPEATED = counter("muster_log_batches_repeated_total").key("batches_repeated");
        /// Batches of log records that came to this node, a logger, and that it had already.
        pub(super) BATCHES_AGAIN = counter("muster_log_batches_duplicate_total").key("batches_again");
        /// Batches of log records that came to this node, a logger, faster than it writes: it had no room for them, and they
        /// are sent again. Growth means that the loggers do not keep up.
        pub(super) BATCHES_DELAYED = counter("muster_log_batches_delayed_total").key("batches_delayed");
        /// Descriptions of logs (`log_create`) of Zeek's nodes that were refused: no name that a file can have, columns that
        /// no log can have, or this node is no logger. Their records are refused as well: the node's log says why.
        pub(super) LOGS_REFUSED = counter("muster_log_descriptions_refused_total").key("logs_refused");
        /// Descriptions of logs of Zeek's nodes that were forgotten, as too many came after them. Records of these logs are
        /// refused: restart the Zeek nodes that make logs without end.
        pub(super) LOGS_FORGOTTEN = counter("muster_log_descriptions_forgotten_total").key("logs_forgotten");
        /// New values for variables of Zeek's scripts (`identifier_update`) that came, by the variable's name: the first 64
        /// one by one, the rest as `other`. Nodes of Muster have no such variables and ignore them.
        pub(super) IDENTIFIER_UPDATES = counter("muster_identifier_updates_total").key("identifier_updates").labels(&["identifier"]);
        /// Questions of requests: `out` to each node that a framework of this one asked, `in` that frameworks of this node
        /// answered.
        pub(super) QUESTIONS_ASKED = counter("muster_questions_total").key("questions_asked").fixed(&[("direction", "out")]);
        pub(super) QUESTIONS_HANDLED = QUESTIONS_ASKED.key("questions_handled").fixed(&[("direction", "in")]);
        /// Questions that this node sent again, as they were not answered within half a second. A few follow every loss of a
        /// connection; steady growth means that nodes are slow to answer.
        pub(super) QUESTIONS_REPEATED = counter("muster_questions_repeated_total").key("questions_repeated");
        /// Questions that came to this node again. They are not handled again.
        pub(super) QUESTIONS_AGAIN = counter("muster_questions_duplicate_total").key("questions_again");
        /// Questions that this node refused: no framework of it answers them, or it takes other fields. Any growth means that
        /// nodes run different programs, or a framework asks where it does not run.
        pub(super) QUESTIONS_REFUSED = counter("muster_questions_refused_total").key("questions_refused");
        /// Questions of this node without an answer: `not_handled`, certainly by nobody, as nobody was there, the node refused it
        /// or too many were open, or `unknown`, as there was no answer in time, the node is gone, or what came was no answer. Look
        /// at the nodes that are down or slow.
        pub(super) QUESTIONS_NOT_HANDLED = counter("muster_questions_unanswered_total").key("questions_not_handled")
            .fixed(&[("reason", "not_handled")]);
        pub(super) QUESTIONS_UNKNOWN = QUESTIONS_NOT_HANDLED.key("questions_unknown").fixed(&[("reason", "unknown")]);
        /// Answers that came when nobody waited for them any more, among them second copies. They are dropped.
        pub(super) ANSWERS_LATE = counter("muster_answers_late_total").key("answers_late");
        /// Events for the owners of keys: `out` that frameworks of this node published so, `in` that it handled as an owner.
        pub(super) KEYED_PUBLISHED = counter("muster_keyed_events_total").key("keyed_published").fixed(&[("direction", "out")]);
        pub(super) KEYED_HANDLED = KEYED_PUBLISHED.key("keyed_handled").fixed(&[("direction", "in")]);
        /// Events for the owners of keys that this node sent again: they were not acknowledged in time, or there are other owners.
        /// Some follow every node that goes or comes; steady growth means that owners or their standbys are slow.
        pub(super) KEYED_REPEATED = counter("muster_keyed_events_repeated_total").key("keyed_repeated");
        /// Events for the owner of a key that came to this node again. They are not handled again.
        pub(super) KEYED_AGAIN = counter("muster_keyed_events_duplicate_total").key("keyed_again");
        /// Events for the owners of keys that were not taken: at their node, as too many were open (`full`: they are lost, and the
        /// framework was told), as those who are in the pool handle no such events (`unowned`: Zeek processes, nodes of former releases; lost as
        /// well), or at the owner for want of room (`no_room`: they are sent again). Growth means that owners are slow, or
        /// that there are too few.
        pub(super) KEYED_FULL = counter("muster_keyed_events_refused_total").key("keyed_full").fixed(&[("reason", "full")]);
        pub(super) KEYED_UNOWNED = KEYED_FULL.key("keyed_unowned").fixed(&[("reason", "unowned")]);
        pub(super) KEYED_NO_ROOM = KEYED_FULL.key("keyed_no_room").fixed(&[("reason", "no_room")]);
        /// Log records and events of handlers of keyed events that left the node at once, not when the standby had the rows: a call had
        /// given away more than 4,096, or some 64,000 were open. Nothing is lost, unless the node dies in these moments.
        pub(super) KEYED_UNGUARDED = counter("muster_keyed_outputs_unguarded_total").key("keyed_unguarded");
        /// Messages of Zeek's nodes and of clients to the manager's topic, where there are several managers: `again` that a manager handled as
        /// it took over, since the former one had not said that it has, `passed` that a manager gave to the active one, which had not said
        /// within 5 s that it has, and `dropped` that were too many to keep.
        pub(super) FOR_MANAGER_AGAIN = counter("muster_manager_messages_total").key("for_manager_again").fixed(&[("fate", "again")]);
        pub(super) FOR_MANAGER_PASSED = FOR_MANAGER_AGAIN.key("for_manager_passed").fixed(&[("fate", "passed")]);
        pub(super) FOR_MANAGER_DROPPED = FOR_MANAGER_AGAIN.key("for_manager_dropped").fixed(&[("fate", "dropped")]);
        /// Keys whose rows this node took over from other nodes, as it owns them now; keys with the same hash count once.
        pub(super) KEYS_TAKEN_OVER = counter("muster_keys_taken_over_total").key("keys_taken_over");
        /// Changes of rows that were not made, as all rows of this node have 1 GiB together, copies included. Growth means that keys or rows
        /// are not removed, or that there are too few owners.
        pub(super) ROWS_REFUSED = counter("muster_keyed_rows_refused_total").key("rows_refused");
        /// Parts of the lists of feeds: `out` that this node sent as their source, `in` that it took as a follower. A part has up to
        /// 256 KiB, or the changes of 5 ms.
        pub(super) FEED_PARTS_SENT = counter("muster_feed_parts_total").key("feed_parts_sent").fixed(&[("direction", "out")]);
        pub(super) FEED_PARTS_TAKEN = FEED_PARTS_SENT.key("feed_parts_taken").fixed(&[("direction", "in")]);
        /// Parts of feeds that came to this node and did not follow what it had: they came twice, one before them was lost, or their
        /// source is not followed any more. What is missing is asked for again. A few follow every loss of a connection.
        pub(super) FEED_PARTS_DROPPED = counter("muster_feed_parts_dropped_total").key("feed_parts_dropped");
        /// Items of feeds that this node's frameworks were told of: put or removed.
        pub(super) FEED_CHANGES = counter("muster_feed_changes_total").key("feed_changes");
        /// Items of feeds that are left out on this node, as they cannot be read or there is no room for them. Any growth means that nodes
        /// run different programs: the node's log names the feed.
        pub(super) FEED_CHANGES_REFUSED = counter("muster_feed_changes_refused_total").key("feed_changes_refused");
        /// How often this node began to take a feed's list from its beginning. It does so once for each life of a source, and when it
        /// was away for more changes than the source remembers: steady growth means that a list loses items faster than followers take it.
        pub(super) FEED_LISTS = counter("muster_feed_lists_total").key("feed_lists");
        /// Writes to stores that failed, or were not made as too many waited. Growth means that a store's primary is away or
        /// overloaded: look at the stores in `muster status`.
        pub(super) STORE_WRITES_FAILED = counter("muster_store_writes_failed_total").key("store_writes_failed");
        /// New values of registers and live settings that counted on this node: somebody has changed them while the cluster runs. A
        /// node that starts counts those that are not the default.
        pub(super) REGISTER_CHANGES = counter("muster_register_changes_total").key("register_changes");
        /// Values of registers and live settings that this node refused, as they are not what its frameworks take: the last good value
        /// counts. Any growth means that somebody writes the store `muster/config` directly, or that nodes of several versions run:
        /// the node's log names the value.
        pub(super) REGISTER_VALUES_REFUSED = counter("muster_register_values_refused_total").key("register_values_refused");
    }
}

/// The counts of one life of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// Messages received from peers: events, and what Zeek's nodes send of their logs.
    pub events_in: u64,
    /// Events raised on the node itself: rows of its inputs, and what it addressed to itself.
    pub events_local: u64,
    /// Events published to others.
    pub events_out: u64,
    /// Messages that were not valid, and events whose arguments were not as declared.
    pub events_refused: u64,
    /// Control events of endpoints that are no nodes of the cluster.
    pub control_events_refused: u64,
    /// Events addressed to the node itself that were dropped, as too many waited.
    pub local_dropped: DropLedger,
    /// Handlers and hooks that panicked.
    pub panics: u64,
    /// Log records written on this node.
    pub records_logged: u64,
    /// Log records of this node that were dropped, by stream: no logger took them while there was room for them, or before
    /// the node ended.
    pub records_dropped: ByName,
    /// Log records handed on to a logger, perhaps this node.
    pub records_sent: u64,
    /// Log records that arrived at this node, a logger.
    pub records_received: u64,
    /// Log records that this node, a logger, wrote.
    pub records_written: u64,
    /// Log records of these that count at another logger, and are in no file with a final name.
    pub records_struck: u64,
    /// Log records that this node, a logger, could not write, by stream.
    pub records_failed: ByName,
    /// Log records that this node, a logger, had written to files that somebody removed, by stream.
    pub records_removed: ByName,
    /// Log records that a logger has acknowledged.
    pub records_acknowledged: u64,
    /// Log records that went to loggers which acknowledge nothing.
    pub records_unacknowledged: u64,
    /// Log records that no logger ever takes, by stream.
    pub records_invalid: ByName,
    /// Log records that may be at a logger which did not come back, by stream.
    pub records_unsettled: ByName,
    /// Log records that this node's disk has lost, by stream.
    pub records_spoilt: ByName,
    /// Log records that the node has kept on its disk until a logger has them.
    pub records_spooled: u64,
    /// Log records that were open when the node ended, and are on its disk.
    pub records_left: u64,
    /// Log records of former lives that the node has found on its disk.
    pub records_found: u64,
    /// Batches that were sent again.
    pub batches_repeated: u64,
    /// Batches that came to this node, a logger, though it had them.
    pub batches_again: u64,
    /// Batches that this node, a logger, had no room for when they came.
    pub batches_delayed: u64,
    /// Log records of Zeek's nodes that were refused, by stream: their columns had not been described, they did not
    /// fit the columns, the name of their log cannot be that of a file, or this node is not a logger.
    pub records_refused: ByName,
    /// Descriptions of logs (`log_create`) of Zeek's nodes that were refused: no name that a file can
    /// have, columns that no log can have, or this node is no logger.
    pub logs_refused: u64,
    /// Descriptions of logs that were forgotten, as too many came after them.
    pub logs_forgotten: u64,
    /// Events of other nodes that no framework of this one handles, by the event's name. Housekeeping
    /// of Zeek's cluster framework that needs no answer is not among them.
    pub events_unhandled: ByName,
    /// Events of this node that went to a node that is a Zeek process and does not know them, by the event's name.
    pub events_lost_on_zeek: ByName,
    /// New values for variables of Zeek's scripts (`identifier_update`), by the variable's name; nodes
    /// have no such variables.
    pub identifier_updates: ByName,
    /// Writes to stores that failed, or were not made because too many waited.
    pub store_writes_failed: u64,
    /// Questions sent to nodes, each counted once for each of them.
    pub questions_asked: u64,
    /// Questions that frameworks of this node answered.
    pub questions_handled: u64,
    /// Questions that were sent again.
    pub questions_repeated: u64,
    /// Questions that came to this node again.
    pub questions_again: u64,
    /// Questions that this node refused: no framework answers them, or it takes other fields.
    pub questions_refused: u64,
    /// Questions of this node without an answer, which nobody has handled.
    pub questions_not_handled: u64,
    /// Questions of this node without an answer, which may have been handled.
    pub questions_unknown: u64,
    /// Answers that nobody waited for any more.
    pub answers_late: u64,
    /// Events for owners of keys that frameworks published.
    pub keyed_published: u64,
    /// Events that this node handled as the owner of their keys.
    pub keyed_handled: u64,
    /// Events for owners of keys that were sent again.
    pub keyed_repeated: u64,
    /// Events for the owner of a key that came to this node again.
    pub keyed_again: u64,
    /// Events for owners of keys that were not published, as too many were open.
    pub keyed_full: u64,
    /// Events for owners of keys that were dropped, as nobody who is there handles them.
    pub keyed_unowned: u64,
    /// Events for the owner of a key that this node had no room for; they come again.
    pub keyed_no_room: u64,
    /// What handlers of keyed events gave away that left at once, as there was too much of it.
    pub keyed_unguarded: u64,
    /// Messages to the manager's topic that this manager handled as it took over.
    pub for_manager_again: u64,
    /// Messages to the manager's topic that this manager has passed on to the active one.
    pub for_manager_passed: u64,
    /// Messages to the manager's topic that nobody is known to have handled.
    pub for_manager_dropped: u64,
    /// Keys whose rows came from other nodes, as this one owns them now.
    pub keys_taken_over: u64,
    /// Changes of rows that were not made for want of room.
    pub rows_refused: u64,
    /// Parts of feeds that this node sent to followers.
    pub feed_parts_sent: u64,
    /// Parts of feeds that this node took as a follower.
    pub feed_parts_taken: u64,
    /// Parts of feeds that came to this node and did not follow what it had.
    pub feed_parts_dropped: u64,
    /// Items of feeds that frameworks of this node were told of: put or removed.
    pub feed_changes: u64,
    /// Items of feeds that are left out on this node.
    pub feed_changes_refused: u64,
    /// How often this node began to take a feed's list from its beginning.
    pub feed_lists: u64,
    /// New values of registers and live settings that counted on this node.
    pub register_changes: u64,
    /// Values of registers and live settings that this node refused.
    pub register_values_refused: u64,
    /// What frameworks count, by framework and name.
    pub frameworks: BTreeMap<(&'static str, &'static str), FrameworkCount>,
}

impl NodeCounts {
    /// The descriptors of what [`NodeCounts::counters`] returns, except what frameworks count.
    pub const DESCRIPTORS: &'static [Descriptor] = descriptors::ALL;

    /// Returns all counts, those of frameworks last.
    pub fn counters(&self) -> Vec<Counter> {
        let own = [
            descriptors::EVENTS_IN.of(self.events_in),
            descriptors::EVENTS_LOCAL.of(self.events_local),
            descriptors::EVENTS_OUT.of(self.events_out),
            descriptors::EVENTS_REFUSED.of(self.events_refused),
            descriptors::CONTROL_EVENTS_REFUSED.of(self.control_events_refused),
            descriptors::PANICS.of(self.panics),
            descriptors::RECORDS_LOGGED.of(self.records_logged),
            descriptors::RECORDS_SENT.of(self.records_sent),
            descriptors::RECORDS_RECEIVED.of(self.records_received),
            descriptors::RECORDS_WRITTEN.of(self.records_written),
            descriptors::RECORDS_STRUCK.of(self.records_struck),
            descriptors::RECORDS_ACKNOWLEDGED.of(self.records_acknowledged),
            descriptors::RECORDS_UNACKNOWLEDGED.of(self.records_unacknowledged),
            descriptors::RECORDS_SPOOLED.of(self.records_spooled),
            descriptors::RECORDS_LEFT.of(self.records_left),
            descriptors::RECORDS_FOUND.of(self.records_found),
            descriptors::BATCHES_REPEATED.of(self.batches_repeated),
            descriptors::BATCHES_AGAIN.of(self.batches_again),
            descriptors::BATCHES_DELAYED.of(self.batches_delayed),
            descriptors::LOGS_REFUSED.of(self.logs_refused),
            descriptors::LOGS_FORGOTTEN.of(self.logs_forgotten),
            descriptors::STORE_WRITES_FAILED.of(self.store_writes_failed),
            descriptors::QUESTIONS_ASKED.of(self.questions_asked),
            descriptors::QUESTIONS_HANDLED.of(self.questions_handled),
            descriptors::QUESTIONS_REPEATED.of(self.questions_repeated),
            descriptors::QUESTIONS_AGAIN.of(self.questions_again),
            descriptors::QUESTIONS_REFUSED.of(self.questions_refused),
            descriptors::QUESTIONS_NOT_HANDLED.of(self.questions_not_handled),
            descriptors::QUESTIONS_UNKNOWN.of(self.questions_unknown),
            descriptors::ANSWERS_LATE.of(self.answers_late),
            descriptors::KEYED_PUBLISHED.of(self.keyed_published),
            descriptors::KEYED_HANDLED.of(self.keyed_handled),
            descriptors::KEYED_REPEATED.of(self.keyed_repeated),
            descriptors::KEYED_AGAIN.of(self.keyed_again),
            descriptors::KEYED_FULL.of(self.keyed_full),
            descriptors::KEYED_UNOWNED.of(self.keyed_unowned),
            descriptors::KEYED_NO_ROOM.of(self.keyed_no_room),
            descriptors::KEYED_UNGUARDED.of(self.keyed_unguarded),
            descriptors::FOR_MANAGER_AGAIN.of(self.for_manager_again),
            descriptors::FOR_MANAGER_PASSED.of(self.for_manager_passed),
            descriptors::FOR_MANAGER_DROPPED.of(self.for_manager_dropped),
            descriptors::KEYS_TAKEN_OVER.of(self.keys_taken_over),
            descriptors::ROWS_REFUSED.of(self.rows_refused),
            descriptors::FEED_PARTS_SENT.of(self.feed_parts_sent),
            descriptors::FEED_PARTS_TAKEN.of(self.feed_parts_taken),
            descriptors::FEED_PARTS_DROPPED.of(self.feed_parts_dropped),
            descriptors::FEED_CHANGES.of(self.feed_changes),
            descriptors::FEED_CHANGES_REFUSED.of(self.feed_changes_refused),
            descriptors::FEED_LISTS.of(self.feed_lists),
            descriptors::REGISTER_CHANGES.of(self.register_changes),
            descriptors::REGISTER_VALUES_REFUSED.of(self.register_values_refused),
        ];
        let by_name = [
            by_name(&descriptors::EVENTS_UNHANDLED, &self.events_unhandled),
            by_name(&descriptors::EVENTS_LOST_ON_ZEEK, &self.events_lost_on_zeek),
            by_name(&descriptors::IDENTIFIER_UPDATES, &self.identifier_updates),
            by_name(&descriptors::RECORDS_DROPPED, &self.records_dropped),
            by_name(&descriptors::RECORDS_FAILED, &self.records_failed),
            by_name(&descriptors::RECORDS_REFUSED, &self.records_refused),
            by_name(&descriptors::RECORDS_REMOVED, &self.records_removed),
            by_name(&descriptors::RECORDS_INVALID, &self.records_invalid),
            by_name(&descriptors::RECORDS_UNSETTLED, &self.records_unsettled),
            by_name(&descriptors::RECORDS_SPOILT, &self.records_spoilt),
            self.local_dropped.counters("local", ""),
        ];
        let frameworks = self.frameworks.iter();
        let frameworks = frameworks
            .map(|((framework, _), count)| count.spec.descriptor(framework).of(count.value));
        let by_name = by_name.into_iter().flatten();
        own.into_iter().chain(by_name).chain(frameworks).collect()
    }

    /// Returns a counter that a framework has used without a declaration, if there is one: framework and name.
    pub fn undeclared(&self) -> Option<(&'static str, &'static str)> {
        let mut all = self.frameworks.iter();
        let (names, _) = all.find(|(_, count)| count.spec.help.is_empty())?;
        Some(*names)
    }

    /// Returns the count of this name, summed over all frameworks.
    pub fn of_frameworks(&self, name: &str) -> u64 {
        self.frameworks
            .iter()
            .filter(|((_, known), _)| *known == name)
            .map(|(_, count)| count.value)
            .sum()
    }
}

fn by_name(descriptor: &Descriptor, counts: &ByName) -> Vec<Counter> {
    let label = descriptor.labels.first().copied().unwrap_or("name");
    let counts = counts.iter();
    let counter = |(name, value): (&str, u64)| {
        descriptor
            .clone()
            .of_each([(label, name.to_owned())], value)
    };
    counts.map(counter).collect()
}
