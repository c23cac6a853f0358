//! The frozen schema graph: what a schema's text says, with every reference followed.
//!
//! Nodes stand in one list and refer to each other by index, so recursive types need no special case and a clone is one
//! reference count. `apache-avro`'s parser reads the text and judges names, symbols and unions; fields' defaults and aliases
//! are judged here, because that parser refuses some that the specification allows.
//!
//! Invariant: every index in the graph is in range; every default fits its field.
//! Not here: how two schemas compare (`resolve`), the canonical form (`fingerprint`), schemas made of types (`derive`).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use apache_avro::schema::{
    Alias, EnumSchema, FixedSchema, InnerDecimalSchema, Name, RecordSchema, Schema as Parsed, UuidSchema,
};
use serde_json::Value as Json;
use thiserror::Error;

use crate::avro::{defaults, fingerprint, value_type};
use crate::base::types::{Field, Type};
use crate::base::value::{Text, Value};
use crate::error::{Code, Kind, codes};
use crate::limits::SCHEMA_DEPTH_MAX;

/// A schema. Cheap to clone; equal when the texts are.
#[derive(Clone)]
pub struct Schema {
    graph: Arc<Graph>,
}

struct Graph {
    text: String,
    canonical: String,
    fingerprint: u64,
    nodes: Vec<Node>,
    root: NodeId,
    value_type: Type,
}

/// A node's place in its schema's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(u32);

impl NodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One type of a schema.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) shape: Shape,
    /// None for logical types that the specification does not know or that stand on a wrong type: those are ignored.
    pub(crate) logical: Option<Logical>,
}

/// How a datum stands in bytes.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Null,
    Bool,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record(RecordNode),
    Enum(EnumNode),
    Fixed(FixedNode),
}

/// What the bytes mean beyond their shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logical {
    Decimal { precision: u32, scale: u32 },
    Uuid,
    Date,
    TimeMillis,
    TimeMicros,
    TimestampMillis,
    TimestampMicros,
    TimestampNanos,
    LocalTimestampMillis,
    LocalTimestampMicros,
    LocalTimestampNanos,
    Duration,
}

/// What record, enum and fixed have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named {
    /// Full name.
    pub(crate) name: Text,
    /// Full names.
    pub(crate) aliases: Vec<Text>,
    pub(crate) doc: Option<String>,
    pub(crate) attributes: BTreeMap<String, Json>,
}

#[derive(Clone, Debug)]
pub(crate) struct RecordNode {
    pub(crate) named: Named,
    pub(crate) fields: Vec<FieldNode>,
}

#[derive(Clone, Debug)]
pub(crate) struct FieldNode {
    pub(crate) name: Text,
    pub(crate) aliases: Vec<Text>,
    pub(crate) doc: Option<String>,
    pub(crate) node: NodeId,
    pub(crate) default: Option<Json>,
    /// The default as a value of the field's type, once all nodes are known.
    pub(crate) default_value: Option<Value>,
    pub(crate) attributes: BTreeMap<String, Json>,
}

#[derive(Clone, Debug)]
pub(crate) struct EnumNode {
    pub(crate) named: Named,
    pub(crate) symbols: Vec<Text>,
    pub(crate) default: Option<Text>,
}

#[derive(Clone, Debug)]
pub(crate) struct FixedNode {
    pub(crate) named: Named,
    pub(crate) size: usize,
}

/// What a union's values look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnionForm {
    /// Null and one other type: no wrapper.
    Optional { null: usize, some: usize },
    /// One type: no wrapper.
    Single,
    /// Anything else: `Value::Union`.
    General,
}

/// Why a schema could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SchemaError {
    /// Not JSON, or not a schema; the parser's words.
    #[error("the schema does not parse: {message}")]
    Syntax { message: String },
    #[error("`{name}` is defined more than once")]
    Duplicate { name: String },
    #[error("type `{name}` is not defined")]
    Unknown { name: String },
    #[error("the default of field `{field}` of `{record}` does not fit its type: {message}")]
    Default { record: String, field: String, message: String },
    #[error("the schema is nested more than {max} deep")]
    TooDeep { max: usize },
    /// Only from [`Schema::record_of`].
    #[error("field `{field}`: {message}")]
    NoAvroType { field: String, message: String },
}

impl SchemaError {
    /// A schema is part of the settings.
    pub fn kind(&self) -> Kind {
        Kind::Config
    }

