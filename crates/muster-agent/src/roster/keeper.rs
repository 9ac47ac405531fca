//! The roster of a box: on its disk, and in its agent's memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Public};
use openssl::sign::Verifier;
use openssl::x509::X509;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Roster, RosterRefusal};
use crate::identity::{IdentityError, IdentityFiles};
use crate::journal::now;
use crate::launch::write_whole;
use crate::pki::{Authority, PkiError, from_hexadecimal, hexadecimal};

/// What is signed begins with this, so that nothing else the authority signs can be taken for a roster.
const CONTEXT: &[u8] = b"muster roster 1\0";

/// A roster as it travels: anybody may pass it on, only the authority can have made it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct SignedRoster {
    /// The roster as JSON: the very bytes that are signed.
    roster: String,
    /// In hexadecimal digits.
    signature: String,
}

/// Why a roster is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error("the roster is not signed by the cluster's authority")]
    Signature,
    #[error("the roster is not understood: {0}")]
    Malformed(String),
    #[error("the roster cannot be written: {0}")]
    Write(io::Error),
}

/// Why a roster is not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotChanged {
    #[error(transparent)]
    Refused(#[from] RosterRefusal),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    /// What was decided before would be forgotten by all.
    #[error(
        "this box has version {kept} of the roster, and has made version {made}: start the agent of a box that has it; \
         without it, removing {path} begins a new one, in which no operator and no forgotten box is"
    )]
    Lost { kept: u64, made: u64, path: String },
}

/// Keeps the roster of a box.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    /// On the box of the authority: the version that it has made last.
    mark: PathBuf,
    cluster: String,
    authorities: Vec<PKey<Public>>,
    kept: RwLock<Kept>,
    changed: watch::Sender<()>,
    /// One change after another.
    changing: Mutex<()>,
}

#[derive(Debug, Clone)]
struct Kept {
    roster: Arc<Roster>,
    signed: Option<Arc<SignedRoster>>,
}

impl Keeper {
    /// Opens that of a box. One on disk that the authority has not signed is none.
    pub(crate) fn open(cluster: &str, files: &IdentityFiles) -> Result<Self, IdentityError> {
        let keeper = Self {
            path: files.roster(),
            mark: files.authority().join("roster.version"),
            cluster: cluster.to_owned(),
            authorities: authorities(&files.authorities())?,
            kept: RwLock::new(Kept {
                roster: Arc::new(Roster {
                    cluster: cluster.to_owned(),
                    ..Roster::default()
                }),
                signed: None,
            }),
            changed: watch::Sender::new(()),
            changing: Mutex::new(()),
        };
        let text = match std::fs::read(&keeper.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(keeper),
            Err(source) => {
                let path = keeper.path;
                return Err(IdentityError::File { path, source });
            }
        };
        let read = serde_json::from_slice::<SignedRoster>(&text);
        let read = read.map_err(|error| NotTaken::Malformed(error.to_string()));
        match read.and_then(|signed| Ok((keeper.check(&signed)?, signed))) {
            Ok((roster, signed)) => keeper.keep(roster, signed),
            // The others have it, or the box of the authority begins a new one, which nobody takes for an older one.
            Err(error) => tracing::error!("{}: {error}", keeper.path.display()),
        }
        Ok(keeper)
    }

