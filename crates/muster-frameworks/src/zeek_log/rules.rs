//! What the logs of Zeek's analyzers say about the connections that they name.

use muster_data::Protocol;

use super::software::Naming;

/// What is known of a log by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// The log.
    pub(super) log: &'static str,
    /// The service, as `conn` would name it.
    pub(super) service: Option<&'static str>,
    /// The transport protocol where the log has no `proto`.
    pub(super) transport: Protocol,
    /// How the log tells whether the connection was established.
    pub(super) established: Established,
    /// Whether the log names software, and how.
    pub(super) naming: Option<Naming>,
}

/// How a log tells whether the connection was established, that is, whether the responder took part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Established {
    /// By `conn_state`.
    State,
    /// By `established`, which speaks of the TLS handshake.
    Handshake,
    /// If this column is set, the responder has answered; if not, the log does not tell.
    Answer(usize),
    /// If this column is set, the responder has answered; if not, it has not.
    OnlyAnswer(usize),
    /// Not at all.
    Untold,
}

/// The columns that a connection is made of. The indices below are theirs.
pub(super) const COLUMNS: [&str; 21] = [
    "ts",
    "uid",
    "id.orig_h",
    "id.orig_p",
    "id.resp_h",
    "id.resp_p",
    "proto",
    "service",
    "conn_state",
    "established",
    "rcode",
    "result",
    "status_code",
    "reply_code",
    "last_reply",
    "server",
    "client",
    "user_agent",
    "path",
    "is_webmail",
    "first_received",
];

pub(super) const TS: usize = 0;
pub(super) const UID: usize = 1;
pub(super) const ORIG_H: usize = 2;
pub(super) const ORIG_P: usize = 3;
pub(super) const RESP_H: usize = 4;
pub(super) const RESP_P: usize = 5;
pub(super) const PROTO: usize = 6;
pub(super) const SERVICE: usize = 7;
pub(super) const CONN_STATE: usize = 8;
pub(super) const ESTABLISHED: usize = 9;
const RCODE: usize = 10;
const RESULT: usize = 11;
const STATUS_CODE: usize = 12;
const REPLY_CODE: usize = 13;
const LAST_REPLY: usize = 14;
pub(super) const SERVER: usize = 15;
pub(super) const CLIENT: usize = 16;
pub(super) const USER_AGENT: usize = 17;
pub(super) const RECEIVED_PATH: usize = 18;
pub(super) const IS_WEBMAIL: usize = 19;
pub(super) const FIRST_RECEIVED: usize = 20;

const fn rule(
    log: &'static str,
    service: &'static str,
    transport: Protocol,
    established: Established,
) -> Rule {
    Rule {
        log,
        service: Some(service),
        transport,
        established,
        naming: None,
    }
}

const RULES: [Rule; 36] = {
    use Established::{Answer, Handshake, OnlyAnswer, Untold};
    use Protocol::{Tcp, Udp};
    [
        Rule {
            log: "conn",
            service: None,
            transport: Protocol::Unknown,
            established: Established::State,
            naming: None,
        },
        rule("dns", "dns", Udp, OnlyAnswer(RCODE)),
        rule("ssl", "ssl", Tcp, Handshake),
        rule("http", "http", Tcp, Answer(STATUS_CODE)),
        rule("rdp", "rdp", Tcp, Answer(RESULT)),
        rule("ftp", "ftp", Tcp, Answer(REPLY_CODE)),
        rule("smtp", "smtp", Tcp, Answer(LAST_REPLY)),
        rule("ssh", "ssh", Tcp, Answer(SERVER)),
        rule("ntlm", "ntlm", Tcp, Untold),
        rule("ntp", "ntp", Udp, Untold),
        rule("syslog", "syslog", Udp, Untold),
        rule("dhcp", "dhcp", Udp, Untold),
        rule("kerberos", "krb", Tcp, Untold),
        rule("smb_files", "smb", Tcp, Untold),
        rule("smb_mapping", "smb", Tcp, Untold),
        rule("dce_rpc", "dce_rpc", Tcp, Untold),
        rule("mysql", "mysql", Tcp, Untold),
        rule("postgresql", "postgresql", Tcp, Untold),
        rule("redis", "redis", Tcp, Untold),
        rule("irc", "irc", Tcp, Untold),
        rule("rfb", "rfb", Tcp, Untold),
        rule("socks", "socks", Tcp, Untold),
        rule("ldap", "ldap", Tcp, Untold),
        rule("ldap_search", "ldap", Tcp, Untold),
        rule("mqtt_connect", "mqtt", Tcp, Untold),
        rule("mqtt_publish", "mqtt", Tcp, Untold),
        rule("mqtt_subscribe", "mqtt", Tcp, Untold),
        rule("modbus", "modbus", Tcp, Untold),
        rule("dnp3", "dnp3_tcp", Tcp, Untold),
        rule("websocket", "websocket", Tcp, Untold),
        rule("sip", "sip", Udp, Untold),
        rule("snmp", "snmp", Udp, Untold),
        rule("radius", "radius", Udp, Untold),
        rule("tftp", "tftp", Udp, Untold),
        rule("quic", "quic", Udp, Untold),
        rule("bfd", "bfd", Udp, Untold),
    ]
};

/// The rule for a log; of an unknown one nothing is known.
pub(super) fn rule_of(log: &str) -> Rule {
    let known = RULES.iter().find(|rule| rule.log == log);
    let rule = known.copied().unwrap_or(Rule {
        log: "",
        service: None,
        transport: Protocol::Unknown,
        established: Established::Untold,
        naming: None,
    });
    Rule {
        naming: Naming::of(log),
        ..rule
    }
}

/// Whether a `conn_state` means that the responder took part in opening the connection.
pub(super) fn is_established(conn_state: &str) -> Option<bool> {
    match conn_state {
        "SF" | "S1" | "S2" | "S3" | "RSTO" | "RSTR" => Some(true),
        "S0" | "REJ" | "RSTOS0" | "RSTRH" | "SH" | "SHR" | "OTH" => Some(false),
        _ => None,
    }
}
