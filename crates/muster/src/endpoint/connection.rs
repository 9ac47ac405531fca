//! One connection: its handshake, then its life as a peering, over any byte stream.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use muster_wire::frame::{self, HEADER, HELLO_LIMIT, Next};
use muster_wire::peering::{ConnectionId, HandshakeError, Protocol};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::end_reason::{EndReason, LossReason, UnavailableReason};
use super::intake::{Intake, TooMuchUnfinished};
use super::last_words::{self, LastWords};
use super::owner::{Command, ConnectionCommand, OwnerHandle};
use super::peer_session::PeerSession;
use super::reader::Reader;
use super::shared::{Shared, count};
use super::silence::{Look, Silence};
use super::status::{PeerOrigin, Transport};
use super::stranger::{self, ForeignProtocol};
use super::tls::{ConnectionError, Secured};
use super::writer;

/// Commands for one connection during its handshake, which takes fewer than ten.
const CONNECTION_COMMANDS: usize = 32;

/// How long the writer may take to notice that the peering has ended.
const WRITER_GRACE: Duration = Duration::from_millis(200);

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum ConnectionEnd {
    /// Nobody was there.
    Unreachable(UnavailableReason),
    /// No peering came about.
    Failed(UnavailableReason),
    /// There is a peering with that endpoint by another connection.
    Redundant(muster_wire::EndpointId),
    /// It was a peering.
    Ended(EndReason),
}

/// Runs a connection over what TLS has made of its stream.
pub(crate) async fn run_secured(
    secured: Secured,
    shared: Arc<Shared>,
    owner: OwnerHandle,
    address: String,
    origin: PeerOrigin,
) -> ConnectionEnd {
    match secured {
        Secured::Plain(socket) => {
            let made = (origin, socket.transport());
            let (reader, writer) = socket.into_split();
            run(reader, writer, shared, owner, address, made).await
        }
        Secured::Tls(stream, transport) => {
            let made = (origin, transport);
            let (reader, writer) = tokio::io::split(stream);
            run(reader, writer, shared, owner, address, made).await
        }
    }
}

/// Runs a connection from its first byte to its last.
pub(crate) async fn run<R, W>(
    mut reader: R,
    mut writer: W,
    shared: Arc<Shared>,
    owner: OwnerHandle,
    address: String,
    (origin, transport): (PeerOrigin, Transport),
) -> ConnectionEnd
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let (sender, mut commands) = mpsc::channel(CONNECTION_COMMANDS);
    let connected = owner
        .call(|done| Command::Connected {
            commands: sender,
            address,
            origin,
            transport,
            done,
        })
        .await;
    let Some(connection) = connected else {
        return ConnectionEnd::Failed(UnavailableReason::NotWanted);
    };
    let mut buffer = BytesMut::new();
    let (give_up, given_up) = watch::channel(None);
    let give_up = move |reason| {
        give_up.send_replace(Some(reason));
    };
    let held = Held {
        intake: Intake::new(Arc::clone(&shared.handshake_intake), give_up),
        given_up,
    };
    // The handshake's own limit names the cause; this one catches a peer that does not read.
    let limit = shared.config.handshake_timeout + Duration::from_secs(1);
    let handshake = shake_hands(
        &mut reader,
        &mut writer,
        &mut buffer,
        &mut commands,
        &owner,
        connection,
        held,
    );
    let outcome = match tokio::time::timeout(limit, handshake).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ConnectionEnd::Failed(UnavailableReason::HandshakeTimeout)),
    };
    let end = match outcome {
        Ok(session) => ConnectionEnd::Ended(
            run_peering(reader, writer, buffer, &shared, &owner, session).await,
        ),
        Err(end) => {
            let _ = tokio::time::timeout(WRITER_GRACE, writer.shutdown()).await;
            end
        }
    };
    owner.send(Command::Closed(connection)).await;
    end
}

/// What a handshake holds of unfinished frames.
struct Held {
    intake: Intake,
    /// Whether others need the room.
    given_up: watch::Receiver<Option<TooMuchUnfinished>>,
}

impl Held {
    /// Waits until the handshake is given up.
    async fn until_given_up(&mut self) -> UnavailableReason {
        let given_up = self.given_up.wait_for(Option::is_some).await;
        let reason = given_up.ok().and_then(|reason| *reason);
        reason.map_or(UnavailableReason::NotWanted, UnavailableReason::from)
    }
}

