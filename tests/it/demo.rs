//! The demo, as a process: its answers against figures computed from the CSV by other code, after kills, and on a real Kafka.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tidemill::base::rng::Rng;

use crate::flights::data;
use crate::flights::reference::Reference;
use crate::provided;

/// Events of the runs that are repeated, killed or sent through a real broker.
const SLICE: &str = "60000";

fn demo(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["demo", "--json", "--data"])
        .arg(data())
        .arg("--folder")
        .arg(folder)
        .args(arguments)
        .env("TIDEMILL__NUM_STREAM_THREADS", "2");
    command
}

fn answers(folder: &Path, arguments: &[&str]) -> Json {
    let output = demo(folder, arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// What must be the same however often the run was interrupted: not when it was processed, nor how long it took.
fn lasting(answers: &Json) -> Json {
    let versions = answers["history"].as_array().unwrap().iter().map(|version| {
        let event = &version["event"];
        json!([
            version["version"],
            version["state"],
            event["partition"],
            event["offset"],
            event["type"],
            event["recorded"]
        ])
    });
    json!({
        "totals": answers["totals"],
        "worst_hours": answers["worst_hours"],
        "closed_hours": answers["closed_hours"],
        "late_departures": answers["late_departures"],
        "history": versions.collect::<Vec<_>>(),
        "as_of": answers["as_of"]["answer"]["state"],
    })
}

#[test]
fn the_years_answers_are_those_of_the_csv() {
    let folder = tempfile::tempdir().unwrap();
    let answers = answers(folder.path(), &[]);
    let reference = Reference::compute(&data().join("flights.csv"), i64::MIN..i64::MAX);
    assert_eq!(answers["totals"].as_array().unwrap().len(), reference.totals.len());
    for row in answers["totals"].as_array().unwrap() {
        let (value, wanted) = (&row["value"], &reference.totals[row["key"].as_str().unwrap()]);
        for (field, count) in [
            ("scheduled", wanted.scheduled),
            ("departed", wanted.departed),
            ("cancelled", wanted.cancelled),
            ("arrived", wanted.arrived),
        ] {
            assert_eq!(value[field].as_u64(), Some(count), "{field} of {}", row["key"]);
        }
        let (mean, wanted) = (value["mean_delay"].as_f64().unwrap(), wanted.mean_delay().unwrap());
        assert!((mean - wanted).abs() < 1e-6, "mean delay of {}: {mean}, not {wanted}", row["key"]);
    }
    let late: u64 = reference.late.values().sum();
    assert_eq!(answers["late_departures"].as_u64(), Some(late));
    let worst = reference.worst_hours(5, 5);
    assert_eq!(answers["worst_hours"].as_array().unwrap().len(), worst.len());
    for (shown, ((origin, start), hour)) in answers["worst_hours"].as_array().unwrap().iter().zip(worst) {
        assert_eq!(shown["origin"].as_str(), Some(origin.as_str()));
        assert_eq!(shown["hour"].as_str(), Some(tidemill::base::time::Timestamp(*start).to_string().as_str()));
        assert_eq!(shown["departures"].as_u64(), Some(hour.departures));
        assert!((shown["mean_delay_min"].as_f64().unwrap() - hour.mean()).abs() < 1e-6);
        assert!(shown["wind_speed"].is_number(), "the hour has its weather: {shown}");
    }
    // Six upstream tasks drift apart over the year, and no departure is late behind ten minutes of grace: every hour that has
    // closed holds all its departures. Only the year's last hours are open still.
    let last = reference.hours.keys().map(|(_, start)| *start).max().unwrap();
    let closed = |hour: &i64| *hour < last - 12 * 3_600_000;
    let sure: u64 =
        reference.hours.iter().filter(|((_, start), _)| closed(start)).map(|(_, hour)| hour.departures).sum();
    let all: u64 = reference.hours.values().map(|hour| hour.departures).sum();
    let shown = answers["closed_hours"]["departures"].as_u64().unwrap();
    assert!((sure..=all).contains(&shown), "{shown} departures in closed hours, expected {sure} to {all}");
    assert!(answers["closed_hours"]["hours"].as_u64().unwrap() <= reference.hours.len() as u64);
}

#[test]
fn a_run_that_is_killed_again_and_again_gives_what_an_uninterrupted_one_gives() {
    let (calm, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = lasting(&answers(calm.path(), &["--events", SLICE]));
    let mut rng = Rng::new(7);
    let mut kills = 0;
    for _ in 0..10 {
        let mut run: Child =
            demo(killed.path(), &["--events", SLICE]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::park_timeout(Duration::from_millis(100 + rng.below(1500)));
        kills += u32::from(run.try_wait().unwrap().is_none());
        run.kill().unwrap();
        run.wait().unwrap();
    }
    assert!(kills > 0, "every run ended before it was killed");
    assert_eq!(lasting(&answers(killed.path(), &["--events", SLICE])), wanted);
    // Once more, with nothing left to do: nothing is counted twice.
    assert_eq!(lasting(&answers(killed.path(), &["--events", SLICE])), wanted);
}

#[test]
fn a_real_kafka_gives_what_the_embedded_broker_gives() {
    let (kafka, registry) = (provided("TIDEMILL_TEST_KAFKA"), provided("TIDEMILL_TEST_REGISTRY"));
    let (embedded, real) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = lasting(&answers(embedded.path(), &["--events", SLICE]));
    let on_kafka = ["--events", SLICE, "--broker", &kafka, "--registry", &registry];
    // Killed once in the middle: the group, the transactions and the changelogs are the real ones.
    let mut run = demo(real.path(), &on_kafka).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::park_timeout(Duration::from_millis(9000));
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(lasting(&answers(real.path(), &on_kafka)), wanted);
}
