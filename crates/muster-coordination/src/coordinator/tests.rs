//! Single coordinators, with what they hear by hand.

mod beginnings;
mod quarrels;
mod stores;

use super::Config;
use crate::messages::Present;

/// One of three voters. Box a has a node.
fn config(me: &str) -> Config {
    Config {
        me: me.to_owned(),
        voters: ["a", "b", "c"].map(str::to_owned).to_vec(),
        witnesses: Vec::new(),
        nodes: [("node".to_owned(), "a".to_owned())].into(),
    }
}

fn present(disk: u8, cluster: &[u8], generation: u64) -> Present {
    Present {
        disk: vec![disk; 16],
        cluster: cluster.to_vec(),
        generation,
        voters: ["a", "b", "c"].map(str::to_owned).to_vec(),
    }
}
