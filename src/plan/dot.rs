//! A plan as a drawing, in Graphviz's language: topics are boxes that sub-topologies share, stores are cylinders, a dashed line is a
//! look-up.

use std::fmt::{self, Write};

use super::explain::kind;
use super::model::{GlobalTable, NodeKind, Plan, StoreRef, SubTopology};

/// Draws a plan in Graphviz's language.
pub fn dot(plan: &Plan) -> String {
    let mut drawing = Drawing { text: String::new(), topics: Vec::new() };
    drawing.plan(plan).expect("writing into a string does not fail");
    drawing.text
}

struct Drawing<'a> {
    text: String,
    topics: Vec<&'a str>,
}

impl<'a> Drawing<'a> {
    fn plan(&mut self, plan: &'a Plan) -> fmt::Result {
        writeln!(self.text, "digraph {} {{", quoted(&plan.application_id))?;
        writeln!(self.text, "  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];")?;
        for sub in &plan.sub_topologies {
            self.boxes(sub)?;
            self.lines(plan, sub)?;
        }
        for table in &plan.global_tables {
            let (id, label) = (global_id(table), quoted(&table.store.name));
            self.topics.push(table.source.topic.as_str());
            writeln!(self.text, "  {id} [label={label}, shape=cylinder, style=solid];")?;
            writeln!(self.text, "  {} -> {id};", topic_id(table.source.topic.as_str()))?;
        }
        self.topics.sort_unstable();
        self.topics.dedup();
        for topic in &self.topics {
            let (id, label) = (topic_id(topic), quoted(topic));
            writeln!(self.text, "  {id} [label={label}, style=filled, fillcolor=\"#eeeeee\"];")?;
        }
        writeln!(self.text, "}}")
    }

    fn boxes(&mut self, sub: &SubTopology) -> fmt::Result {
        writeln!(self.text, "  subgraph {} {{", quoted(&format!("cluster_{}", sub.name)))?;
        writeln!(self.text, "    label={};", quoted(&sub.name))?;
        for (index, node) in sub.nodes.iter().enumerate() {
            let label = format!("{}\n{}", kind(&node.kind), node.name).replace('\n', "\\n");
            writeln!(self.text, "    {} [label=\"{label}\"];", node_id(sub, index))?;
        }
        for (index, store) in sub.stores.iter().enumerate() {
            let id = store_id(sub, StoreRef(index as u16));
            writeln!(self.text, "    {id} [label={}, shape=cylinder, style=solid];", quoted(&store.name))?;
        }
        writeln!(self.text, "  }}")
    }

    fn lines(&mut self, plan: &'a Plan, sub: &'a SubTopology) -> fmt::Result {
        for source in &sub.sources {
            self.topics.push(source.topic.as_str());
            for child in &source.children {
                let to = node_id(sub, usize::from(child.node.0));
                writeln!(self.text, "  {} -> {to};", topic_id(source.topic.as_str()))?;
            }
        }
        for (index, node) in sub.nodes.iter().enumerate() {
            let id = node_id(sub, index);
            for child in &node.children {
                writeln!(self.text, "  {id} -> {};", node_id(sub, usize::from(child.node.0)))?;
            }
            if let NodeKind::Repartition { topic, .. } | NodeKind::Sink { topic, .. } = &node.kind {
                self.topics.push(topic.as_str());
                writeln!(self.text, "  {id} -> {};", topic_id(topic.as_str()))?;
            }
            if let NodeKind::Entity(entity) = &node.kind
                && let Some(deciding) = &entity.deciding
            {
                for to in std::iter::once(deciding.events).chain(deciding.replies) {
                    writeln!(self.text, "  {id} -> {};", node_id(sub, usize::from(to.0)))?;
                }
            }
            for store in node.kind.keeps() {
                writeln!(self.text, "  {id} -> {};", store_id(sub, store))?;
            }
            if let NodeKind::GlobalJoin(join) = &node.kind {
                let table = global_id(&plan.global_tables[usize::from(join.table.0)]);
                writeln!(self.text, "  {table} -> {id} [style=dashed];")?;
            }
            for store in node.kind.looks_up() {
                writeln!(self.text, "  {} -> {id} [style=dashed];", store_id(sub, store))?;
            }
        }
        Ok(())
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn node_id(sub: &SubTopology, node: usize) -> String {
    quoted(&format!("{}/{node}", sub.name))
}

fn store_id(sub: &SubTopology, store: StoreRef) -> String {
    quoted(&format!("{}/store/{}", sub.name, sub.stores[usize::from(store.0)].name))
}

fn global_id(table: &GlobalTable) -> String {
    quoted(&format!("global/{}", table.store.name))
}

fn topic_id(topic: &str) -> String {
    quoted(&format!("topic/{topic}"))
}
