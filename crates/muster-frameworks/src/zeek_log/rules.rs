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
    /// If one of these columns counts anything, the responder has answered; if not, the log does not tell.
    Count(&'static [usize]),
    /// If this column is one of these texts, the responder has answered; if not, the log does not tell.
    Word(usize, &'static [&'static str]),
    /// If this column is set, or the history has something of the responder's, it has answered; if not, the log does
    /// not tell.
    AnswerOrHistory(usize),
    /// Not at all.
    Untold,
}

/// The columns that a connection is made of. The indices below are theirs.
pub(super) const COLUMNS: [&str; 30] = [
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
    "history",
    "resp_bytes",
    "success",
    "get_responses",
    "mode",
    "block_sent",
    "block_acked",
    "server_scid",
    "assigned_ip",
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
pub(super) const HISTORY: usize = 21;
pub(super) const RESP_BYTES: usize = 22;
const SUCCESS: usize = 23;
const GET_RESPONSES: usize = 24;
const MODE: usize = 25;
const BLOCK_SENT: usize = 26;
const BLOCK_ACKED: usize = 27;
const SERVER_SCID: usize = 28;
const ASSIGNED_IP: usize = 29;

/// The modes of NTP that a responder answers in: symmetric passive, and server.
const ANSWERS_OF_NTP: &[&str] = &["2", "4"];

/// What `radius` says of an attempt that was answered.
const ANSWERS_OF_RADIUS: &[&str] = &["success", "failed"];

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

/// The logs that tell of connections.
pub(super) const RULES: [Rule; 36] = {
    use Established::{Answer, AnswerOrHistory, Count, Handshake, OnlyAnswer, Untold, Word};
    use Protocol::{Tcp, Udp};
    [
        CONN_RULE,
        rule("dns", "dns", Udp, OnlyAnswer(RCODE)),
        rule("ssl", "ssl", Tcp, Handshake),
        rule("http", "http", Tcp, Answer(STATUS_CODE)),
        rule("rdp", "rdp", Tcp, Answer(RESULT)),
        rule("ftp", "ftp", Tcp, Answer(REPLY_CODE)),
        rule("smtp", "smtp", Tcp, Answer(LAST_REPLY)),
        rule("ssh", "ssh", Tcp, Answer(SERVER)),
        rule("ntlm", "ntlm", Tcp, Untold),
        rule("ntp", "ntp", Udp, Word(MODE, ANSWERS_OF_NTP)),
        rule("syslog", "syslog", Udp, Untold),
        rule("dhcp", "dhcp", Udp, Answer(ASSIGNED_IP)),
        rule("kerberos", "krb", Tcp, OnlyAnswer(SUCCESS)),
        rule("smb_files", "smb", Tcp, Untold),
        rule("smb_mapping", "smb", Tcp, Untold),
        rule("dce_rpc", "dce_rpc", Tcp, Untold),
        rule("mysql", "mysql", Tcp, Untold),
        rule("postgresql", "postgresql", Tcp, Untold),
        rule("redis", "redis", Tcp, Untold),
        rule("irc", "irc", Tcp, Untold),
        rule("rfb", "rfb", Tcp, Untold),
        rule("socks", "socks", Tcp, Untold),
        rule("ldap", "ldap", Tcp, OnlyAnswer(RESULT)),
        rule("ldap_search", "ldap", Tcp, OnlyAnswer(RESULT)),
        rule("mqtt_connect", "mqtt", Tcp, Untold),
        rule("mqtt_publish", "mqtt", Tcp, Untold),
        rule("mqtt_subscribe", "mqtt", Tcp, Untold),
        rule("modbus", "modbus", Tcp, Untold),
        rule("dnp3", "dnp3_tcp", Tcp, Untold),
        rule("websocket", "websocket", Tcp, Untold),
        rule("sip", "sip", Udp, Answer(STATUS_CODE)),
        rule("snmp", "snmp", Udp, Count(&[GET_RESPONSES])),
        rule("radius", "radius", Udp, Word(RESULT, ANSWERS_OF_RADIUS)),
        rule("tftp", "tftp", Udp, Count(&[BLOCK_SENT, BLOCK_ACKED])),
        rule("quic", "quic", Udp, AnswerOrHistory(SERVER_SCID)),
        rule("bfd", "bfd", Udp, Untold),
    ]
};

/// What holds for the log of connections themselves.
pub(super) const CONN_RULE: Rule = Rule {
    log: CONN,
    service: None,
    transport: Protocol::Unknown,
    established: Established::State,
    naming: None,
};

/// The log of connections themselves.
pub(super) const CONN: &str = "conn";

/// What holds for a log that nobody knows: nothing.
pub(super) const UNKNOWN: Rule = Rule {
    log: "",
    service: None,
    transport: Protocol::Unknown,
    established: Established::Untold,
    naming: None,
};

/// The rule for a log of Zeek's; of one that is about something else than a protocol, only its name is known.
pub(super) fn rule_of(log: &'static str) -> Rule {
    let known = RULES.iter().find(|rule| rule.log == log);
    let rule = known.copied().unwrap_or(Rule { log, ..UNKNOWN });
    Rule {
        naming: Naming::of(log),
        ..rule
    }
}

/// Whether a log has a row only where a protocol was spoken. The rows of others, as of `weird` and `notice`, may be
/// about a connection that never came about. By TCP both ends have taken part in what was spoken, by UDP maybe one.
pub(crate) fn is_of_protocol(log: &str) -> bool {
    log != CONN && RULES.iter().any(|rule| rule.log == log)
}

/// Whether a `conn_state` means that the responder took part in opening the connection.
pub(super) fn is_established(conn_state: &str) -> Option<bool> {
    match conn_state {
        "SF" | "S1" | "S2" | "S3" | "RSTO" | "RSTR" => Some(true),
        "S0" | "REJ" | "RSTOS0" | "RSTRH" | "SH" | "SHR" | "OTH" => Some(false),
        _ => None,
    }
}

/// Whether the responder of a connection in `conn` counts as a service, as `has_active_service` of Zeek's
/// `known-services` decides. That looks at the responder's state: with TCP it has sent a SYN with ACK, data in a
/// connection whose beginning was not seen, or a FIN; with UDP anything. A row tells so by the state and, where it has
/// one, by the history, in which small letters are the responder's.
pub(super) fn is_service(
    conn_state: &str,
    history: Option<&[u8]>,
    transport: Protocol,
) -> Option<bool> {
    let has = |letters: &[u8]| {
        history.is_some_and(|history| history.iter().any(|letter| letters.contains(letter)))
    };
    if transport != Protocol::Tcp {
        return match conn_state {
            "SF" | "SHR" => Some(true),
            "S0" | "OTH" => Some(false),
            _ => is_established(conn_state),
        };
    }
    match conn_state {
        "SF" | "S1" | "S2" | "S3" | "RSTO" | "SHR" => Some(true),
        // The responder has reset it: there was a service if it had answered before.
        "RSTR" | "RSTRH" => Some(history.is_none() || has(b"h")),
        "REJ" => Some(has(b"h")),
        // Without a beginning, or with half of one.
        "S0" | "RSTOS0" | "SH" | "OTH" => Some(has(b"h") || has(b"adf") && !has(b"r")),
        _ => None,
    }
}

/// Columns that only one log has, with that log. What is about a connection comes first, whatever else it has.
const OWN_COLUMNS: [(&str, &[&str]); 17] = [
    ("notice", &["note", "suppress_for"]),
    ("intel", &["seen.indicator", "seen.where"]),
    (
        "conn",
        &[
            "conn_state",
            "missed_bytes",
            "orig_ip_bytes",
            "resp_ip_bytes",
        ],
    ),
    ("dhcp", &["assigned_addr", "assigned_ip", "msg_types"]),
    ("dns", &["qtype_name", "rcode_name", "qclass"]),
    ("sip", &["call_id", "request_from", "response_to"]),
    (
        "http",
        &["request_body_len", "response_body_len", "status_code"],
    ),
    (
        "ssl",
        &[
            "curve",
            "resumed",
            "cert_chain_fuids",
            "cert_chain_fps",
            "ssl_history",
        ],
    ),
    (
        "ssh",
        &[
            "auth_success",
            "auth_attempts",
            "cipher_alg",
            "host_key_alg",
        ],
    ),
    ("smtp", &["mailfrom", "rcptto", "helo", "last_reply"]),
    ("ftp", &["data_channel.passive", "reply_code"]),
    (
        "rdp",
        &[
            "security_protocol",
            "keyboard_layout",
            "client_dig_product_id",
        ],
    ),
    ("kerberos", &["request_type", "renewable", "forwardable"]),
    ("ntlm", &["domainname", "server_nb_computer_name"]),
    ("dce_rpc", &["named_pipe"]),
    ("syslog", &["facility"]),
    ("ntp", &["stratum", "xmt_time"]),
];

/// Finds out by its columns which log a row is of.
#[derive(Debug, Default)]
pub(super) struct ByColumns {
    /// A bit for each of [`OWN_COLUMNS`].
    found: u32,
    /// Those of `weird`, which are no one's alone.
    of_weird: u32,
}

impl ByColumns {
    pub(super) fn add(&mut self, name: &str) {
        for (bit, (_, names)) in OWN_COLUMNS.iter().enumerate() {
            self.found |= u32::from(names.contains(&name)) << bit;
        }
        self.of_weird += u32::from(matches!(name, "name" | "notice" | "peer"));
    }

    pub(super) fn log(&self) -> Option<&'static str> {
        if self.of_weird == 3 {
            return Some("weird");
        }
        let (log, _) = OWN_COLUMNS.get(self.found.trailing_zeros() as usize)?;
        Some(log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responders_are_services_as_for_zeek() {
        use Protocol::{Tcp, Udp};
        for (state, history, transport, expected) in [
            ("SF", Some("ShADadFf"), Tcp, true),
            ("S1", None, Tcp, true),
            ("SHR", Some("hf"), Tcp, true),
            ("SHR", None, Tcp, true),
            ("RSTRH", Some("hr"), Tcp, true),
            ("RSTRH", Some("^hr"), Tcp, true),
            ("RSTRH", None, Tcp, true),
            ("RSTRH", Some("Dr"), Tcp, false),
            ("RSTR", Some("ShADr"), Tcp, true),
            ("RSTR", Some("Dr"), Tcp, false),
            ("OTH", Some("DadA"), Tcp, true),
            ("OTH", Some("^dA"), Tcp, true),
            ("OTH", Some("D"), Tcp, false),
            ("OTH", Some("CC"), Tcp, false),
            ("OTH", None, Tcp, false),
            ("S0", Some("S"), Tcp, false),
            ("REJ", Some("Sr"), Tcp, false),
            ("RSTOS0", Some("SR"), Tcp, false),
            ("SH", Some("SF"), Tcp, false),
            ("SF", Some("Dd"), Udp, true),
            ("SHR", Some("^d"), Udp, true),
            ("S0", Some("D"), Udp, false),
            ("OTH", None, Udp, false),
        ] {
            assert_eq!(
                is_service(state, history.map(str::as_bytes), transport),
                Some(expected),
                "{state} {history:?} {transport:?}"
            );
        }
        assert_eq!(is_service("?", None, Tcp), None);
    }

    #[test]
    fn columns_tell_the_log() {
        for (names, log) in [
            (&["ts", "uid", "id.orig_h", "conn_state"][..], Some("conn")),
            (&["ts", "uid", "note", "proto"], Some("notice")),
            (&["ts", "name", "addl", "notice", "peer"], Some("weird")),
            (
                &["ts", "uid", "query", "qtype_name", "trans_id"],
                Some("dns"),
            ),
            (
                &["ts", "status_code", "call_id", "request_body_len"],
                Some("sip"),
            ),
            (&["ts", "trans_depth", "mailfrom"], Some("smtp")),
            (&["ts", "uid", "name"], None),
            (&[], None),
        ] {
            let mut by_columns = ByColumns::default();
            for name in names {
                by_columns.add(name);
            }
            assert_eq!(by_columns.log(), log, "{names:?}");
        }
        assert!(OWN_COLUMNS.len() <= 32);
    }
}
