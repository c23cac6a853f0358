//! Whatever is written, nothing panics: arbitrary bytes, mutations of expressions that are right, and random ones that are well
//! typed, which give values of their types, or errors, whatever the slots hold.

use proptest::prelude::*;

use super::*;

/// Right expressions over every part of the language; mutations begin here.
const SEEDS: [&str; 24] = [
    "value.delay > 15 && value.carrier == 'UA' || !value.cancelled",
    "value.rating != null && value.rating > 3 ? value.note.orValue('x') : key",
    "has(value.aircraft.seats) && value.?aircraft.seats.orValue(0) > 100",
    "[1, ?value.rating, ?value.counts[?'z']].map(x, x * 2).filter(x, x in [2, 8])",
    "value.counts.transformMap(k, v, v > 1, {k: v, ?'n': value.rating})",
    "value.tags.transformMapEntry(i, t, {t: [i]})['red'][0]",
    "value.tags.exists(i, t, i / (value.delay - 20) == 1 || t.matches('^b[a-z]+$'))",
    "cel.bind(d, value.delay * 2, value.rating.optMap(r, r + d).or(optional.of(d)))",
    "'%s is %d late, %.1f%%'.format([value.carrier, value.delay, value.ratio])",
    "decimal(double(value.price) / 3.0, 9, 4) + value.price * 2 - 0.05",
    "value.at - timestamp('2013-07-01T22:30:00Z') > duration('1h30m') ? value.took.getHours() : -1",
    "value.at.getDayOfWeek('+02:00') + value.at.getFullYear()",
    "key.split('-', 2).join('+').replace('UA', '').substring(1, 3).charAt(0).upperAscii().trim()",
    "key.indexOf('J', 2) + key.lastIndexOf('U', 3) + key.reverse().size()",
    "strings.quote(\"\\u00e9\\n\") + r'\\d' + '''three\"s'''",
    "math.greatest(1, value.delay, 3) + math.bitShiftLeft(1, 4) + int(math.round(value.ratio))",
    "b'\\xff\\000' + value.raw == bytes(key) && size(value.raw) < 0x10",
    "{'a': [1, 2], 'b': []}.b + [value.plane.seats.orValue(7)]",
    "optional.ofNonZeroValue(value.count).hasValue() && 7u in [value.count]",
    "value.`delay` % 7 - .value.limit / 2",
    "[[1, 2], [3]].map(l, l.map(x, l.size() * x)).last().orValue([0])[?0].value()",
    "value.status in ['OPEN', 'CLOSED'] && value.status != key",
    "string(value.took) + string(value.at) + string(value.price) + string(1.5e300)",
    "-9223372036854775808 == -9.2e18 || 1u < -1 // the end",
];

/// Pieces that mutations put in.
const PIECES: [&str; 32] = [
    "",
    ".",
    ".?",
    "[",
    "[?",
    "]",
    "(",
    ")",
    "{",
    "}",
    "?",
    ":",
    ",",
    "'",
    "\"",
    "\\",
    "`",
    "&&",
    "||",
    "!",
    "-",
    "/ 0",
    "value",
    "x",
    "null",
    "9223372036854775808",
    "1e999",
    "é",
    "%.9f",
    ".map(x, ",
    "cel.bind(x, ",
    ".format([",
];

