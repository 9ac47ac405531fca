//! Keyed work: events for the owner of a key, whose rows a standby has as well, without I/O.
//!
//! [`Publishing`] has the events that a producer has open. [`Keeper`] is a member of a pool: it handles events of the keys that it
//! owns, and has copies of others. Between them are `messages.rs`. All are told what arrives, who is in (a [`Roster`]), and the time;
//! what is to be sent comes out. The rows of all keys with one digest move together, as they have one owner.
//!
//! An owner acknowledges an event when its standby has what came of it. When others are in, whoever may know something of a digest that
//! has another owner now *offers* it: who has owned it, and who has a copy of what a member owned that is out. An owner waits until
//! all have offered, and takes the newest. Then its standbys get copies; when all have them, what is neither owned nor a copy is
//! forgotten everywhere, and only then what has become empty.

mod entry;
mod keeper;
mod lane;
mod made;
pub(crate) mod messages;
mod open_events;
mod outbox;
mod output;
mod publishing;
mod roster;
mod sabotage;
#[cfg(test)]
mod tests;

pub(crate) use entry::{Changes, EventId, OutputChange, RowChange, maker_of_outputs};
pub(crate) use keeper::{Keeper, KeeperCounts, KeeperLimits, KeeperStep, Leaving};
pub(crate) use made::Made;
pub(crate) use messages::KeyedEvent;
pub(crate) use outbox::{Outbox, Owed};
pub(crate) use output::Output;
pub(crate) use publishing::Publishing;
pub(crate) use roster::{Holder, Roster, RosterMember};
#[cfg(any(test, feature = "simulation"))]
pub use sabotage::Sabotage as KeyedSabotage;
