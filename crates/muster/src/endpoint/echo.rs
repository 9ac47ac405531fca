//! Pings through the mesh: a question to an endpoint that is no direct peer, and its answer.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use muster_wire::mesh::topic_of;
use muster_wire::{Class, EndpointId, Topic};
use tokio::sync::oneshot;

use super::shared::Shared;

/// The most pings that wait for their answer.
const MAX_WAITING: usize = 64;

const QUESTION: u8 = 0;
const ANSWER: u8 = 1;

/// The pings that wait for their answer.
#[derive(Debug, Default)]
pub(crate) struct Echoes(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    pings: Vec<(EndpointId, u64, oneshot::Sender<()>)>,
}

impl Shared {
    /// Asks an endpoint of the mesh whether it is there. Returns a receiver of its answer. `None` if too many wait for
    /// theirs.
    pub(crate) fn ask(&self, id: EndpointId) -> Option<oneshot::Receiver<()>> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.echoes.lock();
        waiting.pings.retain(|(_, _, ping)| !ping.is_closed());
        if waiting.pings.len() >= MAX_WAITING {
            return None;
        }
        waiting.next += 1;
        let token = waiting.next;
        waiting.pings.push((id, token, sender));
        drop(waiting);
        self.send_echo(id, QUESTION, token);
        Some(answer)
    }

    /// Something addressed to this endpoint has come.
    pub(crate) fn addressed(&self, from: EndpointId, content: &[u8]) {
        let Some((&form, token)) = content.split_first() else {
            return;
        };
        let Ok(token) = <[u8; 8]>::try_from(token).map(u64::from_be_bytes) else {
            return;
        };
        if form == QUESTION {
            return self.send_echo(from, ANSWER, token);
        }
        let mut waiting = self.echoes.lock();
        let mut pings = waiting.pings.iter();
        if let Some(at) = pings.position(|(id, number, _)| (*id, *number) == (from, token)) {
            let (_, _, ping) = waiting.pings.swap_remove(at);
            let _ = ping.send(());
        }
    }

    fn send_echo(&self, to: EndpointId, form: u8, token: u64) {
        let Ok(topic) = Topic::new(topic_of(to)) else {
            return;
        };
        let mut content = vec![form];
        content.extend_from_slice(&token.to_be_bytes());
        let table = self.table.load();
        let message = self.message(&topic, Bytes::from(content), Class::Interactive);
        let route = table.route(topic.as_bytes());
        for peer in route.peers.iter().filter_map(|peer| table.peer(*peer)) {
            // Who asks notices what is lost.
            let _ = peer.handle.queue.push(message.clone());
        }
    }
}

impl Echoes {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
