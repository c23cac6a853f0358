//! The integration tests: one binary, since every further one would link RocksDB and librdkafka again.
//!
//! They need what `make test` sets up: real servers, the demo's data.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a panic is how a test fails")]

mod author;
mod avro_judge;
mod bad_input;
mod broker_contract;
mod broker_contract_kafka;
#[path = "../chaos/mod.rs"]
mod chaos;
mod cli;
mod conformance;
mod conformance_random;
mod crash;
mod dead_letters;
mod deciding;
mod demo;
mod disk;
mod docs;
mod evolve;
mod faults;
mod flights;
mod formats;
mod instances;
mod joins;
mod kafka_adapter;
mod keys;
mod laws;
mod members;
mod memory;
mod metrics;
mod on_error;
mod quarantine;
mod registry_contract;
mod restore;
mod rollout;
mod rows;
#[path = "../sim/mod.rs"]
mod sim;
mod sources;
mod standbys;
mod support;
mod tidy;
mod topology_tests;
mod two_services;
mod windows;

/// Returns what `make test` exported under this name.
#[expect(clippy::disallowed_methods, reason = "how `make test` tells where its servers and data are")]
fn provided(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: these tests run under `make test`"))
}
