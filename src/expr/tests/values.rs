//! What expressions evaluate to.

use super::*;
use crate::base::diag::Span;

#[test]
fn literals_are_read_with_their_escapes() {
    table(&[
        ("1", "1"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("0x1F", "31"),
        ("-0x10", "-16"),
        ("18446744073709551615u", "18446744073709551615u"),
        ("1.5e3", "1500.0"),
        (".5", "0.5"),
        ("1e3", "1000.0"),
        ("- 5", "-5"),
        ("--5", "5"),
        ("!!true", "true"),
        ("null", "null"),
        (r#""a\n\t\"\u00e9\U0001F600\x41\101""#, r#""a\n\t\"é😀AA""#),
        (r#"'it''s'"#.split_at(4).0, r#""it""#),
        (r#"r"a\nb""#, r#""a\\nb""#),
        ("'''two\nlines'''", r#""two\nlines""#),
        (r#""""say "hi" now""""#, r#""say \"hi\" now""#),
        (r#"b"\xff\000é""#, "b[255, 0, 195, 169]"),
        (r#"br"\x""#, "b[92, 120]"),
        ("[1, 2, 3,]", "[1, 2, 3]"),
        ("{'b': 1, 'a': 2}", r#"{"a": 2, "b": 1}"#),
        ("[]", "[]"),
        ("1 // the rest is a comment", "1"),
    ]);
}

#[test]
fn fields_items_and_roots_are_read() {
    table(&[
        ("value.delay", "20"),
        ("key", r#""UA1-JFK""#),
        ("right", "null"),
        ("value.plane.maker", r#""AIRBUS""#),
        ("value.plane", r#"("AIRBUS", null)"#),
        ("value.tags[1]", r#""blue""#),
        ("value.tags[2u]", "0..14 index 2 is outside a list of size 2"),
        ("value.tags[-1]", "0..14 index -1 is outside a list of size 2"),
        ("value.counts['b']", "2"),
        ("value.counts.b", "2"),
        ("value.counts['z']", "0..17 no such key: `z`"),
        ("value.counts[?'z'].orValue(9)", "9"),
        ("value.counts.?a.orValue(9)", "1"),
        ("value.tags[?5].hasValue()", "false"),
        ("'a' in value.counts", "true"),
        ("'red' in value.tags", "true"),
        ("value.delay in [1, 20]", "true"),
        ("value.status in ['OPEN']", "true"),
        ("has(value.counts.a) && !has(value.counts.z)", "true"),
        ("{'x': [1, 2]}['x'][1]", "2"),
        ("[value.plane, value.plane][1].maker", r#""AIRBUS""#),
    ]);
    let Ok(Value::Record(fields)) = eval("value") else { panic!("no record") };
    assert_eq!(fields.to_vec(), row());
}

#[test]
fn int_and_uint_arithmetic_is_exact_or_fails() {
    table(&[
        ("value.delay + 2 * 3 - 1", "25"),
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("-7 % 3", "-1"),
        ("7u / 2u + 7u % 2u", "4u"),
        ("value.delay + 9223372036854775807", "0..33 the result does not fit an int"),
        ("-9223372036854775808 - value.delay", "0..34 the result does not fit an int"),
        ("value.delay * 9223372036854775807", "0..33 the result does not fit an int"),
        ("-9223372036854775808 / -1", "0..25 the result does not fit an int"),
        ("-9223372036854775808 % -1", "0..25 the result does not fit an int"),
        ("-(-9223372036854775808)", "0..23 the result does not fit an int"),
        ("value.delay / (value.limit - 15)", "0..32 division by zero"),
        ("value.delay % (value.limit - 15)", "0..32 division by zero"),
        ("value.count - 8u", "0..16 the result does not fit a uint"),
        ("value.count / 0u", "0..16 division by zero"),
        ("18446744073709551615u + value.count", "0..35 the result does not fit a uint"),
        ("math.abs(-9223372036854775808)", "0..30 the result does not fit an int"),
    ]);
}

#[test]
fn doubles_follow_ieee_754() {
    table(&[
        ("value.ratio + 1.25", "1.75"),
        ("1.0 / 0.0", "inf"),
        ("-value.ratio", "-0.5"),
        ("0.0 / 0.0 == 0.0 / 0.0", "false"),
        ("0.0 / 0.0 != 0.0 / 0.0", "true"),
        ("value.ratio / 0.0 - value.ratio / 0.0 < 1", "false"),
        ("value.ratio * 2.0 == 1.0", "true"),
    ]);
}

#[test]
fn numbers_of_different_types_compare_on_one_line() {
    table(&[
        ("value.delay > 19.5", "true"),
        ("value.ratio < 1", "true"),
        ("1 > value.ratio", "true"),
        ("9007199254740993 == 9007199254740992.0", "false"),
        ("9007199254740993 > 9007199254740992.0", "true"),
        ("9223372036854775807 < 9223372036854775808.0", "true"),
        ("-1 < 0u", "true"),
        ("18446744073709551615u > -1", "true"),
        ("1 == 1u && 1u == 1.0", "true"),
        ("-1.5 < -1 && -1 < -0.5", "true"),
        ("value.delay < 1e300 && value.delay > -1e300", "true"),
    ]);
}

#[test]
fn every_ordered_type_compares() {
    table(&[
        ("value.carrier < 'UB'", "true"),
        ("value.carrier >= 'UA'", "true"),
        ("value.status == 'OPEN'", "true"),
        ("'CLOSED' != value.status", "true"),
        ("false < true", "true"),
        ("value.raw < b'\\x01'", "true"),
        ("value.at > timestamp('2013-01-01T00:00:00Z')", "true"),
        ("value.took == duration('1h30m500ms')", "true"),
        ("value.tags == ['red', 'blue']", "true"),
        ("value.tags != ['red']", "true"),
        ("value.counts == {'b': 2, 'a': 1}", "true"),
        ("value.plane == value.plane", "true"),
        ("15 < value.delay", "true"),
        ("value.limit < value.delay", "true"),
        ("value.delay <= 20 && value.delay >= 20 && value.delay != 21", "true"),
    ]);
}

#[test]
fn logic_absorbs_errors_that_do_not_matter() {
    table(&[
        ("value.limit / 0 == 1 && value.delay > 100", "false"),
        ("value.limit / 0 == 1 || value.delay > 1", "true"),
        ("value.delay > 100 && value.limit / 0 == 1", "false"),
        ("value.limit / 0 == 1 && value.delay > 1", "0..15 division by zero"),
        ("value.delay > 1 && value.limit / 0 == 1", "19..34 division by zero"),
        ("value.limit / 0 == 1 || value.limit % 0 == 1", "0..15 division by zero"),
        ("value.limit / 0 == 1 && value.limit % 0 == 1 && value.delay < 0", "false"),
        ("(value.limit / 0 == 1 && value.delay > 1) || value.delay == 20", "true"),
        ("(value.limit / 0 == 1 || value.delay < 1) && value.delay == 21", "false"),
        ("!(value.limit / 0 == 1) || true", "true"),
        ("1 / 0 == 1 || true", "true"),
        ("(value.limit / 0 == 1 ? true : false) || value.delay == 20", "true"),
    ]);
}

#[test]
fn a_conditional_evaluates_one_branch() {
    table(&[
        ("value.delay > 15 ? 'late' : 'on time'", r#""late""#),
        ("value.delay > 15 ? 1 : value.delay / 0", "1"),
        ("value.delay < 15 ? 1 : value.delay < 25 ? 2 : 3", "2"),
        ("true ? value.delay : 0", "20"),
        ("value.delay > 15 ? value.note : 'x'", "null"),
        ("value.cancelled ? [] : ['x']", r#"["x"]"#),
    ]);
}

#[test]
fn text_functions_count_code_points() {
    table(&[
        ("value.carrier + '-' + key", r#""UA-UA1-JFK""#),
        ("b'a' + b'b'", "b[97, 98]"),
        ("size('héllo')", "5"),
        ("'héllo'.size()", "5"),
        ("key.size() + value.tags.size() + size(value.raw) + size(value.counts)", "13"),
        ("key.contains('A1') && key.startsWith('UA') && key.endsWith('JFK')", "true"),
        ("key.matches('^UA[0-9]+-')", "true"),
        ("matches(key, 'X')", "false"),
        ("key.matches(value.carrier)", "true"),
        ("key.lowerAscii() + 'é'.upperAscii()", r#""ua1-jfké""#),
        ("' x '.trim()", r#""x""#),
        ("key.split('-')", r#"["UA1", "JFK"]"#),
        ("'a,b,c'.split(',', 2)", r#"["a", "b,c"]"#),
        ("'abc'.split('', 2)", r#"["a", "bc"]"#),
        ("'abc'.split('')", r#"["a", "b", "c"]"#),
        ("'a,b'.split(',', 0)", "[]"),
        ("value.tags.join('+') + ['a', 'b'].join()", r#""red+blueab""#),
        ("key.replace('A', 'B') + 'aaa'.replace('a', 'b', 2)", r#""UB1-JFKbba""#),
        ("'héllo'.substring(1) + 'héllo'.substring(1, 2)", r#""élloé""#),
        ("'héllo'.substring(6)", "0..21 position 6 is outside a string of size 5"),
        ("'abc'.substring(2, 1)", "0..21 the substring ends before it starts"),
        ("'héllo'.charAt(1) + 'a'.charAt(1)", r#""é""#),
        ("'héllo'.indexOf('l') + 'héllo'.lastIndexOf('l')", "5"),
        ("'abc'.indexOf('z')", "-1"),
    ]);
}

#[test]
fn text_is_searched_reversed_quoted_and_formatted() {
    table(&[
        ("'tacocat'.indexOf('a', 3)", "5"),
        ("'héllo'.indexOf('l', 9)", "0..24 position 9 is outside a string of size 5"),
        ("'tacocat'.lastIndexOf('a', 3)", "1"),
        // A match may not begin behind the position, whatever bytes characters take.
        ("'aébc'.lastIndexOf('é', 0)", "-1"),
        ("'aébc'.lastIndexOf('é', 1)", "1"),
        ("'éé'.lastIndexOf('é', 2)", "1"),
        ("'héllo'.reverse()", r#""olléh""#),
        (r#"strings.quote('a "b"\n\\')"#, r#""\"a \\\"b\\\"\\n\\\\\"""#),
        ("'%s is %d late, %.1f%%'.format([value.carrier, value.delay, value.ratio])", r#""UA is 20 late, 0.5%""#),
        (
            "'%s'.format([value.price]) + '%.1f'.format([value.price]) + '%.3f'.format([value.price])",
            r#""12.5012.512.500""#,
        ),
        ("'%s %s'.format([value.tags, value.counts])", r#""[red, blue] {a: 1, b: 2}""#),
        ("'%x %X %x'.format([255, value.count, value.raw])", r#""ff 7 00ff""#),
        ("'%b %o %e'.format([-5, 8, 1052.5])", r#""-101 10 1.052500e+03""#),
        ("key.format([1])", r#""UA1-JFK""#),
        ("'%s+%s'.format(value.tags)", r#""red+blue""#),
        ("'%s%s%s'.format(value.tags)", "0..27 the template has more clauses than there are items"),
        ("'%s%s%s'.format([value.at, value.took, null])", r#""2013-07-01T22:30:05.25Z5400.5snull""#),
    ]);
}

#[test]
fn text_that_grows_without_bound_is_an_error() {
    let text = "'aaaaaaaaaaaaaaaa'";
    let grown = (0..8).fold(text.to_owned(), |grown, _| format!("{grown}.replace('a', {text})"));
    let error = eval(&grown).unwrap_err();
    assert!(error.message.contains("the limit is 16777216"), "{error}");
}

#[test]
fn conversions_fail_where_the_value_does_not_fit() {
    table(&[
        ("int('42') + int(4.9) + int(-4.9) + int(7u)", "49"),
        ("int(value.at)", "1372717805"),
        ("int(value.ratio * 1e30)", "0..23 500000000000000000000000000000 does not fit an int"),
        ("int(key)", "0..8 `UA1-JFK` is not an int"),
        ("uint(value.delay - 30)", "0..22 -10 does not fit a uint"),
        ("uint('7') + uint(2.5)", "9u"),
        ("double('1.5') + double(value.delay) + double(value.price)", "34.0"),
        ("double(key)", "0..11 `UA1-JFK` is not a double"),
        (
            "string(1) + string(2u) + string(0.5) + string(true) + string(value.price)",
            r#""12u0.5true12.50""#.replace("2u", "2").leak(),
        ),
        ("string(value.at)", r#""2013-07-01T22:30:05.25Z""#),
        ("string(value.took)", r#""5400.5s""#),
        ("string(value.raw)", "0..17 the bytes are not UTF-8"),
        ("string(b'abc') + string(bytes('d'))", r#""abcd""#),
        ("bool('true') && !bool('F')", "true"),
        ("bool(key)", "0..9 `UA1-JFK` is not a bool"),
        ("timestamp(0)", "1970-01-01T00:00:00Z"),
        ("timestamp(key)", "0..14 `UA1-JFK` is not a time: write it like `2013-07-01T12:00:00Z` (RFC 3339)"),
        ("duration('-1.5h')", "-5400s"),
        ("duration('1us')", "0.000001s"),
        ("duration(key)", "0..13 `UA1-JFK` is not a duration: write it like `90s`, `1h30m` or `1.5s`"),
    ]);
}

#[test]
fn times_add_and_have_parts() {
    table(&[
        ("value.at + duration('1h') - value.at", "3600s"),
        ("duration('30s') + value.at", "2013-07-01T22:30:35.25Z"),
        ("value.at - duration('250ms')", "2013-07-01T22:30:05Z"),
        ("duration('1h') - duration('90m')", "-1800s"),
        (
            "timestamp('9999-12-30T21:00:00Z') + value.took + duration('48h')",
            "0..64 the result is outside the years 1 to 9999",
        ),
        ("value.at.getFullYear()", "2013"),
        ("value.at.getMonth()", "6"),
        (
            "[value.at.getDate(), value.at.getDayOfMonth(), value.at.getDayOfWeek(), value.at.getDayOfYear()]",
            "[1, 0, 1, 181]",
        ),
        (
            "[value.at.getHours(), value.at.getMinutes(), value.at.getSeconds(), value.at.getMilliseconds()]",
            "[22, 30, 5, 250]",
        ),
        (
            "[value.at.getHours('+02:00'), value.at.getDate('+02:00'), value.at.getHours('-08:30'), value.at.getHours('UTC')]",
            "[0, 2, 14, 22]",
        ),
        ("timestamp('2012-12-31T00:00:00Z').getDayOfYear()", "365"),
        ("timestamp('1969-12-31T23:00:00Z').getDayOfWeek()", "3"),
        ("value.at.getHours(key)", "0..22 `UA1-JFK` is not a time zone: write `UTC` or `+02:00`"),
        (
            "[value.took.getHours(), value.took.getMinutes(), value.took.getSeconds(), value.took.getMilliseconds()]",
            "[1, 90, 5400, 500]",
        ),
    ]);
}

#[test]
fn decimals_are_exact_and_take_integers() {
    table(&[
        ("value.price + 0.05", "12.55d"),
        ("value.price - 1", "11.50d"),
        ("2 * value.price", "25.00d"),
        ("value.price * value.price", "156.2500d"),
        ("-value.price", "-12.50d"),
        ("value.price > 12.49", "true"),
        ("value.price == 12.5", "true"),
        ("value.price < 13 && 12 < value.price", "true"),
        ("int(value.price)", "12"),
        (
            "value.price * 9223372036854775807 * 9223372036854775807 * 9223372036854775807",
            "0..55 the result does not fit a decimal of 38 digits",
        ),
    ]);
    assert_eq!(*checked("value.price + value.price").value_type(), Type::Decimal { precision: 10, scale: 2 });
    assert_eq!(*checked("value.price * 2").value_type(), Type::Decimal { precision: 28, scale: 2 });
}

#[test]
fn decimals_are_made_and_rounded_to_a_stated_scale() {
    table(&[
        ("decimal(value.delay, 9, 2)", "20.00d"),
        ("decimal('1.005', 9, 2) + decimal('-1.005', 9, 1)", "0.01d"),
        ("decimal(value.price, 4, 1)", "12.5d"),
        ("decimal(value.price * 0.05, 9, 2)", "0.63d"),
        ("decimal(value.ratio, 9, 2)", "0.50d"),
        ("decimal(double(value.price) / 3.0, 9, 4)", "4.1667d"),
        ("decimal(value.delay, 3, 2)", "0..26 20 does not fit a decimal(3, 2)"),
        ("decimal(value.ratio / 0.0, 9, 2)", "0..32 inf does not fit a decimal(9, 2)"),
        ("decimal(key, 9, 2)", "0..18 `UA1-JFK` is not a decimal"),
        ("decimal(18446744073709551615u, 38, 18) > 1", "true"),
        (
            "decimal(value.count + 18446744073709551608u, 38, 19)",
            "0..52 18446744073709551615 does not fit a decimal(38, 19)",
        ),
    ]);
    assert_eq!(*checked("decimal(value.delay, 9, 2)").value_type(), Type::Decimal { precision: 9, scale: 2 });
    for text in
        ["decimal(1, 2)", "decimal(1, 39, 2)", "decimal(1, 2, 3)", "decimal(1, value.delay, 2)", "decimal(1, 0, 0)"]
    {
        assert_eq!(check(text, &env()).unwrap_err()[0].code.0, "E0206", "{text}");
    }
    assert_eq!(check("decimal('x', 9, 2)", &env()).unwrap_err()[0].code.0, "E0209");
}

#[test]
fn bits_and_signs_are_those_of_cel() {
    table(&[
        ("math.bitAnd(12, 10) + math.bitOr(12, 10) + math.bitXor(12, 10)", "28"),
        ("math.bitNot(0u)", "18446744073709551615u"),
        ("math.bitShiftLeft(1, 62) + math.bitShiftRight(-1, 60)", "4611686018427387919"),
        ("math.bitShiftLeft(1, 64) + math.bitShiftRight(1, 9999999999)", "0"),
        ("math.bitShiftLeft(value.delay, -1)", "0..34 a shift by -1, which is negative"),
        ("[math.sign(-7), math.sign(0), math.sign(7)]", "[-1, 0, 1]"),
        ("math.sqrt(value.delay - 4)", "4.0"),
        ("math.isInf(1.0 / 0.0) && math.isFinite(1.5)", "true"),
    ]);
}

#[test]
fn names_that_are_no_identifiers_stand_in_backticks() {
    table(&[
        ("{'content-type': 'json'}.`content-type`", r#""json""#),
        ("has({'a.b': 1}.`a.b`) && value.`delay` == 20", "true"),
        ("value.?counts.?`no such`.orValue(3)", "3"),
    ]);
}

#[test]
fn math_functions_take_any_number_of_numbers() {
    table(&[
        ("math.greatest(1, value.delay, 3) + math.least(1, 2) + math.greatest([1, 5])", "26"),
        ("math.least(value.ratio, 0.25)", "0.25"),
        ("math.greatest(1u, value.count)", "7u"),
        ("math.abs(-3) + math.abs(value.delay)", "23"),
        ("[math.ceil(0.5), math.floor(-0.5), math.round(2.5), math.trunc(-1.5)]", "[1.0, -1.0, 3.0, -1.0]"),
        ("math.isNaN(0.0 / 0.0)", "true"),
    ]);
}

#[test]
fn comprehensions_go_over_lists_and_keys() {
    table(&[
        ("value.tags.all(t, t.size() > 2)", "true"),
        ("value.tags.exists(t, t == 'blue')", "true"),
        ("value.tags.exists_one(t, t.startsWith('r'))", "true"),
        ("value.tags.exists_one(t, t.size() > 2)", "false"),
        ("value.tags.map(t, t + '!')", r#"["red!", "blue!"]"#),
        ("value.tags.map(t, t.size() > 3, t.upperAscii())", r#"["BLUE"]"#),
        ("value.tags.filter(t, t != 'red')", r#"["blue"]"#),
        ("value.counts.all(k, value.counts[k] > 0)", "true"),
        ("value.counts.map(k, k)", r#"["a", "b"]"#),
        ("[].all(x, x) && ![].exists(x, x)", "true"),
        ("[1, 2].map(x, [10, 20].map(y, x * y))", "[[10, 20], [20, 40]]"),
        ("[1, 2].map(x, [x].filter(x, x > 1))", "[[], [2]]"),
        ("[1, 2, 3].filter(x, [2, 3].exists(y, x == y)).map(x, x + value.delay)", "[22, 23]"),
        ("[0, 2].exists(x, 4 / x == 2)", "true"),
        ("[0, 2].all(x, 4 / x == 1)", "false"),
        ("[0, 2].all(x, 4 / x == 2)", "14..19 division by zero"),
        ("[0, 2].exists_one(x, 4 / x == 2)", "21..26 division by zero"),
        ("[0, 2].map(x, 4 / x)", "14..19 division by zero"),
        ("[[0], [2]].exists(l, l.all(x, 4 / x == 2))", "true"),
    ]);
}

#[test]
fn constants_are_folded() {
    assert_eq!(checked("1 + 2 * 3").constant(), Some(&Value::Int(7)));
    assert_eq!(checked("'a' + string(1 < 2)").constant(), Some(&Value::text("atrue")));
    assert_eq!(checked("['a', 'b']").constant().map(shown), Some(r#"["a", "b"]"#.to_owned()));
    assert_eq!(checked("value.delay + 1").constant(), None);
}

#[test]
fn fields_used_are_told_once_and_in_order() {
    let used = |text: &str| checked(text).fields_used();
    let field = |field| FieldUse { root: 0, field: Some(field) };
    assert_eq!(used("value.limit > 1 && value.delay > value.limit"), [field(0), field(1)]);
    assert_eq!(used("value.aircraft.?maker.orValue(key)"), [field(11), FieldUse { root: 1, field: None }]);
    assert_eq!(used("[value].map(v, v.delay)"), [FieldUse { root: 0, field: None }]);
    assert_eq!(used("right.?wind"), [FieldUse { root: 2, field: None }]);
    assert_eq!(used("1 + 1"), []);
}

#[test]
fn a_program_reads_the_slots_of_its_layout() {
    let program = checked("value.delay - value.limit").compile(&|field| if field.field == Some(0) { 1 } else { 0 });
    let slots = [Value::Int(2), Value::Int(10)];
    assert_eq!(program.eval(&[&slots], &mut Scratch::new()), Ok(Value::Int(8)));
}

#[test]
fn slots_that_belie_their_type_give_errors() {
    let mut scratch = Scratch::new();
    for text in [
        "value.delay > 1",
        "value.delay + 1 > 2",
        "value.carrier == 'x'",
        "value.tags[0] == 'x'",
        "value.cancelled",
        "!value.cancelled",
        "value.cancelled && value.delay > 1",
        "value.ratio < 1.0",
        "value.at < value.at",
        "value.tags.all(t, t == 'a')",
        "value.carrier.contains('x')",
        "value.took.getHours() == 1",
        "value.carrier.matches('a')",
        "value.price < 1",
    ] {
        let program = checked(text).compile(&|field| field.field.unwrap_or(0));
        let error = program.eval_bool(&[], &mut scratch).unwrap_err();
        assert!(error.message.contains("expected") || error.message.contains("unexpected"), "{text}: {error}");
        assert_eq!(error.kind(), crate::error::Kind::Record);
        // Another type may still compare; what matters is that nothing panics.
        let wrong = vec![Value::Uint(1); 20];
        assert!(
            program.eval_bool(&[&wrong], &mut scratch).is_ok() == (text.contains(" < ") && !text.contains('0')),
            "{text}"
        );
    }
    let program = checked("value.delay").compile(&|_| 0);
    let error = program.eval_bool(&[&[Value::Int(1)]], &mut scratch).unwrap_err();
    assert_eq!((error.span, error.message.as_ref()), (Span::new(0, 11), "expected bool, found int"));
}
