//! Values that must not be seen: they print as `(redacted)` wherever they are printed.

use std::fmt;

/// A secret's text. It has no `Display`, and its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for the one call that needs it. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Tells whether `given` is the secret, in a time that depends on the lengths alone.
    pub fn matches(&self, given: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), given.as_bytes());
        let differing = ours.iter().zip(theirs).fold(0_u8, |bits, (a, b)| bits | (a ^ b));
        ours.len() == theirs.len() && differing == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

/// A value of a librdkafka property.
#[derive(Clone, PartialEq, Eq)]
pub enum Property {
    Plain(String),
    Secret(Secret),
}

impl Property {
    /// Wraps a value written in the open; a property whose name says that it is secret is hidden all the same.
    pub fn written(name: &str, value: String) -> Self {
        const SECRET: [&str; 5] = ["password", "secret", "key.pem", "sasl.jaas", "oauthbearer.config"];
        if SECRET.iter().any(|part| name.contains(part)) {
            Self::Secret(Secret::new(value))
        } else {
            Self::Plain(value)
        }
    }

    /// Returns the value for the client's configuration. Never log it.
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => fmt::Debug::fmt(text, f),
            Self::Secret(secret) => fmt::Debug::fmt(secret, f),
        }
    }
}
