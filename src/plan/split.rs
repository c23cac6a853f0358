//! Which parts run together: a sub-topology is what rows can reach, or look up, without passing through a repartition topic.
//!
//! **Names.** A sub-topology is named by its first store: the one with the fewest stores upstream of it in the sub-topology, and of
//! these the first in the alphabet; without stores, by its first source in the alphabet. So nothing that is added downstream
//! of its first store renames it, and neither does any filter, stream or sink.
//!
//! **Partitions.** Sources that meet in a sub-topology must have equally many. A repartition topic takes the number of the topics
//! that it meets, else that of the topics that its rows come from.

use std::collections::{BTreeMap, BTreeSet};

use super::flow::{Flow, PartId, PartKind};
use super::names::Names;
use crate::base::ids::Topic;
use crate::base::value::Text;

/// A sub-topology before it is made into tasks' terms.
#[derive(Debug)]
pub(super) struct Sub {
    pub name: Text,
    /// In the flow's order.
    pub parts: Vec<PartId>,
    /// Topics of others that decide how many partitions it has.
    pub counted: BTreeSet<Topic>,
}

/// Divides the flow; in the order of the names.
pub(super) fn split(flow: &Flow<'_>, names: &Names) -> Vec<Sub> {
    let mut groups = Groups { parent: (0..flow.parts.len()).collect() };
    for id in flow.ids() {
        let part = flow.part(id);
        for parent in part.parents.iter().chain(&part.right.parents) {
            groups.join(id.0, parent.0);
        }
        if let PartKind::Join { table, .. } | PartKind::Punctuate { table } = flow.part(id).kind {
            groups.join(id.0, table.0);
        }
        if let PartKind::Decided { entity } | PartKind::Replies { entity } = part.kind {
            groups.join(id.0, entity.0);
        }
    }
    let mut members: BTreeMap<usize, Vec<PartId>> = BTreeMap::new();
    for id in flow.ids().filter(|id| !matches!(flow.part(*id).kind, PartKind::GlobalTable)) {
        members.entry(groups.root(id.0)).or_default().push(id);
    }
    let mut subs: Vec<Sub> =
        members.into_values().map(|parts| Sub { name: name(flow, &parts), parts, counted: BTreeSet::new() }).collect();
    subs.sort_by(|a, b| a.name.cmp(&b.name));
    count_partitions(flow, names, &mut subs);
    subs
}

struct Groups {
    parent: Vec<usize>,
}

impl Groups {
    fn root(&mut self, of: usize) -> usize {
        let mut root = of;
        while self.parent[root] != root {
            self.parent[root] = self.parent[self.parent[root]];
            root = self.parent[root];
        }
        root
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b)] = a.min(b);
    }
}

fn name(flow: &Flow<'_>, parts: &[PartId]) -> Text {
    let mut stores_above: BTreeMap<PartId, usize> = BTreeMap::new();
    for id in parts {
        let part = flow.part(*id);
        let above = part.parents.iter().chain(&part.right.parents).map(|parent| {
            stores_above.get(parent).copied().unwrap_or(0) + usize::from(is_stateful(&flow.part(*parent).kind))
        });
        stores_above.insert(*id, above.max().unwrap_or(0));
    }
    let stores = parts.iter().filter(|id| is_stateful(&flow.part(**id).kind));
    let first_store = stores.map(|id| (stores_above[id], &flow.part(*id).name)).min();
    let sources = parts.iter().filter(|id| matches!(flow.part(**id).kind, PartKind::Source));
    let first_source = sources.map(|id| &flow.part(*id).name).min();
    first_store.map(|(_, name)| name).or(first_source).cloned().unwrap_or_default()
}

