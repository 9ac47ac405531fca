//! Muster cluster layer without I/O: layout, roles, pools, membership, node loop.
//!
//! - [`Layout`]: the nodes of a cluster, read from one file; [`Settings`]: what may be tuned.
//! - [`links()`]: who dials whom. [`Topics`]: who hears what.
//! - [`Membership`]: who is alive. [`Pools`] and [`Key`]: who of them owns which key.
//! - [`Watermarks`]: up to which event time everything has been seen.
//!
//! Nothing here reads a file, a clock or a random number: time and text are arguments, decisions
//! are return values.

mod hrw;
mod layout;
mod links;
mod membership;
mod pools;
mod settings;
mod topics;
mod watermark;

pub use hrw::{Key, fnv1a32, site_id, weight};
pub use layout::{
    FIRST_PORT, LARGEST_FILE, LONGEST_NAME, Layout, LayoutError, LayoutProblem, LayoutProblemKind,
    MOST_NODES, NameError, Node, NodeName, PoolName, PoolSpec, Role,
};
pub use links::{Link, Neighbours, links};
pub use membership::{Life, Membership, MembershipEvent, Record, Refusal};
pub use pools::{Member, PoolChange, PoolView, Pools};
pub use settings::{
    CORE_SETTINGS, Origin, SettingError, SettingKind, SettingSpec, SettingValue, Settings,
};
pub use topics::{DEFAULT_PREFIX, LOGS, LONGEST_PREFIX, PrefixError, Topics};
pub use watermark::Watermarks;
