//! A time limit for what a test waits for.

use std::time::Duration;

/// How long a test waits for something that takes no time on an idle machine: long enough for a
/// busy one.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a future, for at most [`PATIENCE`].
///
/// # Panics
/// Panics if it takes longer.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("what was waited for came in time")
}
