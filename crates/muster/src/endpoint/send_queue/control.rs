//! Control frames: before all data, and none may be lost.

use std::collections::VecDeque;

use bytes::Bytes;
use muster_wire::mesh::codec::LinkFrame;

use super::{SendQueue, State, wake};
use crate::endpoint::end_reason::LossReason;

/// The control frames that wait for a peer.
#[derive(Debug)]
pub(super) struct ControlFrames {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Where among them a filter waits: the next one takes its place.
    filter_at: Option<usize>,
    most_frames: usize,
    most_bytes: usize,
}

/// What a control frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ControlKind {
    /// A filter: it takes the place of one that waits. Only the last one counts, and how often it changes must not
    /// cost a peer that is only slow.
    Filter,
    /// Anything else.
    Other,
}

impl ControlFrames {
    pub(super) fn new(most_frames: usize, most_bytes: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            filter_at: None,
            most_frames,
            most_bytes,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
        self.filter_at = None;
    }

    /// Hands all of them over, for `empty`.
    pub(super) fn take(&mut self, empty: &mut VecDeque<Bytes>) {
        std::mem::swap(&mut self.frames, empty);
        self.bytes = 0;
        self.filter_at = None;
    }

    /// Adds a frame. Returns `false` if there is no room; one frame of any size has room.
    fn push(&mut self, frame: Bytes, kind: ControlKind) -> bool {
        let is_filter = kind == ControlKind::Filter;
        let replaced = self.filter_at.filter(|_| is_filter);
        let replaced_bytes = replaced.map_or(0, |at| self.frames[at].len());
        let others = self.frames.len() - usize::from(replaced.is_some());
        let bytes = self.bytes - replaced_bytes + frame.len();
        let has_room = others == 0 || (others < self.most_frames && bytes <= self.most_bytes);
        if !has_room {
            return false;
        }
        self.bytes = bytes;
        if let Some(at) = replaced {
            self.frames[at] = frame;
        } else {
            if is_filter {
                self.filter_at = Some(self.frames.len());
            }
            self.frames.push_back(frame);
        }
        true
    }
}

impl SendQueue {
    /// Queues an encoded control frame, before all data. Too many of them, or too many bytes, end the peering, as none
    /// may be lost: a peer decides how long the answers to its pings are.
    pub(crate) fn push_control(&self, frame: Bytes, kind: ControlKind) {
        let mut state = self.lock();
        self.push_control_locked(&mut state, frame, kind);
        wake(state);
    }

    /// Queues a frame for the other end of the link.
    pub(crate) fn push_link(&self, frame: &LinkFrame) {
        self.push_control(encoded(|out| frame.write(out)), ControlKind::Other);
    }

    pub(super) fn push_control_locked(&self, state: &mut State, frame: Bytes, kind: ControlKind) {
        if state.ended.is_none() && !state.control.push(frame, kind) {
            self.end_locked(state, LossReason::ControlQueueFull.into());
        }
    }
}

/// A frame as bytes.
pub(crate) fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes.into()
}
