use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use openssl::ssl::{SslContext, SslContextBuilder, SslMethod, SslVerifyMode, SslVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::endpoint::tls::{Tls, TlsContext};

/// Counts the calls that the system would get, and keeps what is written.
struct Counting {
    stream: DuplexStream,
    reads: Arc<AtomicUsize>,
    writes: Arc<AtomicUsize>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Counting {
    fn new(stream: DuplexStream) -> Self {
        Self {
            stream,
            reads: Arc::default(),
            writes: Arc::default(),
            written: Arc::default(),
        }
    }
}

impl AsyncRead for Counting {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.reads
            .fetch_add(usize::from(read.is_ready()), Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            this.writes.fetch_add(1, Ordering::Relaxed);
            this.written
                .lock()
                .unwrap()
                .extend_from_slice(&bytes[..count]);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// The lengths of the records that bytes are.
fn records(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        lengths.push(length);
        bytes = &rest[length..];
    }
    lengths
}

fn context() -> TlsContext {
    TlsContext::load(&Tls::Anonymous).unwrap()
}

/// Two anonymous ends, through a pipe with so much room.
async fn ends(room: usize) -> (TlsStream<Counting>, TlsStream<Counting>) {
    let (near, far) = tokio::io::duplex(room);
    let context = context();
    let (near, far) = tokio::join!(
        context.secure(Side::Dialler, Counting::new(near)),
        context.secure(Side::Acceptor, Counting::new(far))
    );
    (near.unwrap(), far.unwrap())
}

async fn write_pieces(stream: &mut TlsStream<Counting>, pieces: &[&[u8]]) {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut slices = &mut slices[..];
    while !slices.is_empty() {
        let written = stream.write_vectored(slices).await.unwrap();
        assert!(written > 0);
        IoSlice::advance_slices(&mut slices, written);
    }
    stream.flush().await.unwrap();
}

fn numbered(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

/// A message was a record and a write for each of its pieces, and two reads for each record.
#[tokio::test]
async fn pieces_are_few_records_in_few_calls() {
    for (payload, most_records, most_calls) in [(100, 1, 1), (RECORD - 60, 1, 1), (1 << 20, 65, 17)]
    {
        let (mut near, mut far) = ends(4 << 20).await;
        let counted = near.buffered().stream();
        let (writes, written) = (Arc::clone(&counted.writes), Arc::clone(&counted.written));
        let reads = Arc::clone(&far.buffered().stream().reads);
        let (writes_before, reads_before) = (
            writes.load(Ordering::Relaxed),
            reads.load(Ordering::Relaxed),
        );
        written.lock().unwrap().clear();
        let body = numbered(payload);
        let pieces: [&[u8]; 4] = [b"head", b"", &body, b"tail"];
        write_pieces(&mut near, &pieces).await;
        let lengths = records(&written.lock().unwrap());
        assert!(
            lengths.len() <= most_records,
            "{} of {payload}",
            lengths.len()
        );
        let writes = writes.load(Ordering::Relaxed) - writes_before;
        assert!(writes <= most_calls, "{writes} writes of {payload}");
        let mut read = vec![0; payload + 8];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(read, pieces.concat());
        let reads = reads.load(Ordering::Relaxed) - reads_before;
        assert!(reads <= most_calls, "{reads} reads of {payload}");
    }
}

/// However little the system takes at once, what is written arrives in its order, and ends in order.
#[tokio::test]
async fn pieces_arrive_whatever_the_connection_takes() {
    for room in [7, 500, 5000, 70_000] {
        let (mut near, mut far) = ends(room).await;
        let body = numbered(200_000);
        let expected = [&b"head"[..], &body, b"tail", &body[..20_000], b"."].concat();
        let write = async {
            write_pieces(&mut near, &[b"head", &body, b"tail"]).await;
            write_pieces(&mut near, &[&body[..20_000], b"."]).await;
            near.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let (end, ()) = tokio::join!(far.read_to_end(&mut read), write);
        end.unwrap();
        assert!(read == expected, "through {room}");
    }
}

/// An idle connection of hundreds has no buffers.
#[tokio::test]
async fn an_idle_connection_has_no_buffers() {
    let (mut near, mut far) = ends(1 << 20).await;
    let mut read = vec![0; 300_000];
    let body = numbered(300_000);
    write_pieces(&mut near, &[&body]).await;
    far.read_exact(&mut read).await.unwrap();
    let mut nobody = Context::from_waker(Waker::noop());
    let more = pin!(far.read(&mut read)).poll(&mut nobody);
    assert!(more.is_pending());
    for end in [&near, &far] {
        assert_eq!(end.buffered().capacity(), 0);
    }
}

/// A peer that says its end and reads nothing gets what waits, and then the end, with each look at it.
#[tokio::test]
async fn the_end_comes_behind_what_waits() {
    let (mut near, mut far) = ends(64).await;
    let body = numbered(1000);
    let mut nobody = Context::from_waker(Waker::noop());
    let written = pin!(near.write_all(&body)).poll(&mut nobody);
    assert!(written.is_ready(), "the buffer takes it");
    for _ in 0..3 {
        assert!(pin!(near.shutdown()).poll(&mut nobody).is_pending());
    }
    let mut read = Vec::new();
    let (ended, end) = tokio::join!(near.shutdown(), far.read_to_end(&mut read));
    ended.unwrap();
    end.unwrap();
    assert_eq!(read, body);
}

#[tokio::test]
async fn anonymous_ends_of_muster_speak_tls_1_3() {
    let (near, far) = ends(1 << 16).await;
    for end in [&near, &far] {
        assert_eq!(end.ssl().version_str(), "TLSv1.3");
        let cipher = end.ssl().current_cipher().unwrap();
        assert_eq!(cipher.name(), "TLS_AES_256_GCM_SHA384");
    }
    let shown = near.ssl().peer_certificate();
    assert!(shown.is_some() && far.ssl().peer_certificate().is_none());
}

/// What Broker, and Muster before it had a certificate, makes anonymous connections with.
fn brokers(change: impl FnOnce(&mut SslContextBuilder)) -> SslContext {
    let mut builder = SslContext::builder(SslMethod::tls()).unwrap();
    builder
        .set_cipher_list("AECDH-AES256-SHA@SECLEVEL=0:AECDH-AES128-SHA:ADH-AES256-SHA")
        .unwrap();
    builder.set_groups_list("P-384").unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    change(&mut builder);
    builder.build()
}

/// Version and cipher between one of ours and one of Broker's, after bytes have crossed both ways.
async fn negotiated(ours: Side, theirs: SslContext) -> (&'static str, &'static str) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let context = context();
    let other = async {
        let ssl = Ssl::new(&theirs).unwrap();
        let mut other = SslStream::new(ssl, far).unwrap();
        match ours {
            Side::Acceptor => Pin::new(&mut other).connect().await.unwrap(),
            Side::Dialler => Pin::new(&mut other).accept().await.unwrap(),
        }
        other.write_all(b"theirs").await.unwrap();
        let mut read = [0; 4];
        other.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ours");
    };
    let our = async {
        let mut our = context.secure(ours, near).await.unwrap();
        our.write_all(b"ours").await.unwrap();
        our.flush().await.unwrap();
        let mut read = [0; 6];
        our.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"theirs");
        let cipher = our.ssl().current_cipher().unwrap().name();
        (our.ssl().version_str(), cipher)
    };
    tokio::join!(our, other).0
}

#[tokio::test]
async fn who_has_no_certificate_goes_on_as_before() {
    let old = ("TLSv1.2", "AECDH-AES256-SHA");
    // A server without a certificate, as Zeek's, whatever versions it could speak.
    assert_eq!(negotiated(Side::Dialler, brokers(|_| {})).await, old);
    // A client that speaks nothing later.
    let bounded = brokers(|builder| {
        let most = Some(SslVersion::TLS1_2);
        builder.set_max_proto_version(most).unwrap();
    });
    assert_eq!(negotiated(Side::Acceptor, bounded).await, old);
    // One that does, although all it names is older suites.
    let new = ("TLSv1.3", "TLS_AES_256_GCM_SHA384");
    assert_eq!(negotiated(Side::Acceptor, brokers(|_| {})).await, new);
}

/// A peer of mutual TLS checks the certificate that is not meant to be checked.
#[tokio::test]
async fn an_acceptor_is_told_that_the_dialler_checks_certificates() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let checks = brokers(|builder| builder.set_verify(SslVerifyMode::PEER));
    let ssl = Ssl::new(&checks).unwrap();
    let mut dialler = SslStream::new(ssl, far).unwrap();
    let context = context();
    let (accepted, dialled) = tokio::join!(
        context.secure(Side::Acceptor, near),
        Pin::new(&mut dialler).connect()
    );
    assert!(dialled.is_err());
    let said = accepted.err().unwrap().to_string();
    assert!(said.contains("the peer checks certificates"), "{said}");
}
