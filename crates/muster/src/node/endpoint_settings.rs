//! What a layout sets for endpoints.

use muster_cluster::{LocalMode, PeeringSettings, Settings};

use super::links;
use crate::endpoint::{Credit, EndpointConfig, Heartbeat, LocalTransport, TopicClasses};

impl EndpointConfig {
    /// Returns what the settings of a layout, or of one of its nodes, say of endpoints: the cluster's name, queues, bounds
    /// and times. Who the endpoint is, how its connections are protected and what it forwards, they do not say.
    pub fn from_settings(settings: &Settings) -> Self {
        let peering = PeeringSettings::of(settings);
        let cluster = settings.text("cluster.name");
        Self {
            cluster: (!cluster.is_empty()).then(|| cluster.to_owned()),
            relay_version_1: peering.relay_version_1,
            data_queue: peering.data.limits,
            overflow: peering.data.overflow,
            control_queue: peering.control_queue,
            credit: Credit {
                link: peering.credit,
                all: peering.credit_of_all,
            },
            frame_limit: Self::frame_limit_for(peering.largest_message),
            unfinished_frames: peering.unfinished_frames,
            heartbeat: Heartbeat {
                interval: peering.heartbeat,
                timeout: peering.heartbeat_timeout,
            },
            interactive: peering.interactive,
            bulk: peering.bulk,
            speed: links::speed(peering.slow),
            local: match peering.local {
                LocalMode::Auto => LocalTransport::Auto,
                LocalMode::Off => LocalTransport::Off,
            },
            busy_poll: peering.busy_poll,
            classes: TopicClasses {
                interactive: peering.interactive_topics,
                bulk: peering.bulk_topics,
            },
            ..Self::default()
        }
    }
}
