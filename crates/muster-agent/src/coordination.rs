//! The agent's part among the coordinators of its cluster.

mod fences;
mod groups;
mod reach;
mod voter_file;
mod work;
mod writing;

pub(crate) use groups::{StoreAction, StoreOrder};
pub(crate) use work::{CoordinationConfig, INBOX, Order, Shown, ShownStores, Work};
