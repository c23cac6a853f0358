//! Dead letters: which are open, what is in one, and settling them.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::app::App;
use super::params::Params;
use super::problem::Problem;
use super::produce::check_media_type;
use crate::limits::HTTP_WAIT_MAX_MS;
use crate::runtime::service::{LetterAction, LetterPlace, LetterQuery, Letters};

const WAIT: Duration = Duration::from_millis(HTTP_WAIT_MAX_MS);

pub(super) async fn topics(State(shared): App, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Params::parse(query.as_deref(), &[])?;
    Ok(Json(shared.call(move |service| service.dead_letter_topics(WAIT)).await?).into_response())
}

pub(super) async fn list(
    State(shared): App,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path(topic) = path?;
    let params = Params::parse(query.as_deref(), &["reason", "limit", "cursor"])?;
    let after = params.get("cursor").map(place).transpose()?;
    let query = LetterQuery { reason: params.get("reason").map(str::to_owned), after, limit: params.limit()? };
    Ok(Json(shared.call(move |service| service.dead_letters(&topic, &query, WAIT)).await?).into_response())
}

pub(super) async fn show(
    State(shared): App,
    path: Result<Path<(String, String)>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path((topic, letter)) = path?;
    Params::parse(query.as_deref(), &[])?;
    let letter = place(&letter)?;
    Ok(Json(shared.call(move |service| service.dead_letter(&topic, &letter, WAIT)).await?).into_response())
}

pub(super) async fn replay(
    app: App,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    settle(app, path, &headers, &body, LetterAction::Replay).await
}

pub(super) async fn drop_letters(
    app: App,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    settle(app, path, &headers, &body, LetterAction::Drop).await
}

async fn settle(
    State(shared): App,
    path: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    body: &[u8],
    action: LetterAction,
) -> Result<Response, Problem> {
    let Path(topic) = path?;
    check_media_type(headers)?;
    let letters = letters(body)?;
    Ok(Json(shared.call(move |service| service.settle_letters(&topic, &letters, action, WAIT)).await?).into_response())
}

/// `{"letters": ["0@17"]}`, or `{"all": true, "reason": "decode"}`.
fn letters(body: &[u8]) -> Result<Letters, Problem> {
    let wanted = "say which: `{\"letters\": [\"0@17\"]}`, or `{\"all\": true}`, with `reason` for those of one reason";
    let body: Value =
        serde_json::from_slice(body).map_err(|error| Problem::body(format!("not JSON: {error}; {wanted}")))?;
    let Value::Object(fields) = &body else { return Err(Problem::body(wanted)) };
    if let Some(unknown) = fields.keys().find(|name| !["letters", "all", "reason"].contains(&name.as_str())) {
        return Err(Problem::body(format!("unknown field `{unknown}`; {wanted}")));
    }
    match (fields.get("letters"), fields.get("all"), fields.get("reason")) {
        (Some(Value::Array(named)), None, None) if !named.is_empty() => {
            let places = named.iter().map(|name| place(name.as_str().unwrap_or_default()));
            Ok(Letters::Named(places.collect::<Result<_, _>>()?))
        }
        (None, Some(Value::Bool(true)), None) => Ok(Letters::All { reason: None }),
        (None, Some(Value::Bool(true)), Some(Value::String(reason))) => {
            Ok(Letters::All { reason: Some(reason.clone()) })
        }
        (_, _, _) => Err(Problem::body(wanted)),
    }
}

fn place(text: &str) -> Result<LetterPlace, Problem> {
    LetterPlace::parse(text)
        .ok_or_else(|| Problem::parameter(format!("`{text}` is no dead letter: it is `partition@offset`")))
}
