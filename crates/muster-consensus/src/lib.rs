//! What a cluster's coordinators agree on: one log, the same at every voter, whichever minority of them fails.
//!
//! [`Consensus`] is one voter. It is a plain struct without I/O, clock or randomness of its own: messages, time and the news that
//! something is on disk go in; messages to send, batches to write and entries to apply come out. Two runs with the same input do the same.
//!
//! The algorithm is Raft, by TiKV's crate `raft`. That crate stays behind this one: none of its types is visible here, and its parser
//! (protobuf's) never sees bytes from the network or from a file. Messages, and what is kept, have bounded encodings of their own.
//!
//! # What holds
//!
//! - One leader per term; what was applied anywhere is applied everywhere, in the same order, for ever.
//! - **Held output.** A vote, an answer to entries, a leader's own count: what presupposes something on disk leaves only after
//!   [`Consensus::persisted`]. [`Batch`] says what has to be synced before what.
//! - **An empty disk never votes.** A voter is a name and a disk ([`VoterId`]); one that was emptied is another one. It begins as
//!   [`Kept::stranger`] and has a vote when the others have made it a learner, told it everything, and promoted it.
//! - A file that contradicts itself is refused before a voter steps with it ([`KeptError`]), and so is a message that contradicts the
//!   log ([`Refused`]). Where the engine panics nevertheless, the panic is caught: the voter stops ([`Fault`]), and the process does not.
//! - Memory is bounded: [`MAX_DATA`], [`MAX_STATE`], and a log that is compacted when [`Consensus::wants_compaction`] says so.
//!
//! # Example
//!
//! A group of one, with a file that always writes:
//!
//! ```
//! use muster_consensus::{ClusterId, Config, Consensus, Content, DiskId, Kept, Members, Output, VoterId};
//! use muster_wire::Mono;
//!
//! let me = VoterId { name: "manager".to_owned(), disk: DiskId([7; 16]) };
//! let members = Members::new(vec![me.clone()], Vec::new())?;
//! let mut file = Kept::founding(ClusterId([1; 16]), me.disk, members, Default::default());
//! let mut voter = Consensus::new(me, file.clone(), Config::default(), Mono(0), 42)?;
//! let mut applied = Vec::new();
//! for _ in 0..3 {
//!     voter.tick(voter.next_tick());
//!     while let Some(output) = voter.poll() {
//!         match output {
//!             Output::Persist(number, batch) => {
//!                 file.write(&batch);
//!                 voter.persisted(number);
//!             }
//!             Output::Apply(entry) => applied.push(entry.content),
//!             _ => {}
//!         }
//!     }
//!     if voter.leads() && applied.len() == 1 {
//!         voter.propose(b"hello".to_vec().into())?;
//!     }
//! }
//! assert_eq!(applied, [Content::Nothing, Content::Data(b"hello".to_vec().into())]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod codec;
mod config;
mod consensus;
mod engine;
mod entry;
mod id;
mod kept;
mod log;
mod message;
mod outcome;
mod random;
mod sabotage;
#[cfg(test)]
mod simulation;

pub use codec::{DecodeError, MAX_ENTRIES, MAX_MESSAGE};
pub use config::Config;
pub use consensus::{COMPACT_BYTES, COMPACT_ENTRIES, Consensus, MAX_LOG_BYTES, MAX_LOG_ENTRIES};
pub use entry::{Content, Entry, MAX_DATA, MAX_NUMBER, MAX_STATE, Promise, Snapshot};
pub use id::{
    ClusterId, DiskId, MAX_MEMBERS, MAX_NAME, Members, MembersError, VoterChange, VoterId,
};
pub use kept::{Batch, Kept, KeptError};
pub use message::{Body, Hint, Message};
pub use outcome::{Fault, Output, Refused, Role};
#[cfg(any(test, feature = "simulation"))]
pub use sabotage::Sabotage;
