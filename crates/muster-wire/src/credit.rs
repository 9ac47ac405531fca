//! Credit: how much of each class of traffic a receiver lets a link's sender send.
//!
//! Both ends count from the link's beginning, and count alike: a message costs its [`Queued::cost`], which
//! follows from its topic and payload, however it is packed.
//!
//! [`Queued::cost`]: crate::Queued::cost

use crate::message::Class;

/// The classes that need credit.
pub const SHARING: [Class; 3] = [Class::Interactive, Class::Event, Class::Bulk];

/// A grant is worth a frame when it is at least this part of the window, as a divisor.
const WORTH: i64 = 4;

/// What a message costs besides the bytes of its topic and payload. It makes a window bound the
/// number of small messages too: 16 MiB allow 32,768 of them, half of what a subscriber's queue
/// holds.
pub const OVERHEAD: usize = 512;

/// Returns what a message costs, in bytes of credit.
pub fn cost(topic: &[u8], payload: usize) -> usize {
    topic.len() + payload + OVERHEAD
}

/// The sender's side: what it may still send.
#[derive(Debug, Default)]
pub struct Credits {
    classes: [Credit; 4],
    waits: u64,
}

#[derive(Debug, Default)]
struct Credit {
    /// What was granted, less what was sent.
    left: i64,
    /// Whether anything was granted: a receiver that never grants does not know of credit.
    is_limited: bool,
    is_waiting: bool,
}

impl Credits {
    /// Grants more of a class, as the receiver announced. The first grant limits the class to what
    /// is granted in all; what was sent before counts.
    pub fn grant(&mut self, class: Class, bytes: u64) {
        let credit = &mut self.classes[class as usize];
        credit.is_limited = class != Class::Control;
        credit.left = credit.left.saturating_add_unsigned(bytes);
    }

    /// Returns `true` if a message of a class may be sent now, however large it is. It may take the
    /// credit below zero, so that even a message larger than all the credit can pass.
    pub fn allows(&self, class: Class) -> bool {
        let credit = &self.classes[class as usize];
        !credit.is_limited || credit.left > 0
    }

    /// Returns `true` if the credit of a class covers `cost`.
    pub fn covers(&self, class: Class, cost: usize) -> bool {
        let credit = &self.classes[class as usize];
        let cost = i64::try_from(cost).unwrap_or(i64::MAX);
        !credit.is_limited || credit.left >= cost
    }

    /// Counts `cost` as sent.
    pub fn spend(&mut self, class: Class, cost: usize) {
        let credit = &mut self.classes[class as usize];
        credit.left = credit.left.saturating_sub_unsigned(cost as u64);
        credit.is_waiting = false;
    }

    /// Notes that something of a class is queued but not allowed. It is counted once until
    /// something of the class is sent.
    pub fn wait(&mut self, class: Class) {
        let credit = &mut self.classes[class as usize];
        if !std::mem::replace(&mut credit.is_waiting, true) {
            self.waits += 1;
        }
    }

    /// Returns how often a class had to wait.
    pub fn waits(&self) -> u64 {
        self.waits
    }

    /// Lifts the limits: from now on nothing is limited by what was granted so far.
    pub fn lift(&mut self) {
        for credit in &mut self.classes {
            credit.left = i64::MAX;
        }
    }
}

/// The receiver's side: what it has granted.
#[derive(Debug, Default)]
pub struct Grants {
    /// What was granted and has not come, by class; below zero if more has come.
    outstanding: [i64; 4],
}

impl Grants {
    /// Counts `cost` as received.
    pub fn came(&mut self, class: Class, cost: usize) {
        let outstanding = &mut self.outstanding[class as usize];
        *outstanding = outstanding.saturating_sub_unsigned(cost as u64);
    }

    /// Returns how much of a class is to be granted now to have a whole window outstanding, and
    /// counts it as granted. Returns `None` while that is too little to be worth a frame.
    pub fn due(&mut self, class: Class, window: u64) -> Option<u64> {
        let window = i64::try_from(window).unwrap_or(i64::MAX);
        let outstanding = &mut self.outstanding[class as usize];
        let missing = window.saturating_sub(*outstanding);
        if missing < (window / WORTH).max(1) {
            return None;
        }
        *outstanding = window;
        u64::try_from(missing).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_limited_before_the_first_grant_and_what_was_sent_before_counts() {
        let mut credits = Credits::default();
        credits.spend(Class::Event, 700);
        assert!(credits.allows(Class::Event) && credits.covers(Class::Event, usize::MAX));
        credits.grant(Class::Event, 1000);
        assert!(credits.covers(Class::Event, 300) && !credits.covers(Class::Event, 301));
        assert!(credits.allows(Class::Event) && credits.covers(Class::Bulk, usize::MAX));
        // What is larger than all credit passes, and has to be paid back.
        credits.spend(Class::Event, 5000);
        for _ in 0..3 {
            credits.wait(Class::Event);
        }
        credits.grant(Class::Event, 4700);
        assert!(!credits.allows(Class::Event));
        credits.grant(Class::Event, 1);
        assert!(credits.allows(Class::Event));
        assert_eq!(credits.waits(), 1);
    }

    #[test]
    fn absurd_grants_are_as_good_as_none() {
        let mut credits = Credits::default();
        for _ in 0..3 {
            credits.grant(Class::Bulk, u64::MAX);
            credits.grant(Class::Control, 1);
        }
        credits.spend(Class::Bulk, usize::MAX);
        credits.spend(Class::Bulk, usize::MAX);
        assert!(!credits.allows(Class::Bulk));
        // Control is never limited.
        credits.spend(Class::Control, usize::MAX);
        assert!(credits.allows(Class::Control));
        credits.lift();
        assert!(credits.allows(Class::Bulk));
        let mut grants = Grants::default();
        assert_eq!(
            grants.due(Class::Event, u64::MAX),
            Some(u64::MAX >> 1),
            "no bound is a bound that is never reached"
        );
        grants.came(Class::Event, usize::MAX);
        grants.came(Class::Event, usize::MAX);
        assert!(grants.due(Class::Event, 1).is_some());
    }

    proptest! {
        /// Whatever is sent when, both ends agree, the link never stalls, and never holds more than a
        /// window and one message.
        #[test]
        fn a_window_and_one_message_are_on_the_way_at_most(
            steps in prop::collection::vec((1usize..3000, any::<bool>()), 1..200),
            window in 1u64..4000,
        ) {
            let (mut credits, mut grants) = (Credits::default(), Grants::default());
            let class = Class::Event;
            credits.grant(class, grants.due(class, window).unwrap());
            let mut on_the_way = std::collections::VecDeque::new();
            for (cost, receive) in steps {
                if credits.allows(class) {
                    credits.spend(class, cost);
                    on_the_way.push_back(cost);
                }
                let sum: usize = on_the_way.iter().sum();
                prop_assert!(sum as u64 <= window + 3000);
                if receive && let Some(cost) = on_the_way.pop_front() {
                    grants.came(class, cost);
                    if let Some(bytes) = grants.due(class, window) {
                        credits.grant(class, bytes);
                    }
                }
            }
            while let Some(cost) = on_the_way.pop_front() {
                grants.came(class, cost);
                if let Some(bytes) = grants.due(class, window) {
                    credits.grant(class, bytes);
                }
            }
            prop_assert!(credits.allows(class));
        }
    }
}
