//! Plans of small topologies and of flights; what must hold of any plan.

mod diff;

use std::path::Path;

use expect_test::{expect, expect_file};
use proptest::prelude::*;

use super::*;
use crate::base::value::Value;
use crate::topology::{self, Sources};

const PLACED: &str = r#"{"type": "record", "name": "shop.Placed", "fields": [
    {"name": "customer", "type": "string"}, {"name": "total", "type": "double"},
    {"name": "note", "type": ["null", "string"], "default": null}]}"#;
const CANCELLED: &str = r#"{"type": "record", "name": "shop.Cancelled", "fields": [
    {"name": "customer", "type": "string"}, {"name": "reason", "type": "string"}]}"#;
const CUSTOMER: &str = r#"{"type": "record", "name": "shop.Customer", "fields": [
    {"name": "name", "type": "string"}, {"name": "town", "type": ["null", "string"], "default": null}]}"#;

const HEAD: &str = "[topology]\nformat = 1\napplication_id = \"shop\"\n";
const ORDERS: &str = "[stream.orders]\ntopic = \"orders\"\nschemas = [\"Placed.avsc\", \"Cancelled.avsc\"]\n";
const CUSTOMERS: &str = "[table.customers]\ntopic = \"customers\"\nschemas = [\"Customer.avsc\"]\n";

fn sources(tables: &[&str]) -> Sources {
    Sources::default()
        .with_file("shop.toml", &format!("{HEAD}{}", tables.concat()))
        .with_schema("Placed.avsc", PLACED)
        .with_schema("Cancelled.avsc", CANCELLED)
        .with_schema("Customer.avsc", CUSTOMER)
}

fn plan(tables: &[&str]) -> Plan {
    let sources = sources(tables);
    let (graph, findings) = topology::check(&sources);
    let told = topology::render(&findings, &sources, topology::Colour::Never);
    build(&graph.unwrap_or_else(|| panic!("{told}"))).unwrap_or_else(|findings| panic!("{findings:?}"))
}

fn refused(tables: &[&str]) -> String {
    let sources = sources(tables);
    let (graph, findings) = topology::check(&sources);
    let graph = graph.unwrap_or_else(|| panic!("{findings:?}"));
    topology::render(&build(&graph).expect_err("is refused"), &sources, topology::Colour::Never)
}

fn flights() -> Plan {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = topology::load(&root.join("topologies/flights"), &[root.join("schemas")]).unwrap();
    let (graph, findings) = topology::check(&sources);
    assert_eq!(topology::render(&findings, &sources, topology::Colour::Never), "");
    build(&graph.unwrap()).unwrap()
}

#[test]
fn flights_has_the_plan_it_had() {
    expect_file!["flights.txt"].assert_eq(&explain(&flights()));
    expect_file!["flights.dot"].assert_eq(&dot(&flights()));
}

#[test]
fn flights_keeps_the_history_of_flights_for_ever() {
    let topics = BTreeSet::from([Topic::new("flights.events")]);
    assert_eq!(flights().kept_for_ever(), [(Text::new("flight"), topics)]);
}

