//! Peers of one machine: they meet over Unix sockets, and over TCP wherever that is not to be.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::cast_possible_truncation, reason = "sizes here are small")]
#![cfg(target_os = "linux")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use muster::wire::{Filter, Topic};
use muster::{
    Certificates, Delivery, Endpoint, EndpointConfig, Exposure, Heartbeat, LocalTransport,
    LossReason, PeerError, PeerInfo, PeerOrigin, Status, Tls, TlsFailure, TopicClasses, Transport,
    UnavailableReason,
};
use muster_test_support::within;
use support::{Authority, Flaw};
use tokio::net::{TcpListener, TcpStream};

const ANY: Exposure = Exposure::PlaintextAnywhere;

fn config(local: LocalTransport) -> EndpointConfig {
    EndpointConfig {
        local,
        classes: TopicClasses {
            interactive: Filter::from_prefixes(["/t/now"]),
            bulk: Filter::from_prefixes(["/t/bulk"]),
        },
        ..EndpointConfig::default()
    }
}

fn endpoint(local: LocalTransport) -> Endpoint {
    Endpoint::start(config(local)).unwrap()
}

fn auto() -> Endpoint {
    endpoint(LocalTransport::Auto)
}

async fn listening(endpoint: &Endpoint, address: &str) -> SocketAddr {
    endpoint
        .listen(address.parse().unwrap(), ANY)
        .await
        .unwrap()
}

