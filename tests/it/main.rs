//! The integration tests: one binary, since each link pulls in two C libraries.

mod broker_contract;
mod broker_contract_kafka;
mod cli;
mod flights;
mod kafka_adapter;
mod metrics;
mod registry_contract;
mod tidy;
