//! Names → nodes: one namespace over all kinds and files, what each name refers to, and an order in which every node stands
//! after all that feed it. Ties are broken by name, so the order does not depend on how files are arranged.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::sources::Located;
use super::spec::{Body, NodeSpec, Spec};
use crate::base::diag::{Diagnostic, suggestion};
use crate::error::codes;

/// Something that others may name as their input, or a sink.
#[derive(Debug)]
pub(super) struct Item<'a> {
    pub name: &'a Located<String>,
    pub spec: &'a NodeSpec,
    /// The number of the case, for the cases of a branch.
    pub case: Option<usize>,
    /// Indices of its inputs, in the order that they are written; none for a name that is nowhere.
    pub inputs: Vec<Option<usize>>,
}

/// All items and the order to look at them in. Items on a cycle, and those that they feed, are not in the order.
#[derive(Debug)]
pub(super) struct Resolved<'a> {
    pub items: Vec<Item<'a>>,
    pub order: Vec<usize>,
}

/// Resolves all names; every finding goes into `findings`.
pub(super) fn resolve<'a>(spec: &'a Spec, findings: &RefCell<Vec<Diagnostic>>) -> Resolved<'a> {
    let mut items = Vec::new();
    let mut names: BTreeMap<&str, Name> = BTreeMap::new();
    for node in &spec.nodes {
        if let Some(Body::Branch(branch)) = &node.body {
            let cases = branch.cases.iter().map(|case| case.name.value.clone()).collect();
            declare(&mut names, &node.name, Name::Branch(cases), findings);
            for (number, case) in branch.cases.iter().enumerate() {
                declare(&mut names, &case.name, Name::Item(items.len()), findings);
                items.push(Item { name: &case.name, spec: node, case: Some(number), inputs: Vec::new() });
            }
            continue;
        }
        let target = if node.kind == "sink" { Name::Sink } else { Name::Item(items.len()) };
        declare(&mut names, &node.name, target, findings);
        items.push(Item { name: &node.name, spec: node, case: None, inputs: Vec::new() });
    }
    kept_names(spec, &names, findings);
    let mut looked_up: BTreeMap<(usize, usize), Option<usize>> = BTreeMap::new();
    for item in &mut items {
        let inputs = item.spec.body.as_ref().map_or_else(Vec::new, Body::inputs);
        item.inputs = inputs
            .into_iter()
            .map(|input| {
                // The cases of a branch share its input: a name that is nowhere is reported once.
                let at = (input.place.file.0, input.place.span.start);
                *looked_up.entry(at).or_insert_with(|| look_up(&names, input, findings))
            })
            .collect();
    }
    let order = sort(&items, findings);
    Resolved { items, order }
}

/// State is kept under one name: that of no other node, and of one node only.
fn kept_names(spec: &Spec, names: &BTreeMap<&str, Name>, findings: &RefCell<Vec<Diagnostic>>) {
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    for was in spec.nodes.iter().filter_map(|node| node.was.as_ref()) {
        let (message, help) = if names.contains_key(was.value.as_str()) {
            let message = format!("`{}` is the name of a node that is there", was.value);
            (message, "`was` is the name that this node had: rename the other one, or leave `was` out")
        } else if !kept.insert(&was.value) {
            (format!("two nodes were `{}`", was.value), "its state goes on with one of them")
        } else {
            continue;
        };
        let finding = Diagnostic::error(codes::DUPLICATE_NAME, was.place.span, message).help(help);
        findings.borrow_mut().push(finding.placed(was.place.file, 0));
    }
}

/// What a name stands for.
enum Name {
    Item(usize),
    /// With the names of its cases.
    Branch(Vec<String>),
    Sink,
}

fn declare<'a>(
    names: &mut BTreeMap<&'a str, Name>,
    name: &'a Located<String>,
    target: Name,
    findings: &RefCell<Vec<Diagnostic>>,
) {
    if names.contains_key(name.value.as_str()) {
        let message = format!("the name `{}` is taken", name.value);
        findings.borrow_mut().push(
            Diagnostic::error(codes::DUPLICATE_NAME, name.place.span, message)
                .label("a second one of this name")
                .help("streams, tables, cases and all other nodes of all files share one set of names; rename one")
                .placed(name.place.file, 0),
        );
        return;
    }
    names.insert(&name.value, target);
}

