//! Neighbours come and go: connections, heartbeats and silence.

use super::{Decision, Mesh, Neighbour, Reason, repair};
use crate::EndpointId;
use crate::mesh::codec::MeshFrame;
use crate::mesh::hold_down::Change;
use crate::time::Mono;

impl Mesh {
    /// Notes a new connection to another Muster endpoint. From now on both send frames of version
    /// 2.
    pub fn peer_up(&mut self, peer: EndpointId, now: Mono) {
        if peer == self.identity.id {
            return;
        }
        self.peer_down(peer, now);
        let neighbour = Neighbour {
            heard: now,
            beat: now.after(self.config.heartbeat),
            their_time: 0,
            list_sent: None,
            waits_with: None,
            is_synced: false,
            takes_offers: false,
            is_greeted: false,
            doubt: None,
            alarm: now,
        };
        self.neighbours.insert(peer, neighbour);
        self.set_alarm(peer);
        if self.identity.transit {
            self.hold_down.changed(Change::News, now);
        }
        // A link that is back before its loss was announced never was away for the others.
        if !self.identity.transit || self.announced.contains(&peer) {
            self.watch(now, |mesh| mesh.database.link_up(peer));
        }
        let hash = self.digest();
        self.send(peer, MeshFrame::Greeting(hash));
    }

    /// Notes that a connection has ended. Does nothing if there was none.
    pub fn peer_down(&mut self, peer: EndpointId, now: Mono) {
        let Some(neighbour) = self.neighbours.remove(&peer) else {
            return;
        };
        self.alarms.remove(&(neighbour.alarm, peer));
        self.watch(now, |mesh| mesh.database.link_down(peer));
        if self.identity.transit {
            self.hold_down.changed(Change::Loss, now);
        }
        self.joiners.remove(&peer);
        self.offers.link_down(peer);
        self.agreement.link_down(peer);
        self.exchange_with_next(now);
        for outcome in self.barrier.link_down(peer) {
            self.flood_over(outcome);
        }
        if self.sponsor.is_some_and(|(sponsor, _)| sponsor == peer) {
            self.sponsor = None;
            self.try_join(None, now);
        }
    }

    pub(super) fn set_alarm(&mut self, peer: EndpointId) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            self.alarms.remove(&(neighbour.alarm, peer));
            let silence = neighbour.heard.after(self.config.time_out);
            let doubt = neighbour.doubt.map(|(_, since)| repair::doubted(since));
            neighbour.alarm = neighbour.beat.min(silence).min(doubt.unwrap_or(silence));
            self.alarms.insert((neighbour.alarm, peer));
        }
    }

    /// The neighbours whose alarm has come.
    fn alarming(&self, now: Mono) -> Vec<EndpointId> {
        let due = self.alarms.iter();
        let due = due.take_while(|(alarm, _)| *alarm <= now);
        due.map(|(_, peer)| *peer).collect()
    }

    pub(super) fn end_silent_peers(&mut self, now: Mono) {
        for peer in self.alarming(now) {
            let neighbour = self.neighbours.get(&peer);
            if neighbour.is_some_and(|it| now.since(it.heard) >= self.config.time_out) {
                self.disconnect(peer, Reason::TimeOut, now);
            }
        }
    }

    fn disconnect(&mut self, peer: EndpointId, reason: Reason, now: Mono) {
        self.decisions
            .push_back(Decision::Disconnect { peer, reason });
        self.peer_down(peer, now);
    }

    pub(super) fn beat(&mut self, now: Mono) {
        let hash = self.digest();
        for peer in self.alarming(now) {
            self.settle_doubt(peer, now);
            if let Some(neighbour) = self.neighbours.get_mut(&peer)
                && neighbour.beat <= now
            {
                neighbour.beat = now.after(self.config.heartbeat);
                let (time, echo) = (now.0, neighbour.their_time);
                self.send(peer, MeshFrame::Heartbeat { time, echo, hash });
            }
            self.set_alarm(peer);
        }
        // An exchange that was never answered has its place no longer.
        self.exchange_with_next(now);
    }
}
