//! Whom the mesh reaches, and who they are.
//!
//! The mesh says at once that an endpoint is out of reach. That it is there again, it says when messages surely pass both ways, and that may
//! take three seconds. Whoever has only lost one of its ways is not gone for so long: until the mesh has said so, it is looked whether
//! somebody leads there.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use muster_wire::{EndpointId, Mono};

/// How often it is looked who is in reach again: often in the time after which coordinators take somebody for gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long somebody is remembered who is out of reach: as long as the mesh does.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The endpoints with names that the mesh reaches, or has reached a moment ago. The mesh bounds them.
#[derive(Debug, Default)]
pub(super) struct Reach {
    names: HashMap<EndpointId, String>,
    /// Those of them of whom the mesh has not said that they are there again.
    missing: BTreeMap<EndpointId, Missing>,
    look_at: Mono,
}

#[derive(Debug)]
struct Missing {
    since: Mono,
    is_reached: bool,
}

/// Somebody is in reach from now on, or is out of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) id: EndpointId,
    pub(super) name: String,
    pub(super) is_reached: bool,
}

impl Reach {
    /// The mesh says that an endpoint is there.
    pub(super) fn found(&mut self, id: EndpointId, name: &str) {
        self.names.insert(id, name.to_owned());
        self.missing.remove(&id);
    }

    /// The mesh says that an endpoint is out of reach. Returns its name.
    pub(super) fn lost(&mut self, id: EndpointId, now: Mono) -> Option<&str> {
        let name = self.names.get(&id)?;
        let missing = Missing {
            since: now,
            is_reached: false,
        };
        self.missing.insert(id, missing);
        Some(name)
    }

    /// Looks who of those that are missing is in reach, if it is time for that. Returns of whom that is news.
    pub(super) fn look(&mut self, is_reached: impl Fn(EndpointId) -> bool, now: Mono) -> Vec<News> {
        let mut news = Vec::new();
        if self.missing.is_empty() || now < self.look_at {
            return news;
        }
        self.look_at = now.after(LOOK_EVERY);
        let names = &mut self.names;
        self.missing.retain(|id, missing| {
            let is_reached = is_reached(*id);
            if missing.is_reached != is_reached {
                (missing.is_reached, missing.since) = (is_reached, now);
                news.extend(names.get(id).map(|name| News {
                    id: *id,
                    name: name.clone(),
                    is_reached,
                }));
            }
            let stays = is_reached || now.since(missing.since) < FORGOTTEN;
            if !stays {
                names.remove(id);
            }
            stays
        });
        news
    }

    /// Returns who an endpoint is.
    pub(super) fn name(&self, id: EndpointId) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// All that are in reach, with their names.
    pub(super) fn all(&self) -> impl Iterator<Item = (EndpointId, &str)> {
        let is_reached = |id| self.missing.get(id).is_none_or(|it| it.is_reached);
        let names = self.names.iter().filter(move |(id, _)| is_reached(id));
        names.map(|(id, name)| (*id, name.as_str()))
    }

    /// Returns `true` if somebody of this name is in reach.
    pub(super) fn reaches(&self, name: &str) -> bool {
        self.all().any(|(_, known)| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> EndpointId {
        EndpointId::from_random([number; 16])
    }

    fn at(millis: u64) -> Mono {
        Mono(millis * 1_000_000)
    }

    fn news(number: u8, name: &str, is_reached: bool) -> News {
        News {
            id: id(number),
            name: name.to_owned(),
            is_reached,
        }
    }

    /// What the mesh took for gone for three seconds, because the endpoint had lost one of its ways, coordinators took for gone.
    #[test]
    fn who_is_led_around_another_way_is_there_before_the_mesh_says_so() {
        let mut reach = Reach::default();
        reach.found(id(1), "worker");
        reach.found(id(2), "data");
        assert_eq!(reach.lost(id(1), at(0)), Some("worker"));
        assert_eq!(reach.lost(id(3), at(0)), None, "it has no name");
        assert!(!reach.reaches("worker") && reach.reaches("data"));
        assert_eq!(reach.look(|_| false, at(20)), []);
        // Whoever is looked for a moment ago is not looked for again.
        assert_eq!(reach.look(|_| true, at(30)), []);
        assert_eq!(reach.look(|_| true, at(40)), [news(1, "worker", true)]);
        assert!(reach.reaches("worker"));
        assert_eq!(reach.look(|_| true, at(60)), []);
        // The way is lost again: the mesh does not say that of somebody of whom it has not said that it is there.
        assert_eq!(reach.look(|_| false, at(80)), [news(1, "worker", false)]);
        assert!(!reach.reaches("worker"));
        assert_eq!(reach.look(|_| true, at(100)), [news(1, "worker", true)]);
        reach.found(id(1), "worker");
        assert_eq!(reach.look(|_| false, at(200)), []);
        assert!(reach.reaches("worker"));
    }

    #[test]
    fn who_is_gone_is_forgotten_after_a_minute() {
        let mut reach = Reach::default();
        reach.found(id(1), "worker");
        reach.lost(id(1), at(0));
        assert_eq!(reach.look(|_| false, at(59_000)), []);
        // What is still on its way has a sender.
        assert_eq!(reach.name(id(1)), Some("worker"));
        assert_eq!(reach.look(|_| false, at(60_000)), []);
        assert_eq!(reach.name(id(1)), None);
        assert!(reach.missing.is_empty() && reach.names.is_empty());
    }
}
