//! Parts of runs, which a relay passes on.

use super::{COMMAND, RUN_HEAD, RunHead, RunMessage, RunMessages, put_run_head, zigzag};
use crate::Topic;
use crate::bytes::{Reader, put_string, put_varint};
use crate::message::Kind;

/// A part of a run that came, to be passed on without its messages being looked at again.
#[derive(Debug, Clone)]
pub struct RunPart {
    /// What its messages have in common; the base is the sequence before the first of them.
    pub head: RunHead,
    /// The number of messages.
    pub messages: usize,
    /// Where they lie in the bytes that they came in.
    pub start: u32,
    /// How many bytes they have there.
    pub length: u32,
    /// What stood before the first payload, if its topic was that of a message before the part.
    pub first: Option<First>,
    /// What the messages cost of the receiver's credit.
    pub cost: usize,
}

/// The front of a part's first message.
#[derive(Debug, Clone)]
pub struct First {
    /// Its sequence.
    pub sequence: u64,
    /// What its payload holds.
    pub kind: Kind,
    /// Its topic.
    pub topic: Topic,
}

impl RunPart {
    /// Returns where its messages lie in the bytes that they came in.
    pub fn place(&self) -> std::ops::Range<usize> {
        let start = self.start as usize;
        start..start + self.length as usize
    }

    /// Appends what stands in the frame before the bytes that came.
    pub fn put_front(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + RUN_HEAD, 0);
        if let Some(first) = &self.first {
            out.push(match first.kind {
                Kind::Data => 0,
                Kind::Command => COMMAND,
            });
            put_varint(out, zigzag(first.sequence.wrapping_sub(self.head.base)));
            put_string(out, first.topic.as_bytes());
        }
        let body = out.len() - start - RUN_HEAD + self.length as usize;
        let head = &mut out[start..start + RUN_HEAD];
        put_run_head(&self.head, self.messages, body, head);
    }

    /// Calls `each` with every message, which lie in `bytes`.
    pub fn for_each<'a>(&'a self, bytes: &'a [u8], mut each: impl FnMut(RunMessage<'a>)) {
        let mut messages = RunMessages {
            left: self.messages,
            last: self.head.base,
            topic: &[],
            reader: Reader::new(&bytes[self.place()]),
        };
        if let Some(first) = &self.first {
            messages.topic = first.topic.as_bytes();
            messages.last = first.sequence;
            messages.left -= 1;
            if let Some(payload) = messages.reader.string() {
                each(RunMessage {
                    sequence: first.sequence,
                    kind: first.kind,
                    topic: first.topic.as_bytes(),
                    payload,
                });
            }
        }
        for message in messages {
            each(message);
        }
    }
}
