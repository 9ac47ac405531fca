//! What nodes compare of their layouts: whether they agree on who owns what.

use muster_wire::zeek::LayoutFingerprint;

use super::{Layout, PoolName};
use crate::settings::{Origin, Setting, Settings};

/// Sections of settings that concern one machine, and may differ.
const OF_ONE_MACHINE: [&str; 8] = [
    "bridge.", "gateway.", "input.", "logging.", "monitor.", "peering.", "queue.", "tls.",
];

impl Layout {
    /// Returns what a node says of its layout to others. Those whose layouts have the same nodes, roles, pools, topics and
    /// stores have the same `layout`, wherever their files are and whatever their addresses; those that set the same
    /// settings of frameworks and stores have the same `settings`.
    pub fn fingerprint(&self) -> LayoutFingerprint {
        let mut layout = Digest::default();
        layout.text(self.topics.prefix());
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        for node in nodes {
            layout.text("node");
            layout.text(node.name.as_str());
            layout.text(&node.role.to_string());
            node.pools
                .iter()
                .for_each(|pool| layout.text(pool.as_str()));
        }
        // That of managers follows from the nodes, and former releases do not have it.
        for pool in self
            .pools
            .iter()
            .filter(|it| it.name != PoolName::manager())
        {
            layout.text("pool");
            layout.text(pool.name.as_str());
            layout.text(&pool.role.to_string());
            layout.text(&format!("{:?} {}", pool.max_nodes, pool.exclusive));
        }
        let mut stores: Vec<_> = self.stores.iter().map(|spec| &spec.name).collect();
        stores.sort();
        for name in stores {
            layout.text("store");
            layout.text(name.as_str());
            let plan = self.store(name, false);
            layout.text(plan.as_ref().map_or("", |plan| plan.master.as_str()));
        }
        layout.text(self.settings.text("stores.default_master_node"));
        let mut settings = Digest::default();
        add_settings(&mut settings, &self.settings, |origin| {
            origin != Origin::Default
        });
        for node in &self.nodes {
            settings.text(node.name.as_str());
            let is_own = |origin| matches!(origin, Origin::Node { .. });
            add_settings(&mut settings, &node.settings, is_own);
        }
        LayoutFingerprint {
            layout: layout.0,
            settings: settings.0,
        }
    }
}

fn add_settings(digest: &mut Digest, settings: &Settings, is_set: impl Fn(Origin) -> bool) {
    for Setting { key, value, origin } in settings.iter() {
        let is_shared = !OF_ONE_MACHINE
            .iter()
            .any(|section| key.starts_with(section));
        if is_set(origin) && is_shared {
            digest.text(key);
            digest.text(&value.to_string());
        }
    }
}

/// FNV-1a with 64 bits.
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Adds a text, and its end.
    fn text(&mut self, text: &str) {
        for byte in text.bytes().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: &str = "[[node]]\nname = \"m\"\nrole = \"manager\"\nport = 1\n[[node]]\nname = \"w\"\nrole = \"worker\"\n";

    fn fingerprint(text: &str) -> LayoutFingerprint {
        Layout::parse(text, "test", &[]).unwrap().fingerprint()
    }

    #[test]
    fn what_decides_who_owns_what_is_compared() {
        let before = fingerprint(LAYOUT);
        let with = |more: &str| fingerprint(&format!("{LAYOUT}{more}"));
        let data = with("[[node]]\nname = \"d\"\nrole = \"data\"\n");
        assert_ne!(data.layout, before.layout);
        let store = with("[store.\"a\"]\nmaster = \"w\"\n");
        assert_ne!(store.layout, before.layout);
        assert_eq!(store.settings, before.settings);
        let settings = with("[watermark]\nallowance = \"7s\"\n");
        assert_eq!(settings.layout, before.layout);
        assert_ne!(settings.settings, before.settings);
    }

    #[test]
    fn places_and_what_concerns_one_machine_are_not() {
        let before = fingerprint(LAYOUT);
        let moved = LAYOUT.replace("port = 1", "port = 2\naddress = \"10.0.0.1\"");
        assert_eq!(fingerprint(&moved), before);
        let local = format!("directory = \"elsewhere\"\n{LAYOUT}[tls]\nmode = \"anonymous\"\n");
        assert_eq!(fingerprint(&local), before);
    }
}
