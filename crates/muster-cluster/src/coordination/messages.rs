//! What nodes and coordinators say to one another.
//!
//! All of these are events, on topics: a coordinator hears what is for its agent's name, a node what is for its own life, and
//! everybody what is for all, [`Topics::coordination`](crate::Topics::coordination).

use muster_data::{Encode, Record};
use muster_wire::EndpointId;
use muster_wire::zeek::{self, Metadata};

use super::stores::{StoreCandidate, ViewStore};
use super::view::{Membership, OutReason, View};

/// A node's loop has turned: it asks to be in, or to stay in. Its life is the endpoint that says so.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::renew")]
pub struct Renew {
    /// The node's name.
    pub node: String,
    /// Where it runs.
    pub box_name: String,
    /// Of two lives the later one has the larger one.
    pub incarnation: u64,
    /// Its session; 0 if it has none.
    pub session: u64,
    /// The number of this renewal, which answers repeat. Later ones have larger numbers.
    pub number: u64,
    /// Whether the leader alone is asked, and answers when it knows that it still leads. Former releases ask all, and do not say it.
    pub alone: Option<bool>,
}

/// A coordinator's answer to a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::lease")]
pub struct LeaseAnswer {
    /// The number of the renewal.
    pub number: u64,
    /// The coordinator's term.
    pub term: u64,
    /// The epoch of the newest view that it knows.
    pub epoch: u64,
    /// The session that the leader grants; 0 if it grants none, or somebody else leads.
    pub session: u64,
    /// Whether the leader says that the session of the renewal is over.
    pub is_out: bool,
    /// How many voters there are. Only the leader says it.
    pub voters: u64,
    /// Whether the leader knows that it still led when it had heard the renewal, so that its grant counts alone. `None` if it cannot find
    /// that out, as in former releases, or where most voters are of one.
    pub confirmed: Option<bool>,
    /// How often coordinators were recovered from the loss of most of them, as this one knows it. Former releases do not say it.
    pub generation: Option<u64>,
}

/// A node stops in order, and is out from now on.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::leaving")]
pub struct Leaving {
    /// The node's name.
    pub node: String,
    /// Its session.
    pub session: u64,
}

/// Somebody wants to know who is in.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::view_wanted")]
pub struct ViewWanted {
    /// The epoch that it knows; 0 if it knows nothing.
    pub epoch: u64,
}

/// A node opens a store of which the view has no group, or whose primary it has and which is to be kept otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::store_wanted")]
pub struct StoreWanted {
    /// The store's name.
    pub store: String,
    /// Whether its copies are kept in files. It never changes.
    pub persistent: bool,
    /// How many copies are wanted.
    pub copies: u64,
    /// Below so many copies in sync nothing is acknowledged.
    pub min_copies: u64,
    /// The nodes that may have a copy, in order of preference.
    pub candidates: Vec<StoreCandidate>,
}

/// A store's primary counts a copy from now on: it has everything, and whatever is acknowledged it has, too.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::copy_joined")]
pub struct CopyJoined {
    /// The store's name.
    pub store: String,
    /// The epoch of the group's last change, as the primary knows it.
    pub epoch: u64,
    /// The node that has the copy.
    pub node: String,
    /// Its endpoint.
    pub life: String,
}

/// A store's primary waits in vain for a copy that is in sync, and wants it out. Until that is decided it counts.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::copy_stuck")]
pub struct CopyStuck {
    /// The store's name.
    pub store: String,
    /// The epoch of the group's last change, as the primary knows it.
    pub epoch: u64,
    /// The node that has the copy.
    pub node: String,
    /// Its endpoint.
    pub life: String,
}