/// Tells whether a part has a store.
pub(super) fn is_stateful(kind: &PartKind<'_>) -> bool {
    match kind {
        PartKind::Table { .. }
        | PartKind::Entity
        | PartKind::Aggregate
        | PartKind::StreamJoin
        | PartKind::Subscriptions { .. }
        | PartKind::Suppress
        | PartKind::Dedupe
        | PartKind::Timer => true,
        PartKind::Source
        | PartKind::GlobalTable
        | PartKind::GlobalJoin { .. }
        | PartKind::RepartitionSource { .. }
        | PartKind::Filter { .. }
        | PartKind::Rekey { .. }
        | PartKind::Regroup { .. }
        | PartKind::Select { .. }
        | PartKind::Flatten { .. }
        | PartKind::Log
        | PartKind::Repartition
        | PartKind::Merge
        | PartKind::TableJoin { .. }
        | PartKind::Decided { .. }
        | PartKind::Replies { .. }
        | PartKind::Subscribe
        | PartKind::ForeignJoin { .. }
        | PartKind::Punctuate { .. }
        | PartKind::Sink => false,
        // One whose rows wait for late versions keeps them.
        PartKind::Join { waits, .. } => *waits,
    }
}

/// Returns the topic that a source part reads.
pub(super) fn topic_read(flow: &Flow<'_>, names: &Names, id: PartId) -> Option<Topic> {
    let part = flow.part(id);
    if matches!(part.kind, PartKind::RepartitionSource { .. }) {
        return Some(names.repartition(&part.name));
    }
    let read = matches!(part.kind, PartKind::Source).then(|| flow.kind_of(part).source());
    read.flatten().map(|source| source.topic.clone())
}

/// Returns the sub-topology that a part belongs to.
pub(super) fn sub_of(subs: &[Sub], part: PartId) -> usize {
    subs.iter().position(|sub| sub.parts.contains(&part)).unwrap_or(0)
}

/// A sub-topology's own topics decide; one that has none takes those of all that write to it, however far up.
fn count_partitions(flow: &Flow<'_>, names: &Names, subs: &mut [Sub]) {
    for sub in subs.iter_mut() {
        let sources = sub.parts.iter().filter(|id| matches!(flow.part(**id).kind, PartKind::Source));
        sub.counted = sources.filter_map(|id| topic_read(flow, names, *id)).collect();
    }
    let own: Vec<bool> = subs.iter().map(|sub| !sub.counted.is_empty()).collect();
    loop {
        let mut changed = false;
        for index in (0..subs.len()).filter(|index| !own[*index]) {
            let writers = subs[index].parts.iter().filter_map(|id| match flow.part(*id).kind {
                // What goes between two tables is partitioned as they are, and decides nothing.
                PartKind::RepartitionSource { write } if flow.carries(write).is_some() => None,
                PartKind::RepartitionSource { write } => Some(sub_of(subs, write)),
                PartKind::Source
                | PartKind::GlobalTable
                | PartKind::GlobalJoin { .. }
                | PartKind::Filter { .. }
                | PartKind::Rekey { .. }
                | PartKind::Regroup { .. }
                | PartKind::Select { .. }
                | PartKind::Flatten { .. }
                | PartKind::Log
                | PartKind::Repartition
                | PartKind::Merge
                | PartKind::Table { .. }
                | PartKind::Entity
                | PartKind::Decided { .. }
                | PartKind::Replies { .. }
                | PartKind::Aggregate
                | PartKind::Join { .. }
                | PartKind::StreamJoin
                | PartKind::TableJoin { .. }
                | PartKind::Subscribe
                | PartKind::Subscriptions { .. }
                | PartKind::ForeignJoin { .. }
                | PartKind::Suppress
                | PartKind::Dedupe
                | PartKind::Timer
                | PartKind::Punctuate { .. }
                | PartKind::Sink => None,
            });
            let topics: BTreeSet<Topic> = writers.flat_map(|writer| subs[writer].counted.iter().cloned()).collect();
            let before = subs[index].counted.len();
            subs[index].counted.extend(topics);
            changed |= subs[index].counted.len() > before;
        }
        if !changed {
            return;
        }
    }
}
