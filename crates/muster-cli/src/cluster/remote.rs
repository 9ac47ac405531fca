//! The agent of a box, asked from another machine: by whom, and what to say if it does not do what it is asked.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_agent::{
    Client, ClientError, Credential, CredentialError, OperatorIdentity, RefusalKind, SecretError,
    read_secret,
};

use super::agent_client::code_of;
use crate::arguments::{RemoteArguments, Server};
use crate::output::{Failure, NOT_RUNNING, REFUSED, USAGE};

/// The variable with an operator's token.
const TOKEN: &str = "MUSTER_TOKEN";

/// How long it is tried to reach one of several addresses.
const CONNECT: Duration = Duration::from_secs(2);

impl RemoteArguments {
    /// Who asks the agent of another machine, if one is named.
    pub(super) async fn client(&self) -> Result<Option<Client>> {
        let Some(server) = &self.server else {
            return Ok(None);
        };
        let credential = self.credential()?;
        let address = address(server).await?;
        match Client::remote(address, &credential).await {
            Ok(client) => Ok(Some(client)),
            Err(error) => Err(self.explain(&error, &server.to_string()).into()),
        }
    }

    fn credential(&self) -> Result<Credential> {
        if let Some(path) = &self.identity {
            let identity = OperatorIdentity::parse(&secret(path)?);
            let identity = identity.map_err(|error| {
                Failure::new(format!("{}: {error}", path.display()))
                    .hint("`muster operator add` writes one: key, certificate and authority")
            })?;
            return Ok(Credential::Identity(Box::new(identity)));
        }
        let token = match &self.token_file {
            Some(path) => String::from_utf8_lossy(&secret(path)?).into_owned(),
            None => std::env::var(TOKEN).unwrap_or_default(),
        };
        if token.trim().is_empty() {
            return Err(Failure::new("nothing says who asks")
                .hint(format!(
                    "give --identity FILE or --token-file FILE, or set {TOKEN}; `muster operator add` makes them"
                ))
                .code(USAGE)
                .into());
        }
        let authority = self.authority.as_deref();
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Credential::Token {
            token,
            authority: authority.map(read).transpose()?,
        })
    }

    fn explain(&self, error: &CredentialError, server: &str) -> Failure {
        match error {
            CredentialError::Client(error) => failure(error, server),
            CredentialError::Ended { .. } => Failure::new(error.to_string())
                .hint("an admin gives a new one: `muster operator add NAME --role ROLE --replace`")
                .code(REFUSED),
            CredentialError::OtherAuthority(_) => Failure::new(error.to_string())
                .hint("another machine may answer there, or the token may be of another cluster")
                .code(REFUSED),
            CredentialError::Authority(_) => {
                let path = self.authority.as_deref().unwrap_or(Path::new(""));
                Failure::new(format!("{}: {error}", path.display()))
            }
            error => Failure::new(error.to_string()),
        }
    }
}

/// What nobody else may read.
fn secret(path: &Path) -> Result<Vec<u8>> {
    read_secret(path).map_err(|error| match error {
        SecretError::Open(mode) => Failure::new(format!(
            "others can read {}: its mode is {mode:04o}",
            path.display()
        ))
        .hint(format!("chmod 600 {}", path.display()))
        .code(REFUSED)
        .into(),
        error => anyhow::Error::from(error).context(format!("cannot read {}", path.display())),
    })
}

/// The address of a name: of several the first at which somebody listens.
async fn address(server: &Server) -> Result<SocketAddr> {
    let found = tokio::net::lookup_host((server.host.as_str(), server.port)).await;
    let found = found.map_err(|error| {
        Failure::new(format!("cannot find {}: {error}", server.host)).code(NOT_RUNNING)
    })?;
    let found: Vec<SocketAddr> = found.collect();
    if found.len() > 1 {
        for address in &found {
            let connecting = tokio::net::TcpStream::connect(address);
            if let Ok(Ok(_)) = tokio::time::timeout(CONNECT, connecting).await {
                return Ok(*address);
            }
        }
    }
    let none = || Failure::new(format!("{} has no address", server.host)).code(NOT_RUNNING);
    Ok(found.first().copied().ok_or_else(none)?)
}

/// What to say of an agent of another machine that does not do what it is asked.
pub(super) fn failure(error: &ClientError, server: &str) -> Failure {
    match error {
        ClientError::NotRunning(_) | ClientError::TimedOut | ClientError::Unreachable { .. } => {
            Failure::new(format!("nobody answers at {server}: {error}"))
                .hint(
                    "an agent listens on port 17700 of the address that the layout has for its box",
                )
                .code(NOT_RUNNING)
        }
        ClientError::NotTrusted { .. } => Failure::new(error.to_string())
            .hint("another machine may answer there, or it may be of another cluster")
            .code(REFUSED),
        ClientError::Refused(refusal) => {
            let hint = match refusal.kind {
                RefusalKind::Forbidden => Some(
                    "an admin sees with `muster operator list` who may what, and changes it with `muster operator add`",
                ),
                RefusalKind::Unauthorized => Some(
                    "an admin gives a new one: `muster operator add NAME --role ROLE --token --replace`",
                ),
                _ => None,
            };
            Failure::new(error.to_string())
                .or_hint(hint.map(ToOwned::to_owned))
                .code(code_of(refusal.kind))
        }
        _ => Failure::new(format!("{server}: {error}")),
    }
}
