//! tidemill: event-sourced state over event topics, from TOML.
//!
//! A module may import from lower layers only; `tests/it/tidy.rs` reads the `use` lines and fails on a breach.
//!
//! ```text
//! L6  cli → dev → http;  cli → testing
//! L5  runtime → metrics
//! L4  broker → crash;  registry, config        seams: traits + adapters; a test hook
//! L3  entity → operator;  task → operator, entity, store;  operator → store;  assign
//! L2  plan → topology
//! L1  expr, avro, instances
//! L0  base (ids, time, record, value, diagnostics) → error;  limits;  planted    a test hook
//! ```

pub mod assign;
pub mod avro;
pub mod base;
pub mod broker;
pub mod cli;
pub mod config;
pub mod crash;
pub mod dev;
pub mod entity;
pub mod error;
pub mod expr;
pub mod http;
pub mod instances;
pub mod limits;
pub mod metrics;
pub mod operator;
pub mod plan;
pub mod planted;
pub mod registry;
pub mod runtime;
pub mod store;
pub mod task;
pub mod testing;
pub mod topology;
