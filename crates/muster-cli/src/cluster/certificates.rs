//! `muster tls`: makes and checks the certificates of a layout's nodes.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use muster::{Certificates, Endpoint, EndpointConfig, Tls};
use muster_agent::{Authority, Identity};
use openssl::asn1::Asn1Time;
use openssl::x509::X509;

use super::load;
use super::node::tls;
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, print, say};

/// Create and check certificates for the nodes of a layout
#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Create a certificate authority, and a certificate for every node that has none
    Init(Init),
    /// Show which certificate each node uses, whether it is valid, and when it expires
    Check(Check),
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Layout file
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    pub(crate) layout: PathBuf,
    /// Directory for the certificates, relative to the layout
    #[arg(long, default_value = "tls")]
    pub(crate) dir: PathBuf,
    /// Validity of the nodes' certificates in days
    #[arg(long, default_value_t = 365)]
    pub(crate) days: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Layout file
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    pub(crate) layout: PathBuf,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        match self {
            Self::Init(arguments) => init(&arguments),
            Self::Check(arguments) => on_runtime(async move { check(&arguments).await }),
        }
    }
}

/// Certificates that expire within so many days are named.
const SOON_DAYS: i32 = 30;

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

fn init(arguments: &Init) -> Result<ExitCode> {
    let loaded = load(&arguments.layout, &[])?;
    let directory = loaded.base.join(&arguments.dir);
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let authority = authority(&directory)?;
    let mut made = 0;
    for node in loaded.layout.nodes() {
        let (certificate, key) = files(&directory, node.name.as_str());
        if certificate.exists() {
            say(&format!("{} already exists", certificate.display()));
            continue;
        }
        let validity = DAY * arguments.days;
        let identity = authority.identify(node.name.as_str(), &[node.address], validity)?;
        write_identity(&certificate, &key, &identity)?;
        made += 1;
    }
    say(&format!(
        "created {made} certificates in {}",
        directory.display()
    ));
    let dir = arguments.dir.display();
    print(&format!(
        "[tls]\nmode = \"mutual\"\nssl_cafile = \"{dir}/ca.pem\"\nssl_certificate = \"{dir}/{{node}}.pem\"\nssl_keyfile = \"{dir}/{{node}}.key\"\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes an authority in a directory, and a certificate for this machine.
pub(crate) fn make_one(directory: &Path, name: &str) -> Result<()> {
    let authority = authority(directory)?;
    let identity = authority.identify(name, &[], DAY)?;
    let (certificate, key) = files(directory, name);
    write_identity(&certificate, &key, &identity)
}

fn files(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    // Names may hold dots: the extension is added, not replaced.
    (
        directory.join(format!("{name}.pem")),
        directory.join(format!("{name}.key")),
    )
}

/// The authority of a directory, made if there is none.
fn authority(directory: &Path) -> Result<Authority> {
    let (certificate, key) = files(directory, "ca");
    if certificate.exists() {
        return Ok(Authority::of_files(&certificate, &key)?);
    }
    let made = Authority::found("authority")?;
    write_identity(&certificate, &key, &made.identity()?)?;
    Ok(made)
}

fn write_identity(certificate: &Path, key: &Path, identity: &Identity) -> Result<()> {
    write_new(key, 0o600, &identity.key)?;
    write_new(certificate, 0o644, identity.certificate.as_bytes())
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Checks what each node would load, and when it expires.
async fn check(arguments: &Check) -> Result<ExitCode> {
    let loaded = load(&arguments.layout, &[])?;
    let mut text = String::new();
    let mut bad = 0;
    for node in loaded.layout.nodes() {
        let verdict = match tls(&loaded, node) {
            Tls::Mutual(certificates) => check_node(&certificates).await,
            other => Ok(format!("mode {}", other.name())),
        };
        bad += usize::from(verdict.is_err());
        let verdict = verdict.unwrap_or_else(|problem| format!("PROBLEM: {problem}"));
        let _ = writeln!(text, "{:<16} {verdict}", node.name);
    }
    print(&text)?;
    if bad > 0 {
        let hint =
            "`muster tls init` creates missing certificates; remove those that have expired first";
        return Err(Failure::new(format!("{bad} nodes have a problem"))
            .hint(hint)
            .into());
    }
    Ok(ExitCode::SUCCESS)
}

async fn check_node(certificates: &Certificates) -> Result<String, String> {
    // An endpoint that starts can use its files.
    let tls = Tls::Mutual(certificates.clone());
    let endpoint = Endpoint::start(EndpointConfig {
        tls,
        ..EndpointConfig::default()
    })
    .map_err(|error| error.to_string())?;
    endpoint.shut_down().await;
    let read = |path: &Path| {
        let pem = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        X509::stack_from_pem(&pem).map_err(|error| format!("{}: {error}", path.display()))
    };
    let chain = read(&certificates.certificate)?;
    let certificate = chain.first().ok_or("no certificate in the file")?;
    if let Some(cafile) = &certificates.cafile {
        let signed = |ca: &X509| {
            ca.public_key()
                .is_ok_and(|key| certificate.verify(&key).unwrap_or(false))
        };
        if chain.len() == 1 && !read(cafile)?.iter().any(signed) {
            return Err(format!("not signed by {}", cafile.display()));
        }
    }
    let now = Asn1Time::days_from_now(0).map_err(|error| error.to_string())?;
    let left = now
        .diff(certificate.not_after())
        .map_err(|error| error.to_string())?;
    let until = certificate.not_after();
    if left.days < 0 || left.secs < 0 {
        return Err(format!("expired on {until}"));
    }
    if left.days < SOON_DAYS {
        return Err(format!("expires in {} days, on {until}", left.days));
    }
    Ok(format!("valid for {} days, until {until}", left.days))
}
