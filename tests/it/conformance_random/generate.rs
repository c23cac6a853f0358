//! A seed's topology, from most of what Kafka Streams has a counterpart for, and its inputs.

use std::fmt::Write as _;

/// A small generator of numbers (xorshift), the same on every machine.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }

    fn in_a_hundred(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What is compared: every output, in order or not, or, where tidemill forwards nothing that changes nothing (D6), each key's last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Compared {
    All,
    /// In any order: unmatched rows of streams come when their window closes, in Kafka Streams now and then (D4).
    Sorted,
    LastPerKey,
}

/// What a case is made of, but for its inputs.
struct Shape {
    /// The topology's sources and operators.
    text: String,
    topics: &'static [&'static str],
    /// Every input has a key.
    keyed: bool,
    /// Every input has a value.
    valued: bool,
    values: Values,
    /// Deletions are at odd times, other rows at even ones: a version deleted at its own time is D13.
    apart: bool,
    /// No input is late: an unmatched row of streams that comes past its window is another in Kafka Streams (D4).
    in_order: bool,
    /// The clock moves on between inputs, and is not moved by their times.
    clock: bool,
    compared: Compared,
}

/// What the inputs' values are.
#[derive(Clone, Copy)]
enum Values {
    Orders,
    /// No two rows are alike: a row that changes nothing goes on in Kafka Streams, and moves what waits (D6).
    Unlike,
    /// Lists of records, of texts and of numbers.
    Baskets,
    Numbers,
    Texts,
}

impl Shape {
    /// Anything may come, and all that comes out is compared.
    fn of(text: String, topics: &'static [&'static str]) -> Self {
        Self {
            text,
            topics,
            keyed: false,
            valued: false,
            values: Values::Orders,
            apart: false,
            in_order: false,
            clock: false,
            compared: Compared::All,
        }
    }
}

pub(super) struct Case {
    pub(super) topology: String,
    pub(super) inputs: Vec<String>,
    /// What comes last in any case: far ahead, so that every window closes in either.
    pub(super) last: &'static [&'static str],
    pub(super) compared: Compared,
}

impl Case {
    pub(super) fn text(&self) -> String {
        let all = self.inputs.iter().map(String::as_str).chain(self.last.iter().copied());
        let inputs: String = all.fold(String::new(), |mut text, input| {
            writeln!(text, "  {input},").unwrap();
            text
        });
        format!("{}\n[scenario]\ntitle = \"random\"\nrule = \"random\"\ninput = [\n{inputs}]\n", self.topology)
    }
}

const HEAD: &str = "[topology]\nformat = 1\napplication_id = \"conformance\"\n";

fn source(kind: &str, name: &str) -> String {
    format!("\n[{kind}.{name}]\ntopic = \"{name}\"\nvalue_format = \"json\"\nschemas = [\"Order.avsc\"]\n")
}

fn sink(from: &str, windowed: bool) -> String {
    let key = if windowed { "key_format = \"windowed\"\n" } else { "" };
    format!("\n[sink.out]\nfrom = \"{from}\"\ntopic = \"out\"\nrecord = \"conformance.Out\"\n{key}")
}

pub(super) fn generate(seed: u64) -> Case {
    let mut dice = Dice::new(seed);
    let shape = match dice.below(17) {
        0..=2 => aggregate(&mut dice),
        3 => stream_table(&mut dice),
        4 => stream_stream(&mut dice),
        5 => table_table(&mut dice),
        6 => of_table(&mut dice),
        7 => unmatched(&mut dice),
        8 => foreign_key(&mut dice),
        9 => global_table(&mut dice),
        10 => fold(&mut dice),
        11 => fold_of_table(&mut dice),
        12 => flatten(&mut dice),
        13 => held_for_a_while(&mut dice),
        14 => held_until_the_window_closes(&mut dice),
        15 => punctuate(&mut dice),
        _ => single_values(&mut dice),
    };
    let inputs = inputs(&mut dice, &shape);
    let last: &[&str] = if shape.compared == Compared::Sorted { &FAR_AHEAD } else { &[] };
    Case { topology: format!("{HEAD}{}", shape.text), inputs, last, compared: shape.compared }
}

