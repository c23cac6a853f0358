//! No input panics, and every finding can be rendered.

use std::path::Path;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::diagnostics::sources;
use crate::topology::{Colour, Sources, check, render, to_json};

const WHOLE: &str = r#"
[topology]
format = 1
application_id = "shop"

[defaults.on_error]
decode = { action = "dead_letter", topic = "dlq" }

[stream.orders]
topic = "orders"
schemas = ["Placed.avsc", "Cancelled.avsc"]
idle = "30s"

[table.customers]
topic = "customers"
schemas = ["Customer.avsc"]
versioned = "1d"

[stream.placed]
from = "orders"
on = ["Placed"]
where = 'value.total > 0.0 && value.note != null'
select_key = 'value.customer'
set = { total = 'value.total * 2.0' }

[branch.by_size]
from = "placed"
case = [{ name = "large", where = 'value.total > 10.0' }, { name = "small" }]

[merge.all]
from = ["large", "small"]

[entity.order]
from = "orders"
schema = "Order.avsc"
history = "forever"
apply.Placed.set = { total = 'event.total + state.total', status = '"OPEN"' }

[aggregate.hourly]
from = "all"
window = { tumbling = "1h", grace = "10m" }
emit = "on_close"
select = { n = 'count()', mean = 'avg(value.total)' }

[join.named]
left = "hourly"
right = "customers"
kind = "left"
select = { name = 'right.?name', hour = 'window.start', mean = 'left.mean' }

[sink.out]
from = "named"
topic = "out"
record = "shop.Out"
"#;

fn survives(sources: &Sources) {
    let (graph, findings) = check(sources);
    render(&findings, sources, Colour::Never);
    findings.iter().for_each(|finding| drop(to_json(finding, sources)));
    if let Some(graph) = graph
        && let Ok(plan) = crate::plan::build(&graph)
    {
        crate::plan::explain(&plan);
        crate::plan::dot(&plan);
    }
}

#[test]
fn the_whole_is_sound() {
    let sources = sources(WHOLE);
    let (graph, findings) = check(&sources);
    assert_eq!(render(&findings, &sources, Colour::Never), "");
    assert!(crate::plan::build(&graph.unwrap()).is_ok());
}

/// Every topology that is shipped or documented.
fn examples() -> &'static [Sources] {
    static EXAMPLES: OnceLock<Vec<Sources>> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folders =
            ["topologies", "docs/language/examples"].map(|folder| std::fs::read_dir(root.join(folder)).unwrap());
        let mut folders: Vec<_> = folders.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        folders.iter().map(|folder| crate::topology::load(folder, &[root.join("schemas")]).unwrap()).collect()
    })
}

/// What the reader takes, editors must not complain of.
fn is_valid(text: &str) -> bool {
    static VALIDATOR: OnceLock<jsonschema::Validator> = OnceLock::new();
    let validator = VALIDATOR.get_or_init(|| jsonschema::draft7::new(&crate::topology::json_schema()).unwrap());
    let document: toml::Table = toml::from_str(text).unwrap();
    validator.is_valid(&serde_json::to_value(document).unwrap())
}

/// Cuts, doublings, swaps and strange characters.
fn mutated(text: &str, edits: &[(usize, u8, usize)]) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for &(at, what, length) in edits {
        let at = at % text.len().max(1);
        let end = (at + length).min(text.len());
        match what % 5 {
            0 => drop(text.drain(at..end)),
            1 => {
                let copy = text[at..end].to_vec();
                text.splice(at..at, copy);
            }
            2 => text.insert(at, ['\'', '"', '[', '=', '\n', 'ä', '\u{0}', '{'][length % 8]),
            3 => text[at..end].reverse(),
            _ => {
                let copy = text[at..end].to_vec();
                let to = (at * 7 + length) % text.len().max(1);
                text.splice(to..to, copy);
            }
        }
    }
    text.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*") {
        survives(&sources(&text));
    }

    #[test]
    fn mutated_files_never_panic(edits in prop::collection::vec((any::<usize>(), any::<u8>(), 0_usize..40), 1..6)) {
        survives(&sources(&mutated(WHOLE, &edits)));
    }

    #[test]
    fn mutated_examples_never_panic_and_what_is_sound_pleases_editors(
        example in any::<prop::sample::Index>(),
        file in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<usize>(), any::<u8>(), 0_usize..25), 1..4),
    ) {
        let mut sources = example.get(examples()).clone();
        let file = file.index(sources.files.len());
        sources.files[file].text = mutated(&sources.files[file].text, &edits);
        survives(&sources);
        if let (Some(_), findings) = check(&sources) {
            let text = &sources.files[file].text;
            prop_assert!(is_valid(text), "{findings:?}\n{text}");
        }
    }

    #[test]
    fn files_without_some_lines_never_panic(kept in prop::collection::vec(prop::bool::weighted(0.9), 70)) {
        let lines = WHOLE.lines().zip(kept).filter(|(_, kept)| *kept).map(|(line, _)| line);
        survives(&sources(&lines.collect::<Vec<_>>().join("\n")));
    }
}
