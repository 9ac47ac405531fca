//! The results as tables.

use std::fmt::Write;

use muster_measure::{Chain, Protection, StartReport, Table, Throughput};

use super::{Results, RoundTrips, Stream};

pub(super) fn text(results: &Results) -> String {
    let mut text = format!(
        "{} processors, {} s for each measurement, over Unix sockets unless it says TCP; CPU is that of all processes together\n",
        results.processors, results.seconds
    );
    let rows: Vec<&Throughput> = results.throughput.iter().chain(&results.tls).collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&throughput(&rows));
    }
    if !results.versions.is_empty() {
        text.push_str(&versions(&results.versions));
    }
    if let Some(round_trips) = &results.latency {
        text.push_str(&latency(round_trips));
    }
    if let Some(measured) = &results.stream {
        text.push_str(&stream(measured));
    }
    if !results.chain.is_empty() {
        text.push_str(&chain(&results.chain));
    }
    if !results.start.is_empty() {
        text.push_str(&start(&results.start));
    }
    text.push_str(&idle(results));
    text
}

fn throughput(rows: &[&Throughput]) -> String {
    let mut table = Table::new(
        4,
        [
            "payload",
            "links",
            "over",
            "read",
            "deliveries/s",
            "MB/s",
            "CPU us each",
            "publisher's",
            "lost",
        ],
    );
    for row in rows {
        let tls = match row.traffic.protection {
            Protection::Plain => String::new(),
            protection => format!(", {}", protection.name()),
        };
        table.row([
            row.traffic.payload.name().to_owned(),
            format!("1:{}", row.traffic.links),
            if row.engine.contains("TCP") {
                "TCP"
            } else {
                "Unix"
            }
            .to_owned(),
            format!("{}{tls}", row.traffic.reading.name()),
            grouped(row.per_second),
            grouped(row.megabytes),
            format!("{:.2}", row.cpu_us),
            format!("{:.2}", row.publisher_cpu_us),
            row.lost.to_string(),
        ]);
    }
    table.text()
}

fn versions(rows: &[Throughput]) -> String {
    let mut table = Table::new(
        1,
        [
            "payload, 1:1",
            "deliveries/s",
            "by Broker's protocol",
            "CPU us each",
            "by Broker's protocol",
            "lost",
        ],
    );
    for pair in rows.chunks_exact(2) {
        let [mesh, broker] = pair else { continue };
        table.row([
            mesh.traffic.payload.name().to_owned(),
            grouped(mesh.per_second),
            grouped(broker.per_second),
            format!("{:.2}", mesh.cpu_us),
            format!("{:.2}", broker.cpu_us),
            (mesh.lost + broker.lost).to_string(),
        ]);
    }
    format!("\n{}", table.text())
}

fn latency(round_trips: &RoundTrips) -> String {
    let mut table = Table::new(
        1,
        [
            "round trip, us",
            "p50",
            "p99",
            "p99.9",
            "max",
            "CPU us each",
            "sent late, p99",
            "unanswered",
        ],
    );
    let bare = &round_trips.tcp;
    for (name, measured) in [
        ("bare blocking echo over TCP", bare),
        ("muster", &round_trips.muster),
        ("muster over TCP", &round_trips.muster_over_tcp),
        ("muster, busy poll", &round_trips.muster_busy_poll),
        (
            "muster over TCP, busy poll",
            &round_trips.muster_over_tcp_busy_poll,
        ),
        ("muster, one thread", &round_trips.muster_on_one_thread),
        ("muster, version 1", &round_trips.muster_version_1),
    ] {
        let report = &measured.report;
        let beside = |time: f64, bare: f64| format!("{time:.1} ({:.2})", time / bare);
        table.row([
            name.to_owned(),
            beside(report.p50, bare.report.p50),
            beside(report.p99, bare.report.p99),
            beside(report.p999, bare.report.p999),
            format!("{:.0}", report.max),
            format!("{:.1}", measured.cpu_us),
            format!("{:.1}", report.late_p99),
            report.unanswered.to_string(),
        ]);
    }
    format!(
        "\n10,000 messages a second; in brackets: times the bare echo\n{}",
        table.text()
    )
}

