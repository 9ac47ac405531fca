//! What the rows of logs say about the software at the ends of their connections.

use std::borrow::Cow;

use muster_data::{Address, Encode, EnumValue, Port, Record, encode};

use super::field::Field;
use super::row::Row;
use super::rules::{CLIENT, FIRST_RECEIVED, IS_WEBMAIL, RECEIVED_PATH, SERVER, USER_AGENT};

/// Software that a row names.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::named_software")]
pub struct NamedSoftware {
    /// Where it runs.
    pub host: Address,
    /// A server's port.
    pub port: Option<Port>,
    /// What kind of software, such as `SSH::SERVER`.
    pub kind: EnumValue,
    /// How it identifies itself, byte for byte.
    pub text: Vec<u8>,
}

/// A [`NamedSoftware`] that borrows from its row; encodes to the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of `NamedSoftware`")]
pub struct NamedSoftwareRef<'a> {
    pub host: Address,
    pub port: Option<Port>,
    pub kind: &'static str,
    pub text: Cow<'a, [u8]>,
}

impl NamedSoftwareRef<'_> {
    /// Returns the software without the row.
    pub fn into_owned(self) -> NamedSoftware {
        NamedSoftware {
            host: self.host,
            port: self.port,
            kind: EnumValue::new(self.kind),
            text: self.text.into_owned(),
        }
    }
}

impl Encode for NamedSoftwareRef<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        let Self {
            host,
            port,
            kind,
            text,
        } = self;
        encode::vector_header(out, NamedSoftware::FIELDS.len());
        host.encode(out);
        port.encode(out);
        EnumValue::new(*kind).encode(out);
        text.encode(out);
    }
}

/// Which logs name software.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// `ssh`: both ends.
    Ssh,
    /// `http`: the browser.
    Http,
    /// `smtp`: the program that the mail was written with, wherever it is.
    Smtp,
}

impl Naming {
    pub(super) fn of(log: &str) -> Option<Self> {
        match log {
            "ssh" => Some(Self::Ssh),
            "http" => Some(Self::Http),
            "smtp" => Some(Self::Smtp),
            _ => None,
        }
    }

    /// The software that a row names; the ends are those of its connection.
    pub(super) fn software<'a>(
        self,
        row: &Row<'a>,
        client: Address,
        (server, port): (Address, Port),
    ) -> Vec<NamedSoftwareRef<'a>> {
        let named = |host, port, kind, text: Option<Cow<'a, [u8]>>| {
            let text = text.filter(|text| !text.is_empty())?;
            Some(NamedSoftwareRef {
                host,
                port,
                kind,
                text,
            })
        };
        let user_agent = || row.get(USER_AGENT).map(Field::bytes);
        let found = match self {
            Self::Ssh => {
                let text = |column| row.get(column).map(|field| without_protocol(field.bytes()));
                [
                    named(client, None, "SSH::CLIENT", text(CLIENT)),
                    named(server, Some(port), "SSH::SERVER", text(SERVER)),
                ]
            }
            Self::Http => [named(client, None, "HTTP::BROWSER", user_agent()), None],
            Self::Smtp => {
                let is_webmail = row.get(IS_WEBMAIL).and_then(Field::boolean) == Some(true);
                let kind = if is_webmail {
                    "SMTP::WEBMAIL_SERVER"
                } else {
                    "SMTP::MAIL_CLIENT"
                };
                let host = writer(row, is_webmail).unwrap_or(client);
                [named(host, None, kind, user_agent()), None]
            }
        };
        found.into_iter().flatten().collect()
    }
}

/// Where a mail was written: the end of the path that its `Received` headers tell. To a server of web mail
/// it came by HTTP from there, so that the server is the one before.
fn writer(row: &Row<'_>, is_webmail: bool) -> Option<Address> {
    let path = row.get(RECEIVED_PATH)?.elements();
    let from_browser = || {
        let first = row.get(FIRST_RECEIVED).map(Field::text);
        first.is_some_and(|text| text.contains("via HTTP"))
    };
    let behind = usize::from(is_webmail && from_browser());
    path.iter().rev().nth(behind)?.as_deref()?.parse().ok()
}

/// What comes behind `SSH-2.0-`.
fn without_protocol(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let is_version = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let behind = text.strip_prefix(b"SSH").unwrap_or_default();
    let version = behind.iter().take_while(|byte| is_version(byte)).count();
    let from = match version {
        0 => 0,
        version => b"SSH".len() + version,
    };
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[from..]),
        Cow::Owned(text) => Cow::Owned(text[from..].to_owned()),
    }
}
