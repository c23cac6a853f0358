//! SIGTERM and SIGINT: the first asks for a clean stop, a second one ends the process at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// Waits for the first SIGTERM or SIGINT; from then on a further one exits with 130.
///
/// # Errors
/// The process may not watch signals.
pub(crate) async fn stop_requested() -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(())
}

/// Waits for `wait`, and tells whether a stop was requested meanwhile.
pub(crate) async fn stop_within(wait: Duration) -> bool {
    tokio::select! {
        stop = stop_requested() => stop.is_ok(),
        () = tokio::time::sleep(wait) => false,
    }
}
