//! Who dials whom.

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
