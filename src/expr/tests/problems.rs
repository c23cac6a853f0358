//! Mistakes: each with its code, place, message and way out.

use super::*;
use crate::base::diag::Span;

/// Code, underlined text, message, help.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str);

fn mistakes(rows: &[Row]) {
    for (text, code, underlined, message, help) in rows {
        let problems = check(text, &env()).expect_err(text);
        assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
        let problem = &problems[0];
        let Span { start, end } = problem.span;
        assert_eq!(
            (problem.code.0, &text[start..end], problem.message.as_str(), problem.help.as_deref().unwrap_or_default()),
            (*code, *underlined, *message, *help),
            "{text}"
        );
        assert!(crate::error::page(code).is_some(), "{code}");
    }
}

#[test]
fn unknown_names_and_fields_suggest_the_nearest() {
    mistakes(&[
        ("valeu.delay > 1", "E0202", "valeu", "`valeu` is not a name here", "did you mean `value`?"),
        ("zzzzzz", "E0202", "zzzzzz", "`zzzzzz` is not a name here", "known: `value`, `key`, `right`"),
        ("value.dealy", "E0203", "dealy", "record `flights.Departed` has no field `dealy`", "did you mean `delay`?"),
        ("value.plane.zzz", "E0203", "zzz", "record `flights.Aircraft` has no field `zzz`", "known: `maker`, `seats`"),
        ("key.x", "E0203", "x", "`key` is string, which has no field `x`", "only records and maps have fields"),
        (
            "key.size > 2",
            "E0203",
            "size",
            "`key` is string, which has no field `size`",
            "functions are called with brackets: `key.size()`",
        ),
        (
            "has(value.dealy)",
            "E0203",
            "dealy",
            "record `flights.Departed` has no field `dealy`",
            "did you mean `delay`?",
        ),
        ("value.tags.map(t, tt)", "E0202", "tt", "`tt` is not a name here", "did you mean `t`?"),
    ]);
}

#[test]
fn mixed_numbers_say_how_to_convert() {
    mistakes(&[
        (
            "value.ratio * 15",
            "E0204",
            "value.ratio * 15",
            "`*` does not take double and int",
            "write the literal as a double: `15.0`",
        ),
        (
            "value.delay * 1.5",
            "E0204",
            "value.delay * 1.5",
            "`*` does not take int and double",
            "convert one side: `double(value.delay)`",
        ),
        (
            "value.ratio + value.delay",
            "E0204",
            "value.ratio + value.delay",
            "`+` does not take double and int",
            "convert one side: `double(value.delay)`",
        ),
        (
            "value.count + 1",
            "E0204",
            "value.count + 1",
            "`+` does not take uint and int",
            "write the literal as a uint: `1u`",
        ),
        (
            "value.price * value.ratio",
            "E0204",
            "value.price * value.ratio",
            "`*` does not take decimal(9, 2) and double",
            "decimals are exact and doubles are not: convert one side, `double(value.price)`",
        ),
        (
            "value.price > value.ratio",
            "E0204",
            "value.price > value.ratio",
            "`>` does not take decimal(9, 2) and double",
            "decimals are exact and doubles are not: convert one side, `double(value.price)`",
        ),
        (
            "value.ratio % 2.0",
            "E0204",
            "value.ratio % 2.0",
            "`%` does not take double and double",
            "known: `int % int`, `uint % uint`",
        ),
        (
            "'n' + value.delay",
            "E0204",
            "'n' + value.delay",
            "`+` does not take string and int",
            "convert one side: `string(value.delay)`",
        ),
    ]);
}

#[test]
fn types_that_do_not_meet_are_told_with_both() {
    mistakes(&[
        (
            "value.delay == key",
            "E0204",
            "value.delay == key",
            "`==` does not take int and string",
            "both sides need types that can be compared",
        ),
        (
            "value.at > '2013'",
            "E0204",
            "value.at > '2013'",
            "`>` does not take timestamp and string",
            "both sides need types that can be compared",
        ),
        (
            "value.tags < value.tags",
            "E0204",
            "value.tags < value.tags",
            "`<` does not take list(string) and list(string)",
            "both sides need types that can be compared",
        ),
        (
            "1 in value.tags",
            "E0204",
            "1 in value.tags",
            "`in` does not take int and list(string)",
            "known: `T in list(T)`, `string in map(string, T)`",
        ),
    ]);
}

