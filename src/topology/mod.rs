//! L2: the topology language. A folder of TOML files becomes a [`Graph`], or a list of everything that is wrong with it.
//!
//! ```text
//! folder ──load──▶ Sources ──parse──▶ Spec ──resolve──▶ names, order ──check──▶ Graph
//!                                 └───────────────┴─────────────────────┴────▶ diagnostics, all in one go
//! ```
//!
//! Invariants: only [`load`] touches the disk; no input panics; a graph comes back only when no finding is an error; a graph
//! does not depend on the order of files, tables and keys.

mod check;
mod entities;
mod graph;
mod json_schema;
mod load;
mod nodes;
mod parse;
mod reader;
mod render;
mod resolve;
mod shape;
mod sources;
mod spec;
mod subjects;
mod terms;
mod time;
mod windows;

#[cfg(test)]
pub(crate) mod tests;

use std::cell::RefCell;

use crate::base::diag::{Diagnostic, Severity};

pub use graph::{
    Aggregate, AggregateField, ByVariant, Deciding, Decision, Dedupe, Emission, Entity, Expression, Flatten, Given,
    Graph, Join, JoinForm, Log, Nature, Node, NodeId, NodeKind, Punctuate, Rejection, Rows, SCALAR_FIELD, Shape, Sink,
    SinkWriter, Source, Stream, Suppress, Table, TableInput, Timer, Update, Variant,
};
pub use json_schema::json_schema;
pub use load::{LoadError, load};
pub use parse::FORMAT;
pub use render::{Colour, JsonDiagnostic, render, to_json};
pub use sources::{Place, SchemaFile, SourceFile, Sources};
pub use subjects::{WantedSchema, wanted_schemas};
pub use terms::{
    AggregateFunction, Clock, ContentMode, Emit, ErrorAction, JoinKind, JoinWindow, Keep, KeyFormat, LogLevel, OnError,
    Retry, SinkKey, SubjectNaming, SuppressBounds, SuppressUntil, ValueFormat, WhenFull, Window, WindowShape, roots,
};

/// Checks a topology: the graph when there is no error, and everything that was found, in the order of files and places.
pub fn check(sources: &Sources) -> (Option<Graph>, Vec<Diagnostic>) {
    let findings = RefCell::default();
    let spec = parse::parse(sources, &findings);
    let graph = check::check(sources, &spec, &findings);
    let mut findings = findings.into_inner();
    findings.sort_by(|a, b| {
        let place = |of: &Diagnostic| (of.file.map_or(usize::MAX, |file| file.0), of.span, of.code);
        place(a).cmp(&place(b))
    });
    findings.dedup();
    let sound = findings.iter().all(|finding| finding.severity < Severity::Error);
    (sound.then_some(graph), findings)
}
