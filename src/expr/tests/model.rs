//! Random typed expressions: the program gives what a plain walk over the tree gives, errors and their places included.

use proptest::prelude::*;

use super::*;

/// Expressions of one type each, as a tree that is easy to evaluate.
#[derive(Clone, Debug)]
enum Int {
    Literal(i64),
    Field(usize),
    Arithmetic(char, Box<Int>, Box<Int>),
    Choice(Box<Bool>, Box<Int>, Box<Int>),
    OrElse(Box<Int>),
}

#[derive(Clone, Debug)]
enum Bool {
    Literal(bool),
    Compare(&'static str, Box<Int>, Box<Int>),
    Not(Box<Bool>),
    And(Vec<Bool>),
    Or(Vec<Bool>),
    /// `[items].all(x, x > bound)`, or `exists`.
    Over(&'static str, Vec<Int>, Box<Int>),
}

const FIELDS: [&str; 2] = ["value.delay", "value.limit"];

impl Int {
    fn text(&self) -> String {
        match self {
            Self::Literal(number) => format!("({number})"),
            Self::Field(field) => FIELDS[*field].to_owned(),
            Self::Arithmetic(op, left, right) => format!("({} {op} {})", left.text(), right.text()),
            Self::Choice(condition, then, otherwise) => {
                format!("({} ? {} : {})", condition.text(), then.text(), otherwise.text())
            }
            Self::OrElse(otherwise) => format!("value.rating.orValue({})", otherwise.text()),
        }
    }

    fn walk(&self, row: &Row) -> Result<i64, &'static str> {
        match self {
            Self::Literal(number) => Ok(*number),
            Self::Field(field) => Ok(row.fields[*field]),
            Self::Arithmetic(op, left, right) => {
                let (left, right) = (left.walk(row)?, right.walk(row)?);
                let result = match op {
                    '+' => left.checked_add(right),
                    '-' => left.checked_sub(right),
                    '*' => left.checked_mul(right),
                    _ if right == 0 => return Err("division by zero"),
                    '/' => left.checked_div(right),
                    _ => left.checked_rem(right),
                };
                result.ok_or("the result does not fit an int")
            }
            Self::Choice(condition, then, otherwise) => {
                if condition.walk(row)? {
                    then.walk(row)
                } else {
                    otherwise.walk(row)
                }
            }
            Self::OrElse(otherwise) => row.rating.map_or_else(|| otherwise.walk(row), Ok),
        }
    }
}

impl Bool {
    fn text(&self) -> String {
        let joined =
            |operands: &[Self], op: &str| format!("({})", operands.iter().map(Self::text).collect::<Vec<_>>().join(op));
        match self {
            Self::Literal(outcome) => outcome.to_string(),
            Self::Compare(op, left, right) => format!("({} {op} {})", left.text(), right.text()),
            Self::Not(of) => format!("!{}", of.text()),
            Self::And(operands) => joined(operands, " && "),
            Self::Or(operands) => joined(operands, " || "),
            Self::Over(name, items, bound) => {
                let items: Vec<String> = items.iter().map(Int::text).collect();
                format!("[{}].{name}(x, x > {})", items.join(", "), bound.text())
            }
        }
    }

    fn walk(&self, row: &Row) -> Result<bool, &'static str> {
        match self {
            Self::Literal(outcome) => Ok(*outcome),
            Self::Compare(op, left, right) => {
                let (left, right) = (left.walk(row)?, right.walk(row)?);
                Ok(match *op {
                    "==" => left == right,
                    "!=" => left != right,
                    "<" => left < right,
                    "<=" => left <= right,
                    ">" => left > right,
                    _ => left >= right,
                })
            }
            Self::Not(of) => of.walk(row).map(|outcome| !outcome),
            Self::And(operands) => absorb(operands.iter().map(|operand| operand.walk(row)), false),
            Self::Or(operands) => absorb(operands.iter().map(|operand| operand.walk(row)), true),
            Self::Over(name, items, bound) => {
                let items: Vec<i64> = items.iter().map(|item| item.walk(row)).collect::<Result<_, _>>()?;
                absorb(items.iter().map(|item| Ok(*item > bound.walk(row)?)), *name == "exists")
            }
        }
    }
}

