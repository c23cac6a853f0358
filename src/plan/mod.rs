//! L2: topology → executable plan.

pub mod model;

pub use model::*;
