//! Batches and parts of batches that are compressed (protocol version 2, section 11.3).
//!
//! Each frame is compressed on its own. A link keeps no history of what crossed it, and a thread
//! has one context for all its links.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use super::fragment::put_flagged_head;
use super::{BATCH, FRAGMENT, FrameError, name};
use crate::bytes::{Reader, put_varint};
use crate::frame::HEADER;
use crate::message::Class;

/// The size in bytes below which nothing is compressed.
pub const LEAST: usize = 1 << 10;

/// The size in bytes above which nothing is compressed, and above which a compressed frame is
/// refused. So a frame costs its reader no more memory than this, however small it is, and its
/// writer some milliseconds at most.
pub const MOST: usize = 1 << 20;

/// What is not made smaller by this part, as a divisor, is sent as it is.
const SAVED: usize = 10;

/// The fastest of zstd's usual levels.
const LEVEL: i32 = 1;

/// The bit of a batch's flags that says that its rest is compressed.
pub(super) const COMPRESSED: u8 = 1;

/// The bit of a part's flags that says that it is compressed.
pub(super) const COMPRESSED_PART: u8 = 2;

/// The most bytes of the varint that states a size up to [`MOST`].
const SIZE: usize = 3;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Appends a batch in compressed form, as a whole frame. Returns `true` if that saves enough;
/// otherwise nothing is appended. `rest` is the batch from its number of messages on; `scratch` is
/// working memory.
pub fn put_compressed_batch(
    class: Class,
    rest: &[u8],
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> bool {
    if !compress(rest, scratch) {
        return false;
    }
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    out.extend_from_slice(&[BATCH, class as u8, COMPRESSED]);
    put_varint(out, rest.len() as u64);
    out.extend_from_slice(scratch);
    let length = u32::try_from(out.len() - start - HEADER).unwrap_or(u32::MAX);
    out[start..start + HEADER].copy_from_slice(&length.to_be_bytes());
    true
}

/// Appends a part of a cut batch in compressed form, as a whole frame. Returns `true` if that saves
/// enough; otherwise nothing is appended.
pub fn put_compressed_part(
    class: Class,
    place: (u64, u64),
    last: bool,
    part: &[u8],
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> bool {
    if !compress(part, scratch) {
        return false;
    }
    let mut size = Vec::with_capacity(SIZE);
    put_varint(&mut size, part.len() as u64);
    let flags = u8::from(last) | COMPRESSED_PART;
    put_flagged_head(class, place, flags, size.len() + scratch.len(), out);
    out.extend_from_slice(&size);
    out.extend_from_slice(scratch);
    true
}

/// Compresses bytes; says whether enough was saved.
fn compress(bytes: &[u8], into: &mut Vec<u8>) -> bool {
    if !(LEAST..=MOST).contains(&bytes.len()) {
        return false;
    }
    into.clear();
    // Where it does not become small enough the compressor finds no room: that ends it early.
    let most = bytes.len() - bytes.len() / SAVED - SIZE;
    into.resize(most, 0);
    let written = COMPRESSOR.with_borrow_mut(|compressor| {
        if compressor.is_none() {
            *compressor = Compressor::new(LEVEL).ok();
        }
        let written = compressor.as_mut()?;
        written.compress_to_buffer(bytes, &mut into[..]).ok()
    });
    into.truncate(written.unwrap_or(0));
    written.is_some()
}

/// Returns the payload that a compressed frame would have without compression, or `None` if the
/// frame is not compressed. The result has at most [`MOST`] bytes, or `limit` if that is less.
///
/// # Errors
///
/// Fails if the compressed bytes are malformed or would become more than that.
pub fn expand(payload: &[u8], limit: usize) -> Result<Option<Vec<u8>>, FrameError> {
    match payload {
        [BATCH, class, flags, rest @ ..] if flags & COMPRESSED != 0 => {
            let head = [BATCH, *class, flags & !COMPRESSED];
            decompress(&head, rest, limit).map(Some)
        }
        [FRAGMENT, ..] => expand_part(payload, limit),
        _ => Ok(None),
    }
}

fn expand_part(payload: &[u8], limit: usize) -> Result<Option<Vec<u8>>, FrameError> {
    let malformed = FrameError::Malformed(name(FRAGMENT));
    let mut reader = Reader::new(payload);
    let place = |reader: &mut Reader<'_>| {
        reader.array::<2>()?;
        reader.varint()?;
        reader.varint()
    };
    place(&mut reader).ok_or(malformed)?;
    let head = payload.len() - reader.rest().len();
    let flags = reader.u8().ok_or(malformed)?;
    if flags & COMPRESSED_PART == 0 {
        return Ok(None);
    }
    let bytes = reader.string().ok_or(malformed)?;
    let mut size = Reader::new(bytes);
    let stated = size.varint().ok_or(malformed)?;
    let mut start = payload[..head].to_vec();
    start.push(flags & !COMPRESSED_PART);
    put_varint(&mut start, stated);
    let mut expanded = decompress(&start, bytes, limit)?;
    // Optional fields, which follow uncompressed.
    expanded.extend_from_slice(reader.rest());
    Ok(Some(expanded))
}

/// A head, and behind it what is compressed: its size as a varint, and one frame of zstd's that becomes just
/// that.
fn decompress(head: &[u8], compressed: &[u8], limit: usize) -> Result<Vec<u8>, FrameError> {
    let malformed = FrameError::Malformed("compressed");
    let mut reader = Reader::new(compressed);
    let size = reader.varint().ok_or(malformed)?;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > MOST.min(limit.saturating_sub(head.len())) {
        return Err(FrameError::OverLimit("compressed"));
    }
    let frame = reader.rest();
    // One frame and nothing behind it; zstd would read others as well, and pass over what is none.
    let whole = zstd::zstd_safe::find_frame_compressed_size(frame);
    if size == 0 || whole != Ok(frame.len()) {
        return Err(malformed);
    }
    let mut expanded = vec![0; head.len() + size];
    expanded[..head.len()].copy_from_slice(head);
    let written = DECOMPRESSOR.with_borrow_mut(|decompressor| {
        if decompressor.is_none() {
            *decompressor = Decompressor::new().ok();
        }
        let decompressor = decompressor.as_mut()?;
        let into = &mut expanded[head.len()..];
        decompressor.decompress_to_buffer(frame, into).ok()
    });
    (written == Some(size)).then_some(expanded).ok_or(malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Decoder, Encoder, Frame, MeshMessage, OwnedFrame};
    use super::*;
    use crate::EndpointId;
    use crate::message::{Kind, MessageId};

    const LIMIT: usize = 64 << 20;

    fn batch(payloads: &[Vec<u8>]) -> OwnedFrame {
        let messages = payloads
            .iter()
            .zip(1..)
            .map(|(payload, sequence)| MeshMessage {
                id: MessageId {
                    origin: EndpointId::from_random([7; 16]),
                    sequence,
                },
                hops: 16,
                kind: Kind::Data,
                topic: b"/t".to_vec(),
                payload: payload.clone(),
                guest: None,
            });
        OwnedFrame::Batch {
            class: Class::Event,
            messages: messages.collect(),
        }
    }

    /// The payload of a batch, and of the same compressed, if that is worth it.
    fn both(payloads: &[Vec<u8>]) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut plain = Vec::new();
        batch(payloads).write(&mut Encoder::default(), &mut plain);
        let plain = plain.split_off(HEADER);
        let mut out = vec![9; 3];
        let worth = put_compressed_batch(Class::Event, &plain[3..], &mut Vec::new(), &mut out);
        assert!(worth || out == [9; 3]);
        (plain, worth.then(|| out.split_off(3 + HEADER)))
    }

    fn rows() -> (Vec<u8>, Vec<u8>) {
        let row = |n: usize| format!("10.0.0.{} tcp 443 established {n}", n % 250).into_bytes();
        let (plain, compressed) = both(&(0..300).map(row).collect::<Vec<_>>());
        (plain, compressed.unwrap())
    }

    #[test]
    fn rows_of_a_log_become_much_smaller() {
        let (plain, compressed) = rows();
        assert!(compressed.len() * 3 < plain.len(), "{}", compressed.len());
        assert_eq!(expand(&compressed, LIMIT), Ok(Some(plain.clone())));
        assert_eq!(expand(&plain, LIMIT), Ok(None));
        // Whoever does not expand it refuses it.
        let mut decoder = Decoder::default();
        let read = decoder.read(&compressed).and_then(Frame::into_owned);
        assert_eq!(read, Err(FrameError::Malformed("BATCH")));
    }

    #[test]
    fn what_is_small_or_does_not_shrink_is_left_as_it_is() {
        assert_eq!(both(&[vec![0; 900]]).1, None);
        assert_eq!(both(&[vec![0; MOST]]).1, None);
        let mut state = 1u64;
        let mut noise = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        let noise: Vec<u8> = (0..20_000).map(|_| noise()).collect();
        assert_eq!(both(&[noise]).1, None);
    }

    #[test]
    fn lies_and_damage_end_the_peering_before_memory_is_taken() {
        let (plain, compressed) = rows();
        let size = plain.len() - 3;
        let over = Err(FrameError::OverLimit("compressed"));
        let malformed = Err(FrameError::Malformed("compressed"));
        let frame = &compressed[5..];
        let stating = |size: usize, frame: &[u8]| {
            let mut payload = vec![BATCH, 2, COMPRESSED];
            put_varint(&mut payload, size as u64);
            payload.extend_from_slice(frame);
            expand(&payload, LIMIT)
        };
        assert_eq!(stating(size, frame), Ok(Some(plain.clone())));
        for lie in [size - 1, size + 1, 0, 1, MOST] {
            assert_eq!(stating(lie, frame), malformed, "{lie}");
        }
        assert_eq!(stating(MOST + 1, frame), over);
        assert_eq!(stating(usize::MAX, frame), over);
        assert_eq!(expand(&compressed, plain.len()), Ok(Some(plain.clone())));
        assert_eq!(expand(&compressed, plain.len() - 1), over);
        // Bytes behind it, a second frame behind it, or one that says nothing; a part of it, nothing of it.
        assert_eq!(stating(size, &[frame, &[0]].concat()), malformed);
        assert_eq!(stating(2 * size, &[frame, frame].concat()), malformed);
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7];
        assert_eq!(stating(size, &[&skipped, frame].concat()), malformed);
        assert_eq!(stating(9, &skipped), malformed);
        assert_eq!(stating(size, &frame[..frame.len() - 1]), malformed);
        assert_eq!(stating(size, &[]), malformed);
        assert_eq!(expand(&[BATCH, 2, COMPRESSED], LIMIT), malformed);
        // A bomb: what becomes 64 MiB fits into a few KiB.
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
        assert!(bomb.len() < 8 << 10);
        assert_eq!(stating(64 << 20, &bomb), over);
        assert_eq!(stating(MOST, &bomb), malformed);
    }

    #[test]
    fn parts_are_expanded_with_what_stands_around_them() {
        let part = b"a part of a large message ".repeat(2000);
        let (mut scratch, mut out) = (Vec::new(), Vec::new());
        let place = (300, 4);
        let worth = put_compressed_part(Class::Bulk, place, true, &part, &mut scratch, &mut out);
        assert!(worth && out.len() < part.len() / 10);
        let compressed = &out[HEADER..];
        assert!(Decoder::default().read(compressed).is_err());
        for fields in [&[][..], &[9, 2, 1, 2]] {
            let payload = [compressed, fields].concat();
            let expanded = expand(&payload, LIMIT).unwrap().unwrap();
            assert!(expanded.ends_with(fields));
            let mut decoder = Decoder::default();
            let Ok(Frame::Fragment(read)) = decoder.read(&expanded) else {
                panic!("no part");
            };
            assert_eq!((read.number, read.index, read.last), (300, 4, true));
            assert_eq!((read.class, read.bytes), (Class::Bulk, &part[..]));
        }
        for cut in 1..compressed.len() {
            assert!(expand(&compressed[..cut], LIMIT).is_err() || cut == 1 + 1 + 2 + 1);
        }
    }

    proptest! {
        #[test]
        fn what_is_compressed_is_read_as_it_was(
            payloads in prop::collection::vec(prop::collection::vec(0u8..4, 0..3000), 1..20)
        ) {
            let (plain, compressed) = both(&payloads);
            if let Some(compressed) = compressed {
                prop_assert!(compressed.len() <= plain.len() - (plain.len() - 3) / SAVED);
                prop_assert_eq!(expand(&compressed, LIMIT), Ok(Some(plain)));
            }
        }

        #[test]
        fn damage_is_noticed_or_has_no_effect_on_the_bounds(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let (plain, mut compressed) = rows();
            let at = at.index(compressed.len());
            compressed[at] ^= 1 << bit;
            if let Ok(Some(expanded)) = expand(&compressed, LIMIT) {
                prop_assert!(expanded.len() <= MOST + 3 && (at <= 4 || expanded.len() == plain.len()));
            }
        }
    }
}
