//! Seals without cryptography, for simulations: whoever does not ask [`ToySeals::sign`] forges nothing by chance.

use std::sync::Arc;

use super::{Credentials, Owner, Seals, Signature};
use crate::EndpointId;
use crate::bytes::Reader;
use crate::mesh::database::Refusal;
use crate::mesh::score::mix;
use crate::time::Wall;

/// The number of the authority that all certificates must be of.
const AUTHORITY: u64 = 0x6d75_7374_6572;

/// One life's seals: a certificate is the name of its owner, a number for its key, when it ends, and its authority.
#[derive(Debug, Clone)]
pub struct ToySeals {
    secret: u64,
    credentials: Arc<Credentials>,
}

#[derive(Debug)]
struct ToyOwner(u64);

impl ToySeals {
    /// Makes the seals of a name with a key, and returns them with the id of the endpoint. The salt is to be random.
    pub fn new(name: u64, key: u64, salt: [u8; 16]) -> (EndpointId, Self) {
        Self::until(Wall(u64::MAX), name, key, salt)
    }

    /// The same with a certificate that is valid up to some time.
    pub fn until(end: Wall, name: u64, key: u64, salt: [u8; 16]) -> (EndpointId, Self) {
        let fields = [name, key, end.0, AUTHORITY];
        let certificate = fields.iter().flat_map(|field| field.to_be_bytes());
        let seals = Self {
            secret: secret(name, key),
            credentials: Arc::new(Credentials {
                salt,
                certificates: vec![certificate.collect()],
            }),
        };
        (id_of(name, salt), seals)
    }
}

impl Seals for ToySeals {
    fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    fn sign(&self, bytes: &[u8]) -> Option<Signature> {
        Some(sum(self.secret, bytes).to_be_bytes().into())
    }

    fn owner(
        &self,
        id: EndpointId,
        credentials: &Credentials,
        at: Wall,
    ) -> Result<Arc<dyn Owner>, Refusal> {
        let certificate = credentials.certificates.first();
        let mut reader = Reader::new(certificate.map_or(&[], Vec::as_slice));
        let mut fields = || Some([reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?]);
        let Some([name, key, end, AUTHORITY]) = fields() else {
            return Err(Refusal::Untrusted);
        };
        if at.0 > end {
            Err(Refusal::OutOfDate)
        } else if id_of(name, credentials.salt) == id {
            Ok(Arc::new(ToyOwner(secret(name, key))))
        } else {
            Err(Refusal::Identity)
        }
    }
}

impl Owner for ToyOwner {
    fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        sum(self.0, bytes).to_be_bytes() == signature
    }
}

fn secret(name: u64, key: u64) -> u64 {
    mix(mix(name) ^ key)
}

fn id_of(name: u64, salt: [u8; 16]) -> EndpointId {
    let half = |start| mix(sum(start, &salt) ^ name).to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&half(1));
    bytes[8..].copy_from_slice(&half(2));
    EndpointId::from_random(bytes)
}

fn sum(start: u64, bytes: &[u8]) -> u64 {
    let step = |sum, byte: &u8| mix(sum ^ u64::from(*byte)).wrapping_add(1);
    bytes.iter().fold(mix(start), step)
}
