//! One process with everything in it, and the demo that shows it.

pub mod answers;
pub mod environment;
pub mod flights;
pub mod load;
