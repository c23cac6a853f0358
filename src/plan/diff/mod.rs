//! What becomes of an application's state, topics and readers when one plan takes the place of another.
//!
//! ```text
//! Same ─► Upgrades (in place) ─► Rebuilds (what is kept cannot be gone on with) ─► BreaksReaders (others cannot read on)
//! ```
//!
//! Things are matched by the names that they are kept under, so that a node that is renamed with `was` is the same one. Nothing is
//! asked of a broker or a registry.

mod topics;

use std::collections::{BTreeMap, BTreeSet};

use super::explain::{kind, node_text};
use super::model::{Node, NodeKind, Plan, Store, SubTopology};
use crate::avro::{Incompatibility, Schema, carries};
use crate::base::value::Text;

/// What becomes of one thing; the worst of all is the plan's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    Same,
    /// It goes on from where it stands.
    Upgrades,
    /// What is kept cannot be gone on with: it must be built again, under another name or after a reset.
    Rebuilds,
    /// Programs that read a topic of the application cannot read all of it any more.
    BreaksReaders,
}

impl Verdict {
    /// Returns the word that reports use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Upgrades => "upgrades in place",
            Self::Rebuilds => "needs rebuild",
            Self::BreaksReaders => "breaks readers",
        }
    }
}

/// What kind of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Application,
    SubTopology,
    Store,
    Topic,
}

impl Subject {
    /// Returns the word that reports use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::SubTopology => "sub-topology",
            Self::Store => "store",
            Self::Topic => "topic",
        }
    }
}

/// What becomes of one store, topic or sub-topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub subject: Subject,
    /// As the new plan has it; as the old one had it where it is gone.
    pub name: String,
    pub verdict: Verdict,
    /// What is different, and what to do about it.
    pub notes: Vec<String>,
}

/// Compares two plans: every store, topic and sub-topology of either, in that order of subjects and names.
pub fn compare(old: &Plan, new: &Plan) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.application_id != new.application_id {
        let (was, is) = (&old.application_id, &new.application_id);
        changes.push(Change {
            subject: Subject::Application,
            name: is.clone(),
            verdict: Verdict::Rebuilds,
            notes: vec![format!(
                "it was `{was}`: another group and other topics of its own; it starts with nothing, and `{was}` stays as it is"
            )],
        });
    }
    let comparison = Comparison { old, new };
    changes.extend(comparison.sub_topologies());
    changes.extend(comparison.stores());
    changes.extend(comparison.topics());
    changes.sort_by(|a, b| (a.subject, &a.name).cmp(&(b.subject, &b.name)));
    changes
}

/// Compares the rows that a state folder holds, by the names that they are kept under, with the plan to come.
pub fn compare_rows(kept: &BTreeMap<String, Vec<Schema>>, new: &Plan) -> Vec<Change> {
    let after = stores(new);
    let mut changes = Vec::new();
    for (kept_as, (_, store)) in &after {
        let mut noted = Noted::new();
        match kept.get(*kept_as) {
            None => noted.note(Verdict::Upgrades, "new: nothing of it is in the state folder"),
            Some(schemas) => schemas.iter().for_each(|was| store_row(was, &store.row, &mut noted)),
        }
        changes.push(noted.of(Subject::Store, store.name.as_str()));
    }
    for name in kept.keys().filter(|name| !after.contains_key(name.as_str())) {
        let mut noted = Noted::new();
        noted.note(Verdict::Upgrades, "no longer kept; its rows stay in the state folder");
        changes.push(noted.of(Subject::Store, name));
    }
    changes.sort_by(|a, b| (a.subject, &a.name).cmp(&(b.subject, &b.name)));
    changes
}

/// Returns the worst of all that becomes of anything.
pub fn worst(changes: &[Change]) -> Verdict {
    changes.iter().map(|change| change.verdict).max().unwrap_or(Verdict::Same)
}

struct Comparison<'a> {
    old: &'a Plan,
    new: &'a Plan,
}

/// Collects what is different about one thing.
struct Noted {
    verdict: Verdict,
    notes: Vec<String>,
}

impl Noted {
    fn new() -> Self {
        Self { verdict: Verdict::Same, notes: Vec::new() }
    }

    fn note(&mut self, verdict: Verdict, note: impl Into<String>) {
        self.verdict = self.verdict.max(verdict);
        self.notes.push(note.into());
    }

