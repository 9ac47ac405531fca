//! Rules that are broken on purpose, to see that the checks notice.

use std::collections::VecDeque;

use crate::instance::early::EarlyWrite;
use crate::{Persisted, Restored};

/// A rule that is broken on purpose, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sabotage {
    /// None.
    #[default]
    None,
    /// The last of the early writes is forgotten when the store opens.
    LosesEarly,
    /// Early writes are written in another order.
    ReversesEarly,
    /// Opening once more forgets the early writes.
    SecondOpenForgets,
    /// A store that cannot be opened tells nobody.
    SilentFailure,
    /// Early writes have no deadline.
    EarlyForEver,
    /// A backend that cannot be read counts as empty.
    UnreadIsEmpty,
    /// Nobody is asked to open the primary.
    AsksNobody,
    /// The node that should have the primary is asked once.
    AsksOnce,
    /// A durable write of the primary's node is answered before it is on disk.
    DurableAtOnce,
    /// A durable write of another node is answered before it is on disk.
    DurableAtOnceElsewhere,
    /// A commit that failed counts as done.
    FailureIsSuccess,
    /// A commit that failed is not part of the next.
    DropsFailedCommit,
    /// A durable write of the primary's node waits for its disk without end.
    OwnForEver,
    /// The writers of a former process are not known to the next.
    ForgetsWriters,
    /// A question is asked once.
    AsksQuestionOnce,
    /// Other primaries are not looked for.
    BlindToRivals,
    /// A clone leaves out of its copy what the budget has no room for.
    LeavesOutWhatHasNoRoom,
    /// A copy that was given up stays away, though there is room.
    NeverFetchesAgain,
    /// A clone that becomes a copy forgets what it has to send.
    CopyForgetsWrites,
    /// A copy that becomes a clone forgets the settled writes whose changes it does not have.
    CloneForgetsHeld,
    /// A copy's node hears of its writes before it can read them.
    SettlesBeforeRead,
    /// What a copy has is read before it has what was read before.
    ReadsCopyAtOnce,
    /// Watchers are not told what is different when the copy is read.
    TellsNoDifferences,
    /// A backend that could not be read for a copy is not read again.
    ReadsBackendOnce,
    /// A primary of its own accord goes on as if what it writes were what all copies have.
    KeepsTimeline,
}

impl Sabotage {
    pub(in crate::instance) fn restored(self, restored: Option<Restored>) -> Option<Restored> {
        match (self, restored) {
            (Self::UnreadIsEmpty, None) => {
                let limit = crate::DEFAULT_LIMIT;
                Some(Restored::new(Persisted::default(), limit))
            }
            (Self::ForgetsWriters, Some(restored)) => Some(restored.without_writers()),
            (_, restored) => restored,
        }
    }

    pub(in crate::instance) fn early(
        self,
        mut early: VecDeque<EarlyWrite>,
    ) -> VecDeque<EarlyWrite> {
        match self {
            Self::LosesEarly => drop(early.pop_back()),
            Self::ReversesEarly => early.make_contiguous().reverse(),
            _ => {}
        }
        early
    }
}
