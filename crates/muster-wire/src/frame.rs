//! Framing: a 32-bit big-endian payload length, then the payload.

/// The bytes before a frame's payload.
pub const HEADER: usize = 4;

/// The largest payload of a handshake frame: filters can be long, everything else is tiny.
pub const HANDSHAKE_LIMIT: usize = 1 << 20;

/// The largest payload of a handshake's first frames, which carry no filter: far more than any of them has.
pub const HELLO_LIMIT: usize = 16 << 10;

/// The largest payload of a frame after the handshake, unless configured otherwise: 64 MiB.
pub const DEFAULT_LIMIT: usize = 64 << 20;

/// What a frame with one message has besides its topic and payload, in bytes: less than this in either version.
pub const MESSAGE_ROOM: usize = 1 << 10;

/// A frame whose announced payload is over the limit. It ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame of {announced} bytes is over the limit of {limit}")]
pub struct FrameTooLong {
    /// The announced payload size in bytes.
    pub announced: usize,
    /// The limit in bytes.
    pub limit: usize,
}

/// What there is at the start of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A complete frame with this many payload bytes after its header.
    Complete(usize),
    /// An incomplete frame: the buffer must hold this many bytes in all before more can be said.
    Needs(usize),
}

/// Looks at the frame at the start of `buffer`. `limit` is the largest payload allowed, in bytes.
///
/// # Errors
///
/// Fails if the frame announces a payload over the limit, as soon as its header is there.
pub fn next(buffer: &[u8], limit: usize) -> Result<Next, FrameTooLong> {
    let Some(header) = buffer.first_chunk::<HEADER>() else {
        return Ok(Next::Needs(HEADER));
    };
    let announced = u32::from_be_bytes(*header) as usize;
    if announced > limit {
        return Err(FrameTooLong { announced, limit });
    }
    if buffer.len() < HEADER + announced {
        return Ok(Next::Needs(HEADER + announced));
    }
    Ok(Next::Complete(announced))
}

/// Appends a frame whose payload `write` appends. Payloads of 4 GiB or more are not possible;
/// callers stay below their limit.
pub fn write(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    write(out);
    let length = u32::try_from(out.len() - start - HEADER).unwrap_or(u32::MAX);
    out[start..start + HEADER].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_seen_byte_by_byte() {
        let mut frame = Vec::new();
        write(&mut frame, |out| out.extend_from_slice(b"hello"));
        assert_eq!(next(&frame[..3], 10), Ok(Next::Needs(4)));
        assert_eq!(next(&frame[..8], 10), Ok(Next::Needs(9)));
        assert_eq!(next(&frame, 10), Ok(Next::Complete(5)));
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_header() {
        let refused = next(&[0xff, 0xff, 0xff, 0xff], DEFAULT_LIMIT);
        assert_eq!(
            refused,
            Err(FrameTooLong {
                announced: 0xffff_ffff,
                limit: DEFAULT_LIMIT
            })
        );
    }
}
