//! What `run`, `dev` and `demo` share around the stream threads: settings, log, listeners, and waiting for the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::args::Global;
use super::signals::Signals;
use super::{Exit, Failure, output, report};
use crate::config::{self, Environment, Machine, Settings};
use crate::http::{self, Server};
use crate::limits::HTTP_STOP_WAIT_MAX_MS;
use crate::metrics::TopologyInfo;
use crate::runtime::{Peers, Service};
use crate::topology::{self, Colour, Sources};

/// Reads the settings: file, environment, and the global flags over both. What is wrong with them is printed in full.
///
/// # Errors
/// Exit 78 after the findings were printed.
pub(crate) fn settings(global: &Global) -> Result<Settings, Failure> {
    let mut flags = std::collections::BTreeMap::new();
    if let Some(id) = &global.application_id {
        flags.insert("application_id".to_owned(), id.clone());
    }
    config::load(global.config.as_deref(), &Environment::read(), &flags, Machine::read()).map_err(|error| {
        let source = error.source_file.clone().unwrap_or_default();
        let sources = Sources::default().with_file(&source.path.display().to_string(), &source.text);
        let colour = if output::stderr_color() { Colour::Always } else { Colour::Never };
        report::to_stderr(&topology::render(&error.diagnostics, &sources, colour));
        Failure::new(Exit::Config, error.to_string())
    })
}

/// Why waiting ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// SIGTERM or SIGINT: stop cleanly.
    Requested,
    /// The stream threads ended by themselves, with or without a failure.
    ByItself(Result<(), Failure>),
}

/// Both listeners of a daemon that runs.
#[derive(Debug)]
pub(crate) struct Host {
    runtime: Runtime,
    server: Server,
    signals: Signals,
}

impl Host {
    /// Starts the listeners; probes are answered from here on, and a signal asks for a clean stop.
    ///
    /// # Errors
    /// Exit 78 when an address cannot be had.
    pub(crate) fn start(
        settings: &Settings,
        topology: TopologyInfo,
        service: Arc<dyn Service>,
    ) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(|error| Failure::from_error(Exit::Io, &error))?;
        let signals =
            runtime.block_on(async { Signals::watch() }).map_err(|error| Failure::from_error(Exit::Io, &error))?;
        let options = http::Options::new(settings, Some(topology));
        let server = runtime
            .block_on(http::start(options, service))
            .map_err(|error| Failure::from_error(Exit::Config, &error).code(error.code()))?;
        tracing::info!(http = %server.http_address(), admin = %server.admin_address(), "listening");
        Ok(Self { runtime, server, signals })
    }

    /// The way to other instances, for as long as the listeners run.
    ///
    /// # Errors
    /// The client cannot be made.
    pub(crate) fn peers(&self) -> Result<Arc<dyn Peers>, Failure> {
        let peers = http::HttpPeers::new(self.runtime.handle().clone());
        Ok(Arc::new(peers.map_err(|error| Failure::from_error(Exit::Bug, &error))?))
    }

    /// Where other instances reach the listener for reads: as `http.advertised` says, else where it listens, where that is one address.
    pub(crate) fn advertised(&self, settings: &Settings) -> Option<String> {
        let bound = self.server.http_address();
        let reachable = || (!bound.ip().is_unspecified()).then(|| bound.to_string());
        let advertised = settings.http.advertised.clone().or_else(reachable);
        if advertised.is_none() {
            tracing::info!("other instances cannot ask this one: set `http.advertised`");
        }
        advertised
    }

    /// Waits for a signal, or for the stream threads to say that they have ended, a sender that is dropped counts as an end; then ends the
    /// listeners: before the stream threads stop answering, so that nobody is told half an answer. A second signal ends the process at once
    /// for as long as the runtime is kept.
    pub(crate) fn wait(self, ended: oneshot::Receiver<Result<(), Failure>>) -> (Ended, Runtime) {
        let Self { runtime, server, signals } = self;
        let outcome = runtime.block_on(async {
            tokio::select! {
                () = signals.stop_requested() => Ended::Requested,
                end = ended => Ended::ByItself(end.unwrap_or(Ok(()))),
            }
        });
        runtime.block_on(server.stop(Duration::from_millis(HTTP_STOP_WAIT_MAX_MS)));
        (outcome, runtime)
    }
}