#[test]
fn types_that_a_place_does_not_take_are_told_with_the_one_it_takes() {
    mistakes(&[
        (
            "value.delay && true",
            "E0204",
            "value.delay",
            "an operand of `&&` is int, not bool",
            "compare it with something: `… == …`, `… > …`",
        ),
        (
            "!key",
            "E0204",
            "key",
            "the operand of `!` is string, not bool",
            "compare it with something: `… == …`, `… > …`",
        ),
        (
            "key ? 1 : 2",
            "E0204",
            "key",
            "the condition is string, not bool",
            "compare it with something: `… == …`, `… > …`",
        ),
        (
            "true ? 1 : 'a'",
            "E0204",
            "1 : 'a'",
            "the branches of `? :` are int and string, which have no type in common",
            "convert one of them to the other's type",
        ),
        ("[1, 'a']", "E0204", "'a'", "an item of this list is string, not int", "convert it: `int(…)`"),
        ("-key", "E0206", "-key", "`-` does not take (string)", "known: `-int`, `-double`, `-decimal`"),
        (
            "value.delay == null",
            "E0204",
            "value.delay",
            "`value.delay` is int and never null",
            "leave out the test for null",
        ),
        (
            "value.delay.orValue(1)",
            "E0204",
            "value.delay",
            "`value.delay` is int and never null",
            "leave out the test for null",
        ),
        (
            "value.rating.orValue('a')",
            "E0204",
            "'a'",
            "the argument of `orValue` is string, not int",
            "convert it: `int(…)`",
        ),
        (
            "value.delay.map(x, x)",
            "E0204",
            "value.delay",
            "what `map` goes over is int, not a list or a map",
            "a list or a map is wanted here",
        ),
        (
            "value.tags.filter(t, t)",
            "E0204",
            "t",
            "the predicate of `filter` is string, not bool",
            "compare it with something: `… == …`, `… > …`",
        ),
    ]);
}

#[test]
fn functions_are_told_with_their_overloads() {
    mistakes(&[
        (
            "key.startWith('a')",
            "E0205",
            "startWith",
            "there is no function `….startWith()`",
            "did you mean `startsWith`?",
        ),
        ("szie(key)", "E0205", "szie", "there is no function `szie()`", "did you mean `size`?"),
        ("trim(key)", "E0205", "trim", "there is no function `trim()`", "it is called on a value: `x.trim(…)`"),
        ("key.int()", "E0205", "int", "there is no function `….int()`", "it is not called on a value: `int(…)`"),
        (
            "count() > 1",
            "E0205",
            "count",
            "there is no function `count()`",
            "`count()` is an aggregate: it stands alone, in the fields of an `aggregate` or a window",
        ),
        (
            "math.grate(1)",
            "E0205",
            "math.grate",
            "there is no function `math.grate()`",
            "did you mean `math.greatest`?",
        ),
        (
            "key.contains(1)",
            "E0206",
            "key.contains(1)",
            "`contains` does not take (string, int)",
            "known: `string.contains(string)`, `list(T).contains(T)`",
        ),
        ("key.trim(1)", "E0206", "key.trim(1)", "`trim` does not take (string, int)", "known: `string.trim()`"),
        (
            "value.tags['a']",
            "E0206",
            "value.tags['a']",
            "`[]` does not take (list(string), string)",
            "known: `list(T)[int]`, `list(T)[uint]`, `map(string, T)[string]`",
        ),
        ("has(value)", "E0206", "has(value)", "`has` takes one selection", "write `has(value.x)`"),
        (
            "value.tags.all(t)",
            "E0206",
            "value.tags.all(t)",
            "`all` takes one name or two, and an expression over it",
            "write `list.all(x, … x …)`, or `map.all(k, v, … k … v …)`",
        ),
        (
            "optional.of()",
            "E0206",
            "optional.of()",
            "`optional.of` takes one argument, not 0",
            "write `optional.of(x)` or `optional.none()`",
        ),
    ]);
}

