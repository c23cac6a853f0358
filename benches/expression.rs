//! Nanoseconds per evaluation of compiled expressions: `cargo bench --bench expression`.
//!
//! Each line is the median of several runs, with the fastest beside it.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark reads the clock and prints")]

use std::hint::black_box;
use std::time::Instant;

use tidemill::base::types::{Field, RecordType, Type};
use tidemill::base::value::Value;
use tidemill::expr::{Env, Scratch, check};

const EXPRESSIONS: [&str; 31] = [
    "value.delay > 15",
    "value.delay > value.limit",
    "value.ratio < 0.75",
    "value.carrier == 'UA'",
    "value.delay > 15 && value.carrier == 'UA'",
    "value.delay > 15 && value.ratio < 0.75 && value.carrier != 'AA'",
    "value.delay + value.limit",
    "(value.delay + value.limit) * 2 > 60",
    "double(value.delay) / 60.0",
    "value.limit > 0 && value.delay / value.limit > 1",
    "value.note.orValue(0) > 3",
    "value.note != null && value.note > 3",
    "value.delay > 15 ? 'late' : 'on time'",
    "value.carrier in ['AA', 'DL', 'UA']",
    "value.carrier.startsWith('U')",
    "value.tags.exists(t, t == 'blue')",
    // Macros over a list of ten items, each to its end.
    "value.words.all(w, w != 'x')",
    "value.words.exists(w, w == 'x')",
    "value.words.exists_one(w, w == 'word 3')",
    "value.words.filter(w, w == 'word 3')",
    "value.words.map(w, w)",
    "value.words.exists(w, w.startsWith('x'))",
    "value.words.exists(w, w.size() > 20)",
    "value.words.exists(w, w in ['a', 'b'])",
    "value.numbers.all(n, n >= 0)",
    "value.numbers.exists_one(n, n == 3)",
    "value.numbers.filter(n, n > 4)",
    "value.numbers.map(n, n * 2)",
    "value.numbers.map(n, n > 4, n * 2)",
    "value.numbers.all(i, n, i == n)",
    "value.numbers.transformList(i, n, i + n)",
];

/// Many short runs: a run that the scheduler interrupts does not count for much.
const RUNS: usize = 301;
const EVALUATIONS: u32 = 5000;

fn main() {
    let field = |name: &str, field_type: Type| Field { name: name.into(), field_type };
    let record = RecordType::new(
        "bench.Row",
        vec![
            field("delay", Type::Int),
            field("limit", Type::Int),
            field("ratio", Type::Double),
            field("carrier", Type::String),
            field("note", Type::Int.optional()),
            field("tags", Type::List(Type::String.into())),
            field("words", Type::List(Type::String.into())),
            field("numbers", Type::List(Type::Int.into())),
        ],
    );
    let env = Env::new().root("value", Type::Record(record));
    let row = [
        Value::Int(20),
        Value::Int(15),
        Value::Double(0.5),
        Value::text("UA"),
        Value::Int(4),
        Value::List([Value::text("red"), Value::text("blue")].into()),
        Value::List((0..10).map(|number| Value::text(format!("word {number}"))).collect()),
        Value::List((0..10).map(Value::Int).collect()),
    ];
    println!("{:>9} {:>9}  expression", "median ns", "least ns");
    // What the machine takes for the same comparison without any program: the line to read the others against.
    let mut runs: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..EVALUATIONS {
                let roots: &[&[Value]] = &[black_box(&row)];
                black_box(roots.first().and_then(|slots| slots[0].as_int()).is_some_and(|delay| delay > 15));
            }
            start.elapsed().as_nanos() as f64 / f64::from(EVALUATIONS)
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    println!("{:>9.1} {:>9.1}  (by hand: value.delay > 15)", runs[RUNS / 2], runs[0]);
    for text in EXPRESSIONS {
        let checked = check(text, &env).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
        let program = checked.compile(&|used| used.field.unwrap_or(0));
        let mut scratch = Scratch::new();
        let decides = *checked.value_type() == Type::Bool;
        let mut runs: Vec<f64> = (0..RUNS)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..EVALUATIONS {
                    let roots: &[&[Value]] = &[black_box(&row)];
                    if decides {
                        black_box(program.eval_bool(roots, &mut scratch).is_ok_and(|outcome| outcome));
                    } else {
                        black_box(program.eval(roots, &mut scratch).is_ok());
                    }
                }
                start.elapsed().as_nanos() as f64 / f64::from(EVALUATIONS)
            })
            .collect();
        runs.sort_by(f64::total_cmp);
        println!("{:>9.1} {:>9.1}  {text}", runs[RUNS / 2], runs[0]);
    }
}
