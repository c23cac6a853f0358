//! CloudEvents (specification 1.0.2, Kafka protocol binding): what a record that is one says of itself, and what one says that is
//! written.
//!
//! In binary mode attributes are headers, `ce_id`, and the value is the data. In structured mode the value is a JSON object of both, and
//! is taken apart, so that expressions see the same headers either way.

use bytes::Bytes;
use serde_json::Value as Json;

use crate::avro::json::{base64_decode, base64_encode};
use crate::base::record::{Header, Headers, Record};
use crate::base::value::Value;
use crate::plan::ValueFormat;

const CONTENT_TYPE: &str = "content-type";
const STRUCTURED: &str = "application/cloudevents";
const STRUCTURED_JSON: &str = "application/cloudevents+json; charset=UTF-8";
/// What every event says.
const REQUIRED: [&str; 4] = ["ce_specversion", "ce_id", "ce_source", "ce_type"];

/// Takes an event apart: the record with its attributes as headers and its data as value; none where it has them so. A record
/// without value is a deletion, and says nothing.
///
/// # Errors
/// Says why it is no event.
pub fn opened(record: &Record) -> Result<Option<Record>, String> {
    let Some(value) = &record.value else { return Ok(None) };
    let structured = record.headers.text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with(STRUCTURED));
    if !structured {
        complete(&record.headers)?;
        return Ok(None);
    }
    let parsed: Json =
        serde_json::from_slice(value).map_err(|error| format!("the CloudEvent is no JSON (E1007): {error}"))?;
    let Json::Object(event) = parsed else { return Err("the CloudEvent is no JSON object (E1007)".to_owned()) };
    let mut headers: Vec<Header> = Vec::with_capacity(event.len());
    let mut data = None;
    let is_json = event.get("datacontenttype").and_then(Json::as_str).is_none_or(says_json);
    for (name, attribute) in event {
        match (name.as_str(), attribute) {
            ("data", Json::String(text)) if !is_json => data = Some(Bytes::from(text)),
            ("data", attribute) => data = Some(Bytes::from(attribute.to_string())),
            ("data_base64", Json::String(text)) => {
                let bytes = base64_decode(&text).ok_or("`data_base64` is no base64 (E1007)")?;
                data = Some(Bytes::copy_from_slice(&bytes));
            }
            ("datacontenttype", Json::String(text)) => headers.push(Header::text(CONTENT_TYPE, text)),
            (name, Json::String(text)) => headers.push(Header::text(&format!("ce_{name}"), text)),
            (name, other) => headers.push(Header::text(&format!("ce_{name}"), other.to_string())),
        }
    }
    let kept = record.headers.iter().filter(|header| header.name != CONTENT_TYPE).cloned();
    let headers = Headers::new(headers.into_iter().chain(kept).collect());
    complete(&headers)?;
    Ok(Some(Record { value: data, headers, ..record.clone() }))
}

/// Data of other types may stand in JSON as text (JSON event format, section 3.1.1).
fn says_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.ends_with("/json") || kind.ends_with("+json")
}

fn complete(headers: &Headers) -> Result<(), String> {
    match REQUIRED.iter().find(|name| headers.text(name).is_none()) {
        Some(missing) => Err(format!("the record is no CloudEvent: it has no `{missing}` (E1007)")),
        None if headers.text(REQUIRED[0]).is_some_and(|version| !version.starts_with("1.")) => {
            Err("the record is a CloudEvent of another version than 1 (E1007)".to_owned())
        }
        None => Ok(()),
    }
}

/// The headers of an event that is written.
pub(super) fn headers(id: String, source: String, kind: &str, time: Value, lineage: &Headers) -> Headers {
    let time = if let Value::DateTime(moment) = time { moment.to_string() } else { String::new() };
    let own = [
        Header::text(REQUIRED[0], "1.0"),
        Header::text(REQUIRED[1], id),
        Header::text(REQUIRED[2], source),
        Header::text(REQUIRED[3], kind),
        Header::text("ce_time", time),
    ];
    Headers::new(own.into_iter().chain(lineage.iter().cloned()).collect())
}

