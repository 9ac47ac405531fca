//! The members of a pool that are in, and who of them has which key.

use muster_wire::EndpointId;

use crate::hrw::weight;

/// A life of a member, from its admission until it is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder {
    pub(crate) life: EndpointId,
    /// The epoch of its admission; 0 where nobody coordinates.
    pub(crate) session: u64,
}

/// A member of a pool that is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RosterMember {
    pub(crate) holder: Holder,
    /// What weighs it for a key.
    pub(crate) site: u32,
    /// The box that it runs on.
    pub(crate) place: String,
}

/// The members of a pool that are in, by an epoch. Nodes with the same members have the same owners and standbys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roster {
    epoch: u64,
    id: u64,
    members: Vec<RosterMember>,
    came_late: bool,
}

impl Roster {
    /// Returns the roster of an epoch; of epoch 0 where nobody coordinates.
    pub(crate) fn new(epoch: u64, mut members: Vec<RosterMember>) -> Self {
        members.sort_by_key(|member| member.holder);
        members.dedup_by_key(|member| member.holder.life);
        let mut id = Fingerprint::default();
        for member in &members {
            id.add(member.holder.life.as_bytes());
            id.add(&member.holder.session.to_le_bytes());
        }
        Self {
            epoch,
            id: id.0,
            members,
            came_late: false,
        }
    }

    /// Somebody went out and may come back: in this epoch the last of them. Whoever was admitted later has not heard what it had.
    pub(crate) fn since_loss(mut self, epoch: Option<u64>) -> Self {
        let is_later = |lost: u64| self.holders().all(|holder| holder.session > lost);
        self.came_late = epoch.is_some_and(is_later);
        self
    }

    /// Returns `true` if somebody is out who may come back, and all who are in were admitted later: what it had nobody else has.
    pub(crate) fn came_late(&self) -> bool {
        self.came_late
    }

    /// Returns the epoch that has decided it; 0 if nobody decides.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns a number that only rosters of the same members have.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns the member that owns a key: the one that every other node finds, Zeek's too.
    pub(crate) fn owner(&self, digest: u32) -> Option<Holder> {
        ranked(&self.members, digest).map(|member| member.holder)
    }

    /// Returns the member that has a copy of what the owner of a key knows: on another box, if there is one.
    pub(crate) fn standby(&self, digest: u32) -> Option<Holder> {
        let owner = ranked(&self.members, digest)?;
        let elsewhere = |member: &&RosterMember| member.place != owner.place;
        let others = |member: &&RosterMember| member.holder != owner.holder;
        let found = ranked(self.members.iter().filter(elsewhere), digest);
        let found = found.or_else(|| ranked(self.members.iter().filter(others), digest));
        found.map(|member| member.holder)
    }

    /// Returns `true` if a holder is in.
    pub(crate) fn has(&self, holder: Holder) -> bool {
        self.members.iter().any(|member| member.holder == holder)
    }

    /// Returns the holder that a life is, if it is in.
    pub(crate) fn holder(&self, life: EndpointId) -> Option<Holder> {
        let mut members = self.members.iter();
        let found = members.find(|member| member.holder.life == life);
        found.map(|member| member.holder)
    }

    /// Returns what weighs each member: no two have the same, and a member has the same in all of its lives.
    pub(crate) fn sites(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|member| member.site)
    }

    /// Returns `true` if both the owner and the standby of a key may be lives that another roster does not have.
    pub(crate) fn may_lose_both(&self, other: &Self) -> bool {
        let gone = |member: &&RosterMember| other.holder(member.holder.life).is_none();
        let gone: Vec<&RosterMember> = self.members.iter().filter(gone).collect();
        let Some(first) = gone.first() else {
            return false;
        };
        let is_beside = |member: &&RosterMember| member.place == first.place;
        if self.members.len() == 1 || !gone.iter().all(is_beside) {
            return true;
        }
        gone.len() > 1 && self.members.iter().all(|member| is_beside(&member))
    }

    /// Returns all who are in.
    pub(crate) fn holders(&self) -> impl Iterator<Item = Holder> {
        self.members.iter().map(|member| member.holder)
    }
}

/// The member with the highest weight for a key, and of those with the same weight the one with the larger site.
fn ranked<'a>(
    members: impl IntoIterator<Item = &'a RosterMember>,
    digest: u32,
) -> Option<&'a RosterMember> {
    members
        .into_iter()
        .max_by_key(|member| (weight(digest, member.site), member.site))
}

/// FNV-1a with 64 bits.
struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
