//! The view that an agent goes by, and through whom it therefore has nothing led.

use muster_cluster::coordination::{self, NotTaken, ViewChange, ViewUpdate, ViewWanted};
use muster_coordination::Coordinator;
use muster_wire::zeek::EventRef;
use muster_wire::{EndpointId, Mono};

use super::{Work, wall};
use crate::mesh::agent_name;

impl Work {
    pub(super) async fn view_told(&mut self, name: &str, event: &EventRef<'_>) {
        let voter = name.strip_prefix(muster_cluster::AGENT_PREFIX);
        let Some(voter) = voter.filter(|it| self.config.voters.iter().any(|known| known == it))
        else {
            return;
        };
        let Ok(update) = event.arguments().to::<ViewUpdate>() else {
            return;
        };
        let voter = voter.to_owned();
        if self.follow(&update).await == Err(NotTaken::Gap) {
            self.ask_for_view(&voter);
        }
    }

    /// Who is out is led around, and who is in may relay.
    async fn follow(&mut self, update: &ViewUpdate) -> Result<(), NotTaken> {
        let is_first = self.view.epoch() == 0;
        let changes = self.view.update(update)?;
        self.groups.look(&self.view, wall(), is_first);
        for change in changes {
            match change {
                ViewChange::Out { node, life, reason } => {
                    if !is_first {
                        tracing::info!("node out: {node} {}", reason.text());
                    }
                    if self.fences.hold() {
                        self.endpoint.fence(life).await;
                    }
                }
                ViewChange::In { life, .. } => self.endpoint.unfence(life).await,
                ViewChange::Store { .. } => {}
            }
        }
        Ok(())
    }

    pub(super) async fn follow_own(&mut self) {
        let decided = self.coordinator.as_ref().and_then(Coordinator::view);
        if let Some(decided) = decided.filter(|it| it.epoch() > self.view.epoch()) {
            let update = ViewUpdate::whole(decided);
            // What this box's own coordinator says is never foreign for long.
            let _ = self.follow(&update).await;
        }
    }

    /// Those who are out are fenced as long as this box would hear that they are in again.
    pub(super) async fn look_at_fences(&mut self, now: Mono) {
        let voters = self.config.voters.iter();
        let is_there =
            |voter: &&String| **voter == self.config.own || self.reach.reaches(&agent_name(voter));
        let reaches_most = voters.filter(is_there).count() > self.config.voters.len() / 2;
        if self.fences.look(reaches_most, now) {
            let members = self.view.members();
            let out: Vec<EndpointId> = members
                .filter(|(_, member)| member.out.is_some())
                .map(|(_, member)| member.life)
                .collect();
            for life in out {
                if self.fences.hold() {
                    self.endpoint.fence(life).await;
                } else {
                    self.endpoint.unfence(life).await;
                }
            }
        }
        if self.fences.waits() {
            self.ask_all_for_view();
        }
    }

    pub(super) fn ask_all_for_view(&mut self) {
        for voter in self.config.voters.clone() {
            self.ask_for_view(&voter);
        }
    }

    pub(super) fn ask_for_view(&mut self, voter: &str) {
        let wanted = ViewWanted {
            epoch: self.view.epoch(),
        };
        if let Some(topic) = self.config.topics.agent(&agent_name(voter)) {
            self.publish(&topic, coordination::event(&wanted));
        }
    }
}