fn stream(measured: &Stream) -> String {
    let mut table = Table::new(1, ["1 MiB, 1:1", "MB/s", "of the stream", "CPU us each"]);
    let tcp = &measured.tcp;
    for (name, row) in [
        ("plain TCP stream", tcp),
        ("muster", &measured.muster),
        ("muster over TCP", &measured.muster_over_tcp),
        ("muster, encoded once", &measured.muster_encoded_once),
        (
            "muster over TCP, encoded once",
            &measured.muster_over_tcp_encoded_once,
        ),
    ] {
        table.row([
            name.to_owned(),
            grouped(row.megabytes),
            format!("{:.0} %", row.per_second / tcp.per_second * 100.0),
            format!("{:.0}", row.cpu_us),
        ]);
    }
    format!("\n{}", table.text())
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn chain(rows: &[Chain]) -> String {
    let mut table = Table::new(
        3,
        [
            "payload",
            "relays",
            "publisher",
            "deliveries/s",
            "of the direct link",
            "CPU us each",
            "relays'",
            "lost",
        ],
    );
    for row in rows {
        let is_beside = |other: &&Chain| {
            other.payload == row.payload && other.paced == row.paced && other.relays == 0
        };
        let direct = rows
            .iter()
            .find(is_beside)
            .map_or(0.0, |row| row.per_second);
        table.row([
            row.payload.name().to_owned(),
            row.relays.to_string(),
            if row.paced { "paced" } else { "unpaced" }.to_owned(),
            grouped(row.per_second),
            format!("{:.0} %", row.per_second / direct * 100.0),
            format!("{:.2}", row.cpu_us),
            format!("{:.2}", row.relays_cpu_us),
            format!("{:.0} %", row.lost as f64 / row.published as f64 * 100.0),
        ]);
    }
    format!(
        "\nThrough relays, each a process; a paced publisher keeps to what the subscriber has seen, as a relay \
         does not wait\n{}",
        table.text()
    )
}

fn start(rows: &[StartReport]) -> String {
    let mut table = Table::new(
        2,
        [
            "until all know all",
            "links",
            "seconds",
            "CPU seconds",
            "memory",
            "unreachable",
            "peerings lost",
        ],
    );
    for row in rows {
        let layout = row.layout;
        let whole = |seconds| format!("{seconds:.2}");
        table.row([
            format!("{} leaves, {} relays", layout.leaves, layout.relays),
            match (layout.tcp, layout.protection) {
                (true, Protection::Plain) => "TCP".to_owned(),
                (true, protection) => format!("TCP, {}", protection.name()),
                (false, Protection::Plain) => "in one process".to_owned(),
                (false, protection) => format!("in one process, {}", protection.name()),
            },
            row.seconds.map_or_else(|| "never".to_owned(), whole),
            format!("{:.2}", row.cpu),
            memory(row.memory),
            row.unreachable.to_string(),
            row.lost.to_string(),
        ]);
    }
    format!("\n{}", table.text())
}

fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(
        || "unknown".to_owned(),
        |bytes| format!("{:.1} MiB", mebibytes(bytes)),
    )
}

fn idle(results: &Results) -> String {
    let mut table = Table::new(1, ["idle", "CPU", "memory"]);
    let mut row = |name: String, cpu: f64, bytes: Option<u64>| {
        table.row([name, format!("{cpu:.3} %"), memory(bytes)]);
    };
    for measured in &results.idle {
        let name = match measured.peers {
            0 => "endpoint".to_owned(),
            peers => format!("endpoint with {peers} peers"),
        };
        row(name, measured.report.cpu_percent, measured.report.memory);
    }
    let Some(node) = &results.idle_node else {
        return String::new();
    };
    row("node".to_owned(), node.cpu_percent, node.memory);
    format!("\n{}", table.text())
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A number without fraction, its digits in threes.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position) % 3 == 0 {
            text.push(',');
        }
        let _ = write!(text, "{digit}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_threes() {
        assert_eq!(grouped(0.4), "0");
        assert_eq!(grouped(999.6), "1,000");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
    }
}
