//! What somebody who helps needs to see, in one file.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use muster_agent::{Event, LogLine};
use muster_gateway::status::ClusterStatus;

use crate::cluster::agent_client::Target;
use crate::cluster::events::next;

/// Keys of the layout whose values are nobody's business.
const SECRET: [&str; 3] = ["passphrase", "password", "secret"];

/// Writes the bundle for its owner alone: process logs tell what the traffic was.
pub(super) async fn write(
    path: &Path,
    target: &Target,
    status: &ClusterStatus,
    checks: &str,
) -> Result<()> {
    let mut files = vec![
        ("checks.txt", checks.as_bytes().to_vec()),
        ("status.json", serde_json::to_vec_pretty(status)?),
        ("layout.toml", layout(target)),
    ];
    let mut events = target.lines("events").await?;
    let mut text = Vec::new();
    while let Some(event) = next::<Event>(target, &mut events).await? {
        serde_json::to_writer(&mut text, &event)?;
        text.push(b'\n');
    }
    files.push(("events.jsonl", text));
    let mut lines = target.lines("logs").await?;
    let mut text = Vec::new();
    while let Some(line) = next::<LogLine>(target, &mut lines).await? {
        serde_json::to_writer(&mut text, &line)?;
        text.push(b'\n');
    }
    files.push(("logs.jsonl", text));
    let failed = || format!("cannot write {}", path.display());
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(failed)?;
    pack(file, files).with_context(failed)
}

fn pack(file: impl Write, files: Vec<(&str, Vec<u8>)>) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(zstd::Encoder::new(file, 0)?);
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        archive.append_data(
            &mut header,
            format!("muster-doctor/{name}"),
            bytes.as_slice(),
        )?;
    }
    archive.into_inner()?.finish()?.flush()
}

/// The layout's text without its secrets.
fn layout(target: &Target) -> Vec<u8> {
    if target.is_remote() {
        return b"# asked from another machine: it is on each box\n".to_vec();
    }
    let path = &target.layout_file;
    match std::fs::read_to_string(path) {
        Ok(text) => without_secrets(&text).into_bytes(),
        Err(error) => format!("# cannot be read: {error}\n").into_bytes(),
    }
}

fn without_secrets(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let lower = line.to_lowercase();
        if SECRET.iter().any(|word| lower.contains(word)) {
            "# a line that may hold a secret was left out"
        } else {
            line
        }
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_bundle_has_its_files_and_no_secrets() {
        let layout = "[tls]\nmode = \"mutual\"\nssl_passphrase = \"hunter2\"\n";
        let text = without_secrets(layout);
        assert!(
            text.contains("mutual") && !text.contains("hunter2"),
            "{text}"
        );
        let mut packed = Vec::new();
        pack(
            &mut packed,
            vec![("layout.toml", text.clone().into_bytes())],
        )
        .unwrap();
        let mut archive = tar::Archive::new(zstd::Decoder::new(packed.as_slice()).unwrap());
        let mut entries = archive.entries().unwrap();
        let mut entry = entries.next().unwrap().unwrap();
        assert_eq!(
            entry.path().unwrap().to_str(),
            Some("muster-doctor/layout.toml")
        );
        let mut read = String::new();
        entry.read_to_string(&mut read).unwrap();
        assert_eq!(read, text);
    }
}