    fn of(self, subject: Subject, name: impl Into<String>) -> Change {
        Change { subject, name: name.into(), verdict: self.verdict, notes: self.notes }
    }
}

/// Stores by the names that they are kept under.
fn stores(plan: &Plan) -> BTreeMap<&str, (&SubTopology, &Store)> {
    let all = plan.sub_topologies.iter().flat_map(|sub| sub.stores.iter().map(move |store| (sub, store)));
    all.map(|(sub, store)| (store.kept_as.as_str(), (sub, store))).collect()
}

/// What a sub-topology is made of: its stores, and its sources.
fn parts(sub: &SubTopology) -> BTreeSet<String> {
    let stores = sub.stores.iter().map(|store| format!("store `{}`", store.kept_as));
    stores.chain(sub.sources.iter().map(|source| format!("topic `{}`", source.topic))).collect()
}

impl Comparison<'_> {
    /// Matches sub-topologies by what they are made of.
    fn sub_topologies(&self) -> Vec<Change> {
        let of = |plan: &Plan| -> BTreeMap<String, BTreeSet<String>> {
            plan.sub_topologies.iter().map(|sub| (sub.name.to_string(), parts(sub))).collect()
        };
        let (before, after) = (of(self.old), of(self.new));
        let meeting = |parts: &BTreeSet<String>, others: &BTreeMap<String, BTreeSet<String>>| -> Vec<String> {
            others.iter().filter(|(_, other)| !parts.is_disjoint(other)).map(|(name, _)| format!("`{name}`")).collect()
        };
        let mut changes = Vec::new();
        for (name, made_of) in &after {
            let from = meeting(made_of, &before);
            let mut noted = Noted::new();
            match from.as_slice() {
                [] => noted.note(Verdict::Upgrades, "new: tasks of its own"),
                [one] => {
                    let old = one.trim_matches('`');
                    if old != name {
                        noted.note(
                            Verdict::Upgrades,
                            format!("it was {one}: its tasks have other folders, so their stores are restored from the changelogs, and windows and timers begin with the time of the next record"),
                        );
                    }
                    let into = meeting(&before[old], &after);
                    if into.len() > 1 {
                        noted.note(Verdict::Upgrades, format!("{one} is split into {}", into.join(" and ")));
                    }
                    let added: Vec<&String> = made_of.difference(&before[old]).collect();
                    if !added.is_empty() {
                        noted.note(Verdict::Upgrades, format!("has also {}", joined(&added)));
                    }
                    self.stateless(old, name, &mut noted);
                    let gone: Vec<&String> = before[old].difference(made_of).collect();
                    if !gone.is_empty() {
                        noted.note(Verdict::Upgrades, format!("has no longer {}", joined(&gone)));
                    }
                }
                several => noted.note(
                    Verdict::Upgrades,
                    format!("{} are merged: their topics must have equally many partitions from now on, and tasks go on with the times of `{name}` alone", several.join(" and ")),
                ),
            }
            changes.push(noted.of(Subject::SubTopology, name));
        }
        for (name, made_of) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
            let mut noted = Noted::new();
            match meeting(made_of, &after).as_slice() {
                [] => {
                    noted.note(Verdict::Upgrades, "no longer there; its meta topic and the folders of its tasks stay")
                }
                into => noted.note(Verdict::Upgrades, format!("goes on as {}", into.join(" and "))),
            }
            changes.push(noted.of(Subject::SubTopology, name));
        }
        changes
    }

    /// What nodes without state do with rows from now on.
    fn stateless(&self, old: &str, new: &str, noted: &mut Noted) {
        let nodes = |plan: &Plan, name: &str| -> BTreeMap<(String, &'static str), Vec<String>> {
            let subs = plan.sub_topologies.iter().filter(|sub| sub.name == name);
            let nodes = subs.flat_map(|sub| sub.nodes.iter().map(move |node| (sub, node)));
            let stateless = nodes.filter(|(_, node)| {
                node.kind.keeps().is_empty()
                    && !matches!(node.kind, NodeKind::Sink { .. } | NodeKind::Repartition { .. })
            });
            stateless
                .map(|(sub, node)| ((node.kept_as.to_string(), kind(&node.kind)), node_text(plan, sub, node)))
                .collect()
        };
        let (before, after) = (nodes(self.old, old), nodes(self.new, new));
        for ((name, kind), text) in &after {
            match before.get(&(name.clone(), *kind)) {
                Some(known) if known == text => {}
                Some(_) => {
                    noted.note(Verdict::Upgrades, format!("{kind} `{name}` from now on: {}", text[1..].join("; ")))
                }
                None => noted.note(Verdict::Upgrades, format!("has also {kind} `{name}`")),
            }
        }
        for (name, kind) in before.keys().filter(|key| !after.contains_key(*key)) {
            noted.note(Verdict::Upgrades, format!("has no longer {kind} `{name}`"));
        }
    }

    fn stores(&self) -> Vec<Change> {
        let (before, after) = (stores(self.old), stores(self.new));
        let mut changes = Vec::new();
        for (kept_as, (sub, store)) in &after {
            let mut noted = Noted::new();
            match before.get(kept_as) {
                None => {
                    let new = "new: it begins with nothing, and is fed what comes from where the inputs stand";
                    noted.note(Verdict::Upgrades, new);
                    let gone = before.iter().filter(|(kept_as, _)| !after.contains_key(*kept_as));
                    for (was, _) in gone.filter(|(_, (_, old))| alike(&old.row, &store.row)) {
                        noted.note(
                            Verdict::Upgrades,
                            format!("if it is `{was}` under another name, say so: `was = \"{was}\"`"),
                        );
                    }
                }
                Some((old_sub, old_store)) => {
                    if store.name != old_store.name {
                        noted.note(
                            Verdict::Upgrades,
                            format!("it was `{}`; it is kept under that name", old_store.name),
                        );
                    }
                    if sub.name != old_sub.name {
                        noted.note(
                            Verdict::Upgrades,
                            format!(
                                "moves from sub-topology `{}` to `{}`: restored from its changelog",
                                old_sub.name, sub.name
                            ),
                        );
                    }
                    store_row(&old_store.row, &store.row, &mut noted);
                    let node = |sub: &'_ SubTopology, store: &Store| {
                        let at = sub.stores.iter().position(|known| known.name == store.name);
                        sub.nodes
                            .iter()
                            .position(|node| node.kind.keeps().iter().any(|kept| Some(usize::from(kept.0)) == at))
                    };
                    if let (Some(was), Some(is)) = (node(old_sub, old_store), node(sub, store)) {
                        let (was, is) = (&old_sub.nodes[was], &sub.nodes[is]);
                        node_changes((self.old, old_sub, was), (self.new, sub, is), &mut noted);
                    }
                    self.grouping(kept_as, &mut noted);
                }
            }
            changes.push(noted.of(Subject::Store, store.name.as_str()));
        }
        for (_, (_, store)) in before.iter().filter(|(kept_as, _)| !after.contains_key(*kept_as)) {
            let mut noted = Noted::new();
            noted.note(
                Verdict::Upgrades,
                format!("no longer kept; its changelog `{}` stays until it is deleted", store.changelog),
            );
            changes.push(noted.of(Subject::Store, store.name.as_str()));
        }
        changes
    }

    /// A store whose rows stand under keys that are made otherwise finds none of them again.
    fn grouping(&self, kept_as: &str, noted: &mut Noted) {
        let key = |plan: &Plan| -> Option<String> {
            let nodes = plan.sub_topologies.iter().flat_map(|sub| sub.nodes.iter().map(move |node| (sub, node)));
            let mut keyed = nodes.filter(|(_, node)| {
                node.kept_as == kept_as && matches!(node.kind, NodeKind::Rekey { .. } | NodeKind::Regroup { .. })
            });
            keyed.next().map(|(sub, node)| key_text(plan, sub, node))
        };
        let (was, is) = (key(self.old), key(self.new));
        if was != is {
            let said =
                |key: Option<String>| key.map_or_else(|| "the key as it came".to_owned(), |key| format!("`{key}`"));
            noted.note(
                Verdict::Rebuilds,
                format!("its rows are grouped by {}, and were by {}: rows that are kept would not be found again; give the node another name, so that it starts anew", said(is), said(was)),
            );
        }
    }
}

