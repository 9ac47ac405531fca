//! What an endpoint's owner and its connections are told, and the way to the owner.

use std::sync::Arc;

use muster_wire::mesh::codec::MeshFrame;
use muster_wire::peering::{ConnectionId, HandshakeError, Offer};
use muster_wire::{EndpointId, Filter};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::endpoint::dial::DialState;
use crate::endpoint::end_reason::UnavailableReason;
use crate::endpoint::peer_options::PeerOptions;
use crate::endpoint::peer_session::PeerSession;
use crate::endpoint::status::{PeerOrigin, Transport};
use crate::endpoint::subscriber::Subscriber;
use crate::endpoint::tls::CertificateSeals;

/// Commands that wait for the owner; whoever sends more waits.
const COMMANDS: usize = 1024;

/// What the owner is told or asked.
#[derive(Debug)]
pub(crate) enum Command {
    Connected {
        commands: mpsc::Sender<ConnectionCommand>,
        address: String,
        origin: PeerOrigin,
        transport: Transport,
        done: oneshot::Sender<ConnectionId>,
    },
    Frame(ConnectionId, Vec<u8>),
    /// A connection is gone; for a peering, why is known to its queue.
    Closed(ConnectionId),
    /// The answer keeps each peer to one filter that waits here: filters can be large.
    RoutingUpdate(EndpointId, Filter, oneshot::Sender<()>),
    /// A peer of version 1 passes on what others send to it.
    Forwards(EndpointId, oneshot::Sender<()>),
    /// A peer of the mesh has said goodbye: the answer comes when nothing is routed to it any more.
    PeerLeaving(EndpointId, oneshot::Sender<()>),
    /// The subscriber comes back with its number. If nobody waits for it any longer it is dropped, and so ends.
    NewSubscriber(Vec<Box<[u8]>>, Subscriber, oneshot::Sender<Subscriber>),
    Subscribe(u64, Vec<Box<[u8]>>, oneshot::Sender<()>),
    Unsubscribe(u64, Vec<Box<[u8]>>, oneshot::Sender<()>),
    DropSubscriber(u64),
    /// The certificate was renewed.
    RenewSeals(CertificateSeals),
    StartDial {
        address: String,
        offer: Offer,
        options: PeerOptions,
        stop: watch::Sender<bool>,
        state: watch::Receiver<DialState>,
        done: oneshot::Sender<DialStart>,
    },
    /// A dial is over. It is known by its state: its address may be dialled anew already.
    EndDial(String, watch::Receiver<DialState>),
    /// The dialled endpoint is a peer already, by another connection.
    DialRedundant(String, EndpointId),
    Unavailable(String, UnavailableReason),
    Unpeer(Unpeer, oneshot::Sender<bool>),
    /// The answer comes when nothing is routed to or through it any more.
    Fence(EndpointId, oneshot::Sender<()>),
    Unfence(EndpointId, oneshot::Sender<()>),
    ShutDown(oneshot::Sender<()>),
}

/// Frames of the mesh that came from a peer.
#[derive(Debug)]
pub(crate) struct MeshFrames {
    pub(super) peer: EndpointId,
    pub(super) frames: Vec<MeshFrame>,
    /// The answer comes when the routing table knows what the frames say: what follows them may need that.
    pub(super) done: oneshot::Sender<()>,
}

/// What became of the wish to dial an address.
#[derive(Debug)]
pub(crate) enum DialStart {
    New,
    /// The address is being dialled already.
    UnderWay(watch::Receiver<DialState>),
    /// The endpoint is shutting down.
    Refused,
}

/// Which peering to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unpeer {
    Id(EndpointId),
    Address(String),
}

/// What a connection's task is told.
#[derive(Debug)]
pub(crate) enum ConnectionCommand {
    Write(Vec<u8>),
    /// The last frame has been dealt with: read the next, of so many bytes at most.
    Continue {
        limit: usize,
    },
    Become(Arc<PeerSession>),
    Close(HandshakeError),
}

/// The way to an endpoint's owner.
#[derive(Debug, Clone)]
pub(crate) struct OwnerHandle {
    commands: mpsc::Sender<Command>,
    frames: mpsc::Sender<MeshFrames>,
    missed: Arc<Notify>,
}

/// The owner's end of the way to it.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(super) commands: mpsc::Receiver<Command>,
    /// What readers of the mesh bring comes behind all commands: handshakes have a time limit, and the more
    /// links stand when a large mesh starts, the less there is to tell.
    pub(super) frames: mpsc::Receiver<MeshFrames>,
    /// Told when a command of [`OwnerHandle::tell`] had no room.
    pub(super) missed: Arc<Notify>,
}

impl OwnerHandle {
    pub(crate) fn channel() -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel(COMMANDS);
        let (frames, frames_come) = mpsc::channel(COMMANDS);
        let missed = Arc::new(Notify::new());
        let handle = Self {
            commands: sender,
            frames,
            missed: Arc::clone(&missed),
        };
        let inbox = Inbox {
            commands: receiver,
            frames: frames_come,
            missed,
        };
        (handle, inbox)
    }

    /// Sends a command, waiting for room; says whether the owner still lives.
    pub(crate) async fn send(&self, command: Command) -> bool {
        self.commands.send(command).await.is_ok()
    }

    /// Sends a command if there is room; otherwise the owner looks for itself who was abandoned.
    pub(crate) fn tell(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            self.missed.notify_one();
        }
    }

    /// Sends a command and waits for its answer; `None` when the owner has ended.
    pub(crate) async fn call<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.commands.send(command(done)).await.ok()?;
        answer.await.ok()
    }

    /// Gives frames of the mesh to the owner, and waits until the routing table knows what they say.
    pub(crate) async fn mesh_frames(&self, peer: EndpointId, frames: Vec<MeshFrame>) {
        let (done, answer) = oneshot::channel();
        let frames = MeshFrames { peer, frames, done };
        if self.frames.send(frames).await.is_ok() {
            let _ = answer.await;
        }
    }
}
