//! `muster bench-worker`: one process of a measurement.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use muster_measure::Engine;
use muster_measure::engine::{Muster, Tcp};

use crate::commands::Execute;

/// Run one process of `bench`
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What it does
    pub(crate) job: String,
}

impl Execute for Arguments {
    // Processes of a measurement end in no order: who is left dials for a moment.
    const LOG_LEVEL: &'static str = "error";

    fn execute(self) -> Result<ExitCode> {
        let engines: [&dyn Engine; 7] = [
            &Muster::new(),
            &Muster::new().over_tcp(),
            &Muster::new().with_busy_poll(),
            &Muster::new().over_tcp().with_busy_poll(),
            &Muster::on_one_thread(),
            &Muster::version_1(),
            &Tcp,
        ];
        muster_measure::work(&self.job, &engines)?;
        Ok(ExitCode::SUCCESS)
    }
}
