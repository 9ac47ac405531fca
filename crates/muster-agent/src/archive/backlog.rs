//! Which file of the archive is shipped next: decides, without a disk or a clock.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_wire::Mono;

/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The files that wait to be shipped, by their names in the archive: those of the oldest day come first.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    files: BTreeMap<String, Pause>,
    /// After a failure all wait: most often the other side is away.
    all: Pause,
}

#[derive(Debug, Clone, Copy, Default)]
struct Pause {
    failures: u32,
    until: Mono,
}

impl Pause {
    fn lengthen(&mut self, now: Mono) {
        let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let pause = FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.until = now.after(pause);
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// This file is shipped.
    Ship(String),
    /// Nothing before then.
    Wait(Mono),
    /// Nothing before a file comes.
    Nothing,
}

impl Backlog {
    pub(super) fn add(&mut self, name: String) {
        self.files.entry(name).or_default();
    }

    /// A file is shipped, or gone. Returns whether it was waited for.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.files.remove(name).is_some()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// A file was shipped: the other side is there.
    pub(super) fn succeeded(&mut self, name: &str) {
        self.remove(name);
        self.all = Pause::default();
    }

    /// A file was not shipped. It comes again, after the others if it fails where they do not.
    pub(super) fn failed(&mut self, name: &str, now: Mono) {
        self.all.lengthen(now);
        if let Some(pause) = self.files.get_mut(name) {
            pause.lengthen(now);
        }
    }

    pub(super) fn next(&self, now: Mono) -> Next {
        // Of those whose pause is over one that has failed least, or else it would be the same one again and again. The map is in
        // the order of names, and of equal ones the first is taken.
        let due = self.files.iter().filter(|(_, pause)| pause.until <= now);
        match due.min_by_key(|(_, pause)| pause.failures) {
            Some((name, _)) if self.all.until <= now => Next::Ship(name.clone()),
            Some(_) => Next::Wait(self.all.until),
            None => {
                let until = self.files.values().map(|pause| pause.until).min();
                until.map_or(Next::Nothing, |until| Next::Wait(until.max(self.all.until)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::default().after(Duration::from_secs(seconds))
    }

    fn ship(name: &str) -> Next {
        Next::Ship(name.to_owned())
    }

    #[test]
    fn the_oldest_comes_first_and_each_once() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.next(at(0)), Next::Nothing);
        for name in ["2018-03-25/a", "2018-03-24/b", "2018-03-24/b"] {
            backlog.add(name.to_owned());
        }
        assert_eq!(backlog.next(at(0)), ship("2018-03-24/b"));
        backlog.succeeded("2018-03-24/b");
        assert_eq!(backlog.next(at(0)), ship("2018-03-25/a"));
        assert!(backlog.remove("2018-03-25/a") && !backlog.remove("2018-03-25/a"));
        assert_eq!(backlog.next(at(0)), Next::Nothing);
    }

    #[test]
    fn pauses_grow_while_nothing_is_shipped_and_end_when_something_is() {
        let mut backlog = Backlog::default();
        backlog.add("a".to_owned());
        backlog.add("b".to_owned());
        backlog.failed("a", at(0));
        assert_eq!(backlog.next(at(1)), Next::Wait(at(5)));
        // Another one is tried, and all wait longer.
        assert_eq!(backlog.next(at(5)), ship("b"));
        backlog.failed("b", at(5));
        assert_eq!(backlog.next(at(14)), Next::Wait(at(15)));
        assert_eq!(backlog.next(at(15)), ship("a"));
        backlog.failed("a", at(15));
        assert_eq!(backlog.next(at(16)), Next::Wait(at(35)));
        assert_eq!(backlog.next(at(35)), ship("b"));
        backlog.succeeded("b");
        assert_eq!(backlog.next(at(35)), ship("a"));
        for _ in 0..100 {
            backlog.failed("a", at(100));
        }
        assert_eq!(backlog.next(at(100)), Next::Wait(at(700)));
    }

    #[test]
    fn a_file_that_cannot_be_shipped_holds_up_no_other() {
        let mut backlog = Backlog::default();
        backlog.add("bad".to_owned());
        let (mut now, mut tried, mut shipped) = (0, 0, 0);
        for number in 0..1000 {
            let name = format!("good-{number:04}");
            backlog.add(name.clone());
            loop {
                match backlog.next(at(now)) {
                    Next::Ship(name) if name == "bad" => {
                        tried += 1;
                        backlog.failed("bad", at(now));
                    }
                    Next::Ship(name) => {
                        shipped += 1;
                        backlog.succeeded(&name);
                        break;
                    }
                    Next::Wait(_) => now += 1,
                    Next::Nothing => break,
                }
            }
        }
        assert_eq!((shipped, backlog.len()), (1000, 1));
        assert!(backlog.has("bad") && (1..20).contains(&tried), "{tried}");
    }
}
