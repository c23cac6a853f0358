//! L6: the daemon's two listeners: reads on `http.listen`, whatever changes something on `admin.listen`.
//!
//! Decides what a request means and how an answer looks; what the answer is decides [`Service`]. Every error is
//! `application/problem+json` with a code that `tidemill explain` knows.

pub(crate) mod address;
mod app;
mod commands;
mod health;
mod letters;
mod params;
mod peers;
mod problem;
mod produce;
mod reads;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use peers::HttpPeers;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Secret, Settings};
use crate::error::{Code, Kind, codes};
use crate::metrics::{BuildInfo, TopologyInfo};
use crate::runtime::Service;

/// How to listen.
#[derive(Clone, Debug)]
pub struct Options {
    /// Reads. Port 0 takes a free one.
    pub http: SocketAddr,
    /// Writes. Port 0 takes a free one.
    pub admin: SocketAddr,
    /// What writes must carry; none only on loopback.
    pub admin_token: Option<Secret>,
    pub build: BuildInfo,
    /// Shown by `/metrics`.
    pub topology: Option<TopologyInfo>,
}

impl Options {
    /// Takes what the settings say.
    pub fn new(settings: &Settings, topology: Option<TopologyInfo>) -> Self {
        Self {
            http: settings.http.listen,
            admin: settings.admin.listen,
            admin_token: settings.admin.token.clone(),
            build: BuildInfo::compiled(),
            topology,
        }
    }
}

/// Why the listeners did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}; change `{setting}` (`{variable}`), or stop what listens there")]
    Listen {
        setting: &'static str,
        variable: String,
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("`admin.listen` is {address}, which others reach, and there is no `admin.token`")]
    AdminOpen { address: SocketAddr },
}

impl Error {
    /// Returns the code to explain it by.
    pub fn code(&self) -> Code {
        match self {
            Self::Listen { .. } => codes::LISTEN_FAILED,
            Self::AdminOpen { .. } => codes::ADMIN_OPEN,
        }
    }

    /// Returns what the caller should do: always, stop with the page's help.
    pub fn kind(&self) -> Kind {
        Kind::Config
    }
}

/// Both listeners, running on the Tokio runtime that started them until [`Server::stop`].
#[derive(Debug)]
pub struct Server {
    http: SocketAddr,
    admin: SocketAddr,
    stop: watch::Sender<bool>,
    running: Vec<JoinHandle<()>>,
}

/// Takes both addresses and begins to answer. Call it before the service can answer reads: probes want an answer from the start.
///
/// # Errors
/// An address that is taken, or an admin listener that would be open to others. Nothing listens then.
pub async fn start(options: Options, service: Arc<dyn Service>) -> Result<Server, Error> {
    if !options.admin.ip().is_loopback() && options.admin_token.is_none() {
        return Err(Error::AdminOpen { address: options.admin });
    }
    let (http, http_address) = listen("http.listen", options.http).await?;
    let (admin, admin_address) = listen("admin.listen", options.admin).await?;
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::new(app::Shared::new(options, service, admin_address));
    let running = vec![
        tokio::spawn(serve(http, app::read_router(Arc::clone(&shared)), stopped.clone())),
        tokio::spawn(serve(admin, app::admin_router(shared), stopped)),
    ];
    Ok(Server { http: http_address, admin: admin_address, stop, running })
}

impl Server {
    /// Returns where reads are answered, the chosen port included.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Returns where writes are taken, the chosen port included.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Takes no further connections, lets requests that are being answered end, and cuts them off after `within`.
    pub async fn stop(self, within: Duration) {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + within;
        for mut task in self.running {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

async fn listen(setting: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { setting, variable: crate::config::variable_name(setting), address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn serve(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let until = async move {
        // An error means that the server was dropped without `stop`: that ends it as well.
        drop(stopped.wait_for(|stop| *stop).await);
    };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(until).await {
        tracing::error!(%error, "a listener ended");
    }
}

#[cfg(test)]
mod tests;
