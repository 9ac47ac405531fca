//! Who campaigns when. The engine decides who wins.

use std::time::Duration;

use muster_wire::Mono;
use raft::{INVALID_ID, StateRole};

use super::Consensus;
use crate::id::{Members, VoterId};
use crate::sabotage::Sabotage;

/// How long a voter waits at most before it campaigns because its leader is out of reach.
const SOON: Duration = Duration::from_millis(50);

/// How long it waits at most before it tries again.
const AGAIN: Duration = Duration::from_millis(150);

/// How often it tries so, before it waits as without that knowledge.
const TRIES: u32 = 6;

/// What a rank adds to the wait for a leader.
const RANK: Duration = Duration::from_millis(100);

/// What is random in the wait for a leader: less than a rank, so that voters of one mind campaign in their order.
const SPREAD: Duration = Duration::from_millis(80);

/// How much longer witnesses wait.
const WITNESS: Duration = Duration::from_millis(300);

impl Consensus {
    /// Says whether the mesh reaches a voter. One whose leader is out of reach campaigns at once; if the news is wrong, that costs an
    /// election and nothing else.
    pub fn reachable(&mut self, voter: &VoterId, reachable: bool, now: Mono) {
        let number = voter.disk.number();
        if self.fault.is_some() || self.known.get(&number) != Some(voter) {
            return;
        }
        self.now = self.now.max(now);
        if reachable {
            self.unreachable.remove(&number);
            return;
        }
        self.unreachable.insert(number);
        let raft = &self.node.raft;
        if raft.state == StateRole::Leader {
            self.engine(|node| node.report_unreachable(number));
        } else if raft.leader_id == number {
            let term = raft.term;
            self.engine(|node| node.raft.become_follower(term, INVALID_ID));
            self.tries = 0;
            let wait = self.random.below(SOON) + self.handicap();
            self.soon_at = Some(self.now.after(wait));
        }
        self.pump();
    }

    fn is_witness(&self) -> bool {
        self.config.witnesses.contains(&self.me.name)
    }

    fn handicap(&self) -> Duration {
        if self.is_witness() {
            WITNESS
        } else {
            Duration::ZERO
        }
    }

    /// Begins to wait for a leader anew.
    pub(super) fn wait_for_leader(&mut self) {
        let wait = self.config.tick * self.config.election_ticks
            + RANK * self.config.rank.min(4)
            + self.random.below(SPREAD)
            + self.handicap();
        self.campaign_at = self.now.after(wait);
        self.soon_at = None;
        self.tries = 0;
    }

    /// When it campaigns, if nothing happens before.
    pub(super) fn campaign_due(&self) -> Option<Mono> {
        let votes = self.members.as_ref()?.is_voter(self.me.disk);
        if !votes || self.node.raft.state == StateRole::Leader {
            return None;
        }
        Some(match self.soon_at {
            Some(soon) => soon.min(self.campaign_at),
            None => self.campaign_at,
        })
    }

    pub(super) fn campaign_if_due(&mut self) {
        // While something is being written it waits: the engine takes what it has handed out for written when it wins alone, and fails
        // if a state that it was given is not applied yet.
        let due = self.campaign_due().is_some_and(|due| due <= self.now);
        if !due || self.fault.is_some() || !self.pending.is_empty() {
            return;
        }
        let soon = self.soon_at.is_some();
        let tries = self.tries + 1;
        self.wait_for_leader();
        if soon && tries < TRIES {
            self.tries = tries;
            let wait = SOON + self.random.below(AGAIN) + self.handicap();
            self.soon_at = Some(self.now.after(wait));
        }
        let leader = self.node.raft.leader_id;
        self.engine(|node| {
            node.raft.election_elapsed = 0;
            // It fails where there is nothing to do.
            let _ = node.campaign();
        });
        if self.sabotage == Sabotage::KeepsLeader && leader != INVALID_ID {
            self.engine(|node| node.raft.leader_id = leader);
        }
        self.pump();
    }

    /// A witness that leads asks another voter that has everything to lead.
    pub(super) fn hand_on(&mut self) {
        let raft = &self.node.raft;
        let leads = raft.state == StateRole::Leader && raft.lead_transferee.is_none();
        if !leads || !self.is_witness() {
            return;
        }
        let last = raft.raft_log.last_index();
        let voters = self.members.iter().flat_map(Members::voters);
        let ready = |voter: &&VoterId| {
            let number = voter.disk.number();
            let progress = raft.prs().get(number);
            !self.config.witnesses.contains(&voter.name)
                && !self.unreachable.contains(&number)
                && progress.is_some_and(|it| it.matched == last && it.recent_active)
        };
        if let Some(number) = voters.filter(|it| it.disk != self.me.disk).find(ready) {
            let number = number.disk.number();
            self.engine(|node| node.transfer_leader(number));
        }
    }
}
