//! Integration tests: one binary.

mod broker_contract;
