//! One coordinator: what it hears, and what it wants done.

mod answering;
mod founding;
mod group;
mod leading;
mod reports;
mod rounds;
mod status;
mod stores;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use muster_cluster::coordination::{
    CopyJoined, CopyStuck, Leaving, Renew, StoreWanted, View, ViewWanted,
};
use muster_consensus::{Batch, ClusterId, DiskId, Kept, KeptError};
use muster_data::Record;
use muster_wire::zeek::EventRef;
use muster_wire::{EndpointId, Mono};

use crate::detector::GRACE;
use crate::messages::{Begin, Carried, Present};
use crate::sabotage::Sabotage;
use crate::state::State;
#[cfg(test)]
pub(crate) use leading::ENTRY_BYTES;
pub use status::{MemberStatus, Part, Status, VoterStatus};
pub use stores::StoreOrderError;

use founding::Others;
use group::Group;

/// How often a voter without a group says that it is there.
const FOUNDING_EVERY: Duration = Duration::from_millis(500);

/// How often one that has a group does.
const PRESENT_EVERY: Duration = Duration::from_secs(2);

/// How long a voter counts as there that was heard.
pub(crate) const PRESENT_FOR: Duration = Duration::from_secs(5);

/// The nodes whose refusal is told.
const MOST_REFUSED: usize = 64;

/// From when on a coordinator that was not run takes itself for stopped.
const STOPPED: Duration = Duration::from_millis(600);

/// What a coordinator is, by the layout of its cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its box.
    pub me: String,
    /// The boxes whose coordinators vote, in the order in which they had better lead.
    pub voters: Vec<String>,
    /// Of these, who has no nodes: they had better not lead.
    pub witnesses: Vec<String>,
    /// The nodes of the layout, with their boxes.
    pub nodes: BTreeMap<String, String>,
}

/// Whom something is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// The coordinator of a box.
    Voter(String),
    /// A life of a node.
    Life(EndpointId),
    /// Everybody.
    All,
}

/// What a coordinator wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An event goes out. It may be lost.
    Send(To, Vec<u8>),
    /// The first content of its file is to be written and synced; then [`Coordinator::begun`] is called.
    Begin(Kept),
    /// A batch is to be written; then [`Coordinator::persisted`] hears its number.
    Persist(u64, Batch),
    /// Its group is gone: the file is to be put aside, and a coordinator with a new one takes this one's place.
    Retire,
    /// An operator should know.
    Report(Severity, String),
}

/// How bad a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Normal operation.
    Info,
    /// Something is not as it should be, and goes on.
    Warning,
    /// An operator must act.
    Error,
}

/// One coordinator. It has no I/O, no clock and no randomness of its own.
///
/// After every call [`poll`](Self::poll) is called until it returns `None`.
pub struct Coordinator {
    config: Config,
    disk: DiskId,
    random: u64,
    group: Option<Group>,
    /// A group is being written to the file.
    beginning: Option<Kept>,
    others: Others,
    outputs: VecDeque<Output>,
    present_at: Mono,
    turned: Mono,
    now: Mono,
    /// Seconds since 1970.
    wall: u64,
    /// The endpoints of voters that the mesh reaches, by box of the layout.
    reached_voters: BTreeMap<String, EndpointId>,
    /// The other endpoints that it reaches, which the mesh bounds.
    reached_nodes: BTreeSet<EndpointId>,
    /// The nodes whose renewals were refused, at most [`MOST_REFUSED`].
    refused: BTreeSet<String>,
    problem: Option<String>,
    /// Until when another one counts as there that says it is this box.
    twin_until: Mono,
    /// What is not as it should be between this voter and another one, by its box.
    quarrels: BTreeMap<String, String>,
    /// The generation of the group that it was told to begin with: as a stranger to it, it knows nothing else of it.
    told_generation: u64,
    sabotage: Sabotage,
}

/// Why a coordinator cannot go on with its file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// The file contradicts itself.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// What is agreed on in it cannot be read.
    #[error("what is agreed on is not of a form that this release knows")]
    State,
}

