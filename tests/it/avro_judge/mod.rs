//! Decode plans against Java Avro: on random pairs of schemas, legal and illegal ones, both give the same value or both refuse.
//!
//! Java answers with the datum as the reader sees it, written with the reader's schema; read back plainly, it must be the value
//! that the plan gave. Where the two differ on purpose, `docs/avro.md` says why, and [`deliberate`] knows it.

mod cases;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value as Json, json};
use tidemill::avro::{DecodePlan, Schema};
use tidemill::base::value::Value;

use crate::provided;
use cases::Cases;

const PAIRS: u64 = 5000;
/// Data of each pair; the last one is cut short.
const DATA: usize = 4;

struct Case {
    seed: u64,
    writer: Json,
    reader: Json,
    data: Vec<Vec<u8>>,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut cases = Cases::new(seed);
        let writer = cases.schema();
        let reader = cases.evolve(&writer);
        let mut data: Vec<Vec<u8>> = (0..DATA).map(|_| cases.datum(&writer)).collect();
        data[DATA - 1].pop();
        Self { seed, writer, reader, data }
    }

    fn question(&self) -> Json {
        let data: Vec<String> = self.data.iter().map(|bytes| hex(bytes)).collect();
        json!({"writer": self.writer, "reader": self.reader, "data": data})
    }
}

/// What one side makes of a datum; an error is one, whatever it says.
type Verdict = Result<Value, String>;

/// Asks the judge about all cases, in one process.
fn ask(cases: &[Case]) -> Vec<Json> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/avro_judge/Judge.java");
    let mut judge = Command::new("java")
        .args(["-Xss4m", "-cp", &format!("{}/*", provided("TIDEMILL_TEST_AVRO"))])
        .arg(source)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut questions = judge.stdin.take().unwrap();
    let answers = BufReader::new(judge.stdout.take().unwrap());
    let answers = std::thread::scope(|scope| {
        scope.spawn(move || {
            for case in cases {
                writeln!(questions, "{}", case.question()).unwrap();
            }
        });
        answers.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect::<Vec<Json>>()
    });
    assert!(judge.wait().unwrap().success());
    assert_eq!(answers.len(), cases.len(), "an answer for each question");
    answers
}

/// The judge's verdict on each datum; none where it refuses a schema.
fn theirs(answer: &Json, reader: &Schema) -> Option<Vec<Verdict>> {
    let plain = DecodePlan::whole(reader, reader).unwrap();
    let data = answer["data"].as_array()?;
    let verdict = |datum: &Json| match datum["hex"].as_str() {
        Some(hex) => {
            Ok(plain.decode_value(&unhex(hex)).unwrap_or_else(|error| panic!("{error}: the judge's own {datum}")))
        }
        None => Err(datum["error"].as_str().unwrap().to_owned()),
    };
    Some(data.iter().map(verdict).collect())
}

/// Our verdict on each datum.
fn ours(case: &Case, writer: &Schema, reader: &Schema) -> Vec<Verdict> {
    let plan = match DecodePlan::whole(writer, reader) {
        Ok(plan) => plan,
        Err(error) => return case.data.iter().map(|_| Err(format!("no plan: {error}"))).collect(),
    };
    case.data.iter().map(|bytes| plan.decode_value(bytes).map_err(|error| error.to_string())).collect()
}

#[test]
fn plans_read_what_java_avro_reads() {
    let cases: Vec<Case> = (0..PAIRS).map(Case::new).collect();
    let answers = ask(&cases);
    let (mut compared, mut read, mut refused) = (0, 0, 0);
    let mut differences = Vec::new();
    for (case, answer) in cases.iter().zip(&answers) {
        let schemas = (Schema::parse(&case.writer.to_string()), Schema::parse(&case.reader.to_string()));
        let (Ok(writer), Ok(reader)) = schemas else {
            if answer.get("schema_error").is_none() {
                differences.push(format!("seed {}: only Java takes {} and {}", case.seed, case.writer, case.reader));
            }
            continue;
        };
        let Some(theirs) = theirs(answer, &reader) else {
            differences.push(format!("seed {}: Java refuses a schema: {answer} {}", case.seed, case.reader));
            continue;
        };
        for ((bytes, ours), theirs) in case.data.iter().zip(ours(case, &writer, &reader)).zip(theirs) {
            compared += 1;
            match (&ours, &theirs) {
                (Ok(ours), Ok(theirs)) if ours == theirs => read += 1,
                (Err(_), Err(_)) => refused += 1,
                _ => differences.push(format!(
                    "seed {}: {}\n  writer {}\n  reader {}\n  ours   {ours:?}\n  theirs {theirs:?}",
                    case.seed,
                    hex(bytes),
                    case.writer,
                    case.reader
                )),
            }
        }
    }
    let shown: Vec<&String> = differences.iter().take(20).collect();
    assert!(differences.is_empty(), "{} differences in {compared}: {shown:#?}", differences.len());
    // The generator makes enough of both.
    assert!(compared > PAIRS && read > PAIRS && refused > PAIRS, "{compared}: {read} read, {refused} refused");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
