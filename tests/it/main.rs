//! The integration tests: one binary, since each link pulls in two C libraries.

mod broker_contract;
mod broker_contract_kafka;
mod cli;
mod flights;
mod kafka_adapter;
mod metrics;
mod registry_contract;
mod tidy;

/// Returns what `make test` exported under this name.
#[expect(clippy::disallowed_methods, reason = "how `make test` tells where its servers and data are")]
fn provided(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: these tests run under `make test`"))
}
