//! The agent's API under hostile requests, for fuzzing: a whole agent but for its processes, and every kind of asker.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request as HttpRequest, StatusCode};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use muster_gateway::http::{Caller, ClientCertificate};
use openssl::x509::X509;
use tokio::sync::mpsc;

use crate::api::{Agent, Change, Command, Refusal, Request, Response, Role, router};
use crate::boxes::{Boxes, BoxesConfig};
use crate::identity::{BoxFile, IdentityFiles};
use crate::journal::{Journal, now};
use crate::pki::{self, Authority, Kind, NewKey, Principal};
use crate::place::Places;
use crate::roster::{Operator, Proof, Roster, secret_hash};
use crate::token::{Token, TokenKind};

/// The longest request that is tried.
const LONGEST: usize = 64 << 10;

/// Paths that answer whoever comes.
const FOR_ANYBODY: [&str; 2] = ["/v1/ca", "/v1/openapi.json"];

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Admin,
    Viewer,
    Box,
    Node,
    Operator,
    /// An operator who was removed, or was never there.
    Removed,
    /// Somebody with an operator's token.
    Token,
    Stranger,
}

const EVERYBODY: [Who; 8] = [
    Who::Admin,
    Who::Viewer,
    Who::Box,
    Who::Node,
    Who::Operator,
    Who::Removed,
    Who::Token,
    Who::Stranger,
];

/// The roles of those in the roster.
const OPERATOR: Role = Role::Operator;

/// See [`OPERATOR`].
const TOKEN: Role = Role::Viewer;

impl Who {
    fn by_socket(self) -> Option<Role> {
        match self {
            Self::Admin => Some(Role::Admin),
            Self::Viewer => Some(Role::Viewer),
            _ => None,
        }
    }

    /// The most that may be asked of the agent's loop.
    fn may(self) -> Option<Role> {
        match self {
            Self::Admin => Some(Role::Admin),
            Self::Box => Some(Role::Operator),
            Self::Operator => Some(OPERATOR),
            Self::Token => Some(TOKEN),
            Self::Viewer => Some(Role::Viewer),
            Self::Node | Self::Removed | Self::Stranger => None,
        }
    }
}

/// An agent without processes.
struct World {
    runtime: tokio::runtime::Runtime,
    agent: Agent,
    of_box: X509,
    of_node: X509,
    of_operator: X509,
    of_removed: X509,
    token: String,
    /// The highest role that something was asked of the loop with, and one: zero if nothing was.
    asked: Arc<AtomicU8>,
    _directory: tempfile::TempDir,
}

/// Asks the API what the bytes say, as everybody: a line with a method and a path, headers, and after an empty line the body.
///
/// # Panics
///
/// If an answer is neither a success nor a refusal, if somebody is answered who may not be, or if the agent's loop is asked
/// for what the asker may not do.
pub fn ask(bytes: &[u8]) {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(World::new);
    for who in EVERYBODY {
        world.ask(who, &bytes[..bytes.len().min(LONGEST)]);
    }
}

/// Reads the bytes as what a node reports.
///
/// # Panics
///
/// If what can be read whole has another state than it begins with.
pub fn report(bytes: &[u8]) {
    if let Some(report) = crate::node_socket::Report::new(bytes)
        && let Some(status) = report.read()
    {
        assert_eq!(status.state, report.state);
    }
}

