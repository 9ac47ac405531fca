//! An endpoint of a mesh made of the pure parts, which can send what no honest one does.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster::wire::frame::{self, Next};
use muster::wire::mesh::codec::{Decoder, Encoder, Frame, OwnedFrame};
use muster::wire::mesh::{Config, Decision, Identity, Mesh};
use muster::wire::peering::{Action, ConnectionId, Offer, Peering, Protocol};
use muster::wire::{EndpointId, Filter, Incarnation, Mono, Wall};
use muster_test_support::within;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A member of a mesh.
pub(crate) struct Member {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) buffer: Vec<u8>,
    pub(crate) peer: EndpointId,
    pub(crate) mesh: Mesh,
    pub(crate) encoder: Encoder,
    decoder: Decoder,
    start: Instant,
}

impl Member {
    /// Shakes hands and joins.
    pub(crate) async fn join(me: EndpointId, address: &str) -> Self {
        let mut member = Self::shake_hands(me, address).await;
        member.is_up().await;
        member
    }

    /// Shakes hands alone.
    pub(crate) async fn shake_hands(me: EndpointId, address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self::over(Box::new(stream), me, Config::default()).await
    }

    /// Shakes hands over a stream that stands.
    pub(crate) async fn over(mut stream: Box<dyn Stream>, me: EndpointId, config: Config) -> Self {
        let offer = Offer::V2 { relays: true };
        let mut peering = Peering::new(me, Duration::from_secs(10)).with_offer(offer);
        let connection = ConnectionId(1);
        peering.dialled(connection, Mono::default());
        let mut buffer = Vec::new();
        let peer = 'established: loop {
            while let Some(action) = peering.poll() {
                match action {
                    Action::Send(_, frame) => stream.write_all(&frame).await.unwrap(),
                    Action::Established { peer, protocol, .. } => {
                        assert_eq!(protocol, Protocol::V2);
                        break 'established peer;
                    }
                    Action::Close { reason, .. } => panic!("{reason}"),
                }
            }
            if let Some(payload) = next_frame(&mut buffer) {
                peering.frame(connection, &payload);
            } else {
                assert_ne!(within(stream.read_buf(&mut buffer)).await.unwrap(), 0);
            }
        };
        let identity = Identity {
            id: me,
            incarnation: Incarnation(1),
            name: String::new(),
            role: String::new(),
            machine: String::new(),
            transit: true,
            homes: false,
        };
        let mut member = Self {
            stream,
            buffer,
            peer,
            mesh: Mesh::new(identity, config),
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            start: Instant::now(),
        };
        let now = member.now();
        member.mesh.set_wall(Wall(1_700_000_000));
        member
            .mesh
            .subscribe(Filter::from_prefixes(["/member"]), now);
        member.mesh.peer_up(peer, now);
        member
    }

    /// Waits until it is a member of its peer's mesh.
    pub(crate) async fn is_up(&mut self) {
        let peer = self.peer;
        within(async {
            while !self.mesh.up().contains(&peer) {
                self.pump().await;
            }
        })
        .await;
    }

    pub(crate) fn now(&self) -> Mono {
        Mono::default().after(self.start.elapsed())
    }

    /// Does what the mesh wants for a moment.
    pub(crate) async fn pump(&mut self) {
        let now = self.now();
        self.mesh.tick(now);
        while let Some(decision) = self.mesh.poll() {
            if let Decision::Send { frame, .. } = decision {
                self.send(&OwnedFrame::Mesh(Arc::unwrap_or_clone(frame)))
                    .await;
            }
        }
        let read = self.stream.read_buf(&mut self.buffer);
        let _ = tokio::time::timeout(Duration::from_millis(5), read).await;
        while let Some(payload) = next_frame(&mut self.buffer) {
            let now = self.now();
            if let Ok(Frame::Mesh(frame)) = self.decoder.read(&payload) {
                self.mesh.receive(self.peer, frame, now);
            }
        }
    }

    pub(crate) async fn send(&mut self, frame: &OwnedFrame) {
        let mut bytes = Vec::new();
        frame.write(&mut self.encoder, &mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
    }
}

fn next_frame(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let Ok(Next::Complete(length)) = frame::next(buffer, 1 << 24) else {
        return None;
    };
    let rest = buffer.split_off(frame::HEADER + length);
    let whole = std::mem::replace(buffer, rest);
    Some(whole[frame::HEADER..].to_vec())
}
