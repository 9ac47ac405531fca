//! `muster doctor`: what is wrong, or is going to be, and what to do about it.

mod bundle;
mod checks;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use self::checks::{Check, Verdict, checks};
use super::agent_client::Target;
use crate::arguments::{Format, LayoutOption};
use crate::commands::{Execute, on_runtime};
use crate::output::{print, say};

/// Check the whole cluster: what is wrong, or is going to be, and what to do about it
///
/// Exit codes: 0 nothing, 1 warnings, 2 failures, 3 no agent.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Also write what somebody who helps needs to see into a file (tar, zstd): status, checks, layout without secrets,
    /// events and process logs
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    layout: LayoutOption,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(self))
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    version: u32,
    checks: &'a [Check],
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    let target = Target::of(&arguments.layout).await?;
    let status = target.status().await?;
    let checks = checks(&status);
    let report = Report {
        version: muster_gateway::status::VERSION,
        checks: &checks,
    };
    let text = match arguments.format {
        Format::Text => text(&checks),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&report)?),
    };
    if let Some(path) = &arguments.bundle {
        bundle::write(path, &target, &status, &text).await?;
        say(&format!("wrote {}", path.display()));
    }
    print(&text)?;
    let worst = checks.iter().map(|check| check.verdict).max();
    Ok(match worst {
        None | Some(Verdict::Ok) => ExitCode::SUCCESS,
        Some(Verdict::Warning) => ExitCode::from(1),
        Some(Verdict::Failure) => ExitCode::from(2),
    })
}

/// The worst first; what to do stands below.
fn text(checks: &[Check]) -> String {
    let mut sorted: Vec<&Check> = checks.iter().collect();
    sorted.sort_by_key(|check| std::cmp::Reverse(check.verdict));
    let mut text = String::new();
    for check in sorted {
        // A string takes everything.
        let _ = writeln!(
            text,
            "{:<4} {:<13} {}",
            check.verdict.word(),
            check.what,
            check.text
        );
        if let Some(remedy) = &check.remedy {
            let _ = writeln!(text, "{:18} {remedy}", "");
        }
    }
    text
}
