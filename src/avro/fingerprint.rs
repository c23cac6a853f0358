//! A schema as text again: the parsing canonical form, its fingerprint, and the full JSON for schemas that were put together.
//!
//! Source: Avro 1.12 specification, "Parsing Canonical Form for Schemas" and "Schema Fingerprints" (CRC-64-AVRO).

use serde_json::{Map, Value as Json, json};

use crate::avro::schema::{Logical, Named, Node, NodeId, Shape};
use crate::base::value::Text;

/// Returns the parsing canonical form: full names; only `name`, `type`, `fields`, `symbols`, `items`, `values`, `size`, in
/// this order; no white space; a named type in full at its first place only.
pub(crate) fn canonical_form(nodes: &[Node], root: NodeId) -> String {
    let mut writer = Canonical { nodes, defined: vec![false; nodes.len()], out: String::new() };
    writer.write(root);
    writer.out
}

struct Canonical<'a> {
    nodes: &'a [Node],
    defined: Vec<bool>,
    out: String,
}

impl Canonical<'_> {
    fn write(&mut self, id: NodeId) {
        let nodes = self.nodes;
        let node = &nodes[id.index()];
        if let Some(named) = node.named() {
            if std::mem::replace(&mut self.defined[id.index()], true) {
                return self.quoted(&named.name);
            }
            self.out.push_str("{\"name\":");
            self.quoted(&named.name);
        }
        match &node.shape {
            Shape::Array(items) => {
                self.out.push_str("{\"type\":\"array\",\"items\":");
                self.write(*items);
                self.out.push('}');
            }
            Shape::Map(values) => {
                self.out.push_str("{\"type\":\"map\",\"values\":");
                self.write(*values);
                self.out.push('}');
            }
            Shape::Union(branches) => self.list(branches, |writer, branch| writer.write(*branch)),
            Shape::Record(record) => {
                self.out.push_str(",\"type\":\"record\",\"fields\":");
                self.list(&record.fields, |writer, field| {
                    writer.out.push_str("{\"name\":");
                    writer.quoted(&field.name);
                    writer.out.push_str(",\"type\":");
                    writer.write(field.node);
                    writer.out.push('}');
                });
                self.out.push('}');
            }
            Shape::Enum(symbols) => {
                self.out.push_str(",\"type\":\"enum\",\"symbols\":");
                self.list(&symbols.symbols, |writer, symbol| writer.quoted(symbol));
                self.out.push('}');
            }
            Shape::Fixed(fixed) => {
                self.out.push_str(",\"type\":\"fixed\",\"size\":");
                self.out.push_str(&fixed.size.to_string());
                self.out.push('}');
            }
            Shape::Null
            | Shape::Bool
            | Shape::Int
            | Shape::Long
            | Shape::Float
            | Shape::Double
            | Shape::Bytes
            | Shape::String => self.quoted(node.word()),
        }
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.out.push('[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            write(self, item);
        }
        self.out.push(']');
    }

    /// Names and symbols hold nothing that JSON would escape.
    fn quoted(&mut self, text: &str) {
        self.out.push('"');
        self.out.push_str(text);
        self.out.push('"');
    }
}

const CRC64_EMPTY: u64 = 0xC15D_213A_A4D7_A795;

const CRC64_TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (CRC64_EMPTY & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// Returns the CRC-64-AVRO (Rabin) fingerprint of bytes.
pub(crate) fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(CRC64_EMPTY, |crc, byte| (crc >> 8) ^ CRC64_TABLE[((crc ^ u64::from(*byte)) & 0xFF) as usize])
}

/// Returns the whole schema as JSON: docs, aliases, defaults, logical types and custom attributes of named types and fields.
pub(crate) fn full_text(nodes: &[Node], root: NodeId) -> String {
    Full { nodes, defined: vec![false; nodes.len()] }.json(root, "").to_string()
}

struct Full<'a> {
    nodes: &'a [Node],
    defined: Vec<bool>,
}

