//! The parser: where nodes stand, what it refuses, and that it survives anything.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use crate::base::diag::Span;
use crate::expr::ast::{Ast, AstKind};
use crate::expr::{aggregate_call, parse};
use crate::limits::{EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX};

/// The tree with every node's text, one per line.
fn outline(text: &str) -> String {
    fn walk(ast: &Ast, text: &str, depth: usize, out: &mut String) {
        out.push_str(&format!("{}{}\n", "  ".repeat(depth), &text[ast.span.start..ast.span.end]));
        let children: Vec<&Ast> = match &ast.kind {
            AstKind::Literal(_) | AstKind::Ident(_) | AstKind::Root(_) => vec![],
            AstKind::Select { base, .. } => vec![base],
            AstKind::Index { base, index, .. } => vec![base, index],
            AstKind::Call { target, args, .. } => target.as_deref().into_iter().chain(args).collect(),
            AstKind::Unary { operand, .. } => vec![operand],
            AstKind::Binary { left, right, .. } => vec![left, right],
            AstKind::Logic { operands, .. } => operands.iter().collect(),
            AstKind::Conditional { condition, then, otherwise } => vec![condition, then, otherwise],
            AstKind::List(items) => items.iter().map(|(_, item)| item).collect(),
            AstKind::Map(entries) => entries.iter().flat_map(|(_, key, value)| [key, value]).collect(),
        };
        children.iter().for_each(|child| walk(child, text, depth + 1, out));
    }
    let (ast, problems) = parse(text);
    let mut out = String::new();
    walk(&ast.unwrap_or_else(|| panic!("{text}: {problems:?}")), text, 0, &mut out);
    out
}

fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&outline(text));
}

