//! `muster coordinators`: who decides who is in the cluster.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use muster_cluster::NodeName;
use muster_data::Timestamp;
use muster_gateway::status::{CoordinatorsStatus, MemberStatus, STORE, WAITING};

use super::agent_client::Target;
use crate::arguments::{Format, LayoutOption, RemoteArguments};
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, REFUSED, USAGE, print, say};

/// Show the coordinators: which boxes decide together who is in the cluster, and what they have decided
///
/// Exit codes: 0 they decide and all are there, or there are none; 1 one is away, nobody leads, a store has too few copies, or something is
/// wrong; 3 no agent.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    layout: LayoutOption,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Have the coordinator of this box go on alone, when most of the others are lost for good
    ///
    /// What they decided and this box has not heard of is lost. It must not be done while they run somewhere: there would be two
    /// groups that decide. It is refused while the coordinators decide, and while the box answers that is said to be lost.
    Recover(Recover),
}

#[derive(Debug, Args)]
struct Recover {
    /// A box whose coordinator is lost
    #[arg(long, value_name = "BOX")]
    lost: String,
    /// Its name once more, where nobody can be asked to type it
    #[arg(long, value_name = "BOX")]
    confirm: Option<String>,
    #[command(flatten)]
    remote: RemoteArguments,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        match self.action {
            Some(Action::Recover(arguments)) => {
                confirm(&arguments)?;
                on_runtime(recover(arguments))
            }
            None => on_runtime(show(self)),
        }
    }
}

async fn show(arguments: Arguments) -> Result<ExitCode> {
    let target = Target::of(&arguments.layout).await?;
    let coordinators = target.coordinators().await?;
    print(&match arguments.format {
        Format::Text => text(&coordinators),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&coordinators)?),
    })?;
    Ok(code(&coordinators))
}

fn code(coordinators: &CoordinatorsStatus) -> ExitCode {
    if coordinators.is_well() && coordinators.stores.incomplete() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What stands above the question for the name.
const DANGER: &str = "\
One box will decide alone: the one whose agent is asked. The others follow it when they are there again.
What they decided, and it has not heard of, is lost.
If they run somewhere it must not be done: there would be two groups that decide, and work is done twice.
It is for boxes that are gone, or that are switched off until this is done.";

/// Has whoever asks name the box once more.
fn confirm(arguments: &Recover) -> Result<(), Failure> {
    let lost = &arguments.lost;
    NodeName::new(lost).map_err(|error| Failure::new(error.to_string()).code(USAGE))?;
    match &arguments.confirm {
        Some(name) if name == lost => return Ok(()),
        Some(_) => {
            let message = format!("--confirm does not repeat `{lost}`: nothing was done");
            return Err(Failure::new(message).code(USAGE));
        }
        None => {}
    }
    let mut input = io::stdin().lock();
    if !input.is_terminal() || !io::stderr().is_terminal() {
        return Err(
            Failure::new("the name of the lost box has to be typed once more")
                .hint(format!("without a terminal: --confirm {lost}"))
                .code(USAGE),
        );
    }
    say(DANGER);
    let mut err = io::stderr().lock();
    // Whoever does not see the question does not answer it.
    let _ = write!(err, "Type the name of the lost box: ").and_then(|()| err.flush());
    let mut typed = String::new();
    let read = input.read_line(&mut typed);
    if read.is_ok() && typed.trim() == lost {
        return Ok(());
    }
    let message = format!("what was typed is not `{lost}`: nothing was done");
    Err(Failure::new(message).code(REFUSED))
}

async fn recover(arguments: Recover) -> Result<ExitCode> {
    let target = Target::of_box_or(&arguments.remote).await?;
    let note = target.client().recover(&arguments.lost).await;
    let note = note.map_err(|error| target.failure(&error))?;
    if let Some(note) = note {
        say(&note);
    }
    Ok(ExitCode::SUCCESS)
}

/// Boxes by name, in words.
fn boxes<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("box {name}")).collect();
    names.join(", ")
}

/// Who decides, in a few words.
fn who(coordinators: &CoordinatorsStatus) -> String {
    match &coordinators.leader {
        Some(leader) => format!("box {leader} leads"),
        None if coordinators.part == WAITING => {
            let waiting = coordinators.waiting_for.iter().map(String::as_str);
            match boxes(waiting) {
                none if none.is_empty() => "about to begin".to_owned(),
                names => format!("waiting for {names}"),
            }
        }
        None => "nobody leads".to_owned(),
    }
}

