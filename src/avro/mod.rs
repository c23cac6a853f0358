//! L1 codec: Avro schemas, how a reader's schema sees a writer's data, and datums from and to bytes.
//!
//! ```text
//! text ─► schema ─► resolve (writer, reader) ─► plan ─► decode: bytes ─► slots
//!           │                                                             │
//!           └──────────► encode ◄───────────────── values ◄───────────────┘
//!                        json (for people)      frame (which schema: registry frames)
//! ```
//!
//! Source of the rules: the Apache Avro 1.12 specification; where it leaves a choice, the file that makes the choice says so.
//!
//! Invariant: nothing here panics or allocates beyond a small multiple of the datum's size, whatever the bytes are.
//! Not here: fetching schemas (registry), object container files, Avro's RPC.

pub mod datums;
pub mod decode;
pub mod encode;
pub mod frame;
pub mod json;
pub mod plan;
pub mod resolve;
pub mod rows;
pub mod schema;

mod defaults;
mod derive;
mod fingerprint;
mod logical;
mod read;
mod value_type;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use datums::Datums;
pub use decode::{DecodeError, Problem};
pub use encode::{EncodeError, Encoder};
pub use frame::FrameError;
pub use json::{JsonError, from_json, to_json};
pub use plan::DecodePlan;
pub use resolve::{Incompatibility, ResolveError, can_read};
pub use rows::{RowField, carries};
pub use schema::{Schema, SchemaError};
