//! Limits of values that are read.

/// The limits of a value that is read from bytes or from text.
///
/// C++ peers do not limit nesting and crash on it, so a value is also checked before it is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most levels of nesting. A bare number has none, `[1]` has one. Numbers above
    /// [`Limits::MAX_DEPTH`] count as that.
    pub depth: u32,
    /// The most values in all containers together. An entry of a table counts as two.
    pub elements: u64,
    /// The largest size of the whole encoded value, or of the text, in bytes.
    pub bytes: usize,
}

impl Limits {
    /// The deepest nesting that any setting permits, so that no input can exhaust a thread's stack.
    pub const MAX_DEPTH: u32 = 256;

    /// Depth to apply.
    pub(crate) fn effective_depth(&self) -> u32 {
        self.depth.min(Self::MAX_DEPTH)
    }
}

impl Default for Limits {
    /// 64 levels, 8 Mi elements, 64 MiB.
    fn default() -> Self {
        Self {
            depth: 64,
            elements: 8 << 20,
            bytes: 64 << 20,
        }
    }
}
