//! `test`: a topology's own tests, in memory and on a clock of their own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::output::{Form, Output};
use super::topology_folder::{Folder, counted, schema_path};
use super::{Exit, Failure, junit};
use crate::plan::Plan;
use crate::runtime::Stopwatch;
use crate::testing::{self, Case, Outcome};

/// Run the tests beside a topology (`*.test.toml`): no server, a clock of their own, all at once
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tidemill test topologies/flights\n  tidemill test topologies/flights --filter late\n  tidemill test topologies/flights --junit report.xml"
)]
pub(crate) struct Test {
    /// The topology's folder, or one of its test files
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Further folders with `.avsc` files (default: `schemas`)
    #[arg(long, value_name = "FOLDER")]
    schemas: Vec<PathBuf>,
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Also write a report in JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Tests at once (default: the CPUs at hand)
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<usize>,
}

/// A test that was run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) file: String,
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
}

impl Ran {
    /// What went wrong, a line each.
    pub(crate) fn problems(&self) -> Vec<String> {
        match &self.outcome {
            Outcome::Passed => Vec::new(),
            Outcome::Failed(mismatches) => mismatches.clone(),
            Outcome::Wrong(problem) => vec![format!("the test cannot be run: {problem}")],
        }
    }
}

pub(crate) fn run(command: &Test, output: &mut Output) -> Result<Exit, Failure> {
    let (folder, files) = test_files(&command.path)?;
    let plan = Folder::read(&folder, &schema_path(&command.schemas))?.into_plan(Exit::Findings)?;
    let mut cases = read_cases(&files)?;
    let all = cases.len();
    if let Some(filter) = &command.filter {
        cases.retain(|case| case.name.contains(filter.as_str()));
    }
    if cases.is_empty() {
        let none = match &command.filter {
            Some(filter) => format!("none of {} has `{filter}` in its name", counted(all, "test")),
            None => format!("there are no tests in `{}`", folder.display()),
        };
        let help = "tests stand beside the topology, in files named `*.test.toml`: docs/testing.md";
        return Err(Failure::new(Exit::Findings, none).help(help));
    }
    let watch = Stopwatch::start();
    let ran = run_all(&Arc::new(plan), &cases, command.jobs);
    let took = watch.elapsed();
    if let Some(path) = &command.junit {
        let failed = |error: std::io::Error| Failure::new(Exit::Io, format!("`{}`: {error}", path.display()));
        std::fs::write(path, junit::report(&ran, took)).map_err(failed)?;
    }
    show(&ran, took, output)
}

/// The folder of the topology, and its files of tests in the order of their names.
fn test_files(path: &Path) -> Result<(PathBuf, Vec<PathBuf>), Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Usage, format!("`{}`: {error}", path.display()));
    if path.is_file() {
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or_else(|| Path::new("."));
        return Ok((folder.to_owned(), vec![path.to_owned()]));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".test.toml") && !name.starts_with('.') {
            files.push(file);
        }
    }
    files.sort();
    Ok((path.to_owned(), files))
}

fn read_cases(files: &[PathBuf]) -> Result<Vec<Case>, Failure> {
    let mut cases = Vec::new();
    for path in files {
        let unreadable = |error: std::io::Error| Failure::new(Exit::Io, format!("`{}`: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let wrong = |problem: String| Failure::new(Exit::Findings, problem);
        cases.extend(testing::read(path, &text).and_then(|file| file.cases()).map_err(wrong)?);
    }
    Ok(cases)
}

/// Runs all tests, several at once; the results are in the tests' order.
fn run_all(plan: &Arc<Plan>, cases: &[Case], jobs: Option<usize>) -> Vec<Ran> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = jobs.unwrap_or(cpus).clamp(1, cases.len().max(1));
    let next = AtomicUsize::new(0);
    let ran = Mutex::new(Vec::with_capacity(cases.len()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((index, case)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(index).map(|case| (index, case))
                } {
                    let watch = Stopwatch::start();
                    let outcome = testing::run(plan, case);
                    let file = case.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    let result = Ran { file, name: case.name.clone(), outcome, took: watch.elapsed() };
                    ran.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut ran = ran.into_inner().unwrap_or_else(PoisonError::into_inner);
    ran.sort_by_key(|(index, _)| *index);
    ran.into_iter().map(|(_, ran)| ran).collect()
}

fn show(ran: &[Ran], took: Duration, output: &mut Output) -> Result<Exit, Failure> {
    let failed = ran.iter().filter(|ran| ran.outcome != Outcome::Passed).count();
    let passed = ran.len() - failed;
    if output.form() == Form::Json {
        let tests: Vec<_> = ran
            .iter()
            .map(|ran| {
                json!({
                    "file": ran.file,
                    "name": ran.name,
                    "passed": ran.outcome == Outcome::Passed,
                    "problems": ran.problems(),
                    "seconds": ran.took.as_secs_f64(),
                })
            })
            .collect();
        output.json(&json!({ "passed": passed, "failed": failed, "seconds": took.as_secs_f64(), "tests": tests }))?;
    } else {
        let (green, red, plain) = if output.color() { ("\u{1b}[32m", "\u{1b}[31m", "\u{1b}[0m") } else { ("", "", "") };
        for ran in ran {
            let word = if ran.outcome == Outcome::Passed {
                format!("{green}ok  {plain}")
            } else {
                format!("{red}FAIL{plain}")
            };
            output.line(format!("{word}  {}: {}", ran.file, ran.name))?;
            for problem in ran.problems() {
                output.line(format!("        {}", problem.replace('\n', "\n        ")))?;
            }
        }
        output.line(format!("\n{passed} passed, {failed} failed in {:.2} s", took.as_secs_f64()))?;
    }
    Ok(if failed == 0 { Exit::Ok } else { Exit::Findings })
}