    /// The page that explains it.
    pub fn code(&self) -> Code {
        codes::SCHEMA_SYNTAX
    }
}

impl Schema {
    /// Parses one self-contained schema.
    ///
    /// # Errors
    /// The text is not a schema, defines a name twice, refers to one it does not define, or has a default that does not fit.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let mut json: Json = serde_json::from_str(text).map_err(syntax)?;
        set_aside(&mut json);
        let parsed = Parsed::parse(&json).map_err(syntax)?;
        let mut definitions = HashMap::new();
        collect_definitions(&parsed, &mut definitions)?;
        build(&parsed, &definitions, Some(text))
    }

    /// Parses schemas of named types that may refer to each other by full name, in any order; returns them in that order.
    ///
    /// # Errors
    /// As [`Schema::parse`], over all the texts.
    pub fn parse_list(texts: &[&str]) -> Result<Vec<Self>, SchemaError> {
        let mut prepared = Vec::new();
        for text in texts {
            let mut json: Json = serde_json::from_str(text).map_err(syntax)?;
            set_aside(&mut json);
            prepared.push(json.to_string());
        }
        let parsed = Parsed::parse_list(&prepared).map_err(syntax)?;
        let mut definitions = HashMap::new();
        for schema in &parsed {
            collect_definitions(schema, &mut definitions)?;
        }
        let own_text = |index: usize| Parsed::parse_str(&prepared[index]).is_ok().then_some(texts[index]);
        parsed.iter().enumerate().map(|(index, schema)| build(schema, &definitions, own_text(index))).collect()
    }

    /// Makes a record schema for rows whose fields have these types, in this order.
    ///
    /// `bool`→boolean, `int`→long, `double`→double, `string`→string, `bytes`→bytes, `timestamp`→timestamp-micros,
    /// `duration`→time-micros (the one Avro type that reads back as a duration; longer than a day and negative ones are kept
    /// too), `decimal`→bytes decimal, `enum`→enum, `list`→array, `map`→map, `record`→record (defined once, then by name),
    /// `optional(T)`→`["null", T]` with default null, a union→union; the null of an optional union is its last branch.
    /// Moments and durations are rounded down to microseconds when encoded.
    ///
    /// # Errors
    /// A name is not one that Avro allows, two different types have one name, a field stands twice, or a type has no Avro
    /// counterpart (`uint`).
    pub fn record_of(full_name: &str, fields: &[(Text, Type)]) -> Result<Self, SchemaError> {
        crate::avro::derive::record_of(full_name, fields)
    }

    /// Returns the schema as JSON that needs no other schema: the text it was parsed from when that is so.
    pub fn text(&self) -> &str {
        &self.graph.text
    }

    /// Returns the full name of a record, enum or fixed: `flights.FlightDeparted`.
    pub fn full_name(&self) -> Option<&str> {
        self.root_node().named().map(|named| named.name.as_str())
    }

    /// Returns the full names that a record, enum or fixed is also known by.
    pub fn aliases(&self) -> &[Text] {
        self.root_node().named().map_or(&[], |named| named.aliases.as_slice())
    }

    /// Returns the documentation of a record, enum or fixed.
    pub fn doc(&self) -> Option<&str> {
        self.root_node().named().and_then(|named| named.doc.as_deref())
    }

    /// Returns the documentation of a record's field.
    pub fn field_doc(&self, field: usize) -> Option<&str> {
        let Shape::Record(record) = &self.root_node().shape else { return None };
        record.fields.get(field).and_then(|field| field.doc.as_deref())
    }

    /// Returns the CRC-64-AVRO fingerprint of the parsing canonical form.
    pub fn fingerprint(&self) -> u64 {
        self.graph.fingerprint
    }

    /// Returns the parsing canonical form: names, shapes and symbols only.
    pub fn canonical_form(&self) -> &str {
        &self.graph.canonical
    }

    /// Returns the type of the values that the schema describes.
    pub fn value_type(&self) -> Type {
        self.graph.value_type.clone()
    }

    /// Returns a record's fields in order; none for another type.
    pub fn fields(&self) -> &[Field] {
        if let Type::Record(record) = &self.graph.value_type { record.fields() } else { &[] }
    }

    /// Returns the position of a record's field.
    pub fn field_index(&self, name: &str) -> Option<usize> {
        self.fields().iter().position(|field| field.name == name)
    }

    pub(crate) fn root(&self) -> NodeId {
        self.graph.root
    }

    pub(crate) fn root_node(&self) -> &Node {
        self.node(self.graph.root)
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.graph.nodes[id.index()]
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.graph.nodes
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.graph.text)
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.graph, &other.graph) || self.graph.text == other.graph.text
    }
}

