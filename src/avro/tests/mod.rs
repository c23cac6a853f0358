//! Properties of the whole: plans against `apache-avro` and against each other, round trips, hostile bytes.

#![expect(deprecated, reason = "the short way to apache-avro's reader; its speed does not matter here")]

use apache_avro::types::Value as Theirs;
use apache_avro::{Schema as TheirSchema, from_avro_datum};
use proptest::prelude::*;

use crate::avro::schema::{NodeId, Shape, union_form};
use crate::avro::testing::Cases;
use crate::avro::{DecodePlan, Encoder, Schema, can_read, defaults, from_json, logical, to_json};
use crate::base::value::Value;
use crate::limits::EMPTY_ITEMS_MAX;

fn parse(json: &serde_json::Value) -> Schema {
    Schema::parse(&json.to_string()).unwrap_or_else(|error| panic!("{error}: {json}"))
}

fn encoded(schema: &Schema, value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::compile(schema).encode_value(value, &mut bytes).unwrap_or_else(|error| panic!("{error}: {value:?}"));
    bytes
}

/// A value of `apache-avro`'s as ours.
fn ours(theirs: &Theirs, schema: &Schema, id: NodeId) -> Value {
    let node = schema.node(id);
    match (theirs, &node.shape) {
        (Theirs::Null, _) => Value::Null,
        (Theirs::Boolean(truth), _) => Value::Bool(*truth),
        (Theirs::Int(number) | Theirs::Date(number) | Theirs::TimeMillis(number), _) => {
            logical::from_integer(i64::from(*number), node.logical)
        }
        (
            Theirs::Long(number)
            | Theirs::TimeMicros(number)
            | Theirs::TimestampMillis(number)
            | Theirs::TimestampMicros(number)
            | Theirs::LocalTimestampNanos(number),
            _,
        ) => logical::from_integer(*number, node.logical),
        (Theirs::Float(number), _) => Value::Double(f64::from(*number)),
        (Theirs::Double(number), _) => Value::Double(*number),
        (Theirs::Bytes(bytes) | Theirs::Fixed(_, bytes), _) => logical::from_bytes(bytes, node).unwrap(),
        (Theirs::Decimal(decimal), _) => {
            logical::from_bytes(&Vec::<u8>::try_from(decimal.clone()).unwrap(), node).unwrap()
        }
        (Theirs::Duration(duration), _) => Value::Bytes(<[u8; 12]>::from(*duration).as_slice().into()),
        (Theirs::Uuid(uuid), _) => Value::text(uuid.to_string()),
        (Theirs::String(text) | Theirs::Enum(_, text), _) => Value::text(text),
        (Theirs::Array(items), Shape::Array(item)) => {
            Value::List(items.iter().map(|theirs| ours(theirs, schema, *item)).collect())
        }
        (Theirs::Map(entries), Shape::Map(of)) => {
            let mut entries: Vec<_> =
                entries.iter().map(|(key, theirs)| (Value::text(key), ours(theirs, schema, *of))).collect();
            entries.sort_by(|(a, _), (b, _)| a.order(b));
            Value::Map(entries.into())
        }
        (Theirs::Union(branch, theirs), Shape::Union(branches)) => {
            let branch = *branch as usize;
            defaults::in_union(union_form(schema.nodes(), branches), branch, ours(theirs, schema, branches[branch]))
        }
        (Theirs::Record(fields), Shape::Record(record)) => {
            let fields = record.fields.iter().zip(fields);
            Value::Record(fields.map(|(field, (_, theirs))| ours(theirs, schema, field.node)).collect())
        }
        (theirs, shape) => panic!("{theirs:?} as {shape:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_value_survives_encoding_and_decoding(seed in any::<u64>()) {
        let mut cases = Cases::new(seed);
        let schema = parse(&cases.record());
        let value = cases.value(&schema);
        let bytes = encoded(&schema, &value);
        let plan = DecodePlan::whole(&schema, &schema).unwrap();
        prop_assert_eq!(plan.decode_value(&bytes), Ok(value.clone()));
        let theirs = from_avro_datum(&TheirSchema::parse_str(schema.text()).unwrap(), &mut bytes.as_slice(), None);
        prop_assert_eq!(ours(&theirs.unwrap(), &schema, schema.root()), value);
    }

    #[test]
    fn a_schema_put_together_again_is_the_same_schema(seed in any::<u64>()) {
        let schema = parse(&Cases::new(seed).record());
        let theirs = TheirSchema::parse_str(schema.text()).unwrap();
        // Theirs leaves an object where a logical type stood on a primitive, and a decimal's digits; the specification wants
        // the name only.
        let digits = ["precision\":12,\"scale\":2", "precision\":18,\"scale\":4"];
        let form = digits.iter().fold(theirs.canonical_form(), |form, digits| form.replace(&format!(",\"{digits}"), ""));
        let theirs = ["int", "long", "bytes", "string"].iter().fold(form, |form, word| {
            form.replace(&format!("{{\"type\":\"{word}\"}}"), &format!("\"{word}\""))
        });
        prop_assert_eq!(schema.canonical_form(), theirs);
        let again = Schema::parse(&crate::avro::fingerprint::full_text(schema.nodes(), schema.root())).unwrap();
        prop_assert_eq!(schema.canonical_form(), again.canonical_form());
        prop_assert_eq!(schema.fingerprint(), again.fingerprint());
        prop_assert_eq!(schema.value_type(), again.value_type());
        prop_assert_eq!(can_read(&again, &schema), vec![]);
    }

    #[test]
    fn a_plan_reads_what_the_reference_reads(seed in any::<u64>()) {
        let mut cases = Cases::new(seed);
        let writer_json = cases.record();
        let reader_json = cases.evolve(&writer_json);
        let (writer, reader) = (parse(&writer_json), parse(&reader_json));
        let bytes = encoded(&writer, &cases.value(&writer));
        let mine = DecodePlan::whole(&writer, &reader).unwrap().decode_value(&bytes);
        // Theirs knows no aliases of fields: it gets the schema without the renamings, which has the same values.
        let unrenamed = reader.text().replace("_renamed", "").replace("Renamed", "");
        let (their_writer, their_reader) =
            (TheirSchema::parse_str(writer.text()).unwrap(), TheirSchema::parse_str(&unrenamed).unwrap());
        match from_avro_datum(&their_writer, &mut bytes.as_slice(), Some(&their_reader)) {
            Ok(theirs) => prop_assert_eq!(mine, Ok(ours(&theirs, &reader, reader.root()))),
            // Theirs refuses a decimal written in fewer bytes than its precision may need.
            Err(_) if writer.text().contains("decimal") => {}
            Err(error) => prop_assert!(mine.is_err(), "{} but {:?}", error, mine),
        }
    }

    #[test]
    fn wanted_fields_are_the_fields_of_the_whole(seed in any::<u64>()) {
        let mut cases = Cases::new(seed);
        let writer_json = cases.record();
        let reader_json = cases.evolve(&writer_json);
        let (writer, reader) = (parse(&writer_json), parse(&reader_json));
        prop_assert!(can_read(&reader, &writer).is_empty());
        let bytes = encoded(&writer, &cases.value(&writer));
        let Ok(whole) = DecodePlan::whole(&writer, &reader).unwrap().decode_value(&bytes) else { return Ok(()) };
        let Value::Record(fields) = whole else { panic!("a record is a record") };
        let mut wanted: Vec<usize> = (0..fields.len()).filter(|_| cases.rng().chance(1, 2)).collect();
        if cases.rng().chance(1, 2) {
            wanted.reverse();
        }
        let plan = DecodePlan::compile(&writer, &reader, &wanted).unwrap();
        let mut slots = vec![Value::text("left from before"); wanted.len()];
        prop_assert_eq!(plan.decode(&bytes, &mut slots), Ok(()));
        let expected: Vec<Value> = wanted.iter().map(|index| fields[*index].clone()).collect();
        prop_assert_eq!(slots, expected);
    }

    #[test]
    fn cut_or_changed_bytes_give_an_error_or_a_bounded_value(seed in any::<u64>()) {
        let mut cases = Cases::new(seed);
        let writer_json = cases.record();
        let reader_json = cases.evolve(&writer_json);
        let (writer, reader) = (parse(&writer_json), parse(&reader_json));
        let whole = DecodePlan::whole(&writer, &reader).unwrap();
        let none = DecodePlan::compile(&writer, &reader, &[]).unwrap();
        let bytes = encoded(&writer, &cases.value(&writer));
        for cut in 0..bytes.len() {
            prop_assert!(whole.decode_value(&bytes[..cut]).is_err());
            prop_assert!(none.decode(&bytes[..cut], &mut []).is_err());
        }
        for _ in 0..20 {
            let mut hostile = bytes.clone();
            for _ in 0..=cases.rng().below(3) {
                if !hostile.is_empty() {
                    let at = cases.rng().below(hostile.len() as u64) as usize;
                    hostile[at] = cases.rng().next_u64() as u8;
                }
            }
            let _skipped = none.decode(&hostile, &mut []);
            if let Ok(value) = whole.decode_value(&hostile) {
                let bound = 4096 * (reader.nodes().len() + 1) * (hostile.len() + EMPTY_ITEMS_MAX);
                prop_assert!(value.size_bytes() <= bound);
            }
        }
    }

    #[test]
    fn bytes_of_any_kind_never_panic(seed in any::<u64>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let schema = parse(&Cases::new(seed).record());
        let _value = DecodePlan::whole(&schema, &schema).unwrap().decode_value(&bytes);
        let _skipped = DecodePlan::compile(&schema, &schema, &[]).unwrap().decode(&bytes, &mut []);
    }

    #[test]
    fn a_value_survives_json(seed in any::<u64>()) {
        let mut cases = Cases::new(seed);
        let schema = parse(&cases.record());
        let value = cases.value(&schema);
        let json = to_json(&value, &schema.value_type());
        if let Ok(back) = from_json(&json, &schema) {
            // A union's branches may share one JSON form, and moments beyond year 9999 have none; the JSON stays.
            prop_assert_eq!(to_json(&back, &schema.value_type()), json);
        } else {
            prop_assert!(json.to_string().contains("\"@"), "{}", json);
        }
    }
}
