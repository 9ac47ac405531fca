//! Frames, envelopes and filters.

use muster_wire::envelope::{self, Control, Envelope, EnvelopeError};
use muster_wire::frame::{self, HEADER, Next};
use muster_wire::routing::{RouteCache, Table};
use muster_wire::{EndpointId, Filter, Kind, LOCAL_PREFIX, MAX_BYTES, MAX_ENTRIES, Topic};

/// A limit that small inputs reach.
const LIMIT: usize = 4096;

/// The frames of a stream, and what the next one needs; `None` if it is over the limit.
fn split(stream: &[u8]) -> (Vec<&[u8]>, Option<usize>) {
    let (mut rest, mut frames) = (stream, Vec::new());
    loop {
        match frame::next(rest, LIMIT) {
            Ok(Next::Complete(length)) => {
                frames.push(&rest[HEADER..HEADER + length]);
                rest = &rest[HEADER + length..];
            }
            Ok(Next::Needs(needed)) => {
                assert!(rest.len() < needed && needed <= HEADER + LIMIT);
                return (frames, Some(needed));
            }
            Err(error) => {
                assert!(error.announced > LIMIT);
                return (frames, None);
            }
        }
    }
}

/// Checks framing: however the bytes are cut, the frames are the same, and written again they are
/// the same bytes.
pub fn frames(bytes: &[u8]) {
    let (frames, end) = split(bytes);
    let mut written = Vec::new();
    for payload in &frames {
        frame::write(&mut written, |out| out.extend_from_slice(payload));
    }
    assert!(bytes.starts_with(&written));
    assert!(end.is_none() || bytes.len() - written.len() < HEADER + LIMIT);
    let step = usize::from(bytes.first().copied().unwrap_or(0)) % 7 + 1;
    let (mut buffer, mut seen) = (Vec::new(), 0);
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        let complete = split(&buffer).0;
        assert!(frames[seen..].starts_with(&complete));
        seen += complete.len();
        let taken: usize = complete.iter().map(|frame| HEADER + frame.len()).sum();
        buffer.drain(..taken);
    }
    assert_eq!(seen, frames.len());
}

/// Checks envelopes from a peer that names itself as the sender, and from one that does not.
pub fn envelopes(bytes: &[u8]) {
    let stranger = EndpointId::from_random([7; 16]);
    let _ = envelope::read(bytes, stranger, stranger);
    let id = |from: usize| {
        let bytes = bytes.get(from..from + 16)?;
        Some(EndpointId::from_bytes(bytes.try_into().ok()?))
    };
    let (Some(sender), Some(receiver)) = (id(0), id(16)) else {
        return;
    };
    let for_another = envelope::read(bytes, sender, stranger);
    let read = match envelope::read(bytes, sender, receiver) {
        Ok(read) => read,
        Err(error) => {
            assert!(!error.name().is_empty() && !error.cause().name().is_empty());
            assert!(for_another == Err(error) || for_another == Err(EnvelopeError::NotForUs));
            return;
        }
    };
    match read {
        Envelope::Message {
            kind,
            topic,
            payload,
        } => {
            let mut out = Vec::new();
            envelope::put_message_header(&mut out, sender, kind, topic, payload.len());
            out.extend_from_slice(payload);
            assert_eq!(out.len(), HEADER + bytes.len());
            let again = envelope::read(&out[HEADER..], sender, stranger);
            assert_eq!(
                again.as_ref(),
                Ok(&Envelope::Message {
                    kind,
                    topic,
                    payload
                })
            );
            assert!(!topic.starts_with(LOCAL_PREFIX));
            let topic = Topic::new(topic).expect("the length of a topic has 16 bits");
            assert!(topic.normalized().len() <= 68);
            if kind == Kind::Data {
                crate::values(payload);
            }
        }
        Envelope::Through(_) => {}
        Envelope::RoutingUpdate(filter) => {
            let control = Control::RoutingUpdate(filter.clone());
            round_trip(&control, Envelope::RoutingUpdate(filter), bytes.len());
        }
        Envelope::Ping(content) => {
            assert!(!envelope::is_bye(content) || content.len() == 11);
            let control = Control::Pong(content.to_vec());
            round_trip(&control, Envelope::Pong(content), bytes.len());
        }
        Envelope::Pong(content) => {
            let control = Control::Ping(content.to_vec());
            round_trip(&control, Envelope::Ping(content), bytes.len());
        }
    }
}

fn round_trip(control: &Control, expected: Envelope<'_>, input: usize) {
    let (me, peer) = (
        EndpointId::from_random([1; 16]),
        EndpointId::from_random([2; 16]),
    );
    let frame = control.frame(me, peer);
    assert!(frame.len() <= HEADER + 3 + input);
    assert_eq!(
        frame::next(&frame, frame.len()),
        Ok(Next::Complete(frame.len() - HEADER))
    );
    assert_eq!(envelope::read(&frame[HEADER..], me, peer), Ok(expected));
}

/// Checks filters of handshakes and routing updates: they are minimal and in order, and match what
/// a plain search would.
pub fn filters(bytes: &[u8]) {
    let Ok(filter) = Filter::decode(bytes) else {
        return;
    };
    let entries: Vec<&[u8]> = filter.entries().collect();
    assert!(entries.len() <= MAX_ENTRIES);
    assert!(entries.iter().map(|entry| entry.len()).sum::<usize>() <= MAX_BYTES);
    for pair in entries.windows(2) {
        assert!(pair[0] < pair[1] && !pair[1].starts_with(pair[0]));
    }
    assert!(entries.iter().all(|entry| !entry.starts_with(LOCAL_PREFIX)));
    let mut encoded = Vec::new();
    filter.encode(&mut encoded);
    assert!(encoded.len() <= bytes.len());
    assert_eq!(Filter::decode(&encoded).as_ref(), Ok(&filter));

    let table = Table::<(), ()>::new(1, Vec::new(), vec![(filter.clone(), ())]);
    let mut cache = RouteCache::default();
    let tail = &bytes[bytes.len() / 2..];
    for topic in entries.iter().copied().chain([bytes, tail]).take(100) {
        let expected = entries.iter().any(|entry| topic.starts_with(entry));
        assert_eq!(filter.matches(topic), expected);
        assert_eq!(table.route(topic).subscribers.len(), usize::from(expected));
        if let Some((_, route)) = cache.lookup(&table, topic) {
            assert_eq!(route.subscribers.len(), usize::from(expected));
        }
    }
}