async fn shake_hands<R, W>(
    reader: &mut R,
    writer: &mut W,
    buffer: &mut BytesMut,
    commands: &mut mpsc::Receiver<ConnectionCommand>,
    owner: &OwnerHandle,
    connection: ConnectionId,
    mut held: Held,
) -> Result<Arc<PeerSession>, ConnectionEnd>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let failed = ConnectionEnd::Failed;
    let mut waiting_for_owner = false;
    let mut heard = false;
    let mut unwritten = None;
    let mut limit = HELLO_LIMIT;
    loop {
        if !waiting_for_owner {
            let next = frame::next(buffer, limit).map_err(|error| {
                if stranger::is_tls(buffer) {
                    return failed(UnavailableReason::PeerSpeaksTls);
                }
                let foreign = ForeignProtocol::of(buffer).map(UnavailableReason::Foreign);
                failed(foreign.unwrap_or_else(|| error.into()))
            })?;
            if let Next::Complete(length) = next {
                let payload = buffer[HEADER..HEADER + length].to_vec();
                buffer.advance(HEADER + length);
                held.intake.finished();
                // Frames behind the last of the handshake belong to the peering: one at a time.
                waiting_for_owner = true;
                heard = true;
                owner.send(Command::Frame(connection, payload)).await;
            }
        }
        tokio::select! {
            command = commands.recv() => match command {
                Some(ConnectionCommand::Write(_)) if unwritten.is_some() => {}
                Some(ConnectionCommand::Write(frame)) => {
                    let written = async {
                        writer.write_all(&frame).await?;
                        writer.flush().await
                    };
                    match written.await {
                        // What the other side said before may be why; there is nothing to add to it.
                        Err(error) if last_words::is_gone(&error) => unwritten = Some(error.kind()),
                        Err(error) => return Err(failed(ended(error, heard))),
                        Ok(()) => {}
                    }
                }
                Some(ConnectionCommand::Continue { limit: next }) => {
                    waiting_for_owner = false;
                    limit = next;
                }
                Some(ConnectionCommand::Become(session)) => return Ok(session),
                Some(ConnectionCommand::Close(HandshakeError::Redundant { peer })) => {
                    return Err(ConnectionEnd::Redundant(peer));
                }
                Some(ConnectionCommand::Close(reason)) => return Err(failed(reason.into())),
                None => return Err(failed(UnavailableReason::NotWanted)),
            },
            read = reader.read_buf(buffer), if !waiting_for_owner => match (read, unwritten) {
                (Ok(0) | Err(_), Some(kind)) => {
                    return Err(failed(ended(kind.into(), heard)));
                }
                (Ok(0), _) if !heard => return Err(failed(UnavailableReason::ClosedInSilence)),
                (Ok(0), _) => return Err(failed(UnavailableReason::ClosedInHandshake)),
                (Ok(_), _) => held.intake.unfinished(buffer.capacity()).map_err(|reason| failed(reason.into()))?,
                (Err(error), _) => return Err(failed(ended(error, heard))),
            },
            reason = held.until_given_up() => return Err(failed(reason)),
        }
    }
}

/// Why a connection ended during its handshake.
fn ended(error: io::Error, heard: bool) -> UnavailableReason {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe if !heard => {
            UnavailableReason::ClosedInSilence
        }
        _ => ConnectionError::from(error).into(),
    }
}

/// Pings the peer when it is silent, and says when it has been silent for too long.
async fn heartbeat(session: &PeerSession, shared: &Shared) -> EndReason {
    let heartbeat = shared.config.heartbeat;
    let interval = heartbeat.interval;
    if interval.is_zero() {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    // A process that was stopped itself has much to read when it goes on: what it missed is no silence.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silence = Silence::default();
    loop {
        ticks.tick().await;
        shared.recycling.trim();
        let reads = session.counts.reads.load(Ordering::Relaxed);
        let is_heard_elsewhere = session.was_heard_elsewhere();
        if session.reader_waits() {
            // It is this side that is slow: it reads nothing and answers no pings, but it is there.
            silence.heard(reads);
            let _ = session.ping();
            continue;
        }
        match silence.look(reads, heartbeat, is_heard_elsewhere) {
            Look::Heard => {}
            Look::Ask => {
                // Whoever measures the time gets pongs of its own.
                let _ = session.ping();
                if session.info.protocol == Protocol::V2 {
                    shared.ask_witnesses(session.info.id);
                }
            }
            Look::Lost(reason) => {
                if matches!(reason, LossReason::CutOff(_)) {
                    count(&shared.mesh.cut_off);
                }
                return reason.into();
            }
        }
    }
}

async fn run_peering<R, W>(
    stream: R,
    writer: W,
    buffer: BytesMut,
    shared: &Arc<Shared>,
    owner: &OwnerHandle,
    session: Arc<PeerSession>,
) -> EndReason
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let bye_timeout = shared.config.bye_timeout;
    let writer = writer::run(LastWords::new(writer), Arc::clone(&session), bye_timeout);
    let mut writer = tokio::spawn(writer);
    let mut reader = Reader::new(
        stream,
        buffer,
        Arc::clone(shared),
        owner.clone(),
        Arc::clone(&session),
    );
    tokio::select! {
        reason = reader.run() => session.queue.end(reason),
        reason = heartbeat(&session, shared) => session.queue.end(reason),
        () = session.queue.until_ended() => {}
        _ = &mut writer => {
            poll_fn(|cx| session.queue.poll_ended(cx)).await;
        }
    }
    // What has come of a frame must not be kept for as long as the writer needs.
    drop(reader);
    if !writer.is_finished()
        && tokio::time::timeout(WRITER_GRACE, &mut writer)
            .await
            .is_err()
    {
        writer.abort();
        // Its counts are complete when it is gone.
        let _ = writer.await;
    }
    let ended = session.queue.ended();
    ended.unwrap_or_else(|| LossReason::Closed.into())
}
