//! L3: which instance keeps a standby of which task. Pure: who is there and what there is in, a placement out; all instances compute the
//! same from the same roster, so that nobody has to tell anybody.
//!
//! The consumer group alone says who runs a task, by Kafka's `range` assignor; nothing here changes that (librdkafka takes no assignor of
//! ours). So a standby is of use where `range` sends the task next, and `range` is predicted: [`range`] deals as the broker's clients do,
//! [`standbys`] places by it.

mod range;
mod standbys;

pub use range::{Deal, Inputs};
pub use standbys::{Group, standbys};
