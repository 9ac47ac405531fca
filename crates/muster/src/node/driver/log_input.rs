//! What a node reads: the input's thread, and its batches on their way into the loop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::time::Instant;

use muster_cluster::Watermarks;
use muster_cluster::node::Input as LoopInput;

use super::Driver;
use crate::node::input::{InputItem, InputSender};

/// Batches of an input that wait for the loop.
const INPUT_BATCHES: usize = 4;

/// The name of a node's log input, for watermarks.
const INPUT_NAME: &str = "logs";

impl Driver {
    pub(super) fn start_input(&mut self) {
        let Some(input) = self.input.take() else {
            return;
        };
        let (items, receiver) = sync_channel(INPUT_BATCHES);
        let stop = Arc::clone(&self.input_stop);
        let sender = InputSender {
            items,
            node: std::thread::current(),
            stop,
        };
        let name = format!("input of {}", self.node.name());
        match std::thread::Builder::new()
            .name(name)
            .spawn(move || input(sender))
        {
            Ok(_) => self.items = Some(receiver),
            Err(error) => {
                tracing::error!("cannot start the input's thread: {error}");
                self.input_ended();
            }
        }
    }

    /// Takes one batch of the input, unless a peer is behind; says whether there was one.
    pub(super) fn read_input(&mut self) -> bool {
        let stopping = self.input_stop.load(Ordering::Relaxed);
        if self.items.is_none()
            || (!stopping
                && (self.node.is_behind()
                    || self.node.has_many_records()
                    || self.node.has_many_keyed_events()
                    || self.must_wait()))
        {
            return false;
        }
        let Some(items) = &self.items else {
            return false;
        };
        match items.try_recv() {
            Ok(InputItem::Batch(batch)) => {
                let now = self.clock.now();
                for event in batch.events {
                    if let Some(payload) = batch.buffer.get(event) {
                        self.node.step(LoopInput::Raise(payload), now);
                    }
                }
                if let Some(low) = batch.low {
                    if low < Watermarks::END {
                        self.input_low = Some(low.as_nanos());
                    }
                    self.node.step(
                        LoopInput::InputLow {
                            input: INPUT_NAME,
                            low,
                        },
                        now,
                    );
                }
                self.carry_out();
                true
            }
            Ok(InputItem::Checkpoint(checkpoint)) => {
                let mark = self.node.mark_logs();
                self.carry_out();
                self.checkpoints.add(mark, checkpoint);
                true
            }
            Ok(InputItem::End(summary)) => {
                tracing::info!("input ended: {summary}");
                self.input_ended();
                true
            }
            Err(TryRecvError::Disconnected) => {
                self.input_ended();
                true
            }
            Err(TryRecvError::Empty) => false,
        }
    }

    fn must_wait(&mut self) -> bool {
        let membership = self.node.membership();
        let is_node = |id| membership.name_of(id).is_some();
        self.pacer
            .must_wait(&self.endpoint, self.backlog_limit, Instant::now(), is_node)
    }

    fn input_ended(&mut self) {
        self.items = None;
        self.input_ended = Some(true);
        self.step(LoopInput::InputEnd { input: INPUT_NAME });
    }
}
