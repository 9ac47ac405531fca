//! Seals: where endpoints have certificates, a record belongs to that of its origin (protocol version 2, section 5.2).
//!
//! A seal is a signature with the private key of the origin's certificate. Cryptography is the shell's: [`Seals`] is what
//! an endpoint signs with, and whom it trusts.

#[cfg(any(test, feature = "simulation"))]
mod toy;

use std::fmt;
use std::sync::Arc;

use crate::EndpointId;
use crate::mesh::codec::{put_links, put_node};
use crate::mesh::database::Refusal;
use crate::mesh::record::{LinkRecord, NodeRecord};
use crate::time::Wall;

#[cfg(any(test, feature = "simulation"))]
pub use toy::ToySeals;

/// A signature over the bytes of a record.
pub type Signature = Arc<[u8]>;

/// What the signed bytes begin with, so that no signature of the same key over anything else is one over a record, nor
/// the other way round. It is longer than the 64 bytes that a TLS 1.2 handshake has its sides choose of what they sign.
const CONTEXT: &[u8] = b"Muster, protocol version 2, seal 1: the owner of this certificate announces the record of the mesh \
      that follows.\0";

/// What a signature is over, behind the context.
const NODE: u8 = 1;
const LINKS: u8 = 2;

/// The certificates of an endpoint, and what makes its id one of theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// A random number of this life. The endpoint's id is made of it and of the names in the certificate: nobody with
    /// other names finds one that makes the same id.
    pub salt: [u8; 16],
    /// The certificate, and those that lead from it to the authority, in the shell's encoding.
    pub certificates: Vec<Vec<u8>>,
}

/// The seal of a node record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSeal {
    /// Whose it is.
    pub credentials: Arc<Credentials>,
    /// Of what [`node_bytes`] returns.
    pub signature: Signature,
    /// Fields of the record that are not known here, as they came: the signature is over them as well.
    pub unknown: Vec<u8>,
}

impl NodeSeal {
    /// Returns about how many bytes it takes.
    pub fn size(&self) -> usize {
        let certificates = self.credentials.certificates.iter().map(Vec::len);
        certificates.sum::<usize>() + self.signature.len() + self.unknown.len() + 32
    }
}

/// What an endpoint seals its records with, and whom it believes those of others.
pub trait Seals: fmt::Debug + Send + Sync {
    /// Returns what the others are to know this endpoint by.
    fn credentials(&self) -> &Arc<Credentials>;

    /// Signs bytes, or returns `None` if that fails: the record then has no seal, and nobody takes it.
    fn sign(&self, bytes: &[u8]) -> Option<Signature>;

    /// Returns the owner of credentials, if they are trusted at a time and the id is one of theirs.
    ///
    /// # Errors
    /// [`Refusal::Untrusted`], [`Refusal::OutOfDate`] or [`Refusal::Identity`] if not.
    fn owner(
        &self,
        id: EndpointId,
        credentials: &Credentials,
        at: Wall,
    ) -> Result<Arc<dyn Owner>, Refusal>;
}

/// Whoever has the private key of a certificate that is trusted.
pub trait Owner: fmt::Debug + Send + Sync {
    /// Returns `true` if a signature is the owner's, over these bytes.
    fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool;

    /// Returns `true` if the owner may announce a node of this name. Certificates may bind it to one; most do not.
    fn may_be_called(&self, name: &str) -> bool {
        let _ = name;
        true
    }
}

/// Returns what the seal of a node record signs: the record with the fields that are not known here.
pub fn node_bytes(node: &NodeRecord, unknown: &[u8]) -> Vec<u8> {
    let mut bytes = begun(NODE);
    put_node(node, &mut bytes);
    bytes.extend_from_slice(unknown);
    bytes
}

/// Returns what the seal of a link record signs, and that of a change of which the record is the result.
pub fn link_bytes(links: &LinkRecord) -> Vec<u8> {
    let mut bytes = begun(LINKS);
    put_links(links, &mut bytes);
    bytes
}

fn begun(kind: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(CONTEXT);
    bytes.push(kind);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Filter, Incarnation};

    /// A TLS 1.2 handshake signs two random numbers of 32 bytes first, one of them chosen by the other side; TLS 1.3
    /// signs 64 spaces first.
    #[test]
    fn what_is_signed_is_no_handshake_and_no_other_record() {
        assert!(CONTEXT.len() > 64 && CONTEXT[32..64] != [b' '; 32]);
        let text = std::str::from_utf8(&CONTEXT[..CONTEXT.len() - 1]).unwrap();
        let specification = include_str!("../../../../docs/protocol-v2.md");
        assert!(specification.contains(text));
        let id = EndpointId::from_random([1; 16]);
        let node = NodeRecord {
            id,
            incarnation: Incarnation(1),
            version: 1,
            transit: false,
            ready: false,
            homes: false,
            name: String::new(),
            role: String::new(),
            machine: String::new(),
            filter: Filter::default(),
            guests: Vec::new(),
        };
        let links = LinkRecord {
            id,
            incarnation: Incarnation(1),
            version: 1,
            neighbours: Vec::new(),
        };
        let (node, links) = (node_bytes(&node, &[]), link_bytes(&links));
        let at = CONTEXT.len();
        assert_eq!((node[at], links[at]), (NODE, LINKS));
        assert_eq!((&node[..at], &links[..at]), (CONTEXT, CONTEXT));
    }
}
