//! Reads between instances: the same paths that everybody asks, with a header that names who is asked. Who carries it is answered from
//! what is here and never sent on.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, StatusCode, request};
use serde_json::Value as Json;
use tokio::runtime::Handle;

use super::address;
use super::problem::Problem;
use crate::base::ids::Partition;
use crate::error::{self, Kind, codes};
use crate::limits::{PEER_ANSWER_MARGIN, PEER_CONNECT_WAIT};
use crate::runtime::service::{Reach, Read, ReadError};
use crate::runtime::{Peer, Peers};

/// The instance that is meant: it answers from what it has, and nobody else answers.
const INSTANCE: &str = "tidemill-instance";
/// Of a scan the partitions that are wanted, parted by commas.
const PARTITIONS: &str = "tidemill-partitions";

/// Asks other instances over HTTP.
#[derive(Debug)]
pub struct HttpPeers {
    client: reqwest::Client,
    runtime: Handle,
}

impl HttpPeers {
    /// Asks by a runtime, which must outlive the calls. Calls block: never from one of its async tasks.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(runtime: Handle) -> Result<Self, reqwest::Error> {
        // Instances of one application reach each other without a proxy.
        let client = reqwest::Client::builder().no_proxy().connect_timeout(PEER_CONNECT_WAIT).build()?;
        Ok(Self { client, runtime })
    }
}

impl Peers for HttpPeers {
    fn read(&self, peer: &Peer, read: &Read, wait: Duration) -> Result<Json, ReadError> {
        let unreachable = |why: String| ReadError::Unavailable {
            code: codes::OWNER_UNREACHABLE,
            detail: format!("instance `{}` at {} does not answer: {why}", peer.instance, peer.http),
        };
        let path = address::of_read(read).ok_or_else(|| ReadError::Invalid {
            code: codes::READ_INVALID,
            detail: "a name in it cannot stand in a URL, so that no other instance can be asked".to_owned(),
        })?;
        let sign = if path.contains('?') { '&' } else { '?' };
        let url = format!("http://{}{path}{sign}wait={}ms", peer.http, wait.as_millis());
        let mut request = self.client.get(url).timeout(wait + PEER_ANSWER_MARGIN).header(INSTANCE, &peer.instance);
        if let Reach::Here { partitions: Some(partitions), .. } = &read.reach {
            let numbers: Vec<String> = partitions.iter().map(Partition::to_string).collect();
            request = request.header(PARTITIONS, numbers.join(","));
        }
        let answered = self.runtime.block_on(async {
            let response = request.send().await?;
            let status = response.status();
            Ok((status, response.bytes().await?))
        });
        let (status, body) = answered.map_err(|error: reqwest::Error| unreachable(cause(&error)))?;
        let body: Json =
            serde_json::from_slice(&body).map_err(|_| unreachable("what answers there is not tidemill".to_owned()))?;
        if status.is_success() { Ok(body) } else { Err(refused(status, &body)) }
    }
}

/// What another instance said in place of an answer, as if it had been said here.
fn refused(status: StatusCode, body: &Json) -> ReadError {
    let code = body["code"].as_str().and_then(error::code).unwrap_or(codes::ANSWER_FAILED);
    let detail = body["detail"].as_str().unwrap_or("it says no more").to_owned();
    match status {
        StatusCode::NOT_FOUND => ReadError::NotFound { code, detail },
        StatusCode::BAD_REQUEST => ReadError::Invalid { code, detail },
        StatusCode::SERVICE_UNAVAILABLE => ReadError::Unavailable { code, detail },
        StatusCode::UNPROCESSABLE_ENTITY => ReadError::Failed { code, detail, kind: Kind::Record },
        _ => ReadError::Failed { code, detail, kind: Kind::Bug },
    }
}

/// The innermost cause: the outer ones repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// How far a request may go, by its headers.
pub(super) struct Asked(pub(super) Reach);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Problem> {
        reach(&parts.headers).map(Self)
    }
}

fn reach(headers: &HeaderMap) -> Result<Reach, Problem> {
    let text = |name: &str| match headers.get(name).map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(Problem::parameter(format!("`{name}` is not text"))),
    };
    let Some(instance) = text(INSTANCE)? else { return Ok(Reach::Anywhere) };
    let number = |text: &str| {
        let number = text.parse().ok().filter(|number| *number >= 0).map(Partition);
        number.ok_or_else(|| Problem::parameter(format!("`{PARTITIONS}: {text}`: it is a partition's number")))
    };
    let partitions = text(PARTITIONS)?.map(|list| list.split(',').map(number).collect()).transpose()?;
    Ok(Reach::Here { instance: instance.to_owned(), partitions })
}
