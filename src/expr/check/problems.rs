//! The wording of every mistake the checker tells: what is there, what was wanted, what to write.

use crate::base::diag::{Diagnostic, Span, suggestion};
use crate::base::types::{EnumType, RecordType, Type};
use crate::error::codes;
use crate::expr::aggregate::AGGREGATES;
use crate::expr::ast::Name;
use crate::expr::functions;
use crate::expr::tree::Node;
use crate::expr::types::{Overload, Style, is_plain_number};

pub(super) fn unknown_name(span: Span, name: &str, known: &[&str]) -> Diagnostic {
    const TYPES: [&str; 11] =
        ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type", "optional_type"];
    let problem = Diagnostic::error(codes::EXPRESSION_UNKNOWN_NAME, span, format!("`{name}` is not a name here"));
    if TYPES.contains(&name) {
        return problem.help("types are no values here: each is known before the first record, from the schemas");
    }
    problem.help(suggestion(name, known.iter().copied()))
}

pub(super) fn unknown_field(field: &Name, record: &RecordType) -> Diagnostic {
    let message = format!("record `{}` has no field `{}`", record.name, field.text);
    let names = record.fields().iter().map(|field| field.name.as_str());
    Diagnostic::error(codes::EXPRESSION_UNKNOWN_FIELD, field.span, message).help(suggestion(&field.text, names))
}

pub(super) fn no_fields(field: &Name, base: &str, base_type: &Type) -> Diagnostic {
    let message = format!("`{base}` is {base_type}, which has no field `{}`", field.text);
    let problem = Diagnostic::error(codes::EXPRESSION_UNKNOWN_FIELD, field.span, message);
    if functions::names(Style::Method).contains(&field.text.as_str()) {
        return problem.help(format!("functions are called with brackets: `{base}.{}()`", field.text));
    }
    problem.help("only records and maps have fields")
}

pub(super) fn may_be_null(span: Span, written: &str, seen: &Type, way: Option<&str>) -> Diagnostic {
    let help = match way {
        Some(way) => {
            format!("write `{way}`, which is null where `{written}` is, or test `{written} != null && …` first")
        }
        None => format!("say what null stands for, `{written}.orValue(…)`, or test `{written} != null && …` first"),
    };
    Diagnostic::error(codes::EXPRESSION_MAY_BE_NULL, span, format!("`{written}` may be null"))
        .label(seen.to_string())
        .help(help)
}

pub(super) fn never_null(span: Span, written: &str, seen: &Type) -> Diagnostic {
    Diagnostic::error(codes::EXPRESSION_TYPE, span, format!("`{written}` is {seen} and never null"))
        .label(seen.to_string())
        .help("leave out the test for null")
}

pub(super) fn never_absent(span: Span, written: &str, seen: &Type) -> Diagnostic {
    Diagnostic::error(codes::EXPRESSION_TYPE, span, format!("`{written}` is {seen} and never absent"))
        .label(seen.to_string())
        .help("leave out the `?` in front of it")
}

/// A map's key that is no string; CEL's other kinds of key are refused by name.
pub(super) fn key_type(span: Span, seen: &Type) -> Diagnostic {
    let problem = mismatch(span, "a map's key", seen, "string");
    if matches!(seen, Type::Int | Type::Uint | Type::Bool) {
        return problem.help("the keys of maps are strings here: convert it, `string(…)`");
    }
    problem
}

pub(super) fn mismatch(span: Span, role: &str, seen: &Type, wanted: &str) -> Diagnostic {
    let problem = Diagnostic::error(codes::EXPRESSION_TYPE, span, format!("{role} is {seen}, not {wanted}"))
        .label(seen.to_string());
    match wanted {
        "bool" => problem.help("compare it with something: `… == …`, `… > …`"),
        "int" | "uint" | "double" | "string" => problem.help(format!("convert it: `{wanted}(…)`")),
        _ => problem.help(format!("{wanted} is wanted here")),
    }
}

pub(super) fn branches(then: &Node, otherwise: &Node) -> Diagnostic {
    let message = format!(
        "the branches of `? :` are {} and {}, which have no type in common",
        then.value_type, otherwise.value_type
    );
    let span = Span::new(then.span.start, otherwise.span.end);
    Diagnostic::error(codes::EXPRESSION_TYPE, span, message)
        .label(format!("{} : {}", then.value_type, otherwise.value_type))
        .help("convert one of them to the other's type")
}