#[test]
fn what_cel_has_and_this_language_has_not_is_refused_by_name() {
    let types = "types are no values here: each is known before the first record, from the schemas";
    mistakes(&[
        (
            "{1: 2}",
            "E0204",
            "1",
            "a map's key is int, not string",
            "the keys of maps are strings here: convert it, `string(…)`",
        ),
        (
            "dyn(1)",
            "E0205",
            "dyn",
            "there is no function `dyn()`",
            "every type is known before the first record: leave out `dyn(…)`, or convert, `double(…)`",
        ),
        ("key == string", "E0202", "string", "`string` is not a name here", types),
        ("type(key)", "E0205", "type", "there is no function `type()`", types),
        (
            "base64.encode(value.raw)",
            "E0205",
            "base64.encode",
            "there is no function `base64.encode()`",
            "this library of CEL's is not there",
        ),
        (
            "cel.block([1], 2)",
            "E0205",
            "cel.block",
            "there is no function `cel.block()`",
            "of CEL's macros on names only `cel.bind(x, value, … x …)` is there",
        ),
        ("key.isIP()", "E0205", "isIP", "there is no function `….isIP()`", "CEL's network functions are not there"),
        (
            "value.price / value.price",
            "E0204",
            "value.price / value.price",
            "`/` does not take decimal(9, 2) and decimal(9, 2)",
            "a quotient of decimals need not end: divide doubles, `double(…) / double(…)`; `decimal(…, 9, 2)` rounds",
        ),
        (
            "value.counts.transformMapEntry(k, v, v)",
            "E0204",
            "v",
            "what `transformMapEntry` makes of an item is int, not a map",
            "a map is wanted here",
        ),
        (
            "value.tags.transformMap(i, t, t)",
            "E0204",
            "value.tags",
            "a map's key is int, not string",
            "the keys of maps are strings here: convert it, `string(…)`",
        ),
    ]);
}

#[test]
fn names_from_elsewhere_are_told_by_their_names_in_cel() {
    for (text, known) in [
        ("key.lower()", "lowerAscii"),
        ("key.toUpperCase()", "upperAscii"),
        ("key.length()", "size"),
        ("value.tags.any(t, t == 'a')", "exists"),
        ("value.tags.includes('a')", "contains"),
        ("key.substr(1)", "substring"),
    ] {
        let problems = check(text, &env()).unwrap_err();
        let told = problems.iter().find(|problem| problem.code.0 == "E0205").unwrap_or_else(|| panic!("{text}"));
        assert_eq!(told.help, Some(format!("did you mean `{known}`?")), "{text}");
    }
    let problems = check("value?.delay", &env()).unwrap_err();
    assert_eq!(problems[0].help.as_deref(), Some("an optional field is selected by `.?`: `value.?aircraft`"));
}

#[test]
fn templates_are_checked_against_their_items() {
    let help = "`%s` takes any value, `%d` whole numbers and decimals, `%f` and `%e` numbers, `%b` and `%o` whole numbers, \
                `%x` and `%X` whole numbers, text and bytes; `%%` is a percent sign";
    mistakes(&[
        ("'%d'.format([key])", "E0206", "key", "`%d` does not take string", help),
        ("'%q'.format([key])", "E0209", "'%q'", "`%q` is not a clause of `format`", help),
        ("'%.2s'.format([key])", "E0209", "'%.2s'", "`%.2s` is not a clause of `format`", help),
        ("'%'.format([])", "E0209", "'%'", "`%` is not a clause of `format`", help),
        ("'%s %s'.format([key])", "E0209", "'%s %s'", "the template has more clauses than there are items: 1", help),
        ("'%.9999f'.format([1])", "E0209", "'%.9999f'", "`%.9999f` is not a clause of `format`", help),
    ]);
}

