//! The counters of a gateway and a bridge.

use muster_wire::counters::{Counter, Descriptor};

use crate::client::BridgeCounts;
use crate::clients::GatewayCounts;

mod gateway {
    muster_wire::counters! {
        /// WebSocket clients that are connected.
        pub(super) CLIENTS = gauge("muster_gateway_clients");
        /// Messages that wait for WebSocket clients. Growth means that clients read too slowly; they lose their
        /// connection, or their oldest messages, as `gateway.overflow` says.
        pub(super) QUEUE = gauge("muster_gateway_queue_messages");
        /// WebSocket clients that were connected so far. Fast growth means that clients come again and again: look at
        /// the reasons in their own logs.
        pub(super) ACCEPTED = counter("muster_gateway_clients_accepted_total");
        /// Connections that were turned away: for want of a token or of room, or because a handshake failed. Growth means
        /// that a client is misconfigured, or that somebody knocks.
        pub(super) TURNED_AWAY = counter("muster_gateway_connections_turned_away_total");
        /// Events of WebSocket clients: `in` was published by them, `out` was given to them, one for each client that got it.
        pub(super) EVENTS_IN = counter("muster_gateway_events_total").fixed(&[("direction", "in")]);
        pub(super) EVENTS_OUT = EVENTS_IN.fixed(&[("direction", "out")]);
        /// Messages of WebSocket clients that were answered with an error. Growth means that a client sends what is no event,
        /// or publishes where its token does not allow it: the error names the reason.
        pub(super) REFUSED = counter("muster_gateway_refused_messages_total");
        /// Messages that matched a client's subscription but are no events, as log records are, and were skipped. Nothing is
        /// wrong with them.
        pub(super) NOT_EVENTS = counter("muster_gateway_not_event_messages_total");
    }
}

mod bridge {
    muster_wire::counters! {
        /// 1 if the bridge is connected with its server. If it stays 0, `muster status` says why.
        pub(super) CONNECTED = gauge("muster_bridge_connected");
        /// Connections to the server that came about. Growth means that connections break: `muster status` has the last reason.
        pub(super) CONNECTIONS = counter("muster_bridge_connections_total");
        /// Events that crossed the bridge: `in` from the server, `out` to it.
        pub(super) EVENTS_IN = counter("muster_bridge_events_total").fixed(&[("direction", "in")]);
        pub(super) EVENTS_OUT = EVENTS_IN.fixed(&[("direction", "out")]);
        /// Errors that the server answered with. Growth means that it refuses what the bridge publishes: look at the token
        /// and the topics of the bridge.
        pub(super) ERRORS = counter("muster_bridge_errors_total");
        /// Messages that matched the bridge's topics but are no events, and were skipped. Nothing is wrong with them.
        pub(super) NOT_EVENTS = counter("muster_bridge_not_event_messages_total");
    }
}

impl GatewayCounts {
    /// What [`GatewayCounts::counters`] returns, besides dropped messages.
    pub const DESCRIPTORS: &'static [Descriptor] = gateway::ALL;

    /// Returns all that a gateway counts.
    pub fn counters(&self) -> Vec<Counter> {
        let queued: usize = self.clients.iter().map(|client| client.queued.0).sum();
        let own = [
            gateway::CLIENTS.of(self.clients.len() as u64),
            gateway::QUEUE.of(queued as u64),
            gateway::ACCEPTED.of(self.accepted),
            gateway::TURNED_AWAY.of(self.turned_away),
            gateway::EVENTS_IN.of(self.events_in),
            gateway::EVENTS_OUT.of(self.events_out),
            gateway::REFUSED.of(self.refused),
            gateway::NOT_EVENTS.of(self.not_events),
        ];
        own.into_iter()
            .chain(self.dropped.counters("websocket", ""))
            .chain(self.inbox_dropped.counters_of_subscriber("gateway"))
            .collect()
    }
}

impl BridgeCounts {
    /// What [`BridgeCounts::counters`] returns, besides dropped messages.
    pub const DESCRIPTORS: &'static [Descriptor] = bridge::ALL;

    /// Returns all that a bridge counts.
    pub fn counters(&self) -> Vec<Counter> {
        let own = [
            bridge::CONNECTED.of(self.connected.into()),
            bridge::CONNECTIONS.of(self.connections),
            bridge::EVENTS_IN.of(self.events_in),
            bridge::EVENTS_OUT.of(self.events_out),
            bridge::ERRORS.of(self.errors),
            bridge::NOT_EVENTS.of(self.not_events),
        ];
        own.into_iter()
            .chain(self.dropped.counters_of_subscriber("bridge"))
            .collect()
    }
}
