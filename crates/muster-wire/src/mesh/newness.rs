//! Which of two numbers of an endpoint's records is the newer one (protocol version 2, section 5.1).
//!
//! Incarnations and versions come from others, who may say anything. Numbers that differ by more than any honest ones
//! do cannot both be honest, and of those the smaller is believed: so nobody can name a number above which the
//! endpoint itself cannot go.

/// The most by which honest numbers differ: an endpoint announces a few changes in a second, and its records are
/// forgotten a minute after it was heard of last.
pub(crate) const STEP: u64 = 1 << 20;

/// What a number is beside another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Same,
    Newer,
    Older,
    /// It is so much larger that it is not believed.
    Absurd,
}

/// Compares a number with one that is held.
pub(crate) fn order(there: u64, here: u64) -> Order {
    if there == here {
        Order::Same
    } else if there > here {
        if there - here <= STEP {
            Order::Newer
        } else {
            Order::Absurd
        }
    } else if here - there > STEP {
        Order::Newer
    } else {
        Order::Older
    }
}

/// The same for versions, of which 0 stands for none: any is newer than none.
pub(crate) fn order_of_versions(there: u64, here: u64) -> Order {
    match (there, here) {
        (0, 0) => Order::Same,
        (0, _) => Order::Older,
        (_, 0) => Order::Newer,
        _ => order(there, here),
    }
}

/// Returns the number that an endpoint goes to when it hears a newer one of its own than it has: that, or half a step
/// in its direction. So those who still hold what it announced before believe the next one as well, and if it has not
/// gone past the other it hears that again.
pub(crate) fn towards(there: u64, own: u64) -> u64 {
    there.min(own.saturating_add(STEP / 2))
}

/// Returns a version that is newer than this one.
pub(crate) fn next(version: u64) -> u64 {
    version.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_can_name_a_number_that_its_owner_does_not_get_past() {
        for (there, here, expected) in [
            (5, 5, Order::Same),
            (6, 5, Order::Newer),
            (5, 6, Order::Older),
            (5 + STEP, 5, Order::Newer),
            (6 + STEP, 5, Order::Absurd),
            (5, 6 + STEP, Order::Newer),
            (u64::MAX, 5, Order::Absurd),
            (5, u64::MAX, Order::Newer),
        ] {
            assert_eq!(order(there, here), expected, "{there} and {here}");
        }
        assert_eq!(order_of_versions(u64::MAX, 0), Order::Newer);
        assert_eq!(order_of_versions(0, u64::MAX), Order::Older);
        assert_eq!(order_of_versions(next(u64::MAX), u64::MAX), Order::Newer);
    }

    proptest! {
        /// Of two numbers just one is newer, and what follows a number is newer than it.
        #[test]
        fn one_of_two_is_newer(there: u64, here: u64) {
            let newer = [order(there, here), order(here, there)];
            let newer = newer.into_iter().filter(|order| *order == Order::Newer);
            prop_assert_eq!(newer.count(), usize::from(there != here));
            prop_assert_eq!(order_of_versions(next(here), here), Order::Newer);
        }
    }
}
