//! A peer made of bytes, for tests of what no honest peer sends.
#![allow(clippy::cast_possible_truncation, reason = "sizes here are small")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A peer of a few bytes: dials, shakes hands as the larger id, and subscribes to everything.
pub(crate) async fn raw_peer(address: &str, filter: &[u8]) -> TcpStream {
    raw_peer_as(address, RAW_ID, filter).await
}

/// The same with an id of its own, which must be the larger one.
pub(crate) async fn raw_peer_as(address: &str, id: [u8; 16], filter: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut hello = vec![0, 0, 0, 0x17, 6, 0x5a, 0x45, 0x45, 0x4b];
    hello.extend_from_slice(&id);
    hello.extend_from_slice(&[1, 1]);
    stream.write_all(&hello).await.unwrap();
    // probe (9), version_select (26), originator_syn (5 and the filter)
    let mut answer = [0u8; 9 + 26 + 4];
    stream.read_exact(&mut answer).await.unwrap();
    let length = u32::from_be_bytes(answer[35..].try_into().unwrap());
    let mut syn = vec![0; length as usize];
    stream.read_exact(&mut syn).await.unwrap();
    let mut ack = (1 + filter.len() as u32).to_be_bytes().to_vec();
    ack.push(11);
    ack.extend_from_slice(filter);
    stream.write_all(&ack).await.unwrap();
    stream.read_exact(&mut [0; 5]).await.unwrap();
    stream
}

pub(crate) const RAW_ID: [u8; 16] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0x4f, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1,
];

/// An envelope of the raw peer with a topic and a payload.
pub(crate) fn raw_message(kind: u8, sender: [u8; 16], topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut frame = (37 + topic.len() as u32 + payload.len() as u32)
        .to_be_bytes()
        .to_vec();
    frame.extend_from_slice(&sender);
    frame.extend_from_slice(&[0; 16]);
    frame.extend_from_slice(&[kind, 0, 16]);
    frame.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    frame.extend_from_slice(topic.as_bytes());
    frame.extend_from_slice(payload);
    frame
}
