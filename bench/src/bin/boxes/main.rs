//! Boxes on one machine, run with real processes: operated as an operator would, with faults in them, or measured.
//!
//! - `boxes operate`: three boxes are founded, joined, asked, upgraded and cut off. Each step says what was seen; the first that
//!   is not as it should be ends it with 1.
//! - `boxes [--rounds 100] [--seed N] [--fault NAME] [--patient] [--history FILE] [--format json]`: in each round something happens to a box while clients use
//!   stores, and an oracle judges what they were told. It ends with 1 if the cluster has not kept its word, and with 2 if it
//!   could not be tried. With `--patient` times are told, and not judged. `--history` keeps what was asked and
//!   answered, a JSON object on a line.
//! - `boxes stores [--seconds 5] [--repeat 3] [--entries 100000] [--writers 1] [--format json]`: what copies of a store cost, and
//!   what they are worth when the box with the primary is lost while some write. The figures stand beside what they are to be, and it
//!   ends with 0 whatever they are.
//!
//! `cargo build --release && cargo run --release -p muster-bench --bin boxes`. It needs root; where it cannot run it says why
//! and ends with 3.

mod client;
mod founding;
mod operate;
mod rounds;
mod stores;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use muster_bench::boxes::{Boxes, Equipment, missing};

use self::rounds::Plan;

/// Where boxes cannot be made.
const CANNOT: u8 = 3;

/// What is no fault of the cluster: a step of this program has failed.
const BROKEN: u8 = 2;

/// The size of a box's disk in MiB, where it has one.
const DISK: u64 = 96;

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        say(&format!("error: {error:#}"));
        BROKEN.into()
    })
}

fn run() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &words[..] {
        ["operate"] => in_boxes(&["a", "b", "c"], Equipment::default(), |boxes, program| {
            let operated = operate::operate(boxes, program);
            if let Err(error) = &operated {
                say(&format!("not as it should be: {error:#}"));
            }
            Ok(operated.is_ok())
        }),
        ["client", identity, addresses @ ..] => {
            let addresses: Vec<String> = addresses.iter().map(|at| (*at).to_owned()).collect();
            client::run(Path::new(identity), &addresses)?;
            Ok(ExitCode::SUCCESS)
        }
        ["stores", options @ ..] => {
            let plan = stores::Plan::parse(options)?;
            let names = [&founding::BOXES[..], &[founding::OUTSIDE]].concat();
            in_boxes(&names, Equipment::default(), |boxes, _| {
                stores::run(boxes, &plan).map(|()| true)
            })
        }
        ["writer", identity, addresses @ ..] => {
            let addresses: Vec<String> = addresses.iter().map(|at| (*at).to_owned()).collect();
            stores::run_client(Path::new(identity), &addresses)?;
            Ok(ExitCode::SUCCESS)
        }
        options => {
            let plan = Plan::parse(options)?;
            let disk = Equipment { disk: Some(DISK) };
            // Nothing happens to the box that the clients are in.
            let names = [&founding::BOXES[..], &[founding::OUTSIDE]].concat();
            in_boxes(&names, disk, |boxes, _| rounds::run(boxes, &plan))
        }
    }
}

/// Makes boxes and does something with them, which says whether all was well.
fn in_boxes(
    names: &[&str],
    equipment: Equipment,
    act: impl FnOnce(&Boxes, &Path) -> Result<bool>,
) -> Result<ExitCode> {
    if let Some(missing) = missing(equipment) {
        say(&format!("SKIPPED: {missing}"));
        return Ok(CANNOT.into());
    }
    let program = program()?;
    let directory = std::env::temp_dir().join(format!("muster-boxes-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    // The boxes are taken down before their directory goes.
    let result = Boxes::make(names, &program, &directory, equipment).and_then(|boxes| {
        let result = act(&boxes, &program);
        if !matches!(result, Ok(true))
            && let Err(error) = boxes.keep_disks()
        {
            say(&format!("what is on the disks is not kept: {error:#}"));
        }
        result
    });
    if matches!(result, Ok(true)) {
        std::fs::remove_dir_all(&directory)?;
    } else {
        say(&format!(
            "what the boxes left is in {}",
            directory.display()
        ));
    }
    Ok(if result? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn say(text: &str) {
    // There is nobody left to tell that stdout is closed.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// The program that was built beside this one.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let beside = own.parent().map(|directory| directory.join("muster"));
    let found = beside.filter(|program| program.exists());
    let Some(found) = found else {
        bail!("there is no program muster beside this one: cargo build --release makes it");
    };
    found.canonicalize().context("the program has a path")
}
