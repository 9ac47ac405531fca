//! What the box of the authority does for the others: it lets boxes join, and signs their certificates.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::api::Refusal;
use crate::identity::{BoxFile, IdentityError, IdentityFiles};
use crate::journal::now;
use crate::pki::{Authority, Kind, Principal};
use crate::token::{Token, Tokens};

/// How far the clocks of two boxes may be apart: certificates have times.
const CLOCKS: Duration = Duration::from_secs(300);

/// Failures of one address within [`FAILURES_WITHIN`], after which it is not heard.
const MOST_FAILURES: u32 = 5;

/// See [`MOST_FAILURES`].
const FAILURES_WITHIN: Duration = Duration::from_secs(60);

/// The most addresses whose failures are remembered.
const MOST_ADDRESSES: usize = 1024;

/// What a box sends that wants to join.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct JoinRequest {
    pub(crate) token: String,
    #[serde(rename = "box")]
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) version: String,
    /// Its clock, in seconds since 1970.
    pub(crate) time: f64,
    /// A request for a certificate, as PEM.
    pub(crate) request: String,
}

/// What it gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct Joined {
    pub(crate) cluster: String,
    pub(crate) certificate: String,
    pub(crate) layout: String,
}

/// The certificate of the authority, for whoever asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct AuthorityAnswer {
    pub(crate) cluster: String,
    pub(crate) certificate: String,
}

/// A request for a certificate of the box itself, or of one of its nodes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct SignRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    pub(crate) request: String,
}

/// The certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct Signed {
    pub(crate) certificate: String,
}

/// A request for a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    pub(crate) ttl_seconds: u64,
    #[serde(default, rename = "box", skip_serializing_if = "Option::is_none")]
    pub(crate) for_box: Option<String>,
}

/// The token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct TokenAnswer {
    pub(crate) token: String,
}

/// Where a box is by the layout, and which nodes it has.
pub(crate) trait Directory {
    /// The address of a box.
    fn address(&self, name: &str) -> Option<IpAddr>;
    /// Whether the layout has a node on a box.
    fn has(&self, name: &str, node: &str) -> bool;
    /// The layout's text.
    fn text(&self) -> std::io::Result<String>;
}

/// The authority at work.
#[derive(Debug)]
pub(crate) struct Desk {
    file: BoxFile,
    authority: Authority,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    tokens: Tokens,
    joined: JoinedBoxes,
    failures: HashMap<IpAddr, (Instant, u32)>,
}

