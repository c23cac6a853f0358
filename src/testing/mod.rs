//! L6: what `tidemill test` runs: a topology's own tests, on the production engine, with everything in memory and a clock that
//! moves when it is told to.
//!
//! ```text
//! *.test.toml ──file──▶ Tests ──cases──▶ one run each ──world──▶ what came out ──compare──▶ mismatches
//! ```

mod cases;
mod commands;
mod compare;
pub mod file;
mod inputs;
mod run;
mod world;

pub use cases::Case;
pub use file::{TestFile, json_schema, read};
pub use inputs::{Input, Inputs};
pub use run::{Outcome, run};
pub use world::{Output, Setup, World, WorldError};
