//! What happens in one run, and what must hold.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::graphs::{Plan, Shape};
use super::network::{Expect, MILLI, Network, Planned};
use muster_wire::EndpointId;
use muster_wire::mesh::Sabotage;

/// What a run depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) shape: Shape,
    pub(super) nodes: usize,
    /// How often links fail and heal before all is checked again.
    pub(super) rounds: usize,
    /// Messages in each phase.
    pub(super) messages: usize,
    /// Whether endpoints have certificates.
    pub(super) is_sealed: bool,
    pub(super) sabotage: Sabotage,
}

/// What was seen in one or more runs.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Report {
    pub(super) published: u64,
    pub(super) delivered: u64,
    pub(super) transmissions: u64,
    /// What peers of version 1 heard, and was heard of them.
    pub(super) visits: u64,
    pub(super) probes: u64,
    pub(super) steps: u64,
    /// Records that were refused because of their seals.
    pub(super) forged: u64,
}

impl Run {
    /// The line that brings the run again.
    pub(super) fn line(&self) -> String {
        format!(
            "MESH_RUN={}:{}:{}:{}:{}:{} cargo test -p muster-testkit mesh_scenarios::tests::one_run",
            self.seed,
            self.shape.name(),
            self.nodes,
            self.rounds,
            self.messages,
            if self.is_sealed { "sealed" } else { "open" }
        )
    }

    /// Runs; a violation comes with the line that brings it again.
    pub(super) fn check(&self) -> Result<Report, String> {
        let mut network = Network::new(self.seed, self.is_sealed, self.sabotage);
        let outcome = self.phases(&mut network);
        outcome.map_err(|violation| {
            let (expect, at) = (network.expect, network.now / MILLI);
            format!("{violation}\nat {at} ms, {expect:?}\n{}", self.line())
        })?;
        Ok(Report {
            published: network.ledger.published,
            delivered: network.ledger.delivered,
            visits: network.visits.heard,
            transmissions: network.ledger.transmissions,
            probes: network.probes,
            steps: network.steps,
            forged: network.forged(),
        })
    }

    fn phases(&self, network: &mut Network) -> Result<(), String> {
        let plan = Plan::new(self.shape, self.nodes, &mut network.random);
        for transit in &plan.transit {
            network.add_node(*transit);
        }
        let links: Vec<usize> = plan
            .links
            .iter()
            .map(|(a, b)| network.add_link(*a, *b))
            .collect();
        // Some links wait for later.
        for link in &links {
            if !network.random.one_in(5) {
                let at = network.random.next() % (500 * MILLI);
                network.plan(at, Planned::Heal(*link));
            }
        }
        for _ in 0..network.random.below(3) {
            network.add_visitor();
        }
        network.run(500 * MILLI);
        quiesce(network)?;
        for _ in 0..self.rounds {
            self.wave(network)?;
            self.gains(network, &links)?;
            self.joining(network)?;
            self.losses(network, &links)?;
        }
        self.wave(network)?;
        for _ in 0..self.rounds {
            self.lies(network)?;
        }
        self.wave(network)?;
        for _ in 0..self.rounds {
            self.fences(network)?;
            self.wave(network)?;
        }
        Ok(())
    }

    fn publish(&self, network: &mut Network, span: u64) {
        for _ in 0..self.messages {
            let at = network.random.next() % span;
            let node = network.random.below(network.nodes.len());
            network.plan(at, Planned::Publish(node));
        }
        let is_trouble = network.expect == Expect::AtMostOnce;
        network.plan_visits(self.messages / 8, span, is_trouble);
    }

    /// Nothing changes: exactly once, in order, over the edges of the tree.
    fn wave(&self, network: &mut Network) -> Result<(), String> {
        network.begin(Expect::Exact);
        self.publish(network, 50 * MILLI);
        network.run(50 * MILLI);
        network.drain();
        network.begin(Expect::AtMostOnce);
        ok(network)
    }

    /// Links and subscriptions are added: nothing is lost.
    fn gains(&self, network: &mut Network, links: &[usize]) -> Result<(), String> {
        network.begin(Expect::AllFromBefore);
        let span = 1500 * MILLI;
        for link in links {
            if !network.links[*link].is_up && network.random.one_in(2) {
                let at = network.random.next() % span;
                network.plan(at, Planned::Heal(*link));
            }
        }
        for _ in 0..2 {
            let at = network.random.next() % span;
            let node = network.random.below(network.nodes.len());
            network.plan(at, Planned::Subscribe(node));
        }
        self.finish(network, span)
    }

