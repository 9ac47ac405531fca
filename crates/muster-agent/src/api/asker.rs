//! Who asks an agent, and what they may.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::HeaderMap;
use muster_gateway::bearer;
use muster_gateway::http::{Caller, ClientCertificate};
use openssl::x509::X509Ref;
use serde::{Deserialize, Serialize};

use super::{FOR, Refusal};
use crate::boxes::Boxes;
use crate::failures::Failures;
use crate::journal::now;
use crate::pki::{self, Kind, Principal};
use crate::roster::{Keeper, Roster, Unknown};
use crate::token::{Token, TokenKind};

/// The longest name of whom a box asks for, in bytes.
const LONGEST_NAME: usize = 256;

/// How often it is looked whether somebody may go on who follows.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What whoever asks may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look at states and events.
    Viewer,
    /// Read logs, which tell what the traffic was; restart, stop and start nodes.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Returns the role's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// By what somebody is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// The socket that they have opened.
    Socket,
    /// A certificate of the cluster.
    Certificate,
    /// An operator's token.
    Token,
    /// Nothing.
    Nothing,
}

impl Known {
    fn word(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Certificate => "certificate",
            Self::Token => "token",
            Self::Nothing => "nothing",
        }
    }
}

/// What somebody has shown, by which the roster knows them or does not.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Box { name: String, made: i64 },
    Certificate { name: String, serial: String },
    Token(Token),
}

impl Standing {
    /// What they may do by a roster, and an operator's name.
    fn in_roster(&self, roster: &Roster, now: f64) -> Result<(Role, String), Unknown> {
        match self {
            // A box passes on what it has let a person do.
            Self::Box { name, made } if roster.takes_box(name, *made) => {
                Ok((Role::Operator, name.clone()))
            }
            Self::Box { .. } => Err(Unknown::Removed),
            Self::Certificate { name, serial } => {
                let role = roster.by_certificate(name, serial, now)?;
                Ok((role, name.clone()))
            }
            Self::Token(token) => {
                let (name, role) = roster.by_token(token, now)?;
                Ok((role, name.to_owned()))
            }
        }
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    role: Option<Role>,
    who: String,
    known: Known,
    caller: Option<Caller>,
    /// The box of the cluster that asks.
    of_box: Option<Principal>,
    /// What may be taken back while they are answered.
    standing: Option<(Standing, Arc<Keeper>)>,
    /// Why they have no role, if there is more to say than that they show nothing.
    reason: Option<Refusal>,
}

impl Asker {
    /// Whoever has opened a socket of this machine.
    fn local(role: Role, caller: Option<Caller>) -> Self {
        Self {
            role: Some(role),
            who: place(caller),
            known: Known::Socket,
            caller,
            of_box: None,
            standing: None,
            reason: None,
        }
    }

    fn nobody(caller: Option<Caller>) -> Self {
        Self {
            role: None,
            known: Known::Nothing,
            ..Self::local(Role::Viewer, caller)
        }
    }

    pub(super) fn role(&self) -> Option<Role> {
        self.role
    }

    /// Who it is, for the audit log.
    pub(super) fn who(&self) -> &str {
        &self.who
    }

    /// By what they are known: `socket`, `certificate`, `token` or `nothing`.
    pub(super) fn known_by(&self) -> &'static str {
        self.known.word()
    }

    pub(super) fn caller(&self) -> Option<Caller> {
        self.caller
    }

    /// The box of the cluster that asks, by its certificate.
    pub(super) fn of_box(&self) -> Option<&Principal> {
        self.of_box.as_ref()
    }

    /// Whether another box asks.
    pub(super) fn is_box(&self) -> bool {
        self.of_box.is_some()
    }

    /// Waits until they may not do any more what they may do now: they were removed, or their time is over.
    pub(super) async fn revoked(self) {
        let (Some(role), Some((standing, keeper))) = (self.role, self.standing) else {
            return std::future::pending().await;
        };
        let mut changes = keeper.changes();
        loop {
            let known = standing.in_roster(&keeper.roster(), now());
            if known.is_err() || known.is_ok_and(|(now, _)| now < role) {
                return;
            }
            // Nobody says when a time is over.
            let _ = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await;
        }
    }

    /// Refuses whoever is no box of the cluster.
    pub(super) fn need_box(&self) -> Result<&Principal, Refusal> {
        self.of_box.as_ref().ok_or_else(|| {
            let only = || Refusal::forbidden("only a box of the cluster may ask for that");
            self.reason.clone().unwrap_or_else(only)
        })
    }

