//! L0 vocabulary shared by every layer: identifiers, time, records, values and their types, diagnostics, hashes.
//!
//! Nothing here does I/O or knows a foreign protocol.

pub mod diag;
pub mod hash;
pub mod ids;
pub mod record;
pub mod rng;
pub mod time;
pub mod types;
pub mod value;