/// What becomes of the rows of a store.
fn store_row(was: &Schema, is: &Schema, noted: &mut Noted) {
    if was.text() == is.text() {
        return;
    }
    let problems = carries(is, was);
    if !problems.is_empty() {
        noted.note(
            Verdict::Rebuilds,
            format!("its rows cannot be taken over: {}; give what changed another name, or let it be null, or give the node another name", said(&problems)),
        );
        return;
    }
    let names =
        |schema: &Schema| -> BTreeSet<Text> { schema.fields().iter().map(|field| field.name.clone()).collect() };
    let (before, after) = (names(was), names(is));
    let listed = |names: Vec<&Text>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let (added, gone): (Vec<&Text>, Vec<&Text>) =
        (after.difference(&before).collect(), before.difference(&after).collect());
    if !added.is_empty() {
        noted.note(
            Verdict::Upgrades,
            format!("has also {}; rows that are there have what a fresh one would have", listed(added)),
        );
    }
    if !gone.is_empty() {
        noted.note(Verdict::Upgrades, format!("has no longer {}", listed(gone)));
    }
    for field in is.fields() {
        let known = was.fields().iter().find(|known| known.name == field.name);
        if let Some(known) = known.filter(|known| known.field_type.to_string() != field.field_type.to_string()) {
            noted.note(
                Verdict::Upgrades,
                format!("`{}` was {}, and is {}", field.name, known.field_type, field.field_type),
            );
        }
    }
    if noted.notes.is_empty() {
        noted.note(Verdict::Upgrades, "its rows are written under another schema, which reads the ones that are there");
    }
}