impl Coordinator {
    /// Begins a life of a coordinator with what its file holds: none, if it belongs to no group yet. `random` is a number that no other
    /// coordinator has.
    ///
    /// # Errors
    ///
    /// Fails if the file contradicts itself.
    pub fn new(
        config: Config,
        disk: DiskId,
        kept: Option<Kept>,
        now: Mono,
        random: u64,
    ) -> Result<Self, BeginError> {
        let mut coordinator = Self {
            config,
            disk,
            random,
            group: None,
            beginning: None,
            others: Others::default(),
            outputs: VecDeque::new(),
            present_at: now,
            turned: now,
            now,
            wall: 0,
            reached_voters: BTreeMap::new(),
            reached_nodes: BTreeSet::new(),
            refused: BTreeSet::new(),
            problem: None,
            twin_until: Mono(0),
            quarrels: BTreeMap::new(),
            told_generation: 0,
            sabotage: Sabotage::Nothing,
        };
        if let Some(kept) = kept {
            coordinator.start(kept)?;
        }
        Ok(coordinator)
    }

    /// Breaks a rule from now on.
    #[cfg(any(test, feature = "simulation"))]
    pub fn sabotage(&mut self, sabotage: Sabotage) {
        self.sabotage = sabotage;
        if let Some(group) = &mut self.group {
            group.sabotage(sabotage);
        }
    }

    /// Returns what is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`tick`](Self::tick) is to be called.
    pub fn next_tick(&self) -> Mono {
        if self.has_twin() {
            return self.present_at;
        }
        let group = self.group.as_ref().map(Group::next_tick);
        group.map_or(self.present_at, |at| at.min(self.present_at))
    }

    /// Says that the time has passed. `wall` is the time in seconds since 1970, to be shown to people.
    pub fn tick(&mut self, now: Mono, wall: u64) {
        self.turn(now);
        self.wall = wall;
        if self.now >= self.present_at {
            self.say_present();
            if let Some(group) = &mut self.group {
                group.detector.forget_old(self.now);
            }
        }
        if self.has_twin() {
            return;
        }
        self.found_if_all_are_there();
        self.run_group(|group, now| group.consensus.tick(now));
    }

    /// Whether another coordinator says that it is this box, as after a machine was copied. Then neither takes part: with one file they
    /// would vote twice.
    fn has_twin(&self) -> bool {
        self.now < self.twin_until
    }

    /// What is said as long as there is another one.
    fn twin_problem(&self) -> Option<String> {
        let me = &self.config.me;
        let text = || {
            format!(
                "another agent says that it is box {me}, too: until one of them is gone, neither takes part"
            )
        };
        self.has_twin().then(text)
    }

    /// What is due by the time that has passed since the last call, before anything else is looked at.
    fn turn(&mut self, now: Mono) {
        let was_stopped = now.since(self.turned) > STOPPED;
        self.turned = self.turned.max(now);
        self.now = self.now.max(now);
        if was_stopped && let Some(group) = &mut self.group {
            // What was not heard may have been said.
            group.detector.counts_from(self.now);
            group.stores.counts_anew();
        }
    }

    /// The first content of the file is written and synced.
    pub fn begun(&mut self) {
        let Some(kept) = self.beginning.take() else {
            return;
        };
        if let Err(error) = self.start(kept) {
            self.fails(error.to_string());
            return;
        }
        self.present_at = self.now;
        self.run_group(|_, _| {});
    }

    /// All batches up to a number are on disk.
    pub fn persisted(&mut self, upto: u64) {
        self.run_group(|group, _| group.consensus.persisted(upto));
    }

    /// An endpoint has come into the mesh's reach, or is out of it. `name` is what its certificate, or its own word, says.
    pub fn reaches(&mut self, id: EndpointId, name: &str, reached: bool, now: Mono) {
        self.turn(now);
        if let Some(of_box) = name.strip_prefix(muster_cluster::AGENT_PREFIX) {
            if !self.config.voters.iter().any(|it| it == of_box) {
                return;
            }
            let known = self.reached_voters.get(of_box) == Some(&id);
            if reached {
                self.reached_voters.insert(of_box.to_owned(), id);
            } else if known {
                self.reached_voters.remove(of_box);
            }
            if reached || known {
                self.run_group(|group, now| group.reaches_voter(of_box, reached, now));
            }
            return;
        }
        if reached {
            self.reached_nodes.insert(id);
        } else {
            self.reached_nodes.remove(&id);
        }
        self.run_group(|group, now| {
            group.detector.reaches(id, reached, now);
            // What was lost is decided on when it cannot come back by another way.
            group.look_at = group.look_at.min(now.after(GRACE));
        });
    }

