//! Muster cluster layer without I/O: layout, roles, pools, membership, node loop.
//!
//! - [`Layout`]: the nodes of a cluster, read from one file; [`Settings`]: what may be tuned.
//! - [`links()`]: who dials whom. [`Topics`]: who hears what.
//! - [`Membership`]: who is alive. [`Pools`] and [`Key`]: who of them owns which key.
//! - [`coordination`]: who decides what all have to see alike.
//! - [`Readiness`]: whether the nodes that are needed are mutually up.
//! - [`register`]: values that change while the cluster runs. [`feed`]: large lists that one node gives to many.
//! - [`Watermarks`]: up to which event time everything has been seen.
//!
//! Nothing here reads a file, a clock or a random number: time and text are arguments, decisions
//! are return values.
//!
//! ```
//! use muster_cluster::{Key, Layout, NodeName, PoolName, Pools};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = r#"
//!     [[node]]
//!     name = "manager"
//!     role = "manager"
//!
//!     [[node]]
//!     name = "proxy"
//!     role = "proxy"
//!     count = 2
//! "#;
//! let layout = Layout::parse(text, "muster.toml", &[])?;
//! let mut pools = Pools::new(&layout, None);
//! for node in layout.nodes() {
//!     pools.node_up(&node.name);
//! }
//! let (pool, key) = (PoolName::proxy(), Key::from("10.0.0.122/tcp"));
//! let owner = pools.owner(&pool, &key).cloned().ok_or("nobody is alive")?;
//! for change in pools.node_down(&owner) {
//!     assert_eq!(change.owner_before(&key), Some(&owner));
//!     assert_ne!(change.owner_after(&key), Some(&owner));
//! }
//! # Ok(())
//! # }
//! ```

pub mod coordination;
mod delivery;
pub mod feed;
mod hrw;
mod keyed;
mod layout;
mod links;
mod membership;
pub mod node;
mod pools;
mod readiness;
pub mod register;
mod requests;
mod settings;
mod suggestion;
mod topics;
mod watermark;

pub use hrw::{Key, fnv1a32, site_id, weight};
pub use layout::{
    AGENT_PREFIX, FIRST_PORT, LARGEST_FILE, LONGEST_NAME, Layout, LayoutError, LayoutProblem,
    LayoutProblemKind, LinkEnd, LinkSetting, LinkSpec, MOST_NODES, NameError, Node, NodeName,
    PoolName, PoolSpec, Role, StoreBackend, StoreFile, StorePlan, StoreSpec,
};
pub use links::{AgentDial, Link, Neighbours, agent_dials, links};
pub use membership::{Life, Membership, MembershipEvent, Record, Refusal};
pub use pools::{Member, PoolChange, PoolView, Pools};
pub use readiness::{Look, NotReady, Quorum, Readiness, ReadyError};
pub use settings::{
    AcknowledgeWhen, CORE_SETTINGS, Choice, ForwardingMode, LinkOverrides, LocalMode, Origin,
    PeeringSettings, QueueOverrides, Setting, SettingError, SettingKind, SettingSpec, SettingValue,
    Settings, SpoolWhen, TlsMode,
};
pub use topics::{DEFAULT_PREFIX, LOGS, LONGEST_PREFIX, PrefixError, Topics};
pub use watermark::Watermarks;