/// A window with its `emit`. A session of `on_close` is not among them: what touches one whose result is out merges with it in Kafka
/// Streams (D3).
fn window(dice: &mut Dice) -> String {
    let (size, grace) = (dice.between(2, 20), dice.between(0, 15));
    let emit = if dice.in_a_hundred(45) { "on_close" } else { "on_update" };
    match dice.below(4) {
        0 => format!("emit = \"{emit}\"\nwindow = {{ tumbling = \"{size}ms\", grace = \"{grace}ms\" }}\n"),
        1 => {
            let advance = dice.between(1, size);
            format!(
                "emit = \"{emit}\"\nwindow = {{ hopping = \"{size}ms\", advance = \"{advance}ms\", grace = \"{grace}ms\" }}\n"
            )
        }
        2 => format!("emit = \"{emit}\"\nwindow = {{ sliding = \"{size}ms\", grace = \"{grace}ms\" }}\n"),
        _ => format!("emit = \"on_update\"\nwindow = {{ session = \"{size}ms\", grace = \"{grace}ms\" }}\n"),
    }
}

fn aggregate(dice: &mut Dice) -> Shape {
    let mut text = source("stream", "left");
    let mut from = "left";
    if dice.in_a_hundred(30) {
        text.push_str("\n[stream.some]\nfrom = \"left\"\nwhere = 'value.amount > 2'\n");
        from = "some";
    }
    let windowed = dice.in_a_hundred(80);
    let group = if dice.in_a_hundred(25) { "group_by = 'value.customer'\n" } else { "" };
    let window = if windowed { window(dice) } else { "emit = \"on_update\"\n".to_owned() };
    let functions = "rows = 'count()', total = 'sum(value.amount)', least = 'min(value.amount)', most = 'max(value.amount)', \
                     first = 'first(value.amount)', last = 'last(value.amount)', mean = 'avg(value.amount)', all = 'collect(value.amount)'";
    write!(text, "\n[aggregate.agg]\nfrom = \"{from}\"\n{group}{window}select = {{ {functions} }}\n").unwrap();
    text.push_str(&sink("agg", windowed));
    Shape::of(text, &["left"])
}

fn stream_table(dice: &mut Dice) -> Shape {
    let mut text = source("stream", "left") + &source("table", "right");
    let versioned = dice.in_a_hundred(50);
    if versioned {
        writeln!(text, "versioned = \"{}ms\"", dice.between(10, 60)).unwrap();
    }
    let grace = if versioned && dice.in_a_hundred(50) {
        format!("grace = \"{}ms\"\n", dice.between(1, 10))
    } else {
        String::new()
    };
    let kind = dice.one_of(&["inner", "left"]);
    write!(text, "\n[join.both]\nleft = \"left\"\nright = \"right\"\nkind = \"{kind}\"\n{grace}select = {{ l = 'left.amount', r = 'right.?amount' }}\n").unwrap();
    text.push_str(&sink("both", false));
    // A left row without a key fails in Kafka Streams where rows wait.
    Shape { keyed: !grace.is_empty(), apart: versioned, ..Shape::of(text, &["left", "right"]) }
}

fn stream_stream(dice: &mut Dice) -> Shape {
    let (before, after, grace) = (dice.between(0, 15), dice.between(0, 15), dice.between(0, 15));
    let own = dice.in_a_hundred(20);
    let right = if own { "left" } else { "right" };
    let mut text = source("stream", "left");
    if !own {
        text.push_str(&source("stream", "right"));
    }
    write!(text, "\n[join.both]\nleft = \"left\"\nright = \"{right}\"\nkind = \"inner\"\nwindow = {{ before = \"{before}ms\", after = \"{after}ms\", grace = \"{grace}ms\" }}\nselect = {{ l = 'left.amount', r = 'right.amount' }}\n").unwrap();
    text.push_str(&sink("both", false));
    Shape::of(text, if own { &["left"] } else { &["left", "right"] })
}

/// A join of streams whose rows go on alone when their window closes.
fn unmatched(dice: &mut Dice) -> Shape {
    let (before, after, grace) = (dice.between(0, 15), dice.between(0, 15), dice.between(0, 15));
    let kind = dice.one_of(&["left", "outer"]);
    let mut text = source("stream", "left") + &source("stream", "right");
    write!(text, "\n[join.both]\nleft = \"left\"\nright = \"right\"\nkind = \"{kind}\"\nwindow = {{ before = \"{before}ms\", after = \"{after}ms\", grace = \"{grace}ms\" }}\nselect = {{ l = 'left.?amount', r = 'right.?amount' }}\n").unwrap();
    text.push_str(&sink("both", false));
    Shape { in_order: true, compared: Compared::Sorted, ..Shape::of(text, &["left", "right"]) }
}

