//! Envelopes: the header of every message after the handshake (protocol section 4).

mod run;

use crate::bytes::Reader;
use crate::counters::DropCause;
use crate::filter::{Filter, FilterError};
use crate::message::Kind;
use crate::{EndpointId, frame, topic};

pub use run::EnvelopeRun;

/// The bytes of an envelope before its topic.
pub const FIXED: usize = 37;

/// The time to live that Broker writes and nobody reads.
const TTL: u16 = 16;

/// The content of a ping that asks the other side to let go: these three letters, then a token.
const BYE: &[u8] = b"BYE";

const DATA: u8 = 1;
const COMMAND: u8 = 2;
const ROUTING_UPDATE: u8 = 3;
const PING: u8 = 4;
const PONG: u8 = 5;

/// An envelope that was received and checked against the connection it came by.
#[derive(Debug, PartialEq, Eq)]
pub enum Envelope<'a> {
    /// A message for the subscribers of its topic.
    Message {
        /// What the payload holds.
        kind: Kind,
        /// The topic's bytes.
        topic: &'a [u8],
        /// The payload's bytes, not yet validated.
        payload: &'a [u8],
    },
    /// The peer passes messages of others on. This is `true` if the probe was sent to this
    /// endpoint, and `false` if it is for another one and means nothing here.
    Through(bool),
    /// The peer's complete new filter.
    RoutingUpdate(Filter),
    /// A ping, which must be answered at once with the same content.
    Ping(&'a [u8]),
    /// The answer to a ping.
    Pong(&'a [u8]),
}

/// Why an envelope is refused. Its message is lost; the connection stays unless
/// [`EnvelopeError::ends_peering`] says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// It is shorter than its fixed part and its topic.
    #[error("truncated envelope")]
    Truncated,
    /// Its type does not exist.
    #[error("unknown envelope type {0}")]
    UnknownType(u8),
    /// Its sender is not the peer of the connection.
    #[error("forged sender")]
    ForgedSender,
    /// It is addressed to another endpoint, and nothing is relayed.
    #[error("addressed to another endpoint")]
    NotForUs,
    /// Its topic is below `<$>/local/`, which never crosses an endpoint's border.
    #[error("topic reserved for the endpoint itself")]
    LocalTopic,
    /// It is a routing update with a filter that cannot be read.
    #[error("routing update: {0}")]
    Filter(FilterError),
}

impl EnvelopeError {
    /// Returns `true` if the peering cannot go on: without the peer's filter nothing can be sent to
    /// it.
    pub fn ends_peering(self) -> bool {
        matches!(self, Self::Filter(_))
    }

    /// Returns the error in one word, for logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::UnknownType(_) => "unknown_type",
            Self::ForgedSender => "forged_sender",
            Self::NotForUs => "not_for_us",
            Self::LocalTopic => "local_topic",
            Self::Filter(_) => "malformed_filter",
        }
    }

    /// Returns the cause under which the lost message is counted.
    pub fn cause(self) -> DropCause {
        match self {
            Self::Truncated | Self::UnknownType(_) | Self::Filter(_) => DropCause::Malformed,
            Self::ForgedSender | Self::LocalTopic => DropCause::Forged,
            Self::NotForUs => DropCause::NotForUs,
        }
    }
}