    /// The roster.
    pub(crate) fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.kept().roster)
    }

    /// As it travels, if it is later than a version.
    pub(crate) fn later_than(&self, version: u64) -> Option<Arc<SignedRoster>> {
        let kept = self.kept();
        kept.signed.filter(|_| kept.roster.version > version)
    }

    fn kept(&self) -> Kept {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.clone()
    }

    fn keep(&self, roster: Roster, signed: SignedRoster) {
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Kept {
            roster: Arc::new(roster),
            signed: Some(Arc::new(signed)),
        };
        self.changed.send_replace(());
    }

    /// Tells of each change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Reads a roster that the authority has signed.
    fn check(&self, signed: &SignedRoster) -> Result<Roster, NotTaken> {
        let signature = from_hexadecimal(&signed.signature).ok_or(NotTaken::Signature)?;
        let is_of = |key: &PKey<Public>| {
            let mut verifier = Verifier::new(MessageDigest::sha256(), key)?;
            verifier.update(CONTEXT)?;
            verifier.update(signed.roster.as_bytes())?;
            verifier.verify(&signature)
        };
        // A signature that cannot be read is none.
        if !self
            .authorities
            .iter()
            .any(|key| is_of(key).unwrap_or(false))
        {
            return Err(NotTaken::Signature);
        }
        let roster: Roster = serde_json::from_str(&signed.roster)
            .map_err(|error| NotTaken::Malformed(error.to_string()))?;
        if roster.cluster != self.cluster {
            let text = format!("it is of cluster {}", roster.cluster);
            return Err(NotTaken::Malformed(text));
        }
        Ok(roster)
    }

    /// Takes a roster, from whomever it comes, if it is later. Returns whether it was.
    pub(crate) fn take(&self, signed: &SignedRoster) -> Result<bool, NotTaken> {
        let roster = self.check(signed)?;
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if roster.version <= self.roster().version {
            return Ok(false);
        }
        // Whoever was removed stays out although the disk is full.
        self.keep(roster, signed.clone());
        self.write(signed).map(|()| true)
    }

    fn write(&self, signed: &SignedRoster) -> Result<(), NotTaken> {
        let text = serde_json::to_vec(signed);
        let text = text.map_err(|error| NotTaken::Malformed(error.to_string()))?;
        write_whole(&self.path, &text).map_err(NotTaken::Write)
    }

    /// Makes a later roster, with the authority's key.
    pub(crate) fn change<T>(
        &self,
        authority: &Authority,
        change: impl FnOnce(&mut Roster) -> Result<T, RosterRefusal>,
    ) -> Result<T, NotChanged> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut roster = Roster::clone(&self.roster());
        let made = self.made();
        if roster.version < made {
            return Err(NotChanged::Lost {
                kept: roster.version,
                made,
                path: self.mark.display().to_string(),
            });
        }
        let done = change(&mut roster)?;
        roster.advance(now());
        let text = serde_json::to_string(&roster);
        let text = text.map_err(|error| NotTaken::Malformed(error.to_string()))?;
        let signature = authority.sign_bytes(&[CONTEXT, text.as_bytes()])?;
        let signed = SignedRoster {
            roster: text,
            signature: hexadecimal(&signature),
        };
        self.write(&signed)?;
        // Behind the roster: one that is not there was not made. A mark that stays behind does no harm.
        let made = roster.version.to_string();
        if let Err(error) = write_whole(&self.mark, made.as_bytes()) {
            tracing::warn!("cannot write {}: {error}", self.mark.display());
        }
        self.keep(roster, signed);
        Ok(done)
    }

    /// The version of the roster that this box has made last; 0 if it has made none.
    fn made(&self) -> u64 {
        let text = std::fs::read_to_string(&self.mark).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

/// The keys of the authorities that are trusted.
fn authorities(path: &Path) -> Result<Vec<PKey<Public>>, IdentityError> {
    let pem = std::fs::read(path).map_err(|source| IdentityError::File {
        path: path.to_owned(),
        source,
    })?;
    let keys = X509::stack_from_pem(&pem).and_then(|certificates| {
        let keys = certificates.iter().map(|one| one.public_key());
        keys.collect::<Result<_, _>>()
    });
    let malformed = |source| PkiError::Malformed {
        what: path.display().to_string(),
        source,
    };
    Ok(keys.map_err(malformed)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::super::{Operator, Proof};
    use super::*;
    use crate::api::Role;

    struct Setup {
        directory: tempfile::TempDir,
        authority: Authority,
    }

    impl Setup {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let authority = Authority::found("east").unwrap();
            Self {
                directory,
                authority,
            }
        }

        fn keeper(&self, name: &str, cluster: &str) -> Keeper {
            let files = IdentityFiles::at(&self.directory.path().join(name));
            let pem = self.authority.pem().unwrap();
            crate::pki::write(&files.authorities(), pem.as_bytes()).unwrap();
            Keeper::open(cluster, &files).unwrap()
        }
    }

    fn add(keeper: &Keeper, authority: &Authority, name: &str) {
        let operator = Operator {
            role: Role::Viewer,
            proof: Proof::Certificate("01".to_owned()),
            added: now(),
            ends: now() + 60.0,
        };
        keeper
            .change(authority, |roster| roster.add(name, operator, false))
            .unwrap();
    }

    #[test]
    fn the_later_roster_wins_and_outlives_the_agent() {
        let setup = Setup::new();
        let (a, b) = (setup.keeper("a", "east"), setup.keeper("b", "east"));
        assert!(a.later_than(0).is_none());
        add(&a, &setup.authority, "alice");
        let first = a.later_than(0).unwrap();
        add(&a, &setup.authority, "bob");
        let second = a.later_than(a.roster().version - 1).unwrap();
        assert!(a.later_than(a.roster().version).is_none());
        assert!(b.take(&second).unwrap());
        // What is older or the same changes nothing.
        assert!(!b.take(&first).unwrap());
        assert!(!b.take(&second).unwrap());
        assert_eq!(b.roster(), a.roster());
        // The next agent has it, and passes it on; the box of the authority takes its own back.
        let b = setup.keeper("b", "east");
        assert_eq!(b.roster().operators.len(), 2);
        let new = setup.keeper("new", "east");
        let passed = b.later_than(new.roster().version).unwrap();
        assert!(new.take(&passed).unwrap());
        add(&new, &setup.authority, "carol");
        assert!(new.roster().version > b.roster().version);
    }

    #[test]
    fn a_roster_that_was_lost_is_not_begun_anew() {
        for text in [Some(""), Some("{"), None] {
            let setup = Setup::new();
            let keeper = setup.keeper("a", "east");
            add(&keeper, &setup.authority, "alice");
            let signed = keeper.later_than(0).unwrap();
            match text {
                Some(text) => std::fs::write(&keeper.path, text).unwrap(),
                None => std::fs::remove_file(&keeper.path).unwrap(),
            }
            let next = setup.keeper("a", "east");
            let changed = next.change(&setup.authority, |roster| roster.remove("alice"));
            let text = changed.unwrap_err().to_string();
            assert!(text.contains("has version 0 of the roster"), "{text}");
            // Another box has it.
            assert!(next.take(&signed).unwrap());
            add(&next, &setup.authority, "bob");
            assert_eq!(next.roster().operators.len(), 2);
        }
    }

    #[test]
    fn what_the_authority_has_not_signed_is_not_taken() {
        let setup = Setup::new();
        let keeper = setup.keeper("a", "east");
        add(&keeper, &setup.authority, "alice");
        let good = SignedRoster::clone(&keeper.later_than(0).unwrap());
        let other = setup.keeper("other", "east");
        let mut admin = good.clone();
        admin.roster = admin.roster.replace("viewer", "admin");
        let mut unsigned = good.clone();
        unsigned.signature = "00".to_owned();
        let mut odd = good.clone();
        odd.signature = "xyz".to_owned();
        for wrong in [admin, unsigned, odd, SignedRoster::default()] {
            let refused = other.take(&wrong).unwrap_err();
            assert!(matches!(refused, NotTaken::Signature), "{refused}");
        }
        let elsewhere = setup.keeper("elsewhere", "west");
        let refused = elsewhere.take(&good).unwrap_err();
        assert!(refused.to_string().contains("cluster east"), "{refused}");
        // Nor from the disk.
        let text = std::fs::read_to_string(&keeper.path).unwrap();
        std::fs::write(&keeper.path, text.replace("viewer", "admin")).unwrap();
        assert!(setup.keeper("a", "east").roster().operators.is_empty());
        std::fs::write(&keeper.path, "{}").unwrap();
        assert!(setup.keeper("a", "east").roster().operators.is_empty());
    }
}
