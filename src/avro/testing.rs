//! Random schemas, values and evolutions for property tests: the same seed gives the same case anywhere.

use serde_json::{Map, Value as Json, json};

use crate::avro::logical::{self, moment_unit, time_unit, uuid_text};
use crate::avro::schema::{Logical, NodeId, Schema, Shape};
use crate::avro::{defaults, schema};
use crate::base::rng::Rng;
use crate::base::value::{Decimal, Value};

/// A source of test cases.
#[derive(Debug)]
pub(crate) struct Cases {
    rng: Rng,
    names: u32,
}

impl Cases {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), names: 0 }
    }

    pub(crate) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn name(&mut self, stem: &str) -> String {
        self.names += 1;
        format!("{stem}{}", self.names)
    }

    /// A record schema as JSON, with nested, recursive and repeated types.
    pub(crate) fn record(&mut self) -> Json {
        let mut defined = Vec::new();
        let mut record = self.record_type(0, &mut defined);
        if self.rng.chance(1, 2) {
            record["namespace"] = json!("test.cases");
        }
        record
    }

    fn record_type(&mut self, depth: usize, defined: &mut Vec<String>) -> Json {
        let name = self.name("R");
        let mut fields = Vec::new();
        for _ in 0..self.rng.below(if depth == 0 { 9 } else { 4 }) {
            fields.push(json!({"name": self.name("f"), "type": self.any_type(depth + 1, defined)}));
        }
        if self.rng.chance(1, 6) {
            fields.push(json!({"name": self.name("f"), "type": ["null", name], "default": null}));
        }
        defined.push(name.clone());
        json!({"type": "record", "name": name, "fields": fields})
    }

    fn any_type(&mut self, depth: usize, defined: &mut Vec<String>) -> Json {
        let complex = if depth > 3 { 0 } else { 9 };
        match self.rng.below(18 + complex) {
            choice @ 0..=7 => {
                json!(["null", "boolean", "int", "long", "float", "double", "bytes", "string"][choice as usize])
            }
            8 => json!({"type": "long", "logicalType": "timestamp-millis"}),
            9 => json!({"type": "long", "logicalType": "timestamp-micros"}),
            10 => json!({"type": "int", "logicalType": "date"}),
            11 => json!({"type": "int", "logicalType": "time-millis"}),
            12 => json!({"type": "long", "logicalType": "time-micros"}),
            13 => json!({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}),
            14 => json!({"type": "string", "logicalType": "uuid"}),
            15 => json!({"type": "long", "logicalType": "local-timestamp-nanos"}),
            16 => self.fixed_type(),
            17 => self.enum_type(),
            18 => json!({"type": "array", "items": self.any_type(depth + 1, defined)}),
            19 => json!({"type": "map", "values": self.any_type(depth + 1, defined)}),
            20 | 21 => json!(["null", self.non_union(depth + 1, defined)]),
            22 => json!([self.non_union(depth + 1, defined), "null"]),
            23 => self.union_type(depth, defined),
            24 if !defined.is_empty() => {
                let index = self.rng.below(defined.len() as u64) as usize;
                json!(defined[index])
            }
            _ => self.record_type(depth, defined),
        }
    }

    fn non_union(&mut self, depth: usize, defined: &mut Vec<String>) -> Json {
        loop {
            let known = defined.len();
            let candidate = self.any_type(depth, defined);
            if !candidate.is_array() && candidate != json!("null") {
                return candidate;
            }
            defined.truncate(known);
        }
    }

    fn union_type(&mut self, depth: usize, defined: &mut Vec<String>) -> Json {
        let mut branches = vec![json!("long"), json!("string")];
        if self.rng.chance(1, 2) {
            branches.insert(0, json!("null"));
        }
        if self.rng.chance(1, 2) {
            branches.push(json!({"type": "array", "items": self.any_type(depth + 1, defined)}));
        }
        if self.rng.chance(1, 2) {
            branches.push(self.enum_type());
        }
        Json::Array(branches)
    }

    fn fixed_type(&mut self) -> Json {
        let name = self.name("F");
        match self.rng.below(4) {
            0 => json!({"type": "fixed", "name": name, "size": 16, "logicalType": "uuid"}),
            1 => json!({"type": "fixed", "name": name, "size": 12, "logicalType": "duration"}),
            2 => {
                json!({"type": "fixed", "name": name, "size": 9, "logicalType": "decimal", "precision": 18, "scale": 4})
            }
            _ => json!({"type": "fixed", "name": name, "size": self.rng.below(9)}),
        }
    }

    fn enum_type(&mut self) -> Json {
        let symbols: Vec<String> = (0..=self.rng.below(5)).map(|index| format!("S{index}")).collect();
        json!({"type": "enum", "name": self.name("E"), "symbols": symbols})
    }

    /// A value of the schema's type.
    pub(crate) fn value(&mut self, of: &Schema) -> Value {
        self.value_of(of, of.root(), 0)
    }

    fn value_of(&mut self, of: &Schema, id: NodeId, depth: usize) -> Value {
        let node = of.node(id);
        match &node.shape {
            Shape::Null => Value::Null,
            Shape::Bool => Value::Bool(self.rng.chance(1, 2)),
            Shape::Int => logical::from_integer(i64::from(self.integer() as i32), node.logical),
            Shape::Long => {
                let number = self.integer();
                // Half the range: `DateTime` rounds down, and the lowest moment rounds below what an i64 holds.
                let moment = moment_unit(node.logical).is_some() || time_unit(node.logical).is_some();
                logical::from_integer(if moment { number / 2 } else { number }, node.logical)
            }
            Shape::Float => Value::Double(f64::from(self.integer() as f32)),
            Shape::Double => Value::Double(self.integer() as f64 / 1024.0),
            Shape::String if node.logical == Some(Logical::Uuid) => {
                Value::String(uuid_text(self.bytes(16).try_into().unwrap()))
            }
            Shape::String => self.text(),
            Shape::Bytes | Shape::Fixed(_) => {
                let size = if let Shape::Fixed(fixed) = &node.shape { fixed.size } else { self.rng.below(40) as usize };
                match node.logical {
                    Some(Logical::Decimal { precision, scale }) => {
                        let limit = 10_i64.pow(precision);
                        let unscaled = i128::from(self.integer() % limit);
                        Value::Decimal(Decimal { unscaled, scale }.into())
                    }
                    Some(Logical::Uuid) => Value::String(uuid_text(self.bytes(16).try_into().unwrap())),
                    _ => Value::Bytes(self.bytes(size).into()),
                }
            }
            Shape::Enum(symbols) => {
                let index = self.rng.below(symbols.symbols.len() as u64) as usize;
                Value::String(symbols.symbols[index].clone())
            }
            Shape::Array(item) => {
                let count = if depth > 4 { 0 } else { self.rng.below(4) };
                Value::List((0..count).map(|_| self.value_of(of, *item, depth + 1)).collect())
            }
            Shape::Map(value) => {
                let count = if depth > 4 { 0 } else { self.rng.below(4) };
                let entries =
                    (0..count).map(|index| (Value::text(format!("k{index}")), self.value_of(of, *value, depth + 1)));
                Value::Map(entries.collect())
            }
            Shape::Union(branches) => {
                let mut branch = self.rng.below(branches.len() as u64) as usize;
                let null = branches.iter().position(|branch| matches!(of.node(*branch).shape, Shape::Null));
                if depth > 4 {
                    branch = null.unwrap_or(0);
                }
                let value = self.value_of(of, branches[branch], depth + 1);
                defaults::in_union(schema::union_form(of.nodes(), branches), branch, value)
            }
            Shape::Record(record) => {
                Value::Record(record.fields.iter().map(|field| self.value_of(of, field.node, depth + 1)).collect())
            }
        }
    }

    /// Small, large and extreme numbers alike.
    fn integer(&mut self) -> i64 {
        let wide = self.rng.next_u64() as i64;
        wide >> self.rng.below(64)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.rng.next_u64() as u8).collect()
    }

    fn text(&mut self) -> Value {
        let length = self.rng.below(40);
        let alphabet: Vec<char> = "abc XYZ09-äß€𝄞".chars().collect();
        Value::text((0..length).map(|_| alphabet[self.rng.below(alphabet.len() as u64) as usize]).collect::<String>())
    }

    /// A schema that can read what `writer` writes, some steps later.
    ///
    /// What was renamed has its old name with `_renamed` (fields) or `Renamed` (the record) after it, and as an alias.
    pub(crate) fn evolve(&mut self, writer: &Json) -> Json {
        let mut reader = writer.clone();
        self.evolve_type(&mut reader);
        let old = writer["name"].as_str().unwrap();
        // A record that refers to itself keeps its name.
        let refers_to_itself = writer["fields"].to_string().contains(&format!("\"{old}\""));
        if self.rng.chance(1, 4) && !refers_to_itself {
            reader["aliases"] = json!([old]);
            reader["name"] = json!(format!("{old}Renamed"));
        }
        reader
    }

    fn evolve_type(&mut self, json: &mut Json) {
        match json {
            Json::String(word) => {
                let wider: &[&str] = match word.as_str() {
                    "int" => &["long", "float", "double"],
                    "long" => &["float", "double"],
                    "float" => &["double"],
                    "string" => &["bytes"],
                    "bytes" => &["string"],
                    _ => return,
                };
                if self.rng.chance(1, 3) {
                    *word = wider[self.rng.below(wider.len() as u64) as usize].to_owned();
                }
            }
            Json::Object(object) => self.evolve_object(object),
            // Branches of a union are left alone: two of them might become one.
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) => {}
        }
    }

    fn evolve_object(&mut self, object: &mut Map<String, Json>) {
        match object["type"].as_str() {
            Some("record") => self.evolve_record(object),
            Some("array") => self.evolve_type(&mut object["items"]),
            Some("map") => self.evolve_type(&mut object["values"]),
            Some("enum") => {
                let symbols = object["symbols"].as_array_mut().unwrap();
                if self.rng.chance(1, 3) {
                    symbols.insert(0, json!("NEW"));
                }
                if self.rng.chance(1, 3) && symbols.len() > 1 {
                    symbols.pop();
                    let default = symbols[0].clone();
                    object.insert("default".to_owned(), default);
                }
            }
            _ => {}
        }
    }

    fn evolve_record(&mut self, object: &mut Map<String, Json>) {
        let fields = object["fields"].as_array_mut().unwrap();
        for field in fields.iter_mut() {
            if self.rng.chance(1, 3) && field.get("default").is_none() {
                self.evolve_type(&mut field["type"]);
            }
            let plain = !field["type"].is_array() && field["type"] != json!("null");
            if self.rng.chance(1, 8) && plain && field.get("default").is_none() {
                field["type"] = json!(["null", field["type"]]);
            }
            if self.rng.chance(1, 4) {
                let old = field["name"].as_str().unwrap().to_owned();
                field["name"] = json!(format!("{old}_renamed"));
                field["aliases"] = json!([old]);
            }
        }
        if self.rng.chance(1, 3) {
            let added = [
                json!({"name": "added", "type": "int", "default": -7}),
                json!({"name": "added", "type": ["null", "string"], "default": null}),
                json!({"name": "added", "type": {"type": "array", "items": "double"}, "default": [1.5, 2]}),
                json!({"name": "added", "type": "string", "default": "a default that is longer than 24 bytes"}),
                json!({"name": "added", "type": ["long", "null"], "default": 12}),
            ];
            let index = self.rng.below(fields.len() as u64 + 1) as usize;
            fields.insert(index, added[self.rng.below(5) as usize].clone());
        }
        if self.rng.chance(1, 3) && !fields.is_empty() {
            let removed = self.rng.below(fields.len() as u64) as usize;
            // A field that defines what another refers to stays.
            if fields[removed]["type"].is_string() {
                fields.remove(removed);
            }
        }
        if self.rng.chance(1, 3) && fields.iter().all(|field| field["type"].is_string()) {
            fields.reverse();
        }
    }
}
