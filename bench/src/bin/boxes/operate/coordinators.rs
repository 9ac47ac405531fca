//! Boxes that are lost, stand still or come back empty, as their coordinators decide it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use muster_bench::boxes::until;
use serde_json::Value;

use super::{NODES, Operation, agent_pid, kill};
use crate::rounds::decisions::{coordinators, count, leader};
use crate::say;

/// How many nodes of a box there are.
fn nodes_of(name: &str) -> usize {
    NODES.iter().filter(|(.., on)| *on == name).count()
}

/// Whether somebody leads, all boxes vote and are there, and all nodes are in.
fn is_whole(told: &Value) -> bool {
    let voters = told["voters"].as_array().map(Vec::as_slice);
    let is_there = |voter: &Value| voter["present"] == true && voter["votes"] == true;
    leader(told).is_some()
        && voters.is_some_and(|voters| voters.len() == 3 && voters.iter().all(is_there))
        && ["a", "b", "c"]
            .iter()
            .all(|name| count(told, name, "in") == nodes_of(name))
}

impl Operation<'_> {
    fn told(&self, at: &str) -> Result<Value> {
        coordinators(self.at(at)?)
    }

    pub(super) fn until_whole(&self, at: &str) -> Result<Value> {
        until("whole coordinators", || {
            // An agent that has just begun does not answer yet.
            let told = self.told(at).ok();
            Ok(told.filter(is_whole))
        })
    }

    /// Waits until all nodes of a box are out, and returns how long that took.
    fn until_out(&self, at: &str, lost: &str, begun: Instant) -> Result<f64> {
        until("all nodes of the box out", || {
            let told = self.told(at)?;
            Ok((count(&told, lost, "in") == 0).then_some(()))
        })?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// The box whose coordinator leads is lost with all that is on it.
    pub(super) fn lose_the_leader(&mut self) -> Result<()> {
        let told = self.until_whole("c")?;
        let lost = leader(&told).context("somebody leads")?;
        let other = if lost == "a" { "b" } else { "a" };
        let begun = Instant::now();
        self.at(&lost)?.kill_all()?;
        let took = self.until_out(other, &lost, begun)?;
        let told = self.told(other)?;
        ensure!(leader(&told).is_some_and(|now| now != lost), "{told}");
        until("the word that a coordinator is away", || {
            let code = self.at(other)?.run(&["coordinators"])?.status.code();
            Ok((code == Some(1)).then_some(()))
        })?;
        self.start_agent(&lost)?;
        self.all_ready()?;
        self.until_whole(&lost)?;
        say(&format!(
            "10 box {lost}, which led, was killed: another leads, and its nodes are out after {took:.1} s; they come back by themselves"
        ));
        Ok(())
    }

    /// A box stands still, as a machine does that swaps, or is paused.
    pub(super) fn freeze_a_box(&mut self) -> Result<()> {
        let begun = Instant::now();
        self.at("b")?.set_frozen(true)?;
        let took = self.until_out("a", "b", begun)?;
        self.at("b")?.set_frozen(false)?;
        let thawed = Instant::now();
        self.until_whole("a")?;
        let back = thawed.elapsed().as_secs_f64();
        self.all_ready()?;
        say(&format!(
            "11 box b stood still: its nodes are out after {took:.1} s, and in again {back:.1} s after it went on"
        ));
        Ok(())
    }

    /// A coordinator comes back with an empty disk.
    pub(super) fn empty_a_disk(&mut self) -> Result<()> {
        let c = self.at("c")?;
        kill(agent_pid(c)?.into())?;
        std::fs::remove_file(c.root.join("var/lib/muster/coordinator.sqlite"))?;
        self.start_agent("c")?;
        // The others take it for there and voting until they hear that its file is another one: what it says itself counts.
        self.until_whole("c")?;
        self.until_whole("a")?;
        say(
            "12 a coordinator that came back with an empty disk has all that the others have, and votes",
        );
        Ok(())
    }

    /// Two of three are lost: the third goes on alone when an operator says so, and the others follow it.
    pub(super) fn recover(&mut self) -> Result<()> {
        let refused = self.at("a")?;
        let arguments = ["coordinators", "recover", "--lost", "b", "--confirm", "b"];
        let said = refused.run(&arguments)?;
        ensure!(!said.status.success(), "recovered what is whole");
        for lost in ["a", "b"] {
            self.at(lost)?.kill_all()?;
        }
        let c = self.at("c")?;
        until("nobody who leads", || {
            let told = coordinators(c)?;
            Ok(leader(&told).is_none().then_some(()))
        })?;
        let arguments = ["coordinators", "recover", "--lost", "a", "--confirm", "a"];
        until("a recovery", || {
            let said = c.run(&arguments)?;
            Ok(said.status.success().then_some(()))
        })?;
        until("a leader", || {
            let told = coordinators(c)?;
            let leads = leader(&told).is_some_and(|now| now == "c");
            Ok((leads && told["generation"] == 1).then_some(()))
        })?;
        for name in ["a", "b"] {
            self.start_agent(name)?;
        }
        let told = self.until_whole("a")?;
        ensure!(told["generation"] == 1, "{told}");
        // A node that is in again hears of it with its next renewal.
        self.all_ready()?;
        say(
            "13 two coordinators of three were lost: the third went on alone by an operator's word, and the others followed it",
        );
        Ok(())
    }
}
