//! `graph`: what a topology becomes: sub-topologies, nodes, stores, topics.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::{Form, Output};
use super::topology_folder::{Folder, schema_path};
use super::{Exit, Failure};
use crate::plan;

/// Show the plan of a topology: sub-topologies, nodes, stores and topics
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tidemill graph topologies/flights\n  tidemill graph topologies/flights --dot | dot -Tsvg > flights.svg"
)]
pub(crate) struct Graph {
    /// The topology's folder
    folder: PathBuf,
    /// Further folders with `.avsc` files (default: `schemas`)
    #[arg(long, value_name = "FOLDER")]
    schemas: Vec<PathBuf>,
    /// Draw it in Graphviz's language
    #[arg(long, conflicts_with = "json")]
    dot: bool,
}

pub(crate) fn run(command: &Graph, output: &mut Output) -> Result<Exit, Failure> {
    let plan = Folder::read(&command.folder, &schema_path(&command.schemas))?.into_plan(Exit::Findings)?;
    match (output.form(), command.dot) {
        (_, true) => output.line(plan::dot(&plan))?,
        (Form::Text, false) => output.line(plan::explain(&plan))?,
        (Form::Json, false) => {
            let parts: Vec<_> = plan
                .sub_topologies
                .iter()
                .map(|sub| {
                    json!({
                        "name": sub.name.as_str(),
                        "sources": sub.sources.iter().map(|source| source.topic.as_str()).collect::<Vec<_>>(),
                        "nodes": sub.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(),
                        "stores": sub.stores.iter().map(|store| store.name.as_str()).collect::<Vec<_>>(),
                    })
                })
                .collect();
            output.json(&json!({
                "application_id": plan.application_id,
                "fingerprint": format!("{:016x}", plan.fingerprint),
                "sub_topologies": parts,
                "global_tables": plan.global_tables.iter().map(|table| table.store.name.as_str()).collect::<Vec<_>>(),
                "topics": plan.topics.keys().map(|topic| topic.as_str()).collect::<Vec<_>>(),
            }))?;
        }
    }
    Ok(Exit::Ok)
}
