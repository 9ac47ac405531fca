//! What was measured, beside what it is to be: a table or JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::client::{Trouble, Written};

/// What `put_unique` pipelined is to keep with a second copy.
const KEPT_WITH_TWO: &str = "0.60 of 1 copy";

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// How long each run took, in seconds.
    pub(super) seconds: f64,
    pub(super) repeat: u32,
    /// What was in the store whose box was lost.
    pub(super) entries: u64,
    /// How many wrote to it at once.
    pub(super) writers: u64,
    pub(super) put_unique_pipelined: Compared,
    pub(super) put_unique_waiting: Compared,
    pub(super) durable_pipelined: Compared,
    pub(super) durable_waiting: Compared,
    pub(super) a_box_lost: Vec<Loss>,
}

/// Runs with one copy and with two, in turns.
#[derive(Debug, Default, Serialize)]
pub(super) struct Compared {
    pub(super) one_copy: Vec<Run>,
    pub(super) two_copies: Vec<Run>,
    /// The rate with two copies as a part of the one with one: the median over the pairs.
    ratio: f64,
}

/// One run.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    /// Acknowledged writes a second.
    per_second: f64,
    /// The CPU seconds of both nodes for a thousand writes.
    cpu_seconds_per_1000: f64,
    /// What each process used of a CPU.
    cpu: Cpu,
    /// Latencies in microseconds.
    p50_us: f64,
    p99_us: f64,
    trouble: Trouble,
}

/// CPU time of the processes.
#[derive(Debug, Serialize)]
pub(super) struct Cpu {
    data_a: f64,
    data_b: f64,
    client: f64,
    /// Of all others on the machine.
    others: f64,
}

impl Cpu {
    pub(super) fn of([data_a, data_b, client, others]: [f64; 4]) -> Self {
        Self {
            data_a,
            data_b,
            client,
            others,
        }
    }

    fn each(&self) -> [f64; 4] {
        [self.data_a, self.data_b, self.client, self.others]
    }
}

impl Run {
    /// The run, with the CPU seconds that were used during it.
    #[allow(clippy::cast_precision_loss, reason = "some millions")]
    pub(super) fn of(written: &Written, used: &Cpu) -> Self {
        let (count, seconds) = (written.acknowledged as f64, written.seconds.max(1e-3));
        Self {
            per_second: count / seconds,
            cpu_seconds_per_1000: (used.data_a + used.data_b) * 1e3 / count.max(1.0),
            cpu: Cpu::of(used.each().map(|it| it / seconds)),
            p50_us: written.p50_us,
            p99_us: written.p99_us,
            trouble: written.trouble.clone(),
        }
    }
}

impl Compared {
    /// Compares the runs, once all are there.
    pub(super) fn settle(&mut self) {
        let pairs = self.one_copy.iter().zip(&self.two_copies);
        self.ratio = median(pairs.map(|(one, two)| two.per_second / one.per_second));
    }
}

/// A box that was lost and came back.
#[derive(Debug, Default, Serialize)]
pub(super) struct Loss {
    pub(super) lost: String,
    /// Whether its coordinator led.
    pub(super) leads: bool,
    /// From the loss until a write was acknowledged, in seconds.
    pub(super) answers_again: Option<f64>,
    /// From the start of its agent until the store had its copies, in seconds.
    pub(super) redundant_again: Option<f64>,
    /// Writes a second with two copies, and with one.
    pub(super) per_second_before: f64,
    pub(super) per_second_alone: f64,
    pub(super) while_fetched: Option<Foreground>,
    /// From the loss until its agent was started again, in seconds.
    pub(super) away: f64,
    /// When nothing was acknowledged for a while.
    pub(super) pauses: Vec<Pause>,
    /// Entries that were acknowledged and are not there: there may be none.
    pub(super) acknowledged_but_gone: u64,
    /// Entries that are there without having been acknowledged: as many as are unknown, at most.
    pub(super) there_but_unknown: u64,
    pub(super) trouble: Trouble,
}