impl Node {
    pub(crate) fn named(&self) -> Option<&Named> {
        match &self.shape {
            Shape::Record(record) => Some(&record.named),
            Shape::Enum(symbols) => Some(&symbols.named),
            Shape::Fixed(fixed) => Some(&fixed.named),
            Shape::Null
            | Shape::Bool
            | Shape::Int
            | Shape::Long
            | Shape::Float
            | Shape::Double
            | Shape::Bytes
            | Shape::String
            | Shape::Array(_)
            | Shape::Map(_)
            | Shape::Union(_) => None,
        }
    }

    /// The word that messages use: the name of a named type, else Avro's word.
    pub(crate) fn word(&self) -> &str {
        match &self.shape {
            Shape::Null => "null",
            Shape::Bool => "boolean",
            Shape::Int => "int",
            Shape::Long => "long",
            Shape::Float => "float",
            Shape::Double => "double",
            Shape::Bytes => "bytes",
            Shape::String => "string",
            Shape::Array(_) => "array",
            Shape::Map(_) => "map",
            Shape::Union(_) => "union",
            Shape::Record(record) => &record.named.name,
            Shape::Enum(symbols) => &symbols.named.name,
            Shape::Fixed(fixed) => &fixed.named.name,
        }
    }
}

/// Decides what the values of a union of these branches look like.
pub(crate) fn union_form(nodes: &[Node], branches: &[NodeId]) -> UnionForm {
    let is_null = |branch: NodeId| matches!(nodes[branch.index()].shape, Shape::Null);
    match branches {
        [_] => UnionForm::Single,
        [first, second] if is_null(*first) != is_null(*second) => {
            let null = usize::from(is_null(*second));
            UnionForm::Optional { null, some: 1 - null }
        }
        _ => UnionForm::General,
    }
}

/// What the parser judges otherwise than the specification, and the names under which it passes, among a field's custom
/// attributes: defaults; and aliases, which it does not let be the name of a later field.
const ASIDE: [(&str, &str); 2] = [("default", DEFAULT_ASIDE), ("aliases", ALIASES_ASIDE)];
const DEFAULT_ASIDE: &str = "tidemill-default";
const ALIASES_ASIDE: &str = "tidemill-aliases";

fn syntax(error: impl fmt::Display) -> SchemaError {
    SchemaError::Syntax { message: error.to_string() }
}