/// One JSON object of an event's headers and its data (JSON event format 1.0.2), and the headers that the record has with it.
pub(super) fn structured(event: &Headers, format: ValueFormat, data: &[u8]) -> (Bytes, Headers) {
    let quoted = |text: &str| Json::from(text).to_string();
    let attributes = event.iter().filter_map(|header| {
        let name = header.name.strip_prefix("ce_")?;
        let value = std::str::from_utf8(header.value.as_ref()?).ok()?;
        Some(format!("{}:{}", quoted(name), quoted(value)))
    });
    let kind = |kind: &str| format!("\"datacontenttype\":\"{kind}\"");
    let (kind, data) = match format {
        ValueFormat::Json => (kind("application/json"), format!("\"data\":{}", String::from_utf8_lossy(data))),
        ValueFormat::String => (kind("text/plain"), format!("\"data\":{}", quoted(&String::from_utf8_lossy(data)))),
        ValueFormat::Avro | ValueFormat::Long | ValueFormat::Int | ValueFormat::Double | ValueFormat::Bytes => {
            (kind("application/octet-stream"), format!("\"data_base64\":\"{}\"", base64_encode(data)))
        }
    };
    let members: Vec<String> = attributes.chain([kind, data]).collect();
    let text = format!("{{{}}}", members.join(","));
    (Bytes::from(text), Headers::new(vec![Header::text(CONTENT_TYPE, STRUCTURED_JSON)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Offset;
    use crate::base::time::Timestamp;

    fn record(headers: &[(&str, &str)], value: Option<&str>) -> Record {
        Record {
            offset: Offset(0),
            timestamp: Timestamp(0),
            key: None,
            value: value.map(|text| Bytes::from(text.to_owned())),
            headers: Headers::new(headers.iter().map(|(name, value)| Header::text(name, *value)).collect()),
        }
    }

    const BINARY: [(&str, &str); 4] =
        [("ce_specversion", "1.0"), ("ce_id", "7"), ("ce_source", "/shop"), ("ce_type", "Placed")];
    const JSON: [(&str, &str); 1] = [("content-type", "application/cloudevents+json; charset=utf-8")];

    #[test]
    fn an_event_in_binary_mode_stays_as_it_is_and_must_be_complete() {
        assert_eq!(opened(&record(&BINARY, Some("{}"))), Ok(None));
        assert_eq!(opened(&record(&[], None)), Ok(None), "a deletion");
        for missing in 0..BINARY.len() {
            let mut headers = BINARY.to_vec();
            let (name, _) = headers.remove(missing);
            let told = opened(&record(&headers, Some("{}"))).unwrap_err();
            assert!(told.contains(&format!("it has no `{name}` (E1007)")), "{told}");
        }
        let old = [("ce_specversion", "0.3"), BINARY[1], BINARY[2], BINARY[3]];
        assert!(opened(&record(&old, Some("{}"))).unwrap_err().contains("another version"));
    }

    #[test]
    fn an_event_in_structured_mode_is_taken_apart() {
        let event = r#"{"specversion": "1.0", "id": "7", "source": "/shop", "type": "Placed", "tries": 3,
            "datacontenttype": "application/json", "data": {"total": 1.5}}"#;
        let opened = opened(&record(&JSON, Some(event))).unwrap().unwrap();
        let header = |name: &str| opened.headers.text(name).unwrap_or("-").to_owned();
        let names = ["ce_id", "ce_source", "ce_type", "ce_tries", "content-type"];
        assert_eq!(names.map(header), ["7", "/shop", "Placed", "3", "application/json"]);
        assert_eq!(opened.value.as_deref(), Some(&br#"{"total":1.5}"#[..]));
    }

    #[test]
    fn text_that_is_no_json_is_the_data_itself() {
        for (kind, data) in
            [("text/plain", "hi"), ("application/json", r#""hi""#), ("application/a+json; v=1", r#""hi""#)]
        {
            let event = format!(
                r#"{{"specversion": "1.0", "id": "7", "source": "/s", "type": "T", "datacontenttype": "{kind}", "data": "hi"}}"#
            );
            let opened = opened(&record(&JSON, Some(&event))).unwrap().unwrap();
            assert_eq!(opened.value.as_deref(), Some(data.as_bytes()), "{kind}");
        }
    }

    #[test]
    fn what_is_written_in_structured_mode_is_read_as_what_binary_mode_says() {
        let lineage = Headers::new(vec![Header::text("ce_causationid", "c \"1\"")]);
        let time = Value::DateTime(Timestamp(0).to_date_time());
        let written = headers("a/b/0/1".to_owned(), "/a/b".to_owned(), "shop.Placed", time, &lineage);
        for (format, data) in [
            (ValueFormat::Json, &br#"{"total":1.5}"#[..]),
            (ValueFormat::String, b"a \"b\""),
            (ValueFormat::Avro, &[0, 0, 0, 0, 1, 255]),
            (ValueFormat::Bytes, &[]),
        ] {
            let (value, with) = structured(&written, format, data);
            let event = Record { value: Some(value), headers: with, ..record(&[], None) };
            let opened = opened(&event).unwrap().unwrap();
            assert_eq!(opened.value.as_deref(), Some(data), "{format:?}");
            for header in written.iter() {
                assert_eq!(opened.headers.text(&header.name), written.text(&header.name), "{format:?}");
            }
        }
    }

    #[test]
    fn what_is_no_event_is_told() {
        for (value, told) in [
            ("[]", "no JSON object"),
            ("{", "no JSON"),
            (r#"{"specversion": "1.0", "id": "7", "source": "/s", "type": "T", "data_base64": "?"}"#, "no base64"),
            (r#"{"specversion": "1.0", "id": "7", "source": "/s"}"#, "`ce_type`"),
        ] {
            let error = opened(&record(&JSON, Some(value))).unwrap_err();
            assert!(error.contains(told) && error.contains("E1007"), "{error}");
        }
    }
}