    /// An endpoint joins by several links at once: nothing is lost, and node up means what it says.
    fn joining(&self, network: &mut Network) -> Result<(), String> {
        network.begin(Expect::Joining);
        let span = 1500 * MILLI;
        let transit = network.random.one_in(2);
        let newcomer = network.add_node(transit);
        let links = if self.shape == Shape::Chain { 1 } else { 3 };
        // All in one partition: where two meet there is no barrier, and node up promises less.
        let truth = network.truth();
        let first = network.random.below(newcomer);
        let reach = truth.reach(network.nodes[first].id);
        for _ in 0..links {
            let other = network.random.below(newcomer);
            let node = &network.nodes[other];
            if node.transit && reach.contains(&node.id) {
                let link = network.add_link(other, newcomer);
                let at = network.random.next() % (200 * MILLI);
                network.plan(at, Planned::Heal(link));
            }
        }
        let node = network.random.below(newcomer);
        network.plan(0, Planned::Subscribe(node));
        // Whoever hears of it first speaks for it, if it can.
        for _ in 0..if network.is_sealed { 3 } else { 0 } {
            let liar = network.random.below(newcomer);
            let at = network.random.next() % (200 * MILLI);
            let victim = newcomer;
            network.plan(at, Planned::Lie { liar, victim });
        }
        self.finish(network, span)
    }

    fn finish(&self, network: &mut Network, span: u64) -> Result<(), String> {
        self.publish(network, span);
        network.run(span);
        quiesce(network)?;
        network.drain();
        network.begin(Expect::AtMostOnce);
        ok(network)
    }

    /// Links fail, hang and heal, endpoints restart: at most once, and all agree in the end.
    fn losses(&self, network: &mut Network, links: &[usize]) -> Result<(), String> {
        network.begin(Expect::AtMostOnce);
        let span = 3000 * MILLI;
        let few = (links.len() / 8).clamp(1, 40);
        for _ in 0..few {
            let link = links[network.random.below(links.len())];
            let at = network.random.next() % span;
            let planned = if network.random.one_in(4) {
                Planned::Hang(link)
            } else {
                Planned::Fail(link)
            };
            network.plan(at, planned);
            if network.random.one_in(2) {
                let later = at + network.random.next() % span;
                network.plan(later, Planned::Heal(link));
            }
        }
        for _ in 0..=self.nodes / 50 {
            let node = network.random.below(network.nodes.len());
            let at = network.random.next() % span;
            network.plan(at, Planned::Restart(node));
        }
        self.publish(network, span);
        network.run(2 * span);
        quiesce(network)
    }

    /// Endpoints are fenced, by each of the others at another time, and find their way back. Nothing is led through them,
    /// and nothing is lost that need not be. Then they are admitted again, at other times.
    fn fences(&self, network: &mut Network) -> Result<(), String> {
        network.begin(Expect::AtMostOnce);
        network.has_fences = true;
        let span = 1000 * MILLI;
        let nodes = network.nodes.len();
        let fenced: BTreeSet<usize> = (0..2).map(|_| network.random.below(nodes)).collect();
        for of in fenced.iter().copied() {
            let is_hung = network.random.one_in(2);
            let is_of = |link: &usize| network.links[*link].ends.contains(&of);
            let of_it: Vec<usize> = (0..network.links.len()).filter(is_of).collect();
            for link in of_it {
                if is_hung {
                    network.plan(0, Planned::Hang(link));
                }
                // Some of its links are made again, and one or the other before all have fenced it.
                for _ in 0..network.random.below(3) {
                    let at = network.random.next() % (2 * span);
                    network.plan(at, Planned::Heal(link));
                }
            }
            for by in (0..nodes).filter(|by| *by != of) {
                let mut times = [0; 3].map(|_: u64| network.random.next() % span);
                times.sort_unstable();
                network.plan(times[2], Planned::Fence { by, of });
                if network.random.one_in(4) {
                    network.plan(times[0], Planned::Fence { by, of });
                    network.plan(times[1], Planned::Unfence { by, of });
                }
            }
        }
        self.publish(network, span);
        network.run(2 * span);
        network.fenced.clone_from(&fenced);
        quiesce(network)?;
        self.wave(network)?;
        network.begin(Expect::AllFromBefore);
        network.fenced.clear();
        for of in fenced {
            for by in (0..nodes).filter(|by| *by != of) {
                let at = network.random.next() % (300 * MILLI);
                network.plan(at, Planned::Unfence { by, of });
            }
        }
        self.finish(network, 500 * MILLI)?;
        network.has_fences = false;
        Ok(())
    }

