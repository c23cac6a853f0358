//! Tests of the whole crate, one binary: each link pulls in two C libraries.

mod kafka_adapter;
mod registry_contract;
