//! Routes, and what all requests share: the bound on work at once, the counts, the admin token.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fmt, net::SocketAddr};

use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::Semaphore;

use super::params::Params;
use super::problem::Problem;
use super::{Options, commands, health, letters, produce, reads};
use crate::error::codes;
use crate::limits::{HTTP_BODY_BYTES_MAX, HTTP_REQUESTS_AT_ONCE_MAX, HTTP_TURN_WAIT_MAX_MS, HTTP_WAIT_MAX_MS};
use crate::metrics;
use crate::runtime::Service;
use crate::runtime::service::{ReadError, Sample};

pub(super) type App = State<Arc<Shared>>;

/// What all requests share.
pub(super) struct Shared {
    options: Options,
    service: Arc<dyn Service>,
    admin_address: SocketAddr,
    turns: Arc<Semaphore>,
    http_answers: Answers,
    admin_answers: Answers,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Answers by status class, 1xx to 5xx.
#[derive(Default)]
struct Answers([AtomicU64; 5]);

impl Answers {
    fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5);
        self.0[class - 1].fetch_add(1, Ordering::Relaxed);
    }

    fn samples(&self, listener: &str) -> impl Iterator<Item = Sample> {
        self.0.iter().enumerate().skip(1).map(move |(index, count)| Sample {
            name: "http_requests_total",
            labels: vec![listener.to_owned(), format!("{}xx", index + 1)],
            value: count.load(Ordering::Relaxed) as f64,
        })
    }
}

impl Shared {
    pub(super) fn new(options: Options, service: Arc<dyn Service>, admin_address: SocketAddr) -> Self {
        Self {
            options,
            service,
            admin_address,
            turns: Arc::new(Semaphore::new(HTTP_REQUESTS_AT_ONCE_MAX)),
            http_answers: Answers::default(),
            admin_answers: Answers::default(),
        }
    }

    /// Runs a call that may block, when its turn comes. The turn is kept until the call ends, also when the client has gone.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Service) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        let Ok(Ok(turn)) = tokio::time::timeout(Duration::from_millis(HTTP_TURN_WAIT_MAX_MS), turn).await else {
            let detail = format!("{HTTP_REQUESTS_AT_ONCE_MAX} other requests are being worked on");
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, codes::TOO_BUSY, detail));
        };
        let answer = self
            .look(move |service| {
                let _turn = turn;
                call(service)
            })
            .await?;
        Ok(answer?)
    }

    /// Runs a call that is quick and must be answered however busy the daemon is: probes, counters.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Service) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let service = Arc::clone(&self.service);
        tokio::task::spawn_blocking(move || call(&*service))
            .await
            .map_err(|failed| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, codes::ANSWER_FAILED, failed.to_string()))
    }
}

/// Everything on `http.listen`.
pub(super) fn read_router(shared: Arc<Shared>) -> Router {
    let router = Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(scrape))
        .route("/v1/topology", get(topology))
        .route("/v1/instances", get(instances))
        .route("/v1/tasks", get(tasks))
        .route("/v1/stores", get(stores))
        .route("/v1/stores/{store}/keys", get(reads::keys))
        .route("/v1/stores/{store}/keys/{key}", get(reads::key))
        .route("/v1/entities/{entity}/keys/{key}", get(reads::entity))
        .route("/v1/entities/{entity}/keys/{key}/history", get(reads::history))
        .route("/v1/entities/{entity}/keys/{key}/blame", get(reads::blame))
        .route("/v1/entities/{entity}/keys/{key}/commands/{id}", get(reads::answer_to))
        .route("/v1/topics/{topic}", get(reads::topic))
        .route("/v1/topics/{topic}/records", get(reads::records))
        .route("/v1/dlq", get(letters::topics))
        .route("/v1/dlq/{topic}", get(letters::list))
        .route("/v1/dlq/{topic}/{letter}", get(letters::show));
    with_common(router, shared, Listener::Http)
}

/// Everything on `admin.listen`.
pub(super) fn admin_router(shared: Arc<Shared>) -> Router {
    let router = Router::new()
        .route("/v1/topics/{topic}", post(produce::produce))
        .route("/v1/tasks/{task}/release", post(release))
        .route("/v1/dlq/{topic}/replay", post(letters::replay))
        .route("/v1/dlq/{topic}/drop", post(letters::drop_letters))
        .route("/v1/entities/{entity}/keys/{key}/commands/{command}", post(commands::command))
        .layer(DefaultBodyLimit::max(HTTP_BODY_BYTES_MAX));
    with_common(router, shared, Listener::Admin)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Http,
    Admin,
}

