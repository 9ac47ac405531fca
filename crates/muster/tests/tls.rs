//! TLS on the peer port: all modes, and what is said when the two sides do not fit.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::cast_possible_truncation, reason = "sizes here are small")]

mod support;

use std::time::{Duration, Instant};

use muster::wire::Topic;
use muster::{
    Delivery, Endpoint, EndpointConfig, Exposure, ForeignProtocol, ListenError, PeerError,
    StartError, Tls, TlsError, TlsFailure, UnavailableReason,
};
use openssl::hash::MessageDigest;
use openssl::x509::X509;
use support::{Authority, Flaw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn endpoint(tls: Tls) -> Endpoint {
    Endpoint::start(EndpointConfig {
        tls,
        ..EndpointConfig::default()
    })
    .unwrap()
}

async fn listening(endpoint: &Endpoint) -> String {
    let address = "127.0.0.1:0".parse().unwrap();
    endpoint
        .listen(address, Exposure::Guarded)
        .await
        .unwrap()
        .to_string()
}

async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), future)
        .await
        .expect("in time")
}

/// Dials one side from the other and sends a thousand messages of some size.
async fn exchange(dialler: &Endpoint, acceptor: &Endpoint) {
    let mut subscriber = acceptor.subscribe(["/t"]).await;
    let address = listening(acceptor).await;
    within(10, dialler.peer(&address, None)).await.unwrap();
    let mut publisher = dialler.publisher();
    let topic = Topic::new("/t").unwrap();
    for _ in 0..1000 {
        let value = &[7u8; 5000][..];
        let outcome = publisher
            .publish_waiting(&topic, value, Duration::from_secs(10))
            .await;
        assert_eq!((outcome.queued_to, outcome.dropped), (1, 0));
    }
    let mut received = 0;
    while received < 1000 {
        if let Some(Delivery::Batch(batch)) = within(10, subscriber.receive()).await {
            received += batch.len();
        }
    }
    dialler.shut_down().await;
    acceptor.shut_down().await;
}

