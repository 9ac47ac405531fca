//! Seals of the mesh with the certificates of mutual TLS (protocol version 2, section 5.2): the same key, the same
//! authorities.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use muster_wire::mesh::Refusal;
use muster_wire::mesh::codec::{MAX_CERTIFICATES, MAX_CHAIN};
use muster_wire::mesh::seal::{Credentials, Owner, Seals, Signature};
use muster_wire::{EndpointId, Wall};
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{HasPrivate, HasPublic, Id, PKey, PKeyRef, Private, Public};
use openssl::sha::Sha256;
use openssl::sign::{Signer, Verifier};
use openssl::ssl::{SslContext, SslMethod};
use openssl::stack::Stack;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{GeneralNameRef, X509, X509PurposeId, X509Ref, X509StoreContext};

use super::{Certificates, TlsError, file, unsupported};

/// What an endpoint id is made of begins with this.
const ID_CONTEXT: &[u8] = b"Muster, protocol version 2, endpoint id 1\0";

/// What every life of an endpoint seals with.
#[derive(Clone)]
pub(crate) struct SealingKey {
    key: PKey<Private>,
    /// Our certificate, and those that lead to the authority.
    certificates: Vec<Vec<u8>>,
    names: Arc<[u8]>,
    trust: Arc<Trust>,
}

/// Whose certificates are good: those that a dialler, or an acceptor, of mutual TLS would take.
struct Trust([SslContext; 2]);

/// What one life of an endpoint seals with.
pub(crate) struct CertificateSeals {
    key: PKey<Private>,
    credentials: Arc<Credentials>,
    id: EndpointId,
    trust: Arc<Trust>,
}

/// The key in a certificate that is trusted.
struct CertifiedKey {
    key: PKey<Public>,
    /// The only node that it may announce, if it is bound to one.
    bound_to: Option<String>,
}

/// A certificate of a box's agent or of a node has a URI that says so: `muster://CLUSTER/node/NAME` binds it to that name,
/// `muster://CLUSTER/box/NAME` to `agent.NAME`.
const URI: &str = "muster://";

impl SealingKey {
    pub(super) fn load(certificates: &Certificates, key: PKey<Private>) -> Result<Self, TlsError> {
        let path = &certificates.certificate;
        let failed = |error: &dyn fmt::Display| file("certificate", path, error);
        let pem = std::fs::read(path).map_err(|error| failed(&error))?;
        let chain = X509::stack_from_pem(&pem).map_err(|error| failed(&error))?;
        let leaf = chain
            .first()
            .ok_or_else(|| failed(&"no certificate in it"))?;
        // Nobody trusts an authority because we name it.
        let others = chain.iter().skip(1).filter(|one| !is_self_signed(one));
        let sent = [leaf].into_iter().chain(others).map(|one| one.to_der());
        let sent: Vec<Vec<u8>> = sent
            .collect::<Result<_, _>>()
            .map_err(|error| failed(&error))?;
        let bytes: usize = sent.iter().map(Vec::len).sum();
        if sent.len() > MAX_CHAIN || bytes > MAX_CERTIFICATES {
            let count = sent.len();
            return Err(failed(&format!(
                "{count} certificates of {bytes} bytes lead to its authority; at most {MAX_CHAIN} of {MAX_CERTIFICATES} bytes \
                 can be announced"
            )));
        }
        let public = leaf.public_key().map_err(|error| failed(&error))?;
        let trial = sign(&key, ID_CONTEXT).map_err(|error| unsupported("mutual", &error))?;
        if !verify(&public, ID_CONTEXT, &trial) {
            return Err(failed(&"its key signs nothing that can be verified"));
        }
        let trust = Trust::load(certificates).map_err(|error| unsupported("mutual", &error))?;
        Ok(Self {
            key,
            certificates: sent,
            names: names(leaf).map_err(|error| failed(&error))?.into(),
            trust: Arc::new(trust),
        })
    }

    /// The seals of a life of an endpoint, whose id is made of random bytes and of the names in our certificate.
    pub(crate) fn for_life(&self, salt: [u8; 16]) -> CertificateSeals {
        CertificateSeals {
            key: self.key.clone(),
            credentials: Arc::new(Credentials {
                salt,
                certificates: self.certificates.clone(),
            }),
            id: id_of(&self.names, salt),
            trust: Arc::clone(&self.trust),
        }
    }
}

