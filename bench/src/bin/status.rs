//! How long the state of a large cluster takes: agents without processes, asked by one of them over TLS.
//!
//! `cargo run --release -p muster-bench --bin status -- 40 15`: boxes, and nodes of each.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use muster_agent::simulated::{SimulatedCluster, Size};
use muster_measure::cpu_seconds_of;

/// How often it is asked.
const ROUNDS: usize = 11;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [boxes, nodes] = &arguments[..] else {
        bail!("takes the number of boxes, and of the nodes of each");
    };
    let size = Size {
        boxes: boxes.parse().context("1 to 250 boxes")?,
        nodes: nodes.parse().context("a number of nodes")?,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let line = runtime.block_on(measure(size))?;
    println!("{line}");
    Ok(())
}

async fn measure(size: Size) -> Result<serde_json::Value> {
    let directory = tempfile::tempdir()?;
    let own = std::process::id();
    let [.., high, low] = own.to_be_bytes();
    let network = [127, 1 + high % 250, low];
    let cluster = SimulatedCluster::start(directory.path(), network, size).await?;
    let client = cluster.client();
    let (mut times, mut bytes) = (Vec::new(), 0);
    let before = cpu_seconds_of(own)?;
    for _ in 0..ROUNDS {
        let asked = Instant::now();
        let status = client.status().await?;
        times.push(asked.elapsed().as_secs_f64());
        let gone = status
            .boxes
            .iter()
            .filter(|known| known.agent != "up")
            .count();
        ensure!(gone == 0, "{gone} boxes have not answered in time");
        ensure!(status.all_ready(), "not every node is ready");
        bytes = serde_json::to_vec(&status)?.len();
    }
    times.sort_by(f64::total_cmp);
    #[allow(clippy::cast_precision_loss, reason = "a few rounds")]
    let cpu = (cpu_seconds_of(own)? - before) / ROUNDS as f64;
    Ok(serde_json::json!({
        "boxes": size.boxes,
        "nodes": size.nodes,
        "seconds": times[ROUNDS / 2],
        "slowest": times[ROUNDS - 1],
        "cpu_of_all_agents": cpu,
        "bytes": bytes,
    }))
}
