//! CEL's published conformance cases (`tests/cel`): each gives what it is to give, or is on the list of what is out of scope and is
//! refused by the checker. A case on the list that begins to pass fails the test, so that the list stays true.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::*;
use crate::base::diag::Diagnostic;
use crate::expr::compile::sorted_entries;

const CASES: &str = include_str!("../../../tests/cel/cases.jsonl");
/// Where the counts stand for people.
const README: &str = include_str!("../../../tests/cel/README.md");
const OUT_OF_SCOPE: &str = include_str!("../../../tests/cel/out_of_scope.txt");

/// What became of a case.
enum Outcome {
    Passed,
    /// By the checker, or because a variable's type is none that there is here.
    Refused(String),
    /// It gives another value than it is to give.
    Differs(String),
}

struct Case {
    name: String,
    fields: Map<String, Json>,
}

impl Case {
    fn parse(line: &str) -> Self {
        let Json::Object(fields) = serde_json::from_str(line).expect("a case is an object") else { panic!("{line}") };
        Self { name: fields["name"].as_str().expect("a name").to_owned(), fields }
    }

    fn text(&self) -> &str {
        self.fields["expr"].as_str().expect("an expression")
    }

    fn error(&self) -> Option<&str> {
        self.fields.get("error").and_then(Json::as_str)
    }

    fn run(&self) -> Outcome {
        let Some((env, row)) = self.variables() else { return Outcome::Refused("a variable's type".to_owned()) };
        let checked = match check(self.text(), &env) {
            Ok(checked) => checked,
            Err(problems) if self.refused_as_it_should(&problems) => return Outcome::Passed,
            Err(problems) => return Outcome::Refused(format!("{} {}", problems[0].code, problems[0].message)),
        };
        if let Some(expected) = self.fields.get("type") {
            let seen = type_name(checked.value_type());
            let expected = expected_type(expected);
            if seen != expected {
                return Outcome::Differs(format!("the type is {seen}, not {expected}"));
            }
        }
        if self.fields.contains_key("check_only") {
            return Outcome::Passed;
        }
        let roots: Vec<&[Value]> = row.iter().map(std::slice::from_ref).collect();
        let outcome = checked.compile(&|_| 0).eval(&roots, &mut Scratch::new());
        match (outcome, self.error(), self.fields.get("value").map(value)) {
            (Err(_), Some(_), _) => Outcome::Passed,
            (Err(error), None, _) => Outcome::Differs(format!("fails: {error}")),
            (Ok(seen), _, Some(Some(expected))) if shown(&seen) == shown(&expected) => Outcome::Passed,
            (Ok(seen), _, expected) => {
                Outcome::Differs(format!("gives {}, not {:?}", shown(&seen), expected.flatten().as_ref().map(shown)))
            }
        }
    }

    /// What is an error at run time for CEL without types is refused here before, for the same reason.
    fn refused_as_it_should(&self, problems: &[Diagnostic]) -> bool {
        let Some(error) = self.error() else { return false };
        let overload = error.replace('_', " ").contains("such overload") || error.contains("no matching overload");
        problems.iter().all(|problem| match problem.code.0 {
            "E0204" | "E0207" => overload,
            "E0206" => overload || error.contains("error during formatting"),
            "E0205" => error.contains("unbound function"),
            "E0202" => error.contains("undeclared reference"),
            "E0209" => true,
            _ => false,
        })
    }

    /// The environment with its values; none when a type is not known here.
    fn variables(&self) -> Option<(Env, Vec<Value>)> {
        let none = Map::new();
        let object = |name: &str| self.fields.get(name).and_then(Json::as_object).unwrap_or(&none);
        let mut env = Env::new();
        let mut row = Vec::new();
        for (name, variable) in object("variables") {
            env = env.root(name.as_str(), known_type(variable)?);
            row.push(object("bindings").get(name).map_or(Some(Value::Null), value)?);
        }
        Some((env, row))
    }
}

/// A type of the cases; none when it is not one of ours.
fn known_type(json: &Json) -> Option<Type> {
    if let Some(name) = json.as_str() {
        return match name {
            "null" => Some(Type::Null),
            "bool" => Some(Type::Bool),
            "int" => Some(Type::Int),
            "uint" => Some(Type::Uint),
            "double" => Some(Type::Double),
            "string" => Some(Type::String),
            "bytes" => Some(Type::Bytes),
            "timestamp" => Some(Type::DateTime),
            "duration" => Some(Type::TimeDelta),
            _ => None,
        };
    }
    let (kind, inner) = json.as_object()?.iter().next()?;
    match kind.as_str() {
        "list" => Some(Type::List(Arc::new(known_type(inner)?))),
        "map" if inner[0] == "string" => Some(Type::Map(Arc::new(known_type(&inner[1])?))),
        "optional" => Some(known_type(inner)?.optional()),
        _ => None,
    }
}

