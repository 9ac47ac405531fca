//! The agent's part among the coordinators of its cluster.

mod voter_file;
mod work;
mod writing;

pub(crate) use work::{CoordinationConfig, INBOX, Order, Shown, Work};