pub(super) fn unknown_symbol(span: Span, symbol: &str, of: &EnumType) -> Diagnostic {
    let message = format!("`{symbol}` is not a symbol of enum `{}`", of.name);
    Diagnostic::error(codes::EXPRESSION_UNKNOWN_SYMBOL, span, message)
        .help(suggestion(symbol, of.symbols.iter().map(|symbol| symbol.as_str())))
}

pub(super) fn invalid_literal(span: Span, reason: &str) -> Diagnostic {
    Diagnostic::error(codes::LITERAL_INVALID, span, reason.to_owned())
        .help("mend the literal: this fails for every record")
}

pub(super) fn invalid_argument(span: Span, reason: &str, help: &str) -> Diagnostic {
    Diagnostic::error(codes::LITERAL_INVALID, span, reason.to_owned()).help(help)
}

/// Two sides that an operator does not take; `literal` is the text of a side that is an int literal.
pub(super) fn operands(span: Span, op: &str, left: &Node, right: &Node, written: [&str; 2]) -> Diagnostic {
    let (l, r) = (&left.value_type, &right.value_type);
    let problem = Diagnostic::error(codes::EXPRESSION_TYPE, span, format!("`{op}` does not take {l} and {r}"))
        .label(format!("{l} {op} {r}"));
    problem.help(operand_help(op, left, right, written))
}

fn operand_help(op: &str, left: &Node, right: &Node, [left_text, right_text]: [&str; 2]) -> String {
    let (l, r) = (&left.value_type, &right.value_type);
    let has_decimal = matches!(l, Type::Decimal { .. }) || matches!(r, Type::Decimal { .. });
    if is_plain_number(l) && is_plain_number(r) && l != r {
        let other = |node: &Node, text: &str, wanted: &Type| match (node.constant(), wanted) {
            (Some(_), Type::Double) if node.value_type == Type::Int && text.bytes().all(|b| b.is_ascii_digit()) => {
                format!("write the literal as a double: `{text}.0`")
            }
            (Some(_), Type::Uint) if node.value_type == Type::Int => format!("write the literal as a uint: `{text}u`"),
            _ => format!("convert one side: `{wanted}({text})`"),
        };
        // The side that can be converted without loss of range gives way: int to double, int to uint, uint to double.
        return match (l, r) {
            (Type::Double, _) => other(right, right_text, l),
            (_, Type::Double) => other(left, left_text, r),
            (Type::Int, _) => other(left, left_text, r),
            _ => other(right, right_text, l),
        };
    }
    if has_decimal && (*l == Type::Double || *r == Type::Double) {
        let decimal = if *r == Type::Double { left_text } else { right_text };
        return format!("decimals are exact and doubles are not: convert one side, `double({decimal})`");
    }
    if has_decimal && op == "/" {
        return "a quotient of decimals need not end: divide doubles, `double(…) / double(…)`; `decimal(…, 9, 2)` rounds"
            .to_owned();
    }
    if op == "+" && (*l == Type::String || *r == Type::String) {
        let other = if *l == Type::String { right_text } else { left_text };
        return format!("convert one side: `string({other})`");
    }
    let signatures = functions::overloads(Style::Operator, op).filter(|overload| overload.params.len() == 2);
    let known = signatures.map(|overload| format!("`{}`", overload.signature())).collect::<Vec<_>>().join(", ");
    if known.is_empty() { "both sides need types that can be compared".to_owned() } else { format!("known: {known}") }
}

pub(super) fn unknown_function(name: &Name, style: Style) -> Diagnostic {
    let text = name.text.as_str();
    let problem = Diagnostic::error(
        codes::EXPRESSION_UNKNOWN_FUNCTION,
        name.span,
        match style {
            Style::Method => format!("there is no function `….{text}()`"),
            Style::Global | Style::Operator => format!("there is no function `{text}()`"),
        },
    );
    if AGGREGATES.contains(&text) && style == Style::Global {
        return problem
            .help(format!("`{text}()` is an aggregate: it stands alone, in the fields of an `aggregate` or a window"));
    }
    let turned = match style {
        Style::Method => Style::Global,
        Style::Global | Style::Operator => Style::Method,
    };
    if functions::names(turned).contains(&text) {
        return problem.help(match turned {
            Style::Method => format!("it is called on a value: `x.{text}(…)`"),
            Style::Global | Style::Operator => format!("it is not called on a value: `{text}(…)`"),
        });
    }
    if let Some(reason) = absent(text) {
        return problem.help(reason);
    }
    let mut names = functions::names(style);
    names.extend(match style {
        Style::Method => SPECIAL_METHODS.as_slice(),
        Style::Global | Style::Operator => SPECIAL_GLOBALS.as_slice(),
    });
    if let Some((_, known)) = SYNONYMS.iter().find(|(other, known)| *other == text && names.contains(known)) {
        return problem.help(format!("did you mean `{known}`?"));
    }
    problem.help(suggestion(text, names))
}

