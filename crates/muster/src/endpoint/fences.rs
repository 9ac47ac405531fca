//! Fences: what an endpoint does with another that is decided to be out.

use muster_wire::EndpointId;

use super::Endpoint;
use super::owner::Command;

impl Endpoint {
    /// Fences an endpoint of which it is decided elsewhere that it is out, as it hangs: its connections may stand for long.
    /// When this returns,
    ///
    /// - a peering with it, of any protocol, has ended. What was queued for it is dropped, and counted like that of a peer
    ///   that is lost. It is told why if it reads at once. [`Status::PeerLost`](crate::Status::PeerLost) follows, with
    ///   [`LossReason::Fenced`](crate::LossReason::Fenced);
    /// - nothing is led through it any more, although others may announce their links with it still;
    /// - it is out of reach ([`Status::EndpointUnreachable`](crate::Status::EndpointUnreachable)), as far as it has
    ///   announced nothing since.
    ///
    /// An id stands for one life. As long as that is fenced it may be peered with again, since it may be alive after all
    /// and has to hear that it is out: from then on it is reached, and heard, but still nothing is led through it. Without
    /// any sign of life it is like that after three seconds for as long as somebody says to be linked with it. A dial of
    /// it goes on.
    ///
    /// The fence lasts until [`Endpoint::unfence`], and need not be of an endpoint that is known. Of 1,024 fences the
    /// oldest ends for another one. The endpoint's own id is never fenced. To fence once more ends the peering once more.
    pub async fn fence(&self, id: EndpointId) {
        self.owner.call(|done| Command::Fence(id, done)).await;
    }

    /// Ends the fence of an endpoint that was admitted again. Messages may be led through it when this returns. Does
    /// nothing if it was not fenced.
    pub async fn unfence(&self, id: EndpointId) {
        self.owner.call(|done| Command::Unfence(id, done)).await;
    }
}
