//! Agreement: finding out at once that all hold the same records (protocol version 2, section 8.3).

use std::collections::BTreeMap;
use std::time::Duration;

use super::Mesh;
use crate::EndpointId;
use crate::mesh::codec::MeshFrame;
use crate::mesh::tree::Tree;
use crate::time::Mono;

/// What changed within this time goes on changing, perhaps: nobody is asked about it.
const STANDING: Duration = Duration::from_millis(100);

/// What was said to a neighbour, and by it, each about one hash.
#[derive(Debug, Default, Clone, Copy)]
struct Said {
    /// It and all below it have this.
    agrees: Option<u64>,
    /// It asks whether we and all below us have this.
    asks: Option<u64>,
    /// It was told that we and all below us have this.
    agreed: Option<u64>,
    /// It was asked whether it has this.
    asked: Option<u64>,
    /// What it has spoken of last, until that was compared.
    heard: Option<u64>,
}

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    said: BTreeMap<EndpointId, Said>,
    /// When to look at it, because something may be said then.
    due: Option<Mono>,
    /// Somebody has spoken of a hash that is perhaps ours soon.
    is_spoken_of: bool,
    /// What all have or had.
    common: Option<u64>,
}

impl Agreement {
    pub(super) fn link_down(&mut self, neighbour: EndpointId) {
        self.said.remove(&neighbour);
    }

    pub(super) fn due(&self) -> Option<Mono> {
        self.due
    }

    fn said(&mut self, neighbour: EndpointId) -> &mut Said {
        self.said.entry(neighbour).or_default()
    }
}

/// Our place in the tree of the endpoint that finds out.
struct Place {
    above: Option<EndpointId>,
    below: Vec<EndpointId>,
}

impl Mesh {
    /// Somebody may have to be asked, or may be waiting for an answer.
    pub(super) fn look_for_agreement(&mut self, now: Mono) {
        let at = self.last_news.after(STANDING).max(now);
        self.agreement.due.get_or_insert(at);
    }

    /// Our own hash is another one now: it may be what somebody has spoken of.
    pub(super) fn hash_changed(&mut self, now: Mono) {
        if self.agreement.is_spoken_of {
            self.look_for_agreement(now);
        }
    }

    /// A neighbour asks whether we and all below us have this.
    pub(super) fn agreement_asked(&mut self, from: EndpointId, hash: u64, now: Mono) {
        let said = self.agreement.said(from);
        said.asks = Some(hash);
        said.agreed = None;
        said.heard = Some(hash);
        self.agreement.is_spoken_of = true;
        self.look_for_agreement(now);
    }

    /// A neighbour and all below it have this.
    pub(super) fn agreement_told(&mut self, from: EndpointId, hash: u64, now: Mono) {
        let said = self.agreement.said(from);
        said.agrees = Some(hash);
        said.heard = Some(hash);
        self.agreement.is_spoken_of = true;
        self.look_for_agreement(now);
    }

    /// All have this.
    pub(super) fn agreement_found(&mut self, from: EndpointId, hash: u64, now: Mono) {
        if hash != self.digest() {
            self.agreement.said(from).heard = Some(hash);
            self.look_for_agreement(now);
        } else if let Some(place) = self.place()
            && place.above == Some(from)
        {
            self.all_agree(hash, &place.below, now);
        }
    }

    /// What neighbours have spoken of and is not what we have, although nothing changes here any more: that
    /// need not wait for the next heartbeat.
    fn compare_with_heard(&mut self, now: Mono) {
        let hash = self.digest();
        let said = self.agreement.said.iter_mut();
        let heard = said.filter_map(|(peer, said)| Some((*peer, said.heard.take()?)));
        let others: Vec<_> = heard.filter(|(_, heard)| *heard != hash).collect();
        for (peer, heard) in others {
            if self.identity.id < peer {
                self.compare(peer, heard, false, now);
            } else {
                self.send(peer, MeshFrame::Digest(hash));
            }
        }
    }

    fn all_agree(&mut self, hash: u64, below: &[EndpointId], now: Mono) {
        if self.agreement.common.replace(hash) != Some(hash) {
            self.agreement.is_spoken_of = false;
            self.send_all(below, MeshFrame::Agreed(hash));
        }
        // Those that came in reach just now are in what all have.
        self.look_around(now);
        if self.membership.proves_all() {
            #[cfg(feature = "simulation")]
            self.agreed.push(hash);
            self.look_around(now);
        }
    }

    /// Says what can be said: asks those below, tells the one above, or knows that all agree.
    pub(super) fn agree(&mut self, now: Mono) {
        self.agreement.due = None;
        let hash = self.digest();
        let is_needed = self.ready && self.membership.has_settling();
        if (is_needed || self.agreement.is_spoken_of) && now.since(self.last_news) < STANDING {
            self.look_for_agreement(now);
            return;
        }
        self.compare_with_heard(now);
        let is_about = |said: &Said| said.agrees == Some(hash) || said.asks == Some(hash);
        if !is_needed && !self.agreement.said.values().any(is_about) {
            return;
        }
        let Some(place) = self.place() else {
            return;
        };
        if is_needed && self.agreement.common == Some(hash) {
            self.all_agree(hash, &place.below, now);
        }
        let mut is_whole = true;
        for child in &place.below {
            let said = self.agreement.said(*child);
            if said.agrees == Some(hash) {
                continue;
            }
            is_whole = false;
            if said.asked.replace(hash) != Some(hash) {
                self.send(
                    *child,
                    MeshFrame::Agree {
                        is_answer: false,
                        hash,
                    },
                );
            }
        }
        #[cfg(feature = "simulation")]
        let is_whole = is_whole || self.sabotage == crate::mesh::Sabotage::HastyAgreement;
        if !is_whole {
            return;
        }
        match place.above {
            None => self.all_agree(hash, &place.below, now),
            Some(above) => {
                if self.agreement.said(above).agreed.replace(hash) != Some(hash) {
                    self.send(
                        above,
                        MeshFrame::Agree {
                            is_answer: true,
                            hash,
                        },
                    );
                }
            }
        }
    }

    /// Our place in the tree of the relay in reach with the smallest id.
    fn place(&self) -> Option<Place> {
        let (database, graph) = (&self.database, self.database.graph());
        let me = database.me();
        let relays = database.reach().iter();
        let relays = relays.filter(|slot| graph.leads_on(*slot));
        let root = relays.min_by_key(|slot| graph.id(*slot))?;
        let tree = Tree::new(graph, root);
        if !tree.reaches(me) {
            return None;
        }
        let farther = graph.neighbours(me).iter().copied();
        let below = farther.filter(|slot| tree.parent(graph, *slot) == Some(me));
        Some(Place {
            above: tree.parent(graph, me).and_then(|slot| graph.id(slot)),
            below: below.filter_map(|slot| graph.id(slot)).collect(),
        })
    }
}
