//! Questions that frameworks ask one another.

use muster_data::{DecodeOwned, Encode};

use super::event::Event;

/// A record that is asked, and is answered with a value of one type: with [`Context::request`](super::Context::request) by one node,
/// with [`Context::scatter`](super::Context::scatter) by many. A framework answers it where it has declared so with
/// [`Declarations::answers`](super::Declarations::answers).
///
/// ```
/// use muster_cluster::node::Question;
/// use muster_data::{Address, Record};
///
/// /// How many connections of a host have you seen?
/// #[derive(Record)]
/// #[record(name = "Example::connections")]
/// struct Connections {
///     host: Address,
/// }
///
/// impl Question for Connections {
///     type Answer = u64;
/// }
/// ```
pub trait Question: Event {
    /// The answer.
    type Answer: Encode + DecodeOwned + 'static;
}
