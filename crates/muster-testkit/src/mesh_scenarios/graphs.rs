//! The graphs that are tried.

use muster_test_support::Random;

/// The shape of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Chain,
    Ring,
    FullMesh,
    TwoCliques,
    Sparse,
}

impl Shape {
    pub(super) const ALL: [Self; 5] = [
        Self::Chain,
        Self::Ring,
        Self::FullMesh,
        Self::TwoCliques,
        Self::Sparse,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Ring => "ring",
            Self::FullMesh => "full",
            Self::TwoCliques => "cliques",
            Self::Sparse => "sparse",
        }
    }

    /// The most endpoints that hops allow for.
    pub(super) fn most(self) -> usize {
        match self {
            Self::Chain => 14,
            Self::Ring => 28,
            Self::FullMesh | Self::TwoCliques => 40,
            Self::Sparse => usize::MAX,
        }
    }
}

/// Who relays, and who is linked with whom.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) transit: Vec<bool>,
    pub(super) links: Vec<(usize, usize)>,
}

impl Plan {
    pub(super) fn new(shape: Shape, nodes: usize, random: &mut Random) -> Self {
        let mut transit = vec![true; nodes];
        let mut links = Vec::new();
        let clique = |links: &mut Vec<(usize, usize)>, from: usize, to: usize| {
            links.extend((from..to).flat_map(|a| (a + 1..to).map(move |b| (a, b))));
        };
        match shape {
            Shape::Chain => links.extend((1..nodes).map(|n| (n - 1, n))),
            Shape::Ring => {
                links.extend((1..nodes).map(|n| (n - 1, n)));
                if nodes > 2 {
                    links.push((nodes - 1, 0));
                }
            }
            Shape::FullMesh => {
                clique(&mut links, 0, nodes);
                for leaf in transit.iter_mut().skip(1) {
                    *leaf = !random.one_in(4);
                }
            }
            Shape::TwoCliques => {
                let half = nodes / 2;
                clique(&mut links, 0, half);
                clique(&mut links, half, nodes);
                links.push((0, half));
                if half > 1 {
                    links.push((1, half + 1));
                }
            }
            Shape::Sparse => {
                let core = (nodes * 3 / 4).max(2).min(nodes);
                for node in 1..core {
                    links.push((random.below(node), node));
                }
                for _ in 0..core {
                    let (a, b) = (random.below(core), random.below(core));
                    links.push((a.min(b), a.max(b)));
                }
                transit.truncate(core);
                transit.resize(nodes, false);
                for leaf in core..nodes {
                    for _ in 0..=random.below(3) {
                        links.push((random.below(core), leaf));
                    }
                }
                links.retain(|(a, b)| a != b);
                links.sort_unstable();
                links.dedup();
            }
        }
        Self { transit, links }
    }
}
