//! Sinks: under which schema each type of row is written, and whether the row has what the schema asks for.

use super::super::graph::{Nature, NodeId, NodeKind, Rows, Sink, SinkWriter, Variant};
use super::super::parse::is_avro_name;
use super::super::resolve::Item;
use super::super::spec::{SinkKeyWord, SinkSpec};
use super::super::terms::{SinkKey, SubjectNaming, ValueFormat, WindowShape};
use super::{Checker, Made};
use crate::avro::Schema;
use crate::base::diag::suggestion;
use crate::base::ids::Topic;
use crate::base::types::{RecordType, Type};
use crate::base::value::Text;
use crate::error::codes;
use crate::expr::fits;

impl Checker<'_> {
    pub(super) fn sink(&self, item: &Item<'_>, sink: &SinkSpec, from: NodeId) -> Made {
        let input = self.rows(from);
        let topic = Topic::new(&sink.topic.value);
        let format = sink.value_format.map_or(ValueFormat::Avro, |(format, _)| format);
        let schemas = match (format, input.variants.as_slice()) {
            (_, []) => return None,
            (ValueFormat::Avro, [only]) => vec![self.sink_schema(item, sink, only)?],
            (ValueFormat::Avro, several) => self.own_schemas(item, sink, several)?,
            (ValueFormat::Json, rows) => self.json_schemas(sink, rows)?,
            (
                ValueFormat::String | ValueFormat::Long | ValueFormat::Int | ValueFormat::Double | ValueFormat::Bytes,
                rows,
            ) => self.scalar_schemas(sink, format, rows)?,
        };
        let naming =
            if format == ValueFormat::Avro { self.naming(sink, schemas.len())? } else { SubjectNaming::TopicName };
        let mut writers = Vec::with_capacity(schemas.len());
        let mut variants = Vec::with_capacity(schemas.len());
        for (schema, variant) in schemas.into_iter().zip(&input.variants) {
            let columns = self.columns(sink, &schema, variant)?;
            let name = schema.full_name().unwrap_or_default().to_owned();
            variants.push(Variant {
                record: RecordType::new(&name, schema.fields().to_vec()),
                schema: Some(schema.clone()),
                scalar: false,
            });
            writers.push(Some(SinkWriter { subject: naming.subject(&topic, &name), schema, columns }));
        }
        let rows = Rows { variants, nature: Nature::Stream, ..input.clone() };
        let key = self.sink_key(sink, input);
        Some((
            NodeKind::Sink(Sink { from, topic, key, value_format: format, cloud_events: sink.cloud_events, writers }),
            rows,
        ))
    }

    /// How keys are written: as they are inside, or with their window in Kafka Streams' layout.
    fn sink_key(&self, sink: &SinkSpec, input: &Rows) -> SinkKey {
        let place = match sink.key {
            None | Some((SinkKeyWord::Plain, _)) => return SinkKey::Plain,
            Some((SinkKeyWord::Avro, _)) => return SinkKey::Avro,
            Some((SinkKeyWord::Windowed, place)) => place,
        };
        match input.windowed {
            Some(WindowShape::Session { .. }) => SinkKey::EndAndStart,
            Some(WindowShape::Hopping { size, .. }) => SinkKey::Start { length: size },
            Some(WindowShape::Sliding { difference }) => SinkKey::Start { length: difference },
            None => {
                let message = format!("rows of `{}` have no window", sink.from.value);
                let help = "leave `key_format` out: only rows of a windowed aggregate have a window in their key";
                self.error(codes::WINDOW_MISUSE, place, message, help);
                SinkKey::Plain
            }
        }
    }

    /// JSON objects have the rows' own fields, or those that a schema file says.
    fn json_schemas(&self, sink: &SinkSpec, rows: &[Variant]) -> Option<Vec<Schema>> {
        let place = sink.value_format.map_or(sink.topic.place, |(_, place)| place);
        if let (Some(file), [_]) = (&sink.schema, rows) {
            return self.schemas.record(file).map(|(schema, _)| vec![schema]);
        }
        if let Some(file) = &sink.schema {
            let message = format!("`schema` names one record, and `{}` has several", sink.from.value);
            self.error(codes::SINK_SCHEMA, file.place, message, "leave it out to write each row as it is");
            return None;
        }
        let own = |row: &Variant| {
            if row.scalar {
                let message = format!("the rows are {}, and JSON values are objects", row.row_type());
                self.error(codes::SINK_SCHEMA, place, message, "make a record of it: `select = { name = 'value' }`");
                return None;
            }
            let fields: Vec<(Text, Type)> =
                row.fields().iter().map(|field| (field.name.clone(), field.field_type.clone())).collect();
            let made = row.schema.clone().map_or_else(|| Schema::record_of(row.name(), &fields), Ok);
            made.map_err(|error| {
                self.error(codes::SINK_SCHEMA, place, error.to_string(), "give the field a type that Avro has");
            })
            .ok()
        };
        rows.iter().map(own).collect()
    }

    /// A value that is no record is written from the one field of the rows.
    fn scalar_schemas(&self, sink: &SinkSpec, format: ValueFormat, rows: &[Variant]) -> Option<Vec<Schema>> {
        let place = sink.value_format.map_or(sink.topic.place, |(_, place)| place);
        let (name, wanted) = format.scalar()?;
        let one = |row: &Variant| {
            let [only] = row.fields() else {
                let message = format!(
                    "a value of `{}` is one field, and the rows of `{}` have {}",
                    format.name(),
                    sink.from.value,
                    row.fields().len()
                );
                self.error(
                    codes::SINK_SCHEMA,
                    place,
                    message,
                    "leave one in front: `select = { total = 'value.total' }`",
                );
                return None;
            };
            if !fits(&only.field_type, &wanted) {
                let message = format!("`{}` is {}, and `{}` takes {wanted}", only.name, only.field_type, format.name());
                let help =
                    "convert it in `select`; for a field that may be null say what is written then: `.orValue(…)`";
                self.error(codes::SINK_SCHEMA, place, message, help);
                return None;
            }
            Schema::record_of(name, &[(only.name.clone(), wanted.clone())]).ok()
        };
        rows.iter().map(one).collect()
    }

    fn naming(&self, sink: &SinkSpec, types: usize) -> Option<SubjectNaming> {
        match (sink.subjects, types) {
            (Some(SubjectNaming::TopicName), 2..) => {
                let message = format!("`{}` has several types of row: they need a subject each", sink.from.value);
                let help = "`subjects = \"topic_record_name\"`";
                self.error(codes::SINK_SCHEMA, sink.topic.place, message, help);
                None
            }
            (Some(naming), _) => Some(naming),
            (None, 0 | 1) => Some(SubjectNaming::TopicName),
            (None, _) => Some(SubjectNaming::TopicRecordName),
        }
    }

    /// The schema of a sink whose rows have one type: a file, a record made of the row's fields, or the row's own.
    fn sink_schema(&self, item: &Item<'_>, sink: &SinkSpec, row: &Variant) -> Option<Schema> {
        if let Some(record) = &sink.record
            && !record.value.split('.').all(is_avro_name)
        {
            let message = format!("`{}` cannot be a record's name", record.value);
            let help = "names joined by dots, of letters, digits and `_`: `flights.AirportDelay`";
            self.error(codes::NAME_NOT_ALLOWED, record.place, message, help);
            return None;
        }
        match (&sink.schema, &sink.record, &row.schema) {
            (Some(file), record, _) => {
                let (schema, _) = self.schemas.record(file)?;
                let name = schema.full_name().unwrap_or_default();
                if let Some(record) = record.as_ref().filter(|record| record.value != name) {
                    let message = format!("`record` is `{}` and `{}` defines `{name}`", record.value, file.value);
                    self.error(codes::SINK_SCHEMA, record.place, message, "leave `record` out: the schema names it");
                    return None;
                }
                Some(schema)
            }
            (None, Some(record), _) => {
                let fields: Vec<(Text, Type)> =
                    row.fields().iter().map(|field| (field.name.clone(), field.field_type.clone())).collect();
                match Schema::record_of(&record.value, &fields) {
                    Ok(schema) => Some(schema),
                    Err(error) => {
                        let help = "give the field a type that Avro has";
                        self.error(codes::SINK_SCHEMA, record.place, error.to_string(), help);
                        None
                    }
                }
            }
            (None, None, Some(schema)) if !row.scalar => Some(schema.clone()),
            (None, None, _) => {
                let message = format!("`[sink.{}]` does not say what its records are called", item.name.value);
                let help =
                    "add `record = \"flights.AirportDelay\"`: readers know records by it, whatever nodes are called";
                self.error(codes::SINK_SCHEMA, item.name.place, message, help);
                None
            }
        }
    }

    /// Rows of several types are written as their schemas have them.
    fn own_schemas(&self, item: &Item<'_>, sink: &SinkSpec, rows: &[Variant]) -> Option<Vec<Schema>> {
        for (key, said) in [("record", &sink.record), ("schema", &sink.schema)] {
            if let Some(said) = said {
                let message = format!("`{key}` names one record, and `{}` has several", sink.from.value);
                let help = "leave it out to write each as it is, or give all one shape with `select` first";
                self.error(codes::SINK_SCHEMA, said.place, message, help);
                return None;
            }
        }
        let derived: Vec<&str> = rows.iter().filter(|row| row.schema.is_none()).map(Variant::short_name).collect();
        if derived.is_empty() {
            return Some(rows.iter().filter_map(|row| row.schema.clone()).collect());
        }
        let message = format!("`{}` were changed on the way, and have no name as records", derived.join("`, `"));
        let help = "write each by a sink of its own, with `on` in front and `record`, or give all one shape";
        self.error(codes::SINK_SCHEMA, item.name.place, message, help);
        None
    }

    /// Matches the schema's fields with the row's, by name.
    fn columns(&self, sink: &SinkSpec, schema: &Schema, row: &Variant) -> Option<Vec<usize>> {
        let Some(file) = &sink.schema else { return Some((0..row.fields().len()).collect()) };
        let wrong = |message: String, help: String| self.error(codes::SINK_SCHEMA, file.place, message, help);
        let mut sound = true;
        for field in row.fields().iter().filter(|field| schema.field_index(&field.name).is_none()) {
            let known = schema.fields().iter().map(|field| field.name.as_str());
            let message = format!("`{}` has no field `{}`, which the rows have", file.value, field.name);
            wrong(message, format!("{} (or leave it out of `select`)", suggestion(&field.name, known)));
            sound = false;
        }
        let mut columns = Vec::new();
        for field in schema.fields() {
            match row.record.field(&field.name) {
                Some((index, given)) if fits(&given.field_type, &field.field_type) => columns.push(index),
                Some((_, given)) => {
                    let message = format!(
                        "field `{}` of `{}` is {}, and the rows have {}",
                        field.name, file.value, field.field_type, given.field_type
                    );
                    wrong(message, "convert it in `select`, or change the schema".to_owned());
                    sound = false;
                }
                None => {
                    let message = format!("the rows of `{}` have no field `{}`", sink.from.value, field.name);
                    wrong(message, format!("add it to `select`, or take it out of `{}`", file.value));
                    sound = false;
                }
            }
        }
        sound.then_some(columns)
    }
}
