//! Reads of state and topics: from a URL to a [`Read`].

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};

use super::app::{App, Shared};
use super::params::Params;
use super::peers::Asked;
use super::problem::Problem;
use crate::limits::HTTP_WAIT_DEFAULT_MS;
use crate::runtime::service::{At, Reach, Read, ReadKind, TopicPage};

/// How long the broker may take to answer about a topic.
const TOPIC_WAIT: Duration = Duration::from_millis(HTTP_WAIT_DEFAULT_MS);

type Names<T> = Result<Path<T>, PathRejection>;

pub(super) async fn key(
    State(shared): App,
    path: Names<(String, String)>,
    Asked(reach): Asked,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path((store, key)) = path?;
    let params = Params::of_read(query.as_deref(), &["from", "to"])?;
    let (from, to) = (params.time("from")?, params.time("to")?);
    if let (Some(from), Some(to)) = (from, to)
        && to < from
    {
        return Err(Problem::parameter("`to` is before `from`"));
    }
    answer(&shared, ReadKind::Key { store, key, from, to }, reach, &params).await
}

pub(super) async fn keys(
    State(shared): App,
    path: Names<String>,
    Asked(reach): Asked,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path(store) = path?;
    let params = Params::of_read(query.as_deref(), &["prefix", "limit", "cursor"])?;
    let prefix = params.get("prefix").unwrap_or_default().to_owned();
    let cursor = params.get("cursor").map(str::to_owned);
    let limit = params.limit()?;
    answer(&shared, ReadKind::Keys { store, prefix, limit, cursor }, reach, &params).await
}

pub(super) async fn entity(
    State(shared): App,
    path: Names<(String, String)>,
    Asked(reach): Asked,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path((entity, key)) = path?;
    let params = Params::of_read(query.as_deref(), &["as_of", "version"])?;
    let at = match (params.time("as_of")?, params.number("version", 1, i64::MAX)?) {
        (None, None) => At::Now,
        (Some(moment), None) => At::AsOf(moment),
        (None, Some(version)) => At::Version(version.unsigned_abs()),
        (Some(_), Some(_)) => return Err(Problem::parameter("`as_of` and `version` exclude each other")),
    };
    answer(&shared, ReadKind::Entity { entity, key, at }, reach, &params).await
}

pub(super) async fn history(
    State(shared): App,
    path: Names<(String, String)>,
    Asked(reach): Asked,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path((entity, key)) = path?;
    let params = Params::of_read(query.as_deref(), &["limit", "cursor"])?;
    let cursor = params.get("cursor").map(str::to_owned);
    let limit = params.limit()?;
    answer(&shared, ReadKind::History { entity, key, limit, cursor }, reach, &params).await
}

pub(super) async fn blame(
    State(shared): App,
    path: Names<(String, String)>,
    Asked(reach): Asked,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path((entity, key)) = path?;
    let params = Params::of_read(query.as_deref(), &[])?;
    answer(&shared, ReadKind::Blame { entity, key }, reach, &params).await
}

pub(super) async fn answer_to(
    State(shared): App,
    path: Names<(String, String, String)>,
    Asked(reach): Asked,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path((entity, key, id)) = path?;
    let params = Params::of_read(query.as_deref(), &[])?;
    answer(&shared, ReadKind::Answer { entity, key, id }, reach, &params).await
}

pub(super) async fn topic(
    State(shared): App,
    path: Names<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path(topic) = path?;
    Params::parse(query.as_deref(), &[])?;
    let answer = shared.call(move |service| service.topic(&topic, TOPIC_WAIT)).await?;
    Ok(Json(answer).into_response())
}

pub(super) async fn records(
    State(shared): App,
    path: Names<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path(topic) = path?;
    let params = Params::parse(query.as_deref(), &["partition", "offset", "limit"])?;
    let Some(partition) = params.number("partition", 0, i64::from(i32::MAX))? else {
        return Err(Problem::parameter("`partition` is missing"));
    };
    let offset = params.number("offset", 0, i64::MAX)?.unwrap_or(0);
    let page = TopicPage { topic, partition: partition as i32, offset, limit: params.limit()? };
    Ok(Json(shared.call(move |service| service.records(&page, TOPIC_WAIT)).await?).into_response())
}

async fn answer(shared: &Arc<Shared>, what: ReadKind, reach: Reach, params: &Params) -> Result<Response, Problem> {
    let (wait, wait_for) = params.wait()?;
    let read = Read { what, wait_for, reach, stale: params.stale()? };
    Ok(Json(shared.call(move |service| service.read(&read, wait)).await?).into_response())
}