/// A time in which nothing was acknowledged.
#[derive(Debug, Serialize)]
pub(super) struct Pause {
    /// From the loss until it began, in seconds.
    pub(super) after: f64,
    /// How long it took.
    pub(super) lasted: f64,
}

/// The writer, while a copy was fetched.
#[derive(Debug, Default, Serialize)]
pub(super) struct Foreground {
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    /// Its rate as a part of the one before the loss.
    pub(super) keeps: f64,
    /// The same of the one with one copy.
    pub(super) keeps_of_alone: f64,
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The middle one, or what is between the middle two.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let values = sorted(values);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let count = values.len();
    f64::midpoint(at(count.saturating_sub(1) / 2), at(count / 2))
}

/// The lowest and the highest.
fn range(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let values = sorted(values);
    match (values.first(), values.last()) {
        (Some(low), Some(high)) => format!("{low:.digits$} to {high:.digits$}"),
        _ => "-".to_owned(),
    }
}

// What is written below goes to a string, which takes everything.

impl Report {
    /// A table.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "runs of {} s in turns, {} each; medians, and the ratio of a pair\n",
            self.seconds, self.repeat
        );
        row(
            &mut text,
            ["", "1 copy", "2 copies", "2 of 1", "target for 2 copies"],
        );
        let parts = [
            (
                "put_unique pipelined, /s",
                &self.put_unique_pipelined,
                KEPT_WITH_TWO,
            ),
            (
                "one waiting writer, /s",
                &self.put_unique_waiting,
                "6,000 /s",
            ),
            (
                "durable pipelined, /s",
                &self.durable_pipelined,
                "30,000 /s",
            ),
            ("durable, waiting, /s", &self.durable_waiting, "1,200 /s"),
        ];
        for (name, compared, target) in parts {
            compared.rows(name, target, &mut text);
        }
        self.losses(&mut text);
        self.troubles(&mut text);
        text.trim_end().to_owned()
    }

    fn losses(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\na store of {} entries in memory, {} waiting writers; the box with its primary is killed and comes back\n\
             lost  answers after  redundant after  copy fetched in  /s with 2 copies, with 1, while fetched  kept, of 2, of 1",
            self.entries, self.writers
        );
        let or_never = |value: Option<f64>| {
            value.map_or_else(|| "never".to_owned(), |value| format!("{value:.2} s"))
        };
        for loss in &self.a_box_lost {
            let none = Foreground::default();
            let fetched = loss.while_fetched.as_ref().unwrap_or(&none);
            let _ = writeln!(
                text,
                "{:<4}  {:>13}  {:>15}  {:>13.2} s  {:>37}  {:>16}",
                format!("{}{}", loss.lost, if loss.leads { " *" } else { "" }),
                or_never(loss.answers_again),
                or_never(loss.redundant_again),
                fetched.seconds,
                format!(
                    "{:.0}  {:.0}  {:.0}",
                    loss.per_second_before, loss.per_second_alone, fetched.per_second
                ),
                format!("{:.2}  {:.2}", fetched.keeps, fetched.keeps_of_alone),
            );
        }
        let losses = || self.a_box_lost.iter();
        // What never came counts as the slowest.
        let answers = || losses().map(|loss| loss.answers_again.unwrap_or(f64::INFINITY));
        let redundant = || losses().map(|loss| loss.redundant_again.unwrap_or(f64::INFINITY));
        let kept = || losses().filter_map(|loss| loss.while_fetched.as_ref());
        let slowest = |times: Vec<f64>| times.last().copied().unwrap_or(f64::NAN);
        let _ = writeln!(
            text,
            "* its coordinator led\n\
             answers again: p50 {:.2} s, slowest {:.2} s (target: 0.7 s, 2 s)\n\
             redundant again: p50 {:.2} s, slowest {:.2} s (target: 10 s with a million entries)\n\
             the foreground keeps: p50 {:.2} of the rate with 2 copies, {:.2} of that with 1 (target: 0.70)",
            median(answers()),
            slowest(sorted(answers())),
            median(redundant()),
            slowest(sorted(redundant())),
            median(kept().map(|it| it.keeps)),
            median(kept().map(|it| it.keeps_of_alone)),
        );
    }

    /// What should not be.
    fn troubles(&self, text: &mut String) {
        let compared = [
            ("put_unique pipelined", &self.put_unique_pipelined),
            ("one waiting writer", &self.put_unique_waiting),
            ("durable pipelined", &self.durable_pipelined),
            ("durable, waiting", &self.durable_waiting),
        ];
        for (name, compared) in compared {
            for (copies, runs) in [(1, &compared.one_copy), (2, &compared.two_copies)] {
                let mut all = Trouble::default();
                for run in runs {
                    all.take_in(&run.trouble);
                }
                if all != Trouble::default() {
                    let _ = writeln!(text, "{name}, {copies} copies: {all:?}");
                }
            }
        }
        for (number, loss) in self.a_box_lost.iter().enumerate() {
            let gone = loss.acknowledged_but_gone;
            if gone > 0 || loss.there_but_unknown > loss.trouble.unknown {
                let _ = writeln!(
                    text,
                    "loss {}: {gone} acknowledged entries are gone, {} are there that were not acknowledged",
                    number + 1,
                    loss.there_but_unknown
                );
            }
            // The first one is the loss itself.
            let is_back = |pause: &&Pause| pause.after >= loss.away;
            for pause in loss.pauses.iter().filter(is_back) {
                let _ = writeln!(
                    text,
                    "loss {}: {:.1} s after its agent was started nothing was acknowledged for {:.2} s",
                    number + 1,
                    pause.after - loss.away,
                    pause.lasted
                );
            }
            if loss.trouble != Trouble::default() {
                let _ = writeln!(text, "loss {}: {:?}", number + 1, loss.trouble);
            }
        }
    }
}

