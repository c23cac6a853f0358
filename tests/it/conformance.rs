//! The topologies of `tests/conformance/scenarios` give what Kafka Streams gave for the same inputs (`tests/conformance/golden`),
//! record for record, or what a scenario says where tidemill differs on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use tidemill::base::time::{SpanMs, Timestamp};
use tidemill::error::codes;
use tidemill::testing::{Input, Output, World};
use tidemill::topology::{Colour, Sources};
use tidemill::{plan, topology};

pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance");

/// Groups, or scenarios, that use what the language has and this version does not run: it must say so.
const NOT_YET: [&str; 0] = [];

/// A topology with its inputs, and what tidemill does otherwise on purpose.
pub(crate) struct Scenario {
    name: String,
    topology: String,
    steps: Vec<Step>,
    /// The entry of the differences, and what tidemill gives.
    differs: Option<(String, Vec<Json>)>,
}

enum Step {
    Feed(Box<Input>),
    Advance(SpanMs),
}

#[test]
fn every_scenario_gives_what_kafka_streams_gave() {
    let scenarios = scenarios();
    let schemas = schemas();
    let (mut outputs, mut failed, mut not_yet) = (0, Vec::new(), BTreeSet::new());
    for scenario in &scenarios {
        let golden = golden(&scenario.name);
        let wanted = match &scenario.differs {
            Some((_, expected)) => {
                assert_ne!(by_topic(expected), by_topic(&golden), "{}: there is no difference", scenario.name);
                expected
            }
            None => &golden,
        };
        outputs += wanted.len();
        match run(scenario, &schemas) {
            Err(Problem::NotYet) => drop(not_yet.insert(scenario.name.clone())),
            Ok(found) if by_topic(&found) == by_topic(wanted) => {}
            Ok(found) => failed.push(format!("{}\n{}", scenario.name, difference(wanted, &found))),
            Err(Problem::Other(problem)) => failed.push(format!("{}\n{problem}", scenario.name)),
        }
    }
    assert_eq!(not_yet, of_groups(&scenarios, &NOT_YET), "what is refused by name as not yet supported");
    let told = failed.iter().take(20).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(failed.is_empty(), "{} of {} scenarios differ:\n\n{told}", failed.len(), scenarios.len());
    assert!(outputs >= 600, "the scenarios expect {outputs} outputs");
}

fn of_groups(scenarios: &[Scenario], groups: &[&str]) -> BTreeSet<String> {
    let listed = |name: &&String| groups.iter().any(|group| name.starts_with(group));
    scenarios.iter().map(|scenario| &scenario.name).filter(listed).cloned().collect()
}

/// Why a scenario gave nothing.
pub(crate) enum Problem {
    /// The topology is refused as not yet supported.
    NotYet,
    Other(String),
}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        Self::Other(message)
    }
}

#[test]
fn every_golden_has_its_scenario() {
    let names = |kind: &str, ending: &str| -> BTreeSet<String> {
        files(&Path::new(FOLDER).join(kind), ending).into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names("scenarios", "toml"), names("golden", "json"));
}

fn files(folder: &Path, ending: &str) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for group in fs::read_dir(folder).unwrap() {
        let group = group.unwrap().path();
        for file in fs::read_dir(&group).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == ending) {
                let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
                found.push((format!("{}/{}", name(&group), name(&path)), path));
            }
        }
    }
    found.sort();
    found
}

fn scenarios() -> Vec<Scenario> {
    let files = files(&Path::new(FOLDER).join("scenarios"), "toml");
    files.into_iter().map(|(name, path)| scenario(name, &fs::read_to_string(path).unwrap())).collect()
}

pub(crate) fn scenario(name: String, text: &str) -> Scenario {
    let (topology, _) = text.split_once("\n[scenario]").unwrap_or_else(|| panic!("{name} has no [scenario]"));
    let parsed: Json = toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let scenario = &parsed["scenario"];
    let steps = scenario["input"].as_array().unwrap().iter().map(step).collect();
    let differs = scenario.get("differs").map(|entry| {
        (entry.as_str().unwrap().to_owned(), scenario["expect"].as_array().expect("`differs` needs `expect`").clone())
    });
    Scenario { name, topology: topology.to_owned(), steps, differs }
}

/// What a scenario feeds, in order.
pub(crate) fn inputs(scenario: &Scenario) -> Vec<Input> {
    let fed = |step: &Step| match step {
        Step::Feed(input) => Some((**input).clone()),
        Step::Advance(_) => None,
    };
    scenario.steps.iter().filter_map(fed).collect()
}

fn step(entry: &Json) -> Step {
    if let Some(span) = entry.get("wall_clock") {
        return Step::Advance(SpanMs::parse(span.as_str().unwrap()).unwrap());
    }
    Step::Feed(Box::new(Input {
        topic: entry["topic"].as_str().unwrap().to_owned(),
        key: entry.get("key").cloned(),
        event_type: entry.get("type").map(|name| name.as_str().unwrap().to_owned()),
        value: entry.get("value").cloned(),
        at: Timestamp(entry["at"].as_i64().unwrap()),
        headers: BTreeMap::new(),
    }))
}

