//! Tests of the whole crate, one binary: each link pulls in two C libraries.

mod kafka_adapter;
mod registry_contract;
//! The integration tests: one binary, since each link pulls in two C libraries.

mod cli;
mod metrics;