/// Reads the payload of a frame that came from `peer` to the endpoint `me`.
///
/// # Errors
///
/// Fails as [`EnvelopeError`] describes: the envelope is malformed, forged, or not for this
/// endpoint.
pub fn read(frame: &[u8], peer: EndpointId, me: EndpointId) -> Result<Envelope<'_>, EnvelopeError> {
    let mut reader = Reader::new(frame);
    let mut header = || {
        let sender = EndpointId::from_bytes(reader.array()?);
        let receiver = EndpointId::from_bytes(reader.array()?);
        let kind = reader.u8()?;
        let _ttl = reader.array::<2>()?;
        let length = u16::from_be_bytes(reader.array()?);
        Some((sender, receiver, kind, reader.take(usize::from(length))?))
    };
    let (sender, receiver, kind, topic) = header().ok_or(EnvelopeError::Truncated)?;
    let payload = &frame[FIXED + topic.len()..];
    if sender != peer {
        return Err(EnvelopeError::ForgedSender);
    }
    if kind == DATA && topic == topic::THROUGH {
        return Ok(Envelope::Through(receiver == me));
    }
    let for_us = receiver.is_nil() || receiver == me;
    match kind {
        DATA | COMMAND => {
            if !for_us {
                return Err(EnvelopeError::NotForUs);
            }
            if topic.starts_with(topic::LOCAL_PREFIX) {
                return Err(EnvelopeError::LocalTopic);
            }
            let kind = if kind == DATA {
                Kind::Data
            } else {
                Kind::Command
            };
            Ok(Envelope::Message {
                kind,
                topic,
                payload,
            })
        }
        ROUTING_UPDATE => Filter::decode(payload)
            .map(Envelope::RoutingUpdate)
            .map_err(EnvelopeError::Filter),
        PING => Ok(Envelope::Ping(payload)),
        PONG => Ok(Envelope::Pong(payload)),
        other => Err(EnvelopeError::UnknownType(other)),
    }
}

/// Appends the frame header and the envelope of a message to everybody, whose payload has `payload`
/// bytes. The payload itself must follow.
pub fn put_message_header(
    out: &mut Vec<u8>,
    sender: EndpointId,
    kind: Kind,
    topic: &[u8],
    payload: usize,
) {
    put_message_header_to(out, sender, EndpointId::NIL, kind, topic, payload);
}

/// Appends the frame header and the envelope of a message to one endpoint, which nobody passes on;
/// the nil id stands for everybody. The payload itself, of `payload` bytes, must follow.
pub fn put_message_header_to(
    out: &mut Vec<u8>,
    sender: EndpointId,
    receiver: EndpointId,
    kind: Kind,
    topic: &[u8],
    payload: usize,
) {
    let length = u32::try_from(FIXED + topic.len() + payload).unwrap_or(u32::MAX);
    out.reserve(frame::HEADER + FIXED + topic.len());
    out.extend_from_slice(&length.to_be_bytes());
    let kind = match kind {
        Kind::Data => DATA,
        Kind::Command => COMMAND,
    };
    put_envelope(out, sender, receiver, kind, topic);
}

/// A control message to one peer: a filter, a ping, or a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Our complete filter.
    RoutingUpdate(Filter),
    /// A ping with this content.
    Ping(Vec<u8>),
    /// The answer to a ping with this content.
    Pong(Vec<u8>),
    /// A question to the peer whether it forwards: it does if this reaches the given endpoint,
    /// another of its peers.
    Through(EndpointId),
}

impl Control {
    /// Returns the whole frame, from `sender` to `receiver`.
    pub fn frame(&self, sender: EndpointId, receiver: EndpointId) -> Vec<u8> {
        let mut out = Vec::new();
        frame::write(&mut out, |out| match self {
            Self::RoutingUpdate(filter) => {
                put_envelope(out, sender, receiver, ROUTING_UPDATE, topic::RESERVED);
                filter.encode(out);
            }
            Self::Ping(content) => {
                put_envelope(out, sender, receiver, PING, topic::RESERVED);
                out.extend_from_slice(content);
            }
            Self::Pong(content) => {
                put_envelope(out, sender, receiver, PONG, topic::RESERVED);
                out.extend_from_slice(content);
            }
            Self::Through(other) => {
                put_envelope(out, sender, *other, DATA, topic::THROUGH);
                out.push(0); // a value: nothing
            }
        });
        out
    }
}

/// Returns the content of the ping that ends a peering gracefully. Its pong says that everything
/// sent before it has been read.
pub fn bye(token: u64) -> Vec<u8> {
    let mut content = BYE.to_vec();
    content.extend_from_slice(&token.to_be_bytes());
    content
}