impl CertificateSeals {
    /// The id that these seals are good for.
    pub(crate) fn id(&self) -> EndpointId {
        self.id
    }

    /// The key in a certificate, if that is trusted at a time and the id is one of its names.
    fn certified(
        &self,
        id: EndpointId,
        credentials: &Credentials,
        at: Wall,
    ) -> Result<CertifiedKey, Refusal> {
        let read = |der: &Vec<u8>| X509::from_der(der).map_err(|_| Refusal::Untrusted);
        let mut chain = credentials.certificates.iter();
        let leaf = read(chain.next().ok_or(Refusal::Untrusted)?)?;
        // Whoever speaks for another one has to get this wrong, and it costs least.
        let names = names(&leaf).map_err(|_| Refusal::Untrusted)?;
        if id_of(&names, credentials.salt) != id {
            return Err(Refusal::Identity);
        }
        let others: Vec<X509> = chain.map(read).collect::<Result<_, _>>()?;
        self.trust.check(&leaf, &others, at)?;
        Ok(CertifiedKey {
            key: leaf.public_key().map_err(|_| Refusal::Untrusted)?,
            bound_to: bound_to(&leaf),
        })
    }
}

impl fmt::Debug for CertificateSeals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CertificateSeals").field(&self.id).finish()
    }
}

impl fmt::Debug for CertifiedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertifiedKey")
    }
}

impl Seals for CertificateSeals {
    fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    fn sign(&self, bytes: &[u8]) -> Option<Signature> {
        // The key has signed at the start. OpenSSL fails now only where it has no memory.
        sign(&self.key, bytes).ok().map(Into::into)
    }

    fn owner(
        &self,
        id: EndpointId,
        credentials: &Credentials,
        at: Wall,
    ) -> Result<Arc<dyn Owner>, Refusal> {
        let owner = self.certified(id, credentials, at);
        // What OpenSSL says of a certificate that it does not take stays with the thread: the next connection that has
        // nothing to read there would be ended by it.
        let _ = ErrorStack::get();
        Ok(Arc::new(owner?))
    }
}

impl Owner for CertifiedKey {
    fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        verify(&self.key, bytes, signature)
    }

    fn may_be_called(&self, name: &str) -> bool {
        // Whoever has no name is no node: it looks on.
        let is_bound = |only: &String| name.is_empty() || only == name;
        self.bound_to.as_ref().is_none_or(is_bound)
    }
}

/// The name of the node that a certificate is bound to.
fn bound_to(certificate: &X509Ref) -> Option<String> {
    let alternatives = certificate.subject_alt_names()?;
    alternatives.iter().find_map(|name| {
        let mut parts = name.uri()?.strip_prefix(URI)?.split('/').skip(1);
        match (parts.next()?, parts.next()?) {
            ("node", name) => Some(name.to_owned()),
            ("box", name) => Some(format!("agent.{name}")),
            _ => None,
        }
    })
}

impl Trust {
    fn load(certificates: &Certificates) -> Result<Self, ErrorStack> {
        let (file, directory) = (
            certificates.cafile.as_deref(),
            certificates.capath.as_deref(),
        );
        Ok(Self([
            authorities(file, directory, X509PurposeId::SSL_CLIENT)?,
            authorities(file, directory, X509PurposeId::SSL_SERVER)?,
        ]))
    }

    fn check(&self, leaf: &X509, others: &[X509], at: Wall) -> Result<(), Refusal> {
        let mut verdict = Refusal::Untrusted;
        for context in &self.0 {
            match verified(context, leaf, others, at) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(refusal)) => verdict = refusal,
                Err(_) => {}
            }
        }
        Err(verdict)
    }
}

/// The trusted authorities, as a TLS handshake has them, without a look at the clock.
fn authorities(
    file: Option<&Path>,
    directory: Option<&Path>,
    purpose: X509PurposeId,
) -> Result<SslContext, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::tls())?;
    builder.load_verify_locations(file, directory)?;
    let store = builder.cert_store_mut();
    store.set_flags(X509VerifyFlags::NO_CHECK_TIME)?;
    store.set_purpose(purpose)?;
    Ok(builder.build())
}

