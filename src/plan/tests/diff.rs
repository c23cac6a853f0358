//! What becomes of state, topics and readers when one plan takes the place of another.

use expect_test::{Expect, expect};

use super::super::diff::{Verdict, compare, worst};
use super::{CUSTOMERS, ORDERS, plan, sources};
use crate::plan::Plan;
use crate::topology;

const SPENT: &str = "[aggregate.spent]\nfrom = \"orders\"\ngroup_by = 'value.customer'\n\
                     on.Placed.set = { total = 'sum(value.total)', orders = 'count()' }\n";
const OUT: &str = "[sink.out]\nfrom = \"spent\"\ntopic = \"out\"\nrecord = \"shop.Spent\"\n";

fn check(old: &[&str], new: &[&str], wanted: Verdict, text: Expect) {
    compared(&plan(old), &plan(new), wanted, text);
}

fn compared(old: &Plan, new: &Plan, wanted: Verdict, text: Expect) {
    let changes = compare(old, new);
    let lines = changes.iter().filter(|change| change.verdict != Verdict::Same).map(|change| {
        let notes: String = change.notes.iter().map(|note| format!("\n  {note}")).collect();
        format!("{} {}: {}{notes}\n", change.subject.as_str(), change.name, change.verdict.as_str())
    });
    text.assert_eq(&lines.collect::<String>());
    assert_eq!(worst(&changes), wanted);
}

#[test]
fn a_plan_is_the_same_as_itself_whatever_the_order_of_its_tables() {
    check(&[ORDERS, SPENT, OUT], &[OUT, ORDERS, SPENT], Verdict::Same, expect![[""]]);
}