impl Desk {
    /// Opens the desk of a box that has the authority. Returns `None` if another one has it.
    pub(crate) fn open(
        file: &BoxFile,
        files: &IdentityFiles,
    ) -> Result<Option<Self>, IdentityError> {
        let directory = files.authority();
        let Some(authority) = Authority::read(&directory)? else {
            return Ok(None);
        };
        let failed = |source| IdentityError::File {
            path: directory.clone(),
            source,
        };
        let inner = Inner {
            tokens: Tokens::open(&directory).map_err(failed)?,
            joined: JoinedBoxes::open(&directory).map_err(failed)?,
            failures: HashMap::new(),
        };
        Ok(Some(Self {
            file: file.clone(),
            authority,
            inner: Mutex::new(inner),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn answer(&self) -> Result<AuthorityAnswer, Refusal> {
        Ok(AuthorityAnswer {
            cluster: self.file.cluster.clone(),
            certificate: self.authority.pem().map_err(|error| failed(&error))?,
        })
    }

    /// Makes a token.
    pub(crate) fn token(
        &self,
        request: TokenRequest,
        directory: &dyn Directory,
    ) -> Result<TokenAnswer, Refusal> {
        if let Some(name) = &request.for_box
            && directory.address(name).is_none()
        {
            return Err(no_box(name));
        }
        if request.ttl_seconds == 0 || request.ttl_seconds > crate::token::LONGEST_TTL.as_secs() {
            return Err(Refusal::malformed("a token is valid for 1 s to 30 days"));
        }
        let mut random = [0; 40];
        openssl::rand::rand_bytes(&mut random).map_err(|error| failed(&error))?;
        let authority = self
            .authority
            .fingerprint()
            .map_err(|error| failed(&error))?;
        let ttl = Duration::from_secs(request.ttl_seconds);
        let mut inner = self.lock();
        let created = inner
            .tokens
            .create(authority, ttl, request.for_box, now(), &random);
        let token = created.map_err(|error| failed(&error))?.to_string();
        Ok(TokenAnswer { token })
    }

    /// Lets a box join, or says why not.
    pub(crate) fn join(
        &self,
        request: &JoinRequest,
        from: IpAddr,
        directory: &dyn Directory,
    ) -> Result<Joined, Refusal> {
        let mut inner = self.lock();
        inner.hear(from)?;
        let checked = request.token.parse::<Token>();
        let token = checked.map_err(|error| Refusal::malformed(error.to_string()))?;
        // Whoever has no good token learns nothing about anything else.
        if let Err(refusal) = inner.tokens.check(&token, &request.name, now()) {
            inner.failed(from);
            return Err(Refusal::forbidden(refusal.to_string()));
        }
        let own = env!("CARGO_PKG_VERSION");
        if minor(&request.version) != minor(own) {
            return Err(Refusal::conflict(format!(
                "box {} runs version {}, and this one {own}: they must not be a minor version apart",
                request.name, request.version
            )));
        }
        let difference = (request.time - now()).abs();
        if difference.is_nan() || difference > CLOCKS.as_secs_f64() {
            return Err(Refusal::conflict(format!(
                "the clocks of the two boxes are {difference:.0} s apart: set them first, certificates have times"
            )));
        }
        let address = directory.address(&request.name);
        let address = address.ok_or_else(|| no_box(&request.name))?;
        if address != request.address {
            return Err(Refusal::conflict(format!(
                "the layout has box {} at {address}, and it says that it is at {}",
                request.name, request.address
            )));
        }
        if request.name == self.file.name {
            return Err(Refusal::conflict(format!(
                "box {} is this one",
                request.name
            )));
        }
        if let Some(since) = inner.joined.since(&request.name) {
            return Err(Refusal::conflict(format!(
                "box {} has joined already ({since}): if it was set up anew, `muster box forget {}` lets it join again",
                request.name, request.name
            )));
        }
        let layout = directory.text().map_err(|error| failed(&error))?;
        let certificate = self.sign(&request.request, Kind::Box, &request.name, address)?;
        inner
            .tokens
            .take(&token, &request.name)
            .and_then(|()| inner.joined.add(&request.name))
            .map_err(|error| failed(&error))?;
        Ok(Joined {
            cluster: self.file.cluster.clone(),
            certificate,
            layout,
        })
    }

    /// Lets a box of this name join again.
    pub(crate) fn forget(&self, name: &str) -> Result<(), Refusal> {
        let forgotten = self.lock().joined.remove(name);
        if forgotten.map_err(|error| failed(&error))? {
            return Ok(());
        }
        Err(Refusal::unknown(format!("no box {name} has joined")))
    }

    /// Signs what a box asks for: its own certificate, or that of a node that the layout has on it.
    pub(crate) fn renew(
        &self,
        request: &SignRequest,
        principal: &Principal,
        directory: &dyn Directory,
    ) -> Result<Signed, Refusal> {
        let name = &principal.name;
        if principal.kind != Kind::Box || principal.cluster != self.file.cluster {
            return Err(Refusal::forbidden(format!(
                "{principal} is no box of this cluster"
            )));
        }
        let is_own = *name == self.file.name;
        if !is_own && self.lock().joined.since(name).is_none() {
            return Err(Refusal::forbidden(format!(
                "box {name} is no longer in the cluster"
            )));
        }
        let address = directory.address(name).ok_or_else(|| no_box(name))?;
        let certificate = match &request.node {
            None => self.sign(&request.request, Kind::Box, name, address)?,
            Some(node) if directory.has(name, node) => {
                self.sign(&request.request, Kind::Node, node, address)?
            }
            Some(node) => {
                let text = format!("the layout has no node {node} on box {name}");
                return Err(Refusal::forbidden(text));
            }
        };
        Ok(Signed { certificate })
    }

    fn sign(
        &self,
        request: &str,
        kind: Kind,
        name: &str,
        address: IpAddr,
    ) -> Result<String, Refusal> {
        let principal = Principal {
            cluster: self.file.cluster.clone(),
            kind,
            name: name.to_owned(),
        };
        let signed = self
            .authority
            .sign(request, &principal, &[address], self.file.validity());
        signed.map_err(|error| Refusal::malformed(error.to_string()))
    }
}

impl Inner {
    /// Refuses whoever has failed too often of late.
    fn hear(&mut self, from: IpAddr) -> Result<(), Refusal> {
        self.failures
            .retain(|_, (since, _)| since.elapsed() < FAILURES_WITHIN);
        match self.failures.get(&from) {
            Some((_, failures)) if *failures >= MOST_FAILURES => Err(Refusal::forbidden(
                "too many tokens of this address were wrong: wait a minute",
            )),
            _ => Ok(()),
        }
    }

    fn failed(&mut self, from: IpAddr) {
        if self.failures.len() < MOST_ADDRESSES || self.failures.contains_key(&from) {
            let (_, failures) = self.failures.entry(from).or_insert((Instant::now(), 0));
            *failures += 1;
        }
    }
}

/// The boxes that have joined.
#[derive(Debug)]
struct JoinedBoxes {
    path: std::path::PathBuf,
    since: HashMap<String, f64>,
}

impl JoinedBoxes {
    fn open(directory: &Path) -> std::io::Result<Self> {
        let path = directory.join("boxes.json");
        let since = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, since })
    }

    fn write(&self) -> std::io::Result<()> {
        crate::launch::write_whole(&self.path, &serde_json::to_vec(&self.since)?)
    }

    fn since(&self, name: &str) -> Option<String> {
        let since = *self.since.get(name)?;
        Some(muster_data::Timestamp::from_secs_f64(since.floor()).to_string())
    }

    fn add(&mut self, name: &str) -> std::io::Result<()> {
        self.since.insert(name.to_owned(), now());
        self.write()
    }

    fn remove(&mut self, name: &str) -> std::io::Result<bool> {
        let was_there = self.since.remove(name).is_some();
        self.write().map(|()| was_there)
    }
}

fn no_box(name: &str) -> Refusal {
    Refusal::conflict(format!(
        "the layout has no box {name}: add `[box.{name}]` with its address"
    ))
}

fn failed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::conflict(error.to_string())
}

/// Major and minor part of a version.
fn minor(version: &str) -> Option<(&str, &str)> {
    let mut parts = version.split('.');
    Some((parts.next()?, parts.next()?))
}

/// Makes the authority of a new cluster, and the certificate of its first box.
pub(crate) fn found(file: &BoxFile, files: &IdentityFiles) -> Result<String, IdentityError> {
    let authority = Authority::found(&file.cluster)?;
    let key = crate::pki::NewKey::new()?;
    let principal = Principal {
        cluster: file.cluster.clone(),
        kind: Kind::Box,
        name: file.name.clone(),
    };
    let addresses = [file.listen.ip()];
    let certificate = authority.sign(&key.request, &principal, &addresses, file.validity())?;
    authority.write(&files.authority())?;
    crate::pki::write(&files.authorities(), authority.pem()?.as_bytes())?;
    files.of_box().write(&key.pem()?, &certificate)?;
    Ok(authority.fingerprint()?)
}

/// The address of a box's agent.
pub(crate) fn agent_at(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, crate::identity::AGENT_PORT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::api::RefusalKind;
    use crate::pki::NewKey;

    struct Layout;

    impl Directory for Layout {
        fn address(&self, name: &str) -> Option<IpAddr> {
            let last = ["a", "b", "c"].iter().position(|known| *known == name)?;
            Some(IpAddr::from([192, 0, 2, u8::try_from(last).unwrap() + 1]))
        }

        fn has(&self, name: &str, node: &str) -> bool {
            (name, node) == ("b", "data-2")
        }

        fn text(&self) -> std::io::Result<String> {
            Ok("the layout".to_owned())
        }
    }

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    struct Setup {
        desk: Desk,
        _directory: tempfile::TempDir,
    }

    fn setup() -> Setup {
        let directory = tempfile::tempdir().unwrap();
        let file = BoxFile {
            name: "a".to_owned(),
            cluster: "east".to_owned(),
            listen: "192.0.2.1:17700".parse().unwrap(),
            authority: None,
            certificate_seconds: None,
        };
        let files = IdentityFiles::below(directory.path());
        found(&file, &files).unwrap();
        Setup {
            desk: Desk::open(&file, &files).unwrap().unwrap(),
            _directory: directory,
        }
    }

    fn token(desk: &Desk, for_box: Option<&str>) -> String {
        let request = TokenRequest {
            ttl_seconds: 60,
            for_box: for_box.map(ToOwned::to_owned),
        };
        desk.token(request, &Layout).unwrap().token
    }

    fn request(token: &str, name: &str) -> JoinRequest {
        JoinRequest {
            token: token.to_owned(),
            name: name.to_owned(),
            address: Layout.address(name).unwrap_or(FROM),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: now(),
            request: NewKey::new().unwrap().request,
        }
    }

    fn refusal(desk: &Desk, request: &JoinRequest) -> String {
        desk.join(request, FROM, &Layout).unwrap_err().to_string()
    }

    #[test]
    fn a_box_joins_once_and_its_nodes_get_certificates() {
        let Setup { desk, _directory } = setup();
        let first = token(&desk, None);
        let joined = desk.join(&request(&first, "b"), FROM, &Layout).unwrap();
        assert_eq!(
            (joined.cluster.as_str(), joined.layout.as_str()),
            ("east", "the layout")
        );
        let certificate = openssl::x509::X509::from_pem(joined.certificate.as_bytes()).unwrap();
        let principal = Principal::of(&certificate).unwrap();
        assert_eq!(principal.to_string(), "muster://east/box/b");

        let sign = |node: Option<&str>, principal: &Principal| {
            let request = SignRequest {
                node: node.map(ToOwned::to_owned),
                request: NewKey::new().unwrap().request,
            };
            desk.renew(&request, principal, &Layout)
        };
        assert!(sign(None, &principal).is_ok());
        assert!(sign(Some("data-2"), &principal).is_ok());
        let other = sign(Some("data-1"), &principal).unwrap_err();
        assert!(other.error.contains("no node data-1 on box b"), "{other}");
        let node = Principal {
            kind: Kind::Node,
            ..principal.clone()
        };
        assert_eq!(sign(None, &node).unwrap_err().kind, RefusalKind::Forbidden);
        let stranger = Principal {
            name: "c".to_owned(),
            ..principal.clone()
        };
        assert!(
            sign(None, &stranger)
                .unwrap_err()
                .error
                .contains("no longer")
        );

        // Once, unless somebody says so.
        let second = token(&desk, None);
        assert!(refusal(&desk, &request(&second, "b")).contains("has joined already"));
        desk.forget("b").unwrap();
        assert!(sign(None, &principal).is_err());
        assert!(desk.join(&request(&second, "b"), FROM, &Layout).is_ok());
        assert_eq!(desk.forget("z").unwrap_err().kind, RefusalKind::Unknown);
    }

    #[test]
    fn what_does_not_fit_is_named_and_uses_no_token_up() {
        let Setup { desk, _directory } = setup();
        let good = token(&desk, None);
        let mut old = request(&good, "b");
        old.version = "9.9.0".to_owned();
        assert!(refusal(&desk, &old).contains("version 9.9.0"));
        let mut late = request(&good, "b");
        late.time -= 3600.0;
        assert!(refusal(&desk, &late).contains("3600 s apart"));
        late.time = f64::NAN;
        assert!(refusal(&desk, &late).contains("apart"));
        assert!(refusal(&desk, &request(&good, "z")).contains("no box z"));
        assert!(refusal(&desk, &request(&good, "a")).contains("is this one"));
        let mut moved = request(&good, "b");
        moved.address = [192, 0, 2, 99].into();
        assert!(refusal(&desk, &moved).contains("192.0.2.99"));
        let mut unsigned = request(&good, "b");
        unsigned.request = "nothing".to_owned();
        assert!(refusal(&desk, &unsigned).contains("request for a certificate"));
        assert!(desk.join(&request(&good, "b"), FROM, &Layout).is_ok());
        assert!(refusal(&desk, &request(&good, "c")).contains("has been used"));
        let bound = token(&desk, Some("c"));
        let unknown = TokenRequest {
            ttl_seconds: 60,
            for_box: Some("z".to_owned()),
        };
        assert!(desk.token(unknown, &Layout).is_err());
        assert!(refusal(&desk, &request(&bound, "b")).contains("another box"));
    }

    #[test]
    fn whoever_guesses_is_not_heard_for_a_while() {
        let Setup { desk, _directory } = setup();
        let good = token(&desk, None);
        let forged = format!("{}{}", &good[..good.len() - 64], "0".repeat(64));
        for _ in 0..MOST_FAILURES {
            assert!(refusal(&desk, &request(&forged, "b")).contains("not known"));
        }
        assert!(refusal(&desk, &request(&good, "b")).contains("wait a minute"));
        let elsewhere = [192, 0, 2, 3].into();
        assert!(desk.join(&request(&good, "b"), elsewhere, &Layout).is_ok());
    }
}
