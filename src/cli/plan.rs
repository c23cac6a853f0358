//! `plan`: what becomes of state, topics and readers when one topology takes the place of another.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value as Json, json};

use super::output::{Form, Output};
use super::topology_folder::{Folder, counted, schema_path};
use super::{Exit, Failure, table};
use crate::plan::{self, Change, Verdict};

/// Compare two topologies: what goes on, what must be built again, what breaks readers; asks no server
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 nothing changes, 10 it upgrades in place, 11 something needs a rebuild, 12 readers break.\n\n\
                  Examples:\n  tidemill plan deployed/flights topologies/flights\n  tidemill plan deployed/flights topologies/flights --json"
)]
pub(crate) struct Plan {
    /// The folder of the topology that runs
    old: PathBuf,
    /// The folder of the one that is to take its place
    new: PathBuf,
    /// Further folders with `.avsc` files (default: `schemas`)
    #[arg(long, value_name = "FOLDER")]
    schemas: Vec<PathBuf>,
    /// The same for the old topology, where it has others
    #[arg(long, value_name = "FOLDER")]
    old_schemas: Vec<PathBuf>,
    /// Show what stays the same, too
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(command: &Plan, output: &mut Output) -> Result<Exit, Failure> {
    let path = schema_path(&command.schemas);
    let old_path = if command.old_schemas.is_empty() { path.clone() } else { command.old_schemas.clone() };
    let old = Folder::read(&command.old, &old_path)?.into_plan(Exit::Findings)?;
    let new = Folder::read(&command.new, &path)?.into_plan(Exit::Findings)?;
    let changes = plan::compare(&old, &new);
    let worst = plan::worst(&changes);
    match output.form() {
        Form::Json => output.json(&json!({
            "application_id": new.application_id,
            "verdict": word(worst),
            "old_fingerprint": format!("{:016x}", old.fingerprint),
            "new_fingerprint": format!("{:016x}", new.fingerprint),
            "changes": changes.iter().map(as_json).collect::<Vec<_>>(),
        }))?,
        Form::Text => text(&changes, worst, command.all, output)?,
    }
    Ok(exit(worst))
}

fn text(changes: &[Change], worst: Verdict, all: bool, output: &mut Output) -> Result<(), Failure> {
    let shown: Vec<&Change> = changes.iter().filter(|change| all || change.verdict != Verdict::Same).collect();
    if !shown.is_empty() {
        let mut table = table::new(["what", "name", "becomes", "why"]);
        for change in &shown {
            let why = change.notes.join("\n");
            table.add_row(vec![change.subject.as_str(), &change.name, change.verdict.as_str(), &why]);
        }
        output.line(table.to_string())?;
    }
    let same = changes.iter().filter(|change| change.verdict == Verdict::Same).count();
    let same = if same == changes.len() { "everything".to_owned() } else { counted(same, "thing") };
    output.line(format!("{}; {same} stays the same", worst.as_str()))
}

fn as_json(change: &Change) -> Json {
    json!({
        "kind": change.subject.as_str(),
        "name": change.name,
        "verdict": word(change.verdict),
        "notes": change.notes,
    })
}

fn word(verdict: Verdict) -> String {
    verdict.as_str().replace(' ', "_")
}

fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Same => Exit::Ok,
        Verdict::Upgrades => Exit::PlanUpgrades,
        Verdict::Rebuilds => Exit::PlanRebuilds,
        Verdict::BreaksReaders => Exit::PlanBreaksReaders,
    }
}
