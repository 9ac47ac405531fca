//! Three boxes on one machine, operated as an operator would: founded, joined, asked, upgraded, cut off.

mod coordinators;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use muster_bench::boxes::{BoxOfOne, Boxes, kill_process, until};
use muster_measure::{cpu_seconds_of, memory_bytes_of};
use serde_json::Value;

use crate::founding::found;
use crate::say;

/// How long an agent is watched that has nothing to do.
const IDLE: Duration = Duration::from_secs(10);

/// Connections that the workers read, each between two hosts that are known then.
const HOSTS: usize = 200;

const NODES: [(&str, &str, &str); 7] = [
    ("manager", "manager", "a"),
    ("logger-1", "logger", "a"),
    ("data-1", "data", "a"),
    ("logger-2", "logger", "b"),
    ("data-2", "data", "b"),
    ("worker-1", "worker", "c"),
    ("worker-2", "worker", "c"),
];

fn layout(boxes: &Boxes) -> Result<PathBuf> {
    use std::fmt::Write as _;
    let mut text =
        "[cluster]\nname = \"sensors\"\n[known_hosts]\nlocal_nets = [\"10.0.0.0/8\"]\n".to_owned();
    for made in boxes.iter() {
        writeln!(text, "[box.{}]\naddress = \"{}\"", made.name, made.address)?;
    }
    for (name, role, on) in NODES {
        writeln!(
            text,
            "[[node]]\nname = \"{name}\"\nrole = \"{role}\"\nbox = \"{on}\""
        )?;
        if role == "worker" {
            writeln!(
                text,
                "input = [\"{}\"]",
                boxes.directory().join("conn.log").display()
            )?;
        }
    }
    let mut rows = "#separator \\x09\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\n#types\ttime\tstring\taddr\tport\taddr\tport\tenum\tstring\n".to_owned();
    for host in 1..=HOSTS {
        writeln!(
            rows,
            "{}.0\tC{host}\t10.1.0.{host}\t4000\t10.2.0.{host}\t80\ttcp\tSF",
            1_700_000_000 + host
        )?;
    }
    std::fs::write(boxes.directory().join("conn.log"), rows)?;
    let file = boxes.directory().join("three.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}

pub(crate) fn operate(boxes: &Boxes, program: &Path) -> Result<()> {
    let mut operation = Operation {
        boxes,
        program,
        agents: Vec::new(),
    };
    let token = operation.found_and_join()?;
    operation.refuse(&token)?;
    operation.look_from_everywhere()?;
    operation.read_all()?;
    operation.lose_an_agent()?;
    operation.upgrade()?;
    operation.cut_off()?;
    operation.lead_around()?;
    operation.set_a_clock()?;
    operation.lose_the_leader()?;
    operation.freeze_a_box()?;
    operation.empty_a_disk()?;
    operation.recover()?;
    operation.tell_costs()?;
    for made in boxes.iter() {
        made.ends_with(0, &["agent", "stop"])?;
    }
    say("all is as it should be");
    Ok(())
}

/// The day of an operator.
struct Operation<'a> {
    boxes: &'a Boxes,
    program: &'a Path,
    agents: Vec<Child>,
}

impl Operation<'_> {
    fn at(&self, name: &str) -> Result<&BoxOfOne> {
        self.boxes.get(name)
    }

    fn start_agent(&mut self, name: &str) -> Result<()> {
        let agent = self.at(name)?.agent()?;
        self.agents.push(agent);
        Ok(())
    }

    fn pids(&self, name: &str) -> Result<Vec<u64>> {
        let status = self.at(name)?.status()?;
        NODES.iter().map(|(name, ..)| pid(&status, name)).collect()
    }

    fn all_ready(&self) -> Result<()> {
        self.at("a")?
            .ends_with(0, &["status", "--wait", "ready"])
            .map(drop)
    }

    /// Returns a token that was used.
    fn found_and_join(&mut self) -> Result<String> {
        let file = layout(self.boxes)?;
        let begun = Instant::now();
        let boxes = self.boxes;
        let used = found(boxes, &file, &["b", "c"], |name| self.start_agent(name))?;
        let took = begun.elapsed().as_secs_f64();
        say(&format!(
            "1  three boxes from nothing to ready in {took:.1} s"
        ));
        Ok(used)
    }

    fn refuse(&self, token: &str) -> Result<()> {
        let at = self.at("a")?.address.to_string();
        let scratch = self.at("c")?;
        let scratch = scratch.with_root(self.boxes.directory().join("scratch"));
        std::fs::create_dir_all(&scratch.root)?;
        std::fs::copy(self.program, scratch.program())?;
        let said = scratch.ends_with(4, &["join", "--box", "c", token, &at])?;
        ensure!(said.contains("has been used"), "{said}");
        let digit = if &token[8..9] == "0" { "1" } else { "0" };
        let flipped = format!("{}{digit}{}", &token[..8], &token[9..]);
        let said = scratch.ends_with(4, &["join", "--box", "c", &flipped, &at])?;
        ensure!(said.contains("nothing was sent"), "{said}");
        say("2  a used token and one of another authority are refused (4)");
        Ok(())
    }

    fn look_from_everywhere(&self) -> Result<()> {
        let from_a = self.pids("a")?;
        for other in ["b", "c"] {
            ensure!(
                from_a == self.pids(other)?,
                "a and {other} tell of different processes"
            );
        }
        let c = self.at("c")?;
        let nobody = |arguments: &[&str]| -> Result<i32> {
            let program = c.program();
            let program = program.to_str().context("the directory is no text")?;
            let user = ["--reuid=65534", "--regid=65534", "--clear-groups", program];
            let all = [&user[..], arguments].concat();
            let output = c.command(Path::new("setpriv"), &all).output()?;
            output.status.code().context("it was killed")
        };
        ensure!(nobody(&["status"])? == 0, "nobody may not look");
        ensure!(
            nobody(&["restart", "data-1"])? == 4,
            "nobody may restart a node"
        );
        say(
            "3  every box tells of the same 7 nodes; the user nobody looks, and may not restart (4)",
        );
        Ok(())
    }

    fn lose_an_agent(&mut self) -> Result<()> {
        let before = self.pids("a")?;
        kill(agent_pid(self.at("b")?)?.into())?;
        let said = self.at("a")?.ends_with(5, &["status"])?;
        ensure!(said.contains("agent gone"), "{said}");
        self.start_agent("b")?;
        self.all_ready()?;
        ensure!(before == self.pids("a")?, "a node was started anew");
        let data = before[4];
        kill(data)?;
        let a = self.at("a")?;
        until("a new data-2", || {
            let status = a.status()?;
            let node = node(&status, "data-2")?;
            let is_new = node["pid"].as_u64().is_some_and(|now| now != data);
            Ok((is_new && node["report"]["state"] == "ready").then_some(()))
        })?;
        self.all_ready()?;
        say(
            "5  a killed agent cost no node its life; the next one took them over, and started one that was killed",
        );
        Ok(())
    }

    fn upgrade(&self) -> Result<()> {
        let b = self.at("b")?;
        let new = b.root.join("new");
        std::fs::copy(self.program, &new)?;
        std::fs::rename(&new, b.program())?;
        let before = self.pids("a")?;
        let said = b.ends_with(0, &["agent", "reload"])?;
        ensure!(said.contains("goes on as process"), "{said}");
        self.all_ready()?;
        let said = self.at("a")?.ends_with(0, &["status"])?;
        ensure!(said.contains("than these run: logger-2, data-2"), "{said}");
        ensure!(before == self.pids("a")?, "a node was started anew");
        self.at("a")?.ends_with(0, &["restart", "data-2"])?;
        let now = pid(&self.at("a")?.status()?, "data-2")?;
        let runs = std::fs::read_link(format!("/proc/{now}/exe"))?;
        ensure!(runs == b.program(), "data-2 runs {}", runs.display());
        say(
            "6  a new program: the agent goes on with it, a node when it is restarted, from another box",
        );
        Ok(())
    }

    fn read_all(&self) -> Result<()> {
        let logs = self
            .at("a")?
            .ends_with(0, &["logs", "--since", "5m", "--grep", "listens on"])?;
        let is_told = |name: &str| logs.contains(&format!("node {name} ("));
        ensure!(NODES.iter().all(|(name, ..)| is_told(name)), "{logs}");
        let c = self.at("c")?;
        let (shown, written) = until("the same records", || {
            let shown = c.ends_with(0, &["records", "known_hosts", "--format", "json"])?;
            let shown = shown.lines().count();
            let written = rows(self.at("a")?)? + rows(self.at("b")?)?;
            let has_all = written >= 2 * HOSTS && shown == written;
            Ok(has_all.then_some((shown, written)))
        })?;
        say(&format!(
            "4  process logs of all boxes in one; {shown} records of two loggers in one, {written} are in their files"
        ));
        Ok(())
    }

    fn cut_off(&self) -> Result<()> {
        let a = self.at("a")?;
        let code = a.run(&["doctor"])?.status.code();
        ensure!(matches!(code, Some(0 | 1)), "doctor ended with {code:?}");
        self.at("c")?.set_link("down")?;
        let said = until("the doctor's word", || {
            let output = a.run(&["doctor"])?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok((output.status.code() == Some(2)).then_some(text))
        })?;
        ensure!(said.contains("box c"), "{said}");
        self.at("c")?.set_link("up")?;
        self.all_ready()?;
        say("7  the doctor names the box that is cut off (2); it comes back by itself");
        Ok(())
    }

    /// Box c has no node that relays: its agent does.
    fn lead_around(&self) -> Result<()> {
        let (a, b, c) = (self.at("a")?, self.at("b")?, self.at("c")?);
        for (from, to) in [(a, b), (b, a)] {
            from.set_way_to(to, false)?;
        }
        let begun = Instant::now();
        until("ways around from a to b", || {
            let status = c.status()?;
            let detours = &node(&status, "manager")?["report"]["detours"];
            let detours = detours.as_array().map(Vec::as_slice).unwrap_or_default();
            let has = |name: &str| detours.iter().any(|detour| detour == name);
            Ok((has("logger-2") && has("data-2")).then_some(()))
        })?;
        // Whoever the leader did not hear until then was out for a moment.
        until("all ready by the way around", || {
            let status = c.status()?;
            let states = NODES.iter().map(|(name, ..)| node(&status, name));
            let states = states.collect::<Result<Vec<_>>>()?;
            let all = states.iter().all(|it| it["report"]["state"] == "ready");
            Ok(all.then_some(()))
        })?;
        let took = begun.elapsed().as_secs_f64();
        doctor_says(c, "no link with agent.")?;
        for (from, to) in [(a, b), (b, a)] {
            from.set_way_to(to, true)?;
        }
        until("direct links again", || {
            let status = c.status()?;
            let detours = &node(&status, "manager")?["report"]["detours"];
            Ok(detours.as_array().is_none_or(Vec::is_empty).then_some(()))
        })?;
        self.all_ready()?;
        say(&format!(
            "8  a and b cut off from one another: all are ready, led around by the agent of c, after {took:.1} s"
        ));
        Ok(())
    }

    fn set_a_clock(&mut self) -> Result<()> {
        let restart = |operation: &mut Self, variables: &[(&str, &str)]| {
            let c = operation.at("c")?;
            kill(agent_pid(c)?.into())?;
            let agent = c.agent_with(variables)?;
            operation.agents.push(agent);
            operation.all_ready()
        };
        restart(self, &[("MUSTER_TEST_CLOCK_OFFSET", "1.2")])?;
        doctor_says(self.at("a")?, "the clock of box c is off by +1.2 s")?;
        restart(self, &[])?;
        say("9  the doctor names the box whose clock is off by a second (2)");
        Ok(())
    }

    fn tell_costs(&self) -> Result<()> {
        let asked = Instant::now();
        self.at("a")?.ends_with(0, &["status"])?;
        say(&format!(
            "14 status takes {} ms",
            asked.elapsed().as_millis()
        ));
        let before: Vec<(u32, f64)> = self.boxes.iter().map(agent_cost).collect::<Result<_>>()?;
        std::thread::sleep(IDLE);
        for (made, (pid, used)) in self.boxes.iter().zip(before) {
            let memory = memory_bytes_of(pid).unwrap_or_default();
            let used = cpu_seconds_of(pid)? - used;
            #[allow(clippy::cast_precision_loss, reason = "MiB")]
            let mib = memory as f64 / f64::from(1 << 20);
            let percent = used / IDLE.as_secs_f64() * 100.0;
            let name = &made.name;
            say(&format!(
                "   agent of {name}: {mib:.1} MiB, {percent:.2} % of a CPU"
            ));
        }
        Ok(())
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        for agent in &mut self.agents {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

fn node<'a>(status: &'a Value, name: &str) -> Result<&'a Value> {
    let nodes = status["nodes"].as_array().context("a status has nodes")?;
    let found = nodes.iter().find(|node| node["node"] == name);
    found.with_context(|| format!("{name} is not in the status"))
}

fn pid(status: &Value, name: &str) -> Result<u64> {
    let pid = node(status, name)?["pid"].as_u64();
    pid.with_context(|| format!("{name} has no process"))
}

/// The agent's own process: what was started is `ip`, which becomes it.
fn agent_pid(made: &BoxOfOne) -> Result<u32> {
    let status = made.status()?;
    let pid = status["agent"]["pid"].as_u64();
    Ok(u32::try_from(pid.context("the agent says who it is")?)?)
}

/// Waits until the doctor fails with these words.
fn doctor_says(at: &BoxOfOne, words: &str) -> Result<()> {
    until(words, || {
        let output = at.run(&["doctor"])?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((said.contains(words) && output.status.code() == Some(2)).then_some(()))
    })
}

fn agent_cost(made: &BoxOfOne) -> Result<(u32, f64)> {
    let pid = agent_pid(made)?;
    Ok((pid, cpu_seconds_of(pid)?))
}

fn kill(pid: u64) -> Result<()> {
    kill_process(u32::try_from(pid)?)
}

/// The rows of `known_hosts` in the files of a box.
fn rows(made: &BoxOfOne) -> Result<usize> {
    let directory = made.root.join("var/log/muster/current");
    let counts = muster_frameworks::log_files::count_rows(&directory)?;
    let rows = counts.get("known_hosts").copied().unwrap_or_default();
    Ok(usize::try_from(rows)?)
}
