//! The integration tests: one binary, since each link pulls in two C libraries.

mod cli;
mod kafka_adapter;
mod metrics;
mod registry_contract;
//! Integration tests: one binary.

mod broker_contract;
//! The integration tests: one binary, since every further one would link RocksDB and librdkafka again.
//!
//! They need what `make test` sets up: real servers, the demo's data.

mod flights;
mod tidy;

/// Returns what `make test` exported under this name.
#[expect(clippy::disallowed_methods, reason = "how `make test` tells where its servers and data are")]
fn provided(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: these tests run under `make test`"))
}
