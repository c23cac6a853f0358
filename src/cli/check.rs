//! `check`: everything that is wrong with a topology, before it runs.

use std::path::PathBuf;

use clap::Args;

use super::output::{Form, Output};
use super::topology_folder::{Folder, counted, schema_path};
use super::{Exit, Failure};
use crate::base::diag::Severity;

/// Check a topology and report everything that is wrong with it; asks no broker and no registry
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidemill check topologies/flights\n  tidemill check topologies/flights --json")]
pub(crate) struct Check {
    /// The topology's folder
    folder: PathBuf,
    /// Further folders with `.avsc` files (default: `schemas`)
    #[arg(long, value_name = "FOLDER")]
    schemas: Vec<PathBuf>,
}

pub(crate) fn run(command: &Check, output: &mut Output) -> Result<Exit, Failure> {
    let folder = Folder::read(&command.folder, &schema_path(&command.schemas))?;
    folder.show(output)?;
    let count = |severity| folder.findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if output.form() == Form::Text {
        let errors_first = folder.findings.iter().min_by_key(|finding| finding.severity != Severity::Error);
        match (&folder.plan, errors_first) {
            (Some(plan), _) => {
                let nodes = plan.sub_topologies.iter().map(|sub| sub.nodes.len()).sum();
                let parts = counted(plan.sub_topologies.len(), "sub-topology").replace("topologys", "topologies");
                let warned = if warnings > 0 { format!(", {}", counted(warnings, "warning")) } else { String::new() };
                output.line(format!("ok: `{}`, {parts}, {}{warned}", plan.application_id, counted(nodes, "node")))?;
            }
            (None, Some(first)) => {
                output.line(format!(
                    "{}, {}; `tidemill explain {}` says more",
                    counted(errors, "error"),
                    counted(warnings, "warning"),
                    first.code
                ))?;
            }
            (None, None) => return Err(Failure::new(Exit::Bug, "there is no plan and no reason for it")),
        }
    }
    Ok(if folder.plan.is_some() { Exit::Ok } else { Exit::Findings })
}
