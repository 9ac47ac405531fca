//! Scan detection: who tries one port on many hosts.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a handler takes its event by value"
)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use muster_cluster::node::{
    Context, CounterSpec, Declarations, Framework, KeyedContext, KeyedTable, SettingChange, Site,
};
use muster_cluster::{PoolName, Role, SettingSpec, SettingValue, Settings};
use muster_data::{Address, EnumValue, Port, Protocol, Record, Timespan, Timestamp};

use crate::checked::Checked;
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

/// What is counted of an attacker: the beginning of a window, and a port.
type Counted = (Timestamp, Port);

/// What the owner of an attacker has counted.
const SCANS: KeyedTable<Address, Counted, Victims> = KeyedTable::new("scan/scans");

/// Whom it has tried, by window and port.
const VICTIMS: KeyedTable<Address, (Timestamp, Port, Address), bool> =
    KeyedTable::new("scan/victims");

/// The timer by which room is made.
const MAKE_ROOM: u64 = 1;

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
/// Attempts are [keyed events](Context::publish_keyed), and what is counted is in rows under the attacker's key: a second node has them, and
/// goes on when the one that counts is gone. No attempt is lost or counted twice, and no scan is logged twice, unless it was closed early
/// for want of room.
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
    /// The window in words.
    span: String,
    /// The windows of a data node that begin before this are closed.
    closed: Option<Timestamp>,
    /// Victims in all scans that a data node counts, if no other one has taken over keys since it was counted.
    entries: usize,
    makes_room: bool,
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

