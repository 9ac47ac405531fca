//! Bounds on what is read.

/// Bounds on a value that is read, from bytes or from text.
///
/// C++ peers have no limit on nesting and crash on it, so a value is also checked before it is
/// relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Levels of nesting; a bare number has none, `[1]` has one. At most [`Limits::MAX_DEPTH`],
    /// larger numbers count as that.
    pub depth: u32,
    /// Values in all containers together; a table entry counts as two.
    pub elements: u64,
    /// Size of the whole encoded value, or of the text, in bytes.
    pub bytes: usize,
}

impl Limits {
    /// Deepest nesting that any setting permits, so that no input can exhaust a thread's stack.
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
