//! Random topologies and inputs, by seed, given to tidemill and to Kafka Streams: `make conformance-random N=200 SEED=1`.
//!
//! Not among the tests of every run: it needs the oracle's Kafka Streams and minutes. A seed that differs is printed as a scenario, shrunk to
//! the inputs that matter, ready to be put among those that are kept.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value as Json;

use crate::conformance::{FOLDER, Problem, by_topic, difference, line, run, scenario, schemas};

/// A small generator of numbers (xorshift), the same on every machine.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }

    fn in_a_hundred(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What is compared: every output, in order or not, or, where tidemill forwards nothing that changes nothing (D6), each key's last.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Compared {
    All,
    /// In any order: unmatched rows of streams come when their window closes, in Kafka Streams now and then (D4).
    Sorted,
    LastPerKey,
}

/// What a case is made of, but for its inputs.
struct Shape {
    /// The topology's sources and operators.
    text: String,
    topics: &'static [&'static str],
    /// Every input has a key.
    keyed: bool,
    /// Deletions are at odd times, other rows at even ones: a version deleted at its own time is D13.
    apart: bool,
    /// No input is late: an unmatched row of streams that comes past its window is another in Kafka Streams (D4).
    in_order: bool,
    compared: Compared,
}

struct Case {
    topology: String,
    inputs: Vec<String>,
    /// What comes last in any case: far ahead, so that every window closes in either.
    last: &'static [&'static str],
    compared: Compared,
}

impl Case {
    fn text(&self) -> String {
        let all = self.inputs.iter().map(String::as_str).chain(self.last.iter().copied());
        let inputs: String = all.fold(String::new(), |mut text, input| {
            writeln!(text, "  {input},").unwrap();
            text
        });
        format!("{}\n[scenario]\ntitle = \"random\"\nrule = \"random\"\ninput = [\n{inputs}]\n", self.topology)
    }
}

/// The topology of a seed with its inputs, for who has use for it without the oracle.
pub(crate) fn topology_and_inputs(seed: u64) -> (String, Vec<tidemill::testing::Input>) {
    let case = generate(seed);
    let inputs = crate::conformance::inputs(&scenario(format!("random {seed}"), &case.text()));
    (case.topology, inputs)
}

const HEAD: &str = "[topology]\nformat = 1\napplication_id = \"conformance\"\n";

fn source(kind: &str, name: &str) -> String {
    format!("\n[{kind}.{name}]\ntopic = \"{name}\"\nvalue_format = \"json\"\nschemas = [\"Order.avsc\"]\n")
}

fn sink(from: &str, windowed: bool) -> String {
    let key = if windowed { "key_format = \"windowed\"\n" } else { "" };
    format!("\n[sink.out]\nfrom = \"{from}\"\ntopic = \"out\"\nrecord = \"conformance.Out\"\n{key}")
}

fn generate(seed: u64) -> Case {
    let mut dice = Dice::new(seed);
    let shape = match dice.below(10) {
        0..=2 => aggregate(&mut dice),
        3 => stream_table(&mut dice),
        4 => stream_stream(&mut dice),
        5 => table_table(&mut dice),
        7 => unmatched(&mut dice),
        8 => foreign_key(&mut dice),
        9 => global_table(&mut dice),
        _ => of_table(&mut dice),
    };
    let inputs = inputs(&mut dice, &shape);
    let last: &[&str] = if shape.compared == Compared::Sorted { &FAR_AHEAD } else { &[] };
    Case { topology: format!("{HEAD}{}", shape.text), inputs, last, compared: shape.compared }
}

/// A window with its `emit`. A session of `on_close` is not among them: what touches one whose result is out merges with it in Kafka
/// Streams (D3).
fn window(dice: &mut Dice) -> String {
    let (size, grace) = (dice.between(2, 20), dice.between(0, 15));
    let emit = if dice.in_a_hundred(45) { "on_close" } else { "on_update" };
    match dice.below(4) {
        0 => format!("emit = \"{emit}\"\nwindow = {{ tumbling = \"{size}ms\", grace = \"{grace}ms\" }}\n"),
        1 => {
            let advance = dice.between(1, size);
            format!(
                "emit = \"{emit}\"\nwindow = {{ hopping = \"{size}ms\", advance = \"{advance}ms\", grace = \"{grace}ms\" }}\n"
            )
        }
        2 => format!("emit = \"{emit}\"\nwindow = {{ sliding = \"{size}ms\", grace = \"{grace}ms\" }}\n"),
        _ => format!("emit = \"on_update\"\nwindow = {{ session = \"{size}ms\", grace = \"{grace}ms\" }}\n"),
    }
}

