//! Scan detection: who tries one port on many hosts.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a handler takes its event by value"
)]

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use muster_cluster::node::{Context, CounterSpec, Declarations, Framework, SettingChange, Site};
use muster_cluster::{Key, PoolChange, PoolName, Role, SettingSpec, SettingValue, Settings};
use muster_data::{Address, EnumValue, Port, Protocol, Record, Timespan, Timestamp};

use crate::checked::Checked;
use crate::known_hosts::still_holds;
use crate::local_nets::{self, LocalNets};
use crate::notice::Notice;
use crate::seen::Seen;
use crate::zeek_log::Connection;

/// The kind of the notices.
pub const ADDRESS_SCAN: &str = "Scan::Address_Scan";

/// Ports at which a single client may well speak with many servers: DNS, DHCP, HTTP, NTP, NetBIOS,
/// HTTPS, syslog, DNS over TLS, SSDP, multicast DNS, LLMNR and the usual second ports of web servers.
const IGNORED_PORTS: &[u64] = &[
    53, 67, 80, 123, 137, 138, 443, 514, 853, 1900, 5353, 5355, 8080, 8443,
];

/// Attacker, victim, port and beginning of the window.
type Attempted = (Address, Address, Port, Timestamp);

/// The timer by which new owners are told, how much at once and how often: 12,800 attempts a second.
const TELL_HEIRS: u64 = 1;
const TOLD_AT_ONCE: usize = 256;
const TELL_EVERY: Duration = Duration::from_millis(20);

/// A worker has seen somebody try a port of a host for the first time in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Record)]
#[record(name = "Muster::scan_attempt")]
pub struct ScanAttempt {
    /// Who tried.
    pub attacker: Address,
    /// Whom.
    pub victim: Address,
    /// At which port.
    pub port: Port,
    /// When.
    pub ts: Timestamp,
}

/// A record of the stream `scans`: a scan, as it is known when its window is closed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Record)]
#[record(name = "Muster::scan")]
pub struct Scan {
    /// The beginning of the window.
    pub ts: Timestamp,
    /// The length of the window.
    pub window: Timespan,
    /// Who scanned.
    pub attacker: Address,
    /// At which port.
    pub port: Port,
    /// The port's transport protocol.
    pub proto: EnumValue,
    /// How many hosts.
    pub victims: u64,
    /// Whether there were more hosts than are counted (`scan.max_victims`, `scan.max_entries`).
    pub truncated: bool,
}

/// Finds those who try one port on many local hosts.
///
/// A worker takes a TCP or UDP connection to a host in `scan.local_nets` as an attempt if
///
/// - a row of `conn` says that it failed or had one side only (S0, REJ, RSTOS0, RSTRH, SH, SHR, OTH); with
///   UDP, where an answer is often missing, not at `scan.ignored_ports`;
/// - a row of another log tells of it, unless it is at `scan.ignored_ports`: such a log knows only
///   who spoke.
///
/// Attempts go to the data node that owns the attacker, each attacker, victim and port once per worker and
/// window. The owner counts the distinct victims by attacker, port and window of `scan.window`; windows
/// are aligned, so that every run has the same. At `scan.threshold` victims it raises one notice
/// ([`ADDRESS_SCAN`]) whose content depends on nothing but the scan, with the window's beginning as its time.
/// When all inputs have passed the window, it logs a [`Scan`] to the stream `scans` and forgets it;
/// attempts that come later are counted as `late_rows`.
///
/// When a key gets another owner, because its owner dies or comes back, the workers send the new owner what they sent
/// the old one about windows that are still open, and the old one forgets it: a scan survives the death of the node
/// that counts it.
///
/// What changes while the cluster runs (`muster config set scan.threshold 25`) counts from then on: windows that are open are judged by
/// the new threshold, and what was a scan stays one. The length of windows does not change: all runs are to have the same.
///
/// State is bounded: `scan.max_victims` per scan, `scan.max_entries` over all scans. Beyond that, what has not become
/// a scan in the oldest window is dropped, and counted as `evicted`.
#[derive(Debug)]
pub struct ScanDetection {
    role: Role,
    window: Timespan,
    limits: Limits,
    /// What a worker has told: attacker, victim, port and beginning of the window.
    sent: Seen<Attempted>,
    /// What a worker has to tell the new owners of keys.
    to_tell: VecDeque<Attempted>,
    /// The window in words.
    span: String,
    /// What a data node counts, the oldest window first.
    scans: BTreeMap<(Timestamp, Address, Port), Victims>,
    /// Victims in all scans.
    entries: usize,
}

