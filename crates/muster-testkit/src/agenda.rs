//! What is going to happen, in order of time.

use std::collections::BTreeMap;

use bytes::Bytes;
use muster_cluster::node::{LogBatch, LogDelivery, LogNotes, SpoolOrder};
use muster_store::{Commit, StoreName};
use muster_wire::{EndpointId, Topic};

/// Something that happens to a node.
#[derive(Debug)]
pub(crate) enum Item {
    /// One side of a connection learns that it stands.
    PeerAdded { connection: usize, side: usize },
    /// One side learns that it has ended.
    PeerLost { connection: usize, side: usize },
    /// Something arrives at a side.
    Arrival {
        connection: usize,
        side: usize,
        parcel: Parcel,
    },
    /// A node's next rows are read.
    Feed { node: usize, life: u64 },
    /// A logger's disk does something for its files.
    LogWork {
        node: usize,
        life: u64,
        work: LogWork,
    },
    /// A node's spool does something.
    SpoolWork {
        node: usize,
        life: u64,
        work: SpoolWork,
    },
    /// A ping's answer arrives.
    Pong {
        node: usize,
        life: u64,
        peer: EndpointId,
    },
    /// Something happens to a node's store.
    Store {
        node: usize,
        life: u64,
        item: StoreItem,
    },
    /// A node asks the coordinators for the stores that it uses.
    Wants { node: usize, life: u64, round: u32 },
    /// A voter's file has what was to be written first.
    VoterWritten { node: usize, life: u64 },
    /// A link is to be opened, by its place among all.
    Dial { link: usize },
    /// It is looked whether a side of a link still hears anything.
    LinkCheck { connection: usize, side: usize },
    /// A node's timer is due.
    Wake { node: usize, life: u64 },
    /// The timer of a node's endpoint is due.
    EndpointWake { node: usize, life: u64 },
}

/// What crosses a link.
#[derive(Debug)]
pub(crate) enum Parcel {
    /// A frame of the mesh.
    Frame {
        bytes: Vec<u8>,
        /// Whether there is a message in it.
        is_message: bool,
        /// It only says that somebody lives, and comes again and again.
        is_routine: bool,
    },
    /// A message to or from a Zeek process.
    Message { topic: Topic, payload: Bytes },
}

impl Parcel {
    pub(crate) fn is_message(&self) -> bool {
        match self {
            Self::Frame { is_message, .. } => *is_message,
            Self::Message { .. } => true,
        }
    }
}

/// Something to be done for a logger's files.
#[derive(Debug)]
pub(crate) enum LogWork {
    Write {
        batch: LogBatch,
        delivery: Option<LogDelivery>,
        sequence: u64,
    },
    Note {
        notes: Option<LogNotes>,
        sequence: u64,
    },
    Sync,
}

/// Something to be done by a node's spool.
#[derive(Debug)]
pub(crate) enum SpoolWork {
    /// For the batches of a life.
    Order {
        of: EndpointId,
        order: SpoolOrder,
    },
    /// It looks for what a former life has left.
    Adopt,
    Sync,
}

/// Something that happens to a node's store.
#[derive(Debug, Clone)]
pub(crate) enum StoreItem {
    /// The topic of Broker's clones is listened to.
    Listening { store: StoreName },
    /// The disk has been read.
    Loaded { store: StoreName, limit: usize },
    /// The disk has done its work.
    Committed { store: StoreName, commit: Commit },
    /// The timer is due.
    Wake { store: StoreName },
}

impl Item {
    /// Returns `true` if something goes on by itself; timers may be periodic for ever.
    pub(crate) fn is_activity(&self) -> bool {
        match self {
            // Coordinators write for ever, and a link that cannot be opened is tried for ever.
            Self::Wake { .. }
            | Self::EndpointWake { .. }
            | Self::Wants { .. }
            | Self::VoterWritten { .. }
            | Self::Dial { .. }
            | Self::LinkCheck { .. } => false,
            Self::Arrival { parcel, .. } => match parcel {
                Parcel::Frame { is_routine, .. } => !is_routine,
                Parcel::Message { .. } => true,
            },
            Self::Store { item, .. } => item.is_activity(),
            Self::PeerAdded { .. }
            | Self::PeerLost { .. }
            | Self::Feed { .. }
            | Self::LogWork { .. }
            | Self::SpoolWork { .. }
            | Self::Pong { .. } => true,
        }
    }
}

impl StoreItem {
    fn is_activity(&self) -> bool {
        match self {
            Self::Loaded { .. } | Self::Committed { .. } => true,
            // Nobody of Broker is there: a clone that looks for one does so for ever.
            Self::Listening { .. } | Self::Wake { .. } => false,
        }
    }
}

/// Items by time; those of one time in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    items: BTreeMap<(u64, u64), Item>,
    added: u64,
    activities: usize,
}

impl Agenda {
    pub(crate) fn add(&mut self, at: u64, item: Item) {
        self.activities += usize::from(item.is_activity());
        self.added += 1;
        self.items.insert((at, self.added), item);
    }

    pub(crate) fn next_time(&self) -> Option<u64> {
        self.items.keys().next().map(|(at, _)| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Item)> {
        let ((at, _), item) = self.items.pop_first()?;
        self.activities -= usize::from(item.is_activity());
        Some((at, item))
    }

    /// Returns `true` if anything but timers is to come.
    pub(crate) fn has_activity(&self) -> bool {
        self.activities > 0
    }
}
