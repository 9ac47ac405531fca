//! The loss of the box that has a store's primary, and its return, while somebody writes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::client::{Ask, History};
use super::report::{Foreground, Loss, Pause};
use super::{Client, IN_MEMORY, Plan, STORES};
use crate::client::now;
use crate::founding::{BOXES, Cluster};
use crate::rounds::decisions::{coordinators, leader};

/// How long anything may take that has to come to an end.
const LIMIT: Duration = Duration::from_secs(90);

/// The pause until a box is asked again: asking takes its part of the machine, too.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// How long it is written with two copies, and with one, before something happens.
const STEADY: Duration = Duration::from_secs(2);

/// So many seconds without an answer are told.
const PAUSE: f64 = 0.25;

/// An answer that was under way when its box was lost has arrived by then, in nanoseconds.
const UNDER_WAY: u64 = 5_000_000;

/// Waits until there is something, or until it takes too long.
pub(super) fn wait<T>(mut found: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        if let Some(found) = found()? {
            return Ok(Some(found));
        }
        std::thread::sleep(ASK_EVERY);
    }
    Ok(None)
}

/// Loses boxes, one after the other, each as often as everything is repeated.
pub(super) fn lose_boxes(
    cluster: &mut Cluster<'_>,
    client: &mut Client,
    plan: &Plan,
) -> Result<Vec<Loss>> {
    let [_, store] = IN_MEMORY;
    let entries = plan.entries;
    client.order(&Ask::Fill { store, entries })?;
    let mut losses = Vec::new();
    for _ in 0..plan.repeat * 2 {
        let loss = lose(cluster, client, store, plan.writers)?;
        let is_over = loss.redundant_again.is_none();
        losses.push(loss);
        if is_over {
            break; // with one copy no box may be lost
        }
    }
    Ok(losses)
}

/// What happened when, in nanoseconds of the machine's monotonic clock.
struct Times {
    struck: u64,
    dead: u64,
    started: u64,
    /// When the node was first seen to get a copy.
    joining: Option<u64>,
    redundant: Option<u64>,
}

/// Loses the box with the primary, and has it back.
fn lose(
    cluster: &mut Cluster<'_>,
    client: &mut Client,
    store: usize,
    writers: u64,
) -> Result<Loss> {
    let kept = &STORES[store];
    cluster.wait_until_kept("c", kept)?;
    wait_until_all_vote(cluster)?;
    let told = cluster.look("c", kept.name)?.context("it is known")?;
    let lost = told["primary"]["box"].as_str().context("a primary")?;
    let lost = lost.to_owned();
    let other = if lost == "a" { "b" } else { "a" };
    let leads = leader(&coordinators(cluster.at("c")?)?);
    let size = client.size(store)?;

    client.order(&Ask::Follow { store, writers })?;
    std::thread::sleep(STEADY);
    let struck = now();
    cluster.at(&lost)?.kill_all()?;
    let dead = now();
    std::thread::sleep(Duration::from_secs(1));
    let is_elsewhere = |told: &Value| {
        let primary = told["primary"]["box"].as_str();
        primary.is_some_and(|primary| primary != lost)
    };
    let elsewhere = wait(|| Ok(cluster.look(other, kept.name)?.filter(is_elsewhere)))?;
    ensure!(elsewhere.is_some(), "no primary takes the lost one's place");
    std::thread::sleep(STEADY);

    let started = now();
    cluster.start(&lost)?;
    let mut joining = None;
    let redundant = wait(|| {
        let told = cluster.look(other, kept.name)?;
        if told
            .as_ref()
            .is_some_and(|told| told["joining"].is_object())
        {
            joining.get_or_insert_with(now);
        }
        let in_sync = told.as_ref().and_then(|told| told["in_sync"].as_array());
        let has_all = in_sync.is_some_and(|in_sync| in_sync.len() as u64 == kept.copies);
        Ok(has_all.then(now))
    })?;
    std::thread::sleep(STEADY / 2);
    let history = client.stop()?;
    let times = Times {
        struck,
        dead,
        started,
        joining,
        redundant,
    };
    let mut loss = judged(&times, &history);
    let now = client.size(store)?;
    let acknowledged = history.acknowledged.len() as u64;
    loss.acknowledged_but_gone = (size + acknowledged).saturating_sub(now);
    loss.there_but_unknown = now.saturating_sub(size + acknowledged);
    loss.leads = leads.is_some_and(|name| name == lost);
    loss.lost = lost;
    Ok(loss)
}

