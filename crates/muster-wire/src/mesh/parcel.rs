//! A message on its way between Muster endpoints.

use bytes::Bytes;

use crate::message::{Class, Kind, Message, MessageId};
use crate::{EndpointId, Topic};

/// The links that a message may cross.
pub const HOPS: u8 = 16;

/// A message with what protocol version 2 carries besides: it always has an identity, and hops left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Who published it, and its number there.
    pub id: MessageId,
    /// Its class of traffic.
    pub class: Class,
    /// The links that it may still cross, the one that it is on included; at most 31.
    pub hops: u8,
    /// What the payload holds.
    pub kind: Kind,
    /// Where it goes.
    pub topic: Topic,
    /// The encoded content, not validated by the mesh.
    pub payload: Bytes,
    /// The peer of version 1 whose message it is: its home published it, under a number of its own.
    pub guest: Option<EndpointId>,
}

impl From<Parcel> for Message {
    fn from(parcel: Parcel) -> Self {
        Self {
            topic: parcel.topic,
            payload: parcel.payload,
            kind: parcel.kind,
            class: parcel.class,
            id: Some(parcel.id),
        }
    }
}
