//! Which node processes should run: decides, and leaves processes and clocks to its caller.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use muster_cluster::Role;
use muster_gateway::status::FAILED;
use muster_wire::Mono;

/// The first pause before a node that ended is started again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A node that ran this long has recovered: its next pause is the first again.
const RECOVERED: Duration = Duration::from_secs(60);

/// A node that ends so often within [`FAILING_WITHIN`] is failing.
const FAILING_AFTER: usize = 5;

/// See [`FAILING_AFTER`].
const FAILING_WITHIN: Duration = Duration::from_secs(600);

/// The pause of a node that is failing: it costs its peers something each time it comes.
const FAILING_PAUSE: Duration = Duration::from_secs(300);

/// How long a node may take to stop before it is killed.
pub const STOP_LIMIT: Duration = Duration::from_secs(15);

/// The order in which roles stop: whoever sends before whoever takes it.
const STOP_ORDER: [Role; 4] = [Role::Worker, Role::Proxy, Role::Manager, Role::Logger];

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a process, unless there is one already.
    Start(String),
    /// Ask the process to stop in order.
    Stop(String),
    Kill(String),
}

/// What becomes of a node's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessState {
    Running {
        since: Mono,
    },
    /// Ended; started again at that time.
    Waiting {
        until: Mono,
    },
    /// Ended too often of late; started again at that time.
    Failing {
        until: Mono,
    },
    /// Asked to stop; killed at the deadline.
    Stopping {
        deadline: Mono,
        then: Then,
    },
    /// Stopped or killed on purpose, and not started again until somebody asks for it.
    Held,
    /// Ended because the node cannot be configured: it would end so again.
    Failed,
    Ended,
}

/// What becomes of a node that was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is started again at once.
    Start,
    /// It is held.
    Hold,
    /// All of them end.
    End,
}

/// Why nothing can be done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unable {
    /// There is no such node on this box.
    Unknown,
    /// All of them are being stopped.
    Stopping,
}

/// How a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// What ended it may pass: it is started again.
    MayPass,
    /// It says that its node cannot be configured.
    Misconfigured,
}

impl ProcessState {
    /// The names of all states.
    pub(crate) const NAMES: [&'static str; 7] = [
        "running", "waiting", "failing", "stopping", "held", "failed", "ended",
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Running { .. } => "running",
            Self::Waiting { .. } => "waiting",
            Self::Failing { .. } => "failing",
            Self::Stopping { .. } => "stopping",
            Self::Held => "held",
            Self::Failed => FAILED,
            Self::Ended => "ended",
        }
    }

    /// Returns whether somebody has stopped the node on purpose, or is about to.
    pub(crate) fn is_held(self) -> bool {
        let is_stopping = matches!(
            self,
            Self::Stopping {
                then: Then::Hold,
                ..
            }
        );
        is_stopping || self == Self::Held
    }

    fn has_process(self) -> bool {
        matches!(self, Self::Running { .. } | Self::Stopping { .. })
    }
}

#[derive(Debug)]
struct Process {
    role: Role,
    state: ProcessState,
    pause: Duration,
    restarts: u32,
    /// When it ended without having been asked to, of late.
    ends: VecDeque<Mono>,
}