/// What is not as it should be, a line each.
fn problems(coordinators: &CoordinatorsStatus) -> Vec<String> {
    let mut problems = Vec::new();
    let is_waiting = coordinators.part == WAITING;
    for voter in &coordinators.voters {
        let name = &voter.box_name;
        // Whom they wait for stands above.
        if !voter.present && !is_waiting {
            problems.push(format!("box {name} is away"));
        } else if !voter.votes && !is_waiting {
            problems.push(format!("box {name} has no vote yet"));
        }
        if let Some(problem) = &voter.problem {
            problems.push(format!("box {name}: {problem}"));
        }
    }
    let is_told = |problem: &String| {
        let mut voters = coordinators.voters.iter();
        voters.any(|voter| voter.problem.as_ref() == Some(problem))
    };
    if let Some(problem) = coordinators.problem.as_ref().filter(|it| !is_told(it)) {
        problems.push(format!("box {}: {problem}", coordinators.box_name));
    }
    if !coordinators.decides() && !is_waiting && coordinators.most_are_away() {
        problems.push(
            "nothing is decided until most are there; if they are lost for good: `muster coordinators recover --lost BOX`"
                .to_owned(),
        );
    }
    problems
}

/// The coordinators in one line, for the status of a cluster; `None` if there are none.
pub(super) fn line(coordinators: &CoordinatorsStatus) -> Option<String> {
    let count = coordinators.voters.len();
    if count == 0 {
        return None;
    }
    let mut line = format!("coordinators: {}", who(coordinators));
    let away = boxes(coordinators.away());
    if coordinators.is_well() {
        match count {
            1 => {}
            count => {
                let _ = write!(line, "; all {count} are there");
            }
        }
    } else if coordinators.part == WAITING {
        line.push_str("; they begin when all are there");
    } else if away.is_empty() {
        let problems = problems(coordinators).join("; ");
        if !problems.is_empty() {
            let _ = write!(line, "; {problems}");
        }
    } else {
        let are = match coordinators.away().count() {
            1 => "is",
            _ => "are",
        };
        let _ = write!(line, "; {away} {are} away");
    }
    Some(line)
}

/// A time, with the word before it.
pub(super) fn since(seconds: Option<u64>) -> String {
    seconds.map_or_else(String::new, |seconds| {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        format!(" since {}", Timestamp::from_secs(seconds))
    })
}

/// Whether all is redundant, and since when and why not; `None` where there are no coordinators.
pub(super) fn redundancy(coordinators: &CoordinatorsStatus) -> Option<String> {
    if coordinators.redundant? {
        return Some("redundant: yes".to_owned());
    }
    let mut reasons: Vec<String> = coordinators
        .lacks
        .iter()
        .map(|lack| lack.text.clone())
        .collect();
    let stores = coordinators.lacks.iter().filter(|lack| lack.kind == STORE);
    let named = stores.count() as u64;
    match coordinators.stores.incomplete().saturating_sub(named) {
        0 => {}
        1 => reasons.push("1 more store".to_owned()),
        more => reasons.push(format!("{more} more stores")),
    }
    let since = since(coordinators.not_redundant_since());
    let comma = if since.is_empty() { "" } else { "," };
    Some(format!(
        "redundant: no{comma}{since}: {}",
        reasons.join("; ")
    ))
}

// What is written below goes to a string, which takes everything.

fn text(coordinators: &CoordinatorsStatus) -> String {
    if coordinators.voters.is_empty() {
        let mut text = "coordinators: none: one box\n".to_owned();
        for problem in problems(coordinators) {
            let _ = writeln!(text, "{problem}");
        }
        return text;
    }
    let mut text = format!("coordinators: {}", who(coordinators));
    if coordinators.part == WAITING {
        text.push_str(": they begin when all are there");
    } else {
        let _ = write!(
            text,
            ", epoch {}, term {}",
            coordinators.epoch, coordinators.term
        );
        if coordinators.generation > 0 {
            let _ = write!(text, ", recovered {} times", coordinators.generation);
        }
    }
    if coordinators
        .leader
        .as_ref()
        .is_some_and(|leader| *leader != coordinators.box_name)
    {
        let _ = write!(text, " (as box {} knows)", coordinators.box_name);
    }
    text.push('\n');
    if let Some(line) = redundancy(coordinators) {
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "{:<12} {:<10} {:<8} votes", "box", "part", "present");
    for voter in &coordinators.voters {
        let _ = writeln!(
            text,
            "{:<12} {:<10} {:<8} {}",
            voter.box_name,
            voter.part.as_deref().unwrap_or("-"),
            yes(voter.present),
            yes(voter.votes)
        );
    }
    if !coordinators.members.is_empty() {
        let _ = writeln!(
            text,
            "{:<12} {:<12} {:<6} {:<21} {:<8} why",
            "node", "box", "state", "since", "heard"
        );
    }
    for member in &coordinators.members {
        row(member, &mut text);
    }
    for problem in problems(coordinators) {
        let _ = writeln!(text, "{problem}");
    }
    text
}