/// Kafka Streams lets unmatched rows of either side go when that side's next row comes.
const FAR_AHEAD: [&str; 3] = [
    "{ topic = \"left\", key = \"z\", value = { amount = 0 }, at = 100000 }",
    "{ topic = \"right\", key = \"y\", value = { amount = 0 }, at = 100000 }",
    "{ topic = \"left\", key = \"x\", value = { amount = 0 }, at = 100000 }",
];

/// Two keys are referred to; the table has a third.
const REFERS: &str = "left.customer == \"ann\" ? \"a\" : \"b\"";

fn foreign_key(dice: &mut Dice) -> Shape {
    let kind = dice.one_of(&["inner", "left"]);
    let mut text = source("table", "left") + &source("table", "right");
    write!(text, "\n[join.both]\nleft = \"left\"\nright = \"right\"\nkind = \"{kind}\"\nforeign_key = '{REFERS}'\nselect = {{ l = 'left.amount', r = 'right.?amount' }}\n").unwrap();
    text.push_str(&sink("both", false));
    Shape { compared: Compared::LastPerKey, ..Shape::of(text, &["left", "right"]) }
}

fn global_table(dice: &mut Dice) -> Shape {
    let kind = dice.one_of(&["inner", "left"]);
    let key = dice.one_of(&[REFERS, "key"]);
    let mut text = source("stream", "left") + &source("global_table", "right");
    write!(text, "\n[join.both]\nleft = \"left\"\nright = \"right\"\nkind = \"{kind}\"\nkey = '{key}'\nselect = {{ l = 'left.amount', r = 'right.?amount' }}\n").unwrap();
    text.push_str(&sink("both", false));
    // The oracle asks for the key of rows that have none.
    Shape { keyed: key == "key", ..Shape::of(text, &["left", "right"]) }
}

fn table_table(dice: &mut Dice) -> Shape {
    let kind = dice.one_of(&["inner", "left", "outer"]);
    let mut text = source("table", "left") + &source("table", "right");
    write!(text, "\n[join.both]\nleft = \"left\"\nright = \"right\"\nkind = \"{kind}\"\nselect = {{ l = 'left.?amount', r = 'right.?amount' }}\n").unwrap();
    text.push_str(&sink("both", false));
    Shape { compared: Compared::LastPerKey, ..Shape::of(text, &["left", "right"]) }
}

fn of_table(dice: &mut Dice) -> Shape {
    let mut text = source("table", "left");
    let mut from = "left";
    if dice.in_a_hundred(40) {
        text.push_str("\n[table.some]\nfrom = \"left\"\nwhere = 'value.amount > 2'\n");
        from = "some";
    }
    write!(text, "\n[aggregate.agg]\nfrom = \"{from}\"\ngroup_by = 'value.customer'\nemit = \"on_update\"\nselect = {{ rows = 'count()', total = 'sum(value.amount)', mean = 'avg(value.amount)', least = 'min(value.amount)', most = 'max(value.amount)', different = 'count_distinct(value.amount)' }}\n").unwrap();
    text.push_str(&sink("agg", false));
    Shape { compared: Compared::LastPerKey, ..Shape::of(text, &["left"]) }
}

/// Folds of a stream; the one of texts knows in which order rows came, and sessions merged.
fn fold(dice: &mut Dice) -> Shape {
    let mut text = source("stream", "left");
    let windowed = dice.in_a_hundred(80);
    let group = if dice.in_a_hundred(25) { "group_by = 'value.customer'\n" } else { "" };
    let window = if windowed { window(dice) } else { "emit = \"on_update\"\n".to_owned() };
    let merge = |own: &str| if window.contains("session") { format!(", merge = '{own}'") } else { String::new() };
    let (total, order) = (merge("state.total + other.total"), merge("state.order + \"|\" + other.order"));
    write!(text, "\n[aggregate.agg]\nfrom = \"left\"\n{group}{window}fold.total = {{ type = \"long\", initial = '0', update = 'state.total * 2 + value.amount'{total} }}\nfold.order = {{ type = \"string\", initial = '\"\"', update = 'state.order + string(value.amount)'{order} }}\n").unwrap();
    text.push_str(&sink("agg", windowed));
    Shape { valued: true, ..Shape::of(text, &["left"]) }
}

