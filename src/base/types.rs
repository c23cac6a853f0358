//! The types of values: what schemas map to and what expressions are checked against.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::base::value::Text;

/// The type of a [`Value`](crate::base::value::Value).
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    DateTime,
    TimeDelta,
    Decimal {
        precision: u32,
        scale: u32,
    },
    /// Text that is one of a closed set of symbols.
    Enum(Arc<EnumType>),
    List(Arc<Type>),
    /// A map from text.
    Map(Arc<Type>),
    Record(Arc<RecordType>),
    /// A union of null and one other type.
    Optional(Arc<Type>),
    /// Any other union; branches in the schema's order, null among them where it is one.
    Union(Arc<[Type]>),
}

/// The symbols an enum may have.
#[derive(Debug, PartialEq)]
pub struct EnumType {
    pub name: Text,
    pub symbols: Vec<Text>,
}

/// A record's name and fields. Recursive types refer to themselves, so the fields are set once after the type is made.
#[derive(Debug)]
pub struct RecordType {
    /// Full name, `flights.FlightDeparted`.
    pub name: Text,
    fields: OnceLock<Vec<Field>>,
}

/// A named field of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: Text,
    pub field_type: Type,
}

impl RecordType {
    /// Makes a record type whose fields are known.
    pub fn new(name: impl AsRef<str>, fields: Vec<Field>) -> Arc<Self> {
        Arc::new(Self { name: Text::new(name), fields: OnceLock::from(fields) })
    }

    /// Makes a record type whose fields follow by [`RecordType::set_fields`].
    pub fn declare(name: impl AsRef<str>) -> Arc<Self> {
        Arc::new(Self { name: Text::new(name), fields: OnceLock::new() })
    }

    /// Gives a declared type its fields; a second call changes nothing.
    pub fn set_fields(&self, fields: Vec<Field>) {
        self.fields.get_or_init(|| fields);
    }

    /// Returns the fields in order.
    pub fn fields(&self) -> &[Field] {
        self.fields.get().map_or(&[], Vec::as_slice)
    }

    /// Returns a field and its position.
    pub fn field(&self, name: &str) -> Option<(usize, &Field)> {
        self.fields().iter().enumerate().find(|(_, field)| field.name == name)
    }
}

/// By name and the names of the fields: comparing field types would not end on recursive records.
impl PartialEq for RecordType {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
            || (self.name == other.name
                && self.fields().len() == other.fields().len()
                && self.fields().iter().zip(other.fields()).all(|(a, b)| a.name == b.name))
    }
}

impl Type {
    /// Returns the type without its `Optional` wrapper.
    pub fn required(&self) -> &Self {
        if let Self::Optional(inner) = self { inner } else { self }
    }

    /// Wraps the type in `Optional` unless null is already one of its values.
    #[must_use]
    pub fn optional(self) -> Self {
        if self.allows_null() { self } else { Self::Optional(Arc::new(self)) }
    }

    /// Tells whether null is one of the type's values.
    pub fn allows_null(&self) -> bool {
        match self {
            Self::Null | Self::Optional(_) => true,
            Self::Union(branches) => branches.contains(&Self::Null),
            Self::Bool
            | Self::Int
            | Self::Uint
            | Self::Double
            | Self::String
            | Self::Bytes
            | Self::DateTime
            | Self::TimeDelta
            | Self::Decimal { .. }
            | Self::Enum(_)
            | Self::List(_)
            | Self::Map(_)
            | Self::Record(_) => false,
        }
    }
}

/// Returns a full name without its namespace.
pub fn short_name(full_name: &str) -> &str {
    full_name.rsplit('.').next().unwrap_or(full_name)
}

/// Tells whether a type may be called so: by its full name, or without its namespace.
pub fn is_called(full_name: &str, name: &str) -> bool {
    full_name == name || short_name(full_name) == name
}

impl fmt::Display for Type {
    /// The name that messages use: CEL's where it has one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::DateTime => f.write_str("timestamp"),
            Self::TimeDelta => f.write_str("duration"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision}, {scale})"),
            Self::Enum(symbols) => write!(f, "enum {}", symbols.name),
            Self::List(item) => write!(f, "list({item})"),
            Self::Map(value) => write!(f, "map(string, {value})"),
            Self::Record(record) => write!(f, "record {}", record.name),
            Self::Optional(inner) => write!(f, "optional({inner})"),
            Self::Union(branches) => {
                f.write_str("union(")?;
                for (index, branch) in branches.iter().enumerate() {
                    write!(f, "{}{branch}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
        }
    }
}
