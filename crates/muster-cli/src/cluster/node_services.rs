//! A node's HTTP services: the gateway for WebSocket clients, the bridge to a WebSocket server, and the monitor.

use std::fmt::Display;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Result;
use muster::{Node, NodeReport, NodeReporter};
use muster_gateway::status::{BridgeStatus, GatewayStatus, NodePage, NodeStatus, VERSION};
use muster_gateway::{
    Bridge, BridgeConfig, BridgeCounter, Gateway, GatewayConfig, GatewayCounter, GatewayError,
    Monitor, MonitorAddress, MonitorError, MonitorProtection, Monitored, NodeMetrics,
};

use super::LoadedLayout;
use crate::output::{Failure, MISCONFIGURED};

pub(crate) struct NodeServices {
    gateway: Option<Gateway>,
    bridge: Option<Bridge>,
    monitor: Option<Monitor>,
    status: Status,
}

/// Adds what the services count to what the node reports.
#[derive(Clone, Default)]
pub(crate) struct Status {
    gateway: Option<GatewayCounter>,
    bridge: Option<BridgeCounter>,
    /// Known when the monitor listens.
    monitor: Arc<OnceLock<String>>,
}

impl Status {
    pub(crate) fn of(&self, report: &NodeReport) -> NodeStatus {
        let gateway = self.gateway.as_ref();
        let bridge = self.bridge.as_ref();
        NodeStatus {
            monitor: self.monitor.get().cloned(),
            gateway: gateway.map(|counter| GatewayStatus::new(&counter.counts())),
            bridge: bridge.map(|counter| BridgeStatus::new(&counter.counts())),
            ..NodeStatus::new(report)
        }
    }
}

impl NodeServices {
    /// Opens what the node's settings ask for.
    pub(crate) async fn open(
        loaded: &LoadedLayout,
        node: &muster_cluster::Node,
        running: &Node,
    ) -> Result<Self> {
        let mut services = Self {
            gateway: None,
            bridge: None,
            monitor: None,
            status: Status::default(),
        };
        services.open_gateway(loaded, node, running).await?;
        services.open_bridge(loaded, node, running).await?;
        services.open_monitor(loaded, node, running).await?;
        Ok(services)
    }

    async fn open_gateway(
        &mut self,
        loaded: &LoadedLayout,
        node: &muster_cluster::Node,
        running: &Node,
    ) -> Result<()> {
        let name = node.name.as_str();
        let config = GatewayConfig::from_settings(&node.settings, &loaded.base, name)
            .map_err(|error| failed(node, &error).code(MISCONFIGURED))?;
        let Some(config) = config else {
            return Ok(());
        };
        let gateway = Gateway::start(running.endpoint(), config).await;
        let gateway = gateway.map_err(|error| {
            let code = match error {
                GatewayError::Listen { .. } => 1,
                _ => MISCONFIGURED,
            };
            failed(node, &error).code(code).hint(match error {
                GatewayError::NoTokens(_) => {
                    "set gateway.tokens to a file of tokens; loopback needs none"
                }
                GatewayError::NoTls(_) => {
                    "set gateway.certificate and gateway.keyfile, or gateway.plaintext_anywhere = true"
                }
                _ => "`muster check` shows the settings of the gateway",
            })
        })?;
        let address = gateway.address();
        tracing::info!(
            "serving WebSocket clients on {address}{}",
            muster_gateway::PATH
        );
        self.status.gateway = Some(gateway.counter());
        self.gateway = Some(gateway);
        Ok(())
    }

    async fn open_bridge(
        &mut self,
        loaded: &LoadedLayout,
        node: &muster_cluster::Node,
        running: &Node,
    ) -> Result<()> {
        let name = node.name.as_str();
        let config = BridgeConfig::from_settings(&node.settings, &loaded.base, name)
            .map_err(|error| failed(node, &error).code(MISCONFIGURED))?;
        let Some(config) = config else {
            return Ok(());
        };
        let bridge = Bridge::start(running.endpoint(), config)
            .await
            .map_err(|error| failed(node, &error))?;
        self.status.bridge = Some(bridge.counter());
        self.bridge = Some(bridge);
        Ok(())
    }

