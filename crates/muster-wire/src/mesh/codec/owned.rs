//! Frames that own their content, for tests and tools. A link's reader takes frames borrowed.

use super::batch::put_head;
use super::{
    BATCH, Encoder, Frame, FrameError, Head, LinkFrame, MeshFrame, Run, RunHead, RunMessage,
    put_fragment_head,
};
use crate::EndpointId;
use crate::bytes::{put_string, put_varint};
use crate::frame;
use crate::message::{Class, Kind, MessageId};

/// A message between two endpoints of a mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshMessage {
    /// The message's identity: who published it, and its number there.
    pub id: MessageId,
    /// The number of links that the message may still cross, including the one that it is on; at
    /// most 31.
    pub hops: u8,
    /// What the payload holds.
    pub kind: Kind,
    /// Where it goes.
    pub topic: Vec<u8>,
    /// The encoded content.
    pub payload: Vec<u8>,
    /// The peer of version 1 that published the message. Its home passed it on under a number of
    /// its own.
    pub guest: Option<EndpointId>,
}

/// A [`Frame`] that owns its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedFrame {
    /// Messages.
    Batch {
        /// The class of all of them.
        class: Class,
        /// The messages in order.
        messages: Vec<MeshMessage>,
    },
    /// Messages of one origin, at least one, with the same hops and no guest. Each topic has
    /// [`RUN_TOPIC`](super::RUN_TOPIC) bytes at most.
    Run {
        /// The class of all of them.
        class: Class,
        /// The messages in order.
        messages: Vec<MeshMessage>,
    },
    /// A part of the body of a batch.
    Fragment {
        /// The class of the batch.
        class: Class,
        /// The number of the cut batch on this link.
        number: u64,
        /// The position of the part in the batch.
        index: u64,
        /// Whether it is the last part.
        last: bool,
        /// The bytes of the part.
        bytes: Vec<u8>,
    },
    /// A frame for the two ends of the link.
    Link(LinkFrame),
    /// A frame for the mesh.
    Mesh(MeshFrame),
    /// A frame of an unknown kind, perhaps of a later version. It is not written.
    Unknown,
}

impl Frame<'_, '_> {
    /// Copies the frame.
    ///
    /// # Errors
    ///
    /// Fails if a message of the batch cannot be read.
    pub fn into_owned(self) -> Result<OwnedFrame, FrameError> {
        Ok(match self {
            Self::Batch(batch) => OwnedFrame::Batch {
                class: batch.class,
                messages: batch
                    .map(|message| {
                        message.map(|message| MeshMessage {
                            id: message.id,
                            hops: message.hops,
                            kind: message.kind,
                            topic: message.topic.to_vec(),
                            payload: message.payload.to_vec(),
                            guest: message.guest,
                        })
                    })
                    .collect::<Result<_, _>>()?,
            },
            Self::Run(run) => {
                let head = run.head;
                let owned = |message: RunMessage<'_>| MeshMessage {
                    id: MessageId {
                        origin: head.origin,
                        sequence: message.sequence,
                    },
                    hops: head.hops,
                    kind: message.kind,
                    topic: message.topic.to_vec(),
                    payload: message.payload.to_vec(),
                    guest: None,
                };
                OwnedFrame::Run {
                    class: head.class,
                    messages: run
                        .map(|message| message.map(owned))
                        .collect::<Result<_, _>>()?,
                }
            }
            Self::Fragment(part) => OwnedFrame::Fragment {
                class: part.class,
                number: part.number,
                index: part.index,
                last: part.last,
                bytes: part.bytes.to_vec(),
            },
            Self::Link(frame) => OwnedFrame::Link(frame),
            Self::Mesh(frame) => OwnedFrame::Mesh(frame),
            Self::Unknown => OwnedFrame::Unknown,
        })
    }
}

impl From<LinkFrame> for OwnedFrame {
    fn from(frame: LinkFrame) -> Self {
        Self::Link(frame)
    }
}

impl From<MeshFrame> for OwnedFrame {
    fn from(frame: MeshFrame) -> Self {
        Self::Mesh(frame)
    }
}

impl OwnedFrame {
    /// Appends the whole frame, including its length.
    pub fn write(&self, encoder: &mut Encoder, out: &mut Vec<u8>) {
        match self {
            Self::Batch { class, messages } => {
                frame::write(out, |out| {
                    out.extend_from_slice(&[BATCH, *class as u8, 0]);
                    put_varint(out, messages.len() as u64);
                    for message in messages {
                        let head = message.head();
                        put_head(&mut encoder.aliases, *class, &head, out);
                        put_string(out, &message.payload);
                        head.put_tail(out);
                    }
                });
            }
            Self::Run { class, messages } => {
                let Some(first) = messages.first() else {
                    return;
                };
                let head = RunHead {
                    class: *class,
                    hops: first.hops,
                    origin: first.id.origin,
                    base: first.id.sequence.wrapping_sub(1),
                };
                let mut run = Run::new(Vec::new(), head);
                for message in messages {
                    run.push(&RunMessage {
                        sequence: message.id.sequence,
                        kind: message.kind,
                        topic: &message.topic,
                        payload: &message.payload,
                    });
                }
                run.close();
                out.extend_from_slice(run.frame());
            }
            Self::Fragment {
                class,
                number,
                index,
                last,
                bytes,
            } => {
                put_fragment_head(*class, (*number, *index), *last, bytes.len(), out);
                out.extend_from_slice(bytes);
            }
            Self::Link(frame) => frame.write(out),
            Self::Mesh(frame) => frame.write(out),
            Self::Unknown => {}
        }
    }
}

impl MeshMessage {
    /// Returns what is written before the payload.
    pub fn head(&self) -> Head<'_> {
        Head {
            id: self.id,
            hops: self.hops,
            kind: self.kind,
            topic: &self.topic,
            guest: self.guest,
        }
    }
}