impl Process {
    /// Notes that the process has ended by itself. Returns when it is to be started again.
    fn fall(&mut self, since: Mono, now: Mono) -> ProcessState {
        if now.since(since) >= RECOVERED {
            self.pause = FIRST_PAUSE;
        }
        self.ends.push_back(now);
        while self
            .ends
            .front()
            .is_some_and(|end| now.since(*end) > FAILING_WITHIN)
        {
            self.ends.pop_front();
        }
        if self.ends.len() >= FAILING_AFTER {
            return ProcessState::Failing {
                until: now.after(FAILING_PAUSE),
            };
        }
        let until = now.after(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        ProcessState::Waiting { until }
    }

    /// Forgets what went wrong: somebody who may know better asks for the node.
    fn forgive(&mut self) {
        self.pause = FIRST_PAUSE;
        self.ends.clear();
    }

    fn starts(&mut self, now: Mono) {
        self.state = ProcessState::Running { since: now };
        self.restarts += 1;
    }
}

/// The processes of a layout.
#[derive(Debug)]
pub(crate) struct Supervisor {
    processes: BTreeMap<String, Process>,
    /// The position in [`STOP_ORDER`] that is stopping, once the cluster is.
    stopping: Option<usize>,
}

impl Supervisor {
    pub(crate) fn new(nodes: impl IntoIterator<Item = (String, Role)>) -> Self {
        let process = |role| Process {
            role,
            state: ProcessState::Ended,
            pause: FIRST_PAUSE,
            restarts: 0,
            ends: VecDeque::new(),
        };
        let processes = nodes
            .into_iter()
            .map(|(name, role)| (name, process(role)))
            .collect();
        Self {
            processes,
            stopping: None,
        }
    }

    /// Starts every node that has no process and is not held.
    pub(crate) fn start(&mut self, now: Mono) -> Vec<Action> {
        let processes = self.processes.iter_mut();
        let start = |(name, process): (&String, &mut Process)| {
            process.state = ProcessState::Running { since: now };
            Action::Start(name.clone())
        };
        processes
            .filter(|(_, process)| process.state == ProcessState::Ended)
            .map(start)
            .collect()
    }

    /// A node's state and restarts.
    pub(crate) fn get(&self, name: &str) -> Option<(ProcessState, u32)> {
        self.processes
            .get(name)
            .map(|process| (process.state, process.restarts))
    }

    /// Whether the cluster is stopping or has stopped.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Whether the cluster was stopped and no process is left.
    pub(crate) fn is_done(&self) -> bool {
        self.stopping.is_some()
            && !self
                .processes
                .values()
                .any(|process| process.state.has_process())
    }

    /// Whether no node can be configured, so that nothing is left to do.
    pub(crate) fn has_failed(&self) -> bool {
        let mut processes = self.processes.values();
        self.stopping.is_none() && processes.all(|process| process.state == ProcessState::Failed)
    }

    /// A node's process has ended.
    pub(crate) fn exited(&mut self, name: &str, end: End, now: Mono) -> Vec<Action> {
        let stopping = self.stopping.is_some();
        let Some(process) = self.processes.get_mut(name) else {
            return Vec::new();
        };
        let mut actions = Vec::new();
        process.state = match process.state {
            held if held.is_held() => ProcessState::Held,
            _ if stopping => ProcessState::Ended,
            ProcessState::Stopping {
                then: Then::Start, ..
            } => {
                process.restarts += 1;
                actions.push(Action::Start(name.to_owned()));
                ProcessState::Running { since: now }
            }
            ProcessState::Running { .. } if end == End::Misconfigured => ProcessState::Failed,
            ProcessState::Running { since } => process.fall(since, now),
            other => other,
        };
        actions.extend(self.next_role(now));
        actions
    }

    /// When there is something to do next if nothing happens before: for [`Supervisor::tick`].
    pub(crate) fn next_tick(&self) -> Option<Mono> {
        let times = self
            .processes
            .values()
            .filter_map(|process| match process.state {
                ProcessState::Waiting { until } | ProcessState::Failing { until } => Some(until),
                ProcessState::Stopping { deadline, .. } => Some(deadline),
                _ => None,
            });
        times.min()
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Mono) -> Vec<Action> {
        let mut actions = Vec::new();
        for (name, process) in &mut self.processes {
            match process.state {
                ProcessState::Waiting { until } | ProcessState::Failing { until }
                    if until <= now =>
                {
                    process.starts(now);
                    actions.push(Action::Start(name.clone()));
                }
                ProcessState::Stopping { deadline, then } if deadline <= now => {
                    process.state = ProcessState::Stopping {
                        deadline: now.after(STOP_LIMIT),
                        then,
                    };
                    actions.push(Action::Kill(name.clone()));
                }
                _ => {}
            }
        }
        actions
    }

