//! No input panics, and every finding can be rendered.

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

/// Cuts, doublings, swaps and strange characters.
fn mutated(edits: &[(usize, u8, usize)]) -> String {
    let mut text: Vec<char> = WHOLE.chars().collect();
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
        survives(&sources(&mutated(&edits)));
    }

    #[test]
    fn files_without_some_lines_never_panic(kept in prop::collection::vec(prop::bool::weighted(0.9), 70)) {
        let lines = WHOLE.lines().zip(kept).filter(|(_, kept)| *kept).map(|(line, _)| line);
        survives(&sources(&lines.collect::<Vec<_>>().join("\n")));
    }
}