/// The reason why a dial fails, which must be known within a second.
async fn refusal(dialler: &Endpoint, acceptor: &Endpoint) -> UnavailableReason {
    let address = listening(acceptor).await;
    let start = Instant::now();
    let error = within(10, dialler.peer(&address, None)).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(1), "{error}");
    match error {
        PeerError::Unavailable { reason, .. } => reason,
        other => panic!("unexpected {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_endpoints_peer() {
    exchange(&endpoint(Tls::Anonymous), &endpoint(Tls::Anonymous)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_of_one_authority_peer_whatever_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let left = authority.certify("left", Flaw::None, None);
    let right = authority.certify("right", Flaw::None, Some("open sesame"));
    exchange(&endpoint(Tls::Mutual(left)), &endpoint(Tls::Mutual(right))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_fit_is_told_why_within_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(&directory.path().join("ours"));
    let stranger = Authority::new(&directory.path().join("theirs"));
    let good = || Tls::Mutual(authority.certify("good", Flaw::None, None));
    let foreign = || Tls::Mutual(stranger.certify("foreign", Flaw::None, None));
    let expired = || Tls::Mutual(authority.certify("expired", Flaw::Expired, None));

    let said = refusal(&endpoint(good()), &endpoint(foreign())).await;
    let refused = |reason: &UnavailableReason| match reason {
        UnavailableReason::Tls(TlsFailure::CertificateRefused(why)) => Some(why.reason),
        _ => None,
    };
    assert!(refused(&said).is_some(), "{said}");
    let said = refusal(&endpoint(good()), &endpoint(expired())).await;
    assert_eq!(refused(&said), Some("certificate has expired"), "{said}");
    let said = refusal(&endpoint(Tls::Off), &endpoint(good())).await;
    assert_eq!(said, UnavailableReason::PeerSpeaksTls);
    for mode in [good(), Tls::Anonymous] {
        let said = refusal(&endpoint(mode), &endpoint(Tls::Off)).await;
        let plain = [TlsFailure::PeerIsPlain, TlsFailure::Closed].map(UnavailableReason::Tls);
        assert!(plain.contains(&said), "{said}");
    }
}

/// An anonymous acceptor shows a certificate of nobody; that is no question of whom one trusts.
#[tokio::test(flavor = "multi_thread")]
async fn modes_that_differ_are_told_as_that() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let mutual = || endpoint(Tls::Mutual(authority.certify("good", Flaw::None, None)));
    let anonymous = endpoint(Tls::Anonymous);
    let said = refusal(&mutual(), &anonymous).await;
    let refused = matches!(said, UnavailableReason::Tls(TlsFailure::Refused(_)));
    let said = said.to_string();
    assert!(
        refused && said.contains("the peer's is anonymous"),
        "{said}"
    );
}

/// Two authorities may have one name: what is said tells them apart.
#[tokio::test(flavor = "multi_thread")]
async fn authorities_of_one_name_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let name = "x".repeat(40);
    let [ours, theirs] =
        ["a", "b"].map(|parent| Authority::new(&directory.path().join(parent).join(&name)));
    let good = ours.certify("good", Flaw::None, None);
    let pem = std::fs::read(good.cafile.as_ref().unwrap()).unwrap();
    let digest = X509::from_pem(&pem).unwrap();
    let digest = digest.digest(MessageDigest::sha256()).unwrap();
    let said = refusal(
        &endpoint(Tls::Mutual(good)),
        &endpoint(Tls::Mutual(theirs.certify("peer", Flaw::None, None))),
    )
    .await;
    let UnavailableReason::Tls(TlsFailure::CertificateRefused(refusal)) = &said else {
        panic!("unexpected {said}");
    };
    let issuer = format!("CN={name}");
    assert_eq!((&*refusal.subject, &refusal.issuer), ("CN=peer", &issuer));
    assert_eq!(refusal.trusted.len(), 1);
    assert_eq!(refusal.trusted[0].subject, issuer);
    let fingerprint: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(refusal.trusted[0].fingerprint, fingerprint.join(":"));
    let text = said.to_string();
    assert!(text.contains("another authority of that name"), "{text}");
    // One that is trusted and has expired is no question of authorities.
    let expired = ours.certify("expired", Flaw::Expired, None);
    let good = ours.certify("good", Flaw::None, None);
    let said = self::refusal(
        &endpoint(Tls::Mutual(good)),
        &endpoint(Tls::Mutual(expired)),
    )
    .await;
    assert!(
        matches!(
            &said,
            UnavailableReason::Tls(TlsFailure::CertificateRefused(refusal))
                if refusal.trusted.is_empty() && refusal.issuer == issuer
        ),
        "{said}"
    );
}

/// What is dialled may be no peer at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_dialler_is_told_what_it_has_dialled() {
    for (banner, expected) in [
        (
            &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
            UnavailableReason::Foreign(ForeignProtocol::Ssh),
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            UnavailableReason::Foreign(ForeignProtocol::Http),
        ),
        (&[0x15, 3, 1, 0, 2, 2, 70], UnavailableReason::PeerSpeaksTls),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stranger = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 27];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(banner).await.unwrap();
            stream
        });
        let error = within(10, endpoint(Tls::Off).peer(&address, None)).await;
        match error.unwrap_err() {
            PeerError::Unavailable { reason, .. } => assert_eq!(reason, expected),
            other => panic!("unexpected {other}"),
        }
        drop(within(10, stranger).await);
    }
}

