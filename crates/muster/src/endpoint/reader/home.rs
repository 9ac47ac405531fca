//! The first moments of a peer of version 1: what it says is relayed once its home is known.

use std::time::Duration;

use tokio::io::AsyncRead;

use super::{Reader, Shared, Table};
use crate::endpoint::config::Forwarding;
use crate::endpoint::peer_session::PeerSession;

/// How long nothing is read from a peer of version 1 whose home is not announced: longer than announcements wait.
const LIMIT: Duration = Duration::from_secs(2);

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Waits, before anything is read from a peer of version 1 that may have its home here, until this endpoint has
    /// announced it: nobody would relay what it says before that.
    pub(super) async fn wait_for_home(&mut self) {
        let config = &self.shared.config;
        let relays = config.forwarding == Forwarding::Relay && config.relay_version_1;
        if !relays || !self.session.is_guest {
            return;
        }
        let guest = self.session.info.id;
        let mut version = self.shared.table_version.subscribe();
        let announced = async {
            loop {
                version.borrow_and_update();
                let is_announced = {
                    let table = self.shared.table.load();
                    let routes = table.mesh();
                    let is_alone = routes.is_none_or(|routes| routes.nodes().count() < 2);
                    is_alone || routes.is_some_and(|routes| routes.has_guest(routes.me(), guest))
                };
                if is_announced || version.changed().await.is_err() {
                    return;
                }
            }
        };
        self.session.set_reader_waits(true);
        let _ = tokio::time::timeout(LIMIT, announced).await;
        self.session.set_reader_waits(false);
    }
}

/// Returns `true` if what a peer of version 1 says is relayed by nobody, although there is a mesh.
pub(super) fn is_homeless(shared: &Shared, table: &Table, session: &PeerSession) -> bool {
    if !session.is_guest || shared.config.forwarding == Forwarding::Direct {
        return false;
    }
    table
        .mesh()
        .is_some_and(|routes| !routes.has_home(session.info.id) && routes.nodes().count() > 1)
}
