//! Which rows of a file are out of line: their time is far from that of their neighbours.

use muster_data::{Timespan, Timestamp};

const A_DAY: i64 = 24 * 3600;

/// A row that is further ahead than this of those before has to be borne out by those behind.
pub(super) const FORWARD: Timespan = Timespan::from_secs(A_DAY);

/// A row that is further behind than this is out of line. Connections are written when they end: rows of days ago are
/// none.
const BACK: Timespan = Timespan::from_secs(30 * A_DAY);

/// A first row that is as long before the next two, while these are together, is out of line.
const FIRST: Timespan = Timespan::from_secs(365 * A_DAY);

/// So many rows in turn bear one another out.
const AGREEING: usize = 3;

/// The rows behind one that may be needed to judge it.
pub(super) const AHEAD: usize = AGREEING - 1;

/// Judges the times of a file's rows, one after the other.
///
/// A time that is out of line does not move the file's time: it is ordered with its neighbours, and neither paces a
/// replay nor moves a watermark. One that begins a later or an earlier part of the file does, once the two rows behind
/// it go on from there.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// The latest time that is in line.
    line: Option<Timestamp>,
    /// More than one row is for it.
    is_sure: bool,
    /// Up to where other files have come, when this one begins.
    others: Option<Timestamp>,
    /// Up to where the file has come, with what is sure.
    reached: Option<Timestamp>,
    /// The last row that was out of line, and how many in turn went on from one another.
    apart: Option<(Timestamp, usize)>,
}

/// What a row's time is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The time by which the row is ordered.
    pub(super) at: Timestamp,
    pub(super) is_in_line: bool,
}

impl Judge {
    /// Judges a file that begins when others have come so far: a first row that is near need not wait for a second.
    pub(super) fn begin_beside(&mut self, others: Timestamp) {
        self.others = Some(others);
    }

    /// Whether the rows behind one are needed.
    pub(super) fn needs_ahead(&self, ts: Timestamp) -> bool {
        match self.line {
            Some(line) => !is_near(line, ts),
            None => true,
        }
    }

    /// Up to where the file has come.
    pub(super) fn reached(&self) -> Timestamp {
        self.reached.unwrap_or(Timestamp::from_nanos(i64::MIN))
    }

    /// Judges a row by those behind it, [`AHEAD`] of them or what there is; `is_all` if nothing follows these.
    pub(super) fn judge(&mut self, ts: Timestamp, ahead: &[Timestamp], is_all: bool) -> Verdict {
        let in_line = Verdict {
            at: ts,
            is_in_line: true,
        };
        let Some(line) = self.line else {
            if let [next, third] = ahead
                && is_near(*next, *third)
                && (is_before(ts, *next, FIRST) || is_before(*next, ts, FORWARD))
            {
                return Verdict {
                    at: *next,
                    is_in_line: false,
                };
            }
            self.line = Some(ts);
            self.is_sure = is_all
                || ahead.iter().any(|next| is_near(ts, *next))
                || self.others.is_some_and(|others| is_near(others, ts));
            self.reached = self.is_sure.then_some(ts);
            return in_line;
        };
        if is_near(line, ts) {
            self.is_sure = true;
            self.go_on(line.max(ts));
            return in_line;
        }
        let is_forward = ts > line;
        let goes_on = |from: Timestamp, next: Timestamp| {
            !is_before(next, from, FORWARD) && (is_forward || is_before(next, line, BACK))
        };
        let before = match self.apart {
            Some((apart, count)) if (apart > line) == is_forward && goes_on(apart, ts) => count,
            _ => 0,
        };
        let behind = ahead.iter().take_while(|next| goes_on(ts, **next)).count();
        let is_last = is_all && ahead.is_empty() && is_forward && !is_before(line, ts, BACK);
        let all_agree = is_all && behind > 0 && behind == ahead.len();
        let enough = if self.is_sure { AGREEING } else { AGREEING - 1 };
        if before + 1 + behind >= enough || all_agree || is_last {
            self.is_sure = true;
            self.go_on(ts);
            return in_line;
        }
        self.apart = Some((ts, before + 1));
        Verdict {
            at: line,
            is_in_line: false,
        }
    }

    fn go_on(&mut self, to: Timestamp) {
        self.line = Some(to);
        self.apart = None;
        self.reached = self.reached.max(Some(to));
    }
}

/// Whether a row of `ts` may well stand behind one of `line`.
fn is_near(line: Timestamp, ts: Timestamp) -> bool {
    !is_before(line, ts, FORWARD) && !is_before(ts, line, BACK)
}

