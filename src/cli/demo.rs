//! `demo`: a year of flights, from files to answers, on the embedded broker or on a real one.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value as Json, json};

use super::args::Global;
use super::daemon::settings;
use super::dev::{failed, read_plan, stopped};
use super::output::{Form, Output};
use super::progress::{Progress, grouped};
use super::table;
use super::{Exit, Failure};
use crate::dev::answers::{self, Answers};
use crate::dev::environment::{self, Environment};
use crate::dev::flights::Year;
use crate::dev::load::{self, Loaded};
use crate::runtime::{Daemon, Service as _, Stopwatch};

/// The flight whose life is told: it left late in a snowstorm.
const FLIGHT: &str = "UA1545-EWR-2013-01-01T10";

/// Turn a year of flights into event-sourced state and show what can be asked of it
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  make demo\n  tidemill demo --data FOLDER_OF_CSV\n  \
                        tidemill demo --data FOLDER_OF_CSV --broker localhost:9092 --registry http://localhost:8081")]
pub(crate) struct Demo {
    /// Folder with flights.csv, weather.csv, planes.csv, airlines.csv and airports.csv
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// A real Kafka instead of the embedded broker
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<String>,
    /// Its schema registry (Confluent's API)
    #[arg(long, value_name = "URL", requires = "broker")]
    registry: Option<String>,
    /// Only the year's first events
    #[arg(long, value_name = "COUNT")]
    events: Option<usize>,
    /// Where data and state are kept
    #[arg(long, value_name = "FOLDER", default_value = ".tidemill")]
    folder: PathBuf,
    /// The topology's folder
    #[arg(long, value_name = "FOLDER", default_value = "topologies/flights")]
    topology: PathBuf,
}

/// What the run came to, beside the answers.
struct Figures {
    loaded: Loaded,
    records: u64,
    commits: u64,
    seconds: f64,
    state_bytes: u64,
}

pub(crate) fn run(command: &Demo, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let mut settings = settings(global)?;
    let told = |text: String| super::report::to_stderr(&text);
    let environment = match &command.broker {
        None => {
            settings.state.dir = command.folder.join("state");
            Environment::embedded(&command.folder)
        }
        Some(broker) => {
            settings.state.dir = command.folder.join(format!("state-{}", broker.replace([':', ',', '/'], "-")));
            settings.registry.urls.extend(command.registry.clone());
            Environment::of_settings(&settings, broker)
        }
    };
    let environment = environment.map_err(|error| failed(&error))?;
    let (plan, _) = read_plan(&command.topology, &[], &settings)?;
    let year = Year::open(&command.data).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
    let events = command.events.unwrap_or(usize::MAX).min(year.events_total());
    told(format!(
        "{} flights of 2013 make {} events with the weather; this run takes {}.\n",
        grouped(year.flights() as u64),
        grouped(year.events_total() as u64),
        grouped(events as u64)
    ));
    let loaded = load(&year, events, &environment)?;
    drop(year);
    told(match (loaded.found, loaded.written) {
        (0, _) => "Starting clean: nothing was there.\n".to_owned(),
        (found, 0) => format!("Going on with what is there: all {} records, none is written twice.\n", grouped(found)),
        (found, written) => format!(
            "Going on where a load stopped: {} records were there, {} were missing.\n",
            grouped(found),
            grouped(written)
        ),
    });
    let registry = std::sync::Arc::clone(&environment.registry);
    let options = environment::options(&settings, &plan).map_err(|error| failed(&error))?;
    let watch = Stopwatch::start();
    let daemon =
        Daemon::start(plan, environment.broker, environment.registry, options).map_err(|error| stopped(&error))?;
    let (progress, seconds) = process(&daemon, watch)?;
    let answers =
        answers::ask(&daemon, &*registry, FLIGHT).map_err(|error| Failure::from_error(Exit::Unavailable, &error))?;
    let mut tasks: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    for store in daemon.stores() {
        tasks.insert(store.task, store.bytes);
    }
    let figures = Figures {
        loaded,
        records: progress.records,
        commits: progress.commits,
        seconds,
        state_bytes: tasks.values().sum(),
    };
    daemon.stop().map_err(|error| stopped(&error))?;
    match output.form() {
        Form::Json => output.json(&as_json(&answers, &figures))?,
        Form::Text => show(&answers, &figures, command, output)?,
    }
    Ok(Exit::Ok)
}

fn load(year: &Year, events: usize, environment: &Environment) -> Result<Loaded, Failure> {
    let mut bar = Progress::start("writing the year", "events", events as u64);
    let mut load = || {
        load::register(&*environment.registry)?;
        load::load(year, events, &*environment.broker, &*environment.registry, &mut |done| bar.at(done as u64))
    };
    let loaded = load().map_err(|error| Failure::from_error(Exit::Unavailable, &error))?;
    bar.finish(events as u64);
    Ok(loaded)
}

