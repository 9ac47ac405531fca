//! What a layout says of the coordinator of a box.

use muster_cluster::Layout;
use muster_cluster::coordination::{voters, witnesses};

use crate::Config;

impl Config {
    /// Returns what a layout says of the coordinator of a box, or `None` if the box has no vote.
    pub fn of(layout: &Layout, own_box: &str) -> Option<Self> {
        let voters = voters(layout);
        let nodes = layout.nodes().iter();
        voters.iter().any(|it| it == own_box).then(|| Self {
            me: own_box.to_owned(),
            witnesses: witnesses(layout).into_iter().collect(),
            nodes: nodes
                .map(|node| (node.name.to_string(), node.box_name.clone()))
                .collect(),
            voters,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_has_a_vote_if_the_layout_gives_it_one() {
        let layout = "[box.a]\naddress = \"10.0.0.1\"\n[box.b]\naddress = \"10.0.0.2\"\n[box.c]\naddress = \"10.0.0.3\"\n\
            [box.d]\naddress = \"10.0.0.4\"\n\
            [[node]]\nname = \"manager\"\nrole = \"manager\"\nbox = \"b\"\n\
            [[node]]\nname = \"data\"\nrole = \"data\"\nbox = \"c\"\n";
        let layout = Layout::parse(layout, "four.toml", &[]).unwrap();
        let config = Config::of(&layout, "a").unwrap();
        assert_eq!(config.voters, ["b", "c", "a"]);
        assert_eq!(config.witnesses, ["a"]);
        let node = |name: &str| config.nodes.get(name).map(String::as_str);
        assert_eq!((node("manager"), node("data")), (Some("b"), Some("c")));
        assert!(Config::of(&layout, "d").is_none());
    }
}
