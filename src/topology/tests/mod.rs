//! The language from the outside: texts in, findings and graphs out.

mod diagnostics;
pub(crate) mod json_schema;
mod properties;
