//! What users read: one test per kind of mistake, on the rendered text.

use expect_test::{Expect, expect};

use crate::base::diag::Severity;
use crate::topology::{Colour, Sources, check, render, to_json};

const PLACED: &str = r#"{"type": "record", "name": "shop.Placed", "fields": [
    {"name": "customer", "type": "string"}, {"name": "total", "type": "double"},
    {"name": "note", "type": ["null", "string"], "default": null}]}"#;
const CANCELLED: &str = r#"{"type": "record", "name": "shop.Cancelled", "fields": [
    {"name": "customer", "type": "string"}, {"name": "reason", "type": "string"}]}"#;
const CUSTOMER: &str = r#"{"type": "record", "name": "shop.Customer", "fields": [
    {"name": "name", "type": "string"}, {"name": "town", "type": ["null", "string"], "default": null}]}"#;
const ORDER: &str = r#"{"type": "record", "name": "shop.Order", "fields": [
    {"name": "total", "type": "double", "default": 0},
    {"name": "status", "type": {"type": "enum", "name": "Status", "symbols": ["OPEN", "SHIPPED"]}, "default": "OPEN"}]}"#;

pub(super) fn sources(text: &str) -> Sources {
    Sources::default()
        .with_file("shop.toml", text)
        .with_schema("Placed.avsc", PLACED)
        .with_schema("Cancelled.avsc", CANCELLED)
        .with_schema("Customer.avsc", CUSTOMER)
        .with_schema("Order.avsc", ORDER)
        .with_schema("Broken.avsc", "{\"type\": \"record\",\n \"name\": \"Broken\"}")
        .with_schema("List.avsc", "{\"type\": \"array\", \"items\": \"string\"}")
}

/// Checks tables behind a sound `[topology]`.
fn told(tables: &str, expected: &Expect) {
    let sources = sources(&format!("[topology]\nformat = 1\napplication_id = \"shop\"\n\n{tables}"));
    let (graph, findings) = check(&sources);
    assert_eq!(graph.is_none(), findings.iter().any(|finding| finding.severity == Severity::Error));
    expected.assert_eq(&render(&findings, &sources, Colour::Never));
}

