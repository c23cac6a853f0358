//! Values that are no records: their bytes as Kafka's own serializers write them.

use crate::base::value::Value;
use crate::plan::ValueFormat;

/// Reads a value.
///
/// # Errors
/// Says what is wrong with the bytes.
pub fn scalar_value(format: ValueFormat, bytes: &[u8]) -> Result<Value, String> {
    let wrong = |wanted: usize| {
        format!("the value has {} bytes, but `value_format` `{}` takes {wanted}", bytes.len(), format.name())
    };
    match format {
        ValueFormat::String => std::str::from_utf8(bytes)
            .map(Value::text)
            .map_err(|_| "the value is not UTF-8, but `value_format` is `string`".to_owned()),
        ValueFormat::Long => {
            <[u8; 8]>::try_from(bytes).map(|bytes| Value::Int(i64::from_be_bytes(bytes))).map_err(|_| wrong(8))
        }
        ValueFormat::Int => <[u8; 4]>::try_from(bytes)
            .map(|bytes| Value::Int(i64::from(i32::from_be_bytes(bytes))))
            .map_err(|_| wrong(4)),
        ValueFormat::Double => {
            <[u8; 8]>::try_from(bytes).map(|bytes| Value::Double(f64::from_be_bytes(bytes))).map_err(|_| wrong(8))
        }
        ValueFormat::Bytes => Ok(Value::Bytes(bytes.into())),
        ValueFormat::Avro | ValueFormat::Json => Err(format!("values of `{}` are records", format.name())),
    }
}

/// Writes a value behind what is in `out`.
///
/// # Errors
/// Says why the format does not take it.
pub fn scalar_bytes(format: ValueFormat, value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    match (format, value) {
        (ValueFormat::String, Value::String(text)) => out.extend_from_slice(text.as_bytes()),
        (ValueFormat::Long, Value::Int(number)) => out.extend_from_slice(&number.to_be_bytes()),
        (ValueFormat::Int, Value::Int(number)) => match i32::try_from(*number) {
            Ok(number) => out.extend_from_slice(&number.to_be_bytes()),
            Err(_) => return Err(format!("{number} is no int of 4 bytes")),
        },
        (ValueFormat::Double, Value::Double(number)) => out.extend_from_slice(&number.to_be_bytes()),
        (ValueFormat::Bytes, Value::Bytes(bytes)) => out.extend_from_slice(bytes),
        (_, other) => return Err(format!("`{}` does not take {other:?}", format.name())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_kafkas_serializers_write_them() {
        let cases: [(ValueFormat, Value, &[u8]); 6] = [
            (ValueFormat::String, Value::text("é"), &[0xc3, 0xa9]),
            (ValueFormat::Long, Value::Int(-2), &[255, 255, 255, 255, 255, 255, 255, 254]),
            (ValueFormat::Int, Value::Int(258), &[0, 0, 1, 2]),
            (ValueFormat::Double, Value::Double(1.5), &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0]),
            (ValueFormat::Bytes, Value::Bytes([0_u8, 7][..].into()), &[0, 7]),
            (ValueFormat::String, Value::text(""), &[]),
        ];
        for (format, value, bytes) in cases {
            let mut written = Vec::new();
            scalar_bytes(format, &value, &mut written).unwrap();
            assert_eq!(written, bytes, "{format:?}");
            assert_eq!(scalar_value(format, bytes).unwrap(), value, "{format:?}");
        }
    }

    #[test]
    fn what_is_no_value_of_the_format_is_told() {
        assert_eq!(
            scalar_value(ValueFormat::Long, &[1, 2]).unwrap_err(),
            "the value has 2 bytes, but `value_format` `long` takes 8"
        );
        assert!(scalar_value(ValueFormat::String, &[0xff]).unwrap_err().contains("UTF-8"));
        assert!(scalar_bytes(ValueFormat::Int, &Value::Int(1 << 40), &mut Vec::new()).is_err());
        assert!(scalar_bytes(ValueFormat::Long, &Value::Null, &mut Vec::new()).is_err());
    }
}
