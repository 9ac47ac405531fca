//! Who dials whom.

use std::collections::BTreeSet;

use crate::layout::{Layout, Node, NodeName, Role};

/// One peering of the layout: `dialer` opens the connection, `listener` accepts it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Opens the connection, and opens it again when it is lost.
    pub dialer: NodeName,
    /// Accepts it.
    pub listener: NodeName,
}

/// The peers of one node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Neighbours {
    /// The nodes it dials, in the order of the layout.
    pub dials: Vec<NodeName>,
    /// The nodes that dial it, in the order of the layout.
    pub accepts: Vec<NodeName>,
}

/// All peerings of a layout, each pair of nodes at most once, sorted.
///
/// As in Zeek, the manager dials loggers, proxies dial loggers and managers, workers dial all
/// three. Beyond Zeek, the nodes of one role other than worker are linked to one another, the later
/// name dialling the earlier: a hub that is lost then takes nothing with it that others need.
pub fn links(layout: &Layout) -> Vec<Link> {
    let mut links = Vec::new();
    for dialer in layout.nodes() {
        for listener in layout
            .nodes()
            .iter()
            .filter(|listener| dials(dialer, listener))
        {
            links.push(Link {
                dialer: dialer.name.clone(),
                listener: listener.name.clone(),
            });
        }
    }
    links.sort();
    links
}

/// The agents that all others are linked with: with five, any two may be away.
const ANCHORS: usize = 5;

/// Whom the agent of a box dials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentDial {
    /// A hub of its own box.
    Hub(NodeName),
    /// The agent of another box.
    Agent(String),
}

/// Returns whom the agent of a box dials: the hubs of its box, and the agents of boxes that come before its own, of the first five. Boxes
/// with hubs come before others. So each pair of these agents has one link, and each box is in one mesh with all others.
pub fn agent_dials(layout: &Layout, own_box: &str) -> Vec<AgentDial> {
    let hubs = || layout.nodes().iter().filter(|node| node.role.is_hub());
    let with_hubs: BTreeSet<&str> = hubs().map(|node| node.box_name.as_str()).collect();
    // Those with hubs first: where their agents are is most of what there is to relay.
    let mut ranked: Vec<&String> = layout.boxes().keys().collect();
    ranked.sort_by_key(|name| (!with_hubs.contains(name.as_str()), *name));
    let before = ranked.into_iter().take(ANCHORS);
    let before = before.take_while(|name| *name != own_box);
    let own = hubs().filter(|node| node.box_name == own_box);
    own.map(|hub| AgentDial::Hub(hub.name.clone()))
        .chain(before.map(|name| AgentDial::Agent(name.clone())))
        .collect()
}

/// The peers of one node, without computing everybody else's; none for a name that the layout does
/// not have.
pub(crate) fn neighbours(layout: &Layout, name: &NodeName) -> Neighbours {
    let Some(node) = layout.node(name) else {
        return Neighbours::default();
    };
    let names = |is_peer: &dyn Fn(&Node) -> bool| {
        layout
            .nodes()
            .iter()
            .filter(|other| is_peer(other))
            .map(|other| other.name.clone())
            .collect()
    };
    Neighbours {
        dials: names(&|other| dials(node, other)),
        accepts: names(&|other| dials(other, node)),
    }
}

/// Whether the layout asks for a peering of two nodes, whoever of the two dials.
pub(crate) fn is_link(layout: &Layout, one: &NodeName, other: &NodeName) -> bool {
    let nodes = layout.node(one).zip(layout.node(other));
    nodes.is_some_and(|(one, other)| dials(one, other) || dials(other, one))
}

/// Whether `dialer` opens a connection to `listener`.
fn dials(dialer: &Node, listener: &Node) -> bool {
    if dialer.role == listener.role {
        return dialer.role.is_hub() && dialer.name > listener.name;
    }
    match dialer.role {
        Role::Logger => false,
        Role::Manager => listener.role == Role::Logger,
        Role::Proxy => matches!(listener.role, Role::Logger | Role::Manager),
        Role::Worker => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn dialled(layout: &Layout, own_box: &str) -> Vec<String> {
        let name = |dial| match dial {
            AgentDial::Hub(name) => name.to_string(),
            AgentDial::Agent(of_box) => format!("agent.{of_box}"),
        };
        agent_dials(layout, own_box).into_iter().map(name).collect()
    }

    #[test]
    fn each_pair_of_agents_has_one_link_and_each_hub_one_with_its_own() {
        let layout = "[box.a]\naddress = \"10.0.0.1\"\n[box.b]\naddress = \"10.0.0.2\"\n[box.c]\naddress = \"10.0.0.3\"\n\
            [[node]]\nname = \"manager\"\nrole = \"manager\"\nbox = \"b\"\n\
            [[node]]\nname = \"data\"\nrole = \"data\"\nbox = \"c\"\n\
            [[node]]\nname = \"worker\"\nrole = \"worker\"\nbox = \"c\"\n";
        let layout = Layout::parse(layout, "three.toml", &[]).unwrap();
        assert_eq!(dialled(&layout, "b"), ["manager"]);
        assert_eq!(dialled(&layout, "c"), ["data", "agent.b"]);
        // A witness, without nodes.
        assert_eq!(dialled(&layout, "a"), ["agent.b", "agent.c"]);
    }

    #[test]
    fn of_many_boxes_the_agents_are_linked_with_the_first() {
        let mut layout =
            "[[node]]\nname = \"manager\"\nrole = \"manager\"\nbox = \"box-00\"\n".to_owned();
        for number in 0..40 {
            let _ = write!(
                layout,
                "[box.box-{number:02}]\naddress = \"10.0.0.{number}\"\n"
            );
        }
        let layout = Layout::parse(&layout, "forty.toml", &[]).unwrap();
        let counts: Vec<usize> = layout
            .boxes()
            .keys()
            .map(|name| dialled(&layout, name).len())
            .collect();
        // The first one dials its own manager.
        assert_eq!(counts[..6], [1, 1, 2, 3, 4, 5]);
        assert!(counts[6..].iter().all(|count| *count == ANCHORS));
    }
}
