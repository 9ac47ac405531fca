//! The frames of protocol version 2: one direction of a link, as a stream of frames.

use muster_wire::frame::{self, HEADER, Next};
use muster_wire::mesh::codec::{Decoder, Encoder, Frame, MeshFrame, OwnedFrame};

/// A limit that small inputs reach.
const LIMIT: usize = 1 << 16;

/// Checks frames of the mesh: what was read and written again reads the same, and nothing that is
/// read is larger than its bytes allow.
pub fn mesh(bytes: &[u8]) {
    let mut reader = Decoder::default();
    let (mut writer, mut again) = (Encoder::default(), Decoder::default());
    let mut rest = bytes;
    while let Ok(Next::Complete(length)) = frame::next(rest, LIMIT) {
        let payload = &rest[HEADER..HEADER + length];
        rest = &rest[HEADER + length..];
        let Ok(frame) = reader.read(payload).and_then(Frame::into_owned) else {
            return; // the end of the peering
        };
        match &frame {
            OwnedFrame::Unknown => continue, // a kind from the future
            OwnedFrame::Batch { messages, .. } | OwnedFrame::Run { messages, .. } => {
                assert!(messages.len() <= payload.len());
                let held: usize = messages.iter().map(|it| it.payload.len()).sum();
                assert!(held <= payload.len());
            }
            OwnedFrame::Mesh(MeshFrame::Records { records, .. }) => {
                assert!(records.len() <= payload.len());
            }
            OwnedFrame::Fragment { .. } | OwnedFrame::Link(_) | OwnedFrame::Mesh(_) => {}
        }
        let mut written = Vec::new();
        frame.write(&mut writer, &mut written);
        let read = again.read(&written[HEADER..]).and_then(Frame::into_owned);
        assert_eq!(read, Ok(frame));
    }
}
