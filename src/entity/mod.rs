//! L3: event sourcing over stores: an entity's state is a fold of its events, and every version of it is kept with the event
//! that made it.
//!
//! A version is the count of events applied to the key. *Recorded* is the running maximum of record timestamps over the task's
//! processed input, so that "up to T" is always a prefix of what was processed; *occurred* is the event's own timestamp;
//! *processed* is the wall clock, for people.

mod decide;
mod fold;
mod travel;

pub use decide::{
    Answer, COMMAND_ID_HEADER, CommandHead, Decided, EXPECTED_VERSION_HEADER, Outcome, Verdict, answer_key, decide,
};
pub use fold::{Applied, Moment, OFFSET_UNKNOWN, apply, set_offset};
pub use travel::{Version, blame, current, history, version_as_of, version_number};
