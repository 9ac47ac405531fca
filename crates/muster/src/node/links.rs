//! The links of a node: whom it dials, and what its layout sets for single peers.

use muster_cluster::{Layout, Node, Origin, Settings};
use muster_wire::Overflow;

use crate::endpoint::{Endpoint, LinkSpeed, PeerMatch, PeerOptions, PeerRule, QueueOptions};

/// Dials whom the layout says. What it sets for the peer is given to the dial, too: Zeek's nodes tell no name
/// that a rule could match.
pub(super) fn dial(endpoint: &Endpoint, layout: &Layout, node: &Node) {
    let retry = node.settings.duration("peering.retry");
    let direct = node.settings.text_list("peering.direct");
    for dialled in &layout.neighbours(&node.name).dials {
        let Some(other) = layout.node(dialled) else {
            continue;
        };
        let address = other.socket_address().to_string();
        let settings = layout.link_settings(node, other);
        let options = settings.as_ref().map(options).unwrap_or_default();
        if direct.iter().any(|name| name == dialled.as_str()) {
            endpoint.dial_direct_with(&address, Some(retry), options);
        } else {
            endpoint.dial_with(&address, Some(retry), options);
        }
    }
}

/// What the layout sets for single peers, by their names in the mesh: a link of the mesh may be to any node.
pub(super) fn rules(layout: &Layout, node: &Node) -> Vec<PeerRule> {
    let others = layout
        .nodes()
        .iter()
        .filter(|other| other.name != node.name);
    let rules = others.filter_map(|other| {
        let settings = layout.link_settings(node, other)?;
        Some(PeerRule {
            peer: PeerMatch::Name(other.name.to_string()),
            options: options(&settings),
        })
    });
    rules.collect()
}

/// Of the settings towards a peer those that are for it alone.
fn options(settings: &Settings) -> PeerOptions {
    let is_set = |key: &str| matches!(settings.origin(key), Origin::Link { .. });
    let size = |key: &str| is_set(key).then(|| settings.size(key));
    let queue = |messages: &str, bytes: &str, policy: &str| QueueOptions {
        messages: size(messages),
        bytes: size(bytes),
        overflow: is_set(policy).then(|| overflow(settings.text(policy))),
    };
    let slow = "peering.slow";
    PeerOptions {
        speed: is_set(slow).then(|| speed(settings.boolean(slow))),
        data: queue(
            "peering.data_queue",
            "peering.data_queue_bytes",
            "peering.overflow",
        ),
        interactive: queue(
            "peering.interactive_queue",
            "peering.interactive_queue_bytes",
            "peering.interactive_overflow",
        ),
        bulk: queue(
            "peering.bulk_queue",
            "peering.bulk_queue_bytes",
            "peering.bulk_overflow",
        ),
    }
}

/// How fast links are, by the setting.
pub(super) fn speed(is_slow: bool) -> LinkSpeed {
    if is_slow {
        LinkSpeed::Slow
    } else {
        LinkSpeed::Fast
    }
}

/// What a full queue does, by the name that it has in settings.
pub(super) fn overflow(policy: &str) -> Overflow {
    match policy {
        "drop_newest" => Overflow::DropNewest,
        "disconnect" => Overflow::Disconnect,
        "block" => Overflow::Block,
        _ => Overflow::DropOldest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_a_layout_become_rules_for_their_peers() {
        let text = "[peering]\nbulk_queue = 9\n\
            [[node]]\nname = \"manager\"\nrole = \"manager\"\n\
            [[node]]\nname = \"logger\"\nrole = \"logger\"\n\
            [[node]]\nname = \"worker\"\nrole = \"worker\"\ncount = 2\n\
            [[link]]\nto = \"logger\"\noverflow = \"block\"\nbulk_queue = 5\n\
            [[link]]\nfrom = \"worker-2\"\nto = \"logger\"\nbulk_queue = 6\nbulk_overflow = \"drop_newest\"\n";
        let layout = Layout::parse(text, "links.toml", &[]).unwrap();
        let rules = |name: &str| rules(&layout, layout.find(name).unwrap());
        assert_eq!(rules("logger"), []);
        let to_logger = |bulk| PeerRule {
            peer: PeerMatch::Name("logger".to_owned()),
            options: PeerOptions {
                data: QueueOptions {
                    overflow: Some(Overflow::Block),
                    ..QueueOptions::default()
                },
                bulk,
                ..PeerOptions::default()
            },
        };
        let mut bulk = QueueOptions {
            messages: Some(5),
            ..QueueOptions::default()
        };
        assert_eq!(rules("manager"), [to_logger(bulk)]);
        assert_eq!(rules("worker-1"), [to_logger(bulk)]);
        bulk.messages = Some(6);
        bulk.overflow = Some(Overflow::DropNewest);
        assert_eq!(rules("worker-2"), [to_logger(bulk)]);
    }
}
