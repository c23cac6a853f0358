//! L6: what `tidemill test` runs: a topology's own tests, on the production engine, with everything in memory and a clock that
//! moves when it is told to.

mod world;

pub use world::{Input, Output, World};