/// A dialler of TLS 1.3 believes that it is done before the acceptor has seen its certificate; the
/// refusal reaches it in the peering's handshake.
#[tokio::test(flavor = "multi_thread")]
async fn a_dialler_that_the_acceptor_does_not_trust_does_not_get_in() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(&directory.path().join("ours"));
    let stranger = Authority::new(&directory.path().join("theirs"));
    let mut foreign = stranger.certify("foreign", Flaw::None, None);
    foreign.cafile = authority.certify("good", Flaw::None, None).cafile;
    let acceptor = endpoint(Tls::Mutual(authority.certify("good", Flaw::None, None)));
    let is_clear = |said: &UnavailableReason| {
        matches!(
            said,
            UnavailableReason::Tls(_)
                | UnavailableReason::ClosedInSilence
                | UnavailableReason::Connection(_)
        )
    };
    for dialler in [Tls::Mutual(foreign), Tls::Anonymous] {
        let said = refusal(&endpoint(dialler), &acceptor).await;
        assert!(is_clear(&said), "{said}");
    }
    assert!(acceptor.peers().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let good = authority.certify("good", Flaw::None, Some("secret"));
    let start = |tls| {
        Endpoint::start(EndpointConfig {
            tls: Tls::Mutual(tls),
            ..EndpointConfig::default()
        })
    };
    let error = |certificates| match start(certificates) {
        Err(StartError::Tls(error)) => error,
        other => panic!("expected a TLS error, not {other:?}"),
    };
    let missing = directory.path().join("missing.pem");
    let mut bad = good.clone();
    bad.keyfile.clone_from(&missing);
    assert!(matches!(error(bad), TlsError::File { what: "key", path, .. } if path == missing));
    let mut bad = good.clone();
    bad.certificate.clone_from(&missing);
    assert!(matches!(
        error(bad),
        TlsError::File {
            what: "certificate",
            ..
        }
    ));
    let mut bad = good.clone();
    bad.cafile = Some(missing);
    assert!(matches!(
        error(bad),
        TlsError::File {
            what: "CA file",
            ..
        }
    ));
    let mut bad = good.clone();
    bad.passphrase = None;
    assert!(matches!(error(bad), TlsError::File { what: "key", .. }));
    let mut bad = good.clone();
    bad.keyfile = authority
        .certify("other", Flaw::None, Some("secret"))
        .keyfile;
    assert!(matches!(error(bad), TlsError::WrongKey { .. }));
    let mut bad = good;
    bad.cafile = None;
    assert!(matches!(error(bad), TlsError::NobodyTrusted));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_mutual_tls_may_listen_for_everybody_without_being_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let anywhere = "0.0.0.0:0".parse().unwrap();
    for tls in [Tls::Off, Tls::Anonymous] {
        let refused = endpoint(tls).listen(anywhere, Exposure::Guarded).await;
        assert!(matches!(refused, Err(ListenError::Exposed { .. })));
    }
    let refused = endpoint(Tls::Off)
        .listen(anywhere, Exposure::AnonymousAnywhere)
        .await;
    assert!(matches!(refused, Err(ListenError::Exposed { .. })));
    let mutual = endpoint(Tls::Mutual(authority.certify("good", Flaw::None, None)));
    // Port 0 of all addresses for the blink of an eye: nobody knows it.
    assert!(mutual.listen(anywhere, Exposure::Guarded).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_garbage_and_silence_do_not_hold_up_a_tls_port() {
    let config = EndpointConfig {
        tls: Tls::Anonymous,
        max_handshakes: 8,
        ..EndpointConfig::default()
    };
    let hub = Endpoint::start(config).unwrap();
    let address = listening(&hub).await;
    let mut garbage = TcpStream::connect(&address).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let _ = within(1, garbage.read_to_end(&mut Vec::new())).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    // On a busy machine some of the silent ones are accepted after the guest: it dials again.
    let guest = endpoint(Tls::Anonymous);
    let retry = Some(Duration::from_millis(50));
    within(10, guest.peer(&address, retry)).await.unwrap();
    // The oldest were closed to make room.
    assert_eq!(
        within(5, silent[0].read(&mut [0; 10])).await.unwrap_or(0),
        0
    );
}