pub(crate) fn schemas() -> Vec<(String, String)> {
    let folder = fs::read_dir(Path::new(FOLDER).join("schemas")).unwrap();
    let schema =
        |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap());
    folder.map(|file| schema(file.unwrap().path())).collect()
}

fn golden(name: &str) -> Vec<Json> {
    let path = Path::new(FOLDER).join("golden").join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let golden: Json = serde_json::from_str(&text).unwrap();
    golden["outputs"].as_array().unwrap().clone()
}

pub(crate) fn run(scenario: &Scenario, schemas: &[(String, String)]) -> Result<Vec<Json>, Problem> {
    let mut sources = Sources::default().with_file(&format!("{}.toml", scenario.name), &scenario.topology);
    for (name, text) in schemas {
        sources = sources.with_schema(name, text);
    }
    let (graph, findings) = topology::check(&sources);
    if findings.iter().any(|finding| finding.code == codes::NOT_YET_SUPPORTED) {
        return Err(Problem::NotYet);
    }
    let graph = graph.ok_or_else(|| topology::render(&findings, &sources, Colour::Never))?;
    let plan = plan::build(&graph).map_err(|findings| topology::render(&findings, &sources, Colour::Never))?;
    let mut world = World::new(Arc::new(plan), Timestamp(0)).map_err(|error| error.to_string())?;
    let topics: Vec<String> = world.written_topics().map(str::to_owned).collect();
    let mut found = Vec::new();
    for step in &scenario.steps {
        match step {
            Step::Feed(input) => world.feed(input),
            Step::Advance(span) => world.advance(*span),
        }
        .map_err(|error| error.to_string())?;
        for topic in &topics {
            let outputs = world.outputs(topic).map_err(|error| error.to_string())?;
            found.extend(outputs.iter().map(|output| shown(topic, output)));
        }
    }
    match world.stopped().first() {
        Some((task, reason)) => Err(Problem::Other(format!("task {task} stopped: {reason}"))),
        None => Ok(found),
    }
}

/// In the golden's form.
fn shown(topic: &str, output: &Output) -> Json {
    let mut shown = Map::new();
    shown.insert("topic".to_owned(), json!(topic));
    shown.insert("key".to_owned(), output.key.clone().unwrap_or(Json::Null));
    if let Some(window) = output.window {
        shown.insert("window".to_owned(), json!([window.start.0, window.end.0]));
    }
    shown.insert("value".to_owned(), output.value.clone().unwrap_or(Json::Null));
    shown.insert("at".to_owned(), json!(output.at.0));
    Json::Object(shown)
}

/// One topic's outputs in order; between topics there is none.
pub(crate) fn by_topic(outputs: &[Json]) -> BTreeMap<String, Vec<String>> {
    let mut topics: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for output in outputs {
        topics.entry(output["topic"].as_str().unwrap().to_owned()).or_default().push(line(output));
    }
    topics
}

/// An output as text, the same however its fields are ordered, and whether what is not there is null or left out.
pub(crate) fn line(output: &Json) -> String {
    let mut line = format!("{} at {}: {}", output["key"], output["at"], sorted(&output["value"]));
    if let Some(window) = output.get("window") {
        write!(line, " in {window}").unwrap();
    }
    line
}

fn sorted(value: &Json) -> Json {
    match value {
        Json::Object(fields) => {
            let there = fields.iter().filter(|(_, field)| !field.is_null());
            let sorted: BTreeMap<&String, Json> = there.map(|(name, field)| (name, sorted(field))).collect();
            json!(sorted)
        }
        // 2013-01-01T00:00:00.010Z and …00.01Z are one moment.
        Json::String(text) if text.ends_with('Z') && text.contains('.') => {
            json!(format!("{}Z", text.trim_end_matches('Z').trim_end_matches('0')))
        }
        Json::Number(number) => json!(number.as_f64()),
        Json::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

pub(crate) fn difference(wanted: &[Json], found: &[Json]) -> String {
    let (wanted, found) = (by_topic(wanted), by_topic(found));
    let mut text = String::new();
    for topic in wanted.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let lines = |of: &BTreeMap<String, Vec<String>>| of.get(topic).cloned().unwrap_or_default();
        let (wanted, found) = (lines(&wanted), lines(&found));
        if wanted == found {
            continue;
        }
        writeln!(text, "  {topic}:").unwrap();
        for place in 0..wanted.len().max(found.len()) {
            match (wanted.get(place), found.get(place)) {
                (Some(wanted), Some(found)) if wanted == found => writeln!(text, "      {wanted}").unwrap(),
                (wanted, found) => {
                    wanted.iter().for_each(|line| writeln!(text, "    - {line}").unwrap());
                    found.iter().for_each(|line| writeln!(text, "    + {line}").unwrap());
                }
            }
        }
    }
    text
}
