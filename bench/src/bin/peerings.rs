//! Peerings made one after another, each awaited, and subscriptions one by one: what grows with their number.
//!
//! `cargo run --release -p muster-bench --bin peerings`
//!
//! All endpoints are in one process, over loopback TCP; CPU is that of all of them.

use std::time::{Duration, Instant};

use anyhow::Result;
use muster::{Endpoint, EndpointConfig, Exposure, Forwarding};
use muster_measure::cpu_seconds;

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for count in [16, 64] {
            if wants("leaves") {
                peerings(Forwarding::Leaf, "leaves", count).await?;
            }
            if wants("relays") {
                peerings(Forwarding::Relay, "relays", count).await?;
            }
        }
        if wants("subscriptions") {
            for count in [100, 400, 1_600, 6_400] {
                subscriptions(count).await?;
            }
        }
        Ok(())
    })
}

fn start(forwarding: Forwarding) -> Result<Endpoint> {
    Ok(Endpoint::start(EndpointConfig {
        forwarding,
        ..EndpointConfig::default()
    })?)
}

async fn peerings(forwarding: Forwarding, name: &str, count: usize) -> Result<()> {
    let hub = start(Forwarding::Relay)?;
    let mut others = Vec::new();
    for _ in 0..count {
        let other = start(forwarding)?;
        let address = other.listen(([127, 0, 0, 1], 0).into(), Exposure::Guarded);
        let address = address.await?.to_string();
        others.push((other, address));
    }
    let (started, cpu) = (Instant::now(), cpu_seconds());
    for (_, address) in &others {
        hub.peer(address, Some(Duration::from_millis(50))).await?;
    }
    println!(
        "{count} {name}, one after another: {:.2} s, {:.2} s of CPU",
        started.elapsed().as_secs_f64(),
        cpu_seconds() - cpu
    );
    for (other, _) in others {
        other.shut_down().await;
    }
    hub.shut_down().await;
    Ok(())
}

async fn subscriptions(count: usize) -> Result<()> {
    let (hub, other) = (start(Forwarding::Relay)?, start(Forwarding::Leaf)?);
    let address = hub.listen(([127, 0, 0, 1], 0).into(), Exposure::Guarded);
    let address = address.await?.to_string();
    other
        .peer(&address, Some(Duration::from_millis(50)))
        .await?;
    let subscriber = other.subscribe(["zeek/first"]).await;
    let (started, cpu) = (Instant::now(), cpu_seconds());
    for number in 0..count {
        let prefix = format!("zeek/site-{}/kind-{number}", number % 97);
        subscriber.subscribe(prefix).await;
    }
    #[allow(clippy::cast_precision_loss, reason = "small")]
    let each = |seconds: f64| seconds * 1e6 / count as f64;
    println!(
        "{count} subscriptions, one by one: {:.0} us each, {:.0} us of CPU",
        each(started.elapsed().as_secs_f64()),
        each(cpu_seconds() - cpu)
    );
    Ok(())
}
