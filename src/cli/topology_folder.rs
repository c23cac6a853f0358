//! Reads a topology's folder, for every command that takes one: everything that is wrong with it is printed at once.

use std::path::{Path, PathBuf};

use super::output::{self, Form, Output};
use super::registry::Report;
use super::{Exit, Failure, report};
use crate::base::diag::{Diagnostic, Severity};
use crate::plan::{self, Plan};
use crate::topology::{self, Colour, Sources};

/// What a folder turned out to be.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) sources: Sources,
    pub(crate) findings: Vec<Diagnostic>,
    /// None when there is an error among the findings.
    pub(crate) plan: Option<Plan>,
}

impl Folder {
    /// Reads and checks a folder; no broker and no registry is asked.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn read(folder: &Path, schema_path: &[PathBuf]) -> Result<Self, Failure> {
        let sources = topology::load(folder, schema_path)
            .map_err(|error| Failure::from_error(Exit::Usage, &error).code(error.code()))?;
        let (graph, mut findings) = topology::check(&sources);
        let plan = graph.and_then(|graph| match plan::build(&graph) {
            Ok(plan) => Some(plan),
            Err(more) => {
                findings.extend(more);
                None
            }
        });
        Ok(Self { sources, findings, plan })
    }

    /// Prints warnings to stderr and returns the plan.
    ///
    /// # Errors
    /// The findings were printed; the exit is `exit`.
    pub(crate) fn into_plan(self, exit: Exit) -> Result<Plan, Failure> {
        if !self.findings.is_empty() {
            let colour = if output::stderr_color() { Colour::Always } else { Colour::Never };
            report::to_stderr(&topology::render(&self.findings, &self.sources, colour));
        }
        let count = self.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        self.plan.ok_or_else(|| Failure::new(exit, format!("the topology has {}", counted(count, "error"))))
    }

    /// Prints the findings as the command's data; in JSON with what a registry was asked.
    pub(crate) fn show(&self, asked: Option<&[Report]>, output: &mut Output) -> Result<(), Failure> {
        match output.form() {
            Form::Json => {
                let findings: Vec<_> =
                    self.findings.iter().map(|finding| topology::to_json(finding, &self.sources)).collect();
                let broken = asked.into_iter().flatten().any(|report| !report.problems.is_empty());
                let mut shown = serde_json::json!({ "ok": self.plan.is_some() && !broken, "findings": findings });
                if let Some(reports) = asked {
                    shown["registry"] = reports.iter().map(Report::json).collect();
                }
                output.json(&shown)
            }
            Form::Text if self.findings.is_empty() => Ok(()),
            Form::Text => {
                let colour = if output.color() { Colour::Always } else { Colour::Never };
                output.line(topology::render(&self.findings, &self.sources, colour))
            }
        }
    }
}

/// Where schemas are looked for besides the topology's folder.
pub(crate) fn schema_path(given: &[PathBuf]) -> Vec<PathBuf> {
    if given.is_empty() { vec![PathBuf::from("schemas")] } else { given.to_vec() }
}

/// `1 error`, `2 errors`
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