/// What becomes of what a node computes: fields that were computed otherwise hold both.
fn node_changes(
    (old, old_sub, was): (&Plan, &SubTopology, &Node),
    (new, sub, is): (&Plan, &SubTopology, &Node),
    noted: &mut Noted,
) {
    if let (NodeKind::Aggregate(before), NodeKind::Aggregate(after)) = (&was.kind, &is.kind) {
        let computed = |sub: &SubTopology, aggregate: &super::model::Aggregate| -> BTreeMap<(Text, Text), String> {
            let state = sub.stores[usize::from(aggregate.store.0)].row.fields();
            let updates = aggregate.updates.iter().flat_map(|(layout, updates)| {
                let of = &sub.layouts[usize::from(layout.0)].type_name;
                updates.iter().map(move |update| ((of.clone(), state[update.slot].name.clone()), update))
            });
            let text = |argument: &Option<super::model::Expression>| {
                argument.as_ref().map_or_else(String::new, super::explain::written)
            };
            updates
                .map(|(at, update)| (at, format!("{}({})", update.function.name(), text(&update.argument))))
                .collect()
        };
        let (before, after) = (computed(old_sub, before), computed(sub, after));
        for ((of, field), text) in &after {
            if let Some(earlier) = before.get(&(of.clone(), field.clone())).filter(|earlier| *earlier != text) {
                noted.note(
                    Verdict::Rebuilds,
                    format!("`{field}` is `{text}`, and was `{earlier}`: what is kept was computed the old way; give the field another name, or the node, so that it starts anew"),
                );
            }
        }
    }
    // An aggregate's fields are looked at above, its windows and when it emits here.
    let lines = if matches!(is.kind, NodeKind::Aggregate(_)) { 1 } else { usize::MAX };
    let (mut before, mut after) = (node_text(old, old_sub, was), node_text(new, sub, is));
    before.truncate(lines);
    after.truncate(lines);
    if before != after {
        let new: Vec<&str> = after.iter().filter(|line| !before.contains(line)).map(String::as_str).collect();
        noted.note(
            Verdict::Upgrades,
            format!(
                "from now on: {}",
                if new.is_empty() { "as without what was taken out".to_owned() } else { new.join("; ") }
            ),
        );
    }
}

/// Tells whether two stores have rows of the same fields.
fn alike(was: &Schema, is: &Schema) -> bool {
    let names = |schema: &Schema| schema.fields().iter().map(|field| field.name.clone()).collect::<Vec<_>>();
    names(was) == names(is) && carries(is, was).is_empty()
}

fn key_text(plan: &Plan, sub: &SubTopology, node: &Node) -> String {
    let lines = node_text(plan, sub, node);
    let keys: BTreeSet<&str> = lines.iter().filter_map(|line| line.split_once(": key ").map(|(_, key)| key)).collect();
    let whole = lines.first().map(String::as_str).into_iter().collect();
    (if keys.is_empty() { whole } else { keys }).into_iter().collect::<Vec<_>>().join(", ")
}

fn said(problems: &[Incompatibility]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn joined(names: &[&String]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}
