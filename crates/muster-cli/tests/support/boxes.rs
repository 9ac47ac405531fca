//! Several boxes on this machine.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::Value;

use super::{Running, muster, stderr, stdout};

/// The boxes of one test: addresses of the loopback network that no other test has.
pub(crate) struct Boxes {
    pub(crate) directory: tempfile::TempDir,
    network: String,
    guards: Vec<Child>,
}

pub(crate) const NODES: [(&str, &str, &str); 5] = [
    ("manager", "manager", "a"),
    ("logger-1", "logger", "a"),
    ("data-1", "data", "a"),
    ("data-2", "data", "b"),
    ("worker-1", "worker", "c"),
];

impl Boxes {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let process = std::process::id();
        let (high, low) = (1 + (process >> 8) % 250, process % 256);
        let last = NEXT.fetch_add(1, Ordering::Relaxed);
        let boxes = Self {
            directory: tempfile::tempdir().unwrap(),
            network: format!("127.{high}.{low}.{last}"),
            guards: Vec::new(),
        };
        std::fs::write(boxes.layout_file(), boxes.layout()).unwrap();
        boxes
    }

    pub(crate) fn address(&self, name: &str) -> String {
        format!(
            "{}{}",
            self.network,
            ["a", "b", "c"]
                .iter()
                .position(|known| *known == name)
                .unwrap()
        )
    }

    pub(crate) fn layout_file(&self) -> PathBuf {
        self.directory.path().join("three.toml")
    }

    pub(crate) fn layout(&self) -> String {
        let mut text = "[cluster]\nname = \"east\"\n".to_owned();
        for name in ["a", "b", "c"] {
            writeln!(text, "[box.{name}]\naddress = \"{}\"", self.address(name)).unwrap();
        }
        for (name, role, on) in NODES {
            let node = format!("name = \"{name}\"\nrole = \"{role}\"\nbox = \"{on}\"");
            writeln!(text, "[[node]]\n{node}").unwrap();
        }
        text
    }

    pub(crate) fn root(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = muster(self.directory.path(), arguments);
        command.env("MUSTER_ROOT", self.root(name));
        command
    }

    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> Output {
        self.command(name, arguments).output().unwrap()
    }

    pub(crate) fn done(&self, name: &str, arguments: &[&str]) -> Output {
        let output = self.run(name, arguments);
        assert!(
            output.status.success(),
            "{name} {arguments:?}: {}",
            stderr(&output)
        );
        output
    }

    /// What is said of a command that is refused.
    pub(crate) fn refused(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.run(name, arguments);
        let text = stderr(&output);
        assert_eq!(
            output.status.code(),
            Some(4),
            "{name} {arguments:?}: {text}"
        );
        text
    }

    /// Starts an agent. When this test ends, however it does, its nodes are stopped.
    pub(crate) fn agent(&mut self, name: &str) -> Running {
        let guard = Command::new("sh")
            .args(["-c", "cat > /dev/null; \"$0\" agent stop > /dev/null 2>&1"])
            .arg(env!("CARGO_BIN_EXE_muster"))
            .env("MUSTER_ROOT", self.root(name))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        self.guards.push(guard);
        let mut agent = Running::spawn(&mut self.command(name, &["agent"]));
        agent.wait_for("the agent runs the nodes of");
        agent
    }

    pub(crate) fn token(&self) -> String {
        stdout(&self.done("a", &["token", "create"]))
            .trim()
            .to_owned()
    }

    pub(crate) fn join(&self, name: &str) {
        let (token, own) = (self.token(), self.address(name));
        let at = self.address("a");
        self.done(
            name,
            &["join", "--box", name, "--address", &own, &token, &at],
        );
    }

    /// All three boxes as one cluster, their agents running.
    pub(crate) fn three(&mut self) -> Vec<Running> {
        self.done("a", &["init", "--box", "a", "three.toml"]);
        let mut agents = vec![self.agent("a")];
        for name in ["b", "c"] {
            self.join(name);
            agents.push(self.agent(name));
        }
        self.done("c", &["status", "--wait", "ready"]);
        agents
    }

    /// Asks the agent of box a over TLS, with a certificate of box b or without. `None` if the program openssl is not there.
    pub(crate) fn ask(&self, files: Option<&str>, request: &str, header: &str) -> Option<String> {
        let identity = self.root("b").join("var/lib/muster/identity");
        let address = format!("{}:17700", self.address("a"));
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-no_ign_eof", "-connect", &address]);
        if let Some(files) = files {
            command
                .arg("-cert")
                .arg(identity.join(format!("{files}.pem")));
            command
                .arg("-key")
                .arg(identity.join(format!("{files}.key")));
        }
        let mut client = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let text = format!("{request} HTTP/1.1\r\nhost: a\r\n{header}connection: close\r\n\r\n");
        std::io::Write::write_all(client.stdin.as_mut().unwrap(), text.as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(client.stdout.as_mut().unwrap(), &mut answer).unwrap();
        drop(client.stdin.take());
        client.wait().unwrap();
        Some(answer)
    }

    pub(crate) fn status(&self, name: &str) -> Value {
        serde_json::from_str(&stdout(&self.run(name, &["status", "--format", "json"]))).unwrap()
    }
}

impl Drop for Boxes {
    fn drop(&mut self) {
        for guard in &mut self.guards {
            drop(guard.stdin.take());
        }
        for guard in &mut self.guards {
            let _ = guard.wait();
        }
    }
}