/// What may change while the cluster runs.
#[derive(Debug)]
struct Limits {
    local_nets: LocalNets,
    ignored_ports: HashSet<u16>,
    threshold: usize,
    max_victims: usize,
    max_entries: usize,
}

impl Limits {
    fn of(settings: &Settings) -> Self {
        let ports = settings.count_list("scan.ignored_ports").iter();
        let threshold = settings.size("scan.threshold");
        Self {
            local_nets: LocalNets::of(settings, "scan.local_nets"),
            ignored_ports: ports.filter_map(|port| u16::try_from(*port).ok()).collect(),
            threshold,
            max_victims: settings.size("scan.max_victims").max(threshold),
            max_entries: settings.size("scan.max_entries"),
        }
    }
}

#[derive(Debug, Default)]
struct Victims {
    hosts: HashSet<Address>,
    is_scan: bool,
    truncated: bool,
}

impl Framework for ScanDetection {
    const NAME: &'static str = "scan";

    const SETTINGS: &'static [SettingSpec] = &[
        SettingSpec::count("scan.threshold", 10, "distinct hosts that make a scan")
            .positive()
            .live(),
        SettingSpec::duration(
            "scan.window",
            Duration::from_secs(15 * 60),
            "span of event time in which they count",
        )
        .positive(),
        SettingSpec::subnet_list(
            "scan.local_nets",
            local_nets::DEFAULT,
            "the networks whose hosts count",
        )
        .live(),
        SettingSpec::count_list(
            "scan.ignored_ports",
            IGNORED_PORTS,
            "ports at which only failed TCP connections count",
        )
        .live(),
        SettingSpec::count(
            "scan.max_sent",
            100_000,
            "most attempts that a worker remembers having sent",
        )
        .positive(),
        SettingSpec::count(
            "scan.max_victims",
            10_000,
            "hosts that are counted exactly per scan",
        )
        .positive()
        .live(),
        SettingSpec::count(
            "scan.max_entries",
            1_000_000,
            "most hosts that a data node holds over all scans",
        )
        .positive()
        .live(),
    ];

    const COUNTERS: &'static [CounterSpec] = &[
        CounterSpec::new(
            "scans",
            "Scans that were logged, each by the owner of the attacker.",
        ),
        CounterSpec::new(
            "attempts_sent",
            "Failed attempts to connect that workers sent to the owner of the attacker, each victim once in a window.",
        ),
        CounterSpec::new(
            "attempts_sent_again",
            "Attempts that were sent once more because the attacker's owner had changed in their window. They come with nodes that go or return.",
        ),
        CounterSpec::new(
            "unowned",
            "Attempts that were seen while no node owned keys, and were dropped. Growth means that no data node is up, and scans are missed.",
        ),
        CounterSpec::new(
            "late_rows",
            "Attempts that came after their window had been closed, and were dropped. Growth means that inputs are further apart than `watermark.allowance`: raise it.",
        ),
        CounterSpec::new(
            "evicted",
            "Remembered attempts that were forgotten to make room, so that victims may be counted twice or a scan is closed early. Growth means that `scan.max_sent` or `scan.max_entries` is too small for the network.",
        ),
    ];

    fn create(site: &Site<'_>) -> Option<Self> {
        let settings = &site.node.settings;
        let has_work = site.is(Role::Worker) || site.owns_keys();
        has_work.then(|| Self::new(site.node.role, settings))
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        if self.role == Role::Worker {
            declarations.on(Self::connection);
        } else {
            declarations.on(Self::attempt);
            declarations.stream::<Scan>("scans");
        }
    }

    fn pool_changed(&mut self, change: &PoolChange, cx: &mut Context<'_>) {
        if change.pool != PoolName::proxy() {
            return;
        }
        if self.role == Role::Worker {
            self.note_heirs(change, cx);
        } else {
            self.scans.retain(|(_, attacker, _), victims| {
                let holds = still_holds(Role::Proxy, change, Key::from(attacker), cx);
                self.entries -= if holds { 0 } else { victims.hosts.len() };
                holds
            });
        }
    }

    fn setting_changed(&mut self, _: &SettingChange<'_>, cx: &mut Context<'_>) {
        let lower = cx.settings().size("scan.threshold") < self.limits.threshold;
        self.limits = Limits::of(cx.settings());
        if lower {
            self.judge_anew(cx);
        }
    }

    fn timer(&mut self, token: u64, cx: &mut Context<'_>) {
        if token == TELL_HEIRS {
            self.tell_heirs(cx);
        }
    }

    fn watermark(&mut self, closed: Timestamp, cx: &mut Context<'_>) {
        while let Some(entry) = self.scans.first_entry() {
            if entry.key().0 + self.window > closed {
                break;
            }
            let (key, victims) = entry.remove_entry();
            self.close(key, &victims, cx);
        }
    }

    fn done(&mut self, cx: &mut Context<'_>) {
        while let Some((key, victims)) = self.scans.pop_first() {
            self.close(key, &victims, cx);
        }
    }
}

