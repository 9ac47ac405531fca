//! How a leader finds out that it still leads: by rounds of what it says to the other voters all the time.
//!
//! It numbers its heartbeats, and whoever answers one repeats the number, if its term is still the leader's when the answer leaves. When
//! most voters have answered a heartbeat that left after a renewal was heard, no other leader can have begun before: whoever begins
//! later has most votes, and so that of one of these, which it gave after its answer. It counts silence from its beginning.

use std::collections::BTreeMap;

use muster_cluster::coordination::Renew;
use muster_consensus::{DiskId, Members};
use muster_wire::EndpointId;

/// The rounds of one voter, as a leader and as somebody who follows.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// The last round.
    number: u64,
    /// Which round the other voters have answered last in this leader's term.
    answered: BTreeMap<DiskId, u64>,
    /// The renewals that wait, each with its round, by the life that renews: only lives that are in.
    waiting: BTreeMap<EndpointId, (Renew, u64)>,
    /// The round that was heard last, of which leader, and in which term.
    heard: Option<(DiskId, u64, u64)>,
}

impl Rounds {
    /// This voter has another part: what it knew is of a former term.
    pub(super) fn begin(&mut self) {
        self.answered.clear();
        self.waiting.clear();
    }

    /// A renewal waits until most voters have answered what leaves from now on.
    pub(super) fn wait(&mut self, life: EndpointId, renew: Renew) {
        self.waiting.insert(life, (renew, self.number + 1));
    }

    /// Returns the round of a heartbeat that leaves now.
    pub(super) fn ask(&mut self) -> u64 {
        if self.waiting.values().any(|(_, round)| *round > self.number) {
            self.number += 1;
        }
        self.number
    }

    /// A voter has answered in this leader's term.
    pub(super) fn is_answered(&mut self, by: DiskId, round: u64) {
        let known = self.answered.entry(by).or_default();
        *known = round.min(self.number).max(*known);
    }

    /// Returns the last round that most voters have answered; `None` if most never have, as voters of a former release.
    pub(super) fn confirmed(&self, me: DiskId, members: &Members) -> Option<u64> {
        let voters = members.voters();
        let mut rounds: Vec<u64> = voters
            .iter()
            .filter_map(|voter| {
                let own = (voter.disk == me).then_some(u64::MAX);
                own.or_else(|| self.answered.get(&voter.disk).copied())
            })
            .collect();
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        rounds.get(voters.len() / 2).copied()
    }

    /// Takes the renewals that do not wait for more than a round.
    pub(super) fn take(&mut self, confirmed: u64) -> Vec<(EndpointId, Renew)> {
        let mut taken = Vec::new();
        self.waiting.retain(|life, (renew, round)| {
            let waits = *round > confirmed;
            if !waits {
                taken.push((*life, renew.clone()));
            }
            waits
        });
        taken
    }

    /// A leader has said which round it is.
    pub(super) fn hears(&mut self, leader: DiskId, term: u64, round: u64) {
        let known = self
            .heard
            .filter(|(of, in_term, _)| (*of, *in_term) == (leader, term));
        let round = known.map_or(round, |(.., known)| known.max(round));
        self.heard = Some((leader, term, round));
    }

    /// Returns the round to be repeated in an answer to a leader that leaves now.
    pub(super) fn echo(&self, leader: DiskId, term: u64) -> Option<u64> {
        let heard = self
            .heard
            .filter(|(of, in_term, _)| (*of, *in_term) == (leader, term));
        heard.map(|(.., round)| round)
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn weight(&self) -> usize {
        self.answered.len() + self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use muster_consensus::VoterId;

    use super::*;

    fn disk(number: u8) -> DiskId {
        DiskId([number; 16])
    }

    fn life(number: u8) -> EndpointId {
        EndpointId::from_random([number; 16])
    }

    fn renew(number: u64) -> Renew {
        Renew {
            node: "node".to_owned(),
            box_name: "a".to_owned(),
            incarnation: 1,
            session: 5,
            number,
            alone: Some(true),
        }
    }

    fn members(count: u8) -> Members {
        let voters = (1..=count).map(|number| VoterId {
            name: number.to_string(),
            disk: disk(number),
        });
        Members::new(voters.collect(), Vec::new()).unwrap()
    }

    /// Which renewals are granted of five voters' leader, whose number is 1.
    fn taken(rounds: &mut Rounds) -> Vec<u64> {
        let confirmed = rounds.confirmed(disk(1), &members(5));
        let taken = confirmed.map_or_else(Vec::new, |round| rounds.take(round));
        taken.into_iter().map(|(_, renew)| renew.number).collect()
    }

    #[test]
    fn a_renewal_waits_for_most_answers_to_what_left_after_it() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.confirmed(disk(1), &members(5)), None);
        assert_eq!(rounds.ask(), 0);
        rounds.wait(life(1), renew(7));
        // Answers to what left before.
        for voter in 2..=5 {
            rounds.is_answered(disk(voter), 0);
        }
        assert_eq!(taken(&mut rounds), [0; 0]);
        // All heartbeats that leave until the next renewal are of one round, and so are the renewals before.
        rounds.wait(life(2), renew(8));
        assert_eq!((rounds.ask(), rounds.ask()), (1, 1));
        rounds.wait(life(3), renew(9));
        rounds.is_answered(disk(2), 1);
        assert_eq!(taken(&mut rounds), [0; 0]);
        // The same once more, somebody who is no voter, and a round that was never asked.
        rounds.is_answered(disk(2), 1);
        rounds.is_answered(disk(9), 1);
        rounds.is_answered(disk(3), 5);
        assert_eq!(taken(&mut rounds), [7, 8]);
        assert_eq!(rounds.ask(), 2);
        // What comes late takes nothing back.
        rounds.is_answered(disk(3), 2);
        rounds.is_answered(disk(3), 1);
        rounds.is_answered(disk(4), 2);
        assert_eq!(taken(&mut rounds), [9]);
        rounds.wait(life(1), renew(10));
        rounds.begin();
        assert_eq!((taken(&mut rounds), rounds.weight()), (vec![], 0));
        assert_eq!(
            Rounds::default().confirmed(disk(1), &members(1)),
            Some(u64::MAX)
        );
    }

    #[test]
    fn an_answer_repeats_what_was_heard_of_its_receiver_in_its_term() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.echo(disk(1), 4), None);
        rounds.hears(disk(1), 4, 6);
        // It came before, and was late.
        rounds.hears(disk(1), 4, 5);
        assert_eq!(rounds.echo(disk(1), 4), Some(6));
        assert_eq!(
            (rounds.echo(disk(1), 5), rounds.echo(disk(2), 4)),
            (None, None)
        );
        rounds.hears(disk(2), 5, 1);
        assert_eq!(
            (rounds.echo(disk(1), 4), rounds.echo(disk(2), 5)),
            (None, Some(1))
        );
    }
}