/// The name that a type of the cases has here.
fn expected_type(json: &Json) -> String {
    let inner = |json: &Json| expected_type(json);
    match json.as_object().and_then(|parts| parts.iter().next()) {
        Some((kind, item)) if kind == "map" => format!("map({}, {})", inner(&item[0]), inner(&item[1])),
        Some((kind, item)) => format!("{kind}({})", inner(item)),
        None => json.as_str().unwrap_or_default().to_owned(),
    }
}

fn type_name(of: &Type) -> String {
    // What an empty list or map holds is any type to CEL, and none to us.
    of.to_string().replace("union()", "dyn")
}

fn value(json: &Json) -> Option<Value> {
    if json == "null" {
        return Some(Value::Null);
    }
    let (kind, inner) = json.as_object()?.iter().next()?;
    let number = |json: &Json| json.as_str().and_then(|text| text.parse::<i64>().ok());
    Some(match kind.as_str() {
        "bool" => Value::Bool(inner.as_bool()?),
        "int" => Value::Int(number(inner)?),
        "uint" => Value::Uint(inner.as_str()?.parse().ok()?),
        "double" => Value::Double(inner.as_str()?.parse().ok()?),
        "string" => Value::text(inner.as_str()?),
        "bytes" => {
            let digits = inner.as_str()?.as_bytes().chunks(2);
            let bytes = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
            Value::Bytes(bytes.collect::<Option<Vec<u8>>>()?.into())
        }
        "timestamp" => Value::DateTime(DateTime { seconds: number(&inner[0])?, nanos: number(&inner[1])? as u32 }),
        "duration" => {
            let nanos = i128::from(number(&inner[0])?) * 1_000_000_000 + i128::from(number(&inner[1])?);
            let seconds = nanos.div_euclid(1_000_000_000) as i64;
            Value::TimeDelta(TimeDelta { seconds, nanos: nanos.rem_euclid(1_000_000_000) as u32 })
        }
        "list" => Value::List(inner.as_array()?.iter().map(value).collect::<Option<Vec<_>>>()?.into()),
        "map" => {
            let entries = inner.as_array()?.iter().map(|entry| Some((value(&entry[0])?, value(&entry[1])?)));
            sorted_entries(entries.collect::<Option<_>>()?).ok()?
        }
        _ => return None,
    })
}

/// The groups of what is out of scope: a line `# reason`, then names of cases, or of folders of them with a slash at the end.
fn out_of_scope() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in OUT_OF_SCOPE.lines().filter(|line| !line.is_empty()) {
        match (line.strip_prefix("# "), groups.last_mut()) {
            (Some(reason), _) => groups.push((reason, Vec::new())),
            (None, Some((_, names))) => names.push(line),
            (None, None) => panic!("`{line}` stands before the first reason"),
        }
    }
    groups
}

#[test]
fn every_published_case_passes_or_is_out_of_scope_and_refused() {
    let groups = out_of_scope();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut unused: BTreeSet<&str> = groups.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let (mut passed, mut wrong) = (0, Vec::new());
    for case in CASES.lines().map(Case::parse) {
        let listed = |entry: &str| case.name == entry || (entry.ends_with('/') && case.name.starts_with(entry));
        let found = groups.iter().find_map(|(reason, names)| Some((*reason, *names.iter().find(|name| listed(name))?)));
        let text = case.text().replace(['\n', '\r'], " ");
        if let Some((reason, entry)) = found {
            unused.remove(entry);
            *counts.entry(reason).or_default() += 1;
            let refused = reason.starts_with("otherwise: ") || matches!(case.run(), Outcome::Refused(_));
            if matches!(case.run(), Outcome::Passed) || !refused {
                wrong.push(format!("{}: out of scope, and not refused: {text}", case.name));
            }
            continue;
        }
        match case.run() {
            Outcome::Passed => passed += 1,
            Outcome::Refused(why) => wrong.push(format!("{}: refused, {why}: {text}", case.name)),
            Outcome::Differs(how) => wrong.push(format!("{}: {how}: {text}", case.name)),
        }
    }
    wrong.extend(unused.iter().map(|entry| format!("{entry}: listed, and no such case")));
    assert!(wrong.is_empty(), "{} wrong, {passed} passed\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    let rows = counts.iter().map(|(reason, count)| format!("| {count} | {reason} |"));
    let rows: Vec<String> = rows.chain([format!("| {passed} | pass |")]).collect();
    let missing = rows.iter().any(|row| README.lines().all(|line| line != row));
    assert!(!missing, "tests/cel/README.md has other counts than\n{}", rows.join("\n"));
}
