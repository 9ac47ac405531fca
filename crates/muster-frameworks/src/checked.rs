//! Errors that only a mistake in a framework can cause.

use std::fmt::Display;

use muster_cluster::node::{Context, Severity};

/// Results of publishing and logging what the framework itself declared.
pub(crate) trait Checked {
    /// Tells the operator of an error.
    fn checked(self, cx: &mut Context<'_>);
}

impl<E: Display> Checked for Result<(), E> {
    fn checked(self, cx: &mut Context<'_>) {
        if let Err(error) = self {
            cx.report(Severity::Error, &error.to_string());
        }
    }
}