/// How many hosts an attacker has tried.
#[derive(Debug, Clone, Copy, Default, Record)]
#[record(name = "Muster::scan_victims")]
struct Victims {
    hosts: u64,
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
            "not_sent",
            "Attempts that were not sent to the owner of the attacker, as too many events waited for owners. Growth means that no data node is up, or that there are too few, and scans are missed.",
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
            let pool = PoolName::proxy();
            declarations.keyed(pool, |it: &ScanAttempt| it.attacker, Self::attempt);
            declarations.stream::<Scan>("scans");
        }
    }

    fn keys_gained(&mut self, _: &PoolName, cx: &mut Context<'_>) {
        self.makes_room = true;
        cx.schedule_mono(Duration::ZERO, MAKE_ROOM);
        // Their windows may be closed already.
        self.closed = None;
        if let Some(closed) = cx.closed() {
            self.watermark(closed, cx);
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
        if token == MAKE_ROOM {
            self.make_room(cx);
        }
    }

    fn watermark(&mut self, closed: Timestamp, cx: &mut Context<'_>) {
        let end = self.window_of(closed);
        if self.role == Role::Worker || self.closed.is_some_and(|before| before >= end) {
            return;
        }
        self.closed = Some(end);
        let window = self.window;
        self.close(cx, |(begin, _)| *begin + window <= closed);
    }

    fn done(&mut self, cx: &mut Context<'_>) {
        // Another node goes on, as long as there is something to see.
        if self.role != Role::Worker && !cx.has_open_inputs() {
            self.close(cx, |_| true);
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
            span: SettingValue::Duration(window).to_string(),
            closed: None,
            entries: 0,
            makes_room: false,
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
        let pool = PoolName::proxy();
        if cx.publish_keyed(&pool, attempt.attacker, &attempt).is_err() {
            cx.count("not_sent", 1);
            return;
        }
        cx.count("attempts_sent", 1);
        let evicted = self.sent.insert(entry);
        if evicted > 0 {
            cx.count("evicted", evicted);
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

    fn attempt(&mut self, attempt: ScanAttempt, cx: &mut KeyedContext<'_, '_, Address>) {
        let ScanAttempt {
            attacker,
            victim,
            port,
            ts,
        } = attempt;
        let window = self.window_of(ts);
        if cx
            .closed()
            .is_some_and(|closed| window + self.window <= closed)
        {
            cx.count("late_rows", 1);
            return;
        }
        let (counted, victim) = ((window, port), (window, port, victim));
        if cx.row(&VICTIMS, &victim).is_some() {
            return;
        }
        let mut known = cx.row(&SCANS, &counted).unwrap_or_default();
        let is_full = known.hosts >= self.limits.max_victims as u64;
        if is_full || !cx.set(&VICTIMS, &victim, &true) {
            if !known.truncated {
                known.truncated = true;
                cx.set(&SCANS, &counted, &known);
            }
            return;
        }
        known.hosts += 1;
        self.entries += 1;
        if known.hosts >= self.limits.threshold as u64 && !known.is_scan {
            known.is_scan = true;
            self.notice_of(attacker, counted).raise(cx);
        }
        if !cx.set(&SCANS, &counted, &known) {
            // It would not be forgotten without it.
            cx.remove(&VICTIMS, &victim);
        }
        if self.entries > self.limits.max_entries && !self.makes_room {
            self.makes_room = true;
            cx.schedule_mono(Duration::ZERO, MAKE_ROOM);
        }
    }

    /// The threshold is lower now: what has reached it in a window that is open is a scan.
    fn judge_anew(&mut self, cx: &mut Context<'_>) {
        let (pool, threshold) = (PoolName::proxy(), self.limits.threshold as u64);
        for (attacker, counted, mut known) in cx.owned_rows(&pool, &SCANS) {
            if known.hosts < threshold || known.is_scan {
                continue;
            }
            known.is_scan = true;
            cx.with_key(&pool, &attacker, |cx| {
                cx.set(&SCANS, &counted, &known);
                self.notice_of(attacker, counted).raise(cx);
            });
        }
    }

    fn notice_of(&self, attacker: Address, (ts, port): Counted) -> Notice {
        let (threshold, span) = (self.limits.threshold, &self.span);
        let msg =
            format!("{attacker} scanned at least {threshold} hosts on port {port} within {span}");
        Notice {
            src: Some(attacker),
            p: Some(port),
            identifier: Some(format!("{attacker} {port}")),
            // Once per window.
            suppress_for: Some(self.window),
            ..Notice::new(ts, ADDRESS_SCAN, msg)
        }
    }

    /// Logs and forgets what is counted in some windows.
    fn close(&mut self, cx: &mut Context<'_>, is_over: impl Fn(&Counted) -> bool) {
        let mut over: BTreeMap<Address, Vec<(Counted, Victims)>> = BTreeMap::new();
        let mut entries = 0;
        for (attacker, counted, known) in cx.owned_rows(&PoolName::proxy(), &SCANS) {
            if is_over(&counted) {
                over.entry(attacker).or_default().push((counted, known));
            } else {
                entries += usize::try_from(known.hosts).unwrap_or(usize::MAX);
            }
        }
        self.entries = entries;
        for (attacker, scans) in over {
            self.end(attacker, &scans, cx);
        }
    }

    /// Logs what are scans of an attacker, and forgets all of these.
    fn end(&self, attacker: Address, ended: &[(Counted, Victims)], cx: &mut Context<'_>) {
        let counted: BTreeSet<Counted> = ended.iter().map(|(counted, _)| *counted).collect();
        cx.with_key(&PoolName::proxy(), &attacker, |cx| {
            for (victim, _) in cx.rows(&VICTIMS) {
                if counted.contains(&(victim.0, victim.1)) {
                    cx.remove(&VICTIMS, &victim);
                }
            }
            for ((ts, port), known) in ended {
                cx.remove(&SCANS, &(*ts, *port));
                if !known.is_scan {
                    continue;
                }
                let scan = Scan {
                    ts: *ts,
                    window: self.window,
                    attacker,
                    port: *port,
                    proto: EnumValue::new(port.protocol.name()),
                    victims: known.hosts,
                    truncated: known.truncated,
                };
                cx.log("scans", &scan).checked(cx);
                cx.count("scans", 1);
            }
        });
    }

    /// Makes room, a sixteenth of it at once: drops what has not become a scan in the oldest window, or else closes scans, and so on
    /// in the next one.
    fn make_room(&mut self, cx: &mut Context<'_>) {
        self.makes_room = false;
        let mut rows = cx.owned_rows(&PoolName::proxy(), &SCANS);
        let hosts = |known: &Victims| usize::try_from(known.hosts).unwrap_or(usize::MAX);
        self.entries = rows.iter().map(|(.., known)| hosts(known)).sum();
        if self.entries <= self.limits.max_entries {
            return;
        }
        let before = self.entries;
        let target = self.limits.max_entries - (self.limits.max_entries / 16).max(1);
        rows.sort_by_key(|(attacker, (ts, port), known)| (*ts, known.is_scan, *attacker, *port));
        let mut over: BTreeMap<Address, Vec<(Counted, Victims)>> = BTreeMap::new();
        for (attacker, counted, mut known) in rows {
            if self.entries <= target {
                break;
            }
            self.entries -= hosts(&known);
            known.truncated = true;
            over.entry(attacker).or_default().push((counted, known));
        }
        cx.count("evicted", (before - self.entries) as u64);
        for (attacker, ended) in over {
            self.end(attacker, &ended, cx);
        }
    }
}