/// Returns `true` if a ping asks to end the peering. Its pong must not overtake queued data.
pub fn is_bye(content: &[u8]) -> bool {
    content.len() == BYE.len() + 8 && content.starts_with(BYE)
}

fn put_envelope(
    out: &mut Vec<u8>,
    sender: EndpointId,
    receiver: EndpointId,
    kind: u8,
    topic: &[u8],
) {
    out.extend_from_slice(sender.as_bytes());
    out.extend_from_slice(receiver.as_bytes());
    out.push(kind);
    out.extend_from_slice(&TTL.to_be_bytes());
    // Topics are limited to 65,535 bytes where they are made.
    let length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(topic);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LO: EndpointId =
        EndpointId::from_bytes([0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 1]);
    const NODE: EndpointId =
        EndpointId::from_bytes([0x80, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]);

    fn hex(bytes: &[u8]) -> String {
        use std::fmt::Write;
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    /// The worked examples of protocol section 4.4.
    #[test]
    fn frames_are_those_of_the_specification() {
        let ping = Control::Ping(b"hello-ping".to_vec()).frame(LO, NODE);
        assert_eq!(
            hex(&ping),
            "000000320000000000004000800000000000000180000000000040008000000000000000\
             04001000033c243e68656c6c6f2d70696e67"
        );
        let filter = Filter::from_prefixes(["/a", "/b"]);
        let update = Control::RoutingUpdate(filter.clone()).frame(LO, NODE);
        assert!(hex(&update).starts_with("0000002f") && hex(&update).ends_with("02022f61022f62"));
        assert_eq!(
            read(&update[4..], LO, NODE),
            Ok(Envelope::RoutingUpdate(filter))
        );
        let mut data = Vec::new();
        put_message_header(&mut data, LO, Kind::Data, b"/test", 19);
        assert!(hex(&data).starts_with("0000003d") && hex(&data).ends_with("01001000052f74657374"));
        let mut addressed = Vec::new();
        put_message_header_to(&mut addressed, LO, NODE, Kind::Command, b"/t", 0);
        assert_eq!(addressed[20..36], *NODE.as_bytes());
        let (kind, topic, payload) = (Kind::Command, &b"/t"[..], &[][..]);
        let message = Envelope::Message {
            kind,
            topic,
            payload,
        };
        assert_eq!(read(&addressed[4..], LO, NODE), Ok(message));
    }

    #[test]
    fn what_a_neighbour_must_not_send_is_refused() {
        let mut forged = Vec::new();
        put_message_header(&mut forged, NODE, Kind::Data, b"/test", 0);
        assert_eq!(
            read(&forged[4..], LO, NODE),
            Err(EnvelopeError::ForgedSender)
        );
        let mut local = Vec::new();
        put_message_header(&mut local, LO, Kind::Data, b"<$>/local/data/statuses", 0);
        assert_eq!(read(&local[4..], LO, NODE), Err(EnvelopeError::LocalTopic));
        local[4 + 16] = 1;
        assert_eq!(read(&local[4..], LO, NODE), Err(EnvelopeError::NotForUs));
        assert_eq!(read(&local[4..20], LO, NODE), Err(EnvelopeError::Truncated));
        local[4 + 32] = 9;
        assert_eq!(
            read(&local[4..], LO, NODE),
            Err(EnvelopeError::UnknownType(9))
        );
    }

    /// Broker puts its own id in the sender's place when it passes an envelope on.
    #[test]
    fn a_question_to_one_that_forwards_is_for_the_endpoint_behind_it() {
        let mut question = Control::Through(NODE).frame(LO, EndpointId::NIL);
        assert_eq!(read(&question[4..], LO, NODE), Ok(Envelope::Through(true)));
        question[4 + 16] = 1;
        assert_eq!(read(&question[4..], LO, NODE), Ok(Envelope::Through(false)));
    }

    #[test]
    fn bye_is_recognised() {
        assert!(is_bye(&bye(7)));
        assert!(!is_bye(b"BYE") && !is_bye(b"hello-ping!"));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes, LO, NODE);
        }
    }
}
