//! Names: which log a name means, and which column.

use super::rules::RULES;

/// Zeek's logs that tell of no protocol on a connection; the others have rules.
const OTHERS: &[&str] = &[
    "analyzer",
    "analyzer_debug",
    "broker",
    "capture_loss",
    "cluster",
    "communication",
    "config",
    "dpd",
    "files",
    "intel",
    "known_certs",
    "known_devices",
    "known_hosts",
    "known_modbus",
    "known_services",
    "loaded_scripts",
    "netcontrol",
    "netcontrol_catch_release",
    "netcontrol_drop",
    "netcontrol_shunt",
    "notice",
    "notice_alarm",
    "ocsp",
    "openflow",
    "packet_filter",
    "pe",
    "reporter",
    "signatures",
    "software",
    "stats",
    "suricata_corelight",
    "telemetry",
    "traceroute",
    "tunnel",
    "unknown_protocols",
    "weird",
    "weird_stats",
    "x509",
];

/// Whether a name is that of a log of Zeek's, or of a variant of one.
pub(super) fn is_log(name: &str) -> bool {
    log_of_path(name).is_some()
}

/// The log that a path or a tag names: itself, or what stands first in it, as in `conn-ssl` and `dns_red`.
pub(super) fn log_of_path(path: &str) -> Option<&'static str> {
    let logs = RULES.iter().map(|rule| rule.log);
    longest(path, logs.chain(OTHERS.iter().copied()))
}

/// The log that a file's name tells: what Zeek, ZeekControl, RITA, Corelight's sensors and others make of a log's
/// name by dates, sensors and endings behind or before it.
///
/// If no part of the name is that of a log of Zeek's, it is what comes before the first dot, or before a dash and
/// the date that Zeek puts behind the name of a rotated log.
pub(super) fn log_of_file(name: &str) -> &str {
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
    // A sensor may be called `cluster`, but hardly `http`: a protocol's log comes first.
    let (mut other, mut behind) = (None, 0);
    for (at, rest) in words(base).filter(|(_, rest)| !rest.is_empty()) {
        match log_of_path(rest) {
            Some(log) if at >= behind && OTHERS.contains(&log) => {
                other = other.or(Some(log));
                behind = at + log.len();
            }
            Some(log) if at >= behind => return log,
            _ => {}
        }
    }
    other.unwrap_or_else(|| {
        let stem = base.split('.').next().unwrap_or(base);
        let mut dashes = stem.match_indices('-').map(|(at, _)| at);
        let date = dashes.find(|at| matches!(stem.as_bytes().get(at + 1), Some(b'0'..=b'9')));
        &stem[..date.unwrap_or(stem.len())]
    })
}

/// A name from each of its words on, with where that is.
fn words(name: &str) -> impl Iterator<Item = (usize, &str)> {
    let separators = name
        .char_indices()
        .filter(|(_, char)| !char.is_alphanumeric());
    let starts = separators.map(|(at, separator)| at + separator.len_utf8());
    let starts = std::iter::once(0).chain(starts);
    starts.filter_map(|at| Some((at, name.get(at..)?)))
}

/// The longest of these that a text begins with, and that ends where a word ends.
fn longest(text: &str, logs: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let is_begun = |log: &&str| {
        let rest = text.strip_prefix(*log);
        rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    };
    logs.filter(is_begun).max_by_key(|log| log.len())
}

/// The column that a name means if it is one of a connection's four, whatever Zeek was told to put between `id` and
/// the rest (`Log::default_scope_sep`).
pub(super) fn end_of_connection(name: &[u8]) -> Option<&'static str> {
    const LONGEST_SEPARATOR: usize = 4;
    let rest = name.strip_prefix(b"id")?;
    let (separator, end) = rest.split_at_checked(rest.len().checked_sub(6)?)?;
    let known = match end {
        b"orig_h" => "id.orig_h",
        b"orig_p" => "id.orig_p",
        b"resp_h" => "id.resp_h",
        b"resp_p" => "id.resp_p",
        _ => return None,
    };
    let is_separator = (1..=LONGEST_SEPARATOR).contains(&separator.len())
        && !separator.iter().any(u8::is_ascii_alphanumeric);
    is_separator.then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_name_their_logs() {
        for (name, log) in [
            ("conn.log", "conn"),
            (
                "logs/dns.d/conn.2018-03-24-17-00-00-18-00-00.log.gz",
                "conn",
            ),
            ("conn.17:00:00-18:00:00.log.gz", "conn"),
            ("conn_20180324_17:00:00-18:00:00+0000.log.gz", "conn"),
            ("conn-18-03-24_17.00.00.log", "conn"),
            ("conn-2018-03-24-17-00-00.log", "conn"),
            ("conn.log.1", "conn"),
            ("conn.log-20180324.zst", "conn"),
            ("conn-ssl.log", "conn"),
            ("conn_red.log", "conn"),
            ("sensor1_conn.log", "conn"),
            ("sensor-1.example.org-conn.log", "conn"),
            ("10.0.0.1.ssl.json", "ssl"),
            ("eth0__smb_files.00:00:00-01:00:00.log.gz", "smb_files"),
            ("ldap_search.log", "ldap_search"),
            ("ldap.log", "ldap"),
            ("ssl", "ssl"),
            ("http_eth1.log", "http"),
            ("cluster_conn.log", "conn"),
            ("notice_alarm.log", "notice_alarm"),
            ("s\u{e9}nsor_dns.log", "dns"),
            // Not Zeek's.
            ("bacnet.log", "bacnet"),
            ("my_app-18-03-24_17.00.00.log", "my_app"),
            ("connections.log", "connections"),
            ("reconn.log", "reconn"),
            ("", ""),
        ] {
            assert_eq!(log_of_file(name), log, "{name}");
        }
        for (path, log) in [
            ("conn", Some("conn")),
            ("conn-ssl", Some("conn")),
            ("dns_red", Some("dns")),
            ("x509", Some("x509")),
            ("sensor_conn", None),
            ("dnssec", None),
        ] {
            assert_eq!(log_of_path(path), log, "{path}");
        }
    }

    #[test]
    fn every_log_is_found_by_its_name() {
        let logs = RULES.iter().map(|rule| rule.log);
        for log in logs.chain(OTHERS.iter().copied()) {
            assert_eq!(log_of_path(log), Some(log));
            assert_eq!(log_of_file(&format!("sensor_{log}.log")), log);
        }
    }

    #[test]
    fn separators() {
        for name in [
            "id.orig_h",
            "id_orig_h",
            "id::orig_h",
            "id$orig_h",
            "id orig_h",
        ] {
            assert_eq!(
                end_of_connection(name.as_bytes()),
                Some("id.orig_h"),
                "{name}"
            );
        }
        for name in [
            "idorig_h",
            "id.a.orig_h",
            "orig_h",
            "id",
            "id.orig",
            "idx.orig_h",
            "id.....orig_h",
        ] {
            assert_eq!(end_of_connection(name.as_bytes()), None, "{name}");
        }
    }
}
