//! What processes say to one another, and whom they reach.

use muster_cluster::coordination::{self, Heard, LeaseAnswer, NotTaken, ViewUpdate, ViewWanted};
use muster_data::DataRef;
use muster_wire::EndpointId;
use muster_wire::zeek::Message;

use super::actors::Part;
use super::world::{Happening, World};
use crate::To;

impl World {
    /// The meshes of all coordinators hear that a life of a process is in reach, or is not.
    pub(super) fn tell_reach(&mut self, of: usize, reached: bool, within: u64) {
        let life = self.processes[of].life;
        for at in 0..self.processes.len() {
            if at != of && matches!(self.processes[at].part, Part::Coordinator { .. }) {
                let wait = 1 + self.random.number(within);
                let news = Happening::Reach {
                    at,
                    of,
                    life,
                    reached,
                };
                self.after(wait, news);
            }
        }
    }

    /// A coordinator that starts hears who is in reach.
    pub(super) fn reach_others(&mut self, at: usize) {
        if !matches!(self.processes[at].part, Part::Coordinator { .. }) {
            return;
        }
        for of in 0..self.processes.len() {
            if of != at && self.processes[of].is_up {
                let life = self.processes[of].life;
                let wait = 1 + self.random.below(20) as u64;
                let news = Happening::Reach {
                    at,
                    of,
                    life,
                    reached: true,
                };
                self.after(wait, news);
            }
        }
    }

    pub(super) fn reaches(
        &mut self,
        at: usize,
        of: usize,
        life: EndpointId,
        reached: bool,
    ) -> Result<(), String> {
        if let Some(until) = self.stopped_until(at) {
            let news = Happening::Reach {
                at,
                of,
                life,
                reached,
            };
            self.at(until, news);
            return Ok(());
        }
        let is_there = self.processes[of].is_up && self.processes[of].life == life;
        if self.healed && is_there && !reached {
            // What was cut off is not any more.
            return Ok(());
        }
        let name = self.processes[of].name.clone();
        let clock = self.processes[at].clock(self.now);
        if let Part::Coordinator {
            coordinator: Some(coordinator),
            ..
        } = &mut self.processes[at].part
        {
            coordinator.reaches(life, &name, reached, clock);
        }
        self.drain(at)
    }

    /// The mesh finds out after some time, and finds it again.
    pub(super) fn is_cut_off(&mut self, of: usize, after: u64, lasts: u64) {
        let life = self.processes[of].life;
        for at in 0..self.processes.len() {
            let same_box = self.processes[at].box_at == self.processes[of].box_at;
            if same_box || !self.processes[of].is_up {
                continue;
            }
            let pairs = [(at, of, life), (of, at, self.processes[at].life)];
            for (at, of, life) in pairs {
                if matches!(self.processes[at].part, Part::Coordinator { .. }) {
                    for (wait, reached) in [(after, false), (lasts + 10, true)] {
                        let news = Happening::Reach {
                            at,
                            of,
                            life,
                            reached,
                        };
                        self.after(wait, news);
                    }
                }
            }
        }
    }

    /// A renewal goes to the voter that leads, or to all.
    pub(super) fn renews(&mut self, from: usize, to: Option<&str>, bytes: &[u8]) {
        let Some(leader) = to else {
            return self.tell_voters(from, bytes);
        };
        if let Some(to) = self.processes.iter().position(|it| it.name == leader) {
            self.account.alone += 1;
            self.send(from, to, bytes.to_vec());
        }
    }

    pub(super) fn tell_voters(&mut self, from: usize, bytes: &[u8]) {
        for to in 0..self.processes.len() {
            if matches!(self.processes[to].part, Part::Coordinator { .. }) {
                self.send(from, to, bytes.to_vec());
            }
        }
    }

    pub(super) fn send(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        let (source, target) = (&self.processes[from], &self.processes[to]);
        let crosses = source.box_at != target.box_at;
        let is_cut = self.dumb[source.box_at] > self.now || self.deaf[target.box_at] > self.now;
        let (life, sender) = (target.life, (from, source.life));
        if crosses && (is_cut || self.random.chance(self.loss)) {
            return;
        }
        let wait = 1 + self.random.number(self.slowest);
        let deliver = Happening::Deliver {
            from: sender,
            to,
            life,
            bytes,
        };
        self.after(wait, deliver);
    }