/// Waits until everything is processed and committed, on every task: also what the tasks send each other.
/// Returns how far it came and the seconds until nothing was left.
fn process(daemon: &Daemon, watch: Stopwatch) -> Result<(crate::runtime::Progress, f64), Failure> {
    let mut bar = Progress::start("processing", "records", 0);
    let mut before = crate::runtime::Progress::default();
    let (mut calm, mut seconds) = (0, 0.0);
    while calm < 3 {
        std::thread::park_timeout(Duration::from_millis(300));
        if daemon.has_ended() {
            return Err(Failure::new(Exit::Bug, "every stream thread ended: the log says why"));
        }
        if let Some(task) = daemon.tasks().into_iter().find(|task| task.error.is_some()) {
            let error = task.error.unwrap_or_default();
            return Err(Failure::new(Exit::Findings, format!("task {} stopped: {error}", task.task)));
        }
        let progress = daemon.progress();
        bar.at(progress.records);
        if progress != before || !progress.drained {
            calm = 0;
            seconds = watch.elapsed().as_secs_f64();
        } else {
            calm += 1;
        }
        before = progress;
    }
    bar.finish(before.records);
    Ok((before, seconds))
}

fn as_json(answers: &Answers, figures: &Figures) -> Json {
    json!({
        "totals": answers.totals,
        "worst_hours": answers.worst_hours,
        "closed_hours": { "hours": answers.closed_hours.hours, "departures": answers.closed_hours.departures },
        "history": answers.history,
        "as_of": answers.as_of.as_ref().map(|(moment, state)| json!({ "moment": moment, "answer": state })),
        "schema_versions": answers.schema_versions.iter().map(|(subject, versions)| json!({ "subject": subject, "versions": versions })).collect::<Vec<_>>(),
        "late_departures": answers.late_departures,
        "figures": {
            "written": figures.loaded.written,
            "found": figures.loaded.found,
            "records": figures.records,
            "commits": figures.commits,
            "seconds": figures.seconds,
            "state_bytes": figures.state_bytes,
        },
    })
}

fn show(answers: &Answers, figures: &Figures, command: &Demo, output: &mut Output) -> Result<(), Failure> {
    output.line("\nThe year by origin")?;
    output.line(table::of_rows(&answers.totals, &["value"]).to_string())?;
    output.line("\nThe five worst hours (five departures or more), with their weather")?;
    output.line(table::of_rows(&answers.worst_hours, &[]).to_string())?;
    output.line(format!("\nFlight {FLIGHT}: every version, and the event that made it"))?;
    let mut versions = table::new(["version", "event", "occurred", "offset", "status"]);
    for version in &answers.history {
        versions.add_row([
            table::cell(&version["version"]),
            table::cell(&version["event"]["type"]),
            table::cell(&version["event"]["timestamp"]),
            format!("{}:{}", table::cell(&version["event"]["partition"]), table::cell(&version["event"]["offset"])),
            table::cell(&version["state"]["status"]),
        ]);
    }
    output.line(versions.to_string())?;
    if let Some((moment, answer)) = &answers.as_of {
        output.line(format!(
            "\nThe same flight as of {moment}, between two of its events (version {})",
            answer["version"]
        ))?;
        output.line(table::of_fields(&answer["state"]).to_string())?;
    }
    output.line("\nSchema versions met, all read as one shape")?;
    let mut subjects = table::new(["subject", "versions"]);
    for (subject, versions) in &answers.schema_versions {
        subjects.add_row([subject.clone(), versions.to_string()]);
    }
    output.line(subjects.to_string())?;
    output.line(summary(answers, figures))?;
    if command.broker.is_none() {
        output.line(format!(
            "\nGo on with the same data:\n  bin/tidemill dev topologies/flights\n  bin/tidemill query origin_totals EWR\n  bin/tidemill history flight {FLIGHT}"
        ))?;
    }
    Ok(())
}

/// What the run took; a speed only where the whole year was processed in this run.
fn summary(answers: &Answers, figures: &Figures) -> String {
    let events = figures.loaded.found + figures.loaded.written;
    let worked = if figures.records == 0 {
        "all of them processed before".to_owned()
    } else {
        let whole = figures.loaded.found == 0 && figures.seconds > 0.0;
        let rate = if whole { events as f64 / figures.seconds } else { 0.0 };
        let speed = if whole { format!(": {} events a second", grouped(rate as u64)) } else { String::new() };
        format!(
            "{} records with what the tasks sent each other, in {:.1} s{speed}; {} commits, exactly once",
            grouped(figures.records),
            figures.seconds,
            grouped(figures.commits)
        )
    };
    format!(
        "\n{} events, {worked}; {} late departures; state {:.1} MiB",
        grouped(events),
        grouped(answers.late_departures),
        figures.state_bytes as f64 / 1_048_576.0
    )
}
