//! The messages of the handshake (protocol section 2.2).

use super::extension::{Extension, VERSION_2};
use crate::bytes::{Reader, put_string};
use crate::{EndpointId, ErrorCode, Filter, frame};

/// "ZEEK".
const MAGIC: u32 = 0x5a45_454b;

/// The only version of Broker's own protocol.
pub(crate) const VERSION: u8 = 1;

/// The most bytes of a peer's words that are kept: they go into logs, and back to the peer.
const MAX_WORDS: usize = 1024;

const HELLO: u8 = 6;
const PROBE: u8 = 7;
const VERSION_SELECT: u8 = 8;
const DROP_CONN: u8 = 9;
const ORIGINATOR_SYN: u8 = 10;
const RESPONDER_SYN_ACK: u8 = 11;
const ORIGINATOR_ACK: u8 = 12;

/// A message of the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HandshakeMessage {
    Hello {
        sender: EndpointId,
        min: u8,
        max: u8,
        extension: Option<Extension>,
    },
    Probe,
    VersionSelect {
        sender: EndpointId,
        version: u8,
        extension: Option<Extension>,
    },
    DropConn {
        sender: EndpointId,
        code: ErrorCode,
        text: String,
    },
    OriginatorSyn(Filter),
    ResponderSynAck(Filter),
    OriginatorAck,
}

/// A peer's words as text, cut to [`MAX_WORDS`]; what is not UTF-8 is replaced, which takes more bytes.
fn words(bytes: &[u8]) -> String {
    let kept = &bytes[..bytes.len().min(MAX_WORDS)];
    let mut text = String::from_utf8_lossy(kept).into_owned();
    let cut = (0..=MAX_WORDS).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(cut.unwrap_or(0));
    text
}

/// Why a handshake message is refused, as the `drop_conn` that answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// A version was selected that was not offered. The text begins with Broker's words.
    pub(crate) fn unsupported_selection(version: u8, offers_version_2: bool) -> Self {
        let offered = if offers_version_2 {
            format!("{VERSION} and {VERSION_2}")
        } else {
            VERSION.to_string()
        };
        let text = format!("unsupported version selected: {version}, this side offered {offered}");
        Self::new(ErrorCode::PEER_INCOMPATIBLE, text)
    }
}

impl HandshakeMessage {
    /// Reads a frame's payload; the refusals are those of protocol section 2.6. Bytes behind the
    /// last field are ignored, as Broker ignores them.
    pub(crate) fn read(payload: &[u8]) -> Result<Self, Refusal> {
        let (&tag, fields) = payload
            .split_first()
            .ok_or_else(|| Refusal::new(ErrorCode::INVALID_MESSAGE, "empty frame"))?;
        let name = match tag {
            HELLO => "hello_msg",
            PROBE => "probe_msg",
            VERSION_SELECT => "version_select_msg",
            DROP_CONN => "drop_conn_msg",
            ORIGINATOR_SYN => "originator_syn_msg",
            RESPONDER_SYN_ACK => "responder_syn_ack_msg",
            ORIGINATOR_ACK => "originator_ack_msg",
            _ => {
                return Err(Refusal::new(
                    ErrorCode::INVALID_MESSAGE,
                    "invalid message type tag",
                ));
            }
        };
        let mut reader = Reader::new(fields);
        let parsed = Self::fields(tag, &mut reader);
        let (magic, message) = parsed.ok_or_else(|| {
            Refusal::new(
                ErrorCode::INVALID_MESSAGE,
                format!("failed to parse {name}"),
            )
        })?;
        if magic != MAGIC {
            return Err(Refusal::new(
                ErrorCode::WRONG_MAGIC_NUMBER,
                "wrong magic number",
            ));
        }
        match &message {
            Self::Hello { min, max, .. } if !(*min..=*max).contains(&VERSION) => {
                let text = format!(
                    "unsupported versions offered: {min} to {max}, this side speaks {VERSION}"
                );
                Err(Refusal::new(ErrorCode::PEER_INCOMPATIBLE, text))
            }
            Self::DropConn { code, text, .. } if *code > ErrorCode::LAST => {
                Err(Refusal::new(ErrorCode::UNSPECIFIED, text.clone()))
            }
            _ => Ok(message),
        }
    }

    fn fields(tag: u8, reader: &mut Reader<'_>) -> Option<(u32, Self)> {
        let phase_one = matches!(tag, HELLO | PROBE | VERSION_SELECT | DROP_CONN);
        let magic = if phase_one { reader.u32()? } else { MAGIC };
        let id = |reader: &mut Reader<'_>| reader.array().map(EndpointId::from_bytes);
        let message = match tag {
            HELLO => Self::Hello {
                sender: id(reader)?,
                min: reader.u8()?,
                max: reader.u8()?,
                extension: Extension::read(reader),
            },
            PROBE => Self::Probe,
            VERSION_SELECT => Self::VersionSelect {
                sender: id(reader)?,
                version: reader.u8()?,
                extension: Extension::read(reader),
            },
            DROP_CONN => Self::DropConn {
                sender: id(reader)?,
                code: ErrorCode(reader.u8()?),
                text: words(reader.string()?),
            },
            ORIGINATOR_SYN => Self::OriginatorSyn(Filter::read(reader).ok()?),
            RESPONDER_SYN_ACK => Self::ResponderSynAck(Filter::read(reader).ok()?),
            _ => Self::OriginatorAck,
        };
        Some((magic, message))
    }

    /// The message as a whole frame.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut out = Vec::new();
        frame::write(&mut out, |out| self.write(out));
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        let phase_one = |out: &mut Vec<u8>, tag| {
            out.push(tag);
            out.extend_from_slice(&MAGIC.to_be_bytes());
        };
        match self {
            Self::Hello {
                sender,
                min,
                max,
                extension,
            } => {
                phase_one(out, HELLO);
                out.extend_from_slice(sender.as_bytes());
                out.extend_from_slice(&[*min, *max]);
                if let Some(extension) = extension {
                    extension.write(out);
                }
            }
            Self::Probe => phase_one(out, PROBE),
            Self::VersionSelect {
                sender,
                version,
                extension,
            } => {
                phase_one(out, VERSION_SELECT);
                out.extend_from_slice(sender.as_bytes());
                out.push(*version);
                if let Some(extension) = extension {
                    extension.write(out);
                }
            }
            Self::DropConn { sender, code, text } => {
                phase_one(out, DROP_CONN);
                out.extend_from_slice(sender.as_bytes());
                out.push(code.0);
                put_string(out, text.as_bytes());
            }
            Self::OriginatorSyn(filter) => {
                out.push(ORIGINATOR_SYN);
                filter.encode(out);
            }
            Self::ResponderSynAck(filter) => {
                out.push(RESPONDER_SYN_ACK);
                filter.encode(out);
            }
            Self::OriginatorAck => out.push(ORIGINATOR_ACK),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Probe => "probe",
            Self::VersionSelect { .. } => "version_select",
            Self::DropConn { .. } => "drop_conn",
            Self::OriginatorSyn(_) => "originator_syn",
            Self::ResponderSynAck(_) => "responder_syn_ack",
            Self::OriginatorAck => "originator_ack",
        }
    }
}