/// What the other side says of the peering.
async fn other_side(acceptor: &Endpoint, dialler: &Endpoint) -> PeerInfo {
    let seen = async {
        loop {
            let peers = acceptor.peers();
            if let Some(peer) = peers.into_iter().find(|peer| peer.id == dialler.id()) {
                return peer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(seen).await
}

/// Sends messages of several sizes and classes from one side to the other, and waits for all of them.
async fn send(from: &Endpoint, to: &Endpoint) {
    let topic = Topic::new("/t").unwrap();
    let mut subscriber = to.subscribe(["/t"]).await;
    let subscribed = async {
        while !from.has_subscriber(&topic) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(subscribed).await;
    let mut publisher = from.publisher();
    let sizes = [1, 100, 5_000, 300_000, 3_000_000, 7];
    let mut expected = 0;
    for size in sizes {
        for topic in ["/t", "/t/bulk", "/t/now"] {
            let (topic, value) = (Topic::new(topic).unwrap(), vec![7u8; size]);
            let outcome = publisher
                .publish_waiting(&topic, &value[..], Duration::from_secs(10))
                .await;
            assert_eq!((outcome.queued_to, outcome.dropped), (1, 0));
            expected += size;
        }
    }
    let mut came = 0;
    while came < expected {
        if let Some(Delivery::Batch(batch)) = within(subscriber.receive()).await {
            let values = batch.iter().map(|message| {
                let value = muster::data::DataRef::from_validated(message.payload).to_data();
                match value {
                    muster::data::Data::String(text) => text.len(),
                    other => panic!("{other:?}"),
                }
            });
            came += values.sum::<usize>();
        }
    }
    assert_eq!(came, expected);
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The name of the socket beside a port, as another program would have to know it.
fn name(tls: &str, address: SocketAddr) -> String {
    format!("muster/1/{}/tls-{tls}/{address}", user())
}

fn unix_address(name: &str) -> UnixAddress {
    UnixAddress::from_abstract_name(name).unwrap()
}

fn is_there(tls: &str, address: SocketAddr) -> bool {
    UnixStream::connect_addr(&unix_address(&name(tls, address))).is_ok()
}

/// The dialler's side has the address that was dialled, the acceptor's that of the machine.
#[tokio::test(flavor = "multi_thread")]
async fn peers_of_one_machine_meet_over_a_unix_socket() {
    let has_v6 = TcpListener::bind("[::1]:0").await.is_ok();
    let cases = [
        ("127.0.0.1:0", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.7:0", "127.0.0.7", "127.0.0.7"),
        ("0.0.0.0:0", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.9", "127.0.0.9"),
        ("0.0.0.0:0", "localhost", "127.0.0.1"),
        ("0.0.0.0:0", "0.0.0.0", "127.0.0.1"),
        ("[::1]:0", "[::1]", "::1"),
        ("[::]:0", "[::1]", "::1"),
        ("[::]:0", "127.0.0.1", "127.0.0.1"),
        ("[::]:0", "[::ffff:127.0.0.1]", "127.0.0.1"),
    ];
    for (listened, host, seen) in cases {
        if listened.starts_with('[') && !has_v6 {
            continue;
        }
        let (acceptor, dialler) = (auto(), auto());
        let port = listening(&acceptor, listened).await.port();
        let address = format!("{host}:{port}");
        let peer = within(dialler.peer(&address, None)).await.unwrap();
        let case = format!("{listened} as {host}: {peer:?}");
        assert_eq!(peer.transport, Transport::Unix, "{case}");
        assert_eq!((peer.address, peer.origin), (address, PeerOrigin::Dialled));
        let other = other_side(&acceptor, &dialler).await;
        assert_eq!(other.transport, Transport::Unix, "{case}");
        assert_eq!(
            (&*other.address, other.origin),
            (seen, PeerOrigin::Accepted)
        );
    }
}

/// The machine has other addresses than those of loopback, unless it has no network.
#[tokio::test(flavor = "multi_thread")]
async fn an_own_address_is_one_of_this_machine_and_others_are_not() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = socket
        .connect("198.51.100.1:9")
        .and_then(|()| socket.local_addr());
    let acceptor = auto();
    let port = listening(&acceptor, "0.0.0.0:0").await.port();
    if let Ok(own) = own {
        let dialler = auto();
        let address = format!("{}:{port}", own.ip());
        let peer = within(dialler.peer(&address, None)).await.unwrap();
        assert_eq!(peer.transport, Transport::Unix, "{peer:?}");
        let other = other_side(&acceptor, &dialler).await;
        assert_eq!(other.address, own.ip().to_string());
    }
    // An address for documents: a listener on all addresses is not at that one.
    let dialler = Endpoint::start(EndpointConfig {
        connect_timeout: Duration::from_millis(50),
        ..EndpointConfig::default()
    });
    let address = format!("198.51.100.1:{port}");
    let nobody = within(dialler.unwrap().peer(&address, None)).await;
    assert!(nobody.is_err(), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_all_sizes_pass_both_ways_over_either() {
    for (local, transport) in [
        (LocalTransport::Auto, Transport::Unix),
        (LocalTransport::Off, Transport::Tcp),
    ] {
        let (acceptor, dialler) = (endpoint(local), endpoint(local));
        let address = listening(&acceptor, "127.0.0.1:0").await.to_string();
        let peer = within(dialler.peer(&address, None)).await.unwrap();
        assert_eq!(peer.transport, transport);
        send(&dialler, &acceptor).await;
        send(&acceptor, &dialler).await;
        within(dialler.shut_down()).await;
        let gone = async {
            while !acceptor.peers().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(gone).await;
    }
}

/// Either side can want TCP, and gets it.
#[tokio::test(flavor = "multi_thread")]
async fn where_one_side_wants_tcp_it_is_tcp() {
    for (acceptor, dialler) in [
        (LocalTransport::Off, LocalTransport::Auto),
        (LocalTransport::Auto, LocalTransport::Off),
    ] {
        let (acceptor, dialler) = (endpoint(acceptor), endpoint(dialler));
        let address = listening(&acceptor, "127.0.0.1:0").await;
        let is_on = acceptor.config().local == LocalTransport::Auto;
        assert_eq!(is_there("off", address), is_on);
        let address = address.to_string();
        let peer = within(dialler.peer(&address, None)).await.unwrap();
        assert_eq!(peer.transport, Transport::Tcp);
        let other = other_side(&acceptor, &dialler).await;
        assert_eq!(other.transport, Transport::Tcp);
        let from: SocketAddr = other.address.parse().unwrap();
        assert!(from.ip().is_loopback() && from.port() != 0);
    }
}

/// What stands between two ports is not passed by.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_a_port_is_dialled_by_tcp() {
    let (acceptor, dialler) = (auto(), auto());
    let address = listening(&acceptor, "127.0.0.1:0").await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxied = proxy.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut near, _) = proxy.accept().await.unwrap();
        let mut far = TcpStream::connect(address).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    let peer = within(dialler.peer(&proxied, None)).await.unwrap();
    assert_eq!((peer.transport, peer.address), (Transport::Tcp, proxied));
    assert_eq!(
        other_side(&acceptor, &dialler).await.transport,
        Transport::Tcp
    );
}

/// One port of two addresses is two ports.
#[tokio::test(flavor = "multi_thread")]
async fn each_address_of_a_port_has_its_own_socket() {
    let first = auto();
    let port = listening(&first, "127.0.0.1:0").await.port();
    let second = auto();
    let other: SocketAddr = format!("127.0.0.2:{port}").parse().unwrap();
    second.listen(other, Exposure::Guarded).await.unwrap();
    for (host, expected) in [("127.0.0.1", &first), ("127.0.0.2", &second)] {
        let dialler = auto();
        let address = format!("{host}:{port}");
        let peer = within(dialler.peer(&address, None)).await.unwrap();
        assert_eq!((peer.id, peer.transport), (expected.id(), Transport::Unix));
    }
    // Nobody listens there, by whatever way.
    let nobody = within(auto().peer(&format!("127.0.0.3:{port}"), None)).await;
    assert!(nobody.is_err(), "{nobody:?}");
}

/// A name is free with its port, and a dialler that comes back finds whoever is there, by what is there.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_finds_the_next_life_by_the_way_that_is_open() {
    let first = auto();
    let address = listening(&first, "127.0.0.1:0").await;
    let dialler = auto();
    let retry = Some(Duration::from_millis(10));
    dialler.dial(&address.to_string(), retry);
    // It may ask between the socket and the port of the next life: then it is the port.
    let comes_back = async |life: &Endpoint| {
        let met = async {
            while dialler.peers().iter().all(|peer| peer.id != life.id()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(met).await;
    };
    comes_back(&first).await;
    let mut last = first;
    for local in [
        LocalTransport::Auto,
        LocalTransport::Off,
        LocalTransport::Auto,
    ] {
        last.shut_down().await;
        last = endpoint(local);
        let listened = async {
            while last.listen(address, Exposure::Guarded).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(listened).await;
        comes_back(&last).await;
        let expected = match local {
            LocalTransport::Auto => Transport::Unix,
            LocalTransport::Off => Transport::Tcp,
        };
        let other = auto();
        let peer = within(other.peer(&address.to_string(), None))
            .await
            .unwrap();
        assert_eq!((peer.id, peer.transport), (last.id(), expected));
        other.shut_down().await;
    }
}

/// A socket that takes nobody costs nothing but itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_whose_queue_is_full_is_passed_by() {
    let acceptor = endpoint(LocalTransport::Off);
    let address = listening(&acceptor, "127.0.0.1:0").await;
    let full = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let path = format!("\0{}", name("off", address));
    let path = socket2::SockAddr::unix(&path).unwrap();
    full.bind(&path).unwrap();
    full.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let knocker = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let knocker = knocker.unwrap();
        knocker.set_nonblocking(true).unwrap();
        if knocker.connect(&path).is_err() {
            break;
        }
        waiting.push(knocker);
    }
    assert!(!waiting.is_empty());
    let peer = within(auto().peer(&address.to_string(), None))
        .await
        .unwrap();
    assert_eq!(peer.transport, Transport::Tcp);
}

/// With certificates it is they who say who belongs; anonymous TLS has nothing to add to what the system says.
#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_keeps_its_certificates_and_anonymous_tls_is_not_needed() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(&directory.path().join("ours"));
    let stranger = Authority::new(&directory.path().join("theirs"));
    let secured = |tls: Tls| {
        Endpoint::start(EndpointConfig {
            tls,
            ..EndpointConfig::default()
        })
        .unwrap()
    };
    let mutual = |certificates: Certificates| secured(Tls::Mutual(certificates));
    let ours = || mutual(authority.certify("ours", Flaw::None, None));

    let (acceptor, dialler) = (ours(), ours());
    let address = listening(&acceptor, "127.0.0.1:0").await;
    let peer = within(dialler.peer(&address.to_string(), None))
        .await
        .unwrap();
    assert_eq!(peer.transport, Transport::Unix);
    send(&dialler, &acceptor).await;
    // A process of the same user without a certificate is nobody.
    let foreign = mutual(stranger.certify("theirs", Flaw::None, None));
    let error = within(foreign.peer(&address.to_string(), None))
        .await
        .unwrap_err();
    match error {
        PeerError::Unavailable {
            reason: UnavailableReason::Tls(TlsFailure::CertificateRefused(_)),
            ..
        } => {}
        other => panic!("unexpected {other}"),
    }
    let refused = acceptor.counts().connections_refused;
    assert!(!says_hello(&name("mutual", address)));
    let told = async {
        while acceptor.counts().connections_refused == refused {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(told).await;

    let (acceptor, dialler) = (secured(Tls::Anonymous), secured(Tls::Anonymous));
    let address = listening(&acceptor, "127.0.0.1:0").await;
    let peer = within(dialler.peer(&address.to_string(), None))
        .await
        .unwrap();
    assert_eq!(peer.transport, Transport::Unix);
    send(&dialler, &acceptor).await;
    assert!(says_hello(&name("anonymous", address)));

    // Modes that differ do not meet there, and are told at the port.
    let error = within(secured(Tls::Off).peer(&address.to_string(), None)).await;
    match error.unwrap_err() {
        PeerError::Unavailable { reason, .. } => {
            assert_eq!(reason, UnavailableReason::PeerSpeaksTls);
        }
        other => panic!("unexpected {other}"),
    }
}

/// Whether a socket answers a hello in plain text.
fn says_hello(name: &str) -> bool {
    let mut stream = UnixStream::connect_addr(&unix_address(name)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(&hello()).unwrap();
    let mut answer = [0; 9];
    // Whoever does not understand it closes the connection.
    stream.read_exact(&mut answer).is_ok() && answer[5..] == *b"ZEEK"
}

fn hello() -> Vec<u8> {
    let mut hello = vec![0, 0, 0, 0x17, 6, 0x5a, 0x45, 0x45, 0x4b];
    hello.extend_from_slice(&[0xfe; 16]);
    hello.extend_from_slice(&[1, 1]);
    hello
}

/// Silent connections have their places among handshakes, by whatever way they came.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_over_unix_sockets_keep_nobody_out() {
    let acceptor = Endpoint::start(EndpointConfig {
        max_handshakes: 4,
        ..EndpointConfig::default()
    });
    let acceptor = acceptor.unwrap();
    let address = listening(&acceptor, "127.0.0.1:0").await;
    let silent: Vec<_> = (0..32)
        .map(|_| UnixStream::connect_addr(&unix_address(&name("off", address))).unwrap())
        .collect();
    let refused = async {
        while acceptor.counts().connections_refused < 28 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(refused).await;
    let peer = within(auto().peer(&address.to_string(), None))
        .await
        .unwrap();
    assert_eq!(peer.transport, Transport::Unix);
    drop(silent);
}

/// Heartbeats find a peer that hangs, where there is no network that could be gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_hangs_is_lost() {
    let near = Endpoint::start(EndpointConfig {
        heartbeat: Heartbeat {
            interval: Duration::from_millis(50),
            timeout: Duration::from_millis(200),
        },
        ..EndpointConfig::default()
    });
    let near = near.unwrap();
    let limits = EndpointConfig::default().subscriber_queue;
    let mut statuses = near.subscribe_with_statuses(["/none"], limits).await;
    let address = listening(&near, "127.0.0.1:0").await;
    let mut stream = UnixStream::connect_addr(&unix_address(&name("off", address))).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    // As the larger id, and then no word more.
    let mut first = hello();
    first[9..25].fill(0xff);
    stream.write_all(&first).unwrap();
    let mut answer = [0u8; 9 + 26 + 4];
    stream.read_exact(&mut answer).unwrap();
    let length = u32::from_be_bytes(answer[35..].try_into().unwrap());
    stream.read_exact(&mut vec![0; length as usize]).unwrap();
    stream.write_all(&[0, 0, 0, 3, 11, 1, 0]).unwrap();
    let lost = async {
        loop {
            if let Some(Delivery::Status(Status::PeerLost { peer, reason })) =
                statuses.receive().await
            {
                return (peer.transport, reason);
            }
        }
    };
    let (transport, reason) = within(lost).await;
    assert_eq!(transport, Transport::Unix);
    assert!(matches!(reason, LossReason::Silent(_)), "{reason}");
}

/// What a process of another user does in the test of them.
const DOES: &str = "MUSTER_TEST_DOES";

/// Not a test by itself: a process of another user.
#[test]
#[ignore = "it is started by a test"]
fn process_of_another_user() {
    let does = std::env::var(DOES).expect("it is started by a test");
    let (what, name) = does.split_once(' ').unwrap();
    let address = unix_address(name);
    let mut bytes = Vec::new();
    if what == "knock" {
        let mut stream = UnixStream::connect_addr(&address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        // Whoever closes without having read what was sent resets the connection.
        match stream.read_to_end(&mut bytes) {
            Ok(_) => println!("\ntold {}", bytes.len()),
            Err(error) => println!("\nfailed {error}"),
        }
        return;
    }
    let listener = UnixListener::bind_addr(&address).unwrap();
    println!("\nlistens");
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_to_end(&mut bytes).unwrap();
    println!("\ntold {}", bytes.len());
    // The name is taken until it is told to go.
    std::io::stdin().read_to_end(&mut bytes).unwrap();
}

struct Other {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Other {
    fn start(directory: &std::path::Path, does: &str) -> Self {
        let program = directory.join("test");
        if !program.exists() {
            // Where other users get at it.
            std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
            for path in [directory, &program] {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let mut child = Command::new(program)
            .args([
                "--exact",
                "process_of_another_user",
                "--ignored",
                "--nocapture",
            ])
            .env(DOES, does)
            .uid(OTHER)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for a line that begins so.
    fn says(&mut self, word: &str) -> String {
        loop {
            let line = self
                .lines
                .next()
                .expect("it says it before it ends")
                .unwrap();
            if line.starts_with(word) {
                return line;
            }
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A user that runs nothing else.
const OTHER: u32 = 54_321;

/// Whoever takes a name first gets nothing by it, and whoever finds one is not let in: each side asks the system who
/// the other is.
#[tokio::test(flavor = "multi_thread")]
async fn another_user_of_the_machine_is_nobody() {
    if user() != 0 {
        eprintln!("not tested: only root can start a process of another user");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // It has the name that a dialler looks for.
    let acceptor = endpoint(LocalTransport::Off);
    let address = listening(&acceptor, "127.0.0.1:0").await;
    let mut hostile = Other::start(
        directory.path(),
        &format!("listen {}", name("off", address)),
    );
    hostile.says("listens");
    let peer = within(auto().peer(&address.to_string(), None))
        .await
        .unwrap();
    assert_eq!((peer.id, peer.transport), (acceptor.id(), Transport::Tcp));
    assert_eq!(hostile.says("told"), "told 0");
    drop(hostile);

    // It has the name that a listener wants.
    let next: SocketAddr = format!("127.0.0.2:{}", address.port()).parse().unwrap();
    let mut hostile = Other::start(directory.path(), &format!("listen {}", name("off", next)));
    hostile.says("listens");
    let acceptor = auto();
    acceptor.listen(next, Exposure::Guarded).await.unwrap();
    let peer = within(auto().peer(&next.to_string(), None)).await.unwrap();
    assert_eq!((peer.id, peer.transport), (acceptor.id(), Transport::Tcp));
    drop(hostile);

    // It finds one.
    let acceptor = auto();
    let address = listening(&acceptor, "127.0.0.1:0").await;
    let mut knocks = Other::start(directory.path(), &format!("knock {}", name("off", address)));
    assert_eq!(knocks.says("told"), "told 0");
    let refused = async {
        while acceptor.counts().connections_refused == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(refused).await;
    assert!(acceptor.peers().is_empty());
}

/// Readers wait as everybody does unless they are told otherwise; when they are, nothing else is different.
#[tokio::test(flavor = "multi_thread")]
async fn readers_that_do_not_wait_read_the_same() {
    assert_eq!(EndpointConfig::default().busy_poll, Duration::ZERO);
    for (local, tls) in [
        (LocalTransport::Auto, Tls::Off),
        (LocalTransport::Off, Tls::Off),
        (LocalTransport::Off, Tls::Anonymous),
    ] {
        let busy = || {
            Endpoint::start(EndpointConfig {
                busy_poll: Duration::from_millis(1),
                tls: tls.clone(),
                ..config(local)
            })
            .unwrap()
        };
        let (acceptor, dialler) = (busy(), busy());
        let address = listening(&acceptor, "127.0.0.1:0").await.to_string();
        within(dialler.peer(&address, None)).await.unwrap();
        send(&dialler, &acceptor).await;
        send(&acceptor, &dialler).await;
        within(dialler.shut_down()).await;
    }
}
