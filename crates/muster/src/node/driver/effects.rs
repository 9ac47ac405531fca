//! What the loop wants done, and how it is done.

use std::time::Duration;

use bytes::Bytes;
use muster_cluster::node::{
    BatchRefusal, Effect, Input as LoopInput, LogBatch, LogDelivery, Severity,
};
use muster_data::{Encode, Record};
use muster_wire::counters::DropCause;
use muster_wire::{Class, EndpointId, Topic, zeek};

use super::Driver;
use crate::node::peers::PeersReply;

/// How long a ping's answer is waited for.
const PONG_LIMIT: Duration = Duration::from_secs(5);

impl Driver {
    pub(super) fn carry_out(&mut self) {
        loop {
            let effects = self.node.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Publish {
                        topic,
                        payload,
                        class,
                    } => {
                        // What is dropped is counted with its peer.
                        let outcome = self.publisher.publish_encoded(&topic, payload, class);
                        // A hello to a peer that is no node is meant for nobody else.
                        if outcome.no_subscriber() && class != Class::Control {
                            self.unrouted
                                .count(DropCause::NoSubscriber, &topic.normalized(), 1);
                        }
                    }
                    Effect::WriteLog {
                        batch,
                        delivery,
                        sequence,
                    } => {
                        self.write(batch, delivery, sequence);
                    }
                    Effect::NoteLogs { notes, sequence } => {
                        let writer = self.log_writer.as_ref();
                        if !writer.is_some_and(|it| it.note(notes, sequence)) {
                            let now = self.clock.now();
                            self.node.step(LoopInput::NotTaken { sequence }, now);
                        }
                    }
                    Effect::Spool { life, order } => {
                        if let Some(writer) = &mut self.spool_writer {
                            writer.order(life, order);
                        }
                    }
                    Effect::DescribePeers(to) => self.describe_peers(to),
                    Effect::Ping(peer) => self.ping(peer),
                    Effect::Ready { token, outcome } => self.waiting.end(token, outcome),
                    // One behind the other: what is said last holds.
                    Effect::Fence(life) => self.runtime.block_on(self.endpoint.fence(life)),
                    Effect::Unfence(life) => self.runtime.block_on(self.endpoint.unfence(life)),
                    Effect::StoreGroups(groups) => self.stores.decided(groups),
                    Effect::StoresGoBy(authority) => self.stores.go_by(authority),
                    Effect::Leave => self.must_leave = true,
                    Effect::OpenStore {
                        store,
                        persistent,
                        use_here: true,
                        watch,
                    } => self.stores.begin(store, persistent, watch),
                    Effect::OpenStore {
                        store, persistent, ..
                    } => self.stores.asked(store, persistent),
                    Effect::NeedStore { store, need, asker } => {
                        self.stores.needed(store, need, asker);
                    }
                    Effect::WriteStore {
                        store,
                        op,
                        level,
                        within,
                        token,
                    } => self.stores.write(&store, op, level, within, token),
                    Effect::StartInputs => self.start_input(),
                    Effect::Report(report) => match report.severity {
                        Severity::Info => tracing::info!("{}", report.text),
                        Severity::Warning => tracing::warn!("{}", report.text),
                        Severity::Error => tracing::error!("{}", report.text),
                    },
                }
            }
        }
    }

    fn ping(&self, peer: EndpointId) {
        let (endpoint, pongs) = (self.endpoint.clone(), self.pongs.0.clone());
        let node = std::thread::current();
        self.runtime.spawn(async move {
            let answer = tokio::time::timeout(PONG_LIMIT, endpoint.ping(peer)).await;
            if matches!(answer, Ok(Some(_))) && pongs.try_send(peer).is_ok() {
                node.unpark();
            }
        });
    }

    fn describe_peers(&mut self, to: EndpointId) {
        let reply = PeersReply::new(&self.node, &self.endpoint.counts());
        if let Ok(topic) = Topic::new(format!("muster/peers/{to}/")) {
            let mut event = Vec::new();
            zeek::put_event(
                &mut event,
                PeersReply::NAME,
                zeek::Metadata::default(),
                |out| {
                    reply.encode(out);
                },
            );
            let _ = self
                .publisher
                .publish_encoded(&topic, Bytes::from(event), Class::Interactive);
        }
    }

    fn write(&mut self, batch: LogBatch, delivery: Option<LogDelivery>, sequence: u64) {
        let (now, is_waited_for) = (self.clock.now(), delivery.is_some());
        let (stream, records) = (batch.stream.clone(), batch.len() as u64);
        let writer = self.log_writer.as_ref();
        if writer.is_some_and(|it| it.write(batch, delivery, sequence)) {
            return;
        }
        if is_waited_for {
            return self.node.step(LoopInput::NotTaken { sequence }, now);
        }
        let lost = LoopInput::Written {
            sequence,
            refusal: Some(BatchRefusal::CannotWrite),
            stream: &stream,
            records: 0,
            failed: records,
            gone: 0,
            problem: Some("too many records wait to be written"),
        };
        self.node.step(lost, now);
    }
}
