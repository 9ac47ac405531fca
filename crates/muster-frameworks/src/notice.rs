//! Notices: findings that somebody should look at.

use std::time::Duration;

use muster_cluster::node::{
    Context, CounterSpec, Declarations, Framework, KeyedContext, KeyedTable, SettingChange, Site,
};
use muster_cluster::{PoolName, Role, SettingSpec};
use muster_data::{Address, EnumValue, Port, Record, Timespan, Timestamp};
use muster_wire::Class;

use crate::checked::Checked;

/// What was logged of a kind and identifier: its time, and until when it suppresses others.
const LOGGED: KeyedTable<String, Timestamp, Timestamp> = KeyedTable::new("notice/logged");

/// The timer by which room is made.
const MAKE_ROOM: u64 = 1;

/// A finding that somebody should look at. Any node can raise it; a manager logs it.
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
        "Notices that the framework raised, those among them that a manager suppressed.",
    );

    /// Sends the notice to the manager that has its kind and identifier. It is logged there once, or suppressed, whoever dies
    /// meanwhile; one that is raised by the [handler of a keyed event](Declarations::keyed) is not lost with its node either.
    pub fn raise(&self, cx: &mut Context<'_>) {
        let (managers, key) = (PoolName::manager(), self.key());
        if cx.zeek_owns(&managers, key.as_str()) {
            // It has no use for it, which is counted and told.
            let manager = cx.topic_for_manager();
            cx.publish_as(Class::Interactive, &manager, self)
                .checked(cx);
        } else {
            let published = cx.publish_keyed(&managers, key, self);
            published.map(drop).checked(cx);
        }
        cx.count_described(Self::RAISED, 1);
    }

    /// What one manager suppresses has one key.
    fn key(&self) -> String {
        match &self.identifier {
            Some(identifier) => format!("{} {identifier}", self.note),
            None => self.note.to_string(),
        }
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

/// Logs notices on managers to the stream `notice`, each only once in a while.
///
/// A notice is suppressed if one of the same kind and identifier was logged for an event time less than `suppress_for`
/// away, before or after: of notices that are close together, the one that arrives first is logged. At most
/// `notice.max_remembered` are remembered by a manager. Counts: `notices`, `suppressed` and `evicted`, those forgotten to make
/// room.
///
/// Where there are several managers, each kind and identifier belongs to one of them, and another one remembers what was logged as well.
#[derive(Debug)]
pub struct Notices {
    suppress: Timespan,
    max_remembered: usize,
    /// How many are remembered, at least if no other manager has taken over since it was counted.
    remembered: usize,
    makes_room: bool,
    /// Up to when it was looked for what suppresses nothing any more.
    swept: Option<Timestamp>,
}

impl Framework for Notices {
    const NAME: &'static str = "notice";

    const SETTINGS: &'static [SettingSpec] = &[
        SettingSpec::duration(
            "notice.suppress",
            Duration::from_secs(3600),
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
            remembered: 0,
            makes_room: false,
            swept: None,
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::published);
        declarations.keyed(PoolName::manager(), Notice::key, Self::notice);
        declarations.stream::<NoticeRecord>("notice");
    }

    fn setting_changed(&mut self, _: &SettingChange<'_>, cx: &mut Context<'_>) {
        self.suppress = cx.settings().duration("notice.suppress").into();
        self.max_remembered = cx.settings().size("notice.max_remembered");
    }

    fn watermark(&mut self, closed: Timestamp, cx: &mut Context<'_>) {
        // Not at every step: it looks at all that is remembered.
        let step = Timespan::from_nanos(self.suppress.as_nanos() / 16);
        if self.swept.is_none_or(|swept| closed - swept >= step) {
            self.swept = Some(closed);
            self.sweep(cx);
        }
    }

    fn keys_gained(&mut self, _: &PoolName, cx: &mut Context<'_>) {
        self.makes_room = true;
        cx.schedule_mono(Duration::ZERO, MAKE_ROOM);
    }

    fn timer(&mut self, token: u64, cx: &mut Context<'_>) {
        if token == MAKE_ROOM {
            self.makes_room = false;
            self.sweep(cx);
        }
    }
}

impl Notices {
    /// Somebody who does not raise it has published a notice to the manager's topic.
    #[allow(
        clippy::needless_pass_by_value,
        clippy::unused_self,
        reason = "handlers are methods that take their event by value"
    )]
    fn published(&mut self, notice: Notice, cx: &mut Context<'_>) {
        let key = notice.key();
        let published = cx.publish_keyed(&PoolName::manager(), key, &notice);
        published.map(drop).checked(cx);
    }

    fn notice(&mut self, notice: Notice, cx: &mut KeyedContext<'_, '_, String>) {
        let suppress_for = notice.suppress_for.unwrap_or(self.suppress);
        if notice.identifier.is_some() {
            let ts = notice.ts;
            let rows = cx.rows(&LOGGED);
            let is_near =
                |logged: Timestamp| logged - ts < suppress_for && ts - logged < suppress_for;
            if rows.into_iter().any(|(logged, _)| is_near(logged)) {
                cx.count("suppressed", 1);
                return;
            }
            let is_set = cx.set(&LOGGED, &ts, &(ts + suppress_for));
            self.remembered += usize::from(is_set);
            if self.remembered > self.max_remembered && !self.makes_room {
                self.makes_room = true;
                cx.schedule_mono(Duration::ZERO, MAKE_ROOM);
            }
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

    /// Forgets what suppresses nothing any more, and the oldest of what is too much.
    fn sweep(&mut self, cx: &mut Context<'_>) {
        let pool = PoolName::manager();
        let mut rows = cx.owned_rows(&pool, &LOGGED);
        rows.sort_by_key(|(_, ts, _)| *ts);
        let closed = cx.closed();
        let is_over = |until: Timestamp| closed.is_some_and(|closed| until <= closed);
        let (over, left): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(_, _, until)| is_over(*until));
        // Some more, so that it is not swept for every notice.
        let most = self.max_remembered;
        let too_many = if left.len() > most {
            left.len() - (most - most / 16)
        } else {
            0
        };
        self.remembered = left.len() - too_many;
        cx.count("evicted", too_many as u64);
        for (key, ts, _) in over.iter().chain(&left[..too_many]) {
            cx.with_key(&pool, key, |cx| cx.remove(&LOGGED, ts));
        }
    }
}
