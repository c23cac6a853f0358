//! `POST /v1/entities/{entity}/keys/{key}/commands/{Type}`: a command in, the entity's answer out: 200 with the new version and events,
//! 409 refused, 412 made for another version.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::app::App;
use super::params::Params;
use super::problem::{Problem, respond};
use super::produce::{body, check_media_type};
use crate::error::{self, Code, codes};
use crate::limits::COMMAND_ID_BYTES_MAX;
use crate::runtime::service::NewCommand;

pub(super) async fn command(
    State(shared): App,
    path: Result<Path<(String, String, String)>, PathRejection>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let Path((entity, key, command)) = path?;
    let (wait, _) = Params::parse(query.as_deref(), &["wait"])?.wait()?;
    check_media_type(request.headers())?;
    let id = id(request.headers())?;
    let expected_version = expected_version(request.headers())?;
    let headers = lineage(request.headers());
    let value = fields(&body(request).await?)?;
    let command = NewCommand { entity, key, command, value, id, expected_version, headers };
    let answer = shared.call(move |service| service.command(&command, wait)).await?;
    Ok(shown(&answer))
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Problem::parameter(format!("`{name}` is not text")))?;
    Ok(Some(text.trim()))
}

/// The id that the client gives, or a new one.
fn id(headers: &HeaderMap) -> Result<String, Problem> {
    match text(headers, "command-id")? {
        Some("") => Err(Problem::parameter("`Command-Id` is empty")),
        Some(id) if id.len() > COMMAND_ID_BYTES_MAX => {
            Err(Problem::parameter(format!("`Command-Id` has more than {COMMAND_ID_BYTES_MAX} bytes")))
        }
        Some(id) => Ok(id.to_owned()),
        None => Ok(uuid::Uuid::new_v4().to_string()),
    }
}

/// `If-Match: 3` or `If-Match: "3"`; `If-None-Match: *` where there must be none yet.
fn expected_version(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    match (text(headers, "if-match")?, text(headers, "if-none-match")?) {
        (Some(said), None) => {
            let number = said.strip_prefix('"').and_then(|said| said.strip_suffix('"')).unwrap_or(said);
            let wrong = || Problem::parameter(format!("`If-Match: {said}`: it is a version, a whole number from 0 on"));
            number.parse().map(Some).map_err(|_| wrong())
        }
        (None, Some("*")) => Ok(Some(0)),
        (None, Some(_)) => Err(Problem::parameter("`If-None-Match` takes `*`: there is no version yet")),
        (Some(_), Some(_)) => Err(Problem::parameter("`If-Match` and `If-None-Match` exclude each other")),
        (None, None) => Ok(None),
    }
}

/// A chain that goes on, in the headers of CloudEvents' HTTP binding.
fn lineage(headers: &HeaderMap) -> BTreeMap<String, String> {
    let carried = [("ce-correlationid", "ce_correlationid"), ("ce-causationid", "ce_causationid")];
    let found = carried.into_iter().filter_map(|(name, kept)| {
        let value = headers.get(name)?.to_str().ok()?;
        Some((kept.to_owned(), value.to_owned()))
    });
    found.collect()
}

/// The command's fields: an object.
fn fields(body: &[u8]) -> Result<Value, Problem> {
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(other) => Err(Problem::body(format!("a command is an object of its fields, not `{other}`"))),
        Err(error) => Err(Problem::body(format!("not JSON: {error}"))),
    }
}

fn shown(answer: &Value) -> Response {
    let version = answer["version"].to_string();
    let mut response = match answer["outcome"].as_str() {
        Some("refused") => {
            let message = answer["message"].as_str().map(str::to_owned);
            let detail =
                message.unwrap_or_else(|| format!("`{}` was refused", answer["command"].as_str().unwrap_or("")));
            not_decided(StatusCode::CONFLICT, codes::COMMAND_REFUSED, &answer["code"], &detail, answer)
        }
        Some("wrong_version") => {
            let code = codes::WRONG_VERSION;
            let detail = format!("the entity has version {version}, not {}", answer["expected_version"]);
            not_decided(StatusCode::PRECONDITION_FAILED, code, &json!(code.0), &detail, answer)
        }
        _ => Json(answer).into_response(),
    };
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// A problem that has the answer's own words, too.
fn not_decided(status: StatusCode, page: Code, code: &Value, detail: &str, answer: &Value) -> Response {
    let body = json!({
        "type": format!("urn:tidemill:error:{page}"),
        "title": error::title(page.0).unwrap_or("no page for this code"),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
        "command_id": answer["command_id"],
        "entity": answer["entity"],
        "key": answer["key"],
        "version": answer["version"],
    });
    respond(status, &body)
}