/// CEL's `&&` and `||`: one decisive outcome is enough, else the first error counts.
fn absorb(outcomes: impl Iterator<Item = Result<bool, &'static str>>, decisive: bool) -> Result<bool, &'static str> {
    let outcomes: Vec<_> = outcomes.collect();
    if outcomes.contains(&Ok(decisive)) {
        return Ok(decisive);
    }
    outcomes.into_iter().find(Result::is_err).unwrap_or(Ok(!decisive))
}

#[derive(Clone, Debug)]
struct Row {
    fields: [i64; 2],
    rating: Option<i64>,
}

impl Row {
    fn slots(&self) -> [Value; 3] {
        let [delay, limit] = self.fields;
        [Value::Int(delay), Value::Int(limit), self.rating.map_or(Value::Null, Value::Int)]
    }
}

fn number() -> impl Strategy<Value = i64> + Clone {
    prop_oneof![-3_i64..4, Just(i64::MAX), Just(i64::MIN), any::<i64>()]
}

fn rows() -> impl Strategy<Value = Row> {
    ([number(), number()], prop::option::of(number())).prop_map(|(fields, rating)| Row { fields, rating })
}

fn ints(depth: u32) -> BoxedStrategy<Int> {
    let leaf = prop_oneof![number().prop_map(Int::Literal), (0_usize..2).prop_map(Int::Field)];
    if depth == 0 {
        return leaf.boxed();
    }
    let below = || ints(depth - 1).prop_map(Box::new);
    let op = prop::sample::select(vec!['+', '-', '*', '/', '%']);
    prop_oneof![
        1 => leaf,
        4 => (op, below(), below()).prop_map(|(op, left, right)| Int::Arithmetic(op, left, right)),
        1 => (bools(depth - 1).prop_map(Box::new), below(), below())
            .prop_map(|(condition, then, otherwise)| Int::Choice(condition, then, otherwise)),
        1 => below().prop_map(Int::OrElse),
    ]
    .boxed()
}

fn bools(depth: u32) -> BoxedStrategy<Bool> {
    let leaf = any::<bool>().prop_map(Bool::Literal);
    if depth == 0 {
        return leaf.boxed();
    }
    let op = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let int = || ints(depth - 1).prop_map(Box::new);
    let operands = || prop::collection::vec(bools(depth - 1), 2..4);
    prop_oneof![
        1 => leaf,
        4 => (op, int(), int()).prop_map(|(op, left, right)| Bool::Compare(op, left, right)),
        1 => bools(depth - 1).prop_map(|of| Bool::Not(Box::new(of))),
        2 => operands().prop_map(Bool::And),
        2 => operands().prop_map(Bool::Or),
        1 => (prop::sample::select(vec!["all", "exists"]), prop::collection::vec(ints(depth - 1), 0..3), int())
            .prop_map(|(name, items, bound)| Bool::Over(name, items, bound)),
    ]
    .boxed()
}

/// One scratch for both runs: what the first leaves behind must not matter to the second.
fn run(text: &str, row: &Row, scratch: &mut Scratch) -> Result<Value, String> {
    let program = checked(text).compile(&|field| match field.field {
        Some(0) => 0,
        Some(1) => 1,
        _ => 2,
    });
    program.eval(&[&row.slots()], scratch).map_err(|error| {
        assert!(text.get(error.span.start..error.span.end).is_some());
        error.message.into_owned()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn int_programs_give_what_a_walk_gives(tree in ints(4), row in rows(), other in rows()) {
        let mut scratch = Scratch::new();
        for row in [row, other] {
            let expected = tree.walk(&row).map(Value::Int).map_err(str::to_owned);
            prop_assert_eq!(run(&tree.text(), &row, &mut scratch), expected, "{}", tree.text());
        }
    }

    #[test]
    fn bool_programs_give_what_a_walk_gives(tree in bools(5), row in rows(), other in rows()) {
        let mut scratch = Scratch::new();
        for row in [row, other] {
            let expected = tree.walk(&row).map(Value::Bool).map_err(str::to_owned);
            prop_assert_eq!(run(&tree.text(), &row, &mut scratch), expected, "{}", tree.text());
        }
    }
}
