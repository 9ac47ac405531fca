//! `muster man`: manual pages of the commands.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Command, CommandFactory as _};

use crate::arguments;
use crate::commands::Execute;

/// Write a manual page for each command into a directory
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        let directory = &self.directory;
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let mut command = arguments::Arguments::command();
        command.build();
        pages(&command, "muster", directory)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the page of a command, and those of the commands below it.
fn pages(command: &Command, name: &str, directory: &Path) -> Result<()> {
    let named = command.clone().display_name(name.to_owned());
    let mut page = Vec::new();
    clap_mangen::Man::new(named).title(name).render(&mut page)?;
    let path = directory.join(format!("{name}.1"));
    std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    let shown = command.get_subcommands();
    for below in shown.filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        pages(below, &format!("{name}-{}", below.get_name()), directory)?;
    }
    Ok(())
}
