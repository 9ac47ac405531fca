//! Connections, as the rows of any log describe them.

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

use muster_data::{Address, Encode, Port, Protocol, Record, Timestamp, encode};

use super::error::LogError;
use super::field::Field;
use super::names::log_of_path;
use super::reader::{LogReader, Place};
use super::row::Row;
use super::rules::{
    ByColumns, COLUMNS, CONN_RULE, CONN_STATE, ESTABLISHED, Established, HISTORY, ORIG_H, ORIG_P,
    PROTO, RESP_BYTES, RESP_H, RESP_P, Rule, SERVICE, TS, UID, UNKNOWN, is_established, is_service,
    rule_of,
};
use super::software::{NamedSoftware, NamedSoftwareRef};
use super::source::PassOver;
use super::windows::Windows;

/// What a row of a log says about a connection: the event `Muster::connection`.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::connection")]
pub struct Connection {
    /// When the connection, or what the row describes, began.
    pub ts: Timestamp,
    /// The connection's id, the same in every log; empty if the row has none.
    pub uid: String,
    /// The originator's address.
    pub orig_h: Address,
    /// The originator's port.
    pub orig_p: Port,
    /// The responder's address.
    pub resp_h: Address,
    /// The responder's port. The protocol is the row's `proto`, or else the one that the log implies:
    /// TCP for `ssl`, `ssh`, `rdp`, `smtp`, `ftp`, `http`, `ntlm` and others, UDP for `dns`, `ntp`,
    /// `syslog` and others.
    pub resp_p: Port,
    /// The log: `conn`, `dns`, `ssl`, ... A row with a `conn_state` is of `conn`. Otherwise the log is the one that the
    /// row or its header states (`conn-ssl` and `dns_red` are kinds of `conn` and `dns`), or that has such columns, or
    /// that the file's name tells.
    pub log: String,
    /// The service: what `conn` has found out, several separated by commas, or else the protocol that the log is
    /// about.
    pub service: Option<String>,
    /// The state in `conn`, such as `SF`.
    pub conn_state: Option<String>,
    /// Whether the responder took part, if the log says so:
    ///
    /// - `conn`: by the state. `SF`, `S1`, `S2`, `S3`, `RSTO` and `RSTR` are, `S0`, `REJ`, `RSTOS0`,
    ///   `RSTRH`, `SH`, `SHR` and `OTH` are not established.
    /// - `ssl`: whether the TLS handshake was finished.
    /// - `dns`, `kerberos`, `ldap`, `ldap_search`: whether there was an answer (`rcode`, `success`, `result`), even a
    ///   rejection.
    /// - `http`, `ftp`, `smtp`, `rdp`, `ssh`, `sip`, `dhcp`: established if there was a reply (`status_code`,
    ///   `reply_code`, `last_reply`, `result`, `server`, `assigned_ip`), unset otherwise.
    /// - `snmp`, `tftp`, `ntp`, `radius`, `quic`: established if the row has something that only the responder's
    ///   answer brings (`get_responses`; `block_sent` or `block_acked`; `mode` 2 or 4; `result`, unless it is
    ///   `unknown`; `server_scid` or a small letter in `history`), unset otherwise.
    ///
    /// Unset where nothing tells it, as in `syslog`, where nobody answers.
    pub established: Option<bool>,
    /// The software that the row names, empty for most:
    ///
    /// - `ssh`: how both ends identify themselves (`client`, `server`), without the protocol's version.
    /// - `http`: the browser (`user_agent`).
    /// - `smtp`: the program that a mail was written with (`user_agent`), on the host where the path of its
    ///   headers begins (`path`); for web mail, as Zeek recognises it (`is_webmail`), the server.
    ///
    /// Other software that Zeek's scripts find is in none of its logs by default: HTTP servers, FTP
    /// clients.
    pub software: Vec<NamedSoftware>,
    /// Whether the responder counts as a service, if the log is `conn`: as Zeek's `known-services` decides, by the
    /// `conn_state` and the `history`. A responder that answers without a beginning (`SHR`, `RSTRH`, `OTH`) may be a
    /// service although the connection was not established; one of DNS that sent nothing is none.
    pub is_service: Option<bool>,
}

/// A [`Connection`] that borrows from its row; encodes to the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of `Connection`")]
pub struct ConnectionRef<'a> {
    pub ts: Timestamp,
    pub uid: Cow<'a, str>,
    pub orig_h: Address,
    pub orig_p: Port,
    pub resp_h: Address,
    pub resp_p: Port,
    pub log: Cow<'a, str>,
    pub service: Option<Cow<'a, str>>,
    pub conn_state: Option<Cow<'a, str>>,
    pub established: Option<bool>,
    pub software: Vec<NamedSoftwareRef<'a>>,
    pub is_service: Option<bool>,
}