/// Waits until all coordinators are there and vote.
fn wait_until_all_vote(cluster: &Cluster<'_>) -> Result<()> {
    let votes = |voter: &Value| voter["present"] == true && voter["votes"] == true;
    let all = wait(|| {
        let told = coordinators(cluster.at("c")?)?;
        let voters = told["voters"].as_array().map(Vec::as_slice);
        let voters = voters.unwrap_or_default();
        Ok((voters.len() == BOXES.len() && voters.iter().all(votes)).then_some(()))
    })?;
    all.context("a coordinator does not come back")
}

#[allow(clippy::cast_precision_loss, reason = "nanoseconds of some minutes")]
fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

fn judged(times: &Times, history: &History) -> Loss {
    let acknowledged = &history.acknowledged;
    let rate = |from: u64, to: u64| {
        let within = acknowledged.iter().filter(|at| (from..to).contains(*at));
        #[allow(clippy::cast_precision_loss, reason = "some thousands")]
        let count = within.count() as f64;
        count / seconds(from, to).max(1e-3)
    };
    let steady = u64::try_from(STEADY.as_nanos()).unwrap_or(u64::MAX);
    let mut answers = acknowledged.iter();
    let answer = answers.find(|at| **at > times.dead + UNDER_WAY);
    let before = rate(times.struck - steady * 3 / 4, times.struck);
    let alone = rate(times.started - steady * 3 / 4, times.started);
    let fetched = times.redundant.map(|redundant| {
        // What was not seen was over between two looks.
        let from = times.joining.unwrap_or(times.started);
        let per_second = rate(from, redundant);
        Foreground {
            seconds: seconds(from, redundant),
            per_second,
            keeps: per_second / before,
            keeps_of_alone: per_second / alone,
        }
    });
    let within = acknowledged
        .windows(2)
        .filter(|pair| pair[1] > times.struck);
    let pauses = within.filter(|pair| seconds(pair[0], pair[1]) >= PAUSE);
    let pauses = pauses.map(|pair| Pause {
        after: seconds(times.struck, pair[0]),
        lasted: seconds(pair[0], pair[1]),
    });
    Loss {
        away: seconds(times.struck, times.started),
        pauses: pauses.collect(),
        answers_again: answer.map(|at| seconds(times.struck, *at)),
        redundant_again: times.redundant.map(|at| seconds(times.started, at)),
        per_second_before: before,
        per_second_alone: alone,
        while_fetched: fetched,
        trouble: history.trouble.clone(),
        ..Loss::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    #[test]
    fn the_pause_and_the_rates_are_those_around_what_happened() {
        let every = |range: std::ops::Range<u64>, step| range.step_by(step).map(|at| at * MILLI);
        let mut acknowledged: Vec<u64> = every(0..3000, 1).collect();
        // Under way when the box was lost, and then nothing for a while.
        acknowledged.push(3003 * MILLI);
        acknowledged.extend(every(3700..7000, 1));
        acknowledged.extend(every(7000..9000, 2));
        let history = History {
            acknowledged,
            ..History::default()
        };
        let times = Times {
            struck: 2999 * MILLI,
            dead: 3000 * MILLI,
            started: 6000 * MILLI,
            joining: Some(7000 * MILLI),
            redundant: Some(8000 * MILLI),
        };
        let loss = judged(&times, &history);
        assert_eq!(loss.answers_again, Some(0.701));
        assert_eq!(loss.redundant_again, Some(2.0));
        let rates = [loss.per_second_before, loss.per_second_alone];
        assert_eq!(rates.map(|rate| format!("{rate:.0}")), ["1000", "1000"]);
        let fetched = loss.while_fetched.unwrap();
        assert_eq!((fetched.seconds, fetched.keeps), (1.0, 0.5));
    }
}