fn set_aside(json: &mut Json) {
    match json {
        Json::Array(branches) => branches.iter_mut().for_each(set_aside),
        Json::Object(object) => {
            for key in ["type", "items", "values"] {
                if let Some(inner) = object.get_mut(key) {
                    set_aside(inner);
                }
            }
            let Some(Json::Array(fields)) = object.get_mut("fields") else { return };
            for field in fields.iter_mut().filter_map(Json::as_object_mut) {
                for (name, aside) in ASIDE {
                    if let Some(value) = field.remove(name) {
                        field.insert(aside.to_owned(), value);
                    }
                }
                if let Some(inner) = field.get_mut("type") {
                    set_aside(inner);
                }
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

type Definitions<'a> = HashMap<String, &'a Parsed>;

fn collect_definitions<'a>(schema: &'a Parsed, definitions: &mut Definitions<'a>) -> Result<(), SchemaError> {
    if let (Some(name), false) = (schema.name(), matches!(schema, Parsed::Ref { .. })) {
        let name = name.fullname(None);
        if let Some(known) = definitions.get(&name) {
            // The parser copies a fixed with a logical type to the places that refer to it.
            let copied = matches!((known, schema), (a, b) if fixed_size(a).is_some() && fixed_size(a) == fixed_size(b));
            return if copied { Ok(()) } else { Err(SchemaError::Duplicate { name }) };
        }
        definitions.insert(name, schema);
    }
    // All kinds that hold no other schema are alike here.
    #[expect(clippy::wildcard_enum_match_arm, reason = "leaves of a foreign enum")]
    match schema {
        Parsed::Array(array) => collect_definitions(&array.items, definitions),
        Parsed::Map(map) => collect_definitions(&map.types, definitions),
        Parsed::Union(union) => union.variants().iter().try_for_each(|branch| collect_definitions(branch, definitions)),
        Parsed::Record(record) => {
            record.fields.iter().try_for_each(|field| collect_definitions(&field.schema, definitions))
        }
        _ => Ok(()),
    }
}

fn fixed_size(schema: &Parsed) -> Option<usize> {
    if let (Shape::Fixed(fixed), _) = leaf(schema)? { Some(fixed.size) } else { None }
}

fn build(parsed: &Parsed, definitions: &Definitions<'_>, text: Option<&str>) -> Result<Schema, SchemaError> {
    let mut builder = Builder { definitions, nodes: Vec::new(), named: HashMap::new() };
    let root = builder.place(parsed, 0)?;
    let mut nodes = builder.nodes;
    defaults::settle(&mut nodes)?;
    let canonical = fingerprint::canonical_form(&nodes, root);
    let text = text.map_or_else(|| fingerprint::full_text(&nodes, root), |text| text.trim().to_owned());
    let value_type = value_type::value_type(&nodes, root);
    let fingerprint = fingerprint::crc64(canonical.as_bytes());
    Ok(Schema { graph: Arc::new(Graph { text, canonical, fingerprint, nodes, root, value_type }) })
}

struct Builder<'a> {
    definitions: &'a Definitions<'a>,
    nodes: Vec<Node>,
    named: HashMap<String, NodeId>,
}

impl Builder<'_> {
    fn place(&mut self, schema: &Parsed, depth: usize) -> Result<NodeId, SchemaError> {
        if depth > SCHEMA_DEPTH_MAX {
            return Err(SchemaError::TooDeep { max: SCHEMA_DEPTH_MAX });
        }
        let full_name = schema.name().map(|name| name.fullname(None));
        if let Some(placed) = full_name.as_ref().and_then(|name| self.named.get(name)) {
            return Ok(*placed);
        }
        if let Parsed::Ref { name } = schema {
            let name = name.fullname(None);
            let Some(definition) = self.definitions.get(&name).copied() else {
                return Err(SchemaError::Unknown { name });
            };
            return self.place(definition, depth);
        }
        // The node is known by name before its parts are placed, so that a recursive type finds itself.
        let id = NodeId(u32::try_from(self.nodes.len()).map_err(syntax)?);
        self.nodes.push(Node { shape: Shape::Null, logical: None });
        if let Some(name) = full_name {
            self.named.insert(name, id);
        }
        let (shape, logical) = match leaf(schema) {
            Some(leaf) => leaf,
            None => (self.branch(schema, depth)?, None),
        };
        self.nodes[id.index()] = Node { shape, logical };
        Ok(id)
    }

    fn branch(&mut self, schema: &Parsed, depth: usize) -> Result<Shape, SchemaError> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "`leaf` took all other kinds of a foreign enum")]
        Ok(match schema {
            Parsed::Array(array) => Shape::Array(self.place(&array.items, depth + 1)?),
            Parsed::Map(map) => Shape::Map(self.place(&map.types, depth + 1)?),
            Parsed::Union(union) => {
                let branches = union.variants().iter().map(|branch| self.place(branch, depth + 1));
                let branches = branches.collect::<Result<Vec<_>, _>>()?;
                if branches.is_empty() {
                    return Err(SchemaError::Syntax { message: "a union has no branches".to_owned() });
                }
                Shape::Union(branches)
            }
            Parsed::Record(record) => self.record(record, depth)?,
            other => return Err(SchemaError::Syntax { message: format!("`{other}` is not a known kind of schema") }),
        })
    }

    fn record(&mut self, record: &RecordSchema, depth: usize) -> Result<Shape, SchemaError> {
        let mut fields = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            let mut attributes = field.custom_attributes.clone();
            let default = attributes.remove(DEFAULT_ASIDE);
            let aliases = match attributes.remove(ALIASES_ASIDE) {
                Some(Json::Array(aliases)) => aliases.iter().filter_map(Json::as_str).map(Text::new).collect(),
                _ => Vec::new(),
            };
            let node = self.place(&field.schema, depth + 1)?;
            fields.push(FieldNode {
                name: Text::new(&field.name),
                aliases,
                doc: field.doc.clone(),
                node,
                default,
                default_value: None,
                attributes,
            });
        }
        let named = named(&record.name, record.aliases.as_deref(), record.doc.as_ref(), &record.attributes);
        Ok(Shape::Record(RecordNode { named, fields }))
    }
}

