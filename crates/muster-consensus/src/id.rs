//! Who votes: names, disks, and the group that they belong to.

use std::fmt;

/// The longest name of a voter, in bytes.
pub const MAX_NAME: usize = 255;

/// The most members of a group: voters and learners together.
pub const MAX_MEMBERS: usize = 32;

/// The identity of a voter's file: 16 random bytes, drawn when the file is made.
///
/// A voter whose disk was emptied comes back with another one, so it is a stranger to the group: nothing that the old
/// file has promised is asked of the new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(pub [u8; 16]);

impl DiskId {
    /// The number by which the engine knows a voter. It is never 0.
    pub(crate) fn number(self) -> u64 {
        let half = u128::from_be_bytes(self.0) >> 64;
        u64::try_from(half).unwrap_or(u64::MAX).max(1)
    }
}

/// The identity of a group of coordinators: 16 random bytes, drawn when it was founded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

fn hexadecimal(bytes: [u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(self.0, f)
    }
}

impl fmt::Debug for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(self.0, f)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(self.0, f)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(self.0, f)
    }
}

/// A voter, or one that may become one: its name, and the file that its votes are in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoterId {
    /// The name, at most [`MAX_NAME`] bytes.
    pub name: String,
    /// The file.
    pub disk: DiskId,
}

impl fmt::Display for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.disk)
    }
}

/// Who belongs to a group. Both lists are sorted, no disk and no engine's number is in them twice, and there is a voter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    voters: Vec<VoterId>,
    learners: Vec<VoterId>,
}

/// Why a list of members is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// A group without a voter decides nothing.
    #[error("a group without a voter")]
    NoVoter,
    /// More than [`MAX_MEMBERS`].
    #[error("more than {MAX_MEMBERS} members")]
    TooMany,
    /// A name is empty, or longer than [`MAX_NAME`].
    #[error("a voter's name is empty or longer than {MAX_NAME} bytes")]
    Name,
    /// A disk, or one that the engine cannot tell from it, is a member already.
    #[error("two members whose disks have one number")]
    Collision,
}

impl Members {
    /// Makes a group.
    ///
    /// # Errors
    ///
    /// Fails if the lists break one of the rules that [`Members`] names.
    pub fn new(mut voters: Vec<VoterId>, mut learners: Vec<VoterId>) -> Result<Self, MembersError> {
        if voters.is_empty() {
            return Err(MembersError::NoVoter);
        }
        if voters.len() + learners.len() > MAX_MEMBERS {
            return Err(MembersError::TooMany);
        }
        let mut numbers = Vec::with_capacity(voters.len() + learners.len());
        for member in voters.iter().chain(&learners) {
            if member.name.is_empty() || member.name.len() > MAX_NAME {
                return Err(MembersError::Name);
            }
            numbers.push(member.disk.number());
        }
        numbers.sort_unstable();
        if numbers.windows(2).any(|two| two[0] == two[1]) {
            return Err(MembersError::Collision);
        }
        voters.sort();
        learners.sort();
        Ok(Self { voters, learners })
    }

    /// Who votes.
    pub fn voters(&self) -> &[VoterId] {
        &self.voters
    }

    /// Who hears everything and has no vote, yet.
    pub fn learners(&self) -> &[VoterId] {
        &self.learners
    }

    /// Everybody.
    pub fn all(&self) -> impl Iterator<Item = &VoterId> {
        self.voters.iter().chain(&self.learners)
    }

    /// Returns `true` if a disk has a vote.
    pub fn is_voter(&self, disk: DiskId) -> bool {
        self.voters.iter().any(|voter| voter.disk == disk)
    }

    /// Returns `true` if a disk belongs to a learner.
    pub fn is_learner(&self, disk: DiskId) -> bool {
        self.learners.iter().any(|learner| learner.disk == disk)
    }

    /// Returns the group after a change, or `None` if it does not fit.
    pub(crate) fn changed(&self, change: &VoterChange) -> Option<Self> {
        let (mut voters, mut learners) = (self.voters.clone(), self.learners.clone());
        match change {
            VoterChange::AddLearner(voter) => learners.push(voter.clone()),
            VoterChange::Promote(disk) => {
                let place = learners.iter().position(|voter| voter.disk == *disk)?;
                voters.push(learners.swap_remove(place));
            }
            VoterChange::Remove(disk) => {
                let before = voters.len() + learners.len();
                voters.retain(|voter| voter.disk != *disk);
                learners.retain(|voter| voter.disk != *disk);
                if voters.len() + learners.len() == before {
                    return None;
                }
            }
        }
        Self::new(voters, learners).ok()
    }
}

/// A change of a group. They are made one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VoterChange {
    /// A newcomer hears everything.
    AddLearner(VoterId),
    /// A learner that has everything gets a vote.
    Promote(DiskId),
    /// A voter or learner goes.
    Remove(DiskId),
}