#[test]
fn a_repartition_carries_only_what_is_used_behind_it() {
    let text = explain(&plan(&[
        ORDERS,
        "[aggregate.spent]\nfrom = \"orders\"\ngroup_by = 'value.customer'\n\
         on.Placed.set = { total = 'sum(value.total)' }\non.Cancelled.set = { cancelled = 'count()' }\n",
    ]));
    expect![[r#"
        application shop

        sub-topology orders
          source orders: string keys, avro
            shop.Placed as #0: customer, total
            shop.Cancelled as #1: customer
            → re-key spent
          re-key spent: string keys
            #0 shop.Placed: key value.customer
            #1 shop.Cancelled: key value.customer
            → repartition spent
          repartition spent: topic shop-spent-repartition
            #0 shop.Placed: as shop.Placed: total
            #1 shop.Cancelled: as shop.Cancelled: no field

        sub-topology spent
          source shop-spent-repartition: string keys, internal avro
            shop.Placed as #0: total
            shop.Cancelled as #1: no field
            written by orders, a task for each partition of orders
            → aggregate spent
          aggregate spent: store spent, #2, on_commit
            #0 shop.Placed: total ← sum(value.total)
            #1 shop.Cancelled: cancelled ← count()
            gives cancelled, total
          store spent: newest row per key, string keys, changelog shop-spent-changelog
            spent: cancelled int, total double

        topics
          orders: source, partitions as they are
          shop-instances: instances, 1 partitions, cleanup.policy=compact, message.timestamp.type=LogAppendTime, retention.ms=-1, segment.bytes=1048576
          shop-orders-meta: meta, partitions of orders, cleanup.policy=compact, message.timestamp.type=CreateTime, retention.ms=-1
          shop-spent-changelog: changelog, partitions of orders, cleanup.policy=compact, message.timestamp.type=CreateTime, retention.ms=-1
          shop-spent-meta: meta, partitions of orders, cleanup.policy=compact, message.timestamp.type=CreateTime, retention.ms=-1
          shop-spent-repartition: repartition, partitions of orders, cleanup.policy=delete, message.timestamp.type=CreateTime, retention.ms=-1, segment.bytes=52428800
    "#]]
    .assert_eq(&text);
}

const BY_CUSTOMER: &str = "[stream.by_customer]\nfrom = \"orders\"\non = [\"Placed\"]\nselect_key = 'value.customer'\n";
const NAMED: &str = "[join.named]\nleft = \"by_customer\"\nright = \"customers\"\nkind = \"left\"\n\
                     select = { name = 'right.?name', total = 'left.total' }\n\
                     [sink.named_orders]\nfrom = \"named\"\ntopic = \"orders.named\"\nrecord = \"shop.NamedOrder\"\n";

#[test]
fn a_repartition_in_front_of_a_join_has_the_tables_partitions() {
    let plan = plan(&[ORDERS, CUSTOMERS, BY_CUSTOMER, NAMED]);
    let repartition = &plan.topics[&Topic::new("shop-named-repartition")];
    assert_eq!(repartition.partitions, Partitions::MaxOf(vec![Topic::new("customers")]));
    let names: Vec<_> = plan.sub_topologies.iter().map(|sub| sub.name.as_str()).collect();
    assert_eq!(names, ["customers", "orders"]);
}

#[test]
fn a_stateless_consumer_of_re_keyed_rows_needs_no_repartition() {
    let plan = plan(&[
        ORDERS,
        BY_CUSTOMER,
        "[sink.out]\nfrom = \"by_customer\"\ntopic = \"orders.by_customer\"\nsubjects = \"record_name\"\n",
    ]);
    assert_eq!(plan.sub_topologies.len(), 1);
    assert!(plan.topics.values().all(|topic| topic.role != TopicRole::Repartition));
}

#[test]
fn a_pass_through_to_a_sink_decodes_every_field_that_is_written_and_nothing_else() {
    let plan = plan(&[
        ORDERS,
        "[sink.copy]\nfrom = \"placed\"\ntopic = \"copy\"\n[stream.placed]\nfrom = \"orders\"\non = [\"Placed\"]\n",
    ]);
    let Payload::Registry { readers } = &plan.sub_topologies[0].sources[0].payload else { panic!() };
    assert_eq!(readers[0].wanted, [0, 1, 2]);
    assert_eq!(readers[1].wanted, [0_usize; 0]);
}

#[test]
fn a_row_that_is_used_as_a_whole_is_decoded_whole() {
    let plan = plan(&[
        ORDERS,
        "[stream.wrapped]\nfrom = \"orders\"\non = [\"Placed\"]\nselect = { order = 'value' }\n\
         [sink.out]\nfrom = \"wrapped\"\ntopic = \"out\"\nrecord = \"shop.Wrapped\"\n",
    ]);
    let Payload::Registry { readers } = &plan.sub_topologies[0].sources[0].payload else { panic!() };
    assert_eq!(readers[0].wanted, [0, 1, 2]);
}

#[test]
fn the_old_key_can_be_selected_beside_a_new_one() {
    let text = explain(&plan(&[
        ORDERS,
        "[stream.moved]\nfrom = \"orders\"\non = [\"Placed\"]\nselect_key = 'value.customer'\nselect = { order = 'key' }\n\
         [sink.out]\nfrom = \"moved\"\ntopic = \"moved\"\nrecord = \"shop.Moved\"\n",
    ]));
    let nodes = &text[text.find("  filter").unwrap()..text.find("\ntopics").unwrap()];
    expect![[r#"
        nodes
          filter moved
            #0 shop.Placed: all
            → select moved
          select moved: #2
            #0 shop.Placed: order = key, _key = value.customer
            → re-key moved
          re-key moved: string keys
            #2 moved: key _key
            → sink out
          sink out: topic moved
            #2 moved: as shop.Moved: order, subject moved-value
    "#]]
    .assert_eq(&format!("nodes\n{nodes}"));
}

#[test]
fn an_average_keeps_its_sum_and_its_count() {
    let plan = plan(&[
        ORDERS,
        "[aggregate.mean]\nfrom = \"orders\"\non.Placed.set = { mean = 'avg(value.total)', last = 'last(value.note)' }\n",
    ]);
    let sub = &plan.sub_topologies[0];
    let NodeKind::Aggregate(aggregate) = &sub.nodes[0].kind else { panic!() };
    let fields: Vec<String> =
        sub.stores[0].row.fields().iter().map(|field| format!("{} {}", field.name, field.field_type)).collect();
    assert_eq!(fields, ["last optional(string)", "mean_sum double", "mean_count int"]);
    assert_eq!(aggregate.initial, [Value::Null, Value::Double(0.0), Value::Int(0)]);
    assert_eq!(aggregate.results, [ResultField::Slot(0), ResultField::Mean { sum: 1, count: 2 }]);
    let layout = &sub.layouts[usize::from(aggregate.layout.0)];
    assert_eq!(layout.slots[1].field_type.to_string(), "optional(double)");
}

#[test]
fn branches_take_what_earlier_cases_left_and_meet_again() {
    let text = explain(&plan(&[
        ORDERS,
        "[stream.placed]\nfrom = \"orders\"\non = [\"Placed\"]\n\
         [branch.by_size]\nfrom = \"placed\"\n\
         [[branch.by_size.case]]\nname = \"large\"\nwhere = 'value.total > 1000.0'\n\
         [[branch.by_size.case]]\nname = \"middle\"\nwhere = 'value.total > 100.0'\n\
         [[branch.by_size.case]]\nname = \"small\"\n\
         [merge.others]\nfrom = [\"small\", \"middle\"]\n\
         [sink.out]\nfrom = \"others\"\ntopic = \"others\"\n\
         [sink.large_out]\nfrom = \"large\"\ntopic = \"large\"\n",
    ]));
    let filters: Vec<&str> = text.lines().filter(|line| line.contains("where") || line.contains("  →")).collect();
    expect![[r#"
        filters
            → filter placed
            → filter large, filter middle, filter small
            #0 shop.Placed: where (value.total > 1000.0)
            → sink large_out
            #0 shop.Placed: where !(value.total > 1000.0) && (value.total > 100.0)
            → merge others
            #0 shop.Placed: where !(value.total > 1000.0) && !(value.total > 100.0)
            → merge others
            → sink out"#]]
    .assert_eq(&format!("filters\n{}", filters.join("\n")));
}

#[test]
fn a_stream_merged_with_another_name_of_itself_comes_twice() {
    let plan = plan(&[
        ORDERS,
        "[stream.same]\nfrom = \"orders\"\n[merge.double]\nfrom = [\"same\", \"orders\"]\n\
         [sink.out]\nfrom = \"double\"\ntopic = \"out\"\n",
    ]);
    let sub = &plan.sub_topologies[0];
    let to = |children: &[Child]| -> Vec<String> {
        children.iter().map(|child| sub.nodes[usize::from(child.node.0)].name.to_string()).collect()
    };
    assert_eq!(to(&sub.sources[0].children), ["same", "double"]);
    assert_eq!(to(&sub.nodes[0].children), ["double"]);
}

#[test]
fn adding_a_node_downstream_renames_no_sub_topology() {
    let names = |tables: &[&str]| -> Vec<String> {
        plan(tables).sub_topologies.iter().map(|sub| sub.name.to_string()).collect()
    };
    let totals = "[aggregate.totals]\nfrom = \"orders\"\non.Placed.set = { total = 'sum(value.total)' }\n";
    let before = names(&[ORDERS, totals]);
    let after = names(&[
        ORDERS,
        totals,
        "[stream.changes]\nfrom = \"totals\"\n[aggregate.again]\nfrom = \"changes\"\nselect = { changes = 'count()' }\n",
        "[stream.a]\nfrom = \"orders\"\non = [\"Placed\"]\n[sink.b]\nfrom = \"a\"\ntopic = \"b\"\n",
    ]);
    assert_eq!((before.as_slice(), after.as_slice()), (&["totals".to_owned()][..], &["totals".to_owned()][..]));
}

#[test]
fn names_that_tidemill_makes_are_refused() {
    let entity =
        r#"{"type": "record", "name": "shop.Order", "fields": [{"name": "total", "type": "double", "default": 0.0}]}"#;
    let tables = [
        "[stream.orders]\ntopic = \"shop-order_history-changelog\"\nschemas = [\"Placed.avsc\"]\n",
        "[entity.order]\nfrom = \"orders\"\nschema = \"Order.avsc\"\nhistory = \"90d\"\n",
        "apply.Placed.set = { total = 'event.total' }\n",
        "[table.order_history]\ntopic = \"old\"\nschemas = [\"Customer.avsc\"]\n",
    ];
    let sources = sources(&tables).with_schema("Order.avsc", entity);
    let (graph, findings) = topology::check(&sources);
    let findings = build(&graph.unwrap_or_else(|| panic!("{findings:?}"))).expect_err("is refused");
    expect![[r#"
        error[E0401]: the history of `order` is kept in store `order_history`, which is also a node's name
         --> shop.toml:7:9
          |
        7 | [entity.order]
          |         ^^^^^
          |
          = help: rename node `order_history`

        error[E0401]: topic `shop-order_history-changelog` is named as an internal topic of `order`
         --> shop.toml:4:9
          |
        4 | [stream.orders]
          |         ^^^^^^
          |
          = help: use another topic, or another `application_id`
    "#]]
    .assert_eq(&topology::render(&findings, &sources, topology::Colour::Never));
}

#[test]
fn too_many_parts_are_refused() {
    let mut tables = vec![ORDERS.to_owned()];
    for number in 0..32_800 {
        tables.push(format!("[sink.s{number}]\nfrom = \"orders\"\ntopic = \"t{number}\"\n"));
    }
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    assert!(refused(&tables).starts_with("error[E0402]: the topology has 65602 parts"));
}

const ALL: [&str; 8] = [
    ORDERS,
    CUSTOMERS,
    BY_CUSTOMER,
    NAMED,
    "[aggregate.spent]\nfrom = \"orders\"\ngroup_by = 'value.customer'\non.Placed.set = { n = 'count()', t = 'sum(value.total)' }\n",
    "[aggregate.hourly]\nfrom = \"by_customer\"\nwindow = { tumbling = \"1h\", grace = \"0s\" }\nselect = { n = 'count()' }\n",
    "[merge.all]\nfrom = [\"by_customer\", \"rekeyed\"]\n[stream.rekeyed]\nfrom = \"orders\"\nselect_key = 'value.customer'\n",
    "[table.newest]\nfrom = \"placed\"\n[stream.placed]\nfrom = \"all\"\non = [\"Placed\"]\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_plan_does_not_depend_on_the_order_of_tables(tables in Just(ALL.to_vec()).prop_shuffle(), cut in 0..ALL.len()) {
        let expected = plan(&ALL);
        let shuffled = plan(&tables);
        prop_assert_eq!(explain(&expected), explain(&shuffled));
        prop_assert_eq!(expected.fingerprint, shuffled.fingerprint);
        // Nor on how they are spread over files.
        let mut split = sources(&tables[..cut]);
        split.files.push(topology::SourceFile { path: "more.toml".to_owned(), text: tables[cut..].concat() });
        let (graph, findings) = topology::check(&split);
        let spread = build(&graph.unwrap_or_else(|| panic!("{findings:?}"))).unwrap();
        prop_assert_eq!(expected.fingerprint, spread.fingerprint);
    }
}

#[test]
fn a_fingerprint_knows_meaning_from_formatting() {
    let of = |filter: &str| {
        plan(&[
            ORDERS,
            "[stream.big]\nfrom = \"orders\"\non = [\"Placed\"]\nwhere = '",
            filter,
            "'\n[sink.b]\nfrom = \"big\"\ntopic = \"b\"\n",
        ])
        .fingerprint
    };
    assert_eq!(of("value.total > 10.0"), of("  value.total   >  10.0 "));
    assert_ne!(of("value.total > 10.0"), of("value.total > 11.0"));
    assert_ne!(of("value.customer == \"a b\""), of("value.customer == \"a  b\""));
}

#[test]
fn every_node_stands_after_those_that_feed_it() {
    for plan in [plan(&ALL), flights()] {
        for sub in &plan.sub_topologies {
            for (index, node) in sub.nodes.iter().enumerate() {
                assert!(node.children.iter().all(|child| usize::from(child.node.0) > index), "{}", node.name);
            }
        }
    }
}

#[test]
fn a_global_table_is_in_no_sub_topology_and_its_join_repartitions_nothing() {
    let text = explain(&plan(&[
        ORDERS,
        "[global_table.customers]\ntopic = \"customers\"\nschemas = [\"Customer.avsc\"]\n",
        BY_CUSTOMER,
        "[join.named]\nleft = \"by_customer\"\nright = \"customers\"\nkey = 'left.customer'\n\
         select = { name = 'right.name', total = 'left.total' }\n\
         [sink.named_orders]\nfrom = \"named\"\ntopic = \"orders.named\"\nrecord = \"shop.NamedOrder\"\n",
    ]));
    expect![[r#"
        application shop

        sub-topology orders
          source orders: string keys, avro
            shop.Placed as #0: customer, total
            shop.Cancelled as #1: no field
            → filter by_customer
          filter by_customer
            #0 shop.Placed: all
            → re-key by_customer
          re-key by_customer: string keys
            #0 shop.Placed: key value.customer
            → join named
          join named: inner with global table customers, #2
            #0 shop.Placed: key left.customer
            #0 shop.Placed: name = right.name, total = left.total
            → sink named_orders
          sink named_orders: topic orders.named
            #2 named: as shop.NamedOrder: name, total, subject orders.named-value

        global table customers: all of topic customers, string keys, avro
          shop.Customer: name string, town optional(string)

        topics
          customers: source, partitions as they are
          orders: source, partitions as they are
          orders.named: sink, partitions as they are
          shop-instances: instances, 1 partitions, cleanup.policy=compact, message.timestamp.type=LogAppendTime, retention.ms=-1, segment.bytes=1048576
          shop-orders-meta: meta, partitions of orders, cleanup.policy=compact, message.timestamp.type=CreateTime, retention.ms=-1
    "#]].assert_eq(&text);
}

#[test]
fn a_join_by_foreign_key_goes_to_the_right_tables_tasks_and_back() {
    let text = explain(&plan(&[
        CUSTOMERS,
        "[table.placed]\ntopic = \"placed\"\nschemas = [\"Placed.avsc\"]\n",
        "[join.named]\nleft = \"placed\"\nright = \"customers\"\nforeign_key = 'left.customer'\n\
         select = { town = 'right.town', total = 'left.total' }\n\
         [sink.named_orders]\nfrom = \"named\"\ntopic = \"orders.named\"\nrecord = \"shop.NamedOrder\"\n",
    ]));
    expect![[r#"
        application shop

        sub-topology customers
          source customers: string keys, avro
            shop.Customer as #0: name, town
            → table customers
          source shop-named_subscriptions-repartition: string keys, internal avro
            named_subscription as #1: key, partition, digest, action
            written by placed, a task for each partition of placed, without its time
            → subscriptions named_subscriptions
          table customers: store customers, #0
            → subscriptions named_subscriptions
          subscriptions named_subscriptions: store named_subscriptions, to store customers, #2
            → repartition named_responses
          repartition named_responses: topic shop-named_responses-repartition, to the partition of who asked
            #2 named_response: as named_response: digest, there, right_town
          store customers: newest row per key, string keys, changelog shop-customers-changelog
            shop.Customer: name string, town optional(string)
          store named_subscriptions: who refers to which row, string keys, changelog shop-named_subscriptions-changelog
            named_subscriptions: digest optional(int), partition int

        sub-topology placed
          source placed: string keys, avro
            shop.Placed as #0: customer, total, note
            → table placed
          source shop-named_responses-repartition: string keys, internal avro
            named_response as #2: digest, there, right_town
            written by customers, a task for each partition of customers, without its time
            → join named
          table placed: store placed, #0
            → subscribe named, join named
          subscribe named: inner by left.customer, string keys, #1
            → repartition named_subscriptions
          repartition named_subscriptions: topic shop-named_subscriptions-repartition
            #1 named_subscription: as named_subscription: key, partition, digest, action
          join named: inner of store placed with responses, #3
            total = left.total, town = right.town
            → table named
          table named: store named, #3
            → sink named_orders
          sink named_orders: topic orders.named
            #3 named: as shop.NamedOrder: total, town, subject orders.named-value
          store named: newest row per key, string keys, changelog shop-named-changelog
            named: total double, town optional(string)
          store placed: newest row per key, string keys, changelog shop-placed-changelog
            shop.Placed: customer string, total double, note optional(string)

        topics
          customers: source, partitions as they are
          orders.named: sink, partitions as they are
          placed: source, partitions as they are
          shop-customers-changelog: changelog, partitions of customers, cleanup.policy=compact, message.timestamp.type=CreateTime, retention.ms=-1
          shop-customers-meta: meta, partitions of customers, cleanup.policy=compact, message.timestamp.type=CreateTime, retention.ms=-1
          shop-instances: instances, 1 partitions, cleanup.policy=compact, message.timestamp.type=LogAppendTime, retention.ms=-1, segment.bytes=1048576
          shop-named-changelog: changelog, partitions of placed, cleanup.policy=compact, message.timestamp.type=CreateTime, retention.ms=-1
          shop-named_responses-repartition: repartition, partitions of placed, cleanup.policy=delete, message.timestamp.type=CreateTime, retention.ms=-1, segment.bytes=52428800
          shop-named_subscriptions-changelog: changelog, partitions of customers, cleanup.policy=compact, message.timestamp.type=CreateTime, retention.ms=-1
          shop-named_subscriptions-repartition: repartition, partitions of customers, cleanup.policy=delete, message.timestamp.type=CreateTime, retention.ms=-1, segment.bytes=52428800
          shop-placed-changelog: changelog, partitions of placed, cleanup.policy=compact, message.timestamp.type=CreateTime, retention.ms=-1
          shop-placed-meta: meta, partitions of placed, cleanup.policy=compact, message.timestamp.type=CreateTime, retention.ms=-1
    "#]].assert_eq(&text);
}

#[test]
fn the_stores_and_topics_of_a_join_by_foreign_key_may_not_be_taken() {
    let join = "[table.placed]\ntopic = \"placed\"\nschemas = [\"Placed.avsc\"]\n\
                [join.named]\nleft = \"placed\"\nright = \"customers\"\nforeign_key = 'left.customer'\n\
                select = { total = 'left.total' }\n\
                [sink.named_orders]\nfrom = \"named\"\ntopic = \"shop-named_responses-repartition\"\nrecord = \"shop.NamedOrder\"\n";
    let store = "[table.named_subscriptions]\ntopic = \"others\"\nschemas = [\"Customer.avsc\"]\n";
    expect![[r#"
        error[E0401]: who refers to which row of `named` is kept in store `named_subscriptions`, which is also a node's name
          --> shop.toml:10:7
           |
        10 | [join.named]
           |       ^^^^^
           |
           = help: rename node `named_subscriptions`

        error[E0401]: topic `shop-named_responses-repartition` is named as an internal topic of `named`
          --> shop.toml:15:7
           |
        15 | [sink.named_orders]
           |       ^^^^^^^^^^^^
           |
           = help: use another topic, or another `application_id`
    "#]].assert_eq(&refused(&[CUSTOMERS, join, store]));
}
