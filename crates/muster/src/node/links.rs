//! The links of a node: whom it dials, and what its layout sets for single peers.

use muster_cluster::{Layout, LinkOverrides, Node, PeeringSettings, QueueOverrides, Settings};

use crate::endpoint::{Endpoint, LinkSpeed, PeerMatch, PeerOptions, PeerRule, QueueOptions};

/// Dials whom the layout says. What it sets for the peer is given to the dial, too: Zeek's nodes tell no name
/// that a rule could match.
pub(super) fn dial(endpoint: &Endpoint, layout: &Layout, node: &Node) {
    let peering = PeeringSettings::of(&node.settings);
    let retry = Some(peering.retry);
    for dialled in &layout.neighbours(&node.name).dials {
        let Some(other) = layout.node(dialled) else {
            continue;
        };
        let address = other.socket_address().to_string();
        let settings = layout.link_settings(node, other);
        let options = settings.as_ref().map(options).unwrap_or_default();
        if peering.direct.iter().any(|name| name == dialled.as_str()) {
            endpoint.dial_direct_with(&address, retry, options);
        } else {
            endpoint.dial_with(&address, retry, options);
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
    let overrides = LinkOverrides::of(settings);
    PeerOptions {
        speed: overrides.slow.map(speed),
        data: queue(overrides.data),
        interactive: queue(overrides.interactive),
        bulk: queue(overrides.bulk),
    }
}

fn queue(overrides: QueueOverrides) -> QueueOptions {
    QueueOptions {
        messages: overrides.messages,
        bytes: overrides.bytes,
        overflow: overrides.overflow,
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

#[cfg(test)]
mod tests {
    use muster_wire::Overflow;

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