#[test]
fn an_enum_is_compared_with_its_symbols_only() {
    mistakes(&[
        (
            "value.status == 'OPNE'",
            "E0208",
            "'OPNE'",
            "`OPNE` is not a symbol of enum `Status`",
            "did you mean `OPEN`?",
        ),
        ("'x' != value.status", "E0208", "'x'", "`x` is not a symbol of enum `Status`", "known: `OPEN`, `CLOSED`"),
        (
            "value.status in ['OPEN', 'CLOSD']",
            "E0208",
            "'CLOSD'",
            "`CLOSD` is not a symbol of enum `Status`",
            "did you mean `CLOSED`?",
        ),
        (
            "value.status == (true ? 'OPEN' : 'X')",
            "E0208",
            "'X'",
            "`X` is not a symbol of enum `Status`",
            "known: `OPEN`, `CLOSED`",
        ),
    ]);
    assert_eq!(outcome("value.status == key"), "false");
}

#[test]
fn literals_that_never_work_are_refused() {
    mistakes(&[
        (
            "value.at > timestamp('yesterday')",
            "E0209",
            "timestamp('yesterday')",
            "`yesterday` is not a time: write it like `2013-07-01T12:00:00Z` (RFC 3339)",
            "mend the literal: this fails for every record",
        ),
        (
            "duration('1 day')",
            "E0209",
            "duration('1 day')",
            "`1 day` is not a duration: write it like `90s`, `1h30m` or `1.5s`",
            "mend the literal: this fails for every record",
        ),
        ("int('a') + 1", "E0209", "int('a')", "`a` is not an int", "mend the literal: this fails for every record"),
        (
            "key.matches('(')",
            "E0209",
            "'('",
            "`(` is not a pattern: unclosed group",
            "the syntax is RE2's; a literal backslash needs `\\\\` or `r\"…\"`",
        ),
        (
            "value.at.getHours('Europe/Paris')",
            "E0209",
            "'Europe/Paris'",
            "`Europe/Paris` is not a time zone",
            "write `UTC` or a fixed offset like `+02:00`",
        ),
        (
            "key.matches('(a{1000}){1000}')",
            "E0209",
            "'(a{1000}){1000}'",
            "the pattern compiles to more than 1048576 bytes",
            "the syntax is RE2's; a literal backslash needs `\\\\` or `r\"…\"`",
        ),
    ]);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let problems = check("valeu.x > 1 && value.dealy > 2 && value.rating > 3 && f(zz) && [1, yy].size() > 0", &env());
    let codes: Vec<&str> = problems.unwrap_err().iter().map(|problem| problem.code.0).collect();
    assert_eq!(codes, ["E0202", "E0203", "E0207", "E0202", "E0205", "E0202"]);
}

#[test]
fn a_value_goes_where_its_type_fits() {
    let status = env().roots.first().map(|(_, root)| root.clone());
    let Some(Type::Record(record)) = status else { panic!("no record") };
    let status = record.field("status").unwrap().1.field_type.clone();
    let as_type = |text: &str, wanted: &Type| crate::expr::check_as(text, &env(), wanted);
    assert_eq!(as_type("'OPEN'", &status).unwrap().value_type(), &status);
    assert!(as_type("value.delay > 15 ? 'OPEN' : 'CLOSED'", &status).is_ok());
    assert!(as_type("value.delay > 15 ? 'OPEN' : null", &status.clone().optional()).is_ok());
    assert!(as_type("value.status", &Type::String).is_ok());
    assert!(as_type("value.delay", &Type::Int.optional()).is_ok());
    assert!(as_type("null", &Type::Int.optional()).is_ok());
    let code = |text: &str, wanted: &Type| as_type(text, wanted).unwrap_err()[0].code.0;
    assert_eq!(code("'OPNE'", &status), "E0208");
    assert_eq!(code("value.delay > 15 ? 'OPEN' : null", &status), "E0204");
    assert_eq!(code("key", &status), "E0204");
    assert_eq!(code("value.rating", &Type::Int), "E0207");
    assert_eq!(code("value.delay", &Type::Double), "E0204");
    assert_eq!(code("null", &Type::Int), "E0204");
}
