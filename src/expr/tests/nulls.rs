//! Null: what has to be handled, and what counts as handling it.

use super::*;
use crate::base::diag::Diagnostic;

fn may_be_null(text: &str) -> Diagnostic {
    let problems = check(text, &env()).expect_err(text);
    assert_eq!(problems.len(), 1, "{text}: {problems:?}");
    assert_eq!(problems[0].code.0, "E0207", "{text}: {problems:?}");
    problems[0].clone()
}

#[test]
fn optional_values_are_handled_by_their_functions() {
    table(&[
        ("value.note.orValue('none')", r#""none""#),
        ("value.rating.orValue(0)", "4"),
        ("value.note.or(optional.of('b')).value()", r#""b""#),
        ("value.note.hasValue()", "false"),
        ("value.rating.value() + 1", "5"),
        ("value.note.value()", "0..18 the value is null"),
        ("optional.of(1).hasValue()", "true"),
        ("optional.none().hasValue()", "false"),
        ("optional.none().orValue(3)", "3"),
        ("value.rating.orValue(value.delay / 0)", "4"),
        ("value.aircraft.?seats.orValue(0)", "180"),
        ("value.aircraft.?maker", r#""BOEING""#),
        ("right.?wind.orValue(1.5)", "1.5"),
        ("right.?gust.hasValue()", "false"),
        ("has(value.note) || has(value.rating)", "true"),
        ("has(value.aircraft.seats)", "true"),
        ("has(right.wind)", "false"),
        ("value.note == null", "true"),
        ("null != value.note", "false"),
    ]);
    assert_eq!(*checked("value.aircraft.?seats").value_type(), Type::Int.optional());
    assert_eq!(*checked("optional.none()").value_type(), Type::Null);
}

#[test]
fn optional_selection_goes_on_by_itself() {
    assert_eq!(*checked("value.?aircraft.maker").value_type(), Type::String.optional());
    table(&[("value.?aircraft.maker.orValue('x')", r#""BOEING""#), ("value.?counts['a']", "1")]);
}

#[test]
fn a_test_narrows_what_follows() {
    table(&[
        ("value.rating != null && value.rating > 3", "true"),
        ("value.rating == null || value.rating > 3", "true"),
        ("!(value.rating == null) && value.rating > 3", "true"),
        ("value.note != null ? value.note : 'none'", r#""none""#),
        ("value.note == null ? 'none' : value.note + '!'", r#""none""#),
        ("value.rating.hasValue() && value.rating > 3", "true"),
        ("has(value.rating) && value.rating > 3", "true"),
        ("has(value.aircraft.seats) && value.aircraft.seats > 100", "true"),
        ("value.aircraft != null && value.aircraft.seats != null && value.aircraft.seats > 100", "true"),
        ("right != null && right.wind > 1.0", "false"),
        ("right == null || right.gust == null || right.gust > 1.0", "true"),
        ("value.rating != null && (value.rating != null ? value.rating > 3 : false)", "true"),
        ("[value.rating].filter(r, r != null && r > 3).size()", "1"),
        ("[value.rating].map(r, r != null, r + 1)", "[5]"),
    ]);
    assert_eq!(*checked("value.note != null ? value.note : 'none'").value_type(), Type::String);
}

#[test]
fn a_test_narrows_nothing_else() {
    for text in [
        "value.rating > 3",
        "value.rating + 1",
        "value.rating == 4",
        "value.rating != null || value.rating > 3",
        "value.rating == null && value.rating > 3",
        "value.note != null && value.rating > 3",
        "(value.rating != null && true) ? 1 : value.rating + 1",
        "value.rating > 3 && value.rating != null",
        "value.aircraft.maker",
        "right.wind > 1.0",
        "value.aircraft != null && value.aircraft.seats > 1",
        "value.note.size()",
        "size(value.note)",
        "value.note in ['a']",
        "'a' in [value.note]",
        "math.greatest(value.rating, 1)",
        "value.counts[value.note]",
        "optional.of(value.note)",
        "[value.rating].map(r, r + 1)",
    ] {
        if text == "'a' in [value.note]" {
            // The list may hold null, which no string is equal to.
            assert!(check(text, &env()).is_ok());
            continue;
        }
        may_be_null(text);
    }
}

#[test]
fn the_help_shows_a_way_out() {
    let problem = may_be_null("1 + value.rating");
    assert_eq!((problem.span.start, problem.span.end), (4, 16));
    assert_eq!(problem.message, "`value.rating` may be null");
    assert_eq!(problem.label, "optional(int)");
    assert_eq!(
        problem.help.as_deref(),
        Some("say what null stands for, `value.rating.orValue(…)`, or test `value.rating != null && …` first")
    );
    let problem = may_be_null("value.aircraft.maker");
    assert_eq!((problem.span.start, problem.span.end), (0, 14));
    assert_eq!(
        problem.help.as_deref(),
        Some(
            "write `value.aircraft.?maker`, which is null where `value.aircraft` is, or test `value.aircraft != null && …` first"
        )
    );
}

#[test]
fn a_root_that_may_be_null_is_one_slot_however_its_type_is_narrowed() {
    let hour = record(vec![Value::Double(7.5), Value::Null]);
    let run = |text: &str, right: &Value| {
        let program = checked(text).compile(&|field| field.field.unwrap_or(0));
        let value = program.eval(&[&row(), &[], std::slice::from_ref(right)], &mut Scratch::new());
        value.map(|value| shown(&value)).unwrap()
    };
    for (text, present, absent) in [
        ("right != null && right.wind > 1.0", "true", "false"),
        ("right != null ? [right] : []", "[(7.5, null)]", "[]"),
        ("right != null ? right.wind : 0.0", "7.5", "0.0"),
        ("right.?wind", "7.5", "null"),
        ("right", "(7.5, null)", "null"),
        ("true ? right : null", "(7.5, null)", "null"),
        ("right == null || right.gust == null", "true", "true"),
    ] {
        assert_eq!((run(text, &hour), run(text, &Value::Null)), (present.to_owned(), absent.to_owned()), "{text}");
    }
}

#[test]
fn a_record_root_stays_a_record_where_its_type_widens() {
    let Value::Record(all) = eval("value").unwrap() else { panic!("no record") };
    for text in
        ["optional.of(value)", "true ? value : null", "value.cancelled ? null : value", "optional.of(value).value()"]
    {
        assert_eq!(eval(text).unwrap(), Value::Record(all.clone()), "{text}");
    }
    table(&[("optional.of(value).delay.orValue(0)", "20"), ("optional.of(value).?carrier", r#""UA""#)]);
}
