//! The spool of a node: what it keeps of its records on disk, and what a former life has left there.

use muster_wire::EndpointId;

use super::log_shipping::Whose;
use super::node_core::NodeCore;
use super::{Effect, NodeLoop, TroubleCause};
use crate::delivery::{Leftover, Shipper, SpoolHealth, SpoolOrder, SpoolOutcome};
use crate::settings::SpoolWhen;

/// The batches of a former life that are in this node's spool.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) life: EndpointId,
    /// The name of its node.
    pub(super) node: String,
    pub(super) shipper: Shipper,
}

impl NodeLoop {
    /// Has the node use a spool, as `logging.spool` says. It is called before the first step, by whoever carries out
    /// [`Effect::Spool`].
    pub fn use_spool(&mut self) {
        let when: SpoolWhen = self.core.node.settings.choice("logging.spool");
        self.core.logging.shipping.shipper.spool_when(when);
    }
}

impl NodeCore {
    /// Tells the spool what there is for it to do.
    pub(super) fn order_spool(&mut self, whose: Whose, can_send: bool) {
        let now = self.clock.now.mono;
        let (_, life) = self.producer(whose);
        let Some(shipper) = self.logging.shipping.of_mut(whose) else {
            return;
        };
        let orders = shipper.take_orders(can_send, now);
        let is_over = shipper.is_empty() && shipper.is_spool_done() && !shipper.has_verdicts();
        let orders = orders.into_iter();
        let orders = orders.map(|order| Effect::Spool { life, order });
        self.outbox.effects.extend(orders);
        if is_over && whose == Whose::Adopted {
            self.logging.shipping.adopted = None;
            let order = SpoolOrder::End;
            self.outbox.effects.push(Effect::Spool { life, order });
            let text = format!("the loggers have what life {life} has left in the spool");
            self.inform(text);
        }
    }

    /// A former life has left batches.
    pub(super) fn spool_found(&mut self, left: &Leftover) {
        let records: usize = left.batches.values().map(|batch| batch.records).sum();
        self.counts.records_found += records as u64;
        let Leftover { life, node, .. } = left;
        let batches = left.batches.len();
        let text = format!(
            "sends what life {life} of {node} has left in the spool: {batches} batches, {records} records"
        );
        self.inform(text);
        let shipping = &mut self.logging.shipping;
        let shipper = Shipper::adopted(left, shipping.loggers());
        shipping.adopted = Some(Adopted {
            life: *life,
            node: node.clone(),
            shipper,
        });
        self.dispatch_batches();
    }

    /// The spool has done something.
    pub(super) fn spool_says(&mut self, life: EndpointId, outcome: &SpoolOutcome) {
        let now = self.clock.now.mono;
        let whose = self.whose(life);
        let shipper = whose.and_then(|whose| self.logging.shipping.of_mut(whose));
        let Some(shipper) = shipper else {
            return;
        };
        let heard = shipper.spool_says(outcome, now);
        // Only this life's ends.
        if shipper.is_ending() {
            self.counts.records_left = shipper.records() as u64;
        }
        self.counts.records_spooled += heard.kept as u64;
        self.dropped(heard.dropped);
        match heard.health {
            Some(SpoolHealth::Fails(problem)) => self.fails(TroubleCause::Spool, 1, problem),
            Some(SpoolHealth::Works) => self.mends(&TroubleCause::Spool),
            None => {}
        }
        self.dispatch_batches();
    }

    /// The node ends: what is open stays in the spool, or is dropped.
    pub(super) fn end_batches(&mut self) {
        let shipper = &mut self.logging.shipping.shipper;
        shipper.spool_all();
        let dropped = shipper.give_up();
        self.counts.records_left = shipper.records() as u64;
        self.dropped(dropped);
        self.logging.shipping.shipper.flushes.stop();
        self.order_spool(Whose::Own, false);
    }
}
