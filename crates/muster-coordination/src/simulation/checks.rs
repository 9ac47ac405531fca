//! What is looked at after each step, and in the end.

use std::collections::BTreeMap;

use muster_cluster::coordination::{Standing, View};

use super::actors::{Part, Seen};
use super::world::World;
use crate::coordinator::Part as Role;

impl World {
    /// Looks at what a process shows.
    pub(super) fn check(&mut self, at: usize) -> Result<(), String> {
        self.check_steps(at)?;
        let process = &mut self.processes[at];
        let view = match &process.part {
            Part::Coordinator {
                coordinator: Some(coordinator),
                ..
            } => coordinator.view(),
            Part::Coordinator { .. } => None,
            Part::Node { view, .. } => Some(view),
        };
        let Some(view) = view else { return Ok(()) };
        let seen = Seen::of(view);
        // Most steps change nobody's view.
        if seen != process.seen {
            let before = process.seen;
            if seen.generation < before.generation || seen.epoch < before.epoch {
                return Err(format!(
                    "I5: {} goes back from {before:?} to {seen:?}",
                    process.name
                ));
            }
            let view = view.clone();
            process.seen = seen;
            if matches!(process.part, Part::Coordinator { .. }) {
                self.oracle.is_agreed(&view);
            }
            self.sees(at, &view)?;
            self.account.epochs = self.oracle.epochs() as u64;
            self.account.silent = self.oracle.silent() as u64;
        }
        self.check_lease(at)
    }

    /// Looks at each entry that a coordinator has applied.
    fn check_steps(&mut self, at: usize) -> Result<(), String> {
        let Part::Coordinator {
            coordinator: Some(coordinator),
            ..
        } = &mut self.processes[at].part
        else {
            return Ok(());
        };
        for (before, after) in coordinator.take_steps() {
            self.histories.step(&before, &after, self.now)?;
        }
        let histories = &self.histories;
        self.account.promotions = histories.promotions.len() as u64;
        self.account.restarts = histories.restarts.len() as u64;
        self.account.joins = histories.joins.len() as u64;
        self.account.shrinks = histories.shrinks.len() as u64;
        Ok(())
    }

    pub(super) fn sees(&mut self, at: usize, view: &View) -> Result<(), String> {
        let name = &self.processes[at].name;
        let given_up = self.oracle.sees(name, view)?;
        if self.oracle.is_replaced(view) {
            // Whoever was taken for lost may go on without the others. No node hears it.
            return Ok(());
        }
        for (node, session) in given_up {
            let process = self.processes.iter().find(|it| it.name == node);
            let Some(process) = process.filter(|it| it.is_up) else {
                continue;
            };
            if let Part::Node { lease, .. } = &process.part
                && lease.session() == session
                && lease.runs(process.clock(self.now))
            {
                return Err(format!(
                    "I6: {node} is given up by {name} while its lease runs"
                ));
            }
        }
        Ok(())
    }

    /// Nobody whose lease runs was given up for silence.
    fn check_lease(&self, at: usize) -> Result<(), String> {
        let process = &self.processes[at];
        let Part::Node { lease, view, .. } = &process.part else {
            return Ok(());
        };
        let own = view.get(&process.name);
        let is_over = own.is_some_and(|it| {
            it.session > lease.session() || (it.session == lease.session() && it.out.is_some())
        });
        if is_over && lease.session() != 0 && lease.runs(process.clock(self.now)) {
            return Err(format!(
                "I6: {} knows that it is out, and acts",
                process.name
            ));
        }
        // Who goes on alone may not have heard of it.
        if !self.recovered
            && lease.runs(process.clock(self.now))
            && self.oracle.is_silent(&process.name, lease.session())
        {
            return Err(format!(
                "I6: {} was given up for silence, and acts",
                process.name
            ));
        }
        Ok(())
    }

    /// The coordinators, by box.
    fn roles(&self) -> BTreeMap<&str, Role> {
        let processes = self.processes.iter();
        let coordinators = processes.filter_map(|it| match &it.part {
            Part::Coordinator { coordinator, .. } => {
                Some((it.name.as_str(), coordinator.as_ref()?))
            }
            Part::Node { .. } => None,
        });
        coordinators
            .map(|(name, it)| (name, it.status().part))
            .collect()
    }

    /// Somebody leads.
    pub(super) fn check_led(&self) -> Result<(), String> {
        let roles = self.roles();
        match roles.values().filter(|it| **it == Role::Leader).count() {
            1 => Ok(()),
            count => Err(format!("I4: {count} lead: {roles:?}")),
        }
    }

    /// Everybody is in, but for those who have come and gone so often that they have to wait.
    pub(super) fn check_in(&self) -> Result<(), String> {
        let coordinators = self.processes.iter().filter_map(|it| match &it.part {
            Part::Coordinator { coordinator, .. } => coordinator.as_ref(),
            Part::Node { .. } => None,
        });
        let leader = coordinators.clone().find(|it| it.decides());
        for process in &self.processes {
            let Part::Node { lease, .. } = &process.part else {
                continue;
            };
            let standing = lease.standing(process.clock(self.now));
            let waits = leader.is_some_and(|it| it.is_to_wait(&process.name));
            if standing != Standing::In && !waits {
                return Err(format!("L: {} is {standing:?}", process.name));
            }
        }
        Ok(())
    }

    /// Everybody is in, and all have the same view.
    pub(super) fn check_settled(&self) -> Result<(), String> {
        let mut epochs = BTreeMap::new();
        for process in &self.processes {
            let clock = process.clock(self.now);
            match &process.part {
                Part::Coordinator { coordinator, .. } => {
                    let view = coordinator.as_ref().and_then(|it| it.view());
                    epochs.insert(&process.name, view.map(Seen::of));
                }
                Part::Node { lease, view, .. } => {
                    epochs.insert(&process.name, Some(Seen::of(view)));
                    let standing = lease.standing(clock);
                    if standing != Standing::In {
                        return Err(format!("L: {} is {standing:?}", process.name));
                    }
                }
            }
        }
        let first = epochs.values().next().copied().flatten();
        if first.is_none_or(|it| it.epoch == 0) || epochs.values().any(|it| *it != first) {
            return Err(format!("L: views differ: {epochs:?}"));
        }
        self.check_stores()?;
        self.oracle.check_told()
    }
}
