//! What is wrong with an account, in words.

use std::fmt;

use serde::Serialize;

/// Things that are told of one by one.
const MOST_TOLD: usize = 20;

/// The first things that are wrong, a line each.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Wrong(Vec<String>);

impl Wrong {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn tell(&mut self, text: impl FnOnce() -> String) {
        if self.0.len() < MOST_TOLD {
            self.0.push(text());
        }
    }
}

/// To follow a line.
impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|text| write!(f, "\n  {text}"))
    }
}