fn row(member: &MemberStatus, text: &mut String) {
    let heard = member.heard_seconds;
    let _ = writeln!(
        text,
        "{:<12} {:<12} {:<6} {:<21} {:<8} {}",
        member.node,
        member.box_name,
        member.state,
        Timestamp::from_secs(i64::try_from(member.since).unwrap_or(i64::MAX)).to_string(),
        heard.map_or_else(|| "-".to_owned(), |ago| format!("{ago:.1}s")),
        member.reason.as_deref().unwrap_or("-")
    );
}

fn yes(it_is_so: bool) -> &'static str {
    if it_is_so { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use muster_gateway::status::{CoordinatorStatus, IN, LEADER, LackStatus, OUT};

    use super::*;

    fn three() -> CoordinatorsStatus {
        let voter = |(name, part): (&str, &str)| CoordinatorStatus {
            box_name: name.to_owned(),
            present: true,
            votes: true,
            part: Some(part.to_owned()),
            problem: None,
            away_since: None,
        };
        CoordinatorsStatus {
            version: 1,
            box_name: "a".to_owned(),
            part: LEADER.to_owned(),
            leader: Some("a".to_owned()),
            term: 3,
            epoch: 17,
            voters: [("a", LEADER), ("b", "follower"), ("c", "follower")]
                .map(voter)
                .into(),
            members: vec![
                MemberStatus {
                    node: "data-1".to_owned(),
                    box_name: "a".to_owned(),
                    state: IN.to_owned(),
                    session: 9,
                    since: 1_700_000_000,
                    heard_seconds: Some(0.25),
                    reason: None,
                },
                MemberStatus {
                    node: "data-2".to_owned(),
                    box_name: "b".to_owned(),
                    state: OUT.to_owned(),
                    session: 11,
                    since: 1_700_000_100,
                    heard_seconds: None,
                    reason: Some("does not answer".to_owned()),
                },
            ],
            ..CoordinatorsStatus::default()
        }
    }

    fn without(away: &[usize]) -> CoordinatorsStatus {
        let mut status = three();
        for at in away {
            status.voters[*at].present = false;
            status.voters[*at].part = None;
        }
        status
    }

    #[test]
    fn all_is_well() {
        let text = text(&three());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "coordinators: box a leads, epoch 17, term 3",
                "box          part       present  votes",
                "a            leader     yes      yes",
                "b            follower   yes      yes",
                "c            follower   yes      yes",
                "node         box          state  since                 heard    why",
                "data-1       a            in     2023-11-14T22:13:20Z  0.2s     -",
                "data-2       b            out    2023-11-14T22:15:00Z  -        does not answer",
            ]
        );
        assert_eq!(code(&three()), ExitCode::SUCCESS);
        let line = line(&three()).unwrap();
        assert_eq!(line, "coordinators: box a leads; all 3 are there");
    }

    fn last(status: &CoordinatorsStatus) -> (String, String) {
        let text = text(status);
        let last = text.lines().last().unwrap();
        (last.to_owned(), line(status).unwrap())
    }

    #[test]
    fn who_is_away_is_named() {
        let status = without(&[2]);
        let (last, line) = last(&status);
        assert_eq!(last, "box c is away");
        assert_eq!(line, "coordinators: box a leads; box c is away");
        assert_eq!(code(&status), ExitCode::FAILURE);
    }

    #[test]
    fn when_most_are_away_it_is_said_what_may_be_done() {
        let status = CoordinatorsStatus {
            leader: None,
            part: "candidate".to_owned(),
            ..without(&[1, 2])
        };
        let (last, line) = last(&status);
        assert!(last.contains("muster coordinators recover"), "{last}");
        assert_eq!(line, "coordinators: nobody leads; box b, box c are away");
        assert!(text(&status).starts_with("coordinators: nobody leads, epoch 17, term 3\n"));
        assert_eq!(code(&status), ExitCode::FAILURE);
    }

    #[test]
    fn they_wait_for_all_before_they_begin() {
        let mut status = CoordinatorsStatus {
            leader: None,
            part: WAITING.to_owned(),
            members: Vec::new(),
            waiting_for: vec!["b".to_owned(), "c".to_owned()],
            ..without(&[1, 2])
        };
        let shown = text(&status);
        let first = "coordinators: waiting for box b, box c: they begin when all are there\n";
        assert!(shown.starts_with(first), "{shown}");
        assert!(
            !shown.contains("away") && !shown.contains("recover"),
            "{shown}"
        );
        assert!(line(&status).unwrap().contains("waiting for box b, box c"));
        status.waiting_for.clear();
        assert!(text(&status).starts_with("coordinators: about to begin"));
    }

    #[test]
    fn a_problem_is_said_once() {
        let mut status = three();
        status.voters[1].problem = Some("its file is broken".to_owned());
        status.box_name = "b".to_owned();
        status.problem = Some("its file is broken".to_owned());
        let shown = text(&status);
        assert_eq!(shown.matches("its file is broken").count(), 1, "{shown}");
        assert!(shown.contains("(as box b knows)"), "{shown}");
        let line = line(&status).unwrap();
        assert_eq!(line, "coordinators: box a leads; box b: its file is broken");
    }

    #[test]
    fn whether_all_is_redundant_is_said_with_the_reasons() {
        let judged = |mut status: CoordinatorsStatus| {
            status.judge();
            (redundancy(&status), code(&status))
        };
        let well = (Some("redundant: yes".to_owned()), ExitCode::SUCCESS);
        assert_eq!(judged(three()), well);
        assert_eq!(judged(CoordinatorsStatus::default()).0, None);
        let mut away = without(&[2]);
        away.voters[2].away_since = Some(1_700_000_000);
        away.judge();
        let shown = text(&away);
        let second = shown.lines().nth(1).unwrap();
        assert_eq!(
            second,
            "redundant: no, since 2023-11-14T22:13:20Z: box c is away"
        );
        // Of many stores the first are named.
        let lack = |name: &str, since| LackStatus {
            kind: STORE.to_owned(),
            name: name.to_owned(),
            text: format!("store {name}: 1 of 2 copies in sync"),
            since,
        };
        let mut short = three();
        short.stores.short = 1;
        short.lacks = vec![lack("x", None)];
        let one = "redundant: no: store x: 1 of 2 copies in sync";
        assert_eq!(
            judged(short.clone()),
            (Some(one.to_owned()), ExitCode::FAILURE)
        );
        short.stores.waiting = 1;
        assert_eq!(
            judged(short.clone()).0.unwrap(),
            format!("{one}; 1 more store")
        );
        short.stores.waiting = 7;
        let many = format!("{one}; 7 more stores");
        assert_eq!(judged(short.clone()).0.unwrap(), many);
        // Two boxes without a third one cannot be better than they are.
        let mut two = three();
        two.voters.truncate(1);
        let alone = "redundant: no: box a decides alone";
        assert_eq!(judged(two), (Some(alone.to_owned()), ExitCode::SUCCESS));
    }

    #[test]
    fn one_box_has_none() {
        let none = CoordinatorsStatus::default();
        assert_eq!(text(&none), "coordinators: none: one box\n");
        assert_eq!((line(&none), code(&none)), (None, ExitCode::SUCCESS));
    }

    #[test]
    fn the_lost_box_is_named_twice() {
        let typed = |confirm: Option<&str>| {
            let arguments = Recover {
                lost: "c".to_owned(),
                confirm: confirm.map(ToOwned::to_owned),
                remote: RemoteArguments {
                    server: None,
                    identity: None,
                    token_file: None,
                    authority: None,
                },
            };
            super::confirm(&arguments).map_err(|failure| failure.code)
        };
        assert_eq!(typed(Some("c")), Ok(()));
        assert_eq!(typed(Some("b")), Err(USAGE));
    }
}
