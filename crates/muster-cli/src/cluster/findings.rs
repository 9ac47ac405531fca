//! What keeps the nodes of a layout from starting, or may: found before they are started.

use std::net::IpAddr;
use std::path::Path;

use muster::{Endpoint, EndpointConfig, Exposure, Tls};
use muster_agent::is_of_this_machine;
use muster_cluster::{Node, Origin};
use muster_gateway::{BridgeConfig, GatewayConfig, MonitorAddress, MonitorProtection};
use rustix::fs::{Access, access};

use super::LoadedLayout;
use super::node::tls;

/// Where Linux says which ports it gives to connections.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) text: String,
    /// Whether a node cannot start with it.
    pub(super) is_error: bool,
}

/// Looks at the nodes, and at the files that those of this machine use.
pub(super) fn find(loaded: &LoadedLayout, exposure: Exposure) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    findings.directory(&loaded.places.state);
    let ephemeral = std::fs::read_to_string(EPHEMERAL).unwrap_or_default();
    for node in loaded.layout.nodes() {
        findings.exposure(loaded, node, exposure);
        findings.sizes(node);
        findings.store_memory(node);
        if !is_of_this_machine(node.address) {
            continue;
        }
        findings.endpoint(loaded, node);
        findings.services(loaded, node);
        findings.port(node, &ephemeral);
    }
    findings.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn error(&mut self, text: String) {
        self.add(text, true);
    }

    fn warning(&mut self, text: String) {
        self.add(text, false);
    }

    fn add(&mut self, text: String, is_error: bool) {
        let finding = Finding { text, is_error };
        // What several nodes have in common is said once.
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    /// The directory can be made, or written to.
    fn directory(&mut self, directory: &Path) {
        let Some(there) = directory.ancestors().find(|path| path.exists()) else {
            return;
        };
        let place = directory.display();
        if !there.is_dir() {
            self.error(format!(
                "directory {place}: {} is no directory",
                there.display()
            ));
        } else if access(there, Access::WRITE_OK).is_err() {
            self.error(format!(
                "directory {place}: {} cannot be written to",
                there.display()
            ));
        }
    }

    /// The node may listen where it should.
    fn exposure(&mut self, loaded: &LoadedLayout, node: &Node, exposure: Exposure) {
        let is_allowed = match (tls(loaded, node), exposure) {
            (Tls::Mutual(_), _)
            | (_, Exposure::PlaintextAnywhere)
            | (Tls::Anonymous, Exposure::AnonymousAnywhere) => true,
            _ => node.address.is_loopback(),
        };
        if !is_allowed {
            self.error(format!(
                "node {}: listens on {} without authentication, which others can reach: set tls.mode = \"mutual\", or start \
                 it with --plaintext-anywhere or --anonymous-anywhere",
                node.name,
                node.socket_address(),
            ));
        }
    }

    /// What is set to be the largest message can pass.
    fn sizes(&mut self, node: &Node) {
        let settings = &node.settings;
        let largest = settings.count("peering.largest_message");
        let queue = settings.count("peering.data_queue_bytes");
        if largest > queue {
            self.warning(format!(
                "peering.largest_message is {largest}, and queues of events take {queue} bytes at most \
                 (peering.data_queue_bytes): what is larger than those is dropped, and told"
            ));
        }
        let unfinished = settings.count("peering.unfinished_frames");
        if largest > unfinished / 2 {
            self.warning(format!(
                "peering.unfinished_frames is {unfinished}, less than two of the largest messages \
                 (peering.largest_message, {largest}): two are allowed all the same"
            ));
        }
    }

    /// What is set to be the most of one store can be reached.
    fn store_memory(&mut self, node: &Node) {
        let settings = &node.settings;
        let key = "stores.memory_limit";
        let (one, all) = (
            settings.count(key),
            settings.count("stores.node_memory_limit"),
        );
        if settings.origin(key) != Origin::Default && one > all {
            self.warning(format!(
                "{key} is {one}, and all stores of a node take {all} bytes at most (stores.node_memory_limit): no store gets \
                 as large as it may"
            ));
        }
    }

    /// The node's endpoint can have its TLS.
    fn endpoint(&mut self, loaded: &LoadedLayout, node: &Node) {
        let config = EndpointConfig {
            tls: tls(loaded, node),
            ..EndpointConfig::default()
        };
        if let Err(error) = Endpoint::start(config) {
            self.error(format!(
                "node {}: {:#}",
                node.name,
                anyhow::Error::from(error)
            ));
        }
    }

    /// The node's HTTP services can have their tokens and certificates.
    fn services(&mut self, loaded: &LoadedLayout, node: &Node) {
        let (settings, base, name) = (&node.settings, &loaded.base, node.name.as_str());
        let problem = |error: &dyn std::fmt::Display| format!("node {name}: {error}");
        match GatewayConfig::from_settings(settings, base, name) {
            Ok(Some(config)) => {
                if let Err(error) = config.check() {
                    self.error(problem(&error));
                }
            }
            Ok(None) => {}
            Err(error) => self.error(problem(&error)),
        }
        if let Err(error) = BridgeConfig::from_settings(settings, base, name) {
            self.error(problem(&error));
        }
        let protection = MonitorProtection::from_settings(settings, base, name);
        match (MonitorAddress::from_settings(settings), protection) {
            (Err(error), _) | (_, Err(error)) => self.error(problem(&error)),
            (Ok(wanted), Ok(protection)) => {
                let address = wanted.for_port(node.port);
                if let Some(Err(error)) = address.map(|address| protection.check(address)) {
                    self.error(problem(&error));
                }
            }
        }
    }

    /// No connection of the machine may have taken the node's port.
    fn port(&mut self, node: &Node, ephemeral: &str) {
        let mut numbers = ephemeral
            .split_whitespace()
            .map_while(|number| number.parse().ok());
        let (Some(first), Some(last)) = (numbers.next(), numbers.next()) else {
            return;
        };
        let is_wildcard = matches!(node.address, IpAddr::V4(address) if address.is_unspecified());
        if (first..=last).contains(&node.port) && !is_wildcard {
            self.warning(format!(
                "ports from {first} to {last} are given to connections by the system: one of them may have a node's port when it \
                 starts. Choose lower ones, or reserve them (net.ipv4.ip_local_reserved_ports)"
            ));
        }
    }
}
