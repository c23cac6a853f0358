//! The integration tests: one binary, since each link pulls in two C libraries.

mod cli;
mod kafka_adapter;
mod metrics;
mod registry_contract;