    /// Refuses whoever has not the role that is needed.
    pub(super) fn need(&self, needed: Role) -> Result<(), Refusal> {
        if self.role >= Some(needed) {
            return Ok(());
        }
        let what = match (self.role, &self.reason) {
            (Some(Role::Viewer), _) => "a viewer".to_owned(),
            (Some(role), _) => format!("an {role}"),
            (None, Some(reason)) => return Err(reason.clone()),
            (None, None) => "who shows no certificate and no token".to_owned(),
        };
        let who_may = match needed {
            Role::Viewer => "viewers",
            Role::Operator => "an operator",
            Role::Admin => "an admin",
        };
        Err(Refusal::forbidden(format!(
            "{what} may not do that, but {who_may} may"
        )))
    }
}

fn place(caller: Option<Caller>) -> String {
    caller.map_or_else(|| "nobody".to_owned(), |caller| caller.to_string())
}

/// What a request shows.
#[derive(Debug, Default)]
struct Shown {
    principal: Option<Principal>,
    serial: String,
    made: i64,
}

impl Shown {
    fn of(certificate: &X509Ref) -> Self {
        Self {
            principal: Principal::of(certificate),
            // What cannot be read is nobody's, and was made before everything.
            serial: pki::serial_of(certificate).unwrap_or_default(),
            made: pki::made(certificate).unwrap_or(i64::MIN),
        }
    }
}

/// Who is let in over TLS.
#[derive(Debug)]
pub(super) struct Gate {
    cluster: String,
    keeper: Arc<Keeper>,
    failures: Mutex<Failures>,
}

impl Gate {
    fn new(cluster: &str, keeper: &Arc<Keeper>) -> Self {
        Self {
            cluster: cluster.to_owned(),
            keeper: Arc::clone(keeper),
            failures: Mutex::default(),
        }
    }

    fn admit(&self, caller: Option<Caller>, shown: Shown, headers: &HeaderMap) -> Asker {
        let Some(principal) = shown.principal else {
            return self.by_token(caller, headers);
        };
        let from = place(caller);
        let mut asker = Asker {
            who: format!("{principal} at {from}"),
            known: Known::Certificate,
            ..Asker::nobody(caller)
        };
        let is_ours = principal.cluster == self.cluster;
        let refused = |text: &str| Some(Refusal::forbidden(format!("{principal} {text}")));
        match principal.kind {
            _ if !is_ours => asker.reason = refused("is of another cluster"),
            Kind::Node => asker.reason = refused("may ask an agent nothing"),
            Kind::Box => {
                let standing = Standing::Box {
                    name: principal.name.clone(),
                    made: shown.made,
                };
                if self.know(&mut asker, standing).is_err() {
                    asker.reason = refused("was forgotten: it has to join again");
                    return asker;
                }
                let person = headers.get(FOR).and_then(|name| name.to_str().ok());
                if let Some(person) = person.filter(|name| name.len() <= LONGEST_NAME) {
                    asker.who = format!("{person}, by {}", asker.who);
                }
                asker.of_box = Some(principal);
            }
            Kind::Operator => {
                let name = principal.name;
                asker.who = format!("operator {name} at {from}");
                let text = format!("the certificate of operator {name}");
                let serial = shown.serial;
                let standing = Standing::Certificate { name, serial };
                if let Err(unknown) = self.know(&mut asker, standing) {
                    asker.reason = Some(Refusal::forbidden(format!("{text} {unknown}")));
                }
            }
        }
        asker
    }

    /// Gives somebody the role that the roster has for them. Returns the name that they have there.
    fn know(&self, asker: &mut Asker, standing: Standing) -> Result<String, Unknown> {
        let (role, name) = standing.in_roster(&self.keeper.roster(), now())?;
        asker.role = Some(role);
        asker.standing = Some((standing, Arc::clone(&self.keeper)));
        Ok(name)
    }

    /// Whoever shows no certificate of a cluster may show a token. Other tokens than operators' are for others to look at.
    fn by_token(&self, caller: Option<Caller>, headers: &HeaderMap) -> Asker {
        let mut asker = Asker::nobody(caller);
        let shown = bearer(headers).filter(|text| text.starts_with(TokenKind::Operator.word()));
        let (Some(shown), Some(Caller::Address(address))) = (shown, caller) else {
            return asker;
        };
        let from = address.ip();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let instant = Instant::now();
        if let Err(refusal) = failures.hear(from, instant) {
            asker.reason = Some(refusal);
            return asker;
        }
        let token = shown.parse::<Token>().map_err(|_| Unknown::Removed);
        match token.and_then(|token| self.know(&mut asker, Standing::Token(token))) {
            Ok(name) => {
                asker.who = format!("operator {name} at {address}");
                asker.known = Known::Token;
            }
            Err(unknown) => {
                failures.failed(from, instant);
                let text = format!("the token is not known here: it {unknown}");
                asker.reason = Some(Refusal::unauthorized(text));
            }
        }
        asker
    }
}

