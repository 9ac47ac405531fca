//! Rules of the mesh that a simulation breaks on purpose, to see that it notices.

/// A rule to break on purpose, to see that the simulator notices.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// No rule is broken.
    #[default]
    Nothing,
    /// Messages go to all neighbours, and messages that were here before are accepted again.
    Storm,
    /// Messages that were here before are accepted again.
    NoWindow,
    /// Messages go to all neighbours.
    Flooding,
    /// Neighbours never compare their databases again after they have met.
    NoRepair,
    /// A link counts if one of its ends announces it.
    NoTwoWayCheck,
    /// The tree that stood before a change is not used.
    OneTree,
    /// Joining endpoints are told at once that all know them.
    NoBarrier,
    /// Every peer of a version 1 endpoint takes itself for its home.
    ManyHomes,
    /// Nobody asks which endpoints have heard a message from or to a version 1 endpoint directly.
    NoPeers,
    /// Nobody finds out which version 1 endpoints forward.
    NoQuestions,
    /// No rule is broken, but the smallest records are offered before they are sent.
    OffersAll,
    /// The smallest records are offered before they are sent, and an endpoint takes the versions on
    /// offer for the records themselves.
    BelievedOffers,
    /// An endpoint says that all agree without waiting for the endpoints below it.
    HastyAgreement,
    /// An endpoint that hears records of its own that it has not announced says nothing.
    MeekOrigins,
    /// Records are taken whatever their numbers are, if only these are larger.
    BelievedNumbers,
    /// Records are taken whoever has sealed them.
    BelievedSeals,
    /// Whoever is fenced loses the link, and is led through as before once it has another.
    FencedRelays,
}

impl Sabotage {
    /// From how many bytes on records are offered.
    pub(super) fn offered_from(self, bytes: usize) -> usize {
        match self {
            Self::OffersAll | Self::BelievedOffers => 1,
            _ => bytes,
        }
    }
}

/// What the data plane asks.
impl Sabotage {
    /// Returns `true` if messages that were here before are taken again.
    pub(super) fn forgets_messages(self) -> bool {
        matches!(self, Self::Storm | Self::NoWindow)
    }

    /// Returns `true` if messages go to all neighbours.
    pub(super) fn floods(self) -> bool {
        matches!(self, Self::Storm | Self::Flooding)
    }

    /// Returns `true` if everybody takes itself for the home of its guests.
    pub(super) fn has_many_homes(self) -> bool {
        self == Self::ManyHomes
    }

    /// Returns `true` if nobody asks who has heard a message from its author.
    pub(super) fn forgets_peers(self) -> bool {
        self == Self::NoPeers
    }
}
