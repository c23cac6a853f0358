//! Random schemas, evolutions of them that may or may not be legal, and data: bytes as any writer may have written them.
//!
//! Made from the schema's JSON alone and by nothing of this crate's, so that both sides are judged. Unlike the generator of the
//! unit tests, this one also makes what the reference library for Rust gets wrong: unions that change, records in unions, types
//! found by alias, defaults of any branch, blocks with sizes, illegal evolutions. What Java and the specification see
//! differently on purpose is not made here: see `docs/avro.md`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};
use tidemill::base::rng::Rng;

pub(super) struct Cases {
    rng: Rng,
    names: u32,
    /// The case's records and enums have a namespace. References are by full name then.
    namespaced: bool,
    /// Full names of what may be referred to.
    defined: Vec<String>,
}

const NAMESPACES: [&str; 2] = ["test.cases", "test.other"];

impl Cases {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let namespaced = rng.chance(1, 2);
        Self { rng, names: 0, namespaced, defined: Vec::new() }
    }

    /// A record schema with nested, recursive and repeated types.
    pub(super) fn schema(&mut self) -> Json {
        self.record(0)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.rng.below(of.len() as u64) as usize]
    }

    /// Begins a named type; returns its object and its full name.
    fn named(&mut self, kind: &str, stem: &str) -> (Map<String, Json>, String) {
        self.names += 1;
        let name = format!("{stem}{}", self.names);
        let mut object = Map::new();
        object.insert("type".into(), json!(kind));
        object.insert("name".into(), json!(name));
        if !self.namespaced {
            return (object, name);
        }
        let namespace = *self.pick(&NAMESPACES);
        object.insert("namespace".into(), json!(namespace));
        (object, format!("{namespace}.{name}"))
    }

    fn record(&mut self, depth: u32) -> Json {
        let (mut object, full) = self.named("record", "R");
        let mut fields = Vec::new();
        for index in 0..self.rng.below(if depth == 0 { 7 } else { 4 }) {
            fields.push(json!({"name": format!("f{index}"), "type": self.any(depth + 1)}));
        }
        if self.rng.chance(1, 8) {
            fields.push(json!({"name": "next", "type": ["null", full]}));
        }
        object.insert("fields".into(), Json::Array(fields));
        self.defined.push(full);
        Json::Object(object)
    }

    fn any(&mut self, depth: u32) -> Json {
        let complex = if depth > 3 { 0 } else { 12 };
        match self.rng.below(15 + complex) {
            choice @ 0..=7 => json!(PRIMITIVES[choice as usize]),
            8 => json!({"type": "long", "logicalType": "timestamp-millis"}),
            9 => json!({"type": "int", "logicalType": "date"}),
            10 => json!({"type": "long", "logicalType": "time-micros"}),
            11 => json!({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}),
            12 => {
                let (mut fixed, full) = self.named("fixed", "F");
                fixed.insert("size".into(), json!(self.rng.below(9)));
                self.defined.push(full);
                Json::Object(fixed)
            }
            13 => self.enumeration(),
            14 if !self.defined.is_empty() => {
                let defined = self.defined.clone();
                json!(self.pick(&defined))
            }
            14 => json!("string"),
            15 | 16 => json!({"type": "array", "items": self.any(depth + 1)}),
            17 | 18 => json!({"type": "map", "values": self.any(depth + 1)}),
            19..=22 => self.union(depth),
            _ => self.record(depth),
        }
    }

    fn enumeration(&mut self) -> Json {
        let (mut object, full) = self.named("enum", "E");
        let symbols: Vec<String> = (0..=self.rng.below(4)).map(|index| format!("S{index}")).collect();
        object.insert("symbols".into(), json!(symbols));
        self.defined.push(full);
        Json::Object(object)
    }

    /// A union of different kinds, in any order.
    fn union(&mut self, depth: u32) -> Json {
        let mut branches: Vec<Json> = Vec::new();
        for _ in 0..=self.rng.below(4) {
            let known = self.defined.len();
            let branch = self.any(depth + 1);
            if fits_union(&branches, &branch) {
                branches.push(branch);
            } else {
                self.defined.truncate(known);
            }
        }
        if self.rng.chance(1, 2) && fits_union(&branches, &json!("null")) {
            let index = self.rng.below(branches.len() as u64 + 1) as usize;
            branches.insert(index, json!("null"));
        }
        if branches.is_empty() { json!("null") } else { Json::Array(branches) }
    }

    /// Data of a schema: bytes that a writer may have written.
    pub(super) fn datum(&mut self, schema: &Json) -> Vec<u8> {
        let mut types = BTreeMap::new();
        collect(schema, &mut types);
        let mut out = Vec::new();
        self.write(schema, &types, 0, &mut out);
        out
    }

    fn write(&mut self, of: &Json, types: &BTreeMap<String, Json>, depth: u32, out: &mut Vec<u8>) {
        match of {
            Json::Array(branches) => {
                let null = branches.iter().position(|branch| branch == "null");
                let any = self.rng.below(branches.len() as u64) as usize;
                let branch = if depth > 8 { null.unwrap_or(any) } else { any };
                varint(branch as i64, out);
                self.write(&branches[branch], types, depth + 1, out);
            }
            Json::Object(object) => self.write_object(object, types, depth, out),
            _ => match of.as_str().unwrap() {
                "null" => {}
                "boolean" => out.push(self.rng.below(2) as u8),
                "int" => varint(i64::from(self.integer() as i32), out),
                "long" => varint(self.integer(), out),
                "float" => out.extend((self.integer() as f32 / 64.0).to_le_bytes()),
                "double" => out.extend((self.integer() as f64 / 64.0).to_le_bytes()),
                "string" => {
                    let text = self.text();
                    varint(text.len() as i64, out);
                    out.extend(text.as_bytes());
                }
                "bytes" => {
                    let length = self.rng.below(12);
                    varint(length as i64, out);
                    self.raw(length, out);
                }
                name => {
                    let definition = types[name].clone();
                    self.write(&definition, types, depth + 1, out);
                }
            },
        }
    }

    fn write_object(
        &mut self,
        object: &Map<String, Json>,
        types: &BTreeMap<String, Json>,
        depth: u32,
        out: &mut Vec<u8>,
    ) {
        match (object["type"].as_str().unwrap(), object.get("logicalType").and_then(Json::as_str)) {
            ("record", _) => {
                for field in object["fields"].as_array().unwrap() {
                    self.write(&field["type"], types, depth + 1, out);
                }
            }
            ("enum", _) => varint(self.rng.below(object["symbols"].as_array().unwrap().len() as u64) as i64, out),
            ("fixed", _) => self.raw(object["size"].as_u64().unwrap(), out),
            ("array", _) => {
                self.blocks(depth, out, |cases, _, out| cases.write(&object["items"], types, depth + 1, out))
            }
            ("map", _) => self.blocks(depth, out, |cases, index, out| {
                let key = format!("k{index}");
                varint(key.len() as i64, out);
                out.extend(key.as_bytes());
                cases.write(&object["values"], types, depth + 1, out);
            }),
            // Up to five bytes fit twelve digits; a sign byte too many is legal.
            (_, Some("decimal")) => {
                let number = (self.integer() % 1_000_000_000_000).to_be_bytes();
                varint(8, out);
                out.extend(number);
            }
            // A time of day, and moments that every unit can tell.
            (_, Some("time-micros")) => varint(self.rng.below(86_400_000_000) as i64, out),
            (_, Some("timestamp-millis")) => varint(self.integer() / 2, out),
            (primitive, _) => self.write(&json!(primitive), types, depth, out),
        }
    }

    /// Items in one block or several, with and without their size in bytes.
    fn blocks(&mut self, depth: u32, out: &mut Vec<u8>, mut item: impl FnMut(&mut Self, u64, &mut Vec<u8>)) {
        let mut left = if depth > 6 { 0 } else { self.rng.below(4) };
        let mut index = 0;
        while left > 0 {
            let count = 1 + self.rng.below(left);
            let mut block = Vec::new();
            for _ in 0..count {
                item(self, index, &mut block);
                index += 1;
            }
            if self.rng.chance(1, 3) {
                varint(-(count as i64), out);
                varint(block.len() as i64, out);
            } else {
                varint(count as i64, out);
            }
            out.extend(block);
            left -= count;
        }
        varint(0, out);
    }

    /// Small, large and extreme numbers alike.
    fn integer(&mut self) -> i64 {
        self.rng.next_u64().cast_signed() >> self.rng.below(64)
    }

    fn raw(&mut self, count: u64, out: &mut Vec<u8>) {
        (0..count).for_each(|_| out.push(self.rng.next_u64() as u8));
    }

    fn text(&mut self) -> String {
        let alphabet: Vec<char> = "abc XYZ09-äß€𝄞".chars().collect();
        (0..self.rng.below(30)).map(|_| *self.pick(&alphabet)).collect()
    }

    /// What a reader may have made of the writer's schema: some changes are legal, some are not, some for some data only. Every
    /// name is defined before it is used.
    pub(super) fn evolve(&mut self, writer: &Json) -> Json {
        for _ in 0..20 {
            let mut reader = writer.clone();
            let mut renamed = BTreeMap::new();
            self.evolve_type(&mut reader, &mut renamed);
            rename(&mut reader, &renamed);
            if names_are_defined(&reader, &mut BTreeSet::new()) {
                return reader;
            }
        }
        writer.clone()
    }

    fn evolve_type(&mut self, of: &mut Json, renamed: &mut BTreeMap<String, String>) {
        match of {
            Json::Array(branches) => self.evolve_union(branches, renamed),
            Json::Object(object) => match object["type"].as_str().unwrap() {
                "record" => self.evolve_record(object, renamed),
                "array" => self.evolve_type(&mut object["items"], renamed),
                "map" => self.evolve_type(&mut object["values"], renamed),
                "enum" => self.evolve_enum(object, renamed),
                "fixed" => {
                    self.evolve_name(object, renamed);
                    if self.rng.chance(1, 20) {
                        object["size"] = json!(object["size"].as_u64().unwrap() + 1);
                    }
                }
                _ => {}
            },
            _ => {
                if PRIMITIVES.contains(&of.as_str().unwrap()) {
                    *of = self.evolve_primitive(of.as_str().unwrap());
                }
            }
        }
        // From a type to a union with it, and back.
        if self.rng.chance(1, 12) {
            match of {
                Json::Array(branches) => *of = self.pick(branches).clone(),
                _ => {
                    let other = json!(*self.pick(&PRIMITIVES));
                    let mut branches = vec![of.clone()];
                    if fits_union(&branches, &other) {
                        branches.insert(self.rng.below(2) as usize, other);
                    }
                    *of = Json::Array(branches);
                }
            }
        }
    }

    fn evolve_primitive(&mut self, word: &str) -> Json {
        let wider: &[&str] = match word {
            "int" => &["long", "float", "double"],
            "long" => &["float", "double"],
            "float" => &["double"],
            "string" => &["bytes"],
            "bytes" => &["string"],
            _ => &[],
        };
        match self.rng.below(40) {
            0 => json!(*self.pick(&PRIMITIVES)),
            1..=10 if !wider.is_empty() => json!(*self.pick(wider)),
            _ => json!(word),
        }
    }

    fn evolve_union(&mut self, branches: &mut Vec<Json>, renamed: &mut BTreeMap<String, String>) {
        for index in 0..branches.len() {
            let mut branch = branches[index].clone();
            // A union holds no union.
            self.evolve_type(&mut branch, renamed);
            let mut others = branches.clone();
            others.remove(index);
            if !branch.is_array() && fits_union(&others, &branch) {
                branches[index] = branch;
            }
        }
        if self.rng.chance(1, 4) {
            branches.reverse();
        }
        if self.rng.chance(1, 8) && branches.len() > 1 {
            branches.remove(self.rng.below(branches.len() as u64) as usize);
        }
        if self.rng.chance(1, 4) {
            let more = json!(*self.pick(&PRIMITIVES));
            if fits_union(branches, &more) {
                branches.insert(self.rng.below(branches.len() as u64 + 1) as usize, more);
            }
        }
    }

    fn evolve_enum(&mut self, object: &mut Map<String, Json>, renamed: &mut BTreeMap<String, String>) {
        self.evolve_name(object, renamed);
        let mut symbols = object["symbols"].as_array().unwrap().clone();
        if self.rng.chance(1, 3) {
            symbols.insert(self.rng.below(symbols.len() as u64 + 1) as usize, json!("NEW"));
        }
        if self.rng.chance(1, 4) && symbols.len() > 1 {
            symbols.remove(self.rng.below(symbols.len() as u64) as usize);
        }
        if self.rng.chance(1, 2) {
            object.insert("default".into(), self.pick(&symbols).clone());
        }
        object["symbols"] = Json::Array(symbols);
    }

    /// Another name, with the old one as an alias; enums and fixed ones also without, which no reader takes.
    fn evolve_name(&mut self, object: &mut Map<String, Json>, renamed: &mut BTreeMap<String, String>) {
        let old = full_name(object);
        match self.rng.below(16) {
            0 | 1 => {
                object.insert("aliases".into(), json!([old]));
                object["name"] = json!(format!("{}Renamed", object["name"].as_str().unwrap()));
            }
            2 if object["type"] != "record" => {
                object["name"] = json!(format!("{}Renamed", object["name"].as_str().unwrap()));
            }
            _ => return,
        }
        renamed.insert(old, full_name(object));
    }

    fn evolve_record(&mut self, object: &mut Map<String, Json>, renamed: &mut BTreeMap<String, String>) {
        self.evolve_name(object, renamed);
        let fields = object["fields"].as_array_mut().unwrap();
        for field in fields.iter_mut() {
            if self.rng.chance(1, 2) {
                self.evolve_type(&mut field["type"], renamed);
            }
            match self.rng.below(20) {
                0 | 1 => {
                    field["aliases"] = json!([field["name"]]);
                    field["name"] = json!(format!("{}_renamed", field["name"].as_str().unwrap()));
                }
                2 => field["name"] = json!(format!("{}_new", field["name"].as_str().unwrap())),
                _ => {}
            }
        }
        if self.rng.chance(1, 2) {
            let added = ADDED[self.rng.below(ADDED.len() as u64) as usize];
            let index = self.rng.below(fields.len() as u64 + 1) as usize;
            fields.insert(index, serde_json::from_str(added).unwrap());
        }
        if self.rng.chance(1, 4) && !fields.is_empty() {
            fields.remove(self.rng.below(fields.len() as u64) as usize);
        }
        if self.rng.chance(1, 4) {
            fields.reverse();
        }
    }
}

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// Fields that a reader adds: defaults of every shape, of a union's first and later branches, and none.
const ADDED: [&str; 14] = [
    r#"{"name": "added", "type": "int", "default": -7}"#,
    r#"{"name": "added", "type": "long", "default": 9007199254740993}"#,
    r#"{"name": "added", "type": "float", "default": 0.1}"#,
    r#"{"name": "added", "type": "double", "default": 2}"#,
    r#"{"name": "added", "type": "bytes", "default": "\u0000\u00ff"}"#,
    r#"{"name": "added", "type": "string", "default": "a default that is longer than 24 bytes: äß€𝄞"}"#,
    r#"{"name": "added", "type": ["null", "string"], "default": null}"#,
    r#"{"name": "added", "type": ["null", "string"], "default": "a later branch"}"#,
    r#"{"name": "added", "type": ["string", "long", "null"], "default": 12}"#,
    r#"{"name": "added", "type": {"type": "array", "items": "double"}, "default": [1.5, 2]}"#,
    r#"{"name": "added", "type": {"type": "map", "values": ["int", "string"]}, "default": {"b": 1, "a": 2}}"#,
    r#"{"name": "added", "type": {"type": "enum", "name": "Added", "symbols": ["A", "B"]}, "default": "B"}"#,
    r#"{"name": "added", "type": {"type": "record", "name": "Added", "fields": [
        {"name": "a", "type": "int"}, {"name": "b", "type": "string", "default": "inner"}]}, "default": {"a": 1}}"#,
    r#"{"name": "added", "type": "string"}"#,
];

