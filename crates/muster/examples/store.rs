//! A store: its primary on one endpoint, a clone on another, and a program that cannot tell them apart.
//!
//! `cargo run -p muster --example store`

#![allow(clippy::print_stdout, reason = "this is what the example is run for")]

use std::error::Error;
use std::time::Duration;

use muster::store::{
    CloneOptions, PrimaryOptions, Revision, Scope, Store, StoreName, Swapped, WatchEvent,
};
use muster::{Endpoint, EndpointConfig, Exposure};

/// Nothing here takes longer, so that the example ends in any case.
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tokio::time::timeout(LIMIT, run()).await?
}

async fn run() -> Result<(), Box<dyn Error>> {
    let name = StoreName::new("scans/attempts")?;

    // The primary orders all changes. Without a backend it keeps them in memory.
    let data = Endpoint::start(EndpointConfig::default())?;
    let address = data
        .listen("127.0.0.1:0".parse()?, Exposure::Guarded)
        .await?;
    let primary = data.open_primary(&name, PrimaryOptions::default()).await?;
    assert!(primary.is_primary());
    let primary: Store<String, u64> = primary.typed();

    // A clone, on an endpoint that knows nothing but an address.
    let worker = Endpoint::start(EndpointConfig::default())?;
    worker.dial(&address.to_string(), Some(Duration::from_millis(100)));
    let attempts = worker.open_clone(&name, CloneOptions::default()).await?;
    let attempts: Store<String, u64> = attempts.typed();

    // Keys and values travel with their own types, so the literals say theirs.
    //
    // A write returns when the primary has applied it, and this endpoint's copy has it then.
    attempts.put("192.0.2.1", &1u64).await?;
    assert_eq!(attempts.get("192.0.2.1").await?, Some(1));
    assert_eq!(primary.get("192.0.2.1").await?, Some(1));
    assert_eq!(attempts.increment("192.0.2.1", &4u64).await?, 5);

    // Of all that try, one gets `true`.
    assert!(attempts.put_unique("192.0.2.2", &1u64).await?);
    assert!(!primary.put_unique("192.0.2.2", &2u64).await?);

    // Compare and swap: only if nobody has changed the key since it was read.
    let seen = primary.entry("192.0.2.2").await?.ok_or("it was put")?;
    attempts.put("192.0.2.2", &7u64).await?;
    let swapped = primary
        .swap("192.0.2.2", seen.revision, Some(&8u64))
        .await?;
    assert_eq!(swapped, Swapped::Changed);
    let swapped = primary
        .swap("192.0.2.3", Revision::ABSENT, Some(&3u64))
        .await?;
    assert_eq!(swapped, Swapped::Done);

    // A value for a time, and a watch that sees it go.
    let mut changes = attempts.watch(Scope::key("192.0.2.9"));
    primary
        .put_for("192.0.2.9", &1u64, Duration::from_millis(50))
        .await?;
    loop {
        let change = changes.next().await?;
        println!("{change:?}");
        if matches!(change, WatchEvent::Expire { .. }) {
            break;
        }
    }

    let all = primary.snapshot().await?;
    println!("{all:?}");
    assert_eq!(all.into_values().collect::<Vec<_>>(), [5, 7, 3]);

    worker.shut_down().await;
    data.shut_down().await;
    Ok(())
}
