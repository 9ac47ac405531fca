//! What a node has of the register: the names that its frameworks have declared, each with the value that counts.

use std::collections::BTreeMap;

use muster_store::Encoded;

use super::definition::Check;
use super::{Definition, Unfit, is_name};

/// The names of one node, each with the value that counts there.
#[derive(Debug, Default)]
pub(crate) struct Known {
    entries: BTreeMap<&'static str, Entry>,
}

#[derive(Debug)]
struct Entry {
    definition: Definition,
    check: Check,
    /// What counts while nothing is set.
    default: Encoded,
    /// The value that counts.
    value: Encoded,
    /// Whether somebody has set it.
    is_set: bool,
    /// The value in the store that was refused last, and is there still.
    refused: Option<Encoded>,
}

/// What becomes of a value in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing: it counts already, or was refused before.
    Same,
    /// Another value counts now, or the same one for another reason.
    Changed {
        /// The value that counted before.
        old: Encoded,
        /// The value that counts now.
        new: Encoded,
        /// Whether somebody has set it. Otherwise it is the default.
        is_set: bool,
    },
    /// It is not what it must be: the value that counted goes on to count.
    Refused(Unfit),
}

/// Why a name cannot be declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotKnown {
    /// It is no name.
    Name,
    /// It is declared in another way already.
    Conflict,
    /// Its default is not what a value must be.
    Default(Unfit),
}

impl Known {
    /// Declares a name. What is declared twice in the same way is declared once.
    pub(crate) fn declare(
        &mut self,
        name: &'static str,
        definition: Definition,
        check: Check,
    ) -> Result<(), NotKnown> {
        if !is_name(name) {
            return Err(NotKnown::Name);
        }
        if let Some(known) = self.entries.get(name) {
            let is_same = known.definition == definition;
            return is_same.then_some(()).ok_or(NotKnown::Conflict);
        }
        let value = Encoded::of(&definition.default);
        // What a layout says of a setting was checked when it was read, and may be larger than what is set later.
        if !matches!(check, Check::Setting(_)) {
            let checked = check.check(&definition, &value);
            checked.map_err(NotKnown::Default)?;
        }
        self.entries.insert(
            name,
            Entry {
                definition,
                check,
                default: value.clone(),
                value,
                is_set: false,
                refused: None,
            },
        );
        Ok(())
    }

