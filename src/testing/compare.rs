//! What was expected against what was found: every place where they differ.

use serde_json::Value as Json;

use crate::base::time::DateTime;

/// How much must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Fields that are not named may be anything.
    Named,
    /// No fields but those that are named.
    Exact,
}

/// Adds a line for each place where `found` is not as `expected` says.
pub(super) fn compare(expected: &Json, found: &Json, fit: Fit, place: &str, mismatches: &mut Vec<String>) {
    match (expected, found) {
        (Json::Object(expected), Json::Object(found)) => {
            for (name, field) in expected {
                match found.get(name) {
                    Some(other) => compare(field, other, fit, &inside(place, name), mismatches),
                    None => {
                        let known = found.keys().map(String::as_str);
                        let help = crate::base::diag::suggestion(name, known);
                        mismatches.push(format!("{}: there is no such field; {help}", inside(place, name)));
                    }
                }
            }
            if fit == Fit::Exact {
                let more = found.iter().filter(|(name, _)| !expected.contains_key(*name));
                mismatches
                    .extend(more.map(|(name, field)| format!("{}: not expected, found {field}", inside(place, name))));
            }
        }
        (Json::Array(expected), Json::Array(found)) => {
            for (index, item) in expected.iter().enumerate().take(found.len()) {
                compare(item, &found[index], fit, &format!("{place}[{index}]"), mismatches);
            }
            if expected.len() != found.len() {
                mismatches.push(format!("{place}: expected {} items, found {}", expected.len(), found.len()));
            }
        }
        _ if equal(expected, found) => {}
        _ => mismatches.push(format!("{place}: expected {expected}, found {found}")),
    }
}

fn inside(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// Numbers by their value, moments by the moment; `false` stands for null, which TOML does not have.
fn equal(expected: &Json, found: &Json) -> bool {
    match (expected, found) {
        (Json::Number(a), Json::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Json::String(a), Json::String(b)) => {
            a == b || matches!((DateTime::parse(a), DateTime::parse(b)), (Ok(a), Ok(b)) if a == b)
        }
        (Json::Bool(false), Json::Null) => true,
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn differ(expected: &Json, found: &Json, fit: Fit) -> Vec<String> {
        let mut mismatches = Vec::new();
        compare(expected, found, fit, "", &mut mismatches);
        mismatches
    }

    #[test]
    fn only_named_fields_must_agree_unless_all_are_meant() {
        let found = json!({"a": 1, "b": {"c": 2.0, "d": null}});
        assert!(differ(&json!({"b": {"c": 2}}), &found, Fit::Named).is_empty());
        assert!(differ(&json!({"b": {"d": false}}), &found, Fit::Named).is_empty());
        assert_eq!(differ(&json!({"a": 1}), &found, Fit::Exact), [r#"b: not expected, found {"c":2.0,"d":null}"#]);
    }

    #[test]
    fn each_mismatch_names_its_place() {
        let found = json!({"rows": [{"total": 1}, {"total": 3}]});
        let expected = json!({"rows": [{"total": 1}, {"total": 4, "totl": 4}]});
        assert_eq!(
            differ(&expected, &found, Fit::Named),
            ["rows[1].total: expected 4, found 3", "rows[1].totl: there is no such field; did you mean `total`?"]
        );
        assert_eq!(differ(&json!([1]), &json!([1, 2]), Fit::Named), [": expected 1 items, found 2"]);
    }

    #[test]
    fn moments_are_compared_as_moments() {
        let (short, long) = (json!("2013-01-01T10:00:00Z"), json!("2013-01-01T10:00:00.000Z"));
        assert!(differ(&short, &long, Fit::Named).is_empty());
        assert_eq!(differ(&json!("a"), &json!("b"), Fit::Named).len(), 1);
    }
}
