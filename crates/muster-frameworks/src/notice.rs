//! Notices: findings that somebody should look at.

use std::collections::{BTreeMap, VecDeque};

use muster_cluster::node::{Context, CounterSpec, Declarations, Framework, SettingChange, Site};
use muster_cluster::{Role, SettingSpec};
use muster_data::{Address, EnumValue, Port, Record, Timespan, Timestamp};
use muster_wire::Class;

use crate::checked::Checked;

/// A finding that somebody should look at. Any node can raise it; the manager logs it.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::notice")]
pub struct Notice {
    /// The event time that it is about.
    pub ts: Timestamp,
    /// What kind of notice, such as `Scan::Address_Scan`.
    pub note: EnumValue,
    /// What happened, for people.
    pub msg: String,
    /// Who did it.
    pub src: Option<Address>,
    /// To whom.
    pub dst: Option<Address>,
    /// At which port.
    pub p: Option<Port>,
    /// What it is about. Of notices with the same kind and identifier, only one is logged within `suppress_for`.
    /// Without an identifier, all are logged.
    pub identifier: Option<String>,
    /// The span of event time in which it is not repeated; the setting `notice.suppress` by default.
    pub suppress_for: Option<Timespan>,
}

impl Notice {
    /// Creates a notice with nothing but a time, a kind and a message.
    pub fn new(ts: Timestamp, note: &str, msg: impl Into<String>) -> Self {
        Self {
            ts,
            note: EnumValue::new(note),
            msg: msg.into(),
            src: None,
            dst: None,
            p: None,
            identifier: None,
            suppress_for: None,
        }
    }

    /// The counter that [`Notice::raise`] adds to, for the framework that raises the notice.
    pub const RAISED: CounterSpec = CounterSpec::new(
        "notices_raised",
        "Notices that the framework raised, those among them that the manager suppressed.",
    );

    /// Sends the notice to the manager, ahead of ordinary events.
    pub fn raise(&self, cx: &mut Context<'_>) {
        let manager = cx.topic_for_manager();
        cx.publish_as(Class::Interactive, &manager, self)
            .checked(cx);
        cx.count_described(Self::RAISED, 1);
    }
}

/// A record of the stream `notice`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Record)]
#[record(name = "Notice::Info")]
pub struct NoticeRecord {
    /// The event time that it is about.
    pub ts: Timestamp,
    /// What kind of notice.
    pub note: EnumValue,
    /// What happened, for people.
    pub msg: String,
    /// Who did it.
    pub src: Option<Address>,
    /// To whom.
    pub dst: Option<Address>,
    /// At which port.
    pub p: Option<Port>,
    /// The span of event time in which it is not repeated.
    pub suppress_for: Timespan,
}

/// Logs notices on the manager to the stream `notice`, each only once in a while.
///
/// A notice is suppressed if one of the same kind and identifier was logged for an event time less than `suppress_for`
/// away, before or after: of notices that are close together, the one that arrives first is logged. At most
/// `notice.max_remembered` are remembered. Counts: `notices`, `suppressed` and `evicted`, those forgotten to make
/// room.
#[derive(Debug)]
pub struct Notices {
    suppress: Timespan,
    max_remembered: usize,
    /// What was logged, and until when it suppresses.
    logged: BTreeMap<Logged, Timestamp>,
    order: VecDeque<Logged>,
}

/// Kind, identifier and time.
type Logged = (EnumValue, String, Timestamp);

impl Framework for Notices {
    const NAME: &'static str = "notice";

    const SETTINGS: &'static [SettingSpec] = &[
        SettingSpec::duration(
            "notice.suppress",
            std::time::Duration::from_secs(3600),
            "span of event time in which a notice is not repeated",
        )
        .live(),
        SettingSpec::count(
            "notice.max_remembered",
            100_000,
            "most notices that are remembered to suppress others",
        )
        .positive()
        .live(),
    ];

    const COUNTERS: &'static [CounterSpec] = &[
        CounterSpec::new("notices", "Notices that were logged."),
        CounterSpec::new(
            "suppressed",
            "Notices that were not logged because one of the same kind and identifier had been, less than `notice.suppress` of event time before. Nothing is lost.",
        ),
        CounterSpec::new(
            "evicted",
            "Remembered notices that were forgotten to make room, so that the like of them is logged again. Growth means that `notice.max_remembered` is too small for what happens.",
        ),
    ];

    fn create(site: &Site<'_>) -> Option<Self> {
        let settings = &site.node.settings;
        site.is(Role::Manager).then(|| Self {
            suppress: settings.duration("notice.suppress").into(),
            max_remembered: settings.size("notice.max_remembered"),
            logged: BTreeMap::new(),
            order: VecDeque::new(),
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::notice);
        declarations.stream::<NoticeRecord>("notice");
    }

    fn setting_changed(&mut self, _: &SettingChange<'_>, cx: &mut Context<'_>) {
        self.suppress = cx.settings().duration("notice.suppress").into();
        self.max_remembered = cx.settings().size("notice.max_remembered");
    }

    fn watermark(&mut self, closed: Timestamp, _cx: &mut Context<'_>) {
        self.logged.retain(|_, until| *until > closed);
        let logged = &self.logged;
        self.order.retain(|key| logged.contains_key(key));
    }
}

impl Notices {
    fn notice(&mut self, notice: Notice, cx: &mut Context<'_>) {
        let suppress_for = notice.suppress_for.unwrap_or(self.suppress);
        if let Some(identifier) = notice.identifier {
            let (note, ts) = (notice.note.clone(), notice.ts);
            if self.is_suppressed(&note, &identifier, ts, suppress_for) {
                cx.count("suppressed", 1);
                return;
            }
            self.remember((note, identifier, ts), ts + suppress_for, cx);
        }
        let record = NoticeRecord {
            ts: notice.ts,
            note: notice.note,
            msg: notice.msg,
            src: notice.src,
            dst: notice.dst,
            p: notice.p,
            suppress_for,
        };
        cx.log("notice", &record).checked(cx);
        cx.count("notices", 1);
    }

    fn is_suppressed(
        &self,
        note: &EnumValue,
        identifier: &str,
        ts: Timestamp,
        span: Timespan,
    ) -> bool {
        let at = |ts: Timestamp| (note.clone(), identifier.to_owned(), ts);
        self.logged
            .range(at(ts - span)..=at(ts + span))
            .any(|((_, _, logged), _)| (*logged - ts) < span && (ts - *logged) < span)
    }

    fn remember(&mut self, key: Logged, until: Timestamp, cx: &mut Context<'_>) {
        if self.logged.insert(key.clone(), until).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > self.max_remembered {
            if let Some(oldest) = self.order.pop_front() {
                self.logged.remove(&oldest);
                cx.count("evicted", 1);
            }
        }
    }
}