#[test]
fn a_field_that_is_added_upgrades_in_place() {
    let more = SPENT.replace("orders = 'count()'", "orders = 'count()', mean = 'avg(value.total)'");
    check(
        &[ORDERS, SPENT],
        &[ORDERS, &more],
        Verdict::Upgrades,
        expect![[r#"
        store spent: upgrades in place
          has also `mean_count`, `mean_sum`; rows that are there have what a fresh one would have
    "#]],
    );
}

#[test]
fn a_field_that_is_computed_otherwise_needs_a_rebuild() {
    let other = SPENT.replace("sum(value.total)", "sum(value.total * 2.0)").replace("count()", "max(value.total)");
    check(
        &[ORDERS, SPENT],
        &[ORDERS, &other],
        Verdict::Rebuilds,
        expect![[r#"
        store spent: needs rebuild
          its rows cannot be taken over: `orders`: it was `count`, and is `max` now; give what changed another name, or let it be null, or give the node another name
          `orders` is `max(value.total)`, and was `count()`: what is kept was computed the old way; give the field another name, or the node, so that it starts anew
          `total` is `sum(value.total * 2.0)`, and was `sum(value.total)`: what is kept was computed the old way; give the field another name, or the node, so that it starts anew
    "#]],
    );
}

#[test]
fn another_grouping_and_other_windows_need_a_rebuild() {
    let other = SPENT.replace("group_by = 'value.customer'", "group_by = 'value.customer + \"!\"'");
    check(
        &[ORDERS, SPENT],
        &[ORDERS, &other],
        Verdict::Rebuilds,
        expect![[r#"
            sub-topology orders: upgrades in place
              re-key `spent` from now on: shop.Placed: key value.customer + "!"
            store spent: needs rebuild
              its rows are grouped by `value.customer + "!"`, and were by `value.customer`: rows that are kept would not be found again; give the node another name, so that it starts anew
        "#]],
    );
    let hourly = format!("{SPENT}window = {{ tumbling = \"1h\", grace = \"0s\" }}\n");
    let daily = hourly.replace("1h", "1d");
    check(
        &[ORDERS, &hourly],
        &[ORDERS, &daily],
        Verdict::Rebuilds,
        expect![[r#"
            store spent: needs rebuild
              its rows cannot be taken over: they were kept by string keys, tumbling windows of 1h, not by string keys, tumbling windows of 1d; give what changed another name, or let it be null, or give the node another name
              from now on: aggregate: store, on_commit, windows of 1d, grace 0s, kept 1d
        "#]],
    );
    let patient = hourly.replace("0s", "5m");
    check(
        &[ORDERS, &hourly],
        &[ORDERS, &patient],
        Verdict::Upgrades,
        expect![[r#"
            store spent: upgrades in place
              from now on: aggregate: store, on_commit, windows of 1h, grace 5m, kept 1d
        "#]],
    );
}

#[test]
fn a_sink_whose_schema_breaks_its_readers_is_said_with_the_field() {
    let fewer = SPENT.replace(", orders = 'count()'", "");
    check(
        &[ORDERS, SPENT, OUT],
        &[ORDERS, &fewer, OUT],
        Verdict::BreaksReaders,
        expect![[r#"
        store spent: upgrades in place
          has no longer `orders`
        topic out: breaks readers
          readers of `shop.Spent` as it was cannot read it as it is: `orders`: the writer has no such field and the reader's has no default
    "#]],
    );
    let nullable = SPENT.replace("count()", "count()', last = 'last(value.note)");
    check(
        &[ORDERS, SPENT, OUT],
        &[ORDERS, &nullable, OUT],
        Verdict::Upgrades,
        expect![[r#"
        store spent: upgrades in place
          has also `last`; rows that are there have what a fresh one would have
        topic out: upgrades in place
          `shop.Spent` has another schema; readers of either read both
        topic shop-spent-repartition: upgrades in place
          rows on their way in it have the old shape: let the running version work them off (stop what feeds it, wait until its lag is 0), then start the new one
    "#]],
    );
    check(
        &[ORDERS, SPENT, OUT],
        &[ORDERS, SPENT],
        Verdict::BreaksReaders,
        expect![[r#"
        topic out: breaks readers
          nothing is written to it any more
    "#]],
    );
}

#[test]
fn a_node_that_is_renamed_keeps_what_it_has() {
    let renamed = SPENT.replace("[aggregate.spent]\n", "[aggregate.spending]\nwas = \"spent\"\n");
    let out = OUT.replace("\"spent\"", "\"spending\"");
    check(
        &[ORDERS, SPENT, OUT],
        &[ORDERS, &renamed, &out],
        Verdict::Upgrades,
        expect![[r#"
        store spending: upgrades in place
          it was `spent`; it is kept under that name
    "#]],
    );
    let anew = renamed.replace("was = \"spent\"\n", "");
    check(
        &[ORDERS, SPENT],
        &[ORDERS, &anew],
        Verdict::Upgrades,
        expect![[r#"
            sub-topology orders: upgrades in place
              has also re-key `spending`
              has no longer re-key `spent`
            sub-topology spending: upgrades in place
              new: tasks of its own
            sub-topology spent: upgrades in place
              no longer there; its meta topic and the folders of its tasks stay
            store spending: upgrades in place
              new: it begins with nothing, and is fed what comes from where the inputs stand
              if it is `spent` under another name, say so: `was = "spent"`
            store spent: upgrades in place
              no longer kept; its changelog `shop-spent-changelog` stays until it is deleted
            topic shop-spending-changelog: upgrades in place
              new: created at the start
            topic shop-spending-meta: upgrades in place
              new: created at the start
            topic shop-spending-repartition: upgrades in place
              new: created at the start
            topic shop-spent-changelog: upgrades in place
              no longer used; it stays until it is deleted
            topic shop-spent-meta: upgrades in place
              no longer used; it stays until it is deleted
            topic shop-spent-repartition: upgrades in place
              no longer used; it stays until it is deleted
        "#]],
    );
}

#[test]
fn sub_topologies_that_merge_or_split_are_said() {
    let lone = "[table.names]\nfrom = \"customers\"\nselect = { name = 'value.name' }\n";
    let meeting = "[join.named]\nleft = \"orders\"\nright = \"names\"\nselect = { name = 'right.name' }\n\
                   [sink.named_out]\nfrom = \"named\"\ntopic = \"named\"\nrecord = \"shop.Named\"\n";
    let counted = "[aggregate.counted]\nfrom = \"orders\"\nselect = { orders = 'count()' }\n";
    check(
        &[ORDERS, CUSTOMERS, lone, counted],
        &[ORDERS, CUSTOMERS, lone, counted, meeting],
        Verdict::Upgrades,
        expect![[r#"
            sub-topology counted: upgrades in place
              `counted` and `customers` are merged: their topics must have equally many partitions from now on, and tasks go on with the times of `counted` alone
            sub-topology customers: upgrades in place
              goes on as `counted`
            store customers: upgrades in place
              moves from sub-topology `customers` to `counted`: restored from its changelog
            store names: upgrades in place
              moves from sub-topology `customers` to `counted`: restored from its changelog
            topic named: upgrades in place
              new: written to from now on
            topic shop-customers-meta: upgrades in place
              no longer used; it stays until it is deleted
        "#]],
    );
    check(
        &[ORDERS, CUSTOMERS, lone, counted, meeting],
        &[ORDERS, CUSTOMERS, lone, counted],
        Verdict::BreaksReaders,
        expect![[r#"
            sub-topology counted: upgrades in place
              `counted` is split into `counted` and `customers`
              has no longer join `named`
              has no longer select `names`
              has no longer store `customers`, store `names`, topic `customers`
            sub-topology customers: upgrades in place
              it was `counted`: its tasks have other folders, so their stores are restored from the changelogs, and windows and timers begin with the time of the next record
              `counted` is split into `counted` and `customers`
              has no longer join `named`
              has no longer store `counted`, topic `orders`
            store customers: upgrades in place
              moves from sub-topology `counted` to `customers`: restored from its changelog
            store names: upgrades in place
              moves from sub-topology `counted` to `customers`: restored from its changelog
            topic named: breaks readers
              nothing is written to it any more
            topic shop-customers-meta: upgrades in place
              new: created at the start
        "#]],
    );
}

#[test]
fn another_application_starts_with_nothing() {
    let old = plan(&[ORDERS, SPENT]);
    let mut new = plan(&[ORDERS, SPENT]);
    new.rename_application("other");
    let changes = compare(&old, &new);
    assert_eq!(worst(&changes), Verdict::Rebuilds);
    assert_eq!(changes[0].notes.len(), 1);
}

#[test]
fn a_former_name_is_that_of_nobody_else() {
    let sources = sources(&[
        ORDERS,
        SPENT,
        "[aggregate.a]\nwas = \"spent\"\nfrom = \"orders\"\nselect = { n = 'count()' }\n\
         [aggregate.b]\nwas = \"old\"\nfrom = \"orders\"\nselect = { n = 'count()' }\n\
         [aggregate.c]\nwas = \"old\"\nfrom = \"orders\"\nselect = { n = 'count()' }\n",
    ]);
    let (_, findings) = topology::check(&sources);
    let said: Vec<String> = findings.iter().map(|finding| format!("{} {}", finding.code, finding.message)).collect();
    assert_eq!(said, ["E0105 `spent` is the name of a node that is there", "E0105 two nodes were `old`"]);
}

#[test]
fn values_that_are_written_in_another_format_break_readers() {
    let json = OUT.replace("record = \"shop.Spent\"", "value_format = \"json\"");
    check(
        &[ORDERS, SPENT, OUT],
        &[ORDERS, SPENT, &json],
        Verdict::BreaksReaders,
        expect![[r#"
        topic out: breaks readers
          its values are written as json, and were as avro
          records of type `spent` are written, too
          records of type `shop.Spent` are no longer written
    "#]],
    );
    let events = OUT.to_owned() + "envelope = \"cloudevents\"\n";
    check(
        &[ORDERS, SPENT, OUT],
        &[ORDERS, SPENT, &events],
        Verdict::BreaksReaders,
        expect![[r#"
        topic out: breaks readers
          its values are written as avro in CloudEvents, and were as avro
    "#]],
    );
}
