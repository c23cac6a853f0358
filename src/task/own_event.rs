//! How a deciding entity knows its own events again when they come back from its topic: it applied them when it decided them.
//!
//! ```text
//! __tidemill_decided = "<sequence>:<version>:<application>/<entity>"
//! ```
//!
//! The sequence counts the events that the entity has decided in its partition, from 1. It is committed with the entity's state, so
//! an event whose number has been reached is in that state, and one beyond it is not: the state was built anew.

use crate::base::record::{Header, Headers};

/// The header's name.
pub const DECIDED_HEADER: &str = "__tidemill_decided";

/// What an event says of its making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnEvent {
    pub(super) sequence: u64,
    /// The version of the entity that it made.
    pub(super) version: u64,
}

/// Makes the header of an event.
pub(super) fn encode(event: OwnEvent, application: &str, entity: &str) -> Header {
    Header::text(DECIDED_HEADER, format!("{}:{}:{application}/{entity}", event.sequence, event.version))
}

/// Reads the header; none of an event that somebody else made.
pub(super) fn decode(headers: &Headers, application: &str, entity: &str) -> Option<OwnEvent> {
    let text = std::str::from_utf8(headers.last(DECIDED_HEADER)?.value.as_ref()?).ok()?;
    let (sequence, rest) = text.split_once(':')?;
    let (version, maker) = rest.split_once(':')?;
    let own = maker.strip_prefix(application)?.strip_prefix('/')? == entity;
    own.then_some(OwnEvent { sequence: sequence.parse().ok()?, version: version.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_again_by_who_made_it() {
        let event = OwnEvent { sequence: 7, version: 3 };
        let headers = Headers::new(vec![encode(event, "shop:eu", "order")]);
        assert_eq!(decode(&headers, "shop:eu", "order"), Some(event));
        assert_eq!(decode(&headers, "shop:eu", "orders"), None);
        assert_eq!(decode(&headers, "shop", "order"), None);
        assert_eq!(decode(&Headers::default(), "shop:eu", "order"), None);
    }
}