fn aggregate(dice: &mut Dice) -> Shape {
    let mut text = source("stream", "left");
    let mut from = "left";
    if dice.in_a_hundred(30) {
        text.push_str("\n[stream.some]\nfrom = \"left\"\nwhere = 'value.amount > 2'\n");
        from = "some";
    }
    let windowed = dice.in_a_hundred(80);
    let group = if dice.in_a_hundred(25) { "group_by = 'value.customer'\n" } else { "" };
    let window = if windowed { window(dice) } else { "emit = \"on_update\"\n".to_owned() };
    let functions = "rows = 'count()', total = 'sum(value.amount)', least = 'min(value.amount)', most = 'max(value.amount)', \
                     first = 'first(value.amount)', last = 'last(value.amount)', mean = 'avg(value.amount)', all = 'collect(value.amount)'";
    write!(text, "\n[aggregate.agg]\nfrom = \"{from}\"\n{group}{window}select = {{ {functions} }}\n").unwrap();
    text.push_str(&sink("agg", windowed));
    Shape { text, topics: &["left"], keyed: false, apart: false, in_order: false, compared: Compared::All }
}

fn stream_table(dice: &mut Dice) -> Shape {
    let mut text = source("stream", "left") + &source("table", "right");
    let versioned = dice.in_a_hundred(50);
    if versioned {
        writeln!(text, "versioned = \"{}ms\"", dice.between(10, 60)).unwrap();
    }
    let grace = if versioned && dice.in_a_hundred(50) {
        format!("grace = \"{}ms\"\n", dice.between(1, 10))
    } else {
        String::new()
    };
    let kind = dice.one_of(&["inner", "left"]);
    write!(text, "\n[join.both]\nleft = \"left\"\nright = \"right\"\nkind = \"{kind}\"\n{grace}select = {{ l = 'left.amount', r = 'right.?amount' }}\n").unwrap();
    text.push_str(&sink("both", false));
    // A left row without a key fails in Kafka Streams where rows wait.
    Shape {
        text,
        topics: &["left", "right"],
        keyed: !grace.is_empty(),
        apart: versioned,
        in_order: false,
        compared: Compared::All,
    }
}

fn stream_stream(dice: &mut Dice) -> Shape {
    let (before, after, grace) = (dice.between(0, 15), dice.between(0, 15), dice.between(0, 15));
    let own = dice.in_a_hundred(20);
    let right = if own { "left" } else { "right" };
    let mut text = source("stream", "left");
    if !own {
        text.push_str(&source("stream", "right"));
    }
    write!(text, "\n[join.both]\nleft = \"left\"\nright = \"{right}\"\nkind = \"inner\"\nwindow = {{ before = \"{before}ms\", after = \"{after}ms\", grace = \"{grace}ms\" }}\nselect = {{ l = 'left.amount', r = 'right.amount' }}\n").unwrap();
    text.push_str(&sink("both", false));
    Shape {
        text,
        topics: if own { &["left"] } else { &["left", "right"] },
        keyed: false,
        apart: false,
        in_order: false,
        compared: Compared::All,
    }
}

/// A join of streams whose rows go on alone when their window closes.
fn unmatched(dice: &mut Dice) -> Shape {
    let (before, after, grace) = (dice.between(0, 15), dice.between(0, 15), dice.between(0, 15));
    let kind = dice.one_of(&["left", "outer"]);
    let mut text = source("stream", "left") + &source("stream", "right");
    write!(text, "\n[join.both]\nleft = \"left\"\nright = \"right\"\nkind = \"{kind}\"\nwindow = {{ before = \"{before}ms\", after = \"{after}ms\", grace = \"{grace}ms\" }}\nselect = {{ l = 'left.?amount', r = 'right.?amount' }}\n").unwrap();
    text.push_str(&sink("both", false));
    Shape { text, topics: &["left", "right"], keyed: false, apart: false, in_order: true, compared: Compared::Sorted }
}

/// Kafka Streams lets unmatched rows of either side go when that side's next row comes.
const FAR_AHEAD: [&str; 3] = [
    "{ topic = \"left\", key = \"z\", value = { amount = 0 }, at = 100000 }",
    "{ topic = \"right\", key = \"y\", value = { amount = 0 }, at = 100000 }",
    "{ topic = \"left\", key = \"x\", value = { amount = 0 }, at = 100000 }",
];

