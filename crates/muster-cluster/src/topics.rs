//! The topics of a cluster, and what each node subscribes to by default.

use muster_wire::{EndpointId, Topic};

use crate::layout::{Layout, Node, NodeName, PoolName, Role};
use crate::pools;

/// The prefix of Zeek's cluster topics, and of Muster's unless the layout says otherwise.
pub const DEFAULT_PREFIX: &str = "zeek/cluster";

/// The topic of log batches, below which Zeek puts one topic per stream; not below the prefix.
pub const LOGS: &str = "zeek/logs/";

/// The longest prefix in bytes.
pub const LONGEST_PREFIX: usize = 256;

/// Makes the topics of one cluster. Their names are Zeek's (`Cluster::node_topic` and so on); the broadcast topic is
/// Muster's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

/// A text that cannot be the prefix of a cluster's topics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{prefix:?} cannot be a prefix of topics: a prefix has 1 to {LONGEST_PREFIX} printable bytes without spaces, \
     does not start with `<$>` and does not end with `/`"
)]
pub struct PrefixError {
    prefix: String,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            prefix: DEFAULT_PREFIX.to_owned(),
        }
    }
}

impl Topics {
    /// Checks and takes a prefix: 1 to 256 printable ASCII bytes without spaces, not starting with `<$>` (which is
    /// reserved for endpoints themselves), not ending with `/`.
    ///
    /// # Errors
    /// [`PrefixError`] if the text is not such a prefix.
    pub fn new(prefix: &str) -> Result<Self, PrefixError> {
        let fits = (1..=LONGEST_PREFIX).contains(&prefix.len())
            && prefix.bytes().all(|byte| byte.is_ascii_graphic())
            && !prefix.starts_with("<$>")
            && !prefix.ends_with('/');
        if !fits {
            return Err(PrefixError {
                prefix: prefix.chars().take(LONGEST_PREFIX).collect(),
            });
        }
        Ok(Self {
            prefix: prefix.to_owned(),
        })
    }

    /// The prefix, without a slash at its end.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the manager hears: `zeek/cluster/manager`.
    pub fn manager(&self) -> Topic {
        self.role(Role::Manager)
    }

    /// What every node of a role hears: `zeek/cluster/worker`.
    pub fn role(&self, role: Role) -> Topic {
        self.topic(&[role.as_str()])
    }

    /// What one node hears: `zeek/cluster/node/worker-1/`. The slash keeps `worker-1` from hearing
    /// `worker-10`.
    pub fn node(&self, name: &NodeName) -> Topic {
        self.topic(&["node", name.as_str(), ""])
    }

    /// What a box's agent hears, by its name in the mesh; `None` if it cannot be part of a topic.
    pub fn agent(&self, name: &str) -> Option<Topic> {
        Topic::new(format!("{}/node/{name}/", self.prefix)).ok()
    }

    /// What one life of a node hears: `zeek/cluster/nodeid/<endpoint id>/`.
    pub fn id(&self, id: EndpointId) -> Topic {
        self.topic(&["nodeid", &id.to_string(), ""])
    }

    /// What every member of a pool hears: `zeek/cluster/pool/proxy` for Zeek's own three, and with a
    /// slash at the end for a layout's own pools.
    pub fn pool(&self, pool: &PoolName) -> Topic {
        if pool.is_built_in() {
            return self.topic(&["pool", pool.as_str()]);
        }
        self.topic(&["pool", pool.as_str(), ""])
    }

    /// What every node hears: `zeek/cluster/all/`.
    pub fn broadcast(&self) -> Topic {
        self.topic(&["all", ""])
    }

    /// What coordinators tell every node: `zeek/cluster/coordination/`.
    pub fn coordination(&self) -> Topic {
        self.topic(&["coordination", ""])
    }

    /// What the nodes hear that follow a feed: `zeek/cluster/feed/intel/indicators/`.
    pub fn feed(&self, name: &str) -> Topic {
        self.topic(&["feed", name, ""])
    }

    /// The topic below which log batches are published: `zeek/logs/`.
    pub fn logs() -> Topic {
        checked(LOGS)
    }

    /// Returns what a node of the layout subscribes to by default, sorted: the topics of its role, its name, its
    /// endpoint id and its pools, the broadcast topic, and `zeek/logs/` if it takes the cluster's logs.
    pub fn subscriptions(&self, node: &Node, id: EndpointId, layout: &Layout) -> Vec<Topic> {
        let mut topics = vec![
            self.role(node.role),
            self.node(&node.name),
            self.id(id),
            self.broadcast(),
        ];
        topics.extend(
            pools::assign(layout)
                .iter()
                // Nobody publishes to all managers but by their role.
                .filter(|assigned| assigned.pool != PoolName::manager())
                .filter(|assigned| {
                    assigned
                        .members
                        .iter()
                        .any(|member| member.name == node.name)
                })
                .map(|assigned| self.pool(&assigned.pool)),
        );
        if layout.takes_logs(node) || layout.forwards_logs(node) {
            topics.push(Self::logs());
        }
        topics.sort();
        topics
    }

    fn topic(&self, parts: &[&str]) -> Topic {
        let mut text = self.prefix.clone();
        for part in parts {
            text.push('/');
            text.push_str(part);
        }
        checked(&text)
    }
}

fn checked(text: &str) -> Topic {
    Topic::new(text).expect("prefix and names are bounded, and a prefix is never the reserved one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_a_setting() {
        let topics = Topics::new("bro/cluster").unwrap();
        let name = NodeName::new("worker-1").unwrap();
        assert_eq!(topics.manager().to_string(), "bro/cluster/manager");
        assert_eq!(topics.node(&name).to_string(), "bro/cluster/node/worker-1/");
        assert_eq!(
            topics.pool(&PoolName::worker()).to_string(),
            "bro/cluster/pool/worker"
        );
        let own = PoolName::new("scan").unwrap();
        assert_eq!(topics.pool(&own).to_string(), "bro/cluster/pool/scan/");
        assert_eq!(topics.broadcast().to_string(), "bro/cluster/all/");
        for prefix in ["", "x/", "a b", "<$>/local", "ä", &"x".repeat(257)] {
            assert!(Topics::new(prefix).is_err(), "{prefix}");
        }
    }
}