impl ConnectionRef<'_> {
    /// Returns the connection without the row.
    pub fn into_owned(self) -> Connection {
        Connection {
            ts: self.ts,
            uid: self.uid.into_owned(),
            orig_h: self.orig_h,
            orig_p: self.orig_p,
            resp_h: self.resp_h,
            resp_p: self.resp_p,
            log: self.log.into_owned(),
            service: self.service.map(Cow::into_owned),
            conn_state: self.conn_state.map(Cow::into_owned),
            established: self.established,
            software: self
                .software
                .into_iter()
                .map(NamedSoftwareRef::into_owned)
                .collect(),
            is_service: self.is_service,
        }
    }
}

impl Encode for ConnectionRef<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        let Self {
            ts,
            uid,
            orig_h,
            orig_p,
            resp_h,
            resp_p,
            log,
            service,
            conn_state,
            established,
            software,
            is_service,
        } = self;
        encode::vector_header(out, Connection::FIELDS.len());
        ts.encode(out);
        uid.encode(out);
        orig_h.encode(out);
        orig_p.encode(out);
        resp_h.encode(out);
        resp_p.encode(out);
        log.encode(out);
        service.encode(out);
        conn_state.encode(out);
        established.encode(out);
        software.encode(out);
        is_service.encode(out);
    }
}

/// Reads the connections in a log.
#[derive(Debug)]
pub struct ConnectionReader {
    rows: LogReader,
    /// What holds for the log that the last row was of, by the name that it states.
    rule: Option<(String, Rule)>,
    /// The columns of the first row that describes no connection.
    columns: Vec<String>,
}

impl ConnectionReader {
    /// Opens a log like [`LogReader::open`].
    ///
    /// # Errors
    /// Like [`LogReader::open`].
    pub fn open(path: &Path) -> Result<Self, LogError> {
        LogReader::open(path, &COLUMNS).map(Self::of)
    }

    /// Creates a reader of a log from any source, like [`LogReader::new`].
    ///
    /// # Errors
    /// Like [`LogReader::new`].
    pub fn new(name: &str, source: impl Read + Send + 'static) -> Result<Self, LogError> {
        LogReader::new(name, source, &COLUMNS).map(Self::of)
    }

    /// Creates a reader that goes on where another came to, like [`LogReader::resumed`].
    pub(crate) fn resumed(
        name: &str,
        source: impl PassOver + Send + 'static,
        place: &Place,
        windows: &Windows,
    ) -> Self {
        Self::of(LogReader::resumed(name, source, &COLUMNS, place, windows))
    }

    fn of(rows: LogReader) -> Self {
        Self {
            rows,
            rule: None,
            columns: Vec::new(),
        }
    }

    /// How far the log was read.
    pub(crate) fn place(&self) -> Place {
        self.rows.place()
    }

    /// The names of the columns of the first row that describes no connection.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Returns the next row's connection, `Some(None)` for a row that describes none, or `None` at the end.
    ///
    /// # Errors
    /// Like [`LogReader::next_row`]; a bad value costs its row.
    pub fn next_connection(&mut self) -> Result<Option<Option<ConnectionRef<'_>>>, LogError> {
        let Some(row) = self.rows.next_row()? else {
            return Ok(None);
        };
        let rule = rule(&row, &mut self.rule);
        let connection = connection(&row, rule)?;
        if connection.is_none() && self.columns.is_empty() {
            row.each_column(|name| self.columns.push(name.to_owned()));
        }
        Ok(Some(connection))
    }
}

/// What holds for the log that a row is of. `last` is what held for the log that was last named.
fn rule(row: &Row<'_>, last: &mut Option<(String, Rule)>) -> Rule {
    if row.get(CONN_STATE).is_some() {
        return CONN_RULE;
    }
    let stated = row.stated_path();
    match (stated, &last) {
        (Some(path), Some((log, rule))) if log == path => return *rule,
        _ => {}
    }
    if let Some((path, log)) = stated.and_then(|path| Some((path, log_of_path(path)?))) {
        let rule = rule_of(log);
        *last = Some((path.to_owned(), rule));
        return rule;
    }
    // A name that nobody knows says less than the columns.
    let mut columns = ByColumns::default();
    row.each_column(|name| columns.add(name));
    let of_file = || log_of_path(row.stem()).filter(|_| stated.is_none());
    columns.log().or_else(of_file).map_or(UNKNOWN, rule_of)
}