/// What tells a union's branches apart: the kind, or the name of a named type.
fn branch_key(of: &Json) -> String {
    match of {
        Json::Object(object) if object.contains_key("name") => full_name(object),
        Json::Object(object) => object["type"].as_str().unwrap().to_owned(),
        _ => of.as_str().unwrap().to_owned(),
    }
}

fn fits_union(branches: &[Json], branch: &Json) -> bool {
    !branch.is_array() && branches.iter().all(|other| branch_key(other) != branch_key(branch))
}

fn full_name(object: &Map<String, Json>) -> String {
    let name = object["name"].as_str().unwrap();
    object.get("namespace").map_or_else(|| name.to_owned(), |space| format!("{}.{name}", space.as_str().unwrap()))
}

/// Notes every definition by its full name.
fn collect(of: &Json, types: &mut BTreeMap<String, Json>) {
    match of {
        Json::Array(branches) => branches.iter().for_each(|branch| collect(branch, types)),
        Json::Object(object) => {
            if object.contains_key("name") {
                types.insert(full_name(object), of.clone());
            }
            for inner in ["items", "values"].iter().filter_map(|key| object.get(*key)) {
                collect(inner, types);
            }
            for field in object.get("fields").and_then(Json::as_array).into_iter().flatten() {
                collect(&field["type"], types);
            }
        }
        _ => {}
    }
}

