//! Requests of frameworks: questions that are answered, by one node or by many, without I/O.
//!
//! [`Asking`] has what a node waits for, [`Answering`] what it has handled of others. Between them are
//! `messages.rs`. Both are told what arrives, who is there, and the time; what is to be sent and what has ended comes out.
//!
//! A question towards a life of a node has a number of its own. It is sent again, under its number, until an answer is there, the
//! node is out, or the deadline has passed. Whoever answers remembers the numbers that it has handled, and as long as the answer may
//! be wanted, the answer: so a question that arrives twice is handled once. With each question comes the first number that is
//! open, so both forget what nobody waits for.

mod answering;
mod ask;
mod asking;
mod error;
pub(crate) mod messages;
mod open;
mod outcome;
mod sabotage;
#[cfg(test)]
mod tests;

pub(crate) use answering::{Answering, Arrival};
pub(crate) use ask::{Ask, EncodedQuestion, Standing, Target, Whereabouts};
pub(crate) use asking::{Asking, Heard, Step};
pub use error::{RequestError, RequestErrorKind};
pub(crate) use outcome::Outcome;
#[cfg(any(test, feature = "simulation"))]
pub use sabotage::Sabotage as RequestSabotage;
