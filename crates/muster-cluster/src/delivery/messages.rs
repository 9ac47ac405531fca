//! What producers and loggers say to one another.
//!
//! All of these are events for one node, on the topic of its present life.

use muster_data::Record;
use muster_wire::EndpointId;

use crate::layout::LONGEST_NAME;

/// What a batch carries behind its records, if it is to be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
pub(crate) struct DeliveryNote {
    /// The name of the node that has made the batch.
    pub(crate) node: String,
    /// The endpoint id of the life that has made it.
    pub(crate) producer: String,
    /// Its number in that life.
    pub(crate) number: u64,
    /// The first number that is open: all batches below it are decided.
    pub(crate) floor: u64,
}

/// A logger says whether it takes records, to nodes that come up and whenever that changes.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::logger")]
pub(crate) struct LoggerState {
    /// What keeps it from writing, if anything does.
    pub(crate) problem: Option<String>,
}

/// A logger has batches of a producer, synced or as the layout asks for.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::log_ack")]
pub(crate) struct LogAck {
    /// The producer.
    pub(crate) producer: String,
    /// Ranges of numbers.
    pub(crate) batches: Vec<u64>,
}

/// A logger does not take batches.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::log_refused")]
pub(crate) struct LogRefused {
    /// The producer.
    pub(crate) producer: String,
    /// Ranges of numbers.
    pub(crate) batches: Vec<u64>,
    /// Why: the number of a [`BatchRefusal`].
    pub(crate) cause: u64,
    /// What is wrong with them, or with the logger.
    pub(crate) text: String,
}

/// Why a logger does not take a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchRefusal {
    /// It cannot write at present.
    CannotWrite,
    /// No logger will ever take it: the columns or the name of its stream are not valid.
    Invalid,
    /// Another logger has it, and this one has promised that one not to take it.
    GoBack,
    /// Its producer has said that it is open no more, in a former life.
    Decided,
}

impl BatchRefusal {
    /// Returns its number in messages.
    pub fn number(self) -> u64 {
        match self {
            Self::CannotWrite => 1,
            Self::Invalid => 2,
            Self::GoBack => 3,
            Self::Decided => 4,
        }
    }

    /// Returns the cause of a number. One that is not known is something that keeps the logger from writing.
    pub fn of(number: u64) -> Self {
        match number {
            2 => Self::Invalid,
            3 => Self::GoBack,
            4 => Self::Decided,
            _ => Self::CannotWrite,
        }
    }
}

/// A producer says what becomes of batches that a logger has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::log_verdict")]
pub(crate) struct LogVerdict {
    /// The producer.
    pub(crate) producer: String,
    /// The first number that is open.
    pub(crate) floor: u64,
    /// Ranges of numbers that count here.
    pub(crate) keep: Vec<u64>,
    /// The same, of batches that another logger may have as well.
    pub(crate) keep_shared: Vec<u64>,
    /// Ranges of numbers that count at another logger.
    pub(crate) strike: Vec<u64>,
    /// Ranges of numbers of which the producer does not know it any more: loggers decide among themselves.
    pub(crate) settle: Vec<u64>,
}

/// A logger asks another one for batches of a producer that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::log_settle")]
pub(crate) struct LogSettle {
    /// The producer.
    pub(crate) producer: String,
    /// Its node.
    pub(crate) node: String,
    /// Ranges of numbers.
    pub(crate) batches: Vec<u64>,
}

/// A logger answers another one, and promises to take none of these batches.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::log_settled")]
pub(crate) struct LogSettled {
    /// The producer.
    pub(crate) producer: String,
    /// What was asked.
    pub(crate) asked: Vec<u64>,
    /// Of these: what counts here.
    pub(crate) kept: Vec<u64>,
    /// Of these: what is here and not decided.
    pub(crate) held: Vec<u64>,
}

/// Reads the endpoint id of a producer.
pub(super) fn producer(text: &str) -> Option<EndpointId> {
    text.parse().ok()
}

/// Returns `true` if a text may be a node's name.
pub(super) fn is_node(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME
}
