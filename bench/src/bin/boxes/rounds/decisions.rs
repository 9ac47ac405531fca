//! What the coordinators decide while a fault lasts, as somebody sees it who asks another box.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_bench::boxes::BoxOfOne;
use serde_json::Value;

use crate::client::now;

/// How often the other box is asked.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Somebody who asks again and again who is in.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Option<u64>>,
}

impl Watch {
    /// Watches from one box until all nodes of another one are out.
    pub(super) fn start(asked: &BoxOfOne, struck: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (asked, struck) = (asked.clone(), struck.to_owned());
        let is_over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let told = coordinators(&asked).ok();
                if told.is_some_and(|told| count(&told, &struck, "in") == 0) {
                    return Some(now());
                }
                std::thread::sleep(ASK_EVERY);
            }
            None
        });
        Self { stop, thread }
    }

    /// Ends it, and returns when all were out, if they were.
    pub(super) fn end(self) -> Option<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().flatten()
    }
}

/// What a box says of the coordinators.
pub(crate) fn coordinators(asked: &BoxOfOne) -> Result<Value> {
    let output = asked.run(&["coordinators", "--format", "json"])?;
    serde_json::from_slice(&output.stdout).with_context(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("what `muster coordinators` says is no JSON: {said}")
    })
}

/// The box that leads, if one does.
pub(crate) fn leader(told: &Value) -> Option<String> {
    told["leader"].as_str().map(str::to_owned)
}

/// How many nodes of a box are in a state.
pub(crate) fn count(told: &Value, of_box: &str, state: &str) -> usize {
    let members = told["members"].as_array().map(Vec::as_slice);
    let members = members.unwrap_or_default().iter();
    members
        .filter(|member| member["box"] == of_box && member["state"] == state)
        .count()
}
