//! Random topologies and inputs, by seed, given to tidemill and to Kafka Streams: `make conformance-random N=200 SEED=1`.
//!
//! Not among the tests of every run: it needs the oracle's Kafka Streams and minutes. A seed that differs is printed as a scenario, shrunk to
//! the inputs that matter, ready to be put among those that are kept.

mod generate;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value as Json;

use generate::{Case, Compared, generate};

use crate::conformance::{FOLDER, Problem, by_topic, difference, line, run, scenario, schemas};

/// The topology of a seed with its inputs, for who has use for it without the oracle.
pub(crate) fn topology_and_inputs(seed: u64) -> (String, Vec<tidemill::testing::Input>) {
    let case = generate(seed);
    let inputs = crate::conformance::inputs(&scenario(format!("random {seed}"), &case.text()));
    (case.topology, inputs)
}

/// Kafka Streams, in one process for all cases.
struct Oracle {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    file: PathBuf,
}

impl Oracle {
    fn start(folder: &Path) -> Self {
        let command = Path::new(FOLDER).join("oracle/run");
        let mut child =
            Command::new(command).arg("--stdin").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (ask, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, ask, answers, file: folder.join("random.toml") }
    }

    fn outputs(&mut self, case: &Case) -> Result<Vec<Json>, String> {
        std::fs::write(&self.file, case.text()).unwrap();
        writeln!(self.ask, "{}", self.file.display()).unwrap();
        self.ask.flush().unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let answer: Json = serde_json::from_str(&answer).map_err(|error| format!("{answer}: {error}"))?;
        answer["outputs"].as_array().cloned().ok_or_else(|| answer.to_string())
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What is told of a case that differs; none when it agrees.
fn differs(case: &Case, oracle: &mut Oracle, schemas: &[(String, String)]) -> Option<String> {
    let wanted = match oracle.outputs(case) {
        Ok(wanted) => wanted,
        Err(problem) => return Some(format!("the oracle: {problem}")),
    };
    let parsed = scenario("random".to_owned(), &case.text());
    match run(&parsed, schemas) {
        Err(Problem::NotYet) => Some("refused as not yet supported".to_owned()),
        Err(Problem::Other(problem)) => Some(problem),
        Ok(found) => {
            let (wanted, found) = match case.compared {
                Compared::All => (wanted, found),
                Compared::Sorted => (sorted(wanted), sorted(found)),
                Compared::LastPerKey => (last_per_key(wanted), last_per_key(found)),
            };
            (by_topic(&wanted) != by_topic(&found)).then(|| difference(&wanted, &found))
        }
    }
}

fn sorted(mut outputs: Vec<Json>) -> Vec<Json> {
    outputs.sort_by_cached_key(|output| (output["at"].as_i64(), output["key"].to_string(), line(output)));
    outputs
}

/// The last of each key, without its time: what changes nothing may carry a later one. A deletion of nothing is none.
fn last_per_key(outputs: Vec<Json>) -> Vec<Json> {
    let mut last = std::collections::BTreeMap::new();
    for mut output in outputs {
        output["at"] = Json::Null;
        let key = output["key"].to_string();
        if output["value"].is_null() {
            last.remove(&key)
        } else {
            last.insert(key, output)
        };
    }
    last.into_values().collect()
}

/// Leaves inputs out as long as the case still differs.
fn shrunk(case: Case, oracle: &mut Oracle, schemas: &[(String, String)]) -> Case {
    let mut case = case;
    let mut place = 0;
    while place < case.inputs.len() {
        let mut less = case.inputs.clone();
        less.remove(place);
        let smaller = Case { topology: case.topology.clone(), inputs: less, ..case };
        if differs(&smaller, oracle, schemas).is_some() { case = smaller } else { place += 1 }
    }
    case
}

#[test]
#[ignore = "minutes, by `make conformance-random`"]
fn random_topologies_give_what_kafka_streams_gives() {
    let number = |name: &str, otherwise: u64| {
        let said = crate::provided(name);
        if said.is_empty() { otherwise } else { said.parse().unwrap_or_else(|_| panic!("{name} is a number")) }
    };
    let (count, seed) = (number("TIDEMILL_CASES", 200), number("TIDEMILL_SEED", 1));
    let folder = tempfile::tempdir().unwrap();
    let (mut oracle, schemas) = (Oracle::start(folder.path()), schemas());
    let (mut outputs, mut differing) = (0, Vec::new());
    for seed in seed..seed + count {
        let case = generate(seed);
        outputs += case.inputs.len();
        if differs(&case, &mut oracle, &schemas).is_some() {
            let case = shrunk(case, &mut oracle, &schemas);
            let told = differs(&case, &mut oracle, &schemas).unwrap_or_default();
            differing.push(format!("seed {seed}\n{}\n{told}", case.text()));
        }
    }
    println!("{count} pairs from seed {seed}, {outputs} inputs, {} differ", differing.len());
    assert!(differing.is_empty(), "{}", differing.iter().take(8).cloned().collect::<Vec<_>>().join("\n\n"));
}
