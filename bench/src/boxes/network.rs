//! What becomes of what a box sends and is sent.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What a box's network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// It carries everything.
    Whole,
    /// Nothing comes in, and nothing goes out.
    Cut,
    /// Nothing goes out.
    Dumb,
    /// Nothing comes in.
    Deaf,
    /// Nothing comes from this address or goes there.
    CutFrom(Ipv4Addr),
    /// All connections are reset, and none can be made.
    Reset,
    /// So many of a hundred packets are lost, each way.
    Lossy(u8),
}

impl Network {
    /// The rules for what comes in and for what goes out.
    fn rules(self) -> [String; 2] {
        let none = String::new;
        match self {
            Self::Whole => [none(), none()],
            Self::Cut => [
                "iifname eth0 drop".to_owned(),
                "oifname eth0 drop".to_owned(),
            ],
            Self::Dumb => [none(), "oifname eth0 drop".to_owned()],
            Self::Deaf => ["iifname eth0 drop".to_owned(), none()],
            Self::CutFrom(other) => [
                format!("ip saddr {other} drop"),
                format!("ip daddr {other} drop"),
            ],
            // The resets themselves have to get out.
            Self::Reset => [
                "iifname eth0 meta l4proto tcp reject with tcp reset".to_owned(),
                "oifname eth0 tcp flags & rst == 0 reject with tcp reset".to_owned(),
            ],
            Self::Lossy(percent) => [
                format!("iifname eth0 numgen random mod 100 < {percent} drop"),
                format!("oifname eth0 numgen random mod 100 < {percent} drop"),
            ],
        }
    }
}

/// Replaces the rules of a namespace.
pub(super) fn set(space: &str, network: Network) -> Result<()> {
    use std::io::Write;
    let [input, output] = network.rules();
    let text = format!(
        "table inet muster\ndelete table inet muster\ntable inet muster {{\n\
         chain input {{\ntype filter hook input priority 0\n{input}\n}}\n\
         chain output {{\ntype filter hook output priority 0\n{output}\n}}\n}}\n"
    );
    let mut nft = Command::new("ip")
        .args(["netns", "exec", space, "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start ip")?;
    nft.stdin
        .take()
        .context("its stdin is piped")?
        .write_all(text.as_bytes())?;
    let output = nft.wait_with_output()?;
    if !output.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
