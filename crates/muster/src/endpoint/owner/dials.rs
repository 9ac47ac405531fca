//! The dials of an endpoint: which addresses it dials, and how.

use muster_wire::EndpointId;
use muster_wire::peering::Offer;
use tokio::sync::watch;

use super::{DialStart, Owner};
use crate::endpoint::dial::DialState;
use crate::endpoint::peer_options::PeerOptions;

#[derive(Debug)]
pub(super) struct Dial {
    pub(super) offer: Offer,
    pub(super) options: PeerOptions,
    pub(super) stop: watch::Sender<bool>,
    pub(super) state: watch::Receiver<DialState>,
    pub(super) redundant: Option<EndpointId>,
}

impl Owner {
    pub(super) fn start_dial(&mut self, address: String, dial: Dial) -> DialStart {
        if self.shutting_down.is_some() {
            DialStart::Refused
        } else if let Some(dial) = self.dials.get(&address) {
            DialStart::UnderWay(dial.state.clone())
        } else {
            self.dials.insert(address, dial);
            DialStart::New
        }
    }

    pub(super) fn end_dial(&mut self, address: &str, state: &watch::Receiver<DialState>) {
        if self
            .dials
            .get(address)
            .is_some_and(|dial| dial.state.same_channel(state))
        {
            self.dials.remove(address);
        }
    }
}
