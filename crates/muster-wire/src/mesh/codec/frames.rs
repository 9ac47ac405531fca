//! What the frames hold, once they are read, and why one cannot be read.

use super::{Batch, FragmentRef, ReceivedRun};
use crate::EndpointId;
use crate::mesh::record::{Record, Versions};
use crate::message::Class;

/// A frame that was read.
#[derive(Debug)]
pub enum Frame<'d, 'a> {
    /// Messages, borrowed from the frame.
    Batch(Batch<'d, 'a>),
    /// Small messages of one origin, borrowed from the frame.
    Run(ReceivedRun<'a>),
    /// A part of a batch that is too large to be sent in one piece.
    Fragment(FragmentRef<'a>),
    /// A frame for the two ends of the link.
    Link(LinkFrame),
    /// A frame for the mesh.
    Mesh(MeshFrame),
    /// A frame of an unknown kind, perhaps of a later version. It is to be skipped.
    Unknown,
}

/// A frame that concerns the two ends of a link alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkFrame {
    /// Permission to send more.
    Credit {
        /// The class of traffic that may be sent.
        class: Class,
        /// How many more bytes.
        bytes: u64,
    },
    /// The peering ends.
    Goodbye {
        /// The reason as a number, such as [`LinkFrame::FENCED`]. Those that are not known are like 0, unspecified.
        reason: u8,
        /// The reason in words. It is cut to 1,024 bytes.
        text: String,
    },
    /// A question whether the other end is alive, or the answer to one.
    Echo {
        /// Whether it is the answer.
        is_answer: bool,
        /// The number of the question.
        token: u64,
    },
    /// A question whether the other end hears an endpoint that is silent here, or the answer that it does.
    Witness {
        /// Whether it is the answer.
        is_answer: bool,
        /// The endpoint.
        id: EndpointId,
    },
}

impl LinkFrame {
    /// The reason of a goodbye: the endpoint shuts down, or the peering was ended on request.
    pub const SHUTTING_DOWN: u8 = 1;
    /// The reason of a goodbye: whoever is told so has been fenced. The link ends at once, and may be made anew.
    pub const FENCED: u8 = 5;
}

/// A frame by which the endpoints of a mesh agree on who is in it: [`Mesh`](crate::mesh::Mesh)
/// sends and receives these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshFrame {
    /// Records of the database.
    Records {
        /// The endpoint down whose tree the records travel; nil for a repair between two
        /// neighbours.
        root: EndpointId,
        /// Whether more frames of this repair follow.
        more: bool,
        /// The number of the flood, if it must be acknowledged.
        flood: Option<u64>,
        /// The records; those of unknown kinds are left out.
        records: Vec<Record>,
    },
    /// The hash of a database.
    Digest(u64),
    /// The same, from an endpoint that is offered repairs: an offer without a root is one.
    Greeting(u64),
    /// The versions of all records in reach.
    List(Vec<Versions>),
    /// The endpoints whose records are wanted.
    Want(Vec<EndpointId>),
    /// The versions of records that would be sent down a tree, for neighbours that do not have all
    /// of them.
    Offer {
        /// The endpoint down whose tree they would travel; nil for a repair between two neighbours.
        root: EndpointId,
        /// The versions on offer.
        list: Vec<Versions>,
    },
    /// The answer to an offer: which of its records are wanted.
    Accept {
        /// The root that the offer named.
        root: EndpointId,
        /// The endpoints whose records are wanted.
        ids: Vec<EndpointId>,
    },
    /// A question whether the other end and all endpoints below it have the same records, or the
    /// answer that they do.
    Agree {
        /// Whether it is the answer.
        is_answer: bool,
        /// The hash of the records.
        hash: u64,
    },
    /// All endpoints have the records of this hash.
    Agreed(u64),
    /// A sign of life.
    Heartbeat {
        /// The sender's monotonic time in nanoseconds.
        time: u64,
        /// The last time that was received from the other end; 0 if there is none.
        echo: u64,
        /// The hash of the sender's database.
        hash: u64,
    },
    /// The sender asks that all endpoints be told of it.
    JoinRequest,
    /// The sender and all endpoints below it have taken in a flood.
    JoinAcknowledged {
        /// The root of the flood.
        root: EndpointId,
        /// The number of the flood.
        flood: u64,
    },
    /// All endpoints know this one.
    JoinReady(EndpointId),
}

/// A frame that cannot be read: it ends the peering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame without a kind.
    #[error("empty frame")]
    Empty,
    /// The frame ends inside a field, or a field has a value that is not allowed.
    #[error("malformed {0} frame")]
    Malformed(&'static str),
    /// A list or text in it is longer than allowed.
    #[error("{0} frame over a limit")]
    OverLimit(&'static str),
}