/// What a mutation does at a place, given in thousandths of the text.
#[derive(Clone, Debug)]
enum Mutation {
    Insert(usize, &'static str),
    Remove(usize, usize),
    /// A piece of another seed in place of what is there.
    Splice(usize, usize, usize),
}

fn mutations() -> impl Strategy<Value = Mutation> {
    let place = 0_usize..1000;
    prop_oneof![
        (place.clone(), prop::sample::select(&PIECES[..])).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        (place.clone(), 1_usize..12).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (place, 0_usize..SEEDS.len(), 1_usize..24).prop_map(|(at, seed, length)| Mutation::Splice(at, seed, length)),
    ]
}

fn mutated(seed: &str, mutations: &[Mutation]) -> String {
    let mut text = seed.to_owned();
    for mutation in mutations {
        let place = |at: usize, text: &str| text.floor_char_boundary(at * text.len() / 1000);
        match mutation {
            Mutation::Insert(at, piece) => text.insert_str(place(*at, &text), piece),
            Mutation::Remove(at, length) => {
                let start = place(*at, &text);
                text.replace_range(start..text.ceil_char_boundary(start + length), "");
            }
            Mutation::Splice(at, seed, length) => {
                let (other, start) = (SEEDS[*seed], place(*at, &text));
                let from = place(*at, other);
                let part = &other[from..other.ceil_char_boundary(from + length)];
                text.replace_range(start..text.ceil_char_boundary(start + length), part);
            }
        }
    }
    text
}

/// Checks, and evaluates on rows that hold what their types say, and on rows that do not.
fn survives(text: &str) {
    let problems = match check(text, &env()) {
        Ok(checked) => {
            let program = checked.compile(&|field: FieldUse| field.field.unwrap_or(0));
            let mut scratch = Scratch::new();
            let (row, key) = (row(), [Value::text("UA1-JFK")]);
            match program.eval(&[&row, &key, &[Value::Null]], &mut scratch) {
                Ok(value) => {
                    assert!(is_of(&value, checked.value_type()), "{text}: {value:?} is no {}", checked.value_type())
                }
                Err(error) => assert!(text.get(error.span.start..error.span.end).is_some(), "{text}: {error}"),
            }
            let mut backwards = row.clone();
            backwards.reverse();
            for wrong in [&[][..], &backwards, &vec![Value::Null; 20]] {
                drop(program.eval(&[wrong, wrong, wrong], &mut scratch));
            }
            // What an evaluation left behind does not matter to the next.
            let again = program.eval(&[&row, &key, &[Value::Null]], &mut scratch).map(|value| shown(&value));
            let fresh = program.eval(&[&row, &key, &[Value::Null]], &mut Scratch::new()).map(|value| shown(&value));
            assert_eq!(again, fresh, "{text}");
            return;
        }
        Err(problems) => problems,
    };
    assert!(!problems.is_empty(), "{text}");
    for problem in problems {
        assert!(text.get(problem.span.start..problem.span.end).is_some(), "{text:?}: {problem:?}");
        assert!(problem.help.is_some() || problem.code.0 == "E0201", "{text:?}: {problem:?}");
    }
}

/// Tells whether a value is one of a type.
fn is_of(value: &Value, of: &Type) -> bool {
    match (value, of) {
        (Value::Null, of) => of.allows_null(),
        (value, Type::Optional(of)) => is_of(value, of),
        (Value::Bool(_), Type::Bool)
        | (Value::Int(_), Type::Int)
        | (Value::Uint(_), Type::Uint)
        | (Value::Double(_), Type::Double)
        | (Value::String(_), Type::String | Type::Enum(_))
        | (Value::Bytes(_), Type::Bytes)
        | (Value::DateTime(_), Type::DateTime)
        | (Value::TimeDelta(_), Type::TimeDelta) => true,
        // Precision is the type's bound, which sums at 38 digits may pass.
        (Value::Decimal(decimal), Type::Decimal { scale, .. }) => decimal.scale <= *scale,
        (Value::List(items), Type::List(of)) => items.iter().all(|item| is_of(item, of)),
        (Value::Map(entries), Type::Map(of)) => {
            entries.iter().all(|(key, value)| is_of(key, &Type::String) && is_of(value, of))
        }
        (Value::Record(fields), Type::Record(of)) => {
            fields.len() == of.fields().len()
                && fields.iter().zip(of.fields()).all(|(value, field)| is_of(value, &field.field_type))
        }
        _ => false,
    }
}

/// Types, with the expressions of each that are no larger than a name, and those that hold others: `<int>` is any of that type.
const FORMS: [(&str, &[&str], &[&str]); 8] = [
    (
        "int",
        &["value.delay", "value.limit", "0", "-1", "9223372036854775807", "value.rating.orValue(2)", "i"],
        &[
            "(<int> + <int>)",
            "(<int> - <int>)",
            "(<int> * <int>)",
            "(<int> / <int>)",
            "(<int> % <int>)",
            "<strings>.size()",
            "size(<string>)",
            "<ints>[<int>]",
            "<optional>.orValue(<int>)",
            "(<bool> ? <int> : <int>)",
            "int(<double>)",
            "int(<decimal>)",
            "<string>.indexOf(<string>)",
            "<string>.lastIndexOf(<string>, <int>)",
            "math.greatest(<int>, <int>)",
            "cel.bind(i, <int>, (<int> + i))",
            "math.bitShiftRight(<int>, <int>)",
            "math.sign(<int>)",
            "<optional>.value()",
        ],
    ),
    (
        "bool",
        &["value.cancelled", "true", "false", "(value.note == null)"],
        &[
            "(<int> < <int>)",
            "(<double> == <int>)",
            "(<string> >= <string>)",
            "(<bool> && <bool>)",
            "(<bool> || <bool> || <bool>)",
            "!<bool>",
            "<strings>.all(t, <bool>)",
            "<ints>.exists(i, <bool>)",
            "<ints>.exists(i, x, (i < x) && <bool>)",
            "<strings>.exists_one(t, <bool>)",
            "(<string> in <strings>)",
            "<string>.contains(<string>)",
            "<string>.startsWith(<string>)",
            "<string>.matches('^[a-z]+$')",
            "<optional>.hasValue()",
            "(<ints> == <ints>)",
            "(<decimal> > <int>)",
            "(<decimal> == <decimal>)",
        ],
    ),
    (
        "double",
        &["value.ratio", "0.0", "-1.5", "1e300"],
        &[
            "(<double> + <double>)",
            "(<double> / <double>)",
            "double(<int>)",
            "double(<decimal>)",
            "math.round(<double>)",
        ],
    ),
    (
        "string",
        &["value.carrier", "key", "''", "'héllo'", "value.note.orValue('n')", "t"],
        &[
            "(<string> + <string>)",
            "<string>.upperAscii()",
            "<string>.substring(<int>)",
            "<string>.charAt(<int>)",
            "<string>.reverse()",
            "<strings>.join(<string>)",
            "<string>.replace(<string>, <string>)",
            "string(<int>)",
            "string(<double>)",
            "strings.quote(<string>)",
            "'%s %d %.2f %x'.format([<ints>, <int>, <double>, <string>])",
            "<string>.format([<int>])",
            "string(<decimal>)",
        ],
    ),
    (
        "ints",
        &["[1, 2, 3]", "[value.delay]", "[1].filter(x, x > 1)"],
        &[
            "(<ints> + <ints>)",
            "<strings>.map(t, <int>)",
            "<ints>.map(i, <bool>, <int>)",
            "<ints>.filter(i, <bool>)",
            "[<int>, ?<optional>]",
            "<ints>.transformList(i, x, x + i)",
            "value.counts.transformMap(k, v, v + <int>).transformList(k, v, v)",
        ],
    ),
    (
        "strings",
        &["value.tags", "['a', 'b']", "key.split('-')"],
        &[
            "(<strings> + <strings>)",
            "<string>.split(<string>)",
            "<ints>.map(i, <string>)",
            "<strings>.filter(t, <bool>)",
            "{<string>: <int>}.map(k, k)",
            "<strings>.transformMapEntry(i, t, {t: i}).map(k, k)",
        ],
    ),
    (
        "decimal",
        &["value.price", "decimal(value.delay, 9, 2)"],
        &[
            "(<decimal> + <decimal>)",
            "(<decimal> - <int>)",
            "(<decimal> * <int>)",
            "-<decimal>",
            "decimal(<decimal>, 38, 3)",
            "decimal(<double>, 12, 2)",
            "(<decimal> + 0.125)",
        ],
    ),
    (
        "optional",
        &["value.rating", "value.tags.map(t, t.size()).first()", "optional.of(3)", "value.plane.seats"],
        &[
            "<optional>.optMap(i, <int>)",
            "<optional>.or(<optional>)",
            "<ints>[?<int>]",
            "<ints>.last()",
            "optional.ofNonZeroValue(<int>)",
        ],
    ),
];

/// Random expressions of a type, as text.
fn typed(of: &'static str, depth: u32) -> BoxedStrategy<String> {
    let (_, leaves, forms) = FORMS.iter().find(|(name, ..)| *name == of).expect("a type of the table");
    let leaf = prop::sample::select(*leaves).prop_map(str::to_owned);
    if depth == 0 {
        return leaf.boxed();
    }
    let form = prop::sample::select(*forms).prop_flat_map(move |form| filled(form, depth - 1));
    prop_oneof![1 => leaf, 5 => form].boxed()
}

/// Fills the gaps of a form.
fn filled(form: &'static str, depth: u32) -> BoxedStrategy<String> {
    let (head, rest) = form.split_once('<').unwrap_or((form, ""));
    let gaps = if rest.is_empty() { Vec::new() } else { rest.split('<').collect() };
    gaps.into_iter().fold(Just(head.to_owned()).boxed(), |before, part| match part.split_once('>') {
        Some((gap, after)) if FORMS.iter().any(|(name, ..)| *name == gap) => {
            let filled = (before, typed(gap, depth));
            filled.prop_map(move |(before, gap)| format!("{before}{gap}{after}")).boxed()
        }
        // Less than, not a gap.
        _ => before.prop_map(move |before| format!("{before}<{part}")).boxed(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_bytes_are_checked_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn mutations_of_right_expressions_survive(
        seed in 0_usize..SEEDS.len(),
        mutations in prop::collection::vec(mutations(), 0..6),
    ) {
        survives(&mutated(SEEDS[seed], &mutations));
    }

    #[test]
    fn well_typed_expressions_give_values_of_their_types(
        text in prop::sample::select(&FORMS[..]).prop_flat_map(|(of, ..)| typed(of, 4)),
    ) {
        // `i` and `t` are what macros of the table bind; outside of any they are these.
        let text = format!("cel.bind(i, value.limit, cel.bind(t, key, {text}))");
        if let Err(problems) = check(&text, &env()) {
            // A constant that fails for every record, or more than may be.
            let known = problems.iter().all(|problem| matches!(problem.code.0, "E0209" | "E0210" | "E0211"));
            prop_assert!(known, "{text}: {problems:?}");
        }
        survives(&text);
    }
}

#[test]
fn the_seeds_are_right() {
    for seed in SEEDS {
        assert!(check(seed, &env()).is_ok(), "{seed}: {:?}", check(seed, &env()));
        survives(seed);
    }
}
