//! What coordinators answer to nodes.

use muster_cluster::coordination::{LeaseAnswer, Renew, ViewUpdate};
use muster_wire::EndpointId;

use super::{Coordinator, Severity, To, clip};
use crate::sabotage::Sabotage;

impl Coordinator {
    /// A node has renewed its lease, or asks for one.
    pub(super) fn renewed(&mut self, from: EndpointId, renew: Renew) {
        let now = self.now;
        let Some(group) = &mut self.group else { return };
        if !group.detector.has(&renew.node, &renew.box_name) {
            let text = format!(
                "coordination: refused `{}` of box {}: the layout of this box has no such node there",
                clip(&renew.node),
                clip(&renew.box_name)
            );
            return self.refuses(renew.node, text);
        }
        if group.consensus.members().is_none() {
            // A stranger has seen nothing.
            return;
        }
        let known = group.state.view().get(&renew.node);
        let member = known.filter(|it| it.out.is_none()).map(|it| it.life);
        group.detector.renewed(from, renew.clone(), member, now);
        let leads = group.decides();
        let is_its_own = member == Some(from);
        let can_confirm = group.confirmed().is_some_and(|round| round < u64::MAX);
        let does_not_wait = self.sabotage == Sabotage::GrantsWithoutRound;
        if renew.alone == Some(true) && leads && is_its_own && can_confirm && !does_not_wait {
            group.rounds.wait(from, renew);
            return;
        }
        self.answer(from, &renew, false);
        // A newcomer does not wait for the next look.
        if leads && !is_its_own {
            if let Some(group) = &mut self.group {
                group.look_at = now;
            }
            self.run_group(|_, _| {});
        }
    }

    /// Most voters may have answered what left after some renewals were heard: these are granted now.
    pub(super) fn answer_confirmed(&mut self) {
        let Some(group) = self.group.as_mut().filter(|group| group.decides()) else {
            return;
        };
        let confirmed = group.confirmed();
        for (from, renew) in confirmed.map_or_else(Vec::new, |round| group.rounds.take(round)) {
            self.answer(from, &renew, true);
        }
    }

    /// Answers a renewal by what is agreed on now. `is_confirmed` says that this leader knows that it still led when it had heard it.
    fn answer(&mut self, from: EndpointId, renew: &Renew, is_confirmed: bool) {
        let Some(group) = &self.group else { return };
        let known = group.state.view().get(&renew.node);
        let leads = group.decides();
        let is_its_own = known.is_some_and(|it| it.life == from && it.out.is_none());
        let session = known.map_or(0, |it| it.session);
        let is_over = renew.session != 0 && (!is_its_own || session != renew.session);
        let grants_old = self.sabotage == Sabotage::GrantsOldSessions;
        let is_given_up = group.given_up.contains(&renew.node);
        let granted = leads && !is_given_up && (is_its_own || (grants_old && renew.session != 0));
        let does_not_wait = self.sabotage == Sabotage::GrantsWithoutRound;
        // Alone it is most voters.
        let is_confirmed = is_confirmed || does_not_wait || group.confirmed() == Some(u64::MAX);
        let answer = LeaseAnswer {
            number: renew.number,
            term: group.consensus.term(),
            epoch: group.state.view().epoch(),
            session: match granted {
                true if grants_old && is_over => renew.session,
                true => session,
                false => 0,
            },
            is_out: leads && is_over && !grants_old,
            voters: match (leads, group.consensus.members()) {
                (true, Some(members)) => members.voters().len() as u64,
                _ => 0,
            },
            confirmed: group.confirmed().map(|_| granted && is_confirmed),
            generation: Some(group.generation()),
        };
        self.send(To::Life(from), &answer);
    }

    /// Says once that something is refused; `node` names it.
    pub(super) fn refuses(&mut self, node: String, text: String) {
        // One line for each node that asks on and on.
        if self.refused.len() < super::MOST_REFUSED && self.refused.insert(node) {
            self.report(Severity::Warning, text);
        }
    }

    /// Somebody wants to know who is in.
    pub(super) fn tell_view(&mut self, to: EndpointId, since: u64) {
        let Some(group) = &self.group else { return };
        let view = group.state.view();
        if view.epoch() > since {
            let update = ViewUpdate::since(view, since);
            self.send(To::Life(to), &update);
        }
    }
}