    /// Takes an event that is for coordinators. `name` is the sender's, as its certificate, or its own word, says it.
    pub fn receive(&mut self, from: EndpointId, name: &str, event: &EventRef<'_>, now: Mono) {
        self.turn(now);
        let arguments = event.arguments();
        let of_voter = name.strip_prefix(muster_cluster::AGENT_PREFIX);
        if event.name() == Present::NAME && of_voter == Some(&self.config.me) {
            let is_new = !self.has_twin();
            self.twin_until = self.now.after(PRESENT_FOR);
            if let Some(problem) = self.twin_problem().filter(|_| is_new) {
                self.report(Severity::Error, format!("coordination: {problem}"));
            }
        }
        if self.has_twin() {
            return;
        }
        match (event.name(), of_voter) {
            (Renew::NAME, None) => {
                if let Ok(renew) = arguments.to::<Renew>()
                    && renew.node == name
                {
                    self.renewed(from, renew);
                }
            }
            (Leaving::NAME, None) => {
                if let Ok(leaving) = arguments.to::<Leaving>()
                    && leaving.node == name
                {
                    self.run_group(|group, _| group.detector.leaves(from, &leaving.node));
                }
            }
            (ViewWanted::NAME, _) => {
                if let Ok(wanted) = arguments.to::<ViewWanted>() {
                    self.tell_view(from, wanted.epoch);
                }
            }
            (StoreWanted::NAME, None) => {
                if let Ok(wanted) = arguments.to::<StoreWanted>() {
                    self.store_wanted(from, name, wanted);
                }
            }
            (CopyJoined::NAME, None) => {
                if let Ok(joined) = arguments.to::<CopyJoined>() {
                    self.copy_joined(from, &joined);
                }
            }
            (CopyStuck::NAME, None) => {
                if let Ok(stuck) = arguments.to::<CopyStuck>() {
                    self.copy_stuck(from, &stuck);
                }
            }
            (Present::NAME, Some(voter)) if voter != self.config.me => {
                if let Ok(present) = arguments.to::<Present>() {
                    self.hears_present(voter, &present);
                }
            }
            (Begin::NAME, Some(voter)) if voter != self.config.me => {
                if let Ok(begin) = arguments.to::<Begin>() {
                    self.told_to_begin(voter, begin);
                }
            }
            (Carried::NAME, Some(voter)) if voter != self.config.me => {
                if let Ok(carried) = arguments.to::<Carried>() {
                    let voter = voter.to_owned();
                    self.run_group(|group, now| group.hears(&voter, &carried, now));
                    self.answer_confirmed();
                }
            }
            _ => {}
        }
    }

    /// Who is in, as far as this coordinator knows that it is agreed on.
    pub fn view(&self) -> Option<&View> {
        self.group.as_ref().map(|group| group.state.view())
    }

    /// The first content of a new file with which this coordinator goes on alone: most of the others are lost for good, or not to be waited
    /// for. The others follow when they hear of it.
    pub fn recovered(&self, disk: DiskId) -> Option<Kept> {
        let cluster = ClusterId(disk.0);
        let nothing = State::founded(cluster.0, 0);
        let state = self.group.as_ref().map_or(&nothing, |group| &group.state);
        let state = state.refounded(cluster.0);
        founding::content(cluster, disk, vec![(self.config.me.clone(), disk)], &state)
    }

    /// Begins with a content that [`recovered`](Self::recovered) has made for its file.
    pub fn begin_with(&mut self, kept: Kept) {
        if self.group.is_none() && self.beginning.is_none() {
            self.begin(kept);
        }
    }

    /// Returns `true` if it leads, and knows all that is agreed on.
    pub fn decides(&self) -> bool {
        self.group.as_ref().is_some_and(Group::decides)
    }

    /// Whether the mesh reaches most voters of its group.
    pub fn hears_most(&self) -> bool {
        let group = self.group.as_ref();
        group.is_some_and(|group| group.are_most(&self.reached_voters))
    }

    fn send<R: Record + muster_data::Encode>(&mut self, to: To, record: &R) {
        let event = muster_cluster::coordination::event(record);
        self.outputs.push_back(Output::Send(to, event));
    }

    fn report(&mut self, severity: Severity, text: String) {
        self.outputs.push_back(Output::Report(severity, text));
    }

    /// It goes on without taking part, and says why.
    fn fails(&mut self, problem: String) {
        if self.problem.as_ref() != Some(&problem) {
            self.report(Severity::Error, format!("coordination: {problem}"));
            self.problem = Some(problem);
        }
    }
}

/// A name that somebody has said, as it may stand in a report: at most 128 letters, control characters escaped.
fn clip(name: &str) -> String {
    name.chars()
        .take(128)
        .flat_map(char::escape_debug)
        .collect()
}
