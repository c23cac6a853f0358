//! L5: the only place with threads: stream threads that drive tasks, and what a running daemon offers to the outside.

mod clock;
mod cluster;
mod commands;
mod commits;
mod daemon;
mod dead_letters;
mod error;
mod events;
mod folding;
mod follower;
mod instances;
mod key_text;
mod memory;
mod options;
mod pace;
mod peers;
mod quarantine;
mod query;
mod reads;
mod rebalance;
mod replay;
mod restorer;
mod rollout;
mod samples;
mod schemas;
pub mod service;
mod shared;
mod sources;
mod standbys;
mod status;
mod stepped;
mod thread;
mod topics;

pub use daemon::{Daemon, Progress};
pub use error::Error;
pub use options::{Guarantee, Options};
pub use peers::{Peer, Peers};
pub use replay::Replay;
pub use service::Service;
pub use stepped::{Ground, Stepped};

pub use clock::now;
pub use clock::{Clock, Stopwatch};
