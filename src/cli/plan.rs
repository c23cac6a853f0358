//! `plan`: what becomes of state, topics and readers when one topology takes the place of another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value as Json, json};

use super::args::Global;
use super::output::{Form, Output};
use super::topology_folder::{Folder, counted, schema_path};
use super::{Exit, Failure, table};
use crate::avro::Schema;
use crate::plan::{self, Change, Verdict};
use crate::store::inspect::kept_rows;
use crate::store::rocks::{RocksBackend, RocksShared};
use crate::task::GLOBAL;
use crate::{limits, store};

/// Compare two topologies: what goes on, what must be built again, what breaks readers; asks no server
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 nothing changes, 10 it upgrades in place, 11 something needs a rebuild, 12 readers break.\n\n\
                  Examples:\n  tidemill plan deployed/flights topologies/flights\n  tidemill plan deployed/flights topologies/flights --json\n  tidemill plan topologies/flights --state .tidemill/state"
)]
pub(crate) struct Plan {
    /// The folder of the topology that runs, then that of the one to take its place; with `--state` the latter alone
    #[arg(required = true, num_args = 1..=2, value_names = ["OLD", "NEW"])]
    folders: Vec<PathBuf>,
    /// Compare with what a daemon left in this state folder (`state.dir`); it must not run
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
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

pub(crate) fn run(command: &Plan, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let path = schema_path(&command.schemas);
    let old_path = if command.old_schemas.is_empty() { path.clone() } else { command.old_schemas.clone() };
    let read = |folder: &Path, path: &[PathBuf]| Folder::read(folder, path)?.into_plan(Exit::Findings);
    let (changes, new) = match (command.folders.as_slice(), &command.state) {
        ([old, new], None) => {
            let (old, new) = (read(old, &old_path)?, read(new, &path)?);
            (plan::compare(&old, &new), new)
        }
        ([new], Some(state)) => {
            let mut new = read(new, &path)?;
            if let Some(id) = &global.application_id {
                new.rename_application(id);
            }
            (plan::compare_rows(&at_rest(state, &new.application_id)?, &new), new)
        }
        _ => {
            return Err(Failure::new(Exit::Usage, "name two topologies, or one and `--state`")
                .help("`tidemill plan OLD NEW`, or `tidemill plan NEW --state FOLDER`"));
        }
    };
    let worst = plan::worst(&changes);
    match output.form() {
        Form::Json => output.json(&json!({
            "application_id": new.application_id,
            "verdict": word(worst),
            "fingerprint": format!("{:016x}", new.fingerprint),
            "changes": changes.iter().map(as_json).collect::<Vec<_>>(),
        }))?,
        Form::Text => text(&changes, worst, command.all, output)?,
    }
    Ok(exit(worst))
}

/// The schemas of the rows that an application's tasks left, by store.
fn at_rest(state: &Path, application_id: &str) -> Result<BTreeMap<String, Vec<Schema>>, Failure> {
    let folder = state.join(application_id);
    let unreadable = |error: std::io::Error| {
        Failure::from_error(Exit::Io, &error)
            .help(format!("`{}` should be the state of `{application_id}`", folder.display()))
    };
    let failed = |error: store::Error| Failure::from_error(Exit::Io, &error).code(error.code());
    let mut kept: BTreeMap<String, Vec<Schema>> = BTreeMap::new();
    let shared = RocksShared::new(limits::MEMORY_BUDGET_MIN_BYTES as usize / 4);
    for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
        let task = entry.map_err(unreadable)?.path();
        // Global tables are read from their topics again where they do not fit.
        if !task.is_dir() || task.file_name().is_some_and(|name| name == GLOBAL) {
            continue;
        }
        let backend = RocksBackend::open(&task, &shared).map_err(failed)?;
        for (store, schemas) in kept_rows(&backend, application_id).map_err(failed)? {
            let known = kept.entry(store).or_default();
            known.extend(schemas.into_iter().filter(|schema| !known.contains(schema)).collect::<Vec<_>>());
        }
    }
    Ok(kept)
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
    let same = match same {
        all if all == changes.len() => "everything stays".to_owned(),
        1 => "1 thing stays".to_owned(),
        several => format!("{} stay", counted(several, "thing")),
    };
    output.line(format!("{}; {same} the same", worst.as_str()))
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