/// Whether a certificate is trusted, and valid at a time with all that lead to its authority.
fn verified(
    context: &SslContext,
    leaf: &X509,
    others: &[X509],
    at: Wall,
) -> Result<Result<(), Refusal>, ErrorStack> {
    let at = Asn1Time::from_unix(i64::try_from(at.0).unwrap_or(i64::MAX))?;
    let mut untrusted = Stack::new()?;
    for other in others {
        untrusted.push(other.clone())?;
    }
    let mut verification = X509StoreContext::new()?;
    verification.init(context.cert_store(), leaf, &untrusted, |verification| {
        if !verification.verify_cert()? {
            return Ok(Err(Refusal::Untrusted));
        }
        let chain = verification.chain().into_iter().flatten();
        for certificate in chain {
            let is_begun = certificate.not_before().compare(&at)?.is_le();
            if !is_begun || certificate.not_after().compare(&at)?.is_lt() {
                return Ok(Err(Refusal::OutOfDate));
            }
        }
        Ok(Ok(()))
    })
}

fn is_self_signed(certificate: &X509Ref) -> bool {
    let [subject, issuer] = [certificate.subject_name(), certificate.issuer_name()];
    subject.try_cmp(issuer).is_ok_and(std::cmp::Ordering::is_eq)
}

/// What stays when a certificate is renewed with another key, or by another trusted authority: its subject, and its
/// alternative names in any order. A certificate without any is known by its key.
fn names(certificate: &X509Ref) -> Result<Vec<u8>, ErrorStack> {
    let subject = certificate.subject_name();
    let alternatives = certificate.subject_alt_names();
    let mut parts = Vec::new();
    for name in alternatives.iter().flatten() {
        parts.extend(alternative(name)?);
    }
    if subject.entries().next().is_none() && parts.is_empty() {
        parts.push((b'k', certificate.public_key()?.public_key_to_der()?));
    }
    parts.push((b's', subject.to_der()?));
    parts.sort_unstable();
    let mut names = Vec::new();
    for (kind, bytes) in parts {
        names.push(kind);
        names.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        names.extend_from_slice(&bytes);
    }
    Ok(names)
}

/// A name of the kinds that certificates of processes have.
fn alternative(name: &GeneralNameRef) -> Result<Option<(u8, Vec<u8>)>, ErrorStack> {
    if let Some(directory) = name.directory_name() {
        return Ok(Some((b'n', directory.to_der()?)));
    }
    let texts = [
        (b'd', name.dnsname()),
        (b'u', name.uri()),
        (b'e', name.email()),
    ];
    let found = texts
        .into_iter()
        .find_map(|(kind, text)| Some((kind, text?.as_bytes().to_vec())));
    let address = || Some((b'i', name.ipaddress()?.to_vec()));
    Ok(found.or_else(address))
}

fn id_of(names: &[u8], salt: [u8; 16]) -> EndpointId {
    let mut hash = Sha256::new();
    for part in [ID_CONTEXT, &salt, names] {
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finish()[..16]);
    EndpointId::from_random(bytes)
}

/// The hash of a signature; keys of some kinds have their own.
fn digest<T>(key: &PKeyRef<T>) -> Option<MessageDigest> {
    let has_own = matches!(key.id(), Id::ED25519 | Id::ED448);
    (!has_own).then(MessageDigest::sha256)
}

fn sign<T: HasPrivate>(key: &PKeyRef<T>, bytes: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let mut signer = match digest(key) {
        Some(digest) => Signer::new(digest, key)?,
        None => Signer::new_without_digest(key)?,
    };
    signer.sign_oneshot_to_vec(bytes)
}

fn verify<T: HasPublic>(key: &PKeyRef<T>, bytes: &[u8], signature: &[u8]) -> bool {
    let verifier = match digest(key) {
        Some(digest) => Verifier::new(digest, key),
        None => Verifier::new_without_digest(key),
    };
    verifier.is_ok_and(|mut verifier| verifier.verify_oneshot(signature, bytes).unwrap_or(false))
}

#[cfg(test)]
mod tests;