#[test]
fn a_file_that_is_not_toml_is_told_where_it_stops_being_it() {
    told(
        r#"[stream.orders
topic = "orders"
"#,
        &expect![[r#"
            error[E0101]: unclosed table, expected `]`
             --> shop.toml:5:15
              |
            5 | [stream.orders
              |               ^

            error[E0102]: unknown table `[topic]`
             --> shop.toml:6:1
              |
            6 | topic = "orders"
              | ^^^^^
              |
              = help: known: `stream`, `table`, `entity`, `aggregate`, `merge`, `branch`, `join`, `sink`, `topology`, `defaults`
        "#]],
    );
}

#[test]
fn unknown_tables_and_keys_get_the_nearest_name() {
    told(
        r#"[stram.orders]
topic = "orders"

[aggregate.totals]
from = "orders"
groupby = 'value.customer'
select = { n = 'count()' }
window = { tumbling = "1h", grace = "0s", retenton = "1d" }

[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]
"#,
        &expect![[r#"
            error[E0102]: unknown table `[stram]`
             --> shop.toml:5:2
              |
            5 | [stram.orders]
              |  ^^^^^
              |
              = help: did you mean `stream`?

            error[E0102]: unknown key `groupby` in [aggregate.totals]
              --> shop.toml:10:1
               |
            10 | groupby = 'value.customer'
               | ^^^^^^^ no such key here
               |
               = help: did you mean `group_by`?

            error[E0102]: unknown key `retenton` in [aggregate.totals.window]
              --> shop.toml:12:43
               |
            12 | window = { tumbling = "1h", grace = "0s", retenton = "1d" }
               |                                           ^^^^^^^^ no such key here
               |
               = help: did you mean `retention`?
        "#]],
    );
}

#[test]
fn values_of_the_wrong_type_say_what_they_are() {
    told(
        r#"[stream.orders]
topic = 5
schemas = "Placed.avsc"
idle = 30

[stream.big]
from = "orders"
where = true
select = 'value.total'
on = ["Placed", 1]
"#,
        &expect![[r#"
            error[E0103]: `topic` wants a string, not an integer
             --> shop.toml:6:9
              |
            6 | topic = 5
              |         ^ this is an integer

            error[E0103]: `schemas` wants a list of strings, not a string
             --> shop.toml:7:11
              |
            7 | schemas = "Placed.avsc"
              |           ^^^^^^^^^^^^^ this is a string

            error[E0103]: `idle` wants a string, not an integer
             --> shop.toml:8:8
              |
            8 | idle = 30
              |        ^^ this is an integer

            warning[E0119]: stream `big` is not used
              --> shop.toml:10:9
               |
            10 | [stream.big]
               |         ^^^ no node reads its rows
               |
               = help: add a sink with `from = "big"`, or take it out

            error[E0103]: `where` wants an expression, not a boolean
              --> shop.toml:12:9
               |
            12 | where = true
               |         ^^^^ this is a boolean
               |
               = help: write it as a string: 'true'

            error[E0103]: `select` wants a table, not a string
              --> shop.toml:13:10
               |
            13 | select = 'value.total'
               |          ^^^^^^^^^^^^^ this is a string

            error[E0103]: `on` wants a string, not an integer
              --> shop.toml:14:17
               |
            14 | on = ["Placed", 1]
               |                 ^ this is an integer
        "#]],
    );
}

#[test]
fn missing_keys_are_all_told() {
    told(
        r#"[stream.nowhere]

[stream.orders]
topic = "orders"

[entity.order]

[aggregate.totals]
from = "orders"

[merge.all]

[branch.b]
from = "orders"

[join.j]
left = "orders"

[sink.s]
"#,
        &expect![[r#"
            error[E0104]: [stream.nowhere] has no `topic` or `from`
             --> shop.toml:5:9
              |
            5 | [stream.nowhere]
              |         ^^^^^^^
              |
              = help: say where the rows come from: a topic, or another node

            warning[E0119]: stream `nowhere` is not used
             --> shop.toml:5:9
              |
            5 | [stream.nowhere]
              |         ^^^^^^^ no node reads its rows
              |
              = help: add a sink with `from = "nowhere"`, or take it out

            error[E0104]: [stream.orders] has no `schemas`
             --> shop.toml:7:9
              |
            7 | [stream.orders]
              |         ^^^^^^
              |
              = help: name the Avro schemas of its events: `schemas = ["X.avsc"]`

            warning[E0119]: stream `orders` is not used
             --> shop.toml:7:9
              |
            7 | [stream.orders]
              |         ^^^^^^ no node reads its rows
              |
              = help: add a sink with `from = "orders"`, or take it out

            error[E0104]: [entity.order] has no `from`
              --> shop.toml:10:9
               |
            10 | [entity.order]
               |         ^^^^^
               |
               = help: name the stream whose events it folds

            error[E0104]: [entity.order] has no `schema`
              --> shop.toml:10:9
               |
            10 | [entity.order]
               |         ^^^^^
               |
               = help: name the Avro schema of its state: `schema = "Order.avsc"`

            error[E0104]: [entity.order] has no `apply`
              --> shop.toml:10:9
               |
            10 | [entity.order]
               |         ^^^^^
               |
               = help: say what each event changes: `apply.OrderPlaced.set = { … }`

            error[E0104]: [aggregate.totals] has no `select` or `on`
              --> shop.toml:12:12
               |
            12 | [aggregate.totals]
               |            ^^^^^^
               |
               = help: say what it computes: `select = { orders = 'count()' }`

            error[E0104]: [merge.all] has no `from`
              --> shop.toml:15:8
               |
            15 | [merge.all]
               |        ^^^
               |
               = help: name the streams that it brings together: `from = ["a", "b"]`

            warning[E0119]: merge `all` is not used
              --> shop.toml:15:8
               |
            15 | [merge.all]
               |        ^^^ no node reads its rows
               |
               = help: add a sink with `from = "all"`, or take it out

            error[E0104]: [branch.b] has no `case`
              --> shop.toml:17:9
               |
            17 | [branch.b]
               |         ^
               |
               = help: add `[[branch.….case]]` tables with `name` and `where`

            warning[E0119]: branch `b` is not used
              --> shop.toml:17:9
               |
            17 | [branch.b]
               |         ^ no node reads its rows
               |
               = help: add a sink with `from = "b"`, or take it out

            error[E0104]: [join.j] has no `right`
              --> shop.toml:20:7
               |
            20 | [join.j]
               |       ^
               |
               = help: name the table that it looks rows up in

            error[E0104]: [join.j] has no `select`
              --> shop.toml:20:7
               |
            20 | [join.j]
               |       ^
               |
               = help: say what the joined row holds: `select = { total = 'left.total' }`

            warning[E0119]: join `j` is not used
              --> shop.toml:20:7
               |
            20 | [join.j]
               |       ^ no node reads its rows
               |
               = help: add a sink with `from = "j"`, or take it out

            error[E0104]: [sink.s] has no `from`
              --> shop.toml:23:7
               |
            23 | [sink.s]
               |       ^
               |
               = help: name the stream whose rows it writes

            error[E0104]: [sink.s] has no `topic`
              --> shop.toml:23:7
               |
            23 | [sink.s]
               |       ^
               |
               = help: name the topic that it writes to
        "#]],
    );
}

#[test]
fn one_name_stands_once_in_all_kinds() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[table.orders]
topic = "orders.by_id"
schemas = ["Customer.avsc"]
"#,
        &expect![[r#"
            warning[E0119]: stream `orders` is not used
             --> shop.toml:5:9
              |
            5 | [stream.orders]
              |         ^^^^^^ no node reads its rows
              |
              = help: add a sink with `from = "orders"`, or take it out

            error[E0105]: the name `orders` is taken
             --> shop.toml:9:8
              |
            9 | [table.orders]
              |        ^^^^^^ a second one of this name
              |
              = help: streams, tables, cases and all other nodes of all files share one set of names; rename one
        "#]],
    );
}

#[test]
fn a_name_that_is_nowhere_gets_the_nearest_one() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[sink.out]
from = "order"
topic = "out"

[sink.again]
from = "out"
topic = "again"

[branch.by_size]
from = "orders"
case = [{ name = "large", where = 'value.total > 10.0' }, { name = "small" }]

[sink.more]
from = "by_size"
topic = "more"
"#,
        &expect![[r#"
            error[E0106]: no node is named `order`
              --> shop.toml:10:8
               |
            10 | from = "order"
               |        ^^^^^^^
               |
               = help: did you mean `orders`?

            error[E0106]: sink `out` gives no rows
              --> shop.toml:14:8
               |
            14 | from = "out"
               |        ^^^^^
               |
               = help: read from what the sink reads from, or from a stream of its topic

            error[E0106]: branch `by_size` gives its rows by its cases
              --> shop.toml:22:8
               |
            22 | from = "by_size"
               |        ^^^^^^^^^
               |
               = help: name a case: `large`, `small`
        "#]],
    );
}

#[test]
fn a_cycle_is_told_once() {
    told(
        r#"[stream.a]
from = "c"

[stream.b]
from = "a"

[stream.c]
from = "b"

[sink.out]
from = "c"
topic = "out"
"#,
        &expect![[r#"
            error[E0107]: `a` feeds itself: `a` from `c` from `b` from `a`
             --> shop.toml:5:9
              |
            5 | [stream.a]
              |         ^
              |
              = help: rows flow one way; to feed results back, write them to a topic and read that
        "#]],
    );
}

#[test]
fn keys_that_exclude_each_other() {
    told(
        r#"[stream.orders]
topic = "orders"
from = "others"
schemas = ["Placed.avsc"]

[stream.others]
topic = "others"
schemas = ["Placed.avsc"]
where = 'true'

[stream.both]
from = "others"
select = { a = '1' }
set = { b = '2' }
timestamp = 'value.at'

[sink.s]
from = "both"
topic = "s"
record = "shop.S"

[table.two]
topic = "two"
schemas = ["Placed.avsc", "Cancelled.avsc"]

[stream.json]
topic = "json"
value_format = "json"
schemas = ["Placed.avsc", "Cancelled.avsc"]
on_error.decode = { action = "skip", topic = "dlq" }

[sink.j]
from = "json"
topic = "j"
"#,
        &expect![[r#"
            warning[E0119]: stream `orders` is not used
             --> shop.toml:5:9
              |
            5 | [stream.orders]
              |         ^^^^^^ no node reads its rows
              |
              = help: add a sink with `from = "orders"`, or take it out

            error[E0108]: `topic` and `from` exclude each other
             --> shop.toml:7:1
              |
            7 | from = "others"
              | ^^^^
              |
              = help: keep the one that the rows come from

            error[E0108]: `where` needs `from`
              --> shop.toml:13:1
               |
            13 | where = 'true'
               | ^^^^^
               |
               = help: a stream that reads a topic gives its records as they are; put a second stream with `from` behind it

            error[E0108]: `select` and `set` exclude each other
              --> shop.toml:18:1
               |
            18 | set = { b = '2' }
               | ^^^
               |
               = help: `select` gives the whole row, `set` changes fields

            error[E0108]: `timestamp` needs `topic`
              --> shop.toml:19:1
               |
            19 | timestamp = 'value.at'
               | ^^^^^^^^^
               |
               = help: it belongs to the stream that reads the topic

            error[E0108]: a table has one schema
              --> shop.toml:28:27
               |
            28 | schemas = ["Placed.avsc", "Cancelled.avsc"]
               |                           ^^^^^^^^^^^^^^^^
               |
               = help: its rows have one shape; keep one schema

            error[E0108]: JSON values have one schema
              --> shop.toml:33:27
               |
            33 | schemas = ["Placed.avsc", "Cancelled.avsc"]
               |                           ^^^^^^^^^^^^^^^^
               |
               = help: a JSON object does not say its type; keep one schema

            error[E0108]: only "dead_letter" has a `topic`
              --> shop.toml:34:46
               |
            34 | on_error.decode = { action = "skip", topic = "dlq" }
               |                                              ^^^^^
               |
               = help: leave `topic` out, or write `action = "dead_letter"`
        "#]],
    );
}

#[test]
fn values_that_are_not_among_the_choices() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]
key_format = "strng"
subjects = "by_hand"
idle = "half an hour"

[entity.order]
from = "orders"
schema = "Order.avsc"
history = "for ever"
apply.Placed.set = { total = 'event.total' }
"#,
        &expect![[r#"
            error[E0109]: `key_format` cannot be "strng"
             --> shop.toml:8:14
              |
            8 | key_format = "strng"
              |              ^^^^^^^
              |
              = help: did you mean "string"?

            error[E0109]: `subjects` cannot be "by_hand"
             --> shop.toml:9:12
              |
            9 | subjects = "by_hand"
              |            ^^^^^^^^^
              |
              = help: one of "topic_name", "record_name", "topic_record_name"

            error[E0109]: `half an hour` is not a duration: write it like `250ms`, `30s`, `10m`, `1h30m` or `400d`
              --> shop.toml:10:8
               |
            10 | idle = "half an hour"
               |        ^^^^^^^^^^^^^^

            error[E0109]: `history` cannot be "for ever"
              --> shop.toml:15:11
               |
            15 | history = "for ever"
               |           ^^^^^^^^^^
               |
               = help: "forever", a duration like "90d", or `false` for none
        "#]],
    );
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    told(
        r#"[global_table.countries]
topic = "countries"
schemas = ["Country.avsc"]

[defaults.on_error]
produce = { action = "retry", attempts = 5 }

[stream.orders]
topic = "orders"
envelope = "cloudevents"
schemas = ["Placed.avsc"]

[aggregate.visits]
from = "orders"
window = { session = "30m", grace = "5m" }
select = { customers = 'count_distinct(value.customer)' }

[table.customers]
topic = "customers"
schemas = ["Customer.avsc"]

[table.others]
topic = "others"
schemas = ["Customer.avsc"]

[join.two_tables]
left = "customers"
right = "others"
kind = "outer"
select = { name = 'left.name' }
"#,
        &expect![[r#"
            error[E0110]: `[global_table]` is not yet supported
             --> shop.toml:5:2
              |
            5 | [global_table.countries]
              |  ^^^^^^^^^^^^
              |
              = help: this version of tidemill does not run it; leave it out

            error[E0110]: "retry" in [defaults.on_error.produce] is not yet supported
              --> shop.toml:10:22
               |
            10 | produce = { action = "retry", attempts = 5 }
               |                      ^^^^^^^
               |
               = help: this version of tidemill does not run it; leave it out

            error[E0110]: `attempts` in [defaults.on_error.produce] is not yet supported
              --> shop.toml:10:31
               |
            10 | produce = { action = "retry", attempts = 5 }
               |                               ^^^^^^^^
               |
               = help: this version of tidemill does not run it; leave it out

            error[E0110]: `envelope` in [stream.orders] is not yet supported
              --> shop.toml:14:1
               |
            14 | envelope = "cloudevents"
               | ^^^^^^^^
               |
               = help: this version of tidemill does not run it; leave it out

            error[E0110]: `session` in [aggregate.visits.window] is not yet supported
              --> shop.toml:19:12
               |
            19 | window = { session = "30m", grace = "5m" }
               |            ^^^^^^^
               |
               = help: this version of tidemill does not run it; leave it out

            error[E0110]: `count_distinct` is not yet supported
              --> shop.toml:20:25
               |
            20 | select = { customers = 'count_distinct(value.customer)' }
               |                         ^^^^^^^^^^^^^^
               |
               = help: known: `avg`, `count`, `first`, `last`, `max`, `min`, `sum`

            warning[E0119]: join `two_tables` is not used
              --> shop.toml:30:7
               |
            30 | [join.two_tables]
               |       ^^^^^^^^^^ no node reads its rows
               |
               = help: add a sink with `from = "two_tables"`, or take it out

            error[E0110]: `customers` is a table: a join of two tables is not yet supported
              --> shop.toml:31:8
               |
            31 | left = "customers"
               |        ^^^^^^^^^^^
               |
               = help: to look `others` up whenever `customers` changes, put a stream between: `[stream.…]` with `from = "customers"`

            error[E0110]: a join of kind "outer" is not yet supported
              --> shop.toml:33:1
               |
            33 | kind = "outer"
               | ^^^^
               |
               = help: this version of tidemill does not run it; leave it out
        "#]],
    );
}

#[test]
fn schemas_that_are_missing_or_wrong() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Plaecd.avsc", "Broken.avsc"]

[table.customers]
topic = "customers"
schemas = ["List.avsc"]
"#,
        &expect![[r#"
            warning[E0119]: stream `orders` is not used
             --> shop.toml:5:9
              |
            5 | [stream.orders]
              |         ^^^^^^ no node reads its rows
              |
              = help: add a sink with `from = "orders"`, or take it out

            error[E0111]: there is no schema file `Plaecd.avsc`
             --> shop.toml:7:12
              |
            7 | schemas = ["Plaecd.avsc", "Broken.avsc"]
              |            ^^^^^^^^^^^^^
              |
              = help: did you mean `Placed.avsc`?

            error[E0301]: the schema does not parse: No `fields` in record
             --> Broken.avsc:1:1
              |
            1 | {"type": "record",
              | ^^^^^^^^^^^^^^^^^^

            error[E0112]: the schema is list(string), not a record
             --> List.avsc:1:1
              |
            1 | {"type": "array", "items": "string"}
              | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: events, rows and states are records: `{"type": "record", …}`
        "#]],
    );
}

#[test]
fn event_types_that_are_not_there() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc", "Cancelled.avsc"]

[stream.placed]
from = "orders"
on = ["Plaecd"]

[entity.order]
from = "orders"
schema = "Order.avsc"
apply.Paid.set = { total = '1.0' }

[aggregate.totals]
from = "orders"
on.Shipped.set = { n = 'count()' }

[sink.out]
from = "placed"
topic = "out"
"#,
        &expect![[r#"
            error[E0113]: `orders` has no event type `Plaecd`
              --> shop.toml:11:7
               |
            11 | on = ["Plaecd"]
               |       ^^^^^^^^
               |
               = help: did you mean `Placed`?

            error[E0113]: `orders` has no event type `Paid`
              --> shop.toml:16:7
               |
            16 | apply.Paid.set = { total = '1.0' }
               |       ^^^^
               |
               = help: known: `Placed`, `Cancelled`

            error[E0113]: `orders` has no event type `Shipped`
              --> shop.toml:20:4
               |
            20 | on.Shipped.set = { n = 'count()' }
               |    ^^^^^^^
               |
               = help: known: `Placed`, `Cancelled`
        "#]],
    );
}

#[test]
fn an_expression_is_told_for_the_event_type_that_it_fails_for() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc", "Cancelled.avsc"]
timestamp = 'value.customer'

[stream.large]
from = "orders"
where = 'value.total > 10.0'

[sink.out]
from = "large"
topic = "out"
"#,
        &expect![[r#"
            error[E0114]: `timestamp` wants a timestamp, or an int of milliseconds, not string
             --> shop.toml:8:14
              |
            8 | timestamp = 'value.customer'
              |              ^^^^^^^^^^^^^^ this is string
              |
              = help: every record needs a time: for a field that may be null write `value.x.orValue(meta.timestamp)`
        "#]],
    );
}

#[test]
fn expressions_of_the_wrong_type() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[stream.filtered]
from = "orders"
where = 'value.customer'

[stream.keyed]
from = "orders"
select_key = 'value.note'
select = { a = 'value.customr', b = "value.note == \"x\" ? 1 : 'y'" }

[stream.unstorable]
from = "orders"
select = { a = '1u' }

[aggregate.totals]
from = "orders"
group_by = 'value.total'
select = { n = 'count()' }

[entity.order]
from = "orders"
schema = "Order.avsc"
apply.Placed.set = { total = 'event.customer', status = '"SHIPED"', totl = '1.0' }

[merge.all]
from = ["filtered", "keyed", "unstorable"]

[sink.out]
from = "all"
topic = "out"
"#,
        &expect![[r#"
            error[E0204]: the value is string, not bool
              --> shop.toml:11:10
               |
            11 | where = 'value.customer'
               |          ^^^^^^^^^^^^^^ string
               |
               = help: compare it with something: `… == …`, `… > …`

            error[E0114]: a key is a string, an int or bytes, not optional(string)
              --> shop.toml:15:15
               |
            15 | select_key = 'value.note'
               |               ^^^^^^^^^^ this is optional(string)
               |
               = help: convert it, `string(…)`; for a field that may be null give the key of those rows: `value.x.orValue("")`

            error[E0203]: record `shop.Placed` has no field `customr`
              --> shop.toml:16:23
               |
            16 | select = { a = 'value.customr', b = "value.note == \"x\" ? 1 : 'y'" }
               |                       ^^^^^^^
               |
               = help: did you mean `customer`?

            error[E0207]: `value.note` may be null
              --> shop.toml:16:37
               |
            16 | select = { a = 'value.customr', b = "value.note == \"x\" ? 1 : 'y'" }
               |                                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ optional(string)
               |
               = help: say what null stands for, `value.note.orValue(…)`, or test `value.note != null && …` first

            error[E0114]: field `a`: `uint` has no counterpart in Avro: convert it with int()
              --> shop.toml:20:12
               |
            20 | select = { a = '1u' }
               |            ^
               |
               = help: give it another type: `int(…)`

            error[E0114]: a key is a string, an int or bytes, not double
              --> shop.toml:24:13
               |
            24 | group_by = 'value.total'
               |             ^^^^^^^^^^^ this is double
               |
               = help: convert it, `string(…)`; for a field that may be null give the key of those rows: `value.x.orValue("")`

            error[E0204]: the value is string, not double
              --> shop.toml:30:31
               |
            30 | apply.Placed.set = { total = 'event.customer', status = '"SHIPED"', totl = '1.0' }
               |                               ^^^^^^^^^^^^^^ string
               |
               = help: convert it: `double(…)`

            error[E0208]: `SHIPED` is not a symbol of enum `shop.Status`
              --> shop.toml:30:58
               |
            30 | apply.Placed.set = { total = 'event.customer', status = '"SHIPED"', totl = '1.0' }
               |                                                          ^^^^^^^^
               |
               = help: did you mean `SHIPPED`?

            error[E0125]: the state of `order` has no field `totl`
              --> shop.toml:30:69
               |
            30 | apply.Placed.set = { total = 'event.customer', status = '"SHIPED"', totl = '1.0' }
               |                                                                     ^^^^
               |
               = help: did you mean `total`?
        "#]],
    );
}

#[test]
fn aggregates_are_calls_of_their_functions() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc", "Cancelled.avsc"]

[stream.placed]
from = "orders"
on = ["Placed"]

[aggregate.totals]
from = "placed"
select = { a = 'value.total', b = 'sum(value.total) / 2.0', c = 'count(value.total)', d = 'sum()', e = 'sum(value.customer)', f = 'max(value.total, 1.0)', g = 'cuont()', h = 'sum(value.totl)', i = 'avg(value.total)', i_sum = 'count()', j = 'sum(' }

[aggregate.two_ways]
from = "orders"
on.Placed.set = { n = 'count()' }
on.Cancelled.set = { n = 'last(value.reason)' }
"#,
        &expect![[r#"
            error[E0115]: an aggregate's field is one call of an aggregate function
              --> shop.toml:15:17
               |
            15 | select = { a = 'value.total', b = 'sum(value.total) / 2.0', c = 'count(value.total)', d = 'sum()', e = 'sum(value.customer)', f = 'm...
               |                 ^^^^^^^^^^^
               |
               = help: one of `avg`, `count`, `first`, `last`, `max`, `min`, `sum`; to compute with results, put a stream with `select` behind it

            error[E0115]: an aggregate's field is one call of an aggregate function
              --> shop.toml:15:36
               |
            15 | select = { a = 'value.total', b = 'sum(value.total) / 2.0', c = 'count(value.total)', d = 'sum()', e = 'sum(value.customer)', f = 'm...
               |                                    ^^^^^^^^^^^^^^^^^^^^^^
               |
               = help: did you mean `sum(…)`?

            error[E0115]: `count()` takes no argument
              --> shop.toml:15:72
               |
            15 | select = { a = 'value.total', b = 'sum(value.total) / 2.0', c = 'count(value.total)', d = 'sum()', e = 'sum(value.customer)', f = 'm...
               |                                                                        ^^^^^^^^^^^
               |
               = help: it counts rows; to count some of them, put a stream with `where` in front

            error[E0115]: `sum` takes one argument, not 0
              --> shop.toml:15:92
               |
            15 | select = { a = 'value.total', b = 'sum(value.total) / 2.0', c = 'count(value.total)', d = 'sum()', e = 'sum(value.customer)', f = 'm...
               |                                                                                            ^^^
               |
               = help: what to compute it of: `sum(value.x)`

            error[E0115]: `sum` does not take string
              --> shop.toml:15:105
               |
            15 | select = { a = 'value.total', b = 'sum(value.total) / 2.0', c = 'count(value.total)', d = 'sum()', e = 'sum(value.customer)', f = 'm...
               |                                                                                                         ^^^^^^^^^^^^^^^^^^^
               |
               = help: it takes int and double; convert it: `double(value.x)`

            error[E0115]: `max` takes one argument, not 2
              --> shop.toml:15:149
               |
            15 | ... d = 'sum()', e = 'sum(value.customer)', f = 'max(value.total, 1.0)', g = 'cuont()', h = 'sum(value.totl)', i = 'avg(value.total)...
               |                                                                   ^^^
               |
               = help: what to compute it of: `max(value.x)`

            error[E0115]: an aggregate's field is one call of an aggregate function
              --> shop.toml:15:161
               |
            15 | ...e = 'sum(value.customer)', f = 'max(value.total, 1.0)', g = 'cuont()', h = 'sum(value.totl)', i = 'avg(value.total)', i_sum = 'co...
               |                                                                 ^^^^^^^
               |
               = help: did you mean `count(…)`?

            error[E0203]: record `shop.Placed` has no field `totl`
              --> shop.toml:15:186
               |
            15 | ...', f = 'max(value.total, 1.0)', g = 'cuont()', h = 'sum(value.totl)', i = 'avg(value.total)', i_sum = 'count()', j = 'sum(' }
               |                                                                  ^^^^
               |
               = help: did you mean `total`?

            error[E0115]: `i_sum` is a name that the average `i` keeps its state under
              --> shop.toml:15:218
               |
            15 | ...g = 'cuont()', h = 'sum(value.totl)', i = 'avg(value.total)', i_sum = 'count()', j = 'sum(' }
               |                                                                  ^^^^^
               |
               = help: give one of the two another name

            error[E0201]: expected an expression, found the end
              --> shop.toml:15:246
               |
            15 | ...lue.totl)', i = 'avg(value.total)', i_sum = 'count()', j = 'sum(' }
               |                                                                    ^

            error[E0115]: `n` is `count()` elsewhere and `last` of string here
              --> shop.toml:20:27
               |
            20 | on.Cancelled.set = { n = 'last(value.reason)' }
               |                           ^^^^^^^^^^^^^^^^^^
               |
               = help: one field is one function; give this one another name
        "#]],
    );
}

#[test]
fn windows_say_their_grace_and_only_they_close() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[aggregate.hourly]
from = "orders"
window = { tumbling = "1h" }
select = { n = 'count()' }

[aggregate.none]
from = "orders"
window = { tumbling = "0s", grace = "1h", retention = "1m" }
select = { n = 'count()' }

[aggregate.total]
from = "orders"
emit = "on_close"
select = { n = 'count()' }

[table.newest]
from = "hourly"
"#,
        &expect![[r#"
            error[E0116]: [aggregate.hourly.window] has no `grace`
              --> shop.toml:11:1
               |
            11 | window = { tumbling = "1h" }
               | ^^^^^^
               |
               = help: say how long a window waits for late records: `grace = "10m"`; "0s" waits for none

            error[E0116]: a window cannot be 0 long
              --> shop.toml:16:23
               |
            16 | window = { tumbling = "0s", grace = "1h", retention = "1m" }
               |                       ^^^^
               |
               = help: say how long it is: `tumbling = "1h"`

            error[E0116]: `retention` is shorter than `grace`
              --> shop.toml:16:55
               |
            16 | window = { tumbling = "0s", grace = "1h", retention = "1m" }
               |                                                       ^^^^
               |
               = help: a window must be kept at least until it closes

            error[E0116]: `emit = "on_close"` needs a `window`
              --> shop.toml:21:1
               |
            21 | emit = "on_close"
               | ^^^^
               |
               = help: only a window closes: add `window = { tumbling = "1h", grace = "10m" }`, or emit "on_commit"

            error[E0116]: a table keeps one row per key, and these rows belong to windows
              --> shop.toml:25:8
               |
            25 | from = "hourly"
               |        ^^^^^^^^
               |
               = help: re-key them first: a stream with `select_key`
        "#]],
    );
}

#[test]
fn the_sides_of_a_join_must_go_together() {
    told(
        r#"[stream.orders]
topic = "orders"
key_format = "long"
schemas = ["Placed.avsc"]

[table.customers]
topic = "customers"
schemas = ["Customer.avsc"]

[join.by_other_keys]
left = "orders"
right = "customers"
select = { name = 'right.name', total = 'left.totl' }

[join.streams]
left = "orders"
right = "orders"
select = { total = 'left.total' }

[join.maybe]
left = "by_customer"
right = "customers"
kind = "left"
select = { length = 'size(right.name)' }

[stream.by_customer]
from = "orders"
select_key = 'value.customer'

[sink.a]
from = "by_other_keys"
topic = "a"
record = "shop.A"

[sink.b]
from = "streams"
topic = "b"
record = "shop.B"

[sink.c]
from = "maybe"
topic = "c"
record = "shop.C"
"#,
        &expect![[r#"
            error[E0117]: the keys do not match: `orders` has long keys, `customers` has string
              --> shop.toml:15:8
               |
            15 | left = "orders"
               |        ^^^^^^^^
               |
               = help: rows meet by the bytes of their keys: re-key the left side with `select_key`, or mend `key_format`

            error[E0203]: record `shop.Placed` has no field `totl`
              --> shop.toml:17:47
               |
            17 | select = { name = 'right.name', total = 'left.totl' }
               |                                               ^^^^
               |
               = help: did you mean `total`?

            error[E0117]: the right side of a join is a table, and `orders` is a stream
              --> shop.toml:21:9
               |
            21 | right = "orders"
               |         ^^^^^^^^
               |
               = help: make it a `[table.…]`, or swap the sides; a join of two streams is not yet supported

            error[E0207]: `right.name` may be null
              --> shop.toml:28:27
               |
            28 | select = { length = 'size(right.name)' }
               |                           ^^^^^^^^^^ optional(string)
               |
               = help: say what null stands for, `right.name.orValue(…)`, or test `right.name != null && …` first
        "#]],
    );
}

#[test]
fn rows_must_fit_the_schema_of_their_sink() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc", "Cancelled.avsc"]

[stream.made]
from = "orders"
select = { name = 'value.customer', town = '5', street = '"x"' }

[sink.nameless]
from = "made"
topic = "a"

[sink.fields]
from = "made"
topic = "b"
schema = "Customer.avsc"

[sink.two]
from = "made"
topic = "c"
schema = "Customer.avsc"
record = "shop.Other"

[sink.several]
from = "orders"
topic = "d"
record = "shop.Either"

[sink.subject]
from = "orders"
topic = "e"
subjects = "topic_name"

[sink.odd]
from = "made"
topic = "f"
record = "shop.no-name"
"#,
        &expect![[r#"
            error[E0118]: `[sink.nameless]` does not say what its records are called
              --> shop.toml:13:7
               |
            13 | [sink.nameless]
               |       ^^^^^^^^
               |
               = help: add `record = "flights.AirportDelay"`: readers know records by it, whatever nodes are called

            error[E0118]: `Customer.avsc` has no field `street`, which the rows have
              --> shop.toml:20:10
               |
            20 | schema = "Customer.avsc"
               |          ^^^^^^^^^^^^^^^
               |
               = help: known: `name`, `town` (or leave it out of `select`)

            error[E0118]: field `town` of `Customer.avsc` is optional(string), and the rows have int
              --> shop.toml:20:10
               |
            20 | schema = "Customer.avsc"
               |          ^^^^^^^^^^^^^^^
               |
               = help: convert it in `select`, or change the schema

            error[E0118]: `record` is `shop.Other` and `Customer.avsc` defines `shop.Customer`
              --> shop.toml:26:10
               |
            26 | record = "shop.Other"
               |          ^^^^^^^^^^^^
               |
               = help: leave `record` out: the schema names it

            error[E0118]: `record` names one record, and `orders` has several
              --> shop.toml:31:10
               |
            31 | record = "shop.Either"
               |          ^^^^^^^^^^^^^
               |
               = help: leave it out to write each as it is, or give all one shape with `select` first

            error[E0118]: `orders` has several types of row: they need a subject each
              --> shop.toml:35:9
               |
            35 | topic = "e"
               |         ^^^
               |
               = help: `subjects = "topic_record_name"`

            error[E0122]: `shop.no-name` cannot be a record's name
              --> shop.toml:41:10
               |
            41 | record = "shop.no-name"
               |          ^^^^^^^^^^^^^^
               |
               = help: names joined by dots, of letters, digits and `_`: `flights.AirportDelay`
        "#]],
    );
}

#[test]
fn nodes_that_nobody_reads_are_warned_of() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[stream.large]
from = "orders"
where = 'value.total > 10.0'
"#,
        &expect![[r#"
            warning[E0119]: stream `large` is not used
             --> shop.toml:9:9
              |
            9 | [stream.large]
              |         ^^^^^ no node reads its rows
              |
              = help: add a sink with `from = "large"`, or take it out
        "#]],
    );
}

#[test]
fn a_state_needs_a_beginning() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[entity.order]
from = "orders"
schema = "Placed.avsc"
history_headers = ["trace"]
apply.Placed.set = { total = 'event.total' }
"#,
        &expect![[r#"
            error[E0120]: `Placed.avsc` does not say what `customer`, `total` is before the first event
              --> shop.toml:11:10
               |
            11 | schema = "Placed.avsc"
               |          ^^^^^^^^^^^^^
               |
               = help: give each field of the state a "default", or let it be null: `["null", "string"]`

            error[E0108]: `history_headers` needs `history`
              --> shop.toml:12:20
               |
            12 | history_headers = ["trace"]
               |                    ^^^^^^^
               |
               = help: without history there is none to keep
        "#]],
    );
}

#[test]
fn a_topic_is_read_once() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[table.cancellations]
topic = "orders"
schemas = ["Cancelled.avsc"]

[sink.out]
from = "orders"
topic = "out"
"#,
        &expect![[r#"
            error[E0121]: `orders` and `cancellations` both read topic `orders`
             --> shop.toml:9:8
              |
            9 | [table.cancellations]
              |        ^^^^^^^^^^^^^
              |
              = help: read it once, and begin this one with `from = "orders"`
        "#]],
    );
}

#[test]
fn names_must_be_such_that_topics_and_records_can_bear_them() {
    told(
        r#"[stream."late orders"]
topic = "orders"
schemas = ["Placed.avsc"]

[stream.made]
from = "late orders"
select = { _a = '1', "b-c" = '2' }

[sink.out]
from = "made"
topic = "out"
record = "shop.Made"
"#,
        &expect![[r#"
            error[E0122]: `late orders` cannot be a name
             --> shop.toml:5:9
              |
            5 | [stream."late orders"]
              |         ^^^^^^^^^^^^^
              |
              = help: names have letters, digits and `_`, begin with a letter, and are 100 long at most

            error[E0122]: `_a` cannot be a field's name
              --> shop.toml:11:12
               |
            11 | select = { _a = '1', "b-c" = '2' }
               |            ^^
               |
               = help: fields have letters, digits and `_`, and begin with a letter

            error[E0122]: `b-c` cannot be a field's name
              --> shop.toml:11:22
               |
            11 | select = { _a = '1', "b-c" = '2' }
               |                      ^^^^^
               |
               = help: fields have letters, digits and `_`, and begin with a letter
        "#]],
    );
}

#[test]
fn rows_of_different_shapes_do_not_become_one() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc", "Cancelled.avsc"]

[stream.numbered]
topic = "numbered"
key_format = "long"
schemas = ["Customer.avsc"]

[stream.changed]
from = "orders"
on = ["Placed"]
set = { total = 'string(value.total)' }

[merge.all]
from = ["orders", "numbered", "changed"]

[table.several]
from = "orders"

[sink.out]
from = "all"
topic = "out"
"#,
        &expect![[r#"
            error[E0123]: `orders` has string keys, `numbered` has long keys: they cannot become one stream
              --> shop.toml:20:19
               |
            20 | from = ["orders", "numbered", "changed"]
               |                   ^^^^^^^^^^
               |
               = help: re-key one of them with `select_key`

            error[E0123]: `all` brings together two different shapes of `Placed`
              --> shop.toml:20:31
               |
            20 | from = ["orders", "numbered", "changed"]
               |                               ^^^^^^^^^
               |
               = help: give both the same fields with `select`, or let them have different schemas

            error[E0123]: the rows of `orders` have several types: `Placed`, `Cancelled`
              --> shop.toml:22:8
               |
            22 | [table.several]
               |        ^^^^^^^
               |
               = help: a table's rows have one shape: put a stream between that keeps one type (`on`) or gives one (`select`)
        "#]],
    );
}

#[test]
fn an_earlier_case_takes_all() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[branch.b]
from = "orders"
case = [{ name = "x" }, { name = "y", where = 'value.totl > 1.0' }, { name = "z" }]
"#,
        &expect![[r#"
            error[E0108]: a case without `where` takes every row, so no later case gets any
              --> shop.toml:11:9
               |
            11 | case = [{ name = "x" }, { name = "y", where = 'value.totl > 1.0' }, { name = "z" }]
               |         ^^^^^^^^^^^^^^
               |
               = help: move it to the end, or give it a `where`

            error[E0203]: record `shop.Placed` has no field `totl`
              --> shop.toml:11:54
               |
            11 | case = [{ name = "x" }, { name = "y", where = 'value.totl > 1.0' }, { name = "z" }]
               |                                                      ^^^^
               |
               = help: did you mean `total`?
        "#]],
    );
}

#[test]
fn a_topology_says_its_format_and_application_once() {
    let text = "[topology]\nformat = 7\n\n[defaults.on_error]\nprocess = { action = \"dead_letter\" }\n";
    let sources = sources(text).with_file("more.toml", "[topology]\napplication_id = \"a b\"\n");
    expect![[r#"
        error[E0104]: [topology] has no `application_id`
         --> shop.toml:1:2
          |
        1 | [topology]
          |  ^^^^^^^^
          |
          = help: it names the consumer group and stands in front of internal topics

        error[E0109]: format 7 is not one this version reads
         --> shop.toml:2:10
          |
        2 | format = 7
          |          ^
          |
          = help: this version of tidemill reads format 1

        error[E0104]: [defaults.on_error.process] has no `topic`
         --> shop.toml:5:1
          |
        5 | process = { action = "dead_letter" }
          | ^^^^^^^
          |
          = help: dead letters need a topic: `topic = "orders.dlq"`

        error[E0104]: [topology] has no `format`
         --> more.toml:1:2
          |
        1 | [topology]
          |  ^^^^^^^^
          |
          = help: write `format = 1`

        error[E0109]: `a b` cannot be an application id
         --> more.toml:2:18
          |
        2 | application_id = "a b"
          |                  ^^^^^
          |
          = help: it stands in topic names: letters, digits, `.`, `_` and `-`, 100 at most
    "#]].assert_eq(&render(&check(&sources).1, &sources, Colour::Never));
    let none = Sources::default().with_file("empty.toml", "");
    expect![[r#"
        error[E0104]: no file has a `[topology]` table
         |
         = help: begin one file with `[topology]`, `format = 1` and `application_id = "…"`
    "#]].assert_eq(&render(&check(&none).1, &none, Colour::Never));
}

#[test]
fn programs_get_lines_and_columns() {
    let sources = sources("[topology]\nformat = 1\napplication_id = \"ä\"");
    let findings: Vec<_> = check(&sources).1.iter().map(|finding| to_json(finding, &sources)).collect();
    expect![[r#"
        [
          {
            "code": "E0109",
            "severity": "error",
            "message": "`ä` cannot be an application id",
            "file": "shop.toml",
            "line": 3,
            "column": 18,
            "end_line": 3,
            "end_column": 21,
            "label": null,
            "help": "it stands in topic names: letters, digits, `.`, `_` and `-`, 100 at most"
          }
        ]"#]].assert_eq(&serde_json::to_string_pretty(&findings).unwrap());
}

#[test]
fn colour_is_an_option() {
    let sources = sources("x");
    let findings = check(&sources).1;
    assert!(render(&findings, &sources, Colour::Always).contains('\u{1b}'));
    assert!(!render(&findings, &sources, Colour::Never).contains('\u{1b}'));
}

#[test]
fn a_folder_is_read_without_hidden_files_and_tests() {
    let folder = tempfile::tempdir().unwrap();
    let (topology, schemas) = (folder.path().join("shop"), folder.path().join("schemas"));
    std::fs::create_dir_all(&topology).unwrap();
    std::fs::create_dir_all(schemas.join("shop")).unwrap();
    let write = |path: std::path::PathBuf, text: &str| std::fs::write(path, text).unwrap();
    write(topology.join("b.toml"), "[stream.b]\ntopic = \"b\"\nschemas = [\"Near.avsc\", \"Far.avsc\", \"Sub.avsc\"]");
    write(topology.join("a.toml"), "");
    write(topology.join("..data.toml"), "hidden");
    write(topology.join("a.test.toml"), "a test");
    write(topology.join("Near.avsc"), "near");
    write(schemas.join("Near.avsc"), "shadowed");
    write(schemas.join("Far.avsc"), "far");
    write(schemas.join("shop/Sub.avsc"), "sub");
    let sources = crate::topology::load(&topology, &[schemas]).unwrap();
    let files: Vec<_> = sources.files.iter().map(|file| file.path.rsplit('/').next().unwrap()).collect();
    let schemas: Vec<_> = sources.schemas.iter().map(|schema| (schema.name.as_str(), schema.text.as_str())).collect();
    assert_eq!(files, ["a.toml", "b.toml"]);
    assert_eq!(schemas, [("Far.avsc", "far"), ("Near.avsc", "near"), ("Sub.avsc", "sub")]);
}

#[test]
fn a_folder_that_is_not_there_or_empty_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let empty = crate::topology::load(folder.path(), &[]).unwrap_err();
    let missing = crate::topology::load(&folder.path().join("filghts"), &[]).unwrap_err();
    assert!(empty.to_string().ends_with("holds no topology: there is no `*.toml` file in it"));
    assert!(missing.to_string().starts_with("cannot read `"));
    assert_eq!(missing.code().to_string(), "E0124");
}
