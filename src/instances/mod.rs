//! L1: what the instances of an application know about each other: what each one says of itself, and what comes of all they say.
//!
//! They say it in one compacted topic of one partition, `<application_id>-instances`, outside of all transactions. So there is one
//! order in which everything was said, and whoever has read as far as another holds the same to be true: placements that are computed
//! from it agree without a word. Not here: who reads and writes the topic (`runtime`).

mod announcement;
mod roster;

pub use announcement::{Announcement, Standby};
pub use roster::{Entry, Roster};
