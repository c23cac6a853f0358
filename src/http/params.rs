//! The query part of a URL, read strictly: an unknown name, a repeated one and a value that cannot be are all refused.

use std::time::Duration;

use axum::extract::Query;
use axum::http::Uri;

use super::problem::Problem;
use crate::base::diag::suggestion;
use crate::base::ids::{Offset, TopicPartition};
use crate::base::time::{DateTime, SpanMs};
use crate::limits::{
    HTTP_PAGE_ROWS_DEFAULT, HTTP_PAGE_ROWS_MAX, HTTP_WAIT_DEFAULT_MS, HTTP_WAIT_FOR_MAX, HTTP_WAIT_MAX_MS,
};
use crate::task::ReadFrom;

/// Names every read takes.
const ANY_READ: [&str; 3] = ["wait_for", "wait", "stale"];

/// The parameters of one request.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Takes a query of these names and no others.
    pub(super) fn parse(query: Option<&str>, allowed: &[&str]) -> Result<Self, Problem> {
        let uri: Uri = format!("/?{}", query.unwrap_or_default())
            .parse()
            .map_err(|_| Problem::parameter("the query part of the URL cannot be read"))?;
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&uri)
            .map_err(|rejection| Problem::parameter(rejection.body_text()))?;
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !allowed.contains(&name.as_str()) {
                let detail = format!("unknown parameter `{name}`: {}", suggestion(name, allowed.iter().copied()));
                return Err(Problem::parameter(detail));
            }
            if name != "wait_for" && pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::parameter(format!("`{name}` stands twice")));
            }
        }
        Ok(Self(pairs))
    }

    /// Takes the query of a read: these names and those of every read.
    pub(super) fn of_read(query: Option<&str>, allowed: &[&str]) -> Result<Self, Problem> {
        let all: Vec<&str> = allowed.iter().chain(&ANY_READ).copied().collect();
        Self::parse(query, &all)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Where inputs are read on that cannot be otherwise.
    pub(super) fn read_from(&self, name: &str) -> Result<Option<ReadFrom>, Problem> {
        let read = |text| match text {
            "earliest" => Ok(ReadFrom::Earliest),
            "latest" => Ok(ReadFrom::Latest),
            "committed" => Ok(ReadFrom::Committed),
            other => {
                let detail = format!("`{name}` is `earliest`, `latest` or `committed`, not `{other}`");
                Err(Problem::parameter(detail))
            }
        };
        self.get(name).map(read).transpose()
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<DateTime>, Problem> {
        let read = |text| DateTime::parse(text).map_err(|wrong| Problem::parameter(format!("`{name}`: {wrong}")));
        self.get(name).map(read).transpose()
    }

    /// A whole number within bounds.
    pub(super) fn number(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, Problem> {
        let read = |text: &str| match text.parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            Ok(_) | Err(_) if most == i64::MAX => {
                Err(Problem::parameter(format!("`{name}={text}`: it is a whole number from {least} on")))
            }
            Ok(_) | Err(_) => {
                Err(Problem::parameter(format!("`{name}={text}`: it is a whole number from {least} to {most}")))
            }
        };
        self.get(name).map(read).transpose()
    }

    /// Whether a standby may answer.
    pub(super) fn stale(&self) -> Result<bool, Problem> {
        match self.get("stale") {
            None | Some("false") => Ok(false),
            Some("true") if self.get("wait_for").is_some() => {
                Err(Problem::parameter("`stale` and `wait_for` exclude each other: a standby knows of no inputs"))
            }
            Some("true") => Ok(true),
            Some(other) => Err(Problem::parameter(format!("`stale={other}`: it is `true` or `false`"))),
        }
    }

    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let given = self.number("limit", 1, HTTP_PAGE_ROWS_MAX as i64)?;
        Ok(given.map_or(HTTP_PAGE_ROWS_DEFAULT, |limit| limit as usize))
    }

    /// How long the read may wait, and for which inputs.
    pub(super) fn wait(&self) -> Result<(Duration, Vec<(TopicPartition, Offset)>), Problem> {
        let inputs: Vec<&str> =
            self.0.iter().filter(|(name, _)| name == "wait_for").map(|(_, text)| text.as_str()).collect();
        if inputs.len() > HTTP_WAIT_FOR_MAX {
            return Err(Problem::parameter(format!("`wait_for` stands more than {HTTP_WAIT_FOR_MAX} times")));
        }
        let inputs = inputs.into_iter().map(input).collect::<Result<_, _>>()?;
        let ms = match self.get("wait") {
            None => HTTP_WAIT_DEFAULT_MS,
            Some(text) => {
                let span = SpanMs::parse(text).map_err(|wrong| Problem::parameter(format!("`wait`: {wrong}")))?;
                u64::try_from(span.0).ok().filter(|ms| *ms <= HTTP_WAIT_MAX_MS).ok_or_else(|| {
                    let most = SpanMs(HTTP_WAIT_MAX_MS as i64);
                    Problem::parameter(format!("`wait={text}` is more than {most}"))
                })?
            }
        };
        Ok((Duration::from_millis(ms), inputs))
    }
}

/// Reads `topic:partition:offset`; a topic's name has no colon in it.
fn input(text: &str) -> Result<(TopicPartition, Offset), Problem> {
    let mut parts = text.split(':');
    let read = (|| {
        let (topic, partition, offset) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let right = parts.next().is_none() && !topic.is_empty() && partition >= 0_i32 && offset >= 0_i64;
        right.then(|| (TopicPartition::new(topic, partition), Offset(offset)))
    })();
    read.ok_or_else(|| Problem::parameter(format!("`wait_for={text}`: it is `topic:partition:offset`")))
}
