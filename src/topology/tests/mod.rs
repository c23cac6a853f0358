//! The language from the outside: texts in, findings and graphs out.

mod diagnostics;
mod properties;
