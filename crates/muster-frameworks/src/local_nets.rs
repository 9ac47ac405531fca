//! Which addresses are one's own.

use muster_cluster::Settings;
use muster_data::{Address, Subnet};

/// The default of every setting `local_nets`: private, unique local and link-local addresses.
pub(crate) const DEFAULT: &[&str] = &[
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
    "fe80::/10",
];

/// The subnets of a setting.
#[derive(Debug)]
pub(crate) struct LocalNets(Vec<Subnet>);

impl LocalNets {
    /// Reads a setting of kind list of subnets.
    pub(crate) fn of(settings: &Settings, key: &'static str) -> Self {
        let texts = settings.text_list(key).iter();
        // The layout has checked them.
        Self(texts.filter_map(|text| text.parse().ok()).collect())
    }

    pub(crate) fn contains(&self, address: &Address) -> bool {
        self.0.iter().any(|subnet| subnet.contains(address))
    }
}