    /// Endpoints announce records of others, with later numbers and other contents: those prevail who they are of. Where
    /// they have certificates, nothing happens.
    fn lies(&self, network: &mut Network) -> Result<(), String> {
        if network.is_sealed {
            network.begin(Expect::Exact);
        }
        let span = 1000 * MILLI;
        for _ in 0..3 {
            let nodes = network.nodes.len();
            let (liar, victim) = (network.random.below(nodes), network.random.below(nodes));
            let at = network.random.next() % span;
            network.plan(at, Planned::Lie { liar, victim });
        }
        self.publish(network, span);
        network.run(2 * span);
        if network.is_sealed {
            network.drain();
            network.begin(Expect::AtMostOnce);
        }
        quiesce(network)?;
        if network.is_sealed && network.contradicted() > 0 {
            return Err("somebody has spoken for others".to_owned());
        }
        Ok(())
    }
}

fn ok(network: &Network) -> Result<(), String> {
    match network.ledger.violations.first() {
        Some(violation) => Err(violation.clone()),
        None => Ok(()),
    }
}

/// Lets time pass until all agree, which must not take long.
pub(super) fn quiesce(network: &mut Network) -> Result<(), String> {
    let mut why = String::new();
    for _ in 0..120 {
        network.run(500 * MILLI);
        ok(network)?;
        bounded(network)?;
        match agreed(network) {
            Ok(()) => return Ok(()),
            Err(difference) => why = difference,
        }
    }
    Err(format!("no agreement after a minute: {why}"))
}

/// Whether every endpoint knows exactly what it can reach, as the others do.
fn agreed(network: &Network) -> Result<(), String> {
    if network.links.iter().any(|link| link.is_up && link.is_hung) {
        return Err("a link hangs".to_owned());
    }
    // What is seen at once first, for all of them: most often something of that is not so yet.
    for (number, node) in network.nodes.iter().enumerate() {
        if !node.is_alive {
            return Err(format!("{number} is down"));
        }
        if !node.endpoint.mesh().is_settled() {
            return Err(format!("{number} has not settled"));
        }
    }
    let truth = network.truth();
    let mut digests: HashMap<*const BTreeSet<EndpointId>, u64> = HashMap::new();
    for (number, node) in network.nodes.iter().enumerate() {
        let database = node.endpoint.mesh().database();
        let announced = database.node(database.me()).expect("always there");
        if announced.filter != node.filter {
            return Err(format!("{number} has not announced its filter"));
        }
        let real = truth.reach(node.id);
        let known = database.reach();
        let is_real = |slot| {
            let id = database.graph().id(slot);
            id.is_some_and(|id| real.contains(&id))
        };
        if known.len() != real.len() || !known.iter().all(is_real) {
            return Err(format!(
                "{number} reaches {} and not {}",
                known.len(),
                real.len()
            ));
        }
        for other in network
            .nodes
            .iter()
            .filter(|other| real.contains(&other.id))
        {
            let slot = database.slot(other.id);
            let known = slot.and_then(|slot| database.node(slot));
            if known.is_none_or(|known| known.filter != other.filter) {
                let id = other.id;
                return Err(format!("{number} has another filter of {id} than that has"));
            }
        }
        let others = real.len() - 1;
        let up = node.endpoint.mesh().up();
        let is_up = up.len() == others && up.iter().all(|id| *id != node.id && real.contains(id));
        if others > 0 && !(node.endpoint.mesh().is_ready() && is_up) {
            return Err(format!(
                "{number} (ready: {}) has {} of {others} up",
                node.endpoint.mesh().is_ready(),
                up.len(),
            ));
        }
        let digest = node.endpoint.mesh().digest();
        if *digests.entry(Rc::as_ptr(&real)).or_insert(digest) != digest {
            return Err(format!("{number} has another digest"));
        }
    }
    network.agreed_on_homes()
}

/// Whether nothing has grown beyond what the endpoints explain.
fn bounded(network: &Network) -> Result<(), String> {
    let most = 2 * network.nodes.len() + 16;
    for (number, node) in network.nodes.iter().enumerate() {
        let sizes = node.endpoint.mesh().sizes();
        let is_bounded = sizes.endpoints <= most
            && sizes.slots <= 2 * most
            && node.endpoint.windows() <= sizes.slots
            && sizes.pending <= 3 * most
            && sizes.floods <= 1024
            && sizes.cached <= 2 * 1024;
        if !is_bounded {
            return Err(format!("{number} has grown to {sizes:?}"));
        }
    }
    Ok(())
}