    /// Stops every node in order. A node that is held is held from then on, too.
    pub(crate) fn stop(&mut self, now: Mono) -> Vec<Action> {
        if self.stopping.is_some() {
            return Vec::new();
        }
        self.stopping = Some(0);
        for process in self.processes.values_mut() {
            if !process.state.has_process() && !process.state.is_held() {
                process.state = ProcessState::Ended;
            }
        }
        let mut actions = self.stop_role(0, now);
        actions.extend(self.next_role(now));
        actions
    }

    /// Kills everything that is left.
    pub(crate) fn kill_all(&mut self) -> Vec<Action> {
        self.stopping = Some(STOP_ORDER.len());
        let alive = self
            .processes
            .iter()
            .filter(|(_, process)| process.state.has_process());
        alive.map(|(name, _)| Action::Kill(name.clone())).collect()
    }

    /// Returns a node that can be asked for something.
    fn asked(&mut self, name: &str) -> Result<&mut Process, Unable> {
        if self.stopping.is_some() {
            return Err(Unable::Stopping);
        }
        self.processes.get_mut(name).ok_or(Unable::Unknown)
    }

    /// Stops one node in order and starts it again.
    pub(crate) fn restart(&mut self, name: &str, now: Mono) -> Result<Vec<Action>, Unable> {
        let process = self.asked(name)?;
        process.forgive();
        if process.state.has_process() {
            process.state = ProcessState::Stopping {
                deadline: now.after(STOP_LIMIT),
                then: Then::Start,
            };
            return Ok(vec![Action::Stop(name.to_owned())]);
        }
        process.starts(now);
        Ok(vec![Action::Start(name.to_owned())])
    }

    /// Stops one node in order and keeps it down until it is [started](Supervisor::start_one).
    pub(crate) fn stop_one(&mut self, name: &str, now: Mono) -> Result<Vec<Action>, Unable> {
        let process = self.asked(name)?;
        if !process.state.has_process() {
            process.state = ProcessState::Held;
            return Ok(Vec::new());
        }
        process.state = ProcessState::Stopping {
            deadline: now.after(STOP_LIMIT),
            then: Then::Hold,
        };
        Ok(vec![Action::Stop(name.to_owned())])
    }

    /// Starts one node that has no process, whatever the reason. One that is being stopped comes back.
    pub(crate) fn start_one(&mut self, name: &str, now: Mono) -> Result<Vec<Action>, Unable> {
        let process = self.asked(name)?;
        match &mut process.state {
            ProcessState::Running { .. } => return Ok(Vec::new()),
            ProcessState::Stopping { then, .. } => {
                *then = Then::Start;
                return Ok(Vec::new());
            }
            _ => {}
        }
        process.forgive();
        process.starts(now);
        Ok(vec![Action::Start(name.to_owned())])
    }

    /// Takes over what an agent before this one knew of a node.
    pub(crate) fn recall(&mut self, name: &str, restarts: u32, is_held: bool) {
        if let Some(process) = self.processes.get_mut(name) {
            process.restarts = restarts;
            if is_held {
                process.state = ProcessState::Held;
            }
        }
    }

    /// A process was found running.
    pub(crate) fn found(&mut self, name: &str, now: Mono) {
        if let Some(process) = self.processes.get_mut(name) {
            process.state = ProcessState::Running { since: now };
        }
    }

    /// A process was found running although it should not be: stops it, and holds the node.
    pub(crate) fn found_held(&mut self, name: &str, now: Mono) -> Vec<Action> {
        let Some(process) = self.processes.get_mut(name) else {
            return Vec::new();
        };
        process.state = ProcessState::Stopping {
            deadline: now.after(STOP_LIMIT),
            then: Then::Hold,
        };
        vec![Action::Stop(name.to_owned())]
    }

