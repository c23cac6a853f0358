//! Decode plans against Java Avro: on random pairs of schemas, legal and illegal ones, both give the same value or both refuse.
//!
//! Java answers with the datum as the reader sees it, written with the reader's schema; read back plainly, it must be the value
//! that the plan gave. Where the two differ on purpose, `docs/avro.md` says why, and a test of its own holds each case.

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
    writer: Json,
    reader: Json,
    data: Vec<Vec<u8>>,
}

impl Case {
    fn random(seed: u64) -> Self {
        let mut cases = Cases::new(seed);
        let writer = cases.schema();
        let reader = cases.evolve(&writer);
        let mut data: Vec<Vec<u8>> = (0..DATA).map(|_| cases.datum(&writer)).collect();
        data[DATA - 1].pop();
        Self { writer, reader, data }
    }

    fn question(&self) -> Json {
        let data: Vec<String> = self.data.iter().map(|bytes| hex(bytes)).collect();
        json!({"writer": self.writer, "reader": self.reader, "data": data})
    }

    /// Our verdict on each datum.
    fn ours(&self) -> Vec<Verdict> {
        let schema = |json: &Json| Schema::parse(&json.to_string()).map_err(|error| error.to_string());
        let plan = schema(&self.writer).and_then(|writer| {
            DecodePlan::whole(&writer, &schema(&self.reader)?).map_err(|error| format!("no plan: {error}"))
        });
        let verdict = |bytes: &Vec<u8>| plan.clone()?.decode_value(bytes).map_err(|error| error.to_string());
        self.data.iter().map(verdict).collect()
    }

    /// The judge's verdict on each datum.
    fn theirs(&self, answer: &Json) -> Vec<Verdict> {
        if let Some(error) = answer.get("schema_error") {
            return self.data.iter().map(|_| Err(error.to_string())).collect();
        }
        let verdict = |datum: &Json| {
            let Some(hex) = datum["hex"].as_str() else { return Err(datum["error"].to_string()) };
            let reader = Schema::parse(&self.reader.to_string()).map_err(|error| format!("not for us: {error}"))?;
            let plain = DecodePlan::whole(&reader, &reader).unwrap();
            plain.decode_value(&unhex(hex)).map_err(|error| format!("no value of the reader's: {error}"))
        };
        let verdicts: Vec<Verdict> = answer["data"].as_array().unwrap().iter().map(verdict).collect();
        assert_eq!(verdicts.len(), self.data.len());
        verdicts
    }
}

/// What one side makes of a datum; an error is an error, whatever it says.
type Verdict = Result<Value, String>;

/// Asks the judge about all cases, in one process.
fn ask(cases: &[Case]) -> Vec<Json> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/avro_judge/Judge.java");
    let mut judge = Command::new("java")
        .args(["-cp", &format!("{}/*", provided("TIDEMILL_TEST_AVRO"))])
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

#[test]
fn plans_read_what_java_avro_reads() {
    let cases: Vec<Case> = (0..PAIRS).map(Case::random).collect();
    let answers = ask(&cases);
    let (mut read, mut refused, mut earlier) = (0, 0, 0);
    let mut differences = Vec::new();
    for (seed, (case, answer)) in cases.iter().zip(&answers).enumerate() {
        for ((bytes, ours), theirs) in case.data.iter().zip(case.ours()).zip(case.theirs(answer)) {
            match (&ours, &theirs) {
                (Ok(ours), Ok(theirs)) if ours == theirs => read += 1,
                (Err(_), Err(_)) => refused += 1,
                // Java finds out when it meets such a datum, or takes a record for one of another name.
                (Err(_), Ok(_)) if answer["compatible"] == false => earlier += 1,
                _ => differences.push(format!(
                    "seed {seed}: {}\n  writer {}\n  reader {}\n  ours   {ours:?}\n  theirs {theirs:?}",
                    hex(bytes),
                    case.writer,
                    case.reader
                )),
            }
        }
    }
    differences.sort_by_key(String::len);
    let shown = differences.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    let counts = format!("{read} read alike, {refused} refused by both, {earlier} refused here only");
    assert!(differences.is_empty(), "{} differences ({counts}), the shortest:\n{shown}", differences.len());
    // The generator makes enough of each, and the exception stays one.
    assert!(read > 8000 && refused > 5000 && earlier < 200, "{counts}");
}

/// Where the two differ on purpose, as `docs/avro.md` has it: who reads the datum.
#[test]
fn differences_from_java_avro_are_those_that_are_documented() {
    let record = |name: &str, fields: Json| json!({"type": "record", "name": name, "fields": fields});
    let one = |field_type: Json| record("R", json!([{"name": "a", "type": field_type}]));
    let fixed = |name: &str| json!({"type": "fixed", "name": name, "size": 1});
    let plain = record("x.R", json!([{"name": "a", "type": "int"}]));
    let aliased = record("y.R", json!([{"name": "b", "type": "int", "aliases": ["a"]}]));
    let missing = record("In", json!([{"name": "b", "type": "int"}]));
    let list = |item: &Json| one(json!({"type": "array", "items": item}));
    let later = record(
        "R",
        json!([{"name": "b", "type": "F"}, {"name": "a", "type": {"type": "fixed", "name": "F", "size": 1}}]),
    );
    let sooner = record(
        "R",
        json!([{"name": "a", "type": {"type": "fixed", "name": "F", "size": 1}}, {"name": "b", "type": "F"}]),
    );
    let documented = [
        ("a record of another name", record("R", json!([])), record("S", json!([])), "", "theirs"),
        ("another namespace in a union", one(fixed("x.F")), one(json!(["null", fixed("y.F")])), "07", "ours"),
        ("a field's alias in another namespace", plain, aliased, "02", "ours"),
        ("a field missing in no item", list(&record("In", json!([]))), list(&missing), "00", "theirs"),
        ("a string that is not UTF-8", one(json!("bytes")), one(json!("string")), "02ff", "theirs"),
        ("a name used before its definition", sooner, later, "0102", "theirs"),
    ];
    let cases: Vec<Case> = documented
        .iter()
        .map(|(_, writer, reader, hex, _)| Case {
            writer: writer.clone(),
            reader: reader.clone(),
            data: vec![unhex(hex)],
        })
        .collect();
    for ((case, answer), (what, _, _, _, who)) in cases.iter().zip(ask(&cases)).zip(documented) {
        let ours = case.ours().remove(0);
        let java_reads = answer["data"][0].get("hex").is_some();
        let found = match (ours.is_ok(), java_reads) {
            (true, true) => "both",
            (true, false) => "ours",
            (false, true) => "theirs",
            (false, false) => "neither",
        };
        assert_eq!(found, who, "{what}: {ours:?} and {answer}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
