//! L4: the daemon's settings: `tidemill.toml`, `TIDEMILL__SECTION__NAME` and flags, read into [`Settings`] with every mistake
//! reported in one go.
//!
//! A flag beats the environment, which beats the file, which beats the default. A `$` in a value means itself: nothing is
//! expanded (Azure's user name is literally `$ConnectionString`). What a topology says is not here.

mod catalog;
mod layers;
mod load;
mod machine;
mod read;
mod secret;
mod settings;

pub use catalog::json_schema;
pub use layers::{Environment, Strings, variable_name};
pub use load::{Error, Source, load, resolve};
pub use machine::Machine;
pub use secret::{Property, Secret};
pub use settings::{
    Admin, Guarantee, Http, Kafka, Log, LogFormat, Memory, OffsetReset, Registry, RegistryAuth, Settings, State,
    TopicCreation, Topics,
};

#[cfg(test)]
mod tests;