impl Full<'_> {
    fn json(&mut self, id: NodeId, enclosing: &str) -> Json {
        let nodes = self.nodes;
        let node = &nodes[id.index()];
        if let Some(named) = node.named()
            && std::mem::replace(&mut self.defined[id.index()], true)
        {
            return Json::String(reference(&named.name, enclosing));
        }
        let mut object = Map::new();
        match &node.shape {
            Shape::Union(branches) => {
                return Json::Array(branches.iter().map(|branch| self.json(*branch, enclosing)).collect());
            }
            Shape::Array(items) => {
                object.insert("type".into(), "array".into());
                object.insert("items".into(), self.json(*items, enclosing));
            }
            Shape::Map(values) => {
                object.insert("type".into(), "map".into());
                object.insert("values".into(), self.json(*values, enclosing));
            }
            Shape::Record(record) => {
                let namespace = head(&mut object, "record", &record.named, enclosing);
                let fields = record.fields.iter().map(|field| self.field(field, namespace)).collect();
                object.insert("fields".into(), Json::Array(fields));
            }
            Shape::Enum(symbols) => {
                head(&mut object, "enum", &symbols.named, enclosing);
                object.insert("symbols".into(), texts(symbols.symbols.iter().map(Text::as_str)));
                if let Some(default) = &symbols.default {
                    object.insert("default".into(), default.as_str().into());
                }
            }
            Shape::Fixed(fixed) => {
                head(&mut object, "fixed", &fixed.named, enclosing);
                object.insert("size".into(), json!(fixed.size));
            }
            Shape::Null
            | Shape::Bool
            | Shape::Int
            | Shape::Long
            | Shape::Float
            | Shape::Double
            | Shape::Bytes
            | Shape::String => {
                if node.logical.is_none() {
                    return node.word().into();
                }
                object.insert("type".into(), node.word().into());
            }
        }
        if let Some(logical) = node.logical {
            object.insert("logicalType".into(), logical_word(logical).into());
            if let Logical::Decimal { precision, scale } = logical {
                object.insert("precision".into(), precision.into());
                object.insert("scale".into(), scale.into());
            }
        }
        Json::Object(object)
    }

    fn field(&mut self, field: &crate::avro::schema::FieldNode, namespace: &str) -> Json {
        let mut object = Map::new();
        object.insert("name".into(), field.name.as_str().into());
        object.insert("type".into(), self.json(field.node, namespace));
        if let Some(default) = &field.default {
            object.insert("default".into(), default.clone());
        }
        if let Some(doc) = &field.doc {
            object.insert("doc".into(), doc.as_str().into());
        }
        if !field.aliases.is_empty() {
            object.insert("aliases".into(), texts(field.aliases.iter().map(Text::as_str)));
        }
        object.extend(field.attributes.iter().map(|(key, value)| (key.clone(), value.clone())));
        Json::Object(object)
    }
}

/// Writes what a named type begins with and returns its namespace.
fn head<'a>(object: &mut Map<String, Json>, kind: &str, named: &'a Named, enclosing: &str) -> &'a str {
    let (namespace, name) = split(&named.name);
    object.insert("type".into(), kind.into());
    object.insert("name".into(), name.into());
    if !(namespace.is_empty() && enclosing.is_empty()) {
        object.insert("namespace".into(), namespace.into());
    }
    if let Some(doc) = &named.doc {
        object.insert("doc".into(), doc.as_str().into());
    }
    if !named.aliases.is_empty() {
        let aliases = named.aliases.iter().map(|alias| Json::String(reference(alias, namespace))).collect();
        object.insert("aliases".into(), Json::Array(aliases));
    }
    object.extend(named.attributes.iter().map(|(key, value)| (key.clone(), value.clone())));
    namespace
}

/// How a full name is written inside `enclosing`: a name without namespace needs a leading dot to stay so.
fn reference(full_name: &str, enclosing: &str) -> String {
    if full_name.contains('.') || enclosing.is_empty() { full_name.to_owned() } else { format!(".{full_name}") }
}

/// Splits a full name into namespace, empty for none, and name.
pub(crate) fn split(full_name: &str) -> (&str, &str) {
    full_name.rsplit_once('.').unwrap_or(("", full_name))
}

fn texts<'a>(items: impl Iterator<Item = &'a str>) -> Json {
    Json::Array(items.map(Json::from).collect())
}

fn logical_word(logical: Logical) -> &'static str {
    match logical {
        Logical::Decimal { .. } => "decimal",
        Logical::Uuid => "uuid",
        Logical::Date => "date",
        Logical::TimeMillis => "time-millis",
        Logical::TimeMicros => "time-micros",
        Logical::TimestampMillis => "timestamp-millis",
        Logical::TimestampMicros => "timestamp-micros",
        Logical::TimestampNanos => "timestamp-nanos",
        Logical::LocalTimestampMillis => "local-timestamp-millis",
        Logical::LocalTimestampMicros => "local-timestamp-micros",
        Logical::LocalTimestampNanos => "local-timestamp-nanos",
        Logical::Duration => "duration",
    }
}