/// What is taken out leaves something behind, so that each time counts.
fn fold_of_table(dice: &mut Dice) -> Shape {
    let mut text = source("table", "left");
    let group = dice.one_of(&["value.customer", "value.amount % 2", "key"]);
    write!(text, "\n[aggregate.agg]\nfrom = \"left\"\ngroup_by = '{group}'\nemit = \"on_update\"\nfold.total = {{ type = \"long\", initial = '0', update = 'state.total + value.amount', retract = 'state.total - value.amount' }}\n").unwrap();
    text.push_str(&sink("agg", false));
    Shape { compared: Compared::LastPerKey, ..Shape::of(text, &["left"]) }
}

fn flatten(dice: &mut Dice) -> Shape {
    let mut text = source("stream", "left").replace("Order.avsc", "Basket.avsc");
    let (list, item) = match dice.below(3) {
        0 => ("value.lines", "item.quantity"),
        1 => ("value.numbers", "item"),
        _ => ("value.tags", "size(item)"),
    };
    let filter = if dice.in_a_hundred(40) { "where = 'value.customer == \"ann\"'\n" } else { "" };
    let key = if dice.in_a_hundred(40) { "select_key = 'value.customer'\n" } else { "" };
    write!(text, "\n[stream.each]\nfrom = \"left\"\n{filter}flatten = '{list}'\n{key}select = {{ amount = '{item}', customer = 'value.customer' }}\n").unwrap();
    let counted = dice.in_a_hundred(50);
    let windowed = counted && dice.in_a_hundred(60);
    if counted {
        let window = if windowed { window(dice) } else { "emit = \"on_update\"\n".to_owned() };
        write!(text, "\n[aggregate.agg]\nfrom = \"each\"\n{window}select = {{ rows = 'count()', total = 'sum(value.amount)', all = 'collect(value.amount)' }}\n").unwrap();
    }
    text.push_str(&sink(if counted { "agg" } else { "each" }, windowed));
    Shape { values: Values::Baskets, ..Shape::of(text, &["left"]) }
}

/// A table whose changes wait for a time, or until there are too many.
fn held_for_a_while(dice: &mut Dice) -> Shape {
    let mut text = source("table", "left");
    let until = dice.between(0, 30);
    let bound = match dice.below(3) {
        0 => String::new(),
        _ => format!("max_records = {}\nwhen_full = \"emit_early\"\n", dice.between(1, 3)),
    };
    write!(text, "\n[suppress.held]\nfrom = \"left\"\nuntil = \"{until}ms\"\n{bound}").unwrap();
    text.push_str(&sink("held", false));
    Shape { valued: true, values: Values::Unlike, ..Shape::of(text, &["left"]) }
}

/// Final results of windows whose updates are held back. Not of sessions and sliding windows, which are judged at their last moment (D3).
fn held_until_the_window_closes(dice: &mut Dice) -> Shape {
    let mut text = source("stream", "left");
    let (size, grace) = (dice.between(2, 20), dice.between(0, 15));
    let advance = if dice.in_a_hundred(50) { size } else { dice.between(1, size) };
    write!(text, "\n[aggregate.agg]\nfrom = \"left\"\nemit = \"on_update\"\nwindow = {{ hopping = \"{size}ms\", advance = \"{advance}ms\", grace = \"{grace}ms\" }}\nselect = {{ rows = 'count()', total = 'sum(value.amount)', last = 'last(value.amount)' }}\n\n[suppress.held]\nfrom = \"agg\"\nuntil = \"window_close\"\n").unwrap();
    text.push_str(&sink("held", true));
    Shape::of(text, &["left"])
}

fn punctuate(dice: &mut Dice) -> Shape {
    let mut text = source("table", "left");
    let every = dice.between(1, 30);
    let clock = dice.one_of(&["stream_time", "wall_clock_time"]);
    let filter = if dice.in_a_hundred(40) { "where = 'value.amount > 2'\n" } else { "" };
    write!(text, "\n[punctuate.tick]\ntable = \"left\"\nevery = \"{every}ms\"\nclock = \"{clock}\"\n{filter}select = {{ amount = 'value.amount', time = 'meta.timestamp' }}\n").unwrap();
    text.push_str(&sink("tick", false));
    Shape { clock: clock == "wall_clock_time", ..Shape::of(text, &["left"]) }
}

