//! SIGTERM and SIGINT: the first asks for a clean stop, a second one ends the process at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Watches for SIGTERM and SIGINT from where it is made: what arrives before anyone waits is not lost.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to watch, in a runtime.
    ///
    /// # Errors
    /// The process may not watch signals.
    pub(crate) fn watch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the first one; from then on a further one exits with 130.
    pub(crate) async fn stop_requested(mut self) {
        self.next().await;
        tracing::info!("stopping; a second signal ends the process at once");
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(130);
        });
    }

    /// Waits for `wait`, and tells whether a stop was requested since the watch began.
    pub(crate) async fn stop_within(&mut self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.next()).await.is_ok()
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
