//! Keys as people write them, in paths, and as answers show them: text is text, a number a number, a record JSON.

use serde_json::Value as Json;

use crate::avro::from_json;
use crate::avro::json::base64_decode;
use crate::base::value::Value;
use crate::error::codes;
use crate::operator::key_bytes;
use crate::plan::KeyFormat;
use crate::runtime::service::ReadError;

fn invalid(detail: String) -> ReadError {
    ReadError::Invalid { code: codes::READ_INVALID, detail }
}

/// Reads a key of a path.
///
/// # Errors
/// Text that is no key of the format.
pub(super) fn key_of_text(text: &str, format: &KeyFormat) -> Result<Vec<u8>, ReadError> {
    let value = match format {
        KeyFormat::String => Value::text(text),
        KeyFormat::Long => {
            Value::Int(text.parse().map_err(|_| invalid(format!("`{text}` is not a key: it is a whole number")))?)
        }
        KeyFormat::Bytes => Value::Bytes(text.as_bytes().into()),
        KeyFormat::Record(datums) => {
            let no_key =
                |error: String| invalid(format!("`{text}` is not a key: it is `{}` as JSON: {error}", format.name()));
            let json = serde_json::from_str(text).map_err(|error| no_key(error.to_string()))?;
            from_json(&json, datums.schema()).map_err(|error| no_key(error.to_string()))?
        }
    };
    let mut bytes = Vec::new();
    key_bytes(&value, format, &mut bytes).map_err(|error| invalid(error.to_string()))?;
    Ok(bytes)
}

/// Returns the bytes of a key that an answer shows; none where it shows no key of the format.
pub(super) fn key_of_shown(shown: &Json, format: &KeyFormat) -> Option<Vec<u8>> {
    match format {
        KeyFormat::String => shown.as_str().map(|text| text.as_bytes().to_vec()),
        KeyFormat::Long => shown.as_i64().map(|number| number.to_be_bytes().to_vec()),
        KeyFormat::Bytes => shown.as_str().and_then(base64_decode).map(|bytes| bytes.to_vec()),
        KeyFormat::Record(datums) => {
            let value = from_json(shown, datums.schema()).ok()?;
            let mut bytes = Vec::new();
            datums.encode(&value, &mut bytes).ok()?;
            Some(bytes)
        }
    }
}

/// Makes the cursor of a page that ends with this key.
pub(super) fn cursor_of(shown: &Json) -> String {
    shown.as_str().map_or_else(|| shown.to_string(), str::to_owned)
}

/// Returns the key that a page ended with.
///
/// # Errors
/// A cursor that is none of [`cursor_of`]'s.
pub(super) fn key_of_cursor(cursor: &str, format: &KeyFormat) -> Result<Vec<u8>, ReadError> {
    let shown = match format {
        KeyFormat::String | KeyFormat::Bytes => Some(Json::String(cursor.to_owned())),
        KeyFormat::Long | KeyFormat::Record(_) => serde_json::from_str(cursor).ok(),
    };
    let key = shown.and_then(|shown| key_of_shown(&shown, format));
    key.ok_or_else(|| invalid(format!("`{cursor}` is not a cursor of ours")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avro::{Datums, Schema, to_json};
    use crate::operator::key_value;

    #[test]
    fn a_page_goes_on_behind_the_key_that_it_ended_with() {
        let schema = r#"{"type": "record", "name": "K", "fields": [
            {"name": "region", "type": "string"}, {"name": "number", "type": "int"}]}"#;
        let record = KeyFormat::Record(Datums::new(Schema::parse(schema).unwrap()).unwrap());
        for (format, key) in [
            (KeyFormat::String, &b"12"[..]),
            (KeyFormat::Long, &[0, 0, 0, 0, 0, 0, 0, 12]),
            (KeyFormat::Bytes, &[0, 255]),
            (record, b"\x04EU\x0e"),
        ] {
            let shown = to_json(&key_value(Some(key), &format).unwrap(), &format.key_type());
            assert_eq!(key_of_shown(&shown, &format).as_deref(), Some(key), "{}", format.name());
            assert_eq!(key_of_cursor(&cursor_of(&shown), &format).unwrap(), key, "{}", format.name());
        }
        assert!(key_of_cursor("twelve", &KeyFormat::Long).is_err());
    }

    #[test]
    fn a_record_of_a_path_is_json() {
        let schema = r#"{"type": "record", "name": "K", "fields": [{"name": "region", "type": "string"}]}"#;
        let format = KeyFormat::Record(Datums::new(Schema::parse(schema).unwrap()).unwrap());
        assert_eq!(key_of_text(r#"{"region": "EU"}"#, &format).unwrap(), b"\x04EU");
        for wrong in ["EU", r#"{"region": 1}"#, r#"{}"#] {
            let error = key_of_text(wrong, &format).unwrap_err().to_string();
            assert!(error.contains("it is `K` as JSON"), "{error}");
        }
    }
}
