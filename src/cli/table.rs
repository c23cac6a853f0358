//! Tables for people, from rows of JSON.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value};

/// Makes a table that fits a terminal, with these headings.
pub(crate) fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headings.into_iter().map(str::to_owned).collect::<Vec<_>>());
    table
}

/// Makes a table of objects: a column for each name, in the order in which names are first met; an object in a column that
/// `spread` names becomes columns itself.
pub(crate) fn of_rows(rows: &[Value], spread: &[&str]) -> Table {
    let flat: Vec<Map<String, Value>> = rows.iter().map(|row| flattened(row, spread)).collect();
    let mut columns: Vec<&str> = Vec::new();
    for name in flat.iter().flat_map(Map::keys) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let mut table = new(columns.iter().copied());
    for row in &flat {
        table.add_row(columns.iter().map(|name| row.get(*name).map(cell).unwrap_or_default()).collect::<Vec<_>>());
    }
    table
}

/// Makes a table of one object: a row for each field.
pub(crate) fn of_fields(object: &Value) -> Table {
    let mut table = new(["field", "value"]);
    if let Value::Object(fields) = object {
        for (name, value) in fields {
            table.add_row(vec![name.clone(), cell(value)]);
        }
    } else {
        table.add_row(vec![String::new(), cell(object)]);
    }
    table
}

/// Returns a value as text: strings without quotes, null as nothing, everything else as JSON.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn flattened(row: &Value, spread: &[&str]) -> Map<String, Value> {
    let Value::Object(fields) = row else { return Map::from_iter([("value".to_owned(), row.clone())]) };
    let mut flat = Map::new();
    for (name, value) in fields {
        let Some(inner) = value.as_object().filter(|_| spread.contains(&name.as_str())) else {
            flat.insert(name.clone(), value.clone());
            continue;
        };
        for (inner_name, value) in inner {
            // A field of the value may have the name of a column of ours.
            let taken = fields.contains_key(inner_name) || flat.contains_key(inner_name);
            let column = if taken { format!("{name}.{inner_name}") } else { inner_name.clone() };
            flat.insert(column, value.clone());
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_with_different_fields_share_one_table() {
        let rows = [json!({"key": "JFK", "value": {"n": 1, "key": "x"}}), json!({"key": "LGA", "value": {"m": null}})];
        let text = of_rows(&rows, &["value"]).to_string();
        let first = text.lines().nth(1).unwrap();
        let names: Vec<&str> = first.split(['│', '┆']).map(str::trim).filter(|name| !name.is_empty()).collect();
        assert_eq!(names, ["key", "n", "value.key", "m"], "{text}");
        assert_eq!(text.lines().count(), 6, "{text}");
    }
}