/// The shape and meaning of a schema that holds no other; none for array, map, union, record and reference.
fn leaf(schema: &Parsed) -> Option<(Shape, Option<Logical>)> {
    Some(match schema {
        Parsed::Null => (Shape::Null, None),
        Parsed::Boolean => (Shape::Bool, None),
        Parsed::Int => (Shape::Int, None),
        Parsed::Long => (Shape::Long, None),
        Parsed::Float => (Shape::Float, None),
        Parsed::Double => (Shape::Double, None),
        Parsed::Bytes | Parsed::BigDecimal | Parsed::Uuid(UuidSchema::Bytes) => (Shape::Bytes, None),
        Parsed::String => (Shape::String, None),
        Parsed::Enum(symbols) => (enum_shape(symbols), None),
        Parsed::Fixed(fixed) => (fixed_shape(fixed), None),
        Parsed::Decimal(decimal) => {
            let shape = match &decimal.inner {
                InnerDecimalSchema::Bytes => Shape::Bytes,
                InnerDecimalSchema::Fixed(fixed) => fixed_shape(fixed),
            };
            (shape, decimal_logical(decimal.precision, decimal.scale))
        }
        Parsed::Uuid(UuidSchema::String) => (Shape::String, Some(Logical::Uuid)),
        Parsed::Uuid(UuidSchema::Fixed(fixed)) => (fixed_shape(fixed), Some(Logical::Uuid)),
        Parsed::Date => (Shape::Int, Some(Logical::Date)),
        Parsed::TimeMillis => (Shape::Int, Some(Logical::TimeMillis)),
        Parsed::TimeMicros => (Shape::Long, Some(Logical::TimeMicros)),
        Parsed::TimestampMillis => (Shape::Long, Some(Logical::TimestampMillis)),
        Parsed::TimestampMicros => (Shape::Long, Some(Logical::TimestampMicros)),
        Parsed::TimestampNanos => (Shape::Long, Some(Logical::TimestampNanos)),
        Parsed::LocalTimestampMillis => (Shape::Long, Some(Logical::LocalTimestampMillis)),
        Parsed::LocalTimestampMicros => (Shape::Long, Some(Logical::LocalTimestampMicros)),
        Parsed::LocalTimestampNanos => (Shape::Long, Some(Logical::LocalTimestampNanos)),
        Parsed::Duration(fixed) => (fixed_shape(fixed), Some(Logical::Duration)),
        Parsed::Array(_) | Parsed::Map(_) | Parsed::Union(_) | Parsed::Record(_) | Parsed::Ref { .. } => return None,
    })
}

/// A precision or scale that no value here could have is not a decimal: the underlying type stands.
fn decimal_logical(precision: usize, scale: usize) -> Option<Logical> {
    let (precision, scale) = (u32::try_from(precision).ok()?, u32::try_from(scale).ok()?);
    Some(Logical::Decimal { precision, scale })
}

fn enum_shape(symbols: &EnumSchema) -> Shape {
    Shape::Enum(EnumNode {
        named: named(&symbols.name, symbols.aliases.as_deref(), symbols.doc.as_ref(), &symbols.attributes),
        symbols: symbols.symbols.iter().map(Text::new).collect(),
        default: symbols.default.as_ref().map(Text::new),
    })
}

fn fixed_shape(fixed: &FixedSchema) -> Shape {
    // Precision and scale stand among the attributes of the parser's fixed; they are the decimal's here.
    let mut attributes = fixed.attributes.clone();
    attributes.remove("precision");
    attributes.remove("scale");
    let named = named(&fixed.name, fixed.aliases.as_deref(), fixed.doc.as_ref(), &attributes);
    Shape::Fixed(FixedNode { named, size: fixed.size })
}

fn named(name: &Name, aliases: Option<&[Alias]>, doc: Option<&String>, attributes: &BTreeMap<String, Json>) -> Named {
    let aliases = aliases.unwrap_or_default();
    Named {
        name: Text::new(name.fullname(None)),
        aliases: aliases.iter().map(|alias| Text::new(alias.fullname(name.namespace()))).collect(),
        doc: doc.cloned(),
        attributes: attributes.clone(),
    }
}

#[cfg(test)]
#[path = "tests/schema.rs"]
mod tests;
