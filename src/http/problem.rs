//! Errors as RFC 9457 has them: the one mapping from what went wrong to a status.

use axum::extract::rejection::PathRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::{self, Code, Kind, codes};
use crate::runtime::service::ReadError;

/// An error answer.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: Code,
    detail: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into() }
    }

    /// A parameter that cannot be read.
    pub(super) fn parameter(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, codes::REQUEST_PARAMETER, detail)
    }

    /// A body that is not events.
    pub(super) fn body(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, codes::REQUEST_BODY, detail)
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::parameter(format!("the path cannot be read: {}", rejection.body_text()))
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let (status, code, detail) = match error {
            ReadError::NotFound { code, detail } => (StatusCode::NOT_FOUND, code, detail),
            ReadError::Invalid { code, detail } => (StatusCode::BAD_REQUEST, code, detail),
            ReadError::Unavailable { code, detail } => (StatusCode::SERVICE_UNAVAILABLE, code, detail),
            ReadError::Failed { code, detail, kind } => (status(kind), code, detail),
        };
        Self { status, code, detail }
    }
}

fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Retry | Kind::Fenced => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Record => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Config | Kind::Corrupt | Kind::Bug => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An answer of this form.
pub(super) fn respond(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = (status, body.to_string()).into_response();
    let form = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, form);
    response
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(code = %self.code, detail = self.detail, "a request was not answered");
        }
        let body = serde_json::json!({
            "type": format!("urn:tidemill:error:{}", self.code),
            "title": error::title(self.code.0).unwrap_or("no page for this code"),
            "status": self.status.as_u16(),
            "code": self.code.0,
            "detail": self.detail,
        });
        let mut response = respond(self.status, &body);
        let headers = response.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
