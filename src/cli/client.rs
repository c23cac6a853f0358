//! Talks to a running daemon over HTTP, and turns its problems into exit codes.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{Exit, Failure};
use crate::config::Secret;
use crate::http::address;

/// Longer than any wait that the daemon grants.
const ANSWER_WAIT: Duration = Duration::from_secs(40);
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// One listener of a daemon.
#[derive(Debug)]
pub(crate) struct Client {
    base: String,
    /// What to start or say when nothing answers.
    help: String,
    http: reqwest::Client,
    runtime: Runtime,
}

impl Client {
    /// For the listener for reads.
    pub(crate) fn reads(url: &str) -> Result<Self, Failure> {
        Self::new(url, "start a daemon (`tidemill dev TOPOLOGY`), or say where it listens with `--url`")
    }

    /// For the listener for writes.
    pub(crate) fn writes(url: &str) -> Result<Self, Failure> {
        Self::new(url, "start a daemon (`tidemill dev TOPOLOGY`), or say where it takes writes with `--admin-url`")
    }

    fn new(url: &str, help: &str) -> Result<Self, Failure> {
        let broken =
            |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("`{url}` is not a URL: {error}"));
        let parsed = reqwest::Url::parse(url).map_err(|error| broken(&error))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(broken(&"it begins with `http://` or `https://`"));
        }
        // A daemon on this machine or in this network is not reached through a proxy.
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_WAIT).connect_timeout(CONNECT_WAIT).build();
        let http = http.map_err(|error| Failure::from_error(Exit::Bug, &error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::from_error(Exit::Io, &error))?;
        Ok(Self { base: url.trim_end_matches('/').to_owned(), help: help.to_owned(), http, runtime })
    }

    /// Reads `/v1/…`.
    pub(crate) fn get(&self, segments: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        let url = self.address(segments, query)?;
        self.answer(self.http.get(url))
    }

    /// Writes lines of JSON to `/v1/…`.
    pub(crate) fn post_lines(
        &self,
        segments: &[&str],
        lines: String,
        token: Option<&Secret>,
    ) -> Result<Value, Failure> {
        let mut request =
            self.http.post(self.address(segments, &[])?).header("content-type", "application/x-ndjson").body(lines);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        self.answer(request)
    }

    /// Asks `/v1/…` for something to be done.
    pub(crate) fn post(
        &self,
        segments: &[&str],
        query: &[(&str, String)],
        body: &Value,
        token: Option<&Secret>,
    ) -> Result<Value, Failure> {
        let url = self.address(segments, query)?;
        let mut request = self.http.post(url).header("content-type", "application/json").body(body.to_string());
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        self.answer(request)
    }

    /// Waits for something beside the daemon: a signal, a moment.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn address(&self, segments: &[&str], query: &[(&str, String)]) -> Result<String, Failure> {
        let path = address::path(segments, query);
        let path =
            path.ok_or_else(|| Failure::new(Exit::Usage, format!("`{}` cannot stand in a URL", segments.join("/"))));
        Ok(format!("{}{}", self.base, path?))
    }

    fn answer(&self, request: RequestBuilder) -> Result<Value, Failure> {
        let (status, body) = self
            .runtime
            .block_on(async {
                let response = request.send().await?;
                let status = response.status();
                Ok((status, response.bytes().await?))
            })
            .map_err(|error: reqwest::Error| self.unanswered(&error))?;
        let body: Value = serde_json::from_slice(&body).map_err(|_| {
            Failure::unreachable(format!("what answers at {} is not tidemill", self.base)).help(&*self.help)
        })?;
        if status.is_success() { Ok(body) } else { Err(problem(status, &body)) }
    }

    fn unanswered(&self, error: &reqwest::Error) -> Failure {
        let message = if error.is_timeout() {
            format!("{} does not answer in time", self.base)
        } else if error.is_connect() {
            format!("nothing answers at {}", self.base)
        } else {
            Failure::from_error(Exit::Unavailable, error).message
        };
        Failure::unreachable(message).help(&*self.help)
    }
}

/// Makes a failure of an RFC 9457 answer.
fn problem(status: StatusCode, body: &Value) -> Failure {
    let exit = match status.as_u16() {
        400 | 401 | 403 | 405 | 413 | 415 => Exit::Usage,
        404 | 409 | 412 | 422 => Exit::Findings,
        503 => Exit::Unavailable,
        _ => Exit::Bug,
    };
    let detail = body["detail"].as_str().map_or_else(|| format!("the daemon answered {status}"), str::to_owned);
    let mut failure = Failure::new(exit, detail);
    let code = body["code"].as_str().unwrap_or_default();
    failure.code = crate::error::codes::PAGES.iter().map(|(known, _)| *known).find(|known| known.0 == code);
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_characters_stand_in_one_segment() {
        let client = Client::reads("http://127.0.0.1:7400/").unwrap();
        let query = [("as_of", "2013-01-01T00:00:00+01:00".to_owned()), ("limit", "5".to_owned())];
        assert_eq!(
            client.address(&["stores", "s", "keys", "a/b%c é"], &query).unwrap(),
            "http://127.0.0.1:7400/v1/stores/s/keys/a%2Fb%25c%20%C3%A9?as_of=2013-01-01T00%3A00%3A00%2B01%3A00&limit=5"
        );
        assert_eq!(client.address(&["stores", ".."], &[]).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_url_of_another_kind_is_a_mistake_of_usage() {
        assert_eq!(Client::reads("127.0.0.1:7400").unwrap_err().exit, Exit::Usage);
        assert_eq!(Client::reads("ftp://x").unwrap_err().exit, Exit::Usage);
    }
}