/// Whether `one` is more than `span` before `other`.
pub(super) fn is_before(one: Timestamp, other: Timestamp, span: Timespan) -> bool {
    i128::from(other.as_nanos()) - i128::from(one.as_nanos()) > i128::from(span.as_nanos())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_521_911_720;
    const FUTURE: i64 = 4_102_444_800;

    /// Judges all, with as many rows ahead as wanted: which are in line, by which time they are ordered, and how far
    /// the file came.
    fn judged(times: &[i64], ahead: usize) -> (Vec<bool>, Vec<i64>, Vec<i64>) {
        let times: Vec<_> = times.iter().copied().map(Timestamp::from_secs).collect();
        let mut judge = Judge::default();
        let seconds = |ts: Timestamp| ts.as_nanos().div_euclid(1_000_000_000);
        let (mut in_line, mut at, mut reached) = (Vec::new(), Vec::new(), Vec::new());
        for (index, ts) in times.iter().enumerate() {
            let behind = &times[index + 1..];
            let rows = &behind[..behind.len().min(ahead)];
            let verdict = judge.judge(*ts, rows, ahead > 0 && rows.len() == behind.len());
            in_line.push(verdict.is_in_line);
            at.push(seconds(verdict.at));
            reached.push(seconds(judge.reached()));
        }
        (in_line, at, reached)
    }

    #[test]
    fn a_wrong_time_moves_nothing() {
        for wrong in [
            0,
            -1,
            NOW - 400 * A_DAY,
            NOW + 10 * A_DAY,
            FUTURE,
            i64::MAX / 1_000_000_000,
        ] {
            for place in 0..5 {
                let mut times: Vec<i64> = (0..5).map(|n| NOW + n).collect();
                times[place] = wrong;
                let (in_line, at, reached) = judged(&times, AHEAD);
                // What nothing follows may be the first of something.
                let is_told = place != 4 || wrong != NOW + 10 * A_DAY;
                let expected: Vec<bool> = (0..5).map(|n| n != place || !is_told).collect();
                assert_eq!(in_line, expected, "{wrong} at {place}");
                if is_told {
                    assert!(
                        at.iter().all(|at| (NOW..NOW + 5).contains(at)),
                        "{wrong} {at:?}"
                    );
                    assert!(
                        reached.iter().all(|at| *at < NOW + 5),
                        "{wrong} {reached:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn two_wrong_times_in_turn_move_nothing_either() {
        let times = [
            NOW,
            NOW,
            FUTURE,
            FUTURE + 1,
            NOW + 1,
            0,
            0,
            NOW + 2,
            NOW + 3,
        ];
        let (in_line, _, reached) = judged(&times, AHEAD);
        let expected = [true, true, false, false, true, false, false, true, true];
        assert_eq!(in_line, expected);
        assert_eq!(reached.last(), Some(&(NOW + 3)));
    }

    #[test]
    fn gaps_and_long_connections_are_in_line() {
        for times in [
            // A sensor that was off, rows of a rare protocol, a log put together backwards.
            &[
                NOW,
                NOW + 1,
                NOW + 90 * A_DAY,
                NOW + 90 * A_DAY + 1,
                NOW + 90 * A_DAY + 2,
            ][..],
            &[NOW, NOW + 3 * A_DAY, NOW + 9 * A_DAY, NOW + 20 * A_DAY],
            &[NOW + 90 * A_DAY, NOW + 90 * A_DAY, NOW, NOW + 1, NOW + 2],
            // A connection that lasted a week.
            &[NOW, NOW - 7 * A_DAY, NOW + 1],
            // As in tests: time begins at nought.
            &[0, 1, 2, 3],
            &[NOW],
            &[NOW, NOW + 5 * A_DAY],
        ] {
            assert!(
                judged(times, AHEAD).0.iter().all(|in_line| *in_line),
                "{times:?}"
            );
        }
    }

    #[test]
    fn without_rows_ahead_the_third_in_turn_is_believed() {
        let times = [
            NOW,
            NOW + 1,
            FUTURE,
            NOW + 2,
            NOW + 9 * A_DAY,
            NOW + 9 * A_DAY + 1,
            NOW + 9 * A_DAY + 2,
        ];
        let (in_line, _, reached) = judged(&times, 0);
        assert_eq!(in_line, [true, true, false, true, false, false, true]);
        assert_eq!(reached[1..6], [NOW + 1, NOW + 1, NOW + 2, NOW + 2, NOW + 2]);
        assert_eq!(reached[6], NOW + 9 * A_DAY + 2);
        // A single row is no line: it may be the wrong one. Beside other files it is.
        let mut judge = Judge::default();
        judge.begin_beside(Timestamp::from_secs(NOW));
        judge.judge(Timestamp::from_secs(NOW + 5), &[], false);
        assert_eq!(judge.reached(), Timestamp::from_secs(NOW + 5));
        let (_, _, reached) = judged(&[FUTURE, NOW, NOW + 1], 0);
        assert!(reached[1] < 0);
        assert_eq!(reached[2], NOW + 1);
    }

    proptest! {
        #[test]
        fn whatever_comes_the_file_never_goes_back(times: Vec<i64>, ahead in 0..3_usize) {
            let mut judge = Judge::default();
            let times: Vec<_> = times.into_iter().map(Timestamp::from_nanos).collect();
            for (index, ts) in times.iter().enumerate() {
                let before = judge.reached();
                let behind = &times[index + 1..];
                judge.needs_ahead(*ts);
                judge.judge(*ts, &behind[..behind.len().min(ahead)], behind.len() <= ahead);
                prop_assert!(judge.reached() >= before);
            }
        }
    }
}
