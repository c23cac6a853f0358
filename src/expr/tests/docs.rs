//! `docs/expressions.md`: every example gives what the page says, and every function is on it.

use super::*;
use crate::expr::functions;
use crate::expr::types::Style;

const PAGE: &str = include_str!("../../../docs/expressions.md");

/// The expressions on the page that an arrow follows, each with what stands behind it.
fn examples() -> Vec<(String, String)> {
    // An arrow may stand at the end of a line, and a table writes `|` as `\|`.
    let page = PAGE.replace('\n', " ").replace("\\|", "|");
    let mut found = Vec::new();
    for (at, arrow) in page.match_indices(" → ") {
        let (before, after) = (&page[..at], &page[at + arrow.len()..]);
        let before = before.strip_suffix('`').unwrap_or_else(|| panic!("no code before the arrow: …{}", tail(before)));
        let expression = &before[before.rfind('`').expect("the code is opened") + 1..];
        let mut parts = after.split('`');
        let kind = parts.next().unwrap_or_default();
        let code = parts.next().unwrap_or_default();
        found.push((expression.to_owned(), format!("{kind}{code}")));
    }
    found
}

fn tail(text: &str) -> String {
    let skipped = text.chars().count().saturating_sub(60);
    text.chars().skip(skipped).collect()
}

/// What the page would say of an expression.
fn told(text: &str) -> String {
    match check(text, &env()) {
        Err(problems) => format!("refused {}", problems[0].code),
        Ok(_) => eval(text).map_or_else(|error| format!("error {}", error.message), |value| shown(&value)),
    }
}

#[test]
fn every_example_gives_what_the_page_says() {
    let examples = examples();
    assert!(examples.len() > 100, "{} examples", examples.len());
    let wrong: Vec<String> = examples
        .iter()
        .filter(|(text, expected)| told(text) != *expected)
        .map(|(text, expected)| format!("{text}\n  gives {}\n  not   {expected}", told(text)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_function_is_on_the_page() {
    let names = [(Style::Method, "."), (Style::Global, "`")]
        .into_iter()
        .flat_map(|(style, before)| functions::names(style).into_iter().map(move |name| format!("{before}{name}(")));
    let missing: Vec<String> = names.filter(|name| !PAGE.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