#[test]
fn operators_bind_as_in_cel() {
    check(
        "a || b && !c == d + e * -f.g ? (h) : i[j]",
        &expect![[r#"
            a || b && !c == d + e * -f.g ? (h) : i[j]
              a || b && !c == d + e * -f.g
                a
                b && !c == d + e * -f.g
                  b
                  !c == d + e * -f.g
                    !c
                      c
                    d + e * -f.g
                      d
                      e * -f.g
                        e
                        -f.g
                          f.g
                            f
              (h)
              i[j]
                i
                j
        "#]],
    );
    check(
        "a - b - c in d",
        &expect![[r#"
            a - b - c in d
              a - b - c
                a - b
                  a
                  b
                c
              d
        "#]],
    );
}

#[test]
fn what_is_no_cel_is_told_where_it_stops() {
    for (text, start, end, message) in [
        ("value.delay >", 13, 13, "expected an expression, found the end"),
        ("", 0, 0, "expected an expression, found the end"),
        ("(a", 2, 2, "expected `)`, found the end"),
        ("a b", 2, 3, "expected an operator or the end, found `b`"),
        ("a = b", 2, 3, "`=` means nothing here"),
        ("f(a b)", 4, 5, "expected `,` or `)`, found `b`"),
        ("'abc", 0, 4, "this text is not closed"),
        ("'a\nb'", 0, 2, "this text is not closed"),
        (r"'\q'", 1, 3, r"`\q` is not an escape"),
        (r"'\u12'", 1, 5, r"`\u12` is not an escape"),
        (r"'\ud800'", 1, 7, r"`\ud800` is not an escape"),
        (r"b'\u0041'", 2, 4, r"`\u` is not an escape"),
        ("12abc", 0, 5, "`12abc` is not a number"),
        ("0x", 0, 2, "`0x` is not a number"),
        ("for", 0, 3, "expected an expression, found `for`"),
        ("a.1", 1, 3, "expected an operator or the end, found `.1`"),
        ("Point{x: 1}", 5, 6, "expected an operator or the end, found `{`"),
        ("a ? b", 5, 5, "expected `:`, found the end"),
        ("{'a' 1}", 5, 6, "expected `:`, found `1`"),
        ("“a”", 0, 3, "`“` means nothing here"),
    ] {
        let (ast, problems) = parse(text);
        assert!(ast.is_none(), "{text}");
        let problem = &problems[0];
        assert_eq!((problem.message.as_str(), problem.span), (message, Span::new(start, end)), "{text}");
        assert_eq!(problem.code.0, "E0201", "{text}");
    }
}

#[test]
fn numbers_out_of_range_are_told() {
    for (text, end, message) in [
        ("9223372036854775808", 19, "`9223372036854775808` is out of range for int"),
        ("-9223372036854775809", 20, "`-9223372036854775809` is out of range for int"),
        ("99999999999999999999u", 21, "`99999999999999999999u` is out of range for uint"),
        ("1e999", 5, "`1e999` is out of range for double"),
    ] {
        let (_, problems) = parse(text);
        assert_eq!((problems[0].message.as_str(), problems[0].span.end), (message, end), "{text}");
        assert_eq!(problems[0].code.0, "E0209", "{text}");
        assert!(problems[0].help.is_some());
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |levels: usize| format!("{}1{}", "(".repeat(levels), ")".repeat(levels));
    assert!(parse(&nested(EXPRESSION_DEPTH_MAX - 1)).0.is_some());
    for text in [
        nested(EXPRESSION_DEPTH_MAX),
        "(".repeat(EXPRESSION_BYTES_MAX),
        "[".repeat(10_000),
        "!".repeat(10_000) + "a",
        "-".repeat(10_000) + "a",
        "a".to_owned() + &".b".repeat(5000),
        "1".to_owned() + &"+1".repeat(5000),
        "a?b:".repeat(2000) + "c",
        "1".repeat(EXPRESSION_BYTES_MAX + 1),
    ] {
        let (ast, problems) = parse(&text);
        assert!(ast.is_none());
        assert_eq!(problems[0].code.0, "E0210", "{problems:?}");
    }
    // Chains of one logical operator are as long as they like.
    assert!(parse(&("a".to_owned() + &" && a".repeat(2000))).0.is_some());
}

#[test]
fn an_aggregate_call_is_told_with_the_text_of_its_arguments() {
    let call = |text: &str| aggregate_call(text).unwrap();
    let text = " sum( (value.x + 1) )";
    let found = call(text).unwrap();
    assert_eq!((found.function.as_str(), found.function_span), ("sum", Span::new(1, 4)));
    assert_eq!(&text[found.args[0].start..found.args[0].end], "(value.x + 1)");
    assert_eq!(call("count()").unwrap().args, []);
    assert_eq!(call("last(a, b)").unwrap().args, [Span::new(5, 6), Span::new(8, 9)]);
    for text in ["count() + 1", "size(x)", "x.count()", "count", "math.max(1)"] {
        assert_eq!(call(text), None, "{text}");
    }
    assert_eq!(aggregate_call("sum(").unwrap_err().len(), 1);
}

/// Pieces that mutations are made of.
const PIECES: [&str; 40] = [
    "value",
    ".",
    "?",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ":",
    ",",
    "'",
    "\"",
    "\\",
    "'''",
    "r'",
    "b\"",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "==",
    "in",
    " ",
    "\n",
    "//",
    "1",
    "9223372036854775808",
    "1.5",
    "1e",
    "0x",
    "u",
    "null",
    "é",
    "\u{0}",
    "has(",
    ".map(x, ",
    "\\u",
    "for",
];

proptest! {
    #[test]
    fn any_text_is_parsed_without_panic(text in ".*") {
        spans_are_inside(&text);
    }

    #[test]
    fn any_pieces_are_parsed_without_panic(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40)) {
        spans_are_inside(&pieces.concat());
    }

    #[test]
    fn any_pieces_are_checked_without_panic(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..12)) {
        let text = pieces.concat();
        if let Err(problems) = crate::expr::check(&text, &super::env()) {
            prop_assert!(problems.iter().all(|problem| text.get(problem.span.start..problem.span.end).is_some()));
        }
    }
}

fn spans_are_inside(text: &str) {
    let (ast, problems) = parse(text);
    assert_eq!(ast.is_none(), !problems.is_empty());
    for problem in &problems {
        assert!(text.get(problem.span.start..problem.span.end).is_some(), "{text:?}: {problem:?}");
    }
    if ast.is_some() {
        outline(text);
    }
}
