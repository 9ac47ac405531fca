//! The gateway and the bridge of a node, as a layout's settings have them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster::cluster::{SettingSpec, Settings};
use muster_wire::QueueLimits;

use crate::access::{SHORTEST, TokenProblem, Tokens};
use crate::client::{BridgeConfig, BridgeError, ClientConfig, UrlError};
use crate::config::{ClientOverflow, GatewayConfig, GatewayTls, Plaintext};
use crate::monitor::{MonitorAddress, MonitorAddressError, MonitorProtection};

const MIB: u64 = 1 << 20;

/// The setting with the token of a monitor.
const MONITOR_TOKEN: &str = "monitor.token_file";

/// The settings of gateways, bridges and monitors, for [`Layout::parse`](muster::cluster::Layout::parse).
pub const SETTINGS: &[SettingSpec] = &[
    SettingSpec::text(
        "monitor.listen",
        "auto",
        "where metrics and status are served; auto: on loopback, 1000 above the node's port; off",
    ),
    SettingSpec::text(
        "monitor.token_file",
        "",
        "file that holds the token that whoever asks for metrics must show; without it only loopback is listened on",
    ),
    SettingSpec::text(
        "monitor.certificate",
        "",
        "certificate for metrics over https, with those that lead to its authority; {node} is the node's name",
    ),
    SettingSpec::text(
        "monitor.keyfile",
        "",
        "the private key of monitor.certificate",
    ),
    SettingSpec::boolean(
        "monitor.plaintext_anywhere",
        false,
        "serve metrics unencrypted on addresses that others can reach; the token can be read on the way",
    ),
    SettingSpec::text(
        "gateway.listen",
        "",
        "where WebSocket clients are served, as 127.0.0.1:27759; empty serves none",
    ),
    SettingSpec::text(
        "gateway.tokens",
        "",
        "file of the tokens that clients must show; without it only loopback is listened on",
    ),
    SettingSpec::text(
        "gateway.certificate",
        "",
        "certificate for wss://, with those that lead to its authority; {node} is the node's name",
    ),
    SettingSpec::text(
        "gateway.keyfile",
        "",
        "the private key of gateway.certificate",
    ),
    SettingSpec::text(
        "gateway.cafile",
        "",
        "authorities of clients' certificates; if set, clients must show one",
    ),
    SettingSpec::boolean(
        "gateway.plaintext_anywhere",
        false,
        "serve unencrypted on addresses that others can reach; tokens can be read on the way",
    ),
    SettingSpec::count(
        "gateway.queue",
        8192,
        "messages that wait for one WebSocket client at most",
    )
    .positive(),
    SettingSpec::count(
        "gateway.queue_bytes",
        16 * MIB,
        "bytes that wait for one WebSocket client at most",
    )
    .positive(),
    SettingSpec::choice::<ClientOverflow>(
        "gateway.overflow",
        "disconnect",
        "what happens to a WebSocket client whose queue is full",
    ),
    SettingSpec::count(
        "gateway.memory",
        256 * MIB,
        "bytes that wait for all WebSocket clients together at most; beyond it the fullest queue's client is disconnected",
    )
    .positive(),
    SettingSpec::count(
        "gateway.max_clients",
        1024,
        "WebSocket clients at once at most",
    )
    .positive(),
    SettingSpec::duration(
        "gateway.ping_interval",
        Duration::from_secs(5),
        "time between two pings of a WebSocket client; 0 never pings",
    ),
    SettingSpec::text(
        "bridge.url",
        "",
        "a WebSocket server, Zeek's or a gateway's, to bridge to: ws://HOST:PORT or wss://HOST",
    ),
    SettingSpec::text_list(
        "bridge.inward",
        &[],
        "topic prefixes whose events come in over the bridge",
    ),
    SettingSpec::text_list(
        "bridge.outward",
        &[],
        "topic prefixes whose events go out over the bridge",
    ),
    SettingSpec::text(
        "bridge.token_file",
        "",
        "file that holds the token that the server asks for",
    ),
    SettingSpec::text(
        "bridge.cafile",
        "",
        "authorities of the server's certificate; without it those of the system",
    ),
    SettingSpec::count(
        "bridge.queue",
        65_536,
        "messages that wait for the server at most, also while it is away",
    )
    .positive(),
    SettingSpec::count(
        "bridge.queue_bytes",
        64 * MIB,
        "bytes that wait for the server at most",
    )
    .positive(),
];

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsProblem {
    /// Not an address and a port.
    #[error("gateway.listen = \"{0}\": an address and a port are needed, as 127.0.0.1:27759")]
    Address(String),
    /// One of two files that belong together.
    #[error("{0}.certificate and {0}.keyfile belong together: one of them is missing")]
    HalfTls(&'static str),
    /// Nobody would be asked for a certificate.
    #[error("gateway.cafile needs gateway.certificate: without TLS no client shows a certificate")]
    LoneAuthorities,
    /// Not an address for monitoring.
    #[error(transparent)]
    Monitor(#[from] MonitorAddressError),
    /// A token that cannot be used.
    #[error("{0}: a token has at least {SHORTEST} characters, all of them printable ASCII")]
    Token(&'static str),
    /// Tokens that cannot be used.
    #[error("gateway.tokens: {0}")]
    Tokens(#[from] TokenProblem),
    /// Not a server's address.
    #[error("bridge.url: {0}")]
    Url(#[from] UrlError),
    /// A bridge for nothing.
    #[error("bridge.url is set, but neither bridge.inward nor bridge.outward names a topic")]
    IdleBridge,
    /// The token cannot be read.
    #[error("{key}: cannot read {path}: {source}")]
    TokenFile {
        /// The setting.
        key: &'static str,
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
}

/// Anybody could guess a token of fewer characters, and a header cannot carry others than these.
fn check_token(key: &'static str, token: String) -> Result<String, SettingsProblem> {
    let is_printable = token.bytes().all(|byte| byte.is_ascii_graphic());
    if token.len() < SHORTEST || !is_printable {
        return Err(SettingsProblem::Token(key));
    }
    Ok(token)
}

/// A token in a file of its own, if a setting names one.
fn token_file(
    settings: &Settings,
    key: &'static str,
    base: &Path,
    node: &str,
) -> Result<Option<String>, SettingsProblem> {
    let Some(path) = file(settings, key, base, node) else {
        return Ok(None);
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(source) => Err(SettingsProblem::TokenFile {
            key,
            path: path.display().to_string(),
            source,
        }),
    }
}

/// A setting that names a file: relative to the layout, `{node}` in it is the node's name.
fn file(settings: &Settings, key: &str, base: &Path, node: &str) -> Option<PathBuf> {
    let text = settings.text(key);
    (!text.is_empty()).then(|| base.join(text.replace("{node}", node)))
}

impl GatewayConfig {
    /// The gateway of a node, if it has one. Files are relative to `base`.
    pub fn from_settings(
        settings: &Settings,
        base: &Path,
        node: &str,
    ) -> Result<Option<Self>, SettingsProblem> {
        let listen = settings.text("gateway.listen");
        if listen.is_empty() {
            return Ok(None);
        }
        let address: SocketAddr = listen
            .parse()
            .map_err(|_| SettingsProblem::Address(listen.to_owned()))?;
        let file = |key| file(settings, key, base, node);
        let tls = match (file("gateway.certificate"), file("gateway.keyfile")) {
            (Some(certificate), Some(keyfile)) => Some(GatewayTls {
                certificate,
                keyfile,
                cafile: file("gateway.cafile"),
            }),
            (None, None) if file("gateway.cafile").is_some() => {
                return Err(SettingsProblem::LoneAuthorities);
            }
            (None, None) => None,
            _ => return Err(SettingsProblem::HalfTls("gateway")),
        };
        let tokens = file("gateway.tokens");
        Ok(Some(Self {
            address,
            tokens: tokens.map(|path| Tokens::load(&path)).transpose()?,
            tls,
            plaintext: if settings.boolean("gateway.plaintext_anywhere") {
                Plaintext::Anywhere
            } else {
                Plaintext::Loopback
            },
            client_queue: QueueLimits {
                messages: settings.size("gateway.queue"),
                bytes: settings.size("gateway.queue_bytes"),
            },
            overflow: settings.choice("gateway.overflow"),
            memory: settings.size("gateway.memory"),
            max_clients: settings.size("gateway.max_clients"),
            ping_interval: settings.duration("gateway.ping_interval"),
            ..Self::default()
        }))
    }
}

impl BridgeConfig {
    /// The bridge of a node, if it has one. Files are relative to `base`.
    pub fn from_settings(
        settings: &Settings,
        base: &Path,
        node: &str,
    ) -> Result<Option<Self>, SettingsProblem> {
        let url = settings.text("bridge.url");
        if url.is_empty() {
            return Ok(None);
        }
        let inward = settings.text_list("bridge.inward").to_vec();
        let outward = settings.text_list("bridge.outward").to_vec();
        if inward.is_empty() && outward.is_empty() {
            return Err(SettingsProblem::IdleBridge);
        }
        let token = token_file(settings, "bridge.token_file", base, node)?;
        Ok(Some(Self {
            url: url.parse()?,
            client: ClientConfig {
                application: format!("muster/{node}"),
                token,
                cafile: file(settings, "bridge.cafile", base, node),
                ..ClientConfig::default()
            },
            inward,
            outward,
            queue: QueueLimits {
                messages: settings.size("bridge.queue"),
                bytes: settings.size("bridge.queue_bytes"),
            },
        }))
    }
}

impl MonitorAddress {
    /// Where a node is monitored.
    pub fn from_settings(settings: &Settings) -> Result<Self, SettingsProblem> {
        Ok(settings.text("monitor.listen").parse()?)
    }
}

impl MonitorProtection {
    /// How a node's monitor is protected. Files are relative to `base`.
    ///
    /// # Errors
    ///
    /// Fails if the token cannot be read or is no token, and if certificate or key is missing.
    pub fn from_settings(
        settings: &Settings,
        base: &Path,
        node: &str,
    ) -> Result<Self, SettingsProblem> {
        let token = token_file(settings, MONITOR_TOKEN, base, node)?;
        let file = |key| file(settings, key, base, node);
        let tls = match (file("monitor.certificate"), file("monitor.keyfile")) {
            (Some(certificate), Some(keyfile)) => Some(GatewayTls {
                certificate,
                keyfile,
                cafile: None,
            }),
            (None, None) => None,
            _ => return Err(SettingsProblem::HalfTls("monitor")),
        };
        Ok(Self {
            token: token
                .map(|token| check_token(MONITOR_TOKEN, token))
                .transpose()?,
            tls,
            plaintext: if settings.boolean("monitor.plaintext_anywhere") {
                Plaintext::Anywhere
            } else {
                Plaintext::Loopback
            },
        })
    }
}

/// Checks that no event can go round over the bridges of some nodes together.
pub fn check_bridges<'a>(nodes: impl Iterator<Item = &'a Settings>) -> Result<(), BridgeError> {
    let (mut inward, mut outward) = (Vec::new(), Vec::new());
    for settings in nodes.filter(|settings| !settings.text("bridge.url").is_empty()) {
        inward.extend(settings.text_list("bridge.inward"));
        outward.extend(settings.text_list("bridge.outward"));
    }
    BridgeConfig::check_prefixes(&inward, &outward)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use muster::cluster::Layout;

    use super::*;

    fn settings(text: &str) -> Settings {
        let node = "layout = 1\n[[node]]\nname = \"m\"\nrole = \"manager\"\nport = 1\n";
        let layout = Layout::parse(&format!("{node}{text}"), "test.toml", SETTINGS).unwrap();
        layout.nodes()[0].settings.clone()
    }

    #[test]
    fn nothing_is_on_by_default() {
        let settings = settings("");
        assert!(
            GatewayConfig::from_settings(&settings, Path::new("/"), "m")
                .unwrap()
                .is_none()
        );
        assert!(
            BridgeConfig::from_settings(&settings, Path::new("/"), "m")
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_gateway_and_a_bridge() {
        let settings = settings(
            "[gateway]\nlisten = \"[::1]:5\"\ncertificate = \"{node}.pem\"\nkeyfile = \"k\"\noverflow = \"drop_oldest\"\n[bridge]\nurl = \"wss://zeek\"\ninward = [\"/a/\"]\n",
        );
        let gateway = GatewayConfig::from_settings(&settings, Path::new("/etc"), "m")
            .unwrap()
            .unwrap();
        assert_eq!(gateway.address, "[::1]:5".parse().unwrap());
        assert_eq!(gateway.tls.unwrap().certificate, Path::new("/etc/m.pem"));
        assert_eq!(gateway.overflow, ClientOverflow::DropOldest);
        let bridge = BridgeConfig::from_settings(&settings, Path::new("/etc"), "m")
            .unwrap()
            .unwrap();
        assert_eq!(bridge.inward, ["/a/"]);
        assert!(bridge.url.is_secure());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let problem = |text: &str| {
            let settings = settings(text);
            let gateway = GatewayConfig::from_settings(&settings, Path::new("/"), "m").err();
            let bridge = BridgeConfig::from_settings(&settings, Path::new("/"), "m").err();
            gateway.or(bridge).unwrap().to_string()
        };
        assert!(problem("[gateway]\nlisten = \"27759\"").contains("gateway.listen = \"27759\""));
        assert!(
            problem("[gateway]\nlisten = \"[::1]:5\"\nkeyfile = \"k\"").contains("belong together")
        );
        assert!(
            problem("[gateway]\nlisten = \"[::1]:5\"\ncafile = \"ca\"").contains("gateway.cafile")
        );
        assert!(
            problem("[gateway]\nlisten = \"[::1]:5\"\ntokens = \"none.toml\"")
                .contains("none.toml")
        );
        assert!(problem("[bridge]\nurl = \"zeek:5\"\ninward = [\"/a\"]").contains("zeek:5"));
        assert!(problem("[bridge]\nurl = \"ws://zeek:5\"").contains("neither"));
    }
}
