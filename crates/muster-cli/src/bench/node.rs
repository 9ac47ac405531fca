//! What a cluster's node costs that has nothing to do.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use muster_measure::{IdleReport, Worker, cpu_seconds_of, free_ports, memory_bytes_of};
use serde_json::Value;

/// How long the node may take to be ready, and from one of its reports to the next.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures a manager without a cluster, which reports to this process four times a second, as every
/// node of `muster run` does to its agent.
pub(super) fn measure(seconds: f64) -> Result<IdleReport> {
    let directory = Directory::new()?;
    let port = free_ports(1)?[0];
    let layout = format!(
        "layout = 1\ndirectory = \"node\"\n\n[monitor]\nlisten = \"127.0.0.1:0\"\n\n\
         [[node]]\nname = \"manager\"\nrole = \"manager\"\nport = {port}\n"
    );
    let file = directory.0.join("muster.toml");
    std::fs::write(&file, layout)?;
    let socket = directory.0.join("node.sock");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["node", "manager", "--tied", "--layout"]);
    command.arg(&file).arg("--socket").arg(&socket);
    command.stderr(Stdio::null());
    let node = Worker::start("the idle node", &mut command)?;
    let mut reports = Reports::of(&socket)?;
    loop {
        let report: Value = serde_json::from_str(&reports.next()?)?;
        if report.get("state").and_then(Value::as_str) == Some("ready") {
            break;
        }
    }
    let (start, before) = (Instant::now(), cpu_seconds_of(node.id())?);
    // Whoever does not read its reports keeps it from its work.
    while start.elapsed().as_secs_f64() < seconds {
        reports.next()?;
    }
    let used = cpu_seconds_of(node.id())? - before;
    Ok(IdleReport {
        cpu_percent: used / start.elapsed().as_secs_f64() * 100.0,
        memory: memory_bytes_of(node.id()),
    })
}

/// What a node reports on its socket.
struct Reports(BufReader<UnixStream>);

impl Reports {
    fn of(socket: &Path) -> Result<Self> {
        let end = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(socket) {
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
                connected => break connected.context("the idle node does not listen")?,
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn next(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        if read.context("the idle node does not report")? == 0 {
            bail!("the idle node has ended");
        }
        Ok(line)
    }
}

/// A directory that is removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self> {
        let name = format!("muster-bench-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| failed(&path))?;
        Ok(Self(path))
    }
}

fn failed(path: &Path) -> String {
    format!("cannot make {}", path.display())
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