    /// Says what counts on this node while nothing is set, if that is not what the definition says. Nothing is set yet.
    pub(crate) fn set_default(&mut self, name: &str, default: Encoded) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.value = default.clone();
            entry.default = default;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns all names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.entries.keys().copied()
    }

    /// Returns what is known of a name.
    pub(crate) fn definition(&self, name: &str) -> Option<&Definition> {
        self.entries.get(name).map(|entry| &entry.definition)
    }

    /// Returns the value that counts.
    pub(crate) fn value(&self, name: &str) -> Option<&Encoded> {
        self.entries.get(name).map(|entry| &entry.value)
    }

    /// Returns `true` if somebody has set a value that counts.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.is_set)
    }

    /// Checks a value that is to be written.
    pub(crate) fn check(&self, name: &str, value: &Encoded) -> Result<(), Unfit> {
        let Some(entry) = self.entries.get(name) else {
            return Ok(());
        };
        entry.check.check(&entry.definition, value)
    }

    /// The store has this value of a name, or none: then the default counts.
    pub(crate) fn heard(&mut self, name: &str, stored: Option<&Encoded>) -> Heard {
        let Some(entry) = self.entries.get_mut(name) else {
            return Heard::Same;
        };
        if let Some(stored) = stored {
            if entry.refused.as_ref() == Some(stored) {
                return Heard::Same;
            }
            if let Err(unfit) = entry.check.check(&entry.definition, stored) {
                entry.refused = Some(stored.clone());
                return Heard::Refused(unfit);
            }
        }
        entry.refused = None;
        let is_set = stored.is_some();
        let new = stored.unwrap_or(&entry.default).clone();
        if entry.value == new && entry.is_set == is_set {
            return Heard::Same;
        }
        entry.is_set = is_set;
        let old = std::mem::replace(&mut entry.value, new.clone());
        Heard::Changed { old, new, is_set }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use muster_data::{Data, Type};
    use muster_test_support::{Random, seeds};

    use super::super::{Register, ValueType};
    use super::*;

    const MOST: Register<u64> = Register::new("test.most", || 10, "").within(1, 100);

    fn known() -> Known {
        let mut known = Known::default();
        let check = Register::<u64>::check();
        known
            .declare("test.most", MOST.definition(), check)
            .unwrap();
        known
    }

    fn heard(known: &mut Known, stored: Option<&Data>) -> Heard {
        let stored = stored.map(Encoded::of);
        known.heard("test.most", stored.as_ref())
    }

    fn changed(old: u64, new: u64, is_set: bool) -> Heard {
        let (old, new) = (Encoded::of(&old), Encoded::of(&new));
        Heard::Changed { old, new, is_set }
    }

    #[test]
    fn a_value_counts_until_it_is_taken_away() {
        let mut known = known();
        assert_eq!(known.value("test.most"), Some(&Encoded::of(&10_u64)));
        assert_eq!(heard(&mut known, None), Heard::Same);
        assert_eq!(
            heard(&mut known, Some(&Data::Count(7))),
            changed(10, 7, true)
        );
        assert_eq!(heard(&mut known, Some(&Data::Count(7))), Heard::Same);
        assert!(known.is_set("test.most"));
        assert_eq!(heard(&mut known, None), changed(7, 10, false));
        // Who sets the default has set it.
        assert_eq!(
            heard(&mut known, Some(&Data::Count(10))),
            changed(10, 10, true)
        );
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused_once_and_the_last_good_one_counts() {
        let mut known = known();
        heard(&mut known, Some(&Data::Count(7)));
        for wrong in [Data::string("many"), Data::Count(101), Data::Integer(7)] {
            assert!(
                matches!(heard(&mut known, Some(&wrong)), Heard::Refused(_)),
                "{wrong}"
            );
            assert_eq!(heard(&mut known, Some(&wrong)), Heard::Same);
            assert_eq!(known.value("test.most"), Some(&Encoded::of(&7_u64)));
        }
        assert_eq!(heard(&mut known, Some(&Data::Count(7))), Heard::Same);
        assert!(matches!(
            heard(&mut known, Some(&Data::Count(0))),
            Heard::Refused(_)
        ));
        assert_eq!(heard(&mut known, None), changed(7, 10, false));
    }

    #[test]
    fn names_are_declared_in_one_way() {
        let mut known = known();
        let check = Register::<u64>::check();
        assert_eq!(known.declare("test.most", MOST.definition(), check), Ok(()));
        let other = Register::new("test.most", || 11_u64, "").definition();
        assert_eq!(
            known.declare("test.most", other, check),
            Err(NotKnown::Conflict)
        );
        let definition = MOST.definition();
        assert_eq!(
            known.declare("two words", definition, check),
            Err(NotKnown::Name)
        );
        let default = Register::new("test.zero", || 0, "")
            .within(1, 2)
            .definition();
        let refused = known.declare("test.zero", default, check);
        assert!(matches!(refused, Err(NotKnown::Default(_))), "{refused:?}");
    }

    /// Whatever the store has had, what counts in the end depends on the last fitting value alone; and the changes lead from one to the
    /// next without a gap.
    #[test]
    fn what_counts_is_the_last_value_that_fits() {
        for seed in seeds(200) {
            let mut random = Random::new(seed);
            let mut known = known();
            let (mut counts, mut told) = (10, 10);
            for _ in 0..50 {
                let value = random.number(140);
                let stored = match random.below(4) {
                    0 => None,
                    1 => Some(Data::Integer(i64::try_from(value).unwrap())),
                    _ => Some(Data::Count(value)),
                };
                match &stored {
                    None => counts = 10,
                    Some(Data::Count(value)) if (1..=100).contains(value) => counts = *value,
                    Some(_) => {}
                }
                if let Heard::Changed { old, new, .. } = heard(&mut known, stored.as_ref()) {
                    assert_eq!(old, Encoded::of(&told), "seed {seed}");
                    told = new.view().to().unwrap();
                }
                assert_eq!(
                    known.value("test.most"),
                    Some(&Encoded::of(&counts)),
                    "seed {seed}"
                );
                assert_eq!(told, counts, "seed {seed}");
            }
        }
    }

    #[test]
    fn nobody_declares_a_type_by_accident() {
        let any = Definition {
            takes: ValueType::new(Type::String),
            ..MOST.definition()
        };
        let mut known = Known::default();
        let refused = known.declare("test.other", any, Register::<u64>::check());
        assert!(matches!(refused, Err(NotKnown::Default(_))));
    }
}