/// The request that the bytes say, if they are one.
fn request(bytes: &[u8]) -> Option<HttpRequest<Body>> {
    let at = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = match at {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (bytes, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.splitn(2, |byte| *byte == b' ');
    let (method, path) = (words.next()?, words.next()?);
    let mut request = HttpRequest::builder().method(method).uri(path);
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        request = request.header(parts.next()?, parts.next()?.trim_ascii());
    }
    request.body(Body::from(body.to_vec())).ok()
}

impl World {
    #[allow(clippy::unwrap_used, reason = "what is made here is good")]
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let places = Places::in_one(directory.path());
        let (boxes, [of_box, of_node, of_operator, of_removed], token) = boxes(directory.path());
        let (commands, mut asked_for) = mpsc::channel::<Command>(8);
        let asked = Arc::new(AtomicU8::new(0));
        let highest = Arc::clone(&asked);
        runtime.spawn(async move {
            while let Some(Command { request, answer }) = asked_for.recv().await {
                let needed = match &request {
                    Request::Status | Request::Certified(_) => Role::Viewer,
                    Request::Change(change) => needed(change),
                };
                highest.fetch_max(needed as u8 + 1, Ordering::Relaxed);
                let _ = answer.send(Ok(match request {
                    Request::Status => Response::Status(Box::default()),
                    _ => Response::Done,
                }));
            }
        });
        let agent = Agent::for_tests(commands, Journal::open(directory.path()), places, boxes);
        Self {
            runtime,
            agent,
            of_box,
            of_node,
            of_operator,
            of_removed,
            token,
            asked,
            _directory: directory,
        }
    }

    fn ask(&self, who: Who, bytes: &[u8]) {
        let Some(mut request) = request(bytes) else {
            return;
        };
        let path = request.uri().path().to_owned();
        let extensions = request.extensions_mut();
        let shown = match who {
            Who::Box => Some(&self.of_box),
            Who::Node => Some(&self.of_node),
            Who::Operator => Some(&self.of_operator),
            Who::Removed => Some(&self.of_removed),
            _ => None,
        };
        if let Some(certificate) = shown {
            extensions.insert(ClientCertificate(certificate.clone()));
        }
        if who.by_socket().is_some() {
            extensions.insert(Caller::Process { uid: 7, pid: None });
        } else {
            extensions.insert(Caller::Address(([192, 0, 2, 7], 5).into()));
        }
        if who == Who::Token
            && let Ok(shown) = format!("Bearer {}", self.token).parse()
        {
            let headers = request.headers_mut();
            headers.insert(hyper::header::AUTHORIZATION, shown);
        }
        self.asked.store(0, Ordering::Relaxed);
        let router = TowerToHyperService::new(router(self.agent.clone(), who.by_socket()));
        let answered = self.runtime.block_on(async {
            let answer = router.call(request).await;
            let answer = answer.unwrap_or_else(|never| match never {});
            let status = answer.status();
            // What is followed goes on for ever.
            let body =
                tokio::time::timeout(Duration::from_millis(20), answer.into_body().collect());
            let body = body.await.ok()?.ok()?.to_bytes();
            Some((status, body))
        });
        let asked = self.asked.load(Ordering::Relaxed);
        assert!(
            asked <= who.may().map_or(0, |role| role as u8 + 1),
            "{who:?} has the agent do what needs role {asked}: {path}"
        );
        let Some((status, body)) = answered else {
            return;
        };
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        if status.is_success() {
            let is_for_anybody = FOR_ANYBODY.contains(&path.as_str());
            assert!(who.may().is_some() || is_for_anybody, "{who:?}: {path}");
        } else if status.is_client_error() {
            let refusal = serde_json::from_slice::<Refusal>(&body);
            assert!(refusal.is_ok(), "{path}: {status} {body:?}");
        }
    }
}

/// The role that a change needs, said once more: what the agent says of it is what is looked at.
fn needed(change: &Change) -> Role {
    match change {
        Change::Restart(_) | Change::Stop(_) | Change::Start(_) => Role::Operator,
        Change::StopAll | Change::Reopen | Change::Reload => Role::Admin,
    }
}

/// A box with the authority; certificates of another box, a node, an operator, and one whom the roster does not have; an
/// operator's token.
#[allow(clippy::unwrap_used, reason = "what is made here is good")]
fn boxes(directory: &Path) -> (Boxes, [X509; 4], String) {
    let identity = IdentityFiles::at(&directory.join("identity"));
    let file = BoxFile {
        name: "a".to_owned(),
        cluster: "east".to_owned(),
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        authority: None,
        certificate_seconds: None,
    };
    crate::join::found(&file, &identity).unwrap();
    let authority = Authority::read(&identity.authority()).unwrap().unwrap();
    let named = [
        (Kind::Box, "b"),
        (Kind::Node, "n"),
        (Kind::Operator, "alice"),
        (Kind::Operator, "carol"),
    ];
    let certificates = named.map(|(kind, name)| {
        let principal = Principal {
            cluster: "east".to_owned(),
            kind,
            name: name.to_owned(),
        };
        let key = NewKey::new().unwrap();
        let day = Duration::from_secs(86_400);
        let signed = authority.sign(&key.request, &principal, &[], day).unwrap();
        X509::from_pem(signed.as_bytes()).unwrap()
    });
    let boxes = Boxes::open(BoxesConfig {
        file,
        identity,
        boxes: BTreeMap::from([("a".to_owned(), IpAddr::from([127, 0, 0, 1]))]),
        nodes: BTreeMap::from([("n".to_owned(), "a".to_owned())]),
        layout_file: directory.join("muster.toml"),
        metrics_token: directory.join("metrics.token"),
        mesh: None,
    })
    .unwrap();
    let token = Token::from_random(TokenKind::Operator, "ab".repeat(32), &[7; 40]);
    let by_token = Proof::Token {
        id: token.id.clone(),
        secret: secret_hash(&token),
    };
    let by_certificate = Proof::Certificate(pki::serial_of(&certificates[2]).unwrap());
    for (name, role, proof) in [
        ("alice", OPERATOR, by_certificate),
        ("bob", TOKEN, by_token),
    ] {
        let operator = Operator {
            role,
            proof,
            added: now(),
            ends: now() + 1e9,
        };
        let add = |roster: &mut Roster| roster.add(name, operator, false);
        boxes.roster().change(&authority, add).unwrap();
    }
    (boxes, certificates, token.to_string())
}