    async fn open_monitor(
        &mut self,
        loaded: &LoadedLayout,
        node: &muster_cluster::Node,
        running: &Node,
    ) -> Result<()> {
        let wanted = MonitorAddress::from_settings(&node.settings)
            .map_err(|error| failed(node, &error).code(MISCONFIGURED))?;
        let Some(address) = wanted.for_port(node.port) else {
            return Ok(());
        };
        let protection =
            MonitorProtection::from_settings(&node.settings, &loaded.base, node.name.as_str())
                .map_err(|error| failed(node, &error).code(MISCONFIGURED))?;
        let scheme = if protection.tls.is_some() {
            "https"
        } else {
            "http"
        };
        match Monitor::start(address, protection, self.monitored(node, running)).await {
            Ok(monitor) => {
                let address = monitor.address();
                let url = format!("{scheme}://{address}");
                tracing::info!("serving metrics and status on {url}");
                let _ = self.status.monitor.set(url);
                self.monitor = Some(monitor);
            }
            // Nobody asked for this one port.
            Err(error) if wanted == MonitorAddress::Automatic => {
                tracing::warn!("{error}; set monitor.listen to another address, or to \"off\"");
            }
            Err(error) => {
                let (code, hint) = match error {
                    MonitorError::Listen { .. } => (1, "another process may be using the port"),
                    _ => (
                        MISCONFIGURED,
                        "set monitor.token_file, monitor.certificate and monitor.keyfile; loopback needs none",
                    ),
                };
                return Err(failed(node, &error).hint(hint).code(code).into());
            }
        }
        Ok(())
    }

    /// What whoever monitors the node is shown.
    pub(crate) fn monitored(
        &self,
        node: &muster_cluster::Node,
        running: &Node,
    ) -> Arc<dyn Monitored> {
        Arc::new(Page {
            node: node.name.to_string(),
            role: node.role.to_string(),
            reporter: running.reporter(),
            status: self.status.clone(),
        })
    }

    /// What there is to add to the node's reports.
    pub(crate) fn status(&self) -> &Status {
        &self.status
    }

    /// Has them use the certificates that are in their files by now.
    pub(crate) fn reload_tls(&self) {
        let gateway = self
            .gateway
            .as_ref()
            .map(|gateway| gateway.reload_tls().map_err(anyhow::Error::from));
        let monitor = self
            .monitor
            .as_ref()
            .map(|monitor| monitor.reload_tls().map_err(anyhow::Error::from));
        for reloaded in [gateway, monitor].into_iter().flatten() {
            if let Err(error) = reloaded {
                tracing::error!("goes on with the old certificate: {error:#}");
            }
        }
    }

    /// Ends all of them, after what is queued for clients and over the bridge; what they have counted
    /// stays.
    pub(crate) async fn close(self, limit: Duration) -> Status {
        drop(self.monitor);
        let bridge = async {
            if let Some(bridge) = self.bridge {
                bridge.stop(limit).await;
            }
        };
        let gateway = async {
            if let Some(gateway) = self.gateway {
                gateway.stop(limit).await;
            }
        };
        tokio::join!(bridge, gateway);
        self.status
    }
}

fn failed(node: &muster_cluster::Node, error: &dyn Display) -> Failure {
    Failure::new(format!("node {} cannot start: {error}", node.name))
}

/// What a node shows.
struct Page {
    node: String,
    role: String,
    reporter: NodeReporter,
    status: Status,
}

impl Monitored for Page {
    fn metrics(&self) -> NodeMetrics {
        let Status {
            gateway, bridge, ..
        } = &self.status;
        NodeMetrics {
            node: self.node.clone(),
            role: self.role.clone(),
            report: self.reporter.report(),
            gateway: gateway.as_ref().map(GatewayCounter::counts),
            bridge: bridge.as_ref().map(BridgeCounter::counts),
        }
    }

    fn status(&self) -> NodePage {
        NodePage {
            version: VERSION,
            node: self.node.clone(),
            role: self.role.clone(),
            status: self.status.of(&self.reporter.report()),
        }
    }
}