/// Who is let in: by the socket, or over TLS.
#[derive(Debug, Clone)]
pub(super) enum Way {
    Socket(Role),
    Tls(Arc<Gate>),
    /// Nobody: a box that is alone has no certificates.
    Closed,
}

impl Way {
    pub(super) fn new(by_socket: Option<Role>, boxes: Option<&Boxes>) -> Self {
        match (by_socket, boxes) {
            (Some(role), _) => Self::Socket(role),
            (None, Some(boxes)) => {
                let gate = Gate::new(&boxes.config().file.cluster, boxes.roster());
                Self::Tls(Arc::new(gate))
            }
            (None, None) => Self::Closed,
        }
    }

    /// Finds out who makes a request, and puts that into it.
    pub(super) fn find(&self, mut request: Request) -> Request {
        let extensions = request.extensions();
        let caller = extensions.get::<Caller>().copied();
        let asker = match self {
            Self::Socket(role) => Asker::local(*role, caller),
            Self::Closed => Asker::nobody(caller),
            Self::Tls(gate) => {
                let certificate = extensions.get::<ClientCertificate>();
                let shown = certificate.map(|shown| Shown::of(&shown.0));
                gate.admit(caller, shown.unwrap_or_default(), request.headers())
            }
        };
        request.extensions_mut().insert(asker);
        request
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::pin::Pin;

    use axum::http::header::AUTHORIZATION;

    use super::*;
    use crate::failures;
    use crate::identity::IdentityFiles;
    use crate::pki::Authority;
    use crate::roster::{Operator, Proof, secret_hash};

    struct Setup {
        gate: Gate,
        authority: Authority,
        _directory: tempfile::TempDir,
    }

    fn setup() -> Setup {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityFiles::at(directory.path());
        let authority = Authority::found("east").unwrap();
        pki::write(&files.authorities(), authority.pem().unwrap().as_bytes()).unwrap();
        let keeper = Arc::new(Keeper::open("east", &files).unwrap());
        Setup {
            gate: Gate::new("east", &keeper),
            authority,
            _directory: directory,
        }
    }

    impl Setup {
        fn add(&self, name: &str, role: Role, proof: Proof, ends: f64) {
            let operator = Operator {
                role,
                proof,
                added: now(),
                ends: now() + ends,
            };
            let added = self
                .gate
                .keeper
                .change(&self.authority, |roster| roster.add(name, operator, true));
            added.unwrap();
        }

        fn token(&self, name: &str, seed: u8, ends: f64) -> Token {
            let token = Token::from_random(TokenKind::Operator, "ab".repeat(32), &[seed; 40]);
            let proof = Proof::Token {
                id: token.id.clone(),
                secret: secret_hash(&token),
            };
            self.add(name, Role::Admin, proof, ends);
            token
        }

        fn shows(&self, cluster: &str, kind: Kind, serial: &str) -> Asker {
            let shown = Shown {
                principal: Some(Principal {
                    cluster: cluster.to_owned(),
                    kind,
                    name: "b".to_owned(),
                }),
                serial: serial.to_owned(),
                made: 1000,
            };
            let mut headers = HeaderMap::new();
            headers.insert(FOR, "user 1000".parse().unwrap());
            self.gate.admit(Some(from(2)), shown, &headers)
        }

        fn shows_token(&self, token: &str, last: u8) -> Asker {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
            self.gate
                .admit(Some(from(last)), Shown::default(), &headers)
        }
    }

    fn from(last: u8) -> Caller {
        Caller::Address(([192, 0, 2, last], 5).into())
    }

    fn reason(asker: &Asker) -> String {
        asker.need(Role::Viewer).unwrap_err().error
    }

    #[test]
    fn a_socket_or_a_certificate_gives_a_role_and_a_node_has_none() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        let local = Some(Caller::Process { uid: 7, pid: None });
        let viewer = Asker::local(Role::Viewer, local);
        assert!(viewer.need(Role::Viewer).is_ok() && viewer.need(Role::Operator).is_err());
        assert_eq!((viewer.who(), viewer.known_by()), ("user 7", "socket"));
        let setup = setup();
        let of_box = setup.shows("east", Kind::Box, "");
        assert!(of_box.need(Role::Operator).is_ok() && of_box.need(Role::Admin).is_err());
        assert!(of_box.need_box().is_ok());
        assert_eq!(
            of_box.who(),
            "user 1000, by muster://east/box/b at 192.0.2.2:5"
        );
        // For whom somebody asks, only a box is believed.
        let node = setup.shows("east", Kind::Node, "");
        let other = setup.shows("west", Kind::Box, "");
        let nobody = setup
            .gate
            .admit(Some(from(2)), Shown::default(), &HeaderMap::new());
        for (asker, why) in [
            (&node, "node/b may ask an agent nothing"),
            (&other, "west/box/b is of another cluster"),
            (&nobody, "who shows no certificate"),
        ] {
            assert!(reason(asker).contains(why), "{}", reason(asker));
            assert!(asker.need_box().is_err() && !asker.who().contains("user 1000"));
        }
    }

