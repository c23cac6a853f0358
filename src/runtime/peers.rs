//! The seam to the other instances: how one of them is asked. Who is asked decides `reads`; how decides whoever starts the daemon.

use std::time::Duration;

use serde_json::Value as Json;

use crate::runtime::service::{Read, ReadError};

/// Another instance, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub instance: String,
    /// `host:port` where it answers reads.
    pub http: String,
}

/// A way to the other instances.
pub trait Peers: Send + Sync {
    /// Has an instance answer a read from what it has itself: it asks nobody in turn. Blocks for `wait` and a little more at most.
    ///
    /// # Errors
    /// What the other one says; [`codes::OWNER_UNREACHABLE`](crate::error::codes::OWNER_UNREACHABLE) where it says nothing.
    fn read(&self, peer: &Peer, read: &Read, wait: Duration) -> Result<Json, ReadError>;
}