impl ScanDetection {
    fn new(role: Role, settings: &Settings) -> Self {
        let window = settings.duration("scan.window");
        Self {
            role,
            window: window.into(),
            limits: Limits::of(settings),
            sent: Seen::new(settings.size("scan.max_sent")),
            to_tell: VecDeque::new(),
            span: SettingValue::Duration(window).to_string(),
            scans: BTreeMap::new(),
            entries: 0,
        }
    }

    /// The beginning of the window that a time is in.
    fn window_of(&self, ts: Timestamp) -> Timestamp {
        let into = ts.as_nanos().rem_euclid(self.window.as_nanos().max(1));
        ts - Timespan::from_nanos(into)
    }

    // --- on workers -------------------------------------------------------------------------------

    fn connection(&mut self, connection: Connection, cx: &mut Context<'_>) {
        if !self.is_attempt(&connection) {
            return;
        }
        let attempt = ScanAttempt {
            attacker: connection.orig_h,
            victim: connection.resp_h,
            port: connection.resp_p,
            ts: connection.ts,
        };
        let window = self.window_of(attempt.ts);
        let entry = (attempt.attacker, attempt.victim, attempt.port, window);
        if self.sent.contains(&entry) {
            return;
        }
        let Some(owner) = cx.topic_for_key(&PoolName::proxy(), attempt.attacker) else {
            cx.count("unowned", 1);
            return;
        };
        cx.publish(&owner, &attempt).checked(cx);
        cx.count("attempts_sent", 1);
        let evicted = self.sent.insert(entry);
        if evicted > 0 {
            cx.count("evicted", evicted);
        }
    }

    /// Notes for whom the owner has changed: the new one is to be told what the former one was told of
    /// windows that are still open.
    fn note_heirs(&mut self, change: &PoolChange, cx: &mut Context<'_>) {
        let closed = cx.closed();
        let window = self.window;
        let moved = self.sent.iter().filter(|(attacker, _, _, begin)| {
            let is_closed = closed.is_some_and(|closed| *begin + window <= closed);
            !is_closed && !still_holds(Role::Worker, change, Key::from(attacker), cx)
        });
        let was_idle = self.to_tell.is_empty();
        let waiting: HashSet<_> = self.to_tell.iter().copied().collect();
        self.to_tell
            .extend(moved.filter(|attempt| !waiting.contains(*attempt)));
        if was_idle && !self.to_tell.is_empty() {
            cx.schedule_mono(Duration::ZERO, TELL_HEIRS);
        }
    }

    /// Tells a portion at a time: all at once would be more than the queues on the way hold.
    fn tell_heirs(&mut self, cx: &mut Context<'_>) {
        let portion = self.to_tell.len().min(TOLD_AT_ONCE);
        for (attacker, victim, port, window) in self.to_tell.drain(..portion) {
            if let Some(owner) = cx.topic_for_key(&PoolName::proxy(), attacker) {
                let attempt = ScanAttempt {
                    attacker,
                    victim,
                    port,
                    ts: window,
                };
                cx.publish(&owner, &attempt).checked(cx);
                cx.count("attempts_sent_again", 1);
            }
        }
        if !self.to_tell.is_empty() {
            cx.schedule_mono(TELL_EVERY, TELL_HEIRS);
        }
    }

