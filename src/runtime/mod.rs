//! L5: the only place with threads: stream threads that drive tasks, and what a running daemon offers to the outside.

pub mod service;

pub use service::Service;
