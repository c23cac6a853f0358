//! Where a record comes from, in CloudEvents' words: what follows from a record carries its id as `ce_causationid`, and the
//! `ce_correlationid` of the whole chain, which begins with the first record that has an id.
//!
//! A record is known by its `ce_id`, else by its `command-id`, else by where it stands (`topic:partition:offset`). What has neither an
//! id nor a correlation begins no chain, so that topics without either carry nothing more; a command always begins one.

use std::borrow::Cow;

use crate::base::record::{Header, Headers};
use crate::base::value::Value;
use crate::entity::COMMAND_ID_HEADER;
use crate::operator::RecordContext;

pub(super) const ID: &str = "ce_id";
pub(super) const CORRELATION: &str = "ce_correlationid";
pub(super) const CAUSATION: &str = "ce_causationid";

/// What a record is known by.
pub(super) fn id_of(context: &RecordContext) -> Cow<'_, str> {
    let id = context.headers.text(ID).or_else(|| context.headers.text(COMMAND_ID_HEADER));
    id.map_or_else(|| Cow::Owned(format!("{}:{}:{}", context.topic, context.partition, context.offset)), Cow::Borrowed)
}

/// The correlation and the causation of what follows from a record.
pub(super) fn of_what_follows(context: &RecordContext) -> [Header; 2] {
    let id = id_of(context);
    let correlation = context.headers.text(CORRELATION).unwrap_or(&id).to_owned();
    [Header::text(CORRELATION, correlation), Header::text(CAUSATION, id)]
}

/// The headers of a record that follows from another; none where no chain has begun.
pub(super) fn derived(context: &RecordContext) -> Headers {
    if context.headers.is_empty() {
        return Headers::default();
    }
    let begun = [ID, CORRELATION, COMMAND_ID_HEADER].iter().any(|name| context.headers.text(name).is_some());
    if begun { Headers::new(of_what_follows(context).into()) } else { Headers::default() }
}

/// What a row that is held keeps of the record that it came from: its id and its correlation, null where no chain has begun.
pub(super) fn kept(context: &RecordContext) -> [Value; 2] {
    let headers = derived(context);
    [CAUSATION, CORRELATION].map(|name| headers.text(name).map_or(Value::Null, Value::text))
}

/// The context of a row that was held, with what it kept; no record of now is behind it.
pub(super) fn given_back(context: &RecordContext, kept: &[Value]) -> RecordContext {
    let headers = [ID, CORRELATION].into_iter().zip(kept);
    let headers = headers.filter_map(|(name, value)| Some(Header::text(name, value.as_str()?))).collect();
    RecordContext { headers: Headers::new(headers), ..context.of_time() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{Offset, Partition, Topic};
    use crate::base::time::Timestamp;
    use crate::base::value::Text;

    fn context(pairs: &[(&str, &str)]) -> RecordContext {
        RecordContext {
            topic: Topic::new("orders"),
            partition: Partition(3),
            offset: Offset(17),
            timestamp: Timestamp(0),
            type_name: Text::default(),
            schema_id: None,
            headers: Headers::new(pairs.iter().map(|(name, value)| Header::text(name, *value)).collect()),
        }
    }

    fn carried(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let headers = derived(&context(pairs));
        let shown = |header: &Header| {
            let value = header.value.as_deref().unwrap_or_default();
            (header.name.to_string(), String::from_utf8_lossy(value).into_owned())
        };
        headers.iter().map(shown).collect()
    }

    fn pair(correlation: &str, causation: &str) -> Vec<(String, String)> {
        vec![(CORRELATION.to_owned(), correlation.to_owned()), (CAUSATION.to_owned(), causation.to_owned())]
    }

    #[test]
    fn a_chain_begins_with_the_first_id_and_goes_on() {
        assert_eq!(carried(&[]), []);
        assert_eq!(carried(&[("trace_id", "t")]), []);
        assert_eq!(carried(&[("ce_id", "a")]), pair("a", "a"));
        assert_eq!(carried(&[("ce_id", "b"), ("ce_correlationid", "a"), ("ce_causationid", "x")]), pair("a", "b"));
        assert_eq!(carried(&[("command-id", "c")]), pair("c", "c"));
        assert_eq!(carried(&[("ce_correlationid", "a")]), pair("a", "orders:3:17"));
    }

    #[test]
    fn what_was_held_goes_on_in_its_own_chain() {
        let kept = kept(&context(&[("ce_id", "b"), ("ce_correlationid", "a")]));
        let later = given_back(&context(&[("ce_id", "z"), ("other", "o")]), &kept);
        assert_eq!(of_what_follows(&later), of_what_follows(&context(&[("ce_id", "b"), ("ce_correlationid", "a")])));
        let later = given_back(&context(&[("ce_id", "z")]), &super::kept(&context(&[])));
        assert!(derived(&later).is_empty());
    }

    #[test]
    fn a_command_begins_a_chain_also_without_an_id() {
        let [correlation, causation] = of_what_follows(&context(&[]));
        assert_eq!(correlation.value.as_deref(), Some(b"orders:3:17".as_slice()));
        assert_eq!(causation.value.as_deref(), Some(b"orders:3:17".as_slice()));
    }
}
