//! `check`: everything that is wrong with a topology, before it runs.

use std::path::PathBuf;

use clap::Args;

use super::args::Global;
use super::output::{Form, Output};
use super::registry::{Connection, Report};
use super::topology_folder::{Folder, counted, schema_path};
use super::{Exit, Failure, table};
use crate::base::diag::Severity;
use crate::topology;

/// Check a topology and report everything that is wrong with it; asks no broker, and a registry only with `--registry`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tidemill check topologies/flights\n  tidemill check topologies/flights --json\n  tidemill check topologies/flights --registry=http://localhost:8081"
)]
pub(crate) struct Check {
    /// The topology's folder
    folder: PathBuf,
    /// Further folders with `.avsc` files (default: `schemas`)
    #[arg(long, value_name = "FOLDER")]
    schemas: Vec<PathBuf>,
    /// Ask the registry, too: may the sinks' schemas be registered, do the sources read what is registered (default: that of the
    /// settings)
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    registry: Option<String>,
}

pub(crate) fn run(command: &Check, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let folder = Folder::read(&command.folder, &schema_path(&command.schemas))?;
    let reports = match (&command.registry, &folder.plan) {
        (Some(url), Some(plan)) => {
            Some(Connection::open(url, global)?.reports(plan, &topology::wanted_schemas(&folder.sources))?)
        }
        (Some(_), None) | (None, _) => None,
    };
    folder.show(reports.as_deref(), output)?;
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
    let broken = reports.iter().flatten().any(|report| !report.problems.is_empty());
    if let (Form::Text, Some(reports)) = (output.form(), &reports) {
        output.line(registry_table(reports))?;
    }
    Ok(if folder.plan.is_some() && !broken { Exit::Ok } else { Exit::Findings })
}

fn registry_table(reports: &[Report]) -> String {
    let mut table = table::new(["subject", "is", "level", "latest", "verdict"]);
    for report in reports {
        let latest = report.latest.map_or_else(|| "not registered".to_owned(), |version| version.to_string());
        let verdict = if report.problems.is_empty() { "ok".to_owned() } else { report.problems.join("\n") };
        table.add_row(vec![report.subject.clone(), report.used.to_owned(), report.level.clone(), latest, verdict]);
    }
    table.to_string()
}
