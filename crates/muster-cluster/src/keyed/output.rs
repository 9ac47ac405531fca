//! What a handler of keyed events gives away.

use bytes::Bytes;
use muster_data::{DataRef, Limits, encode, validate};
use muster_wire::{Class, Topic};

use crate::delivery::Batch;
use crate::layout::PoolName;

/// Something that leaves the owner of a key when its standby knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Records of a log.
    Log(Batch),
    /// An event for the owner of another key.
    Keyed {
        pool: PoolName,
        digest: u32,
        /// The event, an encoded value.
        payload: Bytes,
    },
    /// An event for the subscribers of a topic.
    Event {
        topic: Topic,
        class: Class,
        /// The event, an encoded value.
        payload: Bytes,
    },
}

impl Output {
    /// Returns it as owners keep it: a vector of a kind and what belongs to it.
    pub(crate) fn encoded(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Log(batch) => {
                encode::vector_header(&mut out, 2);
                encode::count(&mut out, 0);
                batch.put_numbered(0, &mut out);
            }
            Self::Keyed {
                pool,
                digest,
                payload,
            } => {
                encode::vector_header(&mut out, 4);
                encode::count(&mut out, 1);
                encode::string(&mut out, pool.as_str().as_bytes());
                encode::count(&mut out, u64::from(*digest));
                out.extend_from_slice(payload);
            }
            Self::Event {
                topic,
                class,
                payload,
            } => {
                encode::vector_header(&mut out, 4);
                encode::count(&mut out, 2);
                encode::string(&mut out, topic.as_bytes());
                encode::count(&mut out, number_of(*class));
                out.extend_from_slice(payload);
            }
        }
        out.into()
    }

    /// Reads what [`encoded`](Self::encoded) has made. Returns `None` for anything else.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        validate(bytes, &Limits::default()).ok()?;
        let mut parts = DataRef::from_validated(bytes).as_vector()?.iter();
        let kind = parts.next()?.as_count()?;
        let first = parts.next()?;
        let bytes = |part: DataRef<'_>| Bytes::copy_from_slice(part.bytes());
        Some(match kind {
            0 => Self::Log(Batch::read_numbered(first.bytes())?.1),
            1 => Self::Keyed {
                pool: PoolName::new(first.as_str()?).ok()?,
                digest: u32::try_from(parts.next()?.as_count()?).ok()?,
                payload: bytes(parts.next()?),
            },
            2 => Self::Event {
                topic: Topic::new(first.as_str()?).ok()?,
                class: class_of(parts.next()?.as_count()?)?,
                payload: bytes(parts.next()?),
            },
            _ => return None,
        })
    }
}

fn number_of(class: Class) -> u64 {
    match class {
        Class::Control => 0,
        Class::Interactive => 1,
        Class::Event => 2,
        Class::Bulk => 3,
    }
}

fn class_of(number: u64) -> Option<Class> {
    let classes = [
        Class::Control,
        Class::Interactive,
        Class::Event,
        Class::Bulk,
    ];
    let number = usize::try_from(number).ok()?;
    classes.get(number).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::batch_of;

    #[test]
    fn an_output_is_read_as_it_was_kept() {
        let mut payload = Vec::new();
        encode::string(&mut payload, b"an event");
        let payload = Bytes::from(payload);
        let outputs = [
            Output::Log(batch_of("notice", 3)),
            Output::Keyed {
                pool: PoolName::proxy(),
                digest: u32::MAX,
                payload: payload.clone(),
            },
            Output::Event {
                topic: Topic::new("zeek/cluster/manager").unwrap(),
                class: Class::Interactive,
                payload,
            },
        ];
        for output in outputs {
            assert_eq!(Output::read(&output.encoded()), Some(output));
        }
    }

    #[test]
    fn what_is_no_output_is_not_read() {
        let mut out = Vec::new();
        encode::vector_header(&mut out, 2);
        encode::count(&mut out, 3);
        encode::count(&mut out, 3);
        assert_eq!(Output::read(&out), None);
        assert_eq!(Output::read(&out[..1]), None);
    }
}