    fn is_attempt(&self, connection: &Connection) -> bool {
        let port = connection.resp_p;
        let is_counted = match (port.protocol, connection.log.as_str()) {
            (Protocol::Tcp, "conn") => connection.established == Some(false),
            (Protocol::Udp, "conn") => {
                connection.established == Some(false)
                    && !self.limits.ignored_ports.contains(&port.number)
            }
            (Protocol::Tcp | Protocol::Udp, _) => !self.limits.ignored_ports.contains(&port.number),
            _ => false,
        };
        is_counted && self.limits.local_nets.contains(&connection.resp_h)
    }

    // --- on data nodes ----------------------------------------------------------------------------

    fn attempt(&mut self, attempt: ScanAttempt, cx: &mut Context<'_>) {
        let window = self.window_of(attempt.ts);
        if cx
            .closed()
            .is_some_and(|closed| window + self.window <= closed)
        {
            cx.count("late_rows", 1);
            return;
        }
        let key = (window, attempt.attacker, attempt.port);
        let known = self.scans.get(&key);
        if known.is_some_and(|victims| victims.hosts.contains(&attempt.victim)) {
            return;
        }
        if self.entries >= self.limits.max_entries {
            self.evict(cx);
        }
        let victims = self.scans.entry(key).or_default();
        if victims.hosts.len() >= self.limits.max_victims {
            victims.truncated = true;
            return;
        }
        victims.hosts.insert(attempt.victim);
        self.entries += 1;
        if victims.hosts.len() >= self.limits.threshold && !victims.is_scan {
            victims.is_scan = true;
            self.notice_of(key).raise(cx);
        }
    }

    /// The threshold is lower now: what has reached it in a window that is open is a scan.
    fn judge_anew(&mut self, cx: &mut Context<'_>) {
        let threshold = self.limits.threshold;
        let mut found = Vec::new();
        for (key, victims) in &mut self.scans {
            if victims.hosts.len() >= threshold && !victims.is_scan {
                victims.is_scan = true;
                found.push(*key);
            }
        }
        for key in found {
            self.notice_of(key).raise(cx);
        }
    }

    fn notice_of(&self, key: (Timestamp, Address, Port)) -> Notice {
        let (ts, attacker, port) = key;
        let (threshold, span) = (self.limits.threshold, &self.span);
        let msg =
            format!("{attacker} scanned at least {threshold} hosts on port {port} within {span}");
        Notice {
            src: Some(attacker),
            p: Some(port),
            identifier: Some(format!("{attacker} {port}")),
            // Once per window, should a key have had two owners in it.
            suppress_for: Some(self.window),
            ..Notice::new(ts, ADDRESS_SCAN, msg)
        }
    }

    /// Makes room, a sixteenth of it at once: drops what has not become a scan in the oldest window, or
    /// else closes the first scan.
    fn evict(&mut self, cx: &mut Context<'_>) {
        let before = self.entries;
        let target = self.limits.max_entries - (self.limits.max_entries / 16).max(1);
        while self.entries > target {
            let Some((&(oldest, ..), _)) = self.scans.first_key_value() else {
                break;
            };
            let dropped: Vec<_> = self
                .scans
                .iter()
                .take_while(|((window, ..), _)| *window == oldest)
                .filter(|(_, victims)| !victims.is_scan)
                .map(|(key, _)| *key)
                .collect();
            for key in &dropped {
                if let Some(victims) = self.scans.remove(key) {
                    self.entries -= victims.hosts.len();
                }
            }
            if !dropped.is_empty() {
                continue;
            }
            // Scans alone are left of it.
            while self.entries > target
                && let Some(first) = self.scans.first_entry()
                && first.key().0 == oldest
            {
                let (key, mut victims) = first.remove_entry();
                victims.truncated = true;
                self.close(key, &victims, cx);
            }
        }
        cx.count("evicted", (before - self.entries) as u64);
    }

    fn close(
        &mut self,
        (ts, attacker, port): (Timestamp, Address, Port),
        victims: &Victims,
        cx: &mut Context<'_>,
    ) {
        self.entries -= victims.hosts.len();
        if !victims.is_scan {
            return;
        }
        let scan = Scan {
            ts,
            window: self.window,
            attacker,
            port,
            proto: EnumValue::new(port.protocol.name()),
            victims: victims.hosts.len() as u64,
            truncated: victims.truncated,
        };
        cx.log("scans", &scan).checked(cx);
        cx.count("scans", 1);
    }
}