fn row(text: &mut String, [name, one, two, ratio, target]: [&str; 5]) {
    let line = format!("{name:<34}  {one:>20}  {two:>20}  {ratio:>6}  {target}");
    let _ = writeln!(text, "{}", line.trim_end());
}

impl Compared {
    fn rows(&self, name: &str, target: &str, text: &mut String) {
        let both = |figure: &dyn Fn(&[Run]) -> String| {
            [&self.one_copy, &self.two_copies].map(|runs| figure(runs))
        };
        let middle = |runs: &[Run], of: fn(&Run) -> f64| median(runs.iter().map(of));
        let [one, two] = both(&|runs| format!("{:.0}", middle(runs, |run| run.per_second)));
        let ratio = format!("{:.2}", self.ratio);
        row(text, [name, &one, &two, &ratio, target]);
        let [one, two] = both(&|runs| range(runs.iter().map(|run| run.per_second), 0));
        row(text, ["  lowest to highest", &one, &two, "", ""]);
        let [one, two] = both(&|runs| {
            let (p50, p99) = (
                middle(runs, |run| run.p50_us),
                middle(runs, |run| run.p99_us),
            );
            format!("{p50:.0}, {p99:.0}")
        });
        row(text, ["  latency p50, p99, us", &one, &two, "", ""]);
        let [one, two] =
            both(&|runs| format!("{:.4}", middle(runs, |run| run.cpu_seconds_per_1000)));
        row(text, ["  both nodes' CPU s per 1000", &one, &two, "", ""]);
        let [one, two] = both(&|runs| {
            let of = |at: usize| median(runs.iter().map(|run| run.cpu.each()[at]));
            let [a, b, client, others] = [0, 1, 2, 3].map(of);
            format!("{a:.2} {b:.2} {client:.2} {others:.2}")
        });
        row(
            text,
            ["  CPUs: data-a, -b, client, others", &one, &two, "", ""],
        );
    }
}
