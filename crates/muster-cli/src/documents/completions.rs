//! `muster completions`: what completes the commands in a shell.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::arguments;
use crate::commands::Execute;
use crate::output::print;

/// Print what completes the commands in a shell
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        let mut text = Vec::new();
        let mut command = arguments::Arguments::command();
        clap_complete::generate(self.shell, &mut command, "muster", &mut text);
        print(&String::from_utf8(text)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
