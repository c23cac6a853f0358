//! What binds names, and what that may cost.

use super::*;
use crate::limits::EXPRESSION_STEPS_MAX;

#[test]
fn macros_with_two_variables_go_over_indexes_and_keys() {
    table(&[
        ("value.tags.all(i, t, i < t.size())", "true"),
        ("value.tags.exists(i, t, i == 1 && t == 'blue')", "true"),
        ("value.tags.existsOne(i, t, i > 0)", "true"),
        ("value.counts.all(k, v, value.counts[k] == v)", "true"),
        ("value.counts.exists(k, v, k == 'b' && v == 2)", "true"),
        ("value.tags.transformList(i, t, string(i) + t)", r#"["0red", "1blue"]"#),
        ("value.tags.transformList(i, t, i > 0, t)", r#"["blue"]"#),
        ("value.counts.transformList(k, v, k + string(v))", r#"["a1", "b2"]"#),
        ("value.counts.transformMap(k, v, v * 10)", r#"{"a": 10, "b": 20}"#),
        ("value.counts.transformMap(k, v, v > 1, k)", r#"{"b": "b"}"#),
        ("value.tags.transformMapEntry(i, t, {t: i})", r#"{"blue": 1, "red": 0}"#),
        ("value.counts.transformMapEntry(k, v, v > 1, {k: v, k + k: v})", r#"{"b": 2, "bb": 2}"#),
        ("value.tags.transformMapEntry(i, t, {'same': i})", "0..47 the key `same` comes twice"),
        ("value.tags.transformMapEntry(i, t, {'same': i}).size() == 2 || true", "true"),
        ("{'a': 1, key: 2, 'UA1-JFK': 3}.size() == 1 || true", "true"),
        ("[value.counts].map(m, m.transformList(k, v, v))", "[[1, 2]]"),
        ("[[1, 2], [3]].map(l, l.map(x, l.size() * x))", "[[2, 4], [3]]"),
    ]);
    assert_eq!(*checked("value.counts.transformMap(k, v, k)").value_type(), Type::Map(Arc::new(Type::String)));
}

#[test]
fn names_are_bound_once_and_innermost_first() {
    table(&[
        ("cel.bind(x, value.delay * 2, x + x)", "80"),
        ("cel.bind(x, 1, cel.bind(x, x + 1, x * 10))", "20"),
        ("value.tags.map(t, cel.bind(n, t.size(), n * n))", "[9, 16]"),
        ("cel.bind(key, 1, key)", "1"),
        ("cel.bind(key, 1, .key)", r#""UA1-JFK""#),
        ("[1].map(key, .key)", r#"["UA1-JFK"]"#),
        ("cel.bind(r, value.rating, r != null && r > 3)", "true"),
        ("cel.bind(p, value.plane, p.maker)", r#""AIRBUS""#),
        ("cel.bind(v, value, v.plane.maker)", r#""AIRBUS""#),
        ("cel.bind(x, value.limit / 0, true)", "12..27 division by zero"),
    ]);
}

#[test]
fn optionals_are_mapped_and_left_out() {
    table(&[
        ("value.rating.optMap(r, r + 1)", "5"),
        ("value.rating.optMap(r, r + 1).orValue(0)", "5"),
        ("value.note.optMap(n, n.size())", "null"),
        ("value.note.optMap(n, n.size() / 0).hasValue()", "false"),
        ("value.aircraft.optFlatMap(a, a.seats)", "180"),
        ("value.counts[?'z'].optFlatMap(z, optional.of(z))", "null"),
        ("[1, ?value.rating, ?value.counts[?'z'], 9]", "[1, 4, 9]"),
        ("{'a': 1, ?'b': value.rating, ?'c': value.counts.?z}", r#"{"a": 1, "b": 4}"#),
        ("optional.ofNonZeroValue(value.delay - 20).orValue(7)", "7"),
        ("optional.ofNonZeroValue(key)", r#""UA1-JFK""#),
        ("value.tags.first()", r#""red""#),
        ("value.tags.last().orValue('none')", r#""blue""#),
        ("value.tags.filter(t, t == 'x').first()", "null"),
        ("value.counts.?z", "null"),
        ("optional.none()[?0].hasValue()", "false"),
        ("value.tags[?1].optMap(t, t.size())", "4"),
    ]);
    assert_eq!(*checked("[?value.rating]").value_type(), Type::List(Arc::new(Type::Int)));
    assert_eq!(*checked("value.rating.optMap(r, string(r))").value_type(), Type::String.optional());
}

/// `[0, 1, … 9]` as a literal.
fn ten() -> String {
    format!("[{}]", (0..10).map(|number| number.to_string()).collect::<Vec<_>>().join(", "))
}

fn code(text: &str) -> &'static str {
    check(text, &env()).err().map_or("", |problems| problems[0].code.0)
}

#[test]
fn nested_macros_have_a_cost_that_is_known_before_the_first_record() {
    let tags = "value.tags";
    let nested = |ranges: [&str; 3]| {
        let [a, b, c] = ranges;
        format!("{a}.all(x, {b}.all(y, {c}.all(z, x == y || y == z)))")
    };
    let ten = ten();
    assert_eq!(code(&nested([tags, tags, tags])), "E0211");
    assert_eq!(code(&nested(["['a']", tags, tags])), "");
    let small: String = nested([ten.as_str(); 3]);
    assert_eq!(code(&small), "");
    // What is made of a list is as long as that list; what is made of a list of lists, as its longest.
    assert_eq!(code(&nested(["value.tags.map(t, t)", "value.tags.filter(t, true)", "(value.tags + ['a'])"])), "E0211");
    assert_eq!(code(&format!("[{ten}, {ten}].all(l, l.all(x, l.all(y, l.all(z, x + y + z < 100))))")), "");
    assert_eq!(code("cel.bind(l, value.tags, l.all(x, l.all(y, l.all(z, x == y || y == z))))"), "E0211");
    assert_eq!(code("cel.bind(l, ['a'], l.all(x, l.all(y, l.all(z, x == y || y == z))))"), "");
    // Thirty levels multiply beyond any number.
    let deep = (0..30).fold("true".to_owned(), |inner, level| format!("value.tags.all(x{level}, {inner})"));
    assert_eq!(code(&deep), "E0211");
    let problems = check(&nested([tags, tags, tags]), &env()).unwrap_err();
    assert!(problems[0].message.ends_with("the limit is 50000000"), "{}", problems[0].message);
    // A pattern that is not literal is compiled each time.
    assert_eq!(code("value.tags.all(x, key.matches(x))"), "");
    assert_eq!(code("value.tags.all(x, value.tags.all(y, x.matches(y)))"), "E0211");
    // Searching a list goes through it.
    assert_eq!(code("value.tags.all(x, value.tags.all(y, x in value.tags || y in value.tags))"), "E0211");
    assert_eq!(code("value.tags.all(i, x, value.tags.all(j, y, value.tags[i] == y || value.tags[j] == x))"), "");
}

#[test]
fn an_evaluation_ends_where_its_steps_do() {
    let long: Vec<Value> = (0..10_000).map(|number| Value::text(format!("tag {number}"))).collect();
    let mut slots = row();
    slots[9] = Value::List(long.into());
    let mut scratch = Scratch::new();
    let mut run = |text: &str| {
        let program = checked(text).compile(&|field: FieldUse| field.field.unwrap_or(0));
        program.eval(&[&slots, &[Value::text("UA")], &[Value::Null]], &mut scratch)
    };
    let expected = format!("the evaluation takes more than {EXPRESSION_STEPS_MAX} steps");
    for text in [
        "value.tags.all(a, value.tags.all(b, a != 'x' || b != 'x'))",
        // Nothing absorbs it: not the other operand, not the next item.
        "value.tags.all(a, value.tags.all(b, a != 'x' || b != 'x')) || true",
        "value.tags.exists(a, value.tags.map(b, b + a).size() < 0)",
        // What a function goes through counts, and what it makes.
        "value.tags.map(a, value.tags.join()).size()",
        "value.tags.map(a, value.tags.contains(a)).size()",
        "value.tags.map(a, value.tags == value.tags).size()",
        "value.tags.all(a, !'x'.matches(key))",
        "cel.bind(s, value.tags.join(), value.tags.map(a, [s, s])).size()",
        "cel.bind(s, value.tags.join(), value.tags.map(a, {a: s, 'b': s})).size()",
    ] {
        assert_eq!(run(text).unwrap_err().message, expected, "{text}");
    }
    assert_eq!(run("value.tags.all(a, a != 'x')"), Ok(Value::Bool(true)));
    assert_eq!(run("value.tags.all(i, a, value.tags[i] == a)"), Ok(Value::Bool(true)));
}
