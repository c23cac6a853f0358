#!/usr/bin/env python3
"""Converts CEL's published conformance cases to JSON, one case a line.

    git clone https://github.com/google/cel-spec
    tests/cel/convert.py cel-spec/tests/simple/testdata > tests/cel/cases.jsonl

The cases are text protobufs of `cel.expr.conformance.test.SimpleTestFile`. What is written of each: its name, the expression, the
types of its variables and their values, and what is expected. Values keep their kind: {"int": 1}, {"list": [..]}, {"map": [[k, v]..]}.
Integers stand as text, since JSON's numbers are doubles for many readers; so do doubles that JSON cannot say.
"""

import json
import re
import sys
from pathlib import Path

TOKEN = re.compile(
    rb"""\s+|\#[^\n]*|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"""
    rb"""|(?P<number>-?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|inf(?:inity)?|nan)[fF]?)"""
    rb"""|(?P<symbol>[-{}<>:,;/\.\[\]])"""
)
ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def unescaped(quoted):
    """Returns the bytes of a quoted literal."""

    def one(match):
        escape = match.group(1)
        if escape[:1] in b"01234567":
            return bytes([int(escape, 8)])
        if escape[:1] in b"xX":
            return bytes([int(escape[1:], 16)])
        if escape[:1] in b"uU":
            return chr(int(escape[1:], 16)).encode()
        return ESCAPES.get(escape, escape)

    pattern = rb"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)"
    return re.sub(pattern, one, quoted[1:-1], flags=re.DOTALL)


class Reader:
    """A text protobuf, read without its schema: a message is a list of pairs of name and value."""

    def __init__(self, text):
        self.tokens, at = [], 0
        while at < len(text):
            match = TOKEN.match(text, at)
            if not match:
                raise SystemExit(f"unreadable at {text[at:at + 40]!r}")
            at = match.end()
            if match.lastgroup:
                self.tokens.append((match.lastgroup, match.group(match.lastgroup)))
        self.tokens.append(("end", b""))
        self.at = 0

    def peek(self):
        return self.tokens[self.at]

    def next(self):
        token = self.tokens[self.at]
        self.at += 1
        return token

    def eat(self, symbol):
        found = self.peek() == ("symbol", symbol)
        self.at += found
        return found

    def message(self, close=None):
        fields = []
        while not (self.eat(close) if close else self.peek()[0] == "end"):
            fields.extend(self.field())
        return fields

    def field(self):
        kind, name = self.next()
        if name == b"[":
            name = b""
            while not self.eat(b"]"):
                name += self.next()[1]
            name = b"[" + name + b"]"
        elif kind != "word":
            raise SystemExit(f"expected a field, found {name!r}")
        name = name.decode()
        self.eat(b":")
        if self.eat(b"["):
            values = []
            while not self.eat(b"]"):
                values.append(self.value())
                self.eat(b",")
        else:
            values = [self.value()]
        self.eat(b",") or self.eat(b";")
        return [(name, value) for value in values]

    def value(self):
        if self.eat(b"{"):
            return self.message(b"}")
        if self.eat(b"<"):
            return self.message(b">")
        kind, text = self.next()
        if kind == "string":
            parts = [unescaped(text)]
            while self.peek()[0] == "string":
                parts.append(unescaped(self.next()[1]))
            return b"".join(parts)
        if (kind, text) == ("symbol", b"-"):
            return "-" + self.next()[1].decode()
        if kind in ("number", "word"):
            return text.decode()
        raise SystemExit(f"expected a value, found {text!r}")


def all_of(message, name):
    return [value for field, value in message if field == name]


def one(message, name, default=None):
    found = all_of(message, name)
    return found[-1] if found else default


def text(value):
    return value.decode()


def integer(value):
    return str(int(value, 0))


def value_of(message):
    """A `cel.expr.Value`."""
    if not message:
        return {"message": "empty value"}
    name, value = message[-1]
    if name == "null_value":
        return "null"
    if name == "bool_value":
        return {"bool": value == "true"}
    if name == "int64_value":
        return {"int": integer(value)}
    if name == "uint64_value":
        return {"uint": integer(value)}
    if name == "double_value":
        return {"double": value}
    if name == "string_value":
        return {"string": text(value)}
    if name == "bytes_value":
        return {"bytes": value.hex()}
    if name == "list_value":
        return {"list": [value_of(item) for item in all_of(value, "values")]}
    if name == "map_value":
        entries = [(one(entry, "key", []), one(entry, "value", [])) for entry in all_of(value, "entries")]
        return {"map": [[value_of(key), value_of(item)] for key, item in entries]}
    if name == "object_value":
        return object_of(value)
    if name == "type_value":
        return {"type": text(value)}
    return {"message": name}