fn with_common(router: Router<Arc<Shared>>, shared: Arc<Shared>, listener: Listener) -> Router {
    let around = Arc::clone(&shared);
    router
        .fallback(async |uri: Uri| unknown_path(&uri))
        .method_not_allowed_fallback(move |State(shared): App, method: Method, uri: Uri| async move {
            wrong_method(&shared, &method, &uri, listener)
        })
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            guard(Arc::clone(&around), listener, request, next)
        }))
        .with_state(shared)
}

/// Around every request: who may write, what is counted, headers of every answer.
async fn guard(shared: Arc<Shared>, listener: Listener, request: Request, next: Next) -> Response {
    let refused = if listener == Listener::Admin { refusal(&shared, &request) } else { None };
    let mut response = match refused {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };
    match listener {
        Listener::Http => shared.http_answers.count(response.status()),
        Listener::Admin => shared.admin_answers.count(response.status()),
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// With a token, it must be carried. Without one the listener is on loopback, and the request must have been meant for
/// loopback: a web page whose name was made to point here (DNS rebinding) still says its own name in `Host`.
fn refusal(shared: &Shared, request: &Request) -> Option<Problem> {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    match &shared.options.admin_token {
        Some(token) => {
            let given = text(header::AUTHORIZATION).and_then(|value| value.split_once(' '));
            let right = given
                .is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case("bearer") && token.matches(given.trim()));
            (!right).then(|| {
                let detail = "send `Authorization: Bearer` with the token of `admin.token`";
                Problem::new(StatusCode::UNAUTHORIZED, codes::TOKEN_REFUSED, detail)
            })
        }
        None => {
            let host = text(header::HOST).map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name))?;
            let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            let here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
            (!here).then(|| {
                let detail = format!("without `admin.token` only requests to loopback are taken, not to `{host}`");
                Problem::new(StatusCode::FORBIDDEN, codes::TOKEN_REFUSED, detail)
            })
        }
    }
}

fn unknown_path(uri: &Uri) -> Problem {
    let detail = format!("there is nothing at `{}`", uri.path());
    Problem::new(StatusCode::NOT_FOUND, codes::PATH_UNKNOWN, detail)
}

fn wrong_method(shared: &Shared, method: &Method, uri: &Uri, listener: Listener) -> Problem {
    let elsewhere = match listener {
        Listener::Http => format!("; writes go to the admin listener, {}", shared.admin_address),
        Listener::Admin => String::new(),
    };
    let detail = format!("`{}` does not take {method} here{elsewhere}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, codes::METHOD_NOT_ALLOWED, detail)
}

async fn scrape(State(shared): App) -> Result<Response, Problem> {
    let mut measured = shared.look(|service| service.measurements()).await?;
    measured.samples.extend(shared.http_answers.samples("http"));
    measured.samples.extend(shared.admin_answers.samples("admin"));
    let text = metrics::render(&measured, &shared.options.build, shared.options.topology.as_ref());
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn topology(State(shared): App) -> Result<Response, Problem> {
    Ok(Json(shared.look(|service| service.topology()).await?).into_response())
}

async fn instances(State(shared): App) -> Result<Response, Problem> {
    let instances = shared.look(|service| service.instances()).await?;
    Ok(Json(serde_json::json!({ "instances": instances })).into_response())
}

async fn tasks(State(shared): App) -> Result<Response, Problem> {
    let tasks = shared.look(|service| service.tasks()).await?;
    Ok(Json(serde_json::json!({ "tasks": tasks })).into_response())
}

/// `POST /v1/tasks/{task}/release?inputs=`: a task that is quarantined starts again from what is committed; inputs that cannot be read
/// on from there are as `inputs` says.
async fn release(
    State(shared): App,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path(task) = path?;
    produce::check_media_type(&headers)?;
    let inputs = Params::parse(query.as_deref(), &["inputs"])?.read_from("inputs")?;
    let (name, wait) = (task.clone(), Duration::from_millis(HTTP_WAIT_MAX_MS));
    let released = shared.call(move |service| service.release(&name, inputs, wait)).await?;
    Ok(Json(serde_json::json!({ "task": task, "released": released })).into_response())
}

async fn stores(State(shared): App) -> Result<Response, Problem> {
    let stores = shared.look(|service| service.stores()).await?;
    Ok(Json(serde_json::json!({ "stores": stores })).into_response())
}