/// Tells whether each name is defined before it is used; notes the definitions.
fn names_are_defined(of: &Json, defined: &mut BTreeSet<String>) -> bool {
    match of {
        Json::Array(branches) => branches.iter().all(|branch| names_are_defined(branch, defined)),
        Json::Object(object) => {
            if object.contains_key("name") {
                defined.insert(full_name(object));
            }
            let inner = ["items", "values"].iter().filter_map(|key| object.get(*key));
            let fields =
                object.get("fields").and_then(Json::as_array).into_iter().flatten().map(|field| &field["type"]);
            inner.chain(fields).all(|inner| names_are_defined(inner, defined))
        }
        _ => of.as_str().is_none_or(|name| PRIMITIVES.contains(&name) || defined.contains(name)),
    }
}

/// Lets references follow renamed definitions.
fn rename(of: &mut Json, renamed: &BTreeMap<String, String>) {
    match of {
        Json::Array(branches) => branches.iter_mut().for_each(|branch| rename(branch, renamed)),
        Json::Object(object) => {
            for key in ["items", "values"] {
                if let Some(inner) = object.get_mut(key) {
                    rename(inner, renamed);
                }
            }
            for field in object.get_mut("fields").and_then(Json::as_array_mut).into_iter().flatten() {
                rename(&mut field["type"], renamed);
            }
        }
        Json::String(name) => {
            if let Some(new) = renamed.get(name.as_str()) {
                new.clone_into(name);
            }
        }
        _ => {}
    }
}

/// Appends a number as Avro writes it.
fn varint(number: i64, out: &mut Vec<u8>) {
    let mut rest = (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