/// Who is in, or what has changed since an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::view")]
pub struct ViewUpdate {
    /// The group of coordinators that has decided it: 16 bytes.
    pub cluster: Vec<u8>,
    /// How often coordinators were recovered from the loss of most of them.
    pub generation: u64,
    /// The epoch behind which the changes begin; 0 if this is everything.
    pub since: u64,
    /// The epoch of the view.
    pub epoch: u64,
    /// Who has changed.
    pub members: Vec<ViewMember>,
    /// The stores whose groups have changed.
    pub stores: Vec<ViewStore>,
}

/// A node in a [`ViewUpdate`].
#[derive(Debug, Clone, PartialEq, Eq, Record)]
pub struct ViewMember {
    /// The node's name.
    pub node: String,
    /// Where it runs.
    pub box_name: String,
    /// The endpoint id of its last life that was in.
    pub life: String,
    /// Of two lives the later one has the larger one.
    pub incarnation: u64,
    /// The epoch of its admission.
    pub session: u64,
    /// The epoch of its last change.
    pub changed: u64,
    /// 0 if it is in; otherwise why it is out.
    pub out: u64,
}

impl ViewMember {
    /// What is known of a node of this name.
    pub fn of(node: &str, membership: &Membership) -> Self {
        Self {
            node: node.to_owned(),
            box_name: membership.box_name.clone(),
            life: membership.life.to_string(),
            incarnation: membership.incarnation,
            session: membership.session,
            changed: membership.changed,
            out: membership.out.map_or(0, OutReason::number),
        }
    }

    /// Returns what it says, or `None` if it is not possible.
    pub fn membership(&self) -> Option<Membership> {
        Some(Membership {
            box_name: self.box_name.clone(),
            life: self.life.parse::<EndpointId>().ok()?,
            incarnation: self.incarnation,
            session: self.session,
            changed: self.changed,
            out: match self.out {
                0 => None,
                number => Some(OutReason::of(number)),
            },
        })
    }
}

impl ViewUpdate {
    /// Everything that a view has.
    pub fn whole(view: &View) -> Self {
        Self::since(view, 0)
    }

    /// What has changed in a view since an epoch.
    pub fn since(view: &View, since: u64) -> Self {
        // Whoever was forgotten is missed only by looking at everything.
        let since = if since < view.forgotten() { 0 } else { since };
        let is_new = |changed| since == 0 || changed > since;
        let members = view.members().filter(|(_, it)| is_new(it.changed));
        let stores = view.stores().filter(|(_, it)| is_new(it.changed));
        Self {
            cluster: view.cluster().to_vec(),
            generation: view.generation(),
            since,
            epoch: view.epoch(),
            members: members
                .map(|(node, membership)| ViewMember::of(node, membership))
                .collect(),
            stores: stores
                .map(|(store, group)| ViewStore::of(store, group))
                .collect(),
        }
    }
}

/// Encodes something that is said as an event.
pub fn event<R: Record + Encode>(record: &R) -> Vec<u8> {
    let mut out = Vec::new();
    zeek::put_event(&mut out, R::NAME, Metadata::default(), |out| {
        record.encode(out);
    });
    out
}

#[cfg(test)]
mod tests {
    use muster_data::{Data, Limits, encode_to_vec};

    use super::*;

    /// A renewal as former releases say it.
    #[derive(Debug, PartialEq, Record)]
    struct Former {
        node: String,
        box_name: String,
        incarnation: u64,
        session: u64,
        number: u64,
    }

    #[test]
    fn former_releases_understand_a_renewal_and_are_understood() {
        let former = || Former {
            node: "data".to_owned(),
            box_name: "a".to_owned(),
            incarnation: 1,
            session: 2,
            number: 3,
        };
        let data = |bytes: &[u8]| Data::from_bytes(bytes, &Limits::default()).unwrap();
        let renew: Renew = data(&encode_to_vec(&former())).to().unwrap();
        assert_eq!((renew.number, renew.alone), (3, None));
        let alone = Renew {
            alone: Some(true),
            ..renew
        };
        assert_eq!(data(&encode_to_vec(&alone)).to(), Ok(former()));
    }
}