/// Values that are a number or a text, and keys that are numbers.
fn single_values(dice: &mut Dice) -> Shape {
    let (format, number, values) = match dice.below(2) {
        0 => ("long", "value", Values::Numbers),
        _ => ("string", "size(value)", Values::Texts),
    };
    let mut text = format!("\n[stream.left]\ntopic = \"left\"\nvalue_format = \"{format}\"\n");
    let mut from = "left";
    if dice.in_a_hundred(50) {
        write!(text, "\n[stream.some]\nfrom = \"left\"\nwhere = '{number} > 2'\n").unwrap();
        from = "some";
    }
    let group = if dice.in_a_hundred(40) { format!("group_by = '{number} % 3'\n") } else { String::new() };
    let windowed = dice.in_a_hundred(60);
    let window = if windowed { window(dice) } else { "emit = \"on_update\"\n".to_owned() };
    write!(text, "\n[aggregate.agg]\nfrom = \"{from}\"\n{group}{window}select = {{ rows = 'count()', total = 'sum({number})', first = 'first(value)', most = 'max(value)' }}\n").unwrap();
    text.push_str(&sink("agg", windowed));
    Shape { values, ..Shape::of(text, &["left"]) }
}

/// Times go on, back a little, and leap; keys are few; some rows have no key, some no value.
fn inputs(dice: &mut Dice, shape: &Shape) -> Vec<String> {
    let mut now = dice.between(0, 40) as i64;
    let mut inputs = Vec::new();
    for _ in 0..dice.between(4, 40) {
        now += match dice.below(20) {
            0 => dice.between(20, 80) as i64,
            _ => dice.between(0, 6) as i64,
        };
        let late = if !shape.in_order && dice.in_a_hundred(30) { dice.between(1, 30) as i64 } else { 0 };
        let at = if shape.clock { 0 } else { (now - late).max(0) };
        if shape.clock && dice.in_a_hundred(30) {
            inputs.push(format!("{{ wall_clock = \"{}ms\" }}", dice.between(1, 40)));
        }
        let deleted = !shape.valued && dice.in_a_hundred(10);
        let at = if shape.apart { at & !1 | i64::from(deleted) } else { at };
        let topic = dice.one_of(shape.topics);
        let key = if shape.keyed || dice.in_a_hundred(95) {
            format!("key = \"{}\", ", dice.one_of(&["a", "b", "c"]))
        } else {
            String::new()
        };
        let value =
            if deleted { String::new() } else { format!("value = {}, ", value(dice, shape.values, inputs.len())) };
        inputs.push(format!("{{ topic = \"{topic}\", {key}{value}at = {at} }}"));
    }
    inputs
}

fn value(dice: &mut Dice, values: Values, place: usize) -> String {
    match values {
        Values::Unlike => format!("{{ amount = {place}, customer = \"{}\" }}", dice.one_of(&["ann", "bob"])),
        Values::Orders => format!("{{ amount = {}, customer = \"{}\" }}", dice.below(8), dice.one_of(&["ann", "bob"])),
        Values::Numbers => dice.below(8).to_string(),
        Values::Texts => format!("\"{}\"", dice.one_of(&["", "a", "to", "sea", "tide", "water"])),
        Values::Baskets => {
            let list = |dice: &mut Dice, item: &dyn Fn(&mut Dice) -> String| {
                let items: Vec<String> = (0..dice.below(4)).map(|_| item(dice)).collect();
                format!("[{}]", items.join(", "))
            };
            let lines = list(dice, &|dice| {
                format!("{{ sku = \"{}\", quantity = {} }}", dice.one_of(&["x", "y"]), dice.below(8))
            });
            let numbers = list(dice, &|dice| dice.below(8).to_string());
            let tags = list(dice, &|dice| format!("\"{}\"", dice.one_of(&["", "red", "blue"])));
            let customer = dice.one_of(&["ann", "bob"]);
            format!("{{ customer = \"{customer}\", lines = {lines}, numbers = {numbers}, tags = {tags} }}")
        }
    }
}
