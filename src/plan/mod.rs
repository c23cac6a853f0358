//! L2: graph → executable plan: sub-topologies, repartitions, slots, stores, internal topics and what they are called.
//!
//! ```text
//! Graph ──flow──▶ parts, shapes, uses ──split──▶ sub-topologies ──emit──▶ Plan ──explain──▶ text, dot
//! ```
//!
//! Invariants: a plan depends on the topology's meaning only, not on the order of its files, tables and keys; every name in it
//! follows from the topology's names. No broker is asked: how many partitions there are is left open ([`Partitions`]).

mod bind;
mod deployed;
pub mod diff;
mod dot;
pub mod model;

mod emit;
mod explain;
mod flow;
mod names;
mod rows;
mod split;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::base::diag::Diagnostic;
use crate::base::ids::Topic;
use crate::base::value::Text;
use crate::error::codes;
use crate::topology::{Graph, JoinForm};

pub use deployed::Deployed;
pub use diff::{Change, Subject, Verdict, compare, compare_rows, worst};
pub use dot::dot;
pub use explain::explain;
pub use model::*;

use flow::Flow;
use names::{
    Names, answers_store, due_store, history_store, kept_rows, left_of, responses_of, right_of, subscriptions_of,
};
use split::Sub;

/// Makes the plan of a checked topology.
///
/// # Errors
/// A name of the topology is one that tidemill makes itself, or the topology has more parts than a plan can number.
pub fn build(graph: &Graph) -> Result<Plan, Vec<Diagnostic>> {
    let names = Names { application_id: graph.application_id.clone() };
    let mut findings = names_taken(graph, &names);
    let flow = Flow::new(graph);
    findings.extend(too_large(graph, &flow));
    if !findings.is_empty() {
        return Err(findings);
    }
    let subs = split::split(&flow, &names);
    let mut sub_topologies = Vec::with_capacity(subs.len());
    for sub in &subs {
        match emit::emit(&flow, &names, &subs, sub) {
            Ok(made) => sub_topologies.push(made),
            Err(finding) => findings.push(*finding),
        }
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    let mut topics = topics(&sub_topologies, &subs);
    let global_tables = emit::global_tables(&flow);
    for table in &global_tables {
        topics.insert(table.source.topic.clone(), external(TopicRole::Source));
    }
    let (partitions, configs) = (Partitions::Fixed(1), names::instances());
    topics.insert(names.instances(), TopicPlan { role: TopicRole::Instances, partitions, configs });
    sub_topologies.iter_mut().for_each(|sub| names::rename(graph, sub));
    let application_id = graph.application_id.clone();
    let mut plan = Plan { application_id, sub_topologies, global_tables, topics, fingerprint: 0 };
    plan.fingerprint = explain::fingerprint(&plan);
    Ok(plan)
}

impl Plan {
    /// Returns the topics of others that are read: by tasks, and whole.
    pub fn read_topics(&self) -> impl Iterator<Item = &Source> {
        let sources = self.sub_topologies.iter().flat_map(|sub| &sub.sources);
        let sources = sources.filter(|source| !matches!(source.payload, Payload::Internal { .. }));
        sources.chain(self.global_tables.iter().map(|table| &table.source))
    }

    /// Returns each entity that keeps its history for ever, with the topics that its events come from: such a topic should
    /// neither be compacted nor forget, or the history cannot be built again.
    pub fn kept_for_ever(&self) -> Vec<(Text, BTreeSet<Topic>)> {
        let mut kept = Vec::new();
        for sub in &self.sub_topologies {
            for (index, node) in sub.nodes.iter().enumerate() {
                let NodeKind::Entity(entity) = &node.kind else { continue };
                if entity.history.as_ref().is_some_and(|history| history.keep == Keep::Forever) {
                    kept.push((node.name.clone(), self.origins(sub, NodeIndex(index as u16))));
                }
            }
        }
        kept
    }

    /// The topics of others that feed a node, through repartitions and all.
    fn origins(&self, sub: &SubTopology, node: NodeIndex) -> BTreeSet<Topic> {
        let mut above: BTreeSet<NodeIndex> = BTreeSet::from([node]);
        // Nodes stand after all that feed them.
        for (index, candidate) in sub.nodes.iter().enumerate().rev() {
            if candidate.children.iter().any(|child| above.contains(&child.node)) {
                above.insert(NodeIndex(index as u16));
            }
        }
        let feeds = |source: &&Source| source.children.iter().any(|child| above.contains(&child.node));
        let mut origins = BTreeSet::new();
        for source in sub.sources.iter().filter(feeds) {
            let Payload::Internal { upstream, .. } = &source.payload else {
                origins.insert(source.topic.clone());
                continue;
            };
            for writer in upstream {
                let Some(sub) = self.sub_topologies.iter().find(|sub| sub.name == writer.sub_topology) else {
                    continue;
                };
                let writes = sub.nodes.iter().position(
                    |node| matches!(&node.kind, NodeKind::Repartition { topic, .. } if *topic == source.topic),
                );
                origins.extend(writes.into_iter().flat_map(|node| self.origins(sub, NodeIndex(node as u16))));
            }
        }
        origins
    }
}

/// Names of nodes and topics that stores and internal topics need.
fn names_taken(graph: &Graph, names: &Names) -> Vec<Diagnostic> {
    let mut made: BTreeMap<Topic, &str> = BTreeMap::from([(names.instances(), graph.application_id.as_str())]);
    let mut findings = Vec::new();
    let nodes: BTreeSet<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    for node in &graph.nodes {
        let kept = node.kept_name();
        for topic in [names.changelog(kept), names.repartition(kept), names.meta(kept)] {
            made.insert(topic, &node.name);
        }
        if let crate::topology::NodeKind::Join(join) = &node.kind
            && join.form == JoinForm::ForeignKey
        {
            for name in [subscriptions_of(kept), responses_of(kept)] {
                made.insert(names.repartition(&name), &node.name);
            }
        }
        for (store, what) in further_stores(graph, node) {
            if nodes.contains(store.as_str()) {
                let message =
                    format!("{what} of `{}` is kept in store `{store}`, which is also a node's name", node.name);
                findings.push(
                    Diagnostic::error(codes::INTERNAL_NAME_TAKEN, node.place.span, message)
                        .help(format!("rename node `{store}`"))
                        .placed(node.place.file, 0),
                );
            }
            made.insert(names.changelog(&store), &node.name);
        }
    }
    for node in &graph.nodes {
        let sink = if let crate::topology::NodeKind::Sink(sink) = &node.kind { Some(&sink.topic) } else { None };
        let topics = node.kind.source().map(|source| &source.topic).into_iter().chain(sink);
        for (topic, owner) in topics.filter_map(|topic| Some((topic, made.get(topic)?))) {
            let message = format!("topic `{topic}` is named as an internal topic of `{owner}`");
            findings.push(
                Diagnostic::error(codes::INTERNAL_NAME_TAKEN, node.place.span, message)
                    .help("use another topic, or another `application_id`")
                    .placed(node.place.file, 0),
            );
        }
    }
    findings
}

/// The stores that a node has beside the one of its own name, and what they are for.
fn further_stores(graph: &Graph, node: &crate::topology::Node) -> Vec<(Text, &'static str)> {
    let name = node.kept_name();
    match &node.kind {
        crate::topology::NodeKind::Entity(entity) => {
            let history = entity.history.is_some().then(|| (history_store(name), "the history"));
            let answers = answers_store(name);
            let due = (due_store(&answers), "how long answers are remembered");
            let answers = entity.deciding.is_some().then_some([(answers, "what was answered"), due]);
            history.into_iter().chain(answers.into_iter().flatten()).collect()
        }
        crate::topology::NodeKind::Aggregate(aggregate) if has_due_store(aggregate) => {
            vec![(due_store(name), "when to close windows")]
        }
        crate::topology::NodeKind::Aggregate(aggregate) if aggregate.of_table => kept_of(graph, &[aggregate.from]),
        crate::topology::NodeKind::Join(join) => match join.form {
            JoinForm::StreamStream(_) => {
                let rows = "one side's rows";
                vec![(left_of(name), rows), (right_of(name), rows), (due_store(name), "when to look at rows")]
            }
            JoinForm::StreamTable if join.grace.is_some() => vec![(due_store(name), "when to look at rows")],
            JoinForm::StreamGlobal => Vec::new(),
            JoinForm::ForeignKey => {
                let mut stores = kept_of(graph, &[join.left, join.right]);
                stores.push((subscriptions_of(name), "who refers to which row"));
                stores
            }
            JoinForm::TableTable | JoinForm::StreamTable => kept_of(graph, &[join.left, join.right]),
        },
        crate::topology::NodeKind::Suppress(_)
        | crate::topology::NodeKind::Dedupe(_)
        | crate::topology::NodeKind::Timer(_)
        | crate::topology::NodeKind::Table(crate::topology::Table { ttl: Some(_), .. }) => {
            vec![(due_store(name), "when to look at rows")]
        }
        crate::topology::NodeKind::Punctuate(punctuate) => kept_of(graph, &[punctuate.table]),
        crate::topology::NodeKind::Source(_)
        | crate::topology::NodeKind::Stream(_)
        | crate::topology::NodeKind::Case { .. }
        | crate::topology::NodeKind::Merge { .. }
        | crate::topology::NodeKind::Table(_)
        | crate::topology::NodeKind::GlobalTable(_)
        | crate::topology::NodeKind::Aggregate(_)
        | crate::topology::NodeKind::Log(_)
        | crate::topology::NodeKind::Sink(_) => Vec::new(),
    }
}

/// The stores that keep the rows of nodes without a table of their own.
fn kept_of(graph: &Graph, nodes: &[crate::topology::NodeId]) -> Vec<(Text, &'static str)> {
    use crate::topology::NodeKind as Kind;
    let kept = nodes.iter().map(|id| graph.node(*id));
    let has_table = |node: &crate::topology::Node| match &node.kind {
        // Its results are kept under its own name.
        Kind::Join(join) => join.form == JoinForm::ForeignKey,
        Kind::Aggregate(_) | Kind::Entity(_) | Kind::Suppress(_) => false,
        Kind::Source(_)
        | Kind::Stream(_)
        | Kind::Case { .. }
        | Kind::Merge { .. }
        | Kind::Table(_)
        | Kind::GlobalTable(_)
        | Kind::Dedupe(_)
        | Kind::Timer(_)
        | Kind::Punctuate(_)
        | Kind::Log(_)
        | Kind::Sink(_) => true,
    };
    kept.filter(|node| !has_table(node)).map(|node| (kept_rows(node.kept_name()), "what is looked up")).collect()
}

/// Windows that begin anywhere need an index of when they close.
fn has_due_store(aggregate: &crate::topology::Aggregate) -> bool {
    aggregate.window.is_some_and(|window| !matches!(window.shape, WindowShape::Hopping { .. }))
}

fn too_large(graph: &Graph, flow: &Flow<'_>) -> Option<Diagnostic> {
    let most = flow.parts.len().max(flow.shapes.len()).max(2 * graph.nodes.len());
    (most > usize::from(u16::MAX)).then(|| {
        Diagnostic::error(
            codes::TOPOLOGY_TOO_LARGE,
            crate::base::diag::Span::default(),
            format!("the topology has {most} parts, and a plan numbers {} at most", u16::MAX),
        )
        .help("divide it into several topologies that meet at topics")
    })
}

/// A topic of others, which has the partitions that it has.
fn external(role: TopicRole) -> TopicPlan {
    TopicPlan { role, partitions: Partitions::Existing, configs: BTreeMap::new() }
}

/// Every topic of the sub-topologies. One that is read and written counts as read: it must be there before the start.
fn topics(sub_topologies: &[SubTopology], subs: &[Sub]) -> BTreeMap<Topic, TopicPlan> {
    let mut topics = BTreeMap::new();
    for (made, sub) in sub_topologies.iter().zip(subs) {
        let partitions = Partitions::MaxOf(sub.counted.iter().cloned().collect());
        let compacted = |role| TopicPlan { role, partitions: partitions.clone(), configs: names::compacted() };
        topics.insert(made.meta_topic.clone(), compacted(TopicRole::Meta));
        for store in &made.stores {
            topics.insert(store.changelog.clone(), compacted(TopicRole::Changelog));
        }
        for source in &made.sources {
            let plan = match source.payload {
                Payload::Internal { .. } => TopicPlan {
                    role: TopicRole::Repartition,
                    partitions: partitions.clone(),
                    configs: names::repartition(),
                },
                Payload::Registry { .. } | Payload::Json { .. } | Payload::Scalar { .. } => external(TopicRole::Source),
            };
            topics.insert(source.topic.clone(), plan);
        }
    }
    for made in sub_topologies {
        for node in &made.nodes {
            if let NodeKind::Sink { topic, .. } = &node.kind {
                topics.entry(topic.clone()).or_insert_with(|| external(TopicRole::Sink));
            }
        }
        let actions = made.sources.iter().map(|source| &source.on_decode_error);
        let of_nodes = made.nodes.iter().flat_map(|node| [&node.on_process_error, &node.on_produce_error]);
        for on_error in actions.chain(of_nodes) {
            if let ErrorAction::DeadLetter { topic } = &on_error.action {
                topics.entry(topic.clone()).or_insert_with(|| external(TopicRole::DeadLetter));
            }
        }
    }
    topics
}
