//! Paths and queries of `/v1/…`, as clients write them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::runtime::service::{At, Read, ReadKind};

/// What may stand in a URL's segment and query as it is (RFC 3986, unreserved).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns `/v1/{segments}?{query}`; none where a segment cannot stand in a URL.
pub(crate) fn path(segments: &[&str], query: &[(&str, String)]) -> Option<String> {
    let mut path = "/v1".to_owned();
    for segment in segments {
        if matches!(*segment, "" | "." | "..") {
            return None;
        }
        path.push('/');
        path.extend(utf8_percent_encode(segment, ESCAPED));
    }
    for (index, (name, value)) in query.iter().enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.push_str(name);
        path.push('=');
        path.extend(utf8_percent_encode(value, ESCAPED));
    }
    Some(path)
}

/// Returns the path and query of a read, without how long it may take; none where a name cannot stand in a URL.
pub(super) fn of_read(read: &Read) -> Option<String> {
    let mut query: Vec<(&str, String)> = Vec::new();
    let mut say = |name, value: Option<String>| query.extend(value.map(|value| (name, value)));
    let segments: Vec<&str> = match &read.what {
        ReadKind::Key { store, key, from, to } => {
            say("from", from.map(|from| from.to_string()));
            say("to", to.map(|to| to.to_string()));
            vec!["stores", store, "keys", key]
        }
        ReadKind::Keys { store, prefix, limit, cursor } => {
            say("prefix", Some(prefix.clone()));
            say("limit", Some(limit.to_string()));
            say("cursor", cursor.clone());
            vec!["stores", store, "keys"]
        }
        ReadKind::Entity { entity, key, at } => {
            match at {
                At::Now => {}
                At::AsOf(moment) => say("as_of", Some(moment.to_string())),
                At::Version(version) => say("version", Some(version.to_string())),
            }
            vec!["entities", entity, "keys", key]
        }
        ReadKind::History { entity, key, limit, cursor } => {
            say("limit", Some(limit.to_string()));
            say("cursor", cursor.clone());
            vec!["entities", entity, "keys", key, "history"]
        }
        ReadKind::Blame { entity, key } => vec!["entities", entity, "keys", key, "blame"],
        ReadKind::Answer { entity, key, id } => vec!["entities", entity, "keys", key, "commands", id],
    };
    for (place, offset) in &read.wait_for {
        say("wait_for", Some(format!("{}:{}:{offset}", place.topic, place.partition)));
    }
    if read.stale {
        query.push(("stale", "true".to_owned()));
    }
    path(&segments, &query)
}
