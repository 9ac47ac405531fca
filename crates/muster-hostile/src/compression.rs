//! Compressed frames of protocol version 2: those from a neighbour, and those made of any bytes.

use muster_wire::Class;
use muster_wire::frame::HEADER;
use muster_wire::mesh::codec::{
    Decoder, Frame, LEAST, MOST, expand, put_compressed_batch, put_compressed_part,
};

/// A limit that small inputs reach.
const LIMIT: usize = 1 << 18;

/// What stands before the compressed part of a batch.
const HEAD: usize = 3;

/// Checks compressed frames. What a frame expands to has a limit that does not depend on the
/// frame's size, and is read like any other frame. What is compressed here expands to what it was.
pub fn compression(bytes: &[u8]) {
    for limit in [LIMIT, bytes.len()] {
        // As it is, and as what stands behind the heads of a batch and of a part.
        let part = [&[9, 3, 1, 0, 3][..], &length(bytes.len()), bytes].concat();
        for payload in [bytes, &[&[1, 2, 1][..], bytes].concat(), &part] {
            let Ok(Some(expanded)) = expand(payload, limit) else {
                continue;
            };
            assert!(expanded.len() <= limit.min(MOST + HEAD).max(payload.len()) + 16);
            assert_eq!(expand(&expanded, limit), Ok(None));
            let mut decoder = Decoder::default();
            if let Ok(Frame::Batch(batch)) = decoder.read(&expanded) {
                let read: usize = batch.map_while(Result::ok).map(|it| it.payload.len()).sum();
                assert!(read <= expanded.len());
            }
        }
    }
    if bytes.is_empty() {
        return;
    }
    // Repeated, it is large enough and shrinks.
    let times = LEAST / bytes.len() + 2;
    let plain = bytes.repeat(times);
    let (mut scratch, mut out) = (Vec::new(), Vec::new());
    if put_compressed_batch(Class::Event, &plain, &mut scratch, &mut out) {
        let expected = [&[1, 2, 0][..], &plain].concat();
        assert_eq!(expand(&out[HEADER..], LIMIT), Ok(Some(expected)));
        assert!(out.len() < plain.len());
        // Whatever is changed in it, the bound holds.
        let at = usize::from(bytes[0]) % (out.len() - HEADER);
        out[HEADER + at] ^= bytes[bytes.len() - 1];
        if let Ok(Some(expanded)) = expand(&out[HEADER..], LIMIT) {
            assert!(expanded.len() <= LIMIT.max(out.len()));
        }
    }
    out.clear();
    if put_compressed_part(Class::Bulk, (7, 8), true, &plain, &mut scratch, &mut out) {
        let expanded = expand(&out[HEADER..], LIMIT).expect("it was just made");
        let expanded = expanded.expect("it is compressed");
        let mut decoder = Decoder::default();
        let Ok(Frame::Fragment(part)) = decoder.read(&expanded) else {
            panic!("no part");
        };
        assert_eq!((part.number, part.index, part.last), (7, 8, true));
        assert_eq!(part.bytes, plain);
    }
}

/// A length as it stands before a string.
fn length(mut length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = length.to_le_bytes()[0] & 0x7f;
        length >>= 7;
        if length == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Compressed frames, and what is inside them, to begin with.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let row = b"1331901000.0 C1 192.168.202.79 49163 192.168.229.254 443 tcp ssl SF\n";
    let (mut scratch, mut all) = (Vec::new(), Vec::new());
    for times in [20, 200] {
        let mut out = Vec::new();
        put_compressed_batch(Class::Event, &row.repeat(times), &mut scratch, &mut out);
        all.push(out[HEADER..].to_vec());
        all.push(out[HEADER + HEAD..].to_vec());
        out.clear();
        let part = row.repeat(times);
        put_compressed_part(Class::Bulk, (1, 0), true, &part, &mut scratch, &mut out);
        all.push(out[HEADER..].to_vec());
    }
    all
}
