//! Probes, in the form Kubernetes has for its own: a word, or with `verbose` a line for each check.

use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::params::Params;
use super::problem::Problem;
use crate::runtime::service::Health;

/// `/livez`: the threads beat. Restarting helps when it fails.
pub(super) async fn live(State(shared): App, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["verbose"])?;
    let health = shared.look(|service| service.health()).await?;
    Ok(answer("livez", &[("live", health.live)], &health, &params))
}

/// `/readyz`: it can be asked. `require=assigned` is enough for a rollout to go on while stores are restored.
pub(super) async fn ready(State(shared): App, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["verbose", "require"])?;
    let health = shared.look(|service| service.health()).await?;
    let all = [("live", health.live), ("assigned", health.assigned), ("restored", health.restored)];
    let checks = match params.get("require") {
        None | Some("restored") => &all[..],
        Some("assigned") => &all[..2],
        Some(other) => {
            let detail = format!("`require={other}`: it is `assigned` or `restored`");
            return Err(Problem::parameter(detail));
        }
    };
    Ok(answer("readyz", checks, &health, &params))
}

fn answer(probe: &str, checks: &[(&str, bool)], health: &Health, params: &Params) -> Response {
    let passed = checks.iter().all(|(_, passed)| *passed);
    let status = if passed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut text = String::new();
    if params.get("verbose").is_some() || !passed {
        for (name, passed) in checks {
            text.push_str(&format!(
                "[{}]{name} {}\n",
                if *passed { '+' } else { '-' },
                if *passed { "ok" } else { "failed" }
            ));
        }
        if !passed {
            text.extend(health.reasons.iter().map(|reason| format!("    {reason}\n")));
        }
        text.push_str(&format!("{probe} check {}\n", if passed { "passed" } else { "failed" }));
    } else {
        text.push_str("ok");
    }
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
