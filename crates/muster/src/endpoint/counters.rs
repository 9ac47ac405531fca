//! What an endpoint counts, described.

use muster_wire::counters::{Counter, Descriptor};

use super::counts::{EndpointCounts, PeerReport};

pub(crate) mod mesh {
    muster_wire::counters! {
        /// Messages handed on to other peers. It is the load that this endpoint carries for others: with much of it, a
        /// direct link between the two ends is worth its while (`peering.direct`).
        pub(crate) RELAYED = counter("muster_mesh_relayed_messages_total").key("mesh_relayed");
        /// Messages of peers of version 1 (Zeek, Broker) that have their home here: `in` was published in the mesh in
        /// their names, `out` was handed to them.
        pub(crate) FROM_VERSION_1 = counter("muster_mesh_version_1_messages_total")
            .key("mesh_from_version_1")
            .fixed(&[("direction", "in")]);
        pub(crate) TO_VERSION_1 = FROM_VERSION_1
            .key("mesh_to_version_1")
            .fixed(&[("direction", "out")]);
        /// Messages of peers of version 1 that were left to another endpoint, their home, which takes them. Nothing is
        /// lost.
        pub(crate) LEFT_TO_HOME = counter("muster_mesh_left_to_home_messages_total").key("mesh_left_to_home");
        /// Messages that had been here before and came by a second way. Some come with every change of links; nothing
        /// is lost.
        pub(crate) DUPLICATE = counter("muster_mesh_duplicate_messages_total").key("mesh_duplicate");
        /// Messages so much older than others of their origin that nobody knows whether they had been here, and which
        /// were dropped. Any growth means that a way through the mesh is seconds slower than another.
        pub(crate) TOO_OLD = counter("muster_mesh_too_old_messages_total").key("mesh_too_old");
        /// Own messages that came back. Some come with changes of links; nothing is lost.
        pub(crate) RETURNED = counter("muster_mesh_returned_messages_total").key("mesh_returned");
        /// Messages of an endpoint that is not known here, which were dropped. Growth beyond the moments in which
        /// nodes join or leave means that this endpoint does not hear of them: look at
        /// `muster_mesh_records_refused_total`.
        pub(crate) UNKNOWN_ORIGIN = counter("muster_mesh_unknown_origin_messages_total").key("mesh_unknown_origin");
        /// Messages that were not handed on because they had passed as many endpoints as a message may. Any growth means
        /// that the mesh is a chain that is too long: give it more links.
        pub(crate) HOPS_EXHAUSTED = counter("muster_mesh_hops_exhausted_messages_total").key("mesh_hops_exhausted");
        /// Messages that arrived behind a later one of their origin and class. They are delivered, except to subscribers that
        /// ask for order.
        pub(crate) REORDERED = counter("muster_mesh_reordered_messages_total").key("mesh_reordered");
        /// Large messages that came in parts of which one was missing or too much, and which were dropped. Growth beyond
        /// changes of links means that links drop messages of the class bulk: raise `peering.bulk_queue`.
        pub(crate) FRAGMENTS_LOST = counter("muster_mesh_fragments_lost_messages_total").key("mesh_fragments_lost");
        /// Connections that were ended because the unfinished frames of all of them together held too much memory, and theirs
        /// was the oldest. Any growth means that peers send large messages and stop in their midst, on purpose or over links
        /// that are too slow for them: the log names them.
        pub(crate) UNFINISHED_GIVEN_UP = counter("muster_unfinished_frames_given_up_total").key("unfinished_frames_given_up");
        /// Peers that were lost because their filters, with those of all others, would take more memory than is for them
        /// (`EndpointConfig::peer_filters`). Any growth means that peers subscribe to very many topics: the log names them.
        pub(crate) FILTERS_REFUSED = counter("muster_peer_filters_refused_total").key("peer_filters_refused");
        /// Questions of neighbours whether a peer, of which they hear nothing, is heard here. Growth means that links of theirs
        /// are silent: look at what `muster_mesh_links_cut_off_total` says there.
        pub(crate) WITNESSED = counter("muster_mesh_witness_questions_total").key("mesh_witness_questions");
        /// Links that were given up because nothing came over them while another endpoint heard the peer. Any growth means
        /// that the network drops what two machines send to one another: the log names the peers.
        pub(crate) CUT_OFF = counter("muster_mesh_links_cut_off_total").key("mesh_links_cut_off");
        /// Links that were ended because the endpoint at their other end was fenced here, as it was decided to be out of the
        /// cluster. Any growth means that a node hung, or was taken for one that does: the log names it.
        pub(crate) FENCED = counter("muster_peers_fenced_total").key("peers_fenced");
        /// Links that were ended because the endpoint at their other end has fenced this one. Any growth means that this
        /// process was stopped, or so slow that others took it for dead: look at its load and at its machine.
        pub(crate) FENCED_BY_PEERS = counter("muster_fenced_by_peers_total").key("fenced_by_peers");
        /// Messages of peers of version 1 that nobody relayed into the mesh, as no endpoint that they are linked with is their
        /// home. Growth means that Zeek nodes are linked with leaves alone, or that relays do not take them
        /// (`peering.relay_version_1`): link them with a relay.
        pub(crate) WITHOUT_HOME = counter("muster_mesh_without_home_messages_total").key("mesh_without_home");
        /// Handshakes with endpoints that belong to another cluster, which were refused. Any growth means that a node dials
        /// an address or a port of another cluster: the log names both clusters and the address.
        pub(crate) OTHER_CLUSTER = counter("muster_other_cluster_connections_total").key("other_cluster");
        /// How often a class of traffic waited because the peer had granted no more credit. Growth means that a peer reads
        /// more slowly than is published: look at its load.
        pub(crate) CREDIT_WAITS = counter("muster_mesh_credit_waits_total").key("mesh_credit_waits");
        /// Bytes of compressed frames that were received from slow links.
        pub(crate) COMPRESSED_IN = counter("muster_mesh_compressed_in_bytes_total").key("mesh_compressed_in");
        /// Bytes that the compressed frames received have uncompressed. The ratio to
        /// `muster_mesh_compressed_in_bytes_total` is what compression gains.
        pub(crate) COMPRESSED_IN_ORIGINAL = counter("muster_mesh_compressed_in_original_bytes_total")
            .key("mesh_compressed_in_original");
        /// Bytes of compressed frames that were sent over slow links.
        pub(crate) COMPRESSED_OUT = counter("muster_mesh_compressed_out_bytes_total").key("mesh_compressed_out");
        /// Bytes that the compressed frames sent have uncompressed. The ratio to
        /// `muster_mesh_compressed_out_bytes_total` is what compression gains.
        pub(crate) COMPRESSED_OUT_ORIGINAL = counter("muster_mesh_compressed_out_original_bytes_total")
            .key("mesh_compressed_out_original");
    }
}