/// Two keys are referred to; the table has a third.
const REFERS: &str = "left.customer == \"ann\" ? \"a\" : \"b\"";

fn foreign_key(dice: &mut Dice) -> Shape {
    let kind = dice.one_of(&["inner", "left"]);
    let mut text = source("table", "left") + &source("table", "right");
    write!(text, "\n[join.both]\nleft = \"left\"\nright = \"right\"\nkind = \"{kind}\"\nforeign_key = '{REFERS}'\nselect = {{ l = 'left.amount', r = 'right.?amount' }}\n").unwrap();
    text.push_str(&sink("both", false));
    Shape {
        text,
        topics: &["left", "right"],
        keyed: false,
        apart: false,
        in_order: false,
        compared: Compared::LastPerKey,
    }
}

fn global_table(dice: &mut Dice) -> Shape {
    let kind = dice.one_of(&["inner", "left"]);
    let key = dice.one_of(&[REFERS, "key"]);
    let mut text = source("stream", "left") + &source("global_table", "right");
    write!(text, "\n[join.both]\nleft = \"left\"\nright = \"right\"\nkind = \"{kind}\"\nkey = '{key}'\nselect = {{ l = 'left.amount', r = 'right.?amount' }}\n").unwrap();
    text.push_str(&sink("both", false));
    // The oracle asks for the key of rows that have none.
    Shape {
        text,
        topics: &["left", "right"],
        keyed: key == "key",
        apart: false,
        in_order: false,
        compared: Compared::All,
    }
}

fn table_table(dice: &mut Dice) -> Shape {
    let kind = dice.one_of(&["inner", "left", "outer"]);
    let mut text = source("table", "left") + &source("table", "right");
    write!(text, "\n[join.both]\nleft = \"left\"\nright = \"right\"\nkind = \"{kind}\"\nselect = {{ l = 'left.?amount', r = 'right.?amount' }}\n").unwrap();
    text.push_str(&sink("both", false));
    Shape {
        text,
        topics: &["left", "right"],
        keyed: false,
        apart: false,
        in_order: false,
        compared: Compared::LastPerKey,
    }
}

fn of_table(dice: &mut Dice) -> Shape {
    let mut text = source("table", "left");
    let mut from = "left";
    if dice.in_a_hundred(40) {
        text.push_str("\n[table.some]\nfrom = \"left\"\nwhere = 'value.amount > 2'\n");
        from = "some";
    }
    write!(text, "\n[aggregate.agg]\nfrom = \"{from}\"\ngroup_by = 'value.customer'\nemit = \"on_update\"\nselect = {{ rows = 'count()', total = 'sum(value.amount)', mean = 'avg(value.amount)' }}\n").unwrap();
    text.push_str(&sink("agg", false));
    Shape { text, topics: &["left"], keyed: false, apart: false, in_order: false, compared: Compared::LastPerKey }
}

/// Times go on, back a little, and leap; keys are few; some rows have no key, some no value.
fn inputs(dice: &mut Dice, shape: &Shape) -> Vec<String> {
    let mut now = dice.between(0, 40) as i64;
    let mut inputs = Vec::new();
    for _ in 0..dice.between(4, 40) {
        now += match dice.below(20) {
            0 => dice.between(20, 80) as i64,
            _ => dice.between(0, 6) as i64,
        };
        let late = if !shape.in_order && dice.in_a_hundred(30) { dice.between(1, 30) as i64 } else { 0 };
        let at = (now - late).max(0);
        let deleted = dice.in_a_hundred(10);
        let at = if shape.apart { at & !1 | i64::from(deleted) } else { at };
        let topic = dice.one_of(shape.topics);
        let key = if shape.keyed || dice.in_a_hundred(95) {
            format!("key = \"{}\", ", dice.one_of(&["a", "b", "c"]))
        } else {
            String::new()
        };
        let value = if deleted {
            String::new()
        } else {
            let (amount, customer) = (dice.below(8), dice.one_of(&["ann", "bob"]));
            format!("value = {{ amount = {amount}, customer = \"{customer}\" }}, ")
        };
        inputs.push(format!("{{ topic = \"{topic}\", {key}{value}at = {at} }}"));
    }
    inputs
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