    /// Kills a node hard and keeps it down until it is [started](Supervisor::start_one).
    pub(crate) fn hold(&mut self, name: &str) -> Vec<Action> {
        match self.processes.get_mut(name) {
            Some(process) if process.state.has_process() => {
                process.state = ProcessState::Held;
                vec![Action::Kill(name.to_owned())]
            }
            _ => Vec::new(),
        }
    }

    /// Goes on to the next role when all nodes of the present one have ended.
    fn next_role(&mut self, now: Mono) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(position) = self
            .stopping
            .filter(|position| *position < STOP_ORDER.len())
        {
            let role = STOP_ORDER[position];
            if self
                .processes
                .values()
                .any(|process| process.role == role && process.state.has_process())
            {
                break;
            }
            self.stopping = Some(position + 1);
            actions.extend(self.stop_role(position + 1, now));
        }
        actions
    }

    fn stop_role(&mut self, position: usize, now: Mono) -> Vec<Action> {
        let Some(role) = STOP_ORDER.get(position) else {
            return Vec::new();
        };
        let mut actions = Vec::new();
        for (name, process) in self
            .processes
            .iter_mut()
            .filter(|(_, process)| process.role == *role)
        {
            if process.state.has_process() {
                let then = if process.state.is_held() {
                    Then::Hold
                } else {
                    Then::End
                };
                process.state = ProcessState::Stopping {
                    deadline: now.after(STOP_LIMIT),
                    then,
                };
                actions.push(Action::Stop(name.clone()));
            }
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::default().after(Duration::from_secs(seconds))
    }

    fn supervisor() -> Supervisor {
        let nodes = [
            ("data-1", Role::Proxy),
            ("logger-1", Role::Logger),
            ("manager", Role::Manager),
            ("worker-1", Role::Worker),
        ];
        let mut supervisor = Supervisor::new(nodes.map(|(name, role)| (name.to_owned(), role)));
        assert_eq!(supervisor.start(at(0)).len(), 4);
        supervisor
    }

    fn start(name: &str) -> Vec<Action> {
        vec![Action::Start(name.to_owned())]
    }

    fn stop(name: &str) -> Vec<Action> {
        vec![Action::Stop(name.to_owned())]
    }

    #[test]
    fn a_node_that_ends_is_started_again_after_growing_pauses() {
        let mut supervisor = supervisor();
        assert_eq!(supervisor.next_tick(), None);
        assert_eq!(supervisor.exited("data-1", End::MayPass, at(1)), []);
        assert_eq!(supervisor.next_tick(), Some(Mono(at(1).0 + 500_000_000)));
        assert_eq!(supervisor.tick(at(1)), []);
        assert_eq!(supervisor.tick(at(2)), start("data-1"));
        assert_eq!(supervisor.next_tick(), None);
        supervisor.exited("data-1", End::MayPass, at(2));
        assert_eq!(supervisor.tick(Mono(at(2).0 + 999_999_999)), []);
        assert_eq!(supervisor.tick(at(3)), start("data-1"));
        // Having run for a minute, it has recovered.
        supervisor.exited("data-1", End::MayPass, at(100));
        assert_eq!(
            supervisor.tick(Mono(at(100).0 + 500_000_000)),
            start("data-1")
        );
        assert_eq!(
            supervisor.get("data-1").map(|(_, restarts)| restarts),
            Some(3)
        );
    }

    #[test]
    fn the_cluster_stops_from_those_who_send_to_those_who_take() {
        let mut supervisor = supervisor();
        assert_eq!(supervisor.stop(at(1)), stop("worker-1"));
        assert_eq!(
            supervisor.exited("worker-1", End::MayPass, at(2)),
            stop("data-1")
        );
        assert_eq!(
            supervisor.exited("data-1", End::MayPass, at(2)),
            stop("manager")
        );
        assert_eq!(
            supervisor.exited("manager", End::MayPass, at(2)),
            stop("logger-1")
        );
        assert!(!supervisor.is_done());
        assert_eq!(supervisor.exited("logger-1", End::MayPass, at(2)), []);
        assert!(supervisor.is_done());
    }

    #[test]
    fn a_node_that_does_not_stop_is_killed() {
        let mut supervisor = supervisor();
        supervisor.stop(at(1));
        assert_eq!(supervisor.tick(at(10)), []);
        assert_eq!(
            supervisor.tick(at(16)),
            [Action::Kill("worker-1".to_owned())]
        );
        assert_eq!(
            supervisor.exited("worker-1", End::MayPass, at(16)),
            stop("data-1")
        );
    }

    #[test]
    fn a_restart_stops_and_starts_and_a_held_node_waits() {
        let mut supervisor = supervisor();
        assert_eq!(supervisor.restart("manager", at(1)), Ok(stop("manager")));
        assert_eq!(
            supervisor.exited("manager", End::MayPass, at(2)),
            start("manager")
        );
        assert_eq!(supervisor.restart("nobody", at(2)), Err(Unable::Unknown));
        assert_eq!(
            supervisor.hold("data-1"),
            [Action::Kill("data-1".to_owned())]
        );
        assert_eq!(supervisor.exited("data-1", End::MayPass, at(3)), []);
        assert_eq!(supervisor.tick(at(60)), []);
        assert_eq!(supervisor.start_one("data-1", at(60)), Ok(start("data-1")));
    }

    #[test]
    fn a_stopped_node_stays_down_until_it_is_asked_for() {
        let mut supervisor = supervisor();
        assert_eq!(supervisor.stop_one("data-1", at(1)), Ok(stop("data-1")));
        assert_eq!(supervisor.exited("data-1", End::MayPass, at(2)), []);
        assert_eq!(supervisor.tick(at(3600)), []);
        assert_eq!(
            supervisor.start_one("data-1", at(3600)),
            Ok(start("data-1"))
        );
        assert_eq!(supervisor.start_one("data-1", at(3600)), Ok(Vec::new()));
        // Whoever asks for it while it stops gets it afterwards.
        supervisor.stop_one("data-1", at(3601)).unwrap();
        assert_eq!(supervisor.start_one("data-1", at(3602)), Ok(Vec::new()));
        assert_eq!(
            supervisor.exited("data-1", End::MayPass, at(3603)),
            start("data-1")
        );
        supervisor.stop(at(3604));
        assert_eq!(
            supervisor.stop_one("data-1", at(3604)),
            Err(Unable::Stopping)
        );
    }

    #[test]
    fn a_node_that_ends_again_and_again_is_failing_until_somebody_asks_for_it() {
        let mut supervisor = supervisor();
        let mut now = at(0);
        for end in 1..=FAILING_AFTER {
            assert_eq!(supervisor.exited("data-1", End::MayPass, now), []);
            if end < FAILING_AFTER {
                now = now.after(LONGEST_PAUSE);
                assert_eq!(supervisor.tick(now), start("data-1"));
            }
        }
        let state = |supervisor: &Supervisor| supervisor.get("data-1").unwrap().0.name();
        assert_eq!(state(&supervisor), "failing");
        assert_eq!(supervisor.tick(now.after(LONGEST_PAUSE * 2)), []);
        assert_eq!(supervisor.tick(now.after(FAILING_PAUSE)), start("data-1"));
        // It fails once more: another long pause, unless somebody has mended it.
        now = now.after(FAILING_PAUSE);
        supervisor.exited("data-1", End::MayPass, now);
        assert_eq!(state(&supervisor), "failing");
        assert_eq!(supervisor.start_one("data-1", now), Ok(start("data-1")));
        supervisor.exited("data-1", End::MayPass, now);
        assert_eq!(state(&supervisor), "waiting");
    }

    #[test]
    fn what_an_earlier_agent_held_is_held() {
        let mut supervisor = supervisor();
        for name in ["data-1", "manager"] {
            supervisor.processes.get_mut(name).unwrap().state = ProcessState::Ended;
        }
        supervisor.recall("data-1", 4, true);
        assert_eq!(supervisor.start(at(1)), start("manager"));
        assert_eq!(supervisor.get("data-1"), Some((ProcessState::Held, 4)));
    }

    #[test]
    fn a_held_node_whose_process_is_there_all_the_same_is_stopped_and_not_started() {
        let mut supervisor = supervisor();
        for name in ["data-1", "manager"] {
            supervisor.processes.get_mut(name).unwrap().state = ProcessState::Ended;
        }
        supervisor.recall("data-1", 4, true);
        assert_eq!(supervisor.found_held("data-1", at(1)), stop("data-1"));
        assert_eq!(supervisor.start(at(1)), start("manager"));
        assert_eq!(supervisor.exited("data-1", End::MayPass, at(2)), []);
        assert_eq!(supervisor.get("data-1"), Some((ProcessState::Held, 4)));
    }

    #[test]
    fn a_held_node_is_held_after_all_have_stopped() {
        let mut supervisor = supervisor();
        supervisor.stop_one("manager", at(1)).unwrap();
        supervisor.exited("manager", End::MayPass, at(2));
        // This one still stops.
        supervisor.stop_one("data-1", at(3)).unwrap();
        supervisor.stop(at(4));
        for name in ["worker-1", "data-1", "logger-1"] {
            supervisor.exited(name, End::MayPass, at(5));
        }
        assert!(supervisor.is_done());
        let is_held = |name| supervisor.get(name).unwrap().0.is_held();
        assert!(is_held("manager") && is_held("data-1"));
        assert!(!is_held("worker-1") && !is_held("logger-1"));
    }

    #[test]
    fn a_node_that_cannot_be_configured_waits_for_somebody() {
        let mut supervisor = supervisor();
        assert_eq!(supervisor.exited("data-1", End::Misconfigured, at(1)), []);
        assert_eq!(supervisor.tick(at(3600)), []);
        let state = supervisor.get("data-1").map(|(state, _)| state);
        assert_eq!(state, Some(ProcessState::Failed));
        assert!(!supervisor.has_failed());
        let restarted = supervisor.restart("data-1", at(3600));
        assert_eq!(restarted, Ok(start("data-1")));
        for name in ["data-1", "logger-1", "manager", "worker-1"] {
            supervisor.exited(name, End::Misconfigured, at(3601));
        }
        assert!(supervisor.has_failed());
        assert_eq!(supervisor.stop(at(3602)), []);
        assert!(supervisor.is_done());
    }

    #[test]
    fn a_node_that_waits_for_its_restart_does_not_hold_up_the_stop() {
        let mut supervisor = supervisor();
        supervisor.exited("worker-1", End::MayPass, at(1));
        assert_eq!(supervisor.stop(at(1)), stop("data-1"));
        assert_eq!(supervisor.tick(at(60)), [Action::Kill("data-1".to_owned())]);
    }

    #[test]
    fn every_state_has_one_of_the_names() {
        let time = Mono::default();
        let (running, waiting) = (
            ProcessState::Running { since: time },
            ProcessState::Waiting { until: time },
        );
        let stopping = ProcessState::Stopping {
            deadline: time,
            then: Then::Hold,
        };
        let all = [
            running,
            waiting,
            ProcessState::Failing { until: time },
            stopping,
            ProcessState::Held,
            ProcessState::Failed,
            ProcessState::Ended,
        ];
        assert_eq!(all.map(ProcessState::name), ProcessState::NAMES);
    }
}
