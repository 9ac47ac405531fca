//! Which addresses are one's own.

use muster_cluster::Settings;
use muster_cluster::node::{Context, Severity};
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
pub(crate) struct LocalNets {
    key: &'static str,
    subnets: Vec<Subnet>,
    /// What the setting holds besides.
    wrong: Vec<String>,
}

impl LocalNets {
    /// Reads a setting of kind list of texts.
    pub(crate) fn of(settings: &Settings, key: &'static str) -> Self {
        let (mut subnets, mut wrong) = (Vec::new(), Vec::new());
        for text in settings.text_list(key) {
            match text.parse() {
                Ok(subnet) => subnets.push(subnet),
                Err(_) => wrong.push(text.clone()),
            }
        }
        Self {
            key,
            subnets,
            wrong,
        }
    }

    pub(crate) fn contains(&self, address: &Address) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(address))
    }

    /// Tells the operator of what is no subnet, when the node starts.
    pub(crate) fn report(&self, cx: &mut Context<'_>) {
        for text in &self.wrong {
            let key = self.key;
            let text = format!("setting `{key}`: {text:?} is not a subnet and is ignored");
            cx.report(Severity::Error, &text);
        }
    }
}