def object_of(message):
    """An `Any`: a moment, a length of time, or a message of which the type's name is enough."""
    name, fields = message[0]
    name = name.strip("[]").rsplit("/", 1)[-1]
    if name in WELL_KNOWN:
        return {WELL_KNOWN[name]: [integer(one(fields, "seconds", "0")), integer(one(fields, "nanos", "0"))]}
    return {"message": name}


WELL_KNOWN = {"google.protobuf.Timestamp": "timestamp", "google.protobuf.Duration": "duration"}
PRIMITIVES = {"BOOL": "bool", "INT64": "int", "UINT64": "uint", "DOUBLE": "double", "STRING": "string", "BYTES": "bytes"}


def type_of(message):
    """A `cel.expr.Type`."""
    if not message:
        return "dyn"
    name, value = message[-1]
    if name == "primitive":
        return PRIMITIVES[value]
    if name == "null":
        return "null"
    if name == "dyn":
        return "dyn"
    if name == "well_known":
        return {"TIMESTAMP": "timestamp", "DURATION": "duration"}.get(value, {"message": value})
    if name == "wrapper":
        return {"optional": PRIMITIVES[value]}
    if name == "list_type":
        return {"list": type_of(one(value, "elem_type", []))}
    if name == "map_type":
        return {"map": [type_of(one(value, "key_type", [])), type_of(one(value, "value_type", []))]}
    if name == "message_type":
        return WELL_KNOWN.get(text(value)) or {"message": text(value)}
    if name == "abstract_type" and text(one(value, "name")) == "optional_type":
        return {"optional": type_of(one(value, "parameter_types", []))}
    if name == "type":
        return {"type": type_of(value)}
    return {"message": name}


def case_of(prefix, test):
    case = {"name": f"{prefix}/{text(one(test, 'name'))}", "expr": text(one(test, "expr"))}
    variables = {}
    for declaration in all_of(test, "type_env"):
        identifier = one(declaration, "ident")
        variable = type_of(one(identifier, "type", [])) if identifier is not None else {"message": "function"}
        variables[text(one(declaration, "name"))] = variable
    if variables:
        case["variables"] = variables
    bindings = all_of(test, "bindings")
    if bindings:
        case["bindings"] = {
            text(one(binding, "key")): value_of(one(one(binding, "value"), "value", [])) for binding in bindings
        }
    for flag in ("disable_macros", "disable_check", "check_only"):
        if one(test, flag) == "true":
            case[flag] = True
    if one(test, "container"):
        case["container"] = text(one(test, "container"))
    typed = one(test, "typed_result")
    errors = all_of(test, "eval_error")
    errors += [error for any_of in all_of(test, "any_eval_errors") for error in all_of(any_of, "errors")]
    if typed is not None:
        if one(typed, "result") is not None:
            case["value"] = value_of(one(typed, "result"))
        case["type"] = type_of(one(typed, "deduced_type", []))
    elif errors:
        messages = [text(one(error, "message", b"")) for set_of in errors for error in all_of(set_of, "errors")]
        case["error"] = messages[0] if messages else ""
    elif one(test, "value") is not None:
        case["value"] = value_of(one(test, "value"))
    elif one(test, "unknown") is not None or one(test, "any_unknowns") is not None:
        case["unknown"] = True
    else:
        case["value"] = {"bool": True}
    return case


def main():
    seen = {}
    for path in sorted(Path(sys.argv[1]).glob("*.textproto")):
        file = Reader(path.read_bytes()).message()
        for section in all_of(file, "section"):
            for test in all_of(section, "test"):
                case = case_of(f"{path.stem}/{text(one(section, 'name'))}", test)
                # Some names stand twice in the published files.
                count = seen[case["name"]] = seen.get(case["name"], 0) + 1
                if count > 1:
                    case["name"] += f"#{count}"
                print(json.dumps(case, ensure_ascii=False, separators=(",", ":")))


main()
