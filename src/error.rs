//! What kinds of failure there are, and the codes that users meet. Each code has a page in `docs/errors/`, built in for `explain`.

use std::fmt;

/// What the caller should do about a failure; the runtime looks at nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The user's settings or topology are wrong: stop with the page's help.
    Config,
    /// It may pass: back off and try again.
    Retry,
    /// Another instance owns this now: close, rejoin, go on from what is committed.
    Fenced,
    /// Bytes at rest are not what was written: set aside, restore.
    Corrupt,
    /// One record cannot be worked on: its node's `on_error` decides.
    Record,
    /// tidemill is wrong: stop, keep the state.
    Bug,
}

/// A code that a user can look up: `E0107`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub &'static str);

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code($code);)*
        /// Every code with its page, in order.
        pub const PAGES: &[(Code, &str)] = &[$((Code($code), include_str!(concat!("../docs/errors/", $code, ".md")))),*];
    };
}

/// The codes by name. A number is never used again once it was released.
pub mod codes {
    use super::Code;

    // E01xx topology files · E02xx expressions · E03xx schemas · E04xx plan · E05xx settings · E06xx broker
    // E07xx registry · E08xx state · E09xx running · E10xx records
    codes! {
        /// An expression is not CEL.
        EXPRESSION_SYNTAX = "E0201";
        /// A schema does not parse, or says something that cannot be.
        SCHEMA_SYNTAX = "E0301";
        /// A reader's schema cannot take a writer's data.
        SCHEMA_INCOMPATIBLE = "E0302";
        /// A value or its JSON does not fit its schema.
        VALUE_NOT_IN_SCHEMA = "E0303";
        /// Bytes are not a datum of their schema.
        DATUM_UNREADABLE = "E0304";
    }
}

/// Returns the page of a code, `E0201` or `e0201`.
pub fn page(code: &str) -> Option<&'static str> {
    codes::PAGES.iter().find(|(known, _)| known.0.eq_ignore_ascii_case(code)).map(|(_, page)| *page)
}
