//! What is wrong in the same way again and again: told once a minute, and counted.

use std::time::Duration;

use muster_wire::Mono;

use super::record::Record;

/// How long the same is not told again.
const WHILE: Duration = Duration::from_secs(60);

/// How many different ones are known at once.
const MOST: usize = 64;

/// What was told within the last minute.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// The oldest first.
    told: Vec<Told>,
}

#[derive(Debug)]
struct Told {
    record: Record,
    at: Mono,
    more: u64,
}

impl Repeats {
    /// Takes those whose minute is over, with how often each has come again.
    pub(super) fn take_over(&mut self, now: Mono) -> Vec<(Record, u64)> {
        let over = self
            .told
            .partition_point(|told| now.since(told.at) >= WHILE);
        let over = self.told.drain(..over).filter(|told| told.more > 0);
        over.map(|told| (told.record, told.more)).collect()
    }

    /// Returns whether something is to be told, and counts it if not.
    pub(super) fn tells(&mut self, record: &Record, now: Mono) -> bool {
        let mut known = self.told.iter_mut();
        if let Some(known) = known.find(|told| told.record == *record) {
            known.more += 1;
            return false;
        }
        // What is different every time is told every time.
        if self.told.len() < MOST {
            self.told.push(Told {
                record: record.clone(),
                at: now,
                more: 0,
            });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::default().after(Duration::from_secs(seconds))
    }

    fn record(message: &str) -> Record {
        Record {
            level: Level::ERROR,
            target: String::new(),
            message: message.to_owned(),
            fields: Vec::new(),
        }
    }

    #[test]
    fn the_same_is_told_once_a_minute_and_counted() {
        let mut repeats = Repeats::default();
        assert!(repeats.tells(&record("a"), at(0)));
        assert!(repeats.tells(&record("b"), at(1)));
        for second in 2..60 {
            assert_eq!(repeats.take_over(at(second)), []);
            assert!(!repeats.tells(&record("a"), at(second)));
        }
        assert_eq!(repeats.take_over(at(60)), [(record("a"), 58)]);
        assert!(repeats.tells(&record("a"), at(60)));
        // What came once is not told twice.
        assert_eq!(repeats.take_over(at(200)), []);
    }

    #[test]
    fn many_different_ones_are_all_told_and_bounded() {
        let mut repeats = Repeats::default();
        for number in 0..10 * MOST {
            assert!(repeats.tells(&record(&number.to_string()), at(0)));
        }
        assert_eq!(repeats.told.len(), MOST);
        assert!(!repeats.tells(&record("0"), at(1)));
        assert_eq!(repeats.take_over(at(61)), [(record("0"), 1)]);
    }
}
