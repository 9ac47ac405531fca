//! Neighbours that are reached only through others: the node works, but a link of the layout is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_wire::Mono;

use super::{Effect, NodeLoop, Report, Severity};
use crate::layout::NodeName;

/// How long a link may be missing before the operator is told: a node that comes up is often heard of
/// through others before its connection stands.
const PATIENCE: Duration = Duration::from_secs(5);

/// The neighbours that are up without a link.
#[derive(Debug, Default)]
pub(super) struct IndirectNeighbours(BTreeMap<NodeName, IndirectNeighbour>);

#[derive(Debug, Clone, Copy)]
struct IndirectNeighbour {
    since: Mono,
    /// Whether the operator has been told.
    is_told: bool,
}

impl IndirectNeighbours {
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let untold = self.0.values().filter(|detour| !detour.is_told);
        untold.map(|detour| detour.since.after(PATIENCE)).min()
    }
}

impl NodeLoop {
    /// Returns the nodes that this one is linked with by the layout and that are up, but can be reached only through
    /// others at present. They are in the order of the layout, those that this node dials first.
    pub fn indirect_neighbours(&self) -> impl Iterator<Item = &NodeName> {
        let membership = &self.core.members.membership;
        self.neighbours.iter().filter(|name| {
            let life = membership.get(name).and_then(|node| node.life.as_ref());
            life.is_some_and(|life| !life.direct)
        })
    }

    /// A node or a link has come or gone.
    pub(super) fn look_for_indirect_neighbours(&mut self) {
        let since = self.core.clock.now.mono;
        let present: Vec<NodeName> = self.indirect_neighbours().cloned().collect();
        let mut before = std::mem::take(&mut self.indirect_neighbours.0);
        for name in present {
            let known = before.remove(&name);
            let detour = known.unwrap_or(IndirectNeighbour {
                since,
                is_told: false,
            });
            self.indirect_neighbours.0.insert(name, detour);
        }
        // Of one that is down the operator has been told already.
        before.retain(|name, detour| detour.is_told && self.core.is_alive(name));
        for name in before.keys() {
            self.core.outbox.effects.push(Effect::Report(Report {
                severity: Severity::Info,
                text: format!("the link with {name} is up again"),
            }));
        }
    }

    /// Tells the operator of links that have been missing for long enough.
    pub(super) fn tell_of_indirect_neighbours(&mut self) {
        let now = self.core.clock.now.mono;
        let due =
            |detour: &IndirectNeighbour| !detour.is_told && detour.since.after(PATIENCE) <= now;
        for (name, detour) in &mut self.indirect_neighbours.0 {
            if due(detour) {
                detour.is_told = true;
                self.core.outbox.effects.push(Effect::Report(Report {
                    severity: Severity::Warning,
                    text: format!("no link with {name}: it is reached only through other nodes"),
                }));
            }
        }
    }
}