/// Functions that are not in the table, since they are lazy, bind names or look at literals.
pub(super) const SPECIAL_METHODS: [&str; 15] = [
    "orValue",
    "or",
    "hasValue",
    "value",
    "optMap",
    "optFlatMap",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
    "existsOne",
    "transformList",
    "transformMap",
    "transformMapEntry",
];
pub(super) const SPECIAL_GLOBALS: [&str; 4] = ["has", "optional.of", "optional.none", "cel.bind"];

/// What other languages call a function, and what CEL does.
const SYNONYMS: [(&str, &str); 18] = [
    ("lower", "lowerAscii"),
    ("toLower", "lowerAscii"),
    ("toLowerCase", "lowerAscii"),
    ("upper", "upperAscii"),
    ("toUpper", "upperAscii"),
    ("toUpperCase", "upperAscii"),
    ("strip", "trim"),
    ("length", "size"),
    ("len", "size"),
    ("count", "size"),
    ("includes", "contains"),
    ("has", "contains"),
    ("any", "exists"),
    ("some", "exists"),
    ("every", "all"),
    ("find", "indexOf"),
    ("match", "matches"),
    ("substr", "substring"),
];

/// What CEL has and this language has not, by name, with what to do without.
fn absent(name: &str) -> Option<&'static str> {
    let (space, _) = name.split_once('.').unwrap_or((name, ""));
    match space {
        "dyn" => Some("every type is known before the first record: leave out `dyn(…)`, or convert, `double(…)`"),
        "type" => Some("types are no values here: each is known before the first record, from the schemas"),
        "proto" => Some("protocol buffers are not read here"),
        "base64" | "sets" | "lists" | "regex" | "net" => Some("this library of CEL's is not there"),
        "ip" | "cidr" | "isIP" | "isCIDR" => Some("CEL's network functions are not there"),
        _ if name.starts_with("cel.") => Some("of CEL's macros on names only `cel.bind(x, value, … x …)` is there"),
        _ => None,
    }
}

/// Arguments that no overload takes.
pub(super) fn wrong_arguments<'o>(
    span: Span,
    name: &str,
    seen: &[Type],
    overloads: impl Iterator<Item = &'o Overload>,
) -> Diagnostic {
    let seen = seen.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
    let known = overloads.map(|overload| format!("`{}`", overload.signature())).collect::<Vec<_>>().join(", ");
    Diagnostic::error(codes::EXPRESSION_ARGUMENTS, span, format!("`{name}` does not take ({seen})"))
        .label(format!("({seen})"))
        .help(format!("known: {known}"))
}

/// A template of `format` and its items that do not go together.
pub(super) fn template(span: Span, problem: &functions::TemplateProblem) -> Diagnostic {
    let code = if problem.item.is_some() { codes::EXPRESSION_ARGUMENTS } else { codes::LITERAL_INVALID };
    Diagnostic::error(code, span, problem.message.clone()).help(
        "`%s` takes any value, `%d` whole numbers and decimals, `%f` and `%e` numbers, `%b` and `%o` whole numbers, \
         `%x` and `%X` whole numbers, text and bytes; `%%` is a percent sign",
    )
}

/// A macro that was not given its names and expressions.
pub(super) fn macro_use(span: Span, name: &str) -> Diagnostic {
    let (takes, example) = match name {
        "all" | "exists" | "exists_one" | "existsOne" => (
            "one name or two, and an expression over it",
            format!("write `list.{name}(x, … x …)`, or `map.{name}(k, v, … k … v …)`"),
        ),
        "map" => (
            "a name and an expression over it",
            "write `list.map(x, … x …)`, or with a condition `list.map(x, … x …, … x …)`".to_owned(),
        ),
        "transformList" | "transformMap" | "transformMapEntry" => (
            "two names and an expression over them",
            format!("write `map.{name}(k, v, … k … v …)`; a condition may stand before the expression"),
        ),
        "cel.bind" => ("a name, its value and an expression over it", "write `cel.bind(x, value, … x …)`".to_owned()),
        _ => ("a name and an expression over it", format!("write `list.{name}(x, … x …)`")),
    };
    wrong_use(span, format!("`{name}` takes {takes}"), &example)
}

/// Arguments that a function outside the table does not take.
pub(super) fn wrong_use(span: Span, message: String, help: &str) -> Diagnostic {
    Diagnostic::error(codes::EXPRESSION_ARGUMENTS, span, message).help(help)
}
