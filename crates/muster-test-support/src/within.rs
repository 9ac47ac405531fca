//! A limit of time for what a test waits for.

use std::time::Duration;

/// How long a test waits for something that happens at once on an idle machine: long enough for a busy one.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a future for [`PATIENCE`] at most.
///
/// # Panics
/// If it takes longer.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("what was waited for came in time")
}
