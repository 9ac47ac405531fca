//! What Prometheus asks: the metrics of the box, and where those of the others are.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use muster_gateway::shows_token;
use serde::Serialize;

use super::asker::Asker;
use super::{Agent, Refusal, Role};
use crate::desk::agent_at;
use crate::metrics::BoxMetrics;
use crate::secret::{SecretError, read_secret};

/// The shortest token, in bytes.
const SHORTEST_TOKEN: usize = 16;

/// The longest token, in bytes.
const LONGEST_TOKEN: usize = 1024;

/// The token by which metrics may be read over the network. It is read at each request that shows one, so that it can be
/// changed while the agent runs.
#[derive(Debug)]
pub(super) struct MetricsToken {
    path: PathBuf,
    /// Why it cannot be used, as it was told last.
    told: Mutex<Option<String>>,
}

impl MetricsToken {
    pub(super) fn at(path: PathBuf) -> Self {
        Self {
            path,
            told: Mutex::default(),
        }
    }

    /// Whether a request shows it.
    fn is_shown(&self, headers: &HeaderMap) -> bool {
        if !headers.contains_key(header::AUTHORIZATION) {
            return false;
        }
        let (token, problem) = match self.read() {
            Ok(token) => (token, None),
            Err(problem) => (None, Some(problem)),
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(problem), true) = (&problem, *told != problem) {
            let path = self.path.display();
            tracing::error!("nobody can read metrics with the token in {path}: {problem}");
        }
        *told = problem;
        token.is_some_and(|token| shows_token(&token, headers))
    }

    /// The token. `None` if there is none.
    fn read(&self) -> Result<Option<String>, String> {
        let secret = match read_secret(&self.path) {
            Ok(secret) => secret,
            Err(SecretError::System(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error.to_string()),
        };
        let text = String::from_utf8(secret).map_err(|error| error.to_string())?;
        let token = text.trim();
        if !(SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&token.len()) {
            return Err(format!(
                "a token has {SHORTEST_TOKEN} to {LONGEST_TOKEN} characters"
            ));
        }
        Ok(Some(token.to_owned()))
    }
}

impl Agent {
    /// Lets viewers read metrics, and whoever shows the token.
    fn let_read(&self, asker: &Asker, headers: &HeaderMap) -> Result<(), Refusal> {
        let shows = |token: &MetricsToken| token.is_shown(headers);
        if asker.need(Role::Viewer).is_ok() || self.metrics_token.as_deref().is_some_and(shows) {
            return Ok(());
        }
        Err(Refusal::unauthorized(
            "a box's certificate or a token is needed: Authorization: Bearer TOKEN",
        ))
    }
}

pub(super) async fn metrics(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    agent.let_read(&asker, &headers)?;
    let status = *agent.status().await?;
    let metrics = BoxMetrics::look(
        &agent.places,
        agent.boxes.as_deref(),
        agent.archive.as_deref(),
        status,
    )
    .await;
    Ok(metrics.metrics().answer(&headers))
}

/// Targets that have labels in common, as Prometheus's `http_sd_configs` reads them.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct TargetGroup {
    targets: Vec<String>,
    labels: BTreeMap<&'static str, String>,
}

pub(super) async fn targets(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
) -> Result<Json<Vec<TargetGroup>>, Refusal> {
    agent.let_read(&asker, &headers)?;
    // Whoever is alone listens nowhere that Prometheus reaches.
    let groups = agent.boxes.as_ref().map(|boxes| {
        let config = boxes.config();
        let of_box = |(name, address): (&String, &std::net::IpAddr)| TargetGroup {
            targets: vec![agent_at(*address).to_string()],
            labels: BTreeMap::from([
                ("cluster", config.file.cluster.clone()),
                ("box", name.clone()),
            ]),
        };
        config.boxes.iter().map(of_box).collect()
    });
    Ok(Json(groups.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        let value = authorization.parse().unwrap();
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    #[test]
    fn a_token_is_read_at_each_request_and_only_from_a_file_that_is_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.token");
        let token = MetricsToken::at(path.clone());
        let right = headers("Bearer 0123456789abcdef");
        assert!(!token.is_shown(&right) && token.told.lock().unwrap().is_none());
        write(&path, "0123456789abcdef\n").unwrap();
        for (mode, is_good) in [
            (0o600, true),
            (0o640, true),
            (0o400, true),
            (0o644, false),
            (0o660, false),
            (0o602, false),
        ] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(token.is_shown(&right), is_good, "{mode:o}");
            assert_eq!(token.told.lock().unwrap().is_some(), !is_good, "{mode:o}");
        }
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(token.is_shown(&headers("bearer 0123456789abcdef")));
        for wrong in [
            "Bearer 0123456789abcdeg",
            "Bearer 0123456789abcde",
            "Bearer ",
            "Basic 0123456789abcdef",
        ] {
            assert!(!token.is_shown(&headers(wrong)), "{wrong}");
        }
        assert!(!token.is_shown(&HeaderMap::new()));
        for (text, shown) in [("", ""), ("short", "short"), ("\u{fc}\n", "\u{fc}")] {
            write(&path, text).unwrap();
            assert!(
                !token.is_shown(&headers(&format!("Bearer {shown}"))),
                "{text}"
            );
            assert!(token.told.lock().unwrap().is_some(), "{text}");
        }
        let long = "a".repeat(LONGEST_TOKEN + 1);
        write(&path, &long).unwrap();
        assert!(!token.is_shown(&headers(&format!("Bearer {long}"))));
    }
}
