//! What can only be seen over the whole: topics that are read twice, nodes that nobody reads.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::super::graph::{Node, NodeKind};
use super::super::resolve::Resolved;
use super::super::spec::Body;
use super::super::terms::Keep;
use crate::base::diag::Diagnostic;
use crate::error::codes;

/// A consumer group reads a partition once, so a topic has one source.
pub(super) fn topics_read_once(nodes: &[Node], findings: &RefCell<Vec<Diagnostic>>) {
    let mut readers: BTreeMap<&str, &Node> = BTreeMap::new();
    let mut reading: Vec<(&Node, &str)> =
        nodes.iter().filter_map(|node| Some((node, node.kind.source()?.topic.as_str()))).collect();
    reading.sort_by_key(|(node, _)| (node.place.file.0, node.place.span));
    for (node, topic) in reading {
        let Some(first) = readers.get(topic) else {
            readers.insert(topic, node);
            continue;
        };
        let message = format!("`{}` and `{}` both read topic `{topic}`", first.name, node.name);
        findings.borrow_mut().push(
            Diagnostic::error(codes::TOPIC_READ_TWICE, node.place.span, message)
                .help(format!("read it once, and begin this one with `from = \"{}\"`", first.name))
                .placed(node.place.file, 0),
        );
    }
}

/// Warns of histories that are to be kept for ever and stand on a table's topic: such a topic is compacted, or it would not be one.
/// What a topic's settings say is looked at when the daemon starts.
pub(super) fn histories_on_tables(nodes: &[Node], findings: &RefCell<Vec<Diagnostic>>) {
    for node in nodes {
        let NodeKind::Entity(entity) = &node.kind else { continue };
        if entity.history != Some(Keep::Forever) {
            continue;
        }
        let mut above = vec![entity.from];
        while let Some(id) = above.pop() {
            let input = &nodes[id.0];
            if let (NodeKind::Table(_), Some(source)) = (&input.kind, input.kind.source()) {
                let message = format!(
                    "the history of `{}` is kept for ever, and its events come from table `{}`",
                    node.name, input.name
                );
                findings.borrow_mut().push(
                    Diagnostic::warning(codes::HISTORY_ON_FORGETTING_TOPIC, node.place.span, message)
                        .label(format!("topic `{}` keeps the newest record per key only", source.topic))
                        .help("fold a `[stream.…]` whose topic keeps every event, or say how much history is meant: `history = \"400d\"`")
                        .placed(node.place.file, 0),
                );
            }
            above.extend(input.kind.inputs());
        }
    }
}

/// Warns of nodes whose rows go nowhere and that keep nothing which could be asked for; not while it is unknown who reads what.
pub(super) fn unused(resolved: &Resolved<'_>, findings: &RefCell<Vec<Diagnostic>>) {
    let unknown = resolved.items.iter().any(|item| item.spec.body.is_none() || item.inputs.contains(&None));
    if unknown {
        return;
    }
    let mut read = vec![false; resolved.items.len()];
    for input in resolved.items.iter().flat_map(|item| item.inputs.iter().flatten()) {
        read[*input] = true;
    }
    for (index, item) in resolved.items.iter().enumerate() {
        // A join by foreign key keeps its results.
        let kept = matches!(&item.spec.body, Some(Body::Join(join)) if join.foreign_key.is_some())
            || matches!(item.spec.kind, "table" | "global_table" | "entity" | "aggregate" | "log" | "sink");
        // The other cases of a branch may be there to be left out.
        if kept || read[index] || item.case.is_some() {
            continue;
        }
        let message = format!("{} `{}` is not used", item.spec.kind, item.name.value);
        findings.borrow_mut().push(
            Diagnostic::warning(codes::UNUSED_NODE, item.name.place.span, message)
                .label("no node reads its rows")
                .help(format!("add a sink with `from = \"{}\"`, or take it out", item.name.value))
                .placed(item.name.place.file, 0),
        );
    }
}
