//! The frames of protocol version 2: one direction of a link, as a stream of frames.

use bytes::Bytes;
use muster_wire::frame::{self, HEADER, Next};
use muster_wire::mesh::codec::{Decoder, Encoder, Frame};

/// A limit that small inputs reach.
const LIMIT: usize = 1 << 16;

/// Frames of the mesh: what is read and written again reads the same, a batch is the same where it
/// lies, and nothing that is read is larger than its bytes allow.
pub fn mesh(bytes: &[u8]) {
    let (mut reader, mut in_place) = (Decoder::default(), Decoder::default());
    let (mut writer, mut again) = (Encoder::default(), Decoder::default());
    let mut rest = bytes;
    while let Ok(Next::Complete(length)) = frame::next(rest, LIMIT) {
        let payload = Bytes::copy_from_slice(&rest[HEADER..HEADER + length]);
        rest = &rest[HEADER + length..];
        let lying = in_place.batch(&payload).map(|batch| {
            batch.map(|batch| {
                let messages = batch.map(|message| message.map(|it| (it.id, it.payload.to_vec())));
                messages.collect::<Result<Vec<_>, _>>()
            })
        });
        let Ok(frame) = reader.read(&payload) else {
            return; // the end of the peering
        };
        let Some(frame) = frame else {
            continue; // a kind from the future
        };
        if let Frame::Batch { parcels, .. } = &frame {
            let parcels: Vec<_> = parcels
                .iter()
                .map(|parcel| (parcel.id, parcel.payload.to_vec()))
                .collect();
            let lying = lying.expect("read").expect("a batch").expect("whole");
            assert_eq!(lying, parcels);
            assert!(parcels.len() <= payload.len());
        }
        if let Frame::Records { records, .. } = &frame {
            assert!(records.len() <= payload.len());
        }
        let mut written = Vec::new();
        writer.write(&frame, &mut written);
        let written = Bytes::from(written).slice(HEADER..);
        assert_eq!(again.read(&written), Ok(Some(frame)));
    }
}
