//! An agent with a small cluster of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::cluster::{layout, pid_of};
use super::{Running, muster_at, stderr, stdout};

/// A box with the standard directories below one of its own. When this test ends, however it does, its nodes are stopped.
pub(crate) struct AgentBox {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) program: PathBuf,
    guard: Child,
}

impl AgentBox {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// One with more in its layout.
    pub(crate) fn with(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let etc = directory.path().join("etc/muster");
        std::fs::create_dir_all(&etc).unwrap();
        layout(&etc);
        let layout = etc.join("muster.toml");
        let text = std::fs::read_to_string(&layout).unwrap();
        let text = text.replace("directory = \"state\"\n", "") + more;
        std::fs::write(&layout, text).unwrap();
        let program = directory.path().join("muster");
        std::fs::copy(env!("CARGO_BIN_EXE_muster"), &program).unwrap();
        // It waits for the end of this process, and sees to what is left.
        let guard = Command::new("sh")
            .args(["-c", "cat > /dev/null; \"$0\" agent stop > /dev/null 2>&1"])
            .arg(env!("CARGO_BIN_EXE_muster"))
            .env("MUSTER_ROOT", directory.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            directory,
            program,
            guard,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = muster_at(&self.program, self.root(), arguments);
        command.env("MUSTER_ROOT", self.root());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that has to succeed.
    pub(crate) fn done(&self, arguments: &[&str]) -> Output {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        output
    }

    pub(crate) fn start(&self) -> Running {
        let mut agent = Running::spawn(&mut self.command(&["agent"]));
        agent.wait_for("all nodes are ready");
        agent
    }

    pub(crate) fn status(&self) -> Value {
        let output = self.run(&["status", "--format", "json"]);
        serde_json::from_str(&stdout(&output)).unwrap()
    }

    pub(crate) fn node(&self, name: &str) -> Value {
        let status = self.status();
        let mut nodes = status["nodes"].as_array().unwrap().iter();
        nodes.find(|node| node["node"] == name).unwrap().clone()
    }

    pub(crate) fn pids(&self) -> Vec<u64> {
        let status = self.status();
        NODES.map(|name| pid_of(&status, name)).to_vec()
    }
}

pub(crate) const NODES: [&str; 4] = ["manager", "logger", "data-1", "worker-1"];

impl Drop for AgentBox {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// What the agent answers to `GET path`.
pub(crate) fn get(socket: &Path, path: &str, accept: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let text =
        format!("GET {path} HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    body.to_owned()
}
