//! The start of a mesh of any size, in one process: what it takes, and what is told in it.
//!
//! `cargo run --release -p muster-bench --bin mesh_start [LEAVES RELAYS [tcp]]`; without arguments four meshes of 64 to 1,500
//! endpoints, over pipes. A line of JSON for each.

use std::io::Write;

use anyhow::{Context, Result, bail};
use muster_measure::{Launcher, Layout, Protection, start};

/// What makes this program a process of the measurement.
const WORK: &str = "work";

/// Leaves and relays.
const LAYOUTS: [(u32, u32); 4] = [(48, 16), (128, 32), (512, 96), (1350, 150)];

/// The relays that each leaf is linked to.
const LINKS: u32 = 3;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().context("not a number of endpoints");
    let (layouts, tcp) = match arguments[..] {
        [] => (LAYOUTS.to_vec(), false),
        [WORK, job] => return muster_measure::work(job, &[]),
        [leaves, relays] => (vec![(number(leaves)?, number(relays)?)], false),
        [leaves, relays, "tcp"] => (vec![(number(leaves)?, number(relays)?)], true),
        _ => bail!("takes the numbers of leaves and relays, and perhaps `tcp`"),
    };
    let launcher = Launcher::new([WORK])?;
    let mut out = std::io::stdout();
    for (leaves, relays) in layouts {
        let links = LINKS.min(relays);
        let report = start(
            &launcher,
            Layout {
                leaves,
                relays,
                links,
                tcp,
                protection: Protection::Plain,
            },
        )?;
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    }
    Ok(())
}
