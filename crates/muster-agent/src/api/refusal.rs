//! Why something that an agent is asked is not done.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// Why something is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RefusalKind {
    /// There is no such node or path.
    Unknown,
    /// The state of things does not allow it.
    Conflict,
    /// Whoever asks may not.
    Forbidden,
    /// Whoever asks has to show a token.
    Unauthorized,
    /// The request is not understood.
    Malformed,
    /// The agent does not answer in time, or that of another box does not.
    Busy,
}

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[error("{error}")]
pub struct Refusal {
    /// Why, for programs.
    pub kind: RefusalKind,
    /// Why, in words.
    pub error: String,
}

impl Refusal {
    fn new(kind: RefusalKind, error: impl Into<String>) -> Self {
        Self {
            kind,
            error: error.into(),
        }
    }

    pub(crate) fn unknown(error: impl Into<String>) -> Self {
        Self::new(RefusalKind::Unknown, error)
    }

    pub(crate) fn busy(error: impl Into<String>) -> Self {
        Self::new(RefusalKind::Busy, error)
    }

    pub(crate) fn forbidden(error: impl Into<String>) -> Self {
        Self::new(RefusalKind::Forbidden, error)
    }

    pub(crate) fn unauthorized(error: impl Into<String>) -> Self {
        Self::new(RefusalKind::Unauthorized, error)
    }

    pub(crate) fn malformed(error: impl Into<String>) -> Self {
        Self::new(RefusalKind::Malformed, error)
    }

    pub(crate) fn conflict(error: impl Into<String>) -> Self {
        Self::new(RefusalKind::Conflict, error)
    }

    fn status(&self) -> StatusCode {
        match self.kind {
            RefusalKind::Unknown => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
            RefusalKind::Unauthorized => StatusCode::UNAUTHORIZED,
            RefusalKind::Malformed => StatusCode::BAD_REQUEST,
            RefusalKind::Busy => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(&self)).into_response();
        if self.kind == RefusalKind::Unauthorized {
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
