//! `POST /v1/topics/{topic}`: from a body to events. A body with one mistake writes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest as _, Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::app::App;
use super::params::Params;
use super::problem::Problem;
use crate::base::diag::suggestion;
use crate::base::time::DateTime;
use crate::error::codes;
use crate::limits::{HTTP_BODY_BYTES_MAX, HTTP_EVENTS_MAX, HTTP_WAIT_MAX_MS};
use crate::runtime::service::NewEvent;

const FIELDS: [&str; 5] = ["key", "type", "value", "timestamp", "headers"];

pub(super) async fn produce(
    State(shared): App,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let Path(topic) = path?;
    Params::parse(query.as_deref(), &[])?;
    check_media_type(request.headers())?;
    let events = events(&body(request).await?)?;
    let wait = Duration::from_millis(HTTP_WAIT_MAX_MS);
    let written = shared.call(move |service| service.produce(&topic, &events, wait)).await?;
    Ok(Json(serde_json::json!({ "records": written })).into_response())
}

/// Reads the body, up to the bound that the router sets; one that is announced as longer is not read at all.
pub(super) async fn body(request: Request) -> Result<Bytes, Problem> {
    let too_long = || too_large(format!("the body has more than {HTTP_BODY_BYTES_MAX} bytes"));
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| bytes > HTTP_BODY_BYTES_MAX) {
        return Err(too_long());
    }
    Bytes::from_request(request, &()).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_long(),
        _ => Problem::body(rejection.body_text()),
    })
}

/// A browser sends these types across sites only after asking, and is told no: no page can make it write here.
pub(super) fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if matches!(essence.as_str(), "application/json" | "application/x-ndjson" | "application/jsonl") {
        return Ok(());
    }
    let detail = format!("`Content-Type` is `{given}`: send `application/json` or `application/x-ndjson`");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, codes::MEDIA_TYPE, detail))
}

fn too_large(detail: String) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, codes::REQUEST_TOO_LARGE, detail)
}

/// Reads one object, one array of objects, or objects one after the other (NDJSON).
fn events(body: &[u8]) -> Result<Vec<NewEvent>, Problem> {
    let mut values = Vec::new();
    for value in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
        values.push(value.map_err(|error| Problem::body(format!("not JSON: {error}")))?);
        if values.len() > HTTP_EVENTS_MAX {
            return Err(too_large(format!("the body has more than {HTTP_EVENTS_MAX} events")));
        }
    }
    if let [Value::Array(_)] = values.as_slice()
        && let Some(Value::Array(items)) = values.pop()
    {
        values = items;
    }
    if values.is_empty() {
        return Err(Problem::body("the body has no events"));
    }
    if values.len() > HTTP_EVENTS_MAX {
        return Err(too_large(format!("the body has {} events, more than {HTTP_EVENTS_MAX}", values.len())));
    }
    let numbered = values.into_iter().enumerate();
    numbered
        .map(|(index, value)| event(value).map_err(|wrong| Problem::body(format!("event {}: {wrong}", index + 1))))
        .collect()
}

fn event(value: Value) -> Result<NewEvent, String> {
    let Value::Object(mut fields) = value else { return Err("it is not an object".to_owned()) };
    if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(format!("unknown field `{unknown}`: {}", suggestion(unknown, FIELDS)));
    }
    let value = fields.remove("value").ok_or("`value` is missing; write `null` for a tombstone")?;
    let timestamp = text(&mut fields, "timestamp")?.map(|text| DateTime::parse(&text)).transpose()?;
    Ok(NewEvent {
        key: text(&mut fields, "key")?,
        event_type: text(&mut fields, "type")?,
        value: if value.is_null() { None } else { Some(value) },
        timestamp,
        headers: headers(fields.remove("headers"))?,
    })
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("`{name}` is a string, not `{other}`")),
    }
}

fn headers(value: Option<Value>) -> Result<BTreeMap<String, String>, String> {
    match value {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(entries)) => entries
            .into_iter()
            .map(|(name, value)| match value.as_str() {
                Some(text) => Ok((name, text.to_owned())),
                None => Err(format!("header `{name}` is a string, not `{value}`")),
            })
            .collect(),
        Some(other) => Err(format!("`headers` is an object, not `{other}`")),
    }
}
