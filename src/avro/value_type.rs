//! Which type of value a schema describes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::avro::schema::{Logical, Node, NodeId, Shape, UnionForm, union_form};
use crate::base::types::{EnumType, Field, RecordType, Type};

/// Returns the type of the values of `root`.
pub(crate) fn value_type(nodes: &[Node], root: NodeId) -> Type {
    Typing { nodes, records: HashMap::new() }.of(root)
}

struct Typing<'a> {
    nodes: &'a [Node],
    /// Records by node, entered before their fields, so that a recursive record meets itself.
    records: HashMap<NodeId, Arc<RecordType>>,
}

impl Typing<'_> {
    fn of(&mut self, id: NodeId) -> Type {
        let nodes = self.nodes;
        let node = &nodes[id.index()];
        if let Some(logical) = node.logical {
            return match logical {
                Logical::Decimal { precision, scale } => Type::Decimal { precision, scale },
                Logical::Uuid => Type::String,
                Logical::TimeMillis | Logical::TimeMicros => Type::TimeDelta,
                Logical::Duration => Type::Bytes,
                Logical::Date
                | Logical::TimestampMillis
                | Logical::TimestampMicros
                | Logical::TimestampNanos
                | Logical::LocalTimestampMillis
                | Logical::LocalTimestampMicros
                | Logical::LocalTimestampNanos => Type::DateTime,
            };
        }
        match &node.shape {
            Shape::Null => Type::Null,
            Shape::Bool => Type::Bool,
            Shape::Int | Shape::Long => Type::Int,
            Shape::Float | Shape::Double => Type::Double,
            Shape::Bytes | Shape::Fixed(_) => Type::Bytes,
            Shape::String => Type::String,
            Shape::Array(items) => Type::List(Arc::new(self.of(*items))),
            Shape::Map(values) => Type::Map(Arc::new(self.of(*values))),
            Shape::Enum(node) => {
                Type::Enum(Arc::new(EnumType { name: node.named.name.clone(), symbols: node.symbols.clone() }))
            }
            Shape::Union(branches) => match union_form(nodes, branches) {
                UnionForm::Optional { some, .. } => Type::Optional(Arc::new(self.of(branches[some]))),
                UnionForm::Single => self.of(branches[0]),
                UnionForm::General => Type::Union(branches.iter().map(|branch| self.of(*branch)).collect()),
            },
            Shape::Record(record) => {
                if let Some(known) = self.records.get(&id) {
                    return Type::Record(known.clone());
                }
                let declared = RecordType::declare(&record.named.name);
                self.records.insert(id, declared.clone());
                let fields = record.fields.iter();
                let fields =
                    fields.map(|field| Field { name: field.name.clone(), field_type: self.of(field.node) }).collect();
                declared.set_fields(fields);
                Type::Record(declared)
            }
        }
    }
}
