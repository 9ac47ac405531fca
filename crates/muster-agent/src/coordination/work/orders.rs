//! What people ask of the coordinator of a box.

use muster_coordination::{Coordinator, StoreOrderError};

use super::super::groups::{self, StoreAction, StoreOrder};
use super::{Order, Shown, ShownStores, Work};
use crate::api::Refusal;
use crate::mesh::agent_name;

impl Work {
    pub(super) fn order(&mut self, order: Order) {
        match order {
            Order::Show(answer) => {
                // Who is said to be away is so since some time.
                self.look_who_is_away();
                let shown = Shown {
                    status: self.coordinator.as_ref().map(Coordinator::status),
                    epoch: self.view.epoch(),
                    problem: self.problem.clone(),
                    away: self.away.since(),
                    stores: self.groups.counts(),
                    lacks: self.groups.lacks(&self.view),
                };
                let _ = answer.send(shown);
            }
            Order::ShowStores(answer) => {
                let _ = answer.send(self.shown_stores());
            }
            Order::Store(order, done) => {
                let _ = done.send(self.store(&order));
            }
            Order::Recover { lost, done } => match self.may_recover(&lost) {
                Ok(()) => {
                    self.recovering = Some(done);
                    self.renew();
                }
                Err(problem) => {
                    let _ = done.send(Err(problem));
                }
            },
        }
    }

    fn shown_stores(&self) -> ShownStores {
        let status = self.coordinator.as_ref().map(Coordinator::status);
        let (leader, term) = status.map_or((None, 0), |it| (it.leader, it.term));
        ShownStores {
            leader,
            term,
            generation: self.view.generation(),
            epoch: self.view.epoch(),
            stores: self.groups.status(&self.view),
        }
    }

    /// Has the coordinator of this box decide what an operator wants, if it leads. The view says when it is done.
    fn store(&mut self, order: &StoreOrder) -> Result<(), Refusal> {
        let StoreOrder {
            action,
            store,
            node,
        } = order;
        let ordered = match (&mut self.coordinator, action) {
            (None, _) => Err(StoreOrderError::NotLeading),
            (Some(coordinator), StoreAction::Move) => coordinator.move_store(store, node),
            (Some(coordinator), StoreAction::Adopt) => coordinator.adopt_store(store, node),
        };
        ordered.map_err(|error| {
            let view = self.coordinator.as_ref().and_then(Coordinator::view);
            groups::refusal(view, order, error)
        })
    }

    /// Why this box must not go on alone, if it must not.
    fn may_recover(&self, lost: &str) -> Result<(), String> {
        let Some(coordinator) = &self.coordinator else {
            let problem = self.problem.as_deref().unwrap_or("it is no coordinator");
            return Err(format!(
                "box {} cannot go on alone: {problem}",
                self.config.own
            ));
        };
        if !self.config.voters.iter().any(|it| it == lost) {
            return Err(format!(
                "box {lost} is no coordinator: {} are",
                self.config.voters.join(", ")
            ));
        }
        if lost == self.config.own {
            return Err(format!("box {lost} is this one"));
        }
        if self.recovering.is_some() {
            return Err("it is under way already".to_owned());
        }
        let status = coordinator.status();
        if let Some(leader) = status.leader.filter(|_| coordinator.hears_most()) {
            return Err(format!(
                "the coordinators decide, and box {leader} leads: there is nothing to recover"
            ));
        }
        if self.reach.reaches(&agent_name(lost)) {
            return Err(format!(
                "box {lost} is not lost: its agent answers. Two groups of coordinators must never decide"
            ));
        }
        Ok(())
    }
}