fn look_up(
    names: &BTreeMap<&str, Name>,
    input: &Located<String>,
    findings: &RefCell<Vec<Diagnostic>>,
) -> Option<usize> {
    let (message, help) = match names.get(input.value.as_str()) {
        Some(Name::Item(index)) => return Some(*index),
        Some(Name::Branch(cases)) => (
            format!("branch `{}` gives its rows by its cases", input.value),
            format!("name a case: `{}`", cases.join("`, `")),
        ),
        Some(Name::Sink) => (
            format!("sink `{}` gives no rows", input.value),
            "read from what the sink reads from, or from a stream of its topic".to_owned(),
        ),
        None => {
            let readable = names.iter().filter(|(_, target)| matches!(target, Name::Item(_))).map(|(name, _)| *name);
            (format!("no node is named `{}`", input.value), suggestion(&input.value, readable))
        }
    };
    let diagnostic = Diagnostic::error(codes::UNKNOWN_NODE, input.place.span, message).help(help);
    findings.borrow_mut().push(diagnostic.placed(input.place.file, 0));
    None
}

fn sort(items: &[Item<'_>], findings: &RefCell<Vec<Diagnostic>>) -> Vec<usize> {
    let known = |index: usize| items[index].inputs.iter().flatten().copied().collect::<BTreeSet<usize>>();
    let mut waits_for: Vec<usize> = (0..items.len()).map(|index| known(index).len()).collect();
    let mut feeds: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    for index in 0..items.len() {
        for input in known(index) {
            feeds[input].push(index);
        }
    }
    let name = |index: usize| (items[index].name.value.as_str(), index);
    let mut ready: BTreeSet<(&str, usize)> = (0..items.len()).filter(|i| waits_for[*i] == 0).map(name).collect();
    let mut order = Vec::with_capacity(items.len());
    while let Some((_, index)) = ready.pop_first() {
        order.push(index);
        for &fed in &feeds[index] {
            waits_for[fed] -= 1;
            if waits_for[fed] == 0 {
                ready.insert(name(fed));
            }
        }
    }
    report_cycles(items, &waits_for, findings);
    order
}

/// Reports each cycle once, at its node with the smallest name.
fn report_cycles(items: &[Item<'_>], waits_for: &[usize], findings: &RefCell<Vec<Diagnostic>>) {
    let mut reported: BTreeSet<usize> = BTreeSet::new();
    for start in (0..items.len()).filter(|index| waits_for[*index] > 0) {
        // Every waiting node has a waiting input, so the walk against the flow comes back to a node that it has seen.
        let mut walk = vec![start];
        let cycle = loop {
            let here = walk[walk.len() - 1];
            let Some(next) = items[here].inputs.iter().flatten().copied().find(|input| waits_for[*input] > 0) else {
                break &[] as &[usize];
            };
            if let Some(position) = walk.iter().position(|seen| *seen == next) {
                break &walk[position..];
            }
            walk.push(next);
        };
        let first = cycle.iter().copied().min_by_key(|index| &items[*index].name.value);
        let Some(first) = first.filter(|first| reported.insert(*first)) else { continue };
        let at = cycle.iter().position(|index| *index == first).unwrap_or(0);
        let names: Vec<&str> = cycle[at..]
            .iter()
            .chain(&cycle[..at])
            .chain([&first])
            .map(|index| items[*index].name.value.as_str())
            .collect();
        let place = items[first].name.place;
        let message = format!("`{}` feeds itself: `{}`", items[first].name.value, names.join("` from `"));
        findings.borrow_mut().push(
            Diagnostic::error(codes::CYCLE, place.span, message)
                .help("rows flow one way; to feed results back, write them to a topic and read that")
                .placed(place.file, 0),
        );
    }
}
