//! On which boxes the coordinators are.

use std::collections::{BTreeMap, BTreeSet};

use muster_store::StoreName;

use crate::layout::{Layout, Role, clip};

/// The setting for how many boxes vote at most.
pub(crate) const COUNT: &str = "coordination.count";

/// The setting that names the boxes that vote.
pub(crate) const VOTERS: &str = "coordination.voters";

/// The most names of `coordination.voters`.
const MOST_VOTERS: usize = 5;

/// Returns the boxes whose agents vote, in the order of their ranks: the first leads if it can.
///
/// These are the boxes of `coordination.voters`, as they stand there. If it is empty, they are the first of the layout's boxes:
/// those with managers come before those with loggers, then those with data nodes, witnesses (boxes without nodes), and
/// those with workers only, by name among equals. There are at most `coordination.count`, and never an even number, which
/// would survive no more than one less does. Of two boxes one votes.
///
/// There is none where nothing is to be agreed on: if the layout names one box or none. Boxes that it does not name have no
/// agents in the mesh.
pub fn voters(layout: &Layout) -> Vec<String> {
    let named = layout.settings().text_list(VOTERS);
    if !named.is_empty() {
        return named.to_vec();
    }
    let boxes = layout.boxes();
    if boxes.len() < 2 {
        return Vec::new();
    }
    let places = places(layout);
    let mut ranked: Vec<(Place, &String)> = boxes
        .keys()
        .map(|name| {
            let place = places.get(name.as_str()).copied();
            (place.unwrap_or(Place::Witness), name)
        })
        .collect();
    ranked.sort();
    let count = layout.settings().size(COUNT).min(ranked.len());
    // The largest odd number that is not larger.
    ranked.truncate(count.saturating_sub(1) / 2 * 2 + 1);
    ranked.into_iter().map(|(_, name)| name.clone()).collect()
}

/// Returns the boxes that vote and have no nodes.
pub fn witnesses(layout: &Layout) -> BTreeSet<String> {
    let places = places(layout);
    let mut boxes = voters(layout);
    boxes.retain(|name| !places.contains_key(name.as_str()));
    boxes.into_iter().collect()
}

/// Which boxes of a layout may be away, one at a time, while the coordinators go on deciding.
///
/// It is about decisions, not about data: what becomes of stores is [`stores_on_one_box`]'s.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survival {
    /// The boxes without which a majority of the voters is left, by name.
    pub may_die: Vec<String>,
    /// The others, by name, each with the reason, and what to do about it.
    pub may_not: Vec<(String, String)>,
}

/// Returns which boxes may be away. Where there are no coordinators, no box is named.
pub fn survival(layout: &Layout) -> Survival {
    let voters = voters(layout);
    let mut survival = Survival::default();
    if voters.is_empty() {
        return survival;
    }
    for name in layout.boxes().keys() {
        let left = voters.iter().filter(|voter| *voter != name).count();
        if left * 2 > voters.len() {
            survival.may_die.push(name.clone());
        } else {
            let reason = reason(layout);
            survival.may_not.push((name.clone(), reason));
        }
    }
    survival
}

/// Stores whose copies are all on one box. They are away with it until it is back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnOneBox {
    /// The store; `None` for all that the layout does not mention.
    pub store: Option<StoreName>,
    /// The box.
    pub box_name: String,
    /// Whether another box has nodes that may have copies, so that more could be wanted.
    pub may_be_on_more: bool,
}

/// Returns the stores whose copies are all on one box: those that the layout does not mention first, then those that it does. All others have
/// copies on several boxes, and a primary as long as one of these is there and the coordinators decide.
pub fn stores_on_one_box(layout: &Layout) -> Vec<OnOneBox> {
    let named = layout.stores().iter().map(|spec| {
        let plan = layout.store(&spec.name, false);
        (Some(&spec.name), plan)
    });
    let all = std::iter::once((None, layout.other_stores(false))).chain(named);
    all.filter_map(|(store, plan)| {
        let plan = plan?;
        let [only] = plan.boxes()[..] else {
            return None;
        };
        Some(OnOneBox {
            store: store.cloned(),
            box_name: only.to_owned(),
            may_be_on_more: plan.candidates.iter().any(|it| it.box_name != only),
        })
    })
    .collect()
}

/// Why the only voter may not be away, and what to do about it.
fn reason(layout: &Layout) -> String {
    let settings = layout.settings();
    match layout.boxes().len() {
        0 | 1 => "there is no other box: name two more in the layout and let them join, they need no nodes".to_owned(),
        2 => "there is no third box: name one in the layout and let it join, it needs no nodes".to_owned(),
        _ if settings.text_list(VOTERS).is_empty() => {
            format!("`{COUNT}` is {}: set it to 3", settings.count(COUNT))
        }
        _ => format!("`{VOTERS}` names no other box: name three"),
    }
}

/// What is wrong with the names of voters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VotersError {
    /// A number of voters that survives no more than a smaller one, or too many.
    #[error("`{VOTERS}` has {0} names")]
    Count(usize),
    /// One is there more than once.
    #[error("`{VOTERS}` names `{}` twice", clip(.0))]
    Twice(String),
    /// One is not a box of the layout.
    #[error("`{VOTERS}` names `{}`, which is no box", clip(.0))]
    NoBox(String),
}

/// Checks `coordination.voters` against the boxes of a layout.
pub(crate) fn check_named(names: &[String], boxes: &BTreeSet<&str>) -> Result<(), VotersError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !boxes.contains(name.as_str()) {
            return Err(VotersError::NoBox(name.clone()));
        }
        if !seen.insert(name) {
            return Err(VotersError::Twice(name.clone()));
        }
    }
    let count = names.len();
    if count > MOST_VOTERS || (count > 0 && count.is_multiple_of(2)) {
        return Err(VotersError::Count(count));
    }
    Ok(())
}

/// What a box is for, the first to vote first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Manager,
    Logger,
    Data,
    Witness,
    Worker,
}

impl From<Role> for Place {
    fn from(role: Role) -> Self {
        match role {
            Role::Manager => Self::Manager,
            Role::Logger => Self::Logger,
            Role::Proxy => Self::Data,
            Role::Worker => Self::Worker,
        }
    }
}

/// What the boxes are for that have nodes.
fn places(layout: &Layout) -> BTreeMap<&str, Place> {
    let mut places = BTreeMap::new();
    for node in layout.nodes() {
        let place = Place::from(node.role);
        let known = places.entry(node.box_name.as_str()).or_insert(place);
        *known = place.min(*known);
    }
    places
}