mod peers {
    muster_wire::counters! {
        /// Peerings that stand. A node that should be linked and has 0 is down or out of reach; peers that are no nodes, and
        /// former ones, are together as `other`.
        pub(super) CONNECTED = gauge("muster_peer_connected").labels(&["peer"]);
        /// Messages that crossed the peering, refused ones included.
        pub(super) MESSAGES_IN = counter("muster_peer_messages_total")
            .fixed(&[("direction", "in")])
            .labels(&["peer"]);
        pub(super) MESSAGES_OUT = MESSAGES_IN
            .fixed(&[("direction", "out")])
            .labels(&["peer"]);
        /// Bytes that crossed the peering: all that were received, and those of message frames that were sent.
        pub(super) BYTES_IN = counter("muster_peer_bytes_total")
            .fixed(&[("direction", "in")])
            .labels(&["peer"]);
        pub(super) BYTES_OUT = BYTES_IN
            .fixed(&[("direction", "out")])
            .labels(&["peer"]);
        /// Messages of the peer that were refused: malformed, or in another's name. Any growth means a defect of the peer, or
        /// an attempt: its log or the status of this node says which (`refused`).
        pub(super) REFUSED = counter("muster_peer_refused_messages_total").labels(&["peer"]);
        /// Messages that wait to be sent to the peer. A full queue is followed by drops or waits, as its policy says: look at
        /// the peer's load.
        pub(super) QUEUE_MESSAGES = gauge("muster_peer_queue_messages").labels(&["peer"]);
        /// Memory that the messages for the peer keep alive.
        pub(super) QUEUE_BYTES = gauge("muster_peer_queue_bytes").labels(&["peer"]);
    }
}

mod connections {
    muster_wire::counters! {
        /// Connections that were refused before they became peerings: no certificate, another protocol, too many. Growth
        /// means that somebody is misconfigured, or knocks: the node's log has the addresses.
        pub(super) REFUSED = counter("muster_connections_refused_total");
    }
}

impl EndpointCounts {
    /// The descriptors of [`EndpointCounts::mesh`], [`PeerReport::counters`] and the counts of connections.
    pub const DESCRIPTORS: [&'static [Descriptor]; 3] = [mesh::ALL, peers::ALL, connections::ALL];
}

/// The counter of refused connections.
pub(crate) fn connections_refused(connections: u64) -> Counter {
    connections::REFUSED.of(connections)
}

impl PeerReport {
    /// Returns what crossed the peering and what was dropped, with `name` for the peer.
    pub fn counters(&self, name: &str) -> Vec<Counter> {
        let values = [
            (peers::CONNECTED, self.connected.into()),
            (peers::MESSAGES_IN, self.messages_in),
            (peers::MESSAGES_OUT, self.messages_out),
            (peers::BYTES_IN, self.bytes_in),
            (peers::BYTES_OUT, self.bytes_out),
            (peers::REFUSED, self.refused.total()),
            (peers::QUEUE_MESSAGES, self.queued as u64),
            (peers::QUEUE_BYTES, self.queued_bytes as u64),
        ];
        let values = values.into_iter();
        let counters = values.map(|(what, value)| what.of_each([("peer", name.to_owned())], value));
        counters
            .chain(self.dropped.counters("peer", name))
            .collect()
    }
}