fn connection<'a>(row: &Row<'a>, rule: Rule) -> Result<Option<ConnectionRef<'a>>, LogError> {
    let ends = (
        row.get(ORIG_H),
        row.get(ORIG_P),
        row.get(RESP_H),
        row.get(RESP_P),
    );
    let (Some(orig_h), Some(orig_p), Some(resp_h), Some(resp_p)) = ends else {
        return Ok(None);
    };
    let transport = match row.get(PROTO) {
        None => rule.transport,
        Some(proto) => match &*proto.text() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "icmp" => Protocol::Icmp,
            _ => Protocol::Unknown,
        },
    };
    let text = |column| row.get(column).map(Field::text);
    let conn_state = text(CONN_STATE);
    let answered = |column| row.get(column).is_some();
    let established = match rule.established {
        Established::State => conn_state.as_deref().and_then(is_established),
        Established::Handshake => row.get(ESTABLISHED).and_then(Field::boolean),
        Established::Answer(column) => answered(column).then_some(true),
        Established::OnlyAnswer(column) => Some(answered(column)),
        Established::Count(columns) => {
            let count = |column: &usize| row.get(*column).and_then(Field::count);
            let has_any = columns.iter().filter_map(count).any(|count| count > 0);
            has_any.then_some(true)
        }
        Established::Word(column, answers) => {
            let word = text(column);
            word.and_then(|word| answers.contains(&&*word).then_some(true))
        }
        Established::AnswerOrHistory(column) => {
            let history = row.get(HISTORY).map(Field::bytes);
            let is_heard = |history: &[u8]| history.iter().any(u8::is_ascii_lowercase);
            let has_answered = answered(column) || history.as_deref().is_some_and(is_heard);
            has_answered.then_some(true)
        }
        Established::Untold => None,
    };
    let service = match rule.service {
        Some(service) => Some(Cow::Borrowed(service)),
        None => row.get(SERVICE).and_then(services),
    };
    let is_service = match &conn_state {
        Some(_) if service.as_deref() == Some("dns") && said_nothing(row) => Some(false),
        Some(state) => {
            let history = row.get(HISTORY).map(Field::bytes);
            is_service(state, history.as_deref(), transport)
        }
        None => None,
    };
    let ts = row.get(TS).ok_or_else(|| row.error("no ts"))?;
    let port = |name, field| {
        Ok(Port::new(
            value(row, name, field, Field::port_number)?,
            transport,
        ))
    };
    let orig_h = value(row, "id.orig_h", orig_h, Field::address)?;
    let resp_h = value(row, "id.resp_h", resp_h, Field::address)?;
    let resp_p = port("id.resp_p", resp_p)?;
    Ok(Some(ConnectionRef {
        ts: value(row, "ts", ts, Field::timestamp)?,
        uid: text(UID).unwrap_or_default(),
        orig_h,
        orig_p: port("id.orig_p", orig_p)?,
        resp_h,
        resp_p,
        log: match rule.log {
            "" => row.path().into(),
            log => log.into(),
        },
        service,
        conn_state,
        established,
        software: match rule.naming {
            Some(naming) => naming.software(row, orig_h, (resp_h, resp_p)),
            None => Vec::new(),
        },
        is_service,
    }))
}

/// The services of a connection, as `conn` lists them: a text with commas, or a set of any form.
fn services(field: Field<'_>) -> Option<Cow<'_, str>> {
    let text = field.text();
    let is_set = text.starts_with(['[', '{']);
    let text = match is_set {
        true if text.starts_with('[') => {
            let elements: Vec<_> = field.elements().into_iter().flatten().collect();
            Cow::Owned(elements.join(","))
        }
        true => {
            let inside = text.trim_matches(['{', '}']);
            let names: Vec<_> = inside.split(',').map(str::trim).collect();
            Cow::Owned(names.join(","))
        }
        false => text,
    };
    Some(text).filter(|text| !matches!(&**text, "" | "-" | "(empty)"))
}

/// Whether the responder has sent no data.
fn said_nothing(row: &Row<'_>) -> bool {
    row.get(RESP_BYTES).and_then(Field::count) == Some(0)
}

fn value<'a, T>(
    row: &Row<'_>,
    name: &str,
    field: Field<'a>,
    read: impl FnOnce(Field<'a>) -> Option<T>,
) -> Result<T, LogError> {
    read(field).ok_or_else(|| row.error(format!("no {name}: {}", field.quote())))
}