    #[test]
    fn a_box_that_was_forgotten_is_nobody_until_it_has_joined_again() {
        let setup = setup();
        let forget = |time: f64| {
            let change = |roster: &mut Roster| roster.forget("b", time);
            setup.gate.keeper.change(&setup.authority, change).unwrap();
        };
        // So long ago that nothing of it is kept.
        forget(999.0);
        assert!(setup.shows("east", Kind::Box, "").need_box().is_ok());
        forget(now());
        let of_box = setup.shows("east", Kind::Box, "");
        assert!(reason(&of_box).contains("was forgotten"));
        assert!(of_box.need_box().is_err());
    }

    #[test]
    fn an_operator_may_do_what_the_roster_says_by_that_certificate_alone() {
        let setup = setup();
        let serial = |serial: &str| Proof::Certificate(serial.to_owned());
        assert!(reason(&setup.shows("east", Kind::Operator, "01")).contains("removed"));
        setup.add("b", Role::Operator, serial("01"), 60.0);
        let known = setup.shows("east", Kind::Operator, "01");
        assert_eq!(known.role(), Some(Role::Operator));
        assert!(known.need(Role::Admin).is_err() && known.need_box().is_err());
        assert_eq!(
            (known.who(), known.known_by()),
            ("operator b at 192.0.2.2:5", "certificate")
        );
        let another = setup.shows("east", Kind::Operator, "02");
        assert_eq!(another.role(), None);
        assert_eq!(setup.shows("west", Kind::Operator, "01").role(), None);
        setup.add("b", Role::Viewer, serial("02"), 60.0);
        assert_eq!(setup.shows("east", Kind::Operator, "01").role(), None);
        let viewer = setup.shows("east", Kind::Operator, "02");
        assert!(viewer.need(Role::Viewer).is_ok() && viewer.need(Role::Operator).is_err());
        setup.add("b", Role::Viewer, serial("02"), -1.0);
        let ended = setup.shows("east", Kind::Operator, "02");
        assert!(
            reason(&ended).contains("operator b has ended"),
            "{}",
            reason(&ended)
        );
    }

    async fn goes_on(revoked: Pin<&mut impl Future<Output = ()>>) -> bool {
        tokio::time::timeout(Duration::ZERO, revoked).await.is_err()
    }

    #[tokio::test]
    async fn whoever_follows_is_told_no_more_when_they_are_removed_or_may_do_less() {
        let setup = setup();
        let serial = || Proof::Certificate("01".to_owned());
        for role in [Role::Viewer, Role::Admin] {
            setup.add("b", Role::Operator, serial(), 60.0);
            let revoked = setup.shows("east", Kind::Operator, "01").revoked();
            let mut revoked = std::pin::pin!(revoked);
            // Others come and go.
            setup.add("c", Role::Viewer, serial(), 60.0);
            assert!(goes_on(revoked.as_mut()).await);
            setup.add("b", role, serial(), 60.0);
            if role == Role::Admin {
                assert!(goes_on(revoked.as_mut()).await);
                let keeper = &setup.gate.keeper;
                let removed = keeper.change(&setup.authority, |roster| roster.remove("b"));
                removed.unwrap();
            }
            revoked.await;
        }
    }

    #[test]
    fn a_token_is_an_operators_and_whoever_guesses_is_not_heard_for_a_while() {
        let setup = setup();
        let token = setup.token("alice", 1, 60.0).to_string();
        let ended = setup.token("bob", 2, 0.0).to_string();
        let alice = setup.shows_token(&token, 7);
        assert!(alice.need(Role::Admin).is_ok() && !alice.is_box());
        assert_eq!(
            (alice.who(), alice.known_by()),
            ("operator alice at 192.0.2.7:5", "token")
        );
        assert!(reason(&setup.shows_token(&ended, 8)).contains("has ended"));
        // Tokens of other kinds are nobody's here, and no guesses.
        for _ in 0..=failures::MOST {
            let other = setup.shows_token("0123456789abcdef", 9);
            assert!(reason(&other).contains("no token"), "{}", reason(&other));
        }
        let forged = format!("{}{}", &token[..token.len() - 64], "0".repeat(64));
        for _ in 0..failures::MOST {
            let refusal = setup.shows_token(&forged, 9).need(Role::Viewer);
            assert_eq!(
                refusal.unwrap_err().kind,
                crate::api::RefusalKind::Unauthorized
            );
        }
        assert!(reason(&setup.shows_token(&token, 9)).contains("wait a minute"));
        assert!(setup.shows_token(&token, 7).need(Role::Admin).is_ok());
    }
}