    pub(super) fn deliver(
        &mut self,
        from: (usize, EndpointId),
        to: usize,
        life: EndpointId,
        bytes: Vec<u8>,
    ) -> Result<(), String> {
        if !self.processes[to].is_up || self.processes[to].life != life {
            return Ok(());
        }
        if let Some(until) = self.stopped_until(to) {
            let later = Happening::Deliver {
                from,
                to,
                life,
                bytes,
            };
            self.at(until, later);
            return Ok(());
        }
        let name = self.processes[from.0].name.clone();
        let clock = self.processes[to].clock(self.now);
        let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(&bytes)) else {
            return Err("an event that cannot be read".to_owned());
        };
        let own_name = self.processes[to].name.clone();
        match &mut self.processes[to].part {
            Part::Coordinator { coordinator, .. } => {
                if let Some(coordinator) = coordinator {
                    coordinator.receive(from.1, &name, &event, clock);
                }
            }
            Part::Node {
                lease,
                view,
                hangs_until,
            } => {
                if *hangs_until > self.now {
                    let later = Happening::Deliver {
                        from,
                        to,
                        life,
                        bytes,
                    };
                    let until = *hangs_until;
                    self.at(until, later);
                    return Ok(());
                }
                lease.turn(clock);
                let mut wants = None;
                if let Ok(answer) = event.arguments().to::<LeaseAnswer>() {
                    let heard = lease.answered(&name, &answer, clock);
                    let is_over = self.oracle.was_given_up(&own_name, lease.session());
                    if heard == Heard::Granted && lease.runs(clock) && is_over {
                        return Err(format!(
                            "I6: {own_name} is granted a lease of a session that is over"
                        ));
                    }
                    wants = (answer.epoch > view.epoch()).then(|| view.epoch());
                } else if let Ok(update) = event.arguments().to::<ViewUpdate>() {
                    match view.update(&update) {
                        Ok(_) => {
                            lease.sees(view, &own_name, clock);
                        }
                        Err(NotTaken::Gap) => wants = Some(view.epoch()),
                        // Who was away tells what it had, before it hears that others have gone on.
                        Err(NotTaken::Foreign) if self.recovered => {}
                        Err(error) => return Err(format!("I5: {error}")),
                    }
                }
                if let Some(epoch) = wants {
                    self.send(to, from.0, coordination::event(&ViewWanted { epoch }));
                }
                self.turn(to);
            }
        }
        self.drain(to)
    }

    pub(super) fn route(&mut self, from: usize, to: &To, bytes: &[u8]) -> Result<(), String> {
        let receivers = |world: &Self| -> Vec<usize> {
            let all = world.processes.iter().enumerate();
            all.filter(|(at, it)| match to {
                To::Voter(of_box) => *at != from && it.name == format!("agent.{of_box}"),
                To::Life(life) => it.life == *life,
                To::All => *at != from && matches!(it.part, Part::Node { .. }),
            })
            .map(|(at, _)| at)
            .collect()
        };
        self.looks_at_told(from, bytes)?;
        for receiver in receivers(self) {
            self.send(from, receiver, bytes.to_vec());
        }
        Ok(())
    }

    /// What is told is looked at, too: it need not arrive.
    fn looks_at_told(&mut self, from: usize, bytes: &[u8]) -> Result<(), String> {
        let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(bytes)) else {
            return Ok(());
        };
        let Part::Coordinator {
            coordinator: Some(coordinator),
            ..
        } = &self.processes[from].part
        else {
            return Ok(());
        };
        let (Some(agreed), Ok(update)) = (coordinator.view(), event.arguments().to::<ViewUpdate>())
        else {
            return Ok(());
        };
        let (mut view, agreed) = (agreed.clone(), agreed.epoch());
        // One that nothing is known of any more cannot be followed from here.
        if update.epoch > agreed && view.update(&update).is_ok() {
            self.oracle
                .is_told(&self.processes[from].name, &view, agreed);
            self.sees(from, &view)?;
        }
        Ok(())
    }
}
