//! Aggregates: which function each field is, of which argument, fed by which types of row.

use std::sync::Arc;

use super::super::graph::{Aggregate, AggregateField, ByVariant, Nature, NodeId, NodeKind, Rows, Update, Variant};
use super::super::resolve::Item;
use super::super::sources::Located;
use super::super::spec::{AggregateSpec, ExpressionText, Fields, FoldSpec, Updates};
use super::super::terms::{AggregateFunction, WindowShape};
use super::expressions::{self, Scope, Taking, all, some};
use super::streams::transposed;
use super::{Checker, Made, text_place};
use crate::base::diag::{Diagnostic, suggestion};
use crate::base::types::{Field, RecordType, Type};
use crate::base::value::{Text, Value};
use crate::error::codes;
use crate::expr::{self, AggregateCall};

/// The fields found so far and who feeds them.
struct Found {
    fields: Vec<(Located<String>, AggregateField)>,
    updates: ByVariant<Vec<Update>>,
    sound: bool,
}

impl Checker<'_> {
    pub(super) fn aggregate(&self, item: &Item<'_>, aggregate: &AggregateSpec, from: NodeId) -> Made {
        let input = self.rows(from);
        let taking = self.fed(aggregate, input);
        let scope = Scope::row("value", input);
        let key = aggregate.group_by.as_ref().map(|text| self.key_by(text, &taking, &scope));
        let (key, sound) = match key {
            // A table's rows are grouped even where the group is their own key.
            Some(Some(key)) => (Some(key).filter(|key| !key.unchanged || input.nature == Nature::Table), true),
            Some(None) => (None, false),
            None => (None, true),
        };
        let format = key.as_ref().map_or_else(|| input.key.clone(), |key| key.format.clone());
        // Behind a repartition there is the new key, and no window.
        let moved = key.is_some() || input.rekeyed;
        let scope = if moved { scope.rekeyed(format.clone()) } else { scope };
        let mut found = Found { fields: Vec::new(), updates: input.variants.iter().map(|_| None).collect(), sound };
        let of_table = input.nature == Nature::Table;
        found.sound &= self.fits_input(item, aggregate, of_table);
        match &aggregate.updates {
            Updates::Select(fields) => self.fold(fields, &all(&input.variants), &scope, &mut found),
            Updates::On(types) => {
                for (event, fields) in types {
                    match self.variant_named(input, event, &aggregate.from.value) {
                        Some(index) => self.fold(fields, &some(&input.variants, &[index]), &scope, &mut found),
                        None => found.sound = false,
                    }
                }
            }
            Updates::Fold(_) => {}
        }
        if let Updates::Fold(folds) = &aggregate.updates {
            self.folds(folds, aggregate, from, &taking, &scope, &mut found);
        }
        self.no_clashes(&mut found);
        found.sound &= !of_table || self.retractable(&aggregate.from, &found);
        found.sort();
        let types = found.fields.iter().map(|(name, field)| (name.clone(), field.result_type())).collect();
        let record = self.derived(&item.name.value, types)?;
        if !found.sound {
            return None;
        }
        let rows = Rows {
            variants: vec![Variant::derived(record)],
            key: format,
            rekeyed: false,
            windowed: aggregate.window.map(|window| window.shape),
            nature: if aggregate.window.is_some() { Nature::Stream } else { Nature::Table },
        };
        let aggregate = Aggregate {
            from,
            of_table,
            group_by: key.map(|key| key.key),
            window: aggregate.window,
            emit: aggregate.emit,
            fields: found.fields.into_iter().map(|(_, field)| field).collect(),
            updates: found.updates,
        };
        Some((NodeKind::Aggregate(aggregate), rows))
    }

    /// The types of row that feed it, as far as they are known.
    fn fed<'v>(&self, aggregate: &AggregateSpec, input: &'v Rows) -> Taking<'v> {
        match &aggregate.updates {
            Updates::Select(_) | Updates::Fold(_) => all(&input.variants),
            Updates::On(types) => {
                let known = |name: &str| {
                    input.variants.iter().position(|variant| variant.name() == name || variant.short_name() == name)
                };
                let indices: Vec<usize> = types.iter().filter_map(|(name, _)| known(&name.value)).collect();
                some(&input.variants, &indices)
            }
        }
    }

    fn fold(&self, fields: &Fields, taking: &Taking<'_>, scope: &Scope, found: &mut Found) {
        for (name, text) in fields {
            let Some((call, argument)) = self.call(&name.value, text) else {
                found.sound = false;
                continue;
            };
            let arguments = match &argument {
                None => taking.map(|_, _| None),
                Some(argument) => match self.expression_of_kind(argument, taking, scope, &expressions::ANY) {
                    Some(arguments) => arguments.into_iter().map(|argument| argument.map(Some)).collect(),
                    None => {
                        found.sound = false;
                        continue;
                    }
                },
            };
            for (variant, argument) in arguments.into_iter().enumerate() {
                let Some(argument) = argument else { continue };
                let given = argument.as_ref().map_or(Type::Null, |argument| argument.checked.value_type().clone());
                match self.field(name, text, call, &given, found) {
                    Some(field) => {
                        found.updates[variant].get_or_insert_with(Vec::new).push(Update {
                            field,
                            argument,
                            retract: None,
                        });
                    }
                    None => found.sound = false,
                }
            }
        }
    }

    /// Reads a field's text as a call of an aggregate function and its argument.
    fn call(&self, name: &str, text: &ExpressionText) -> Option<(AggregateFunction, Option<ExpressionText>)> {
        let call = match expr::aggregate_call(&text.text) {
            Ok(Some(call)) => call,
            Ok(None) => {
                let names = AggregateFunction::ALL.map(|(name, _)| name);
                let message = "an aggregate's field is one call of an aggregate function";
                let word: String = text.text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                let help = match crate::base::diag::nearest(&word, names) {
                    Some(function) if function == word => computed_below(name, &text.text),
                    Some(near) => format!("did you mean `{near}(…)`?"),
                    None => format!(
                        "one of `{}`; to compute with results, put a stream with `select` behind it",
                        names.join("`, `")
                    ),
                };
                self.error(codes::AGGREGATE_MISUSE, text_place(text), message, help);
                return None;
            }
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.report_in_text(text, problem));
                return None;
            }
        };
        let Some(function) = AggregateFunction::by_name(&call.function) else {
            let message = format!("`{}` is not yet supported", call.function);
            let known = AggregateFunction::ALL.map(|(name, _)| name);
            let problem = Diagnostic::error(codes::NOT_YET_SUPPORTED, call.function_span, message);
            self.report_in_text(text, problem.help(suggestion(&call.function, known)));
            return None;
        };
        self.argument(text, function, &call)
    }

    fn argument(
        &self,
        text: &ExpressionText,
        function: AggregateFunction,
        call: &AggregateCall,
    ) -> Option<(AggregateFunction, Option<ExpressionText>)> {
        match (function, call.args.as_slice()) {
            (AggregateFunction::Count, []) => Some((function, None)),
            (AggregateFunction::Count, [first, ..]) => {
                let problem = Diagnostic::error(codes::AGGREGATE_MISUSE, *first, "`count()` takes no argument")
                    .help("it counts rows; to count some of them, put a stream with `where` in front");
                self.report_in_text(text, problem);
                None
            }
            (_, [only]) => {
                let inner = text.text.get(only.start..only.end)?.to_owned();
                let start = text.start.map(|start| start + only.start);
                Some((function, Some(ExpressionText { text: inner, place: text.place, start })))
            }
            (_, several) => {
                let span = several.get(1).copied().unwrap_or(call.function_span);
                let message = format!("`{}` takes one argument, not {}", function.name(), several.len());
                let help = format!("what to compute it of: `{}(value.x)`", function.name());
                self.report_in_text(text, Diagnostic::error(codes::AGGREGATE_MISUSE, span, message).help(help));
                None
            }
        }
    }

    /// Finds or adds the field; every row that feeds it must do so in the same way.
    fn field(
        &self,
        name: &Located<String>,
        text: &ExpressionText,
        function: AggregateFunction,
        given: &Type,
        found: &mut Found,
    ) -> Option<usize> {
        let argument = given.required().clone();
        if !accepts(function, &argument) {
            let message = format!("`{}` does not take {given}", function.name());
            self.error(codes::AGGREGATE_MISUSE, text_place(text), message, wanted(function));
            return None;
        }
        let known = found.fields.iter().position(|(known, _)| known.value == name.value);
        let Some(index) = known else {
            let field = AggregateField { name: Text::new(&name.value), function, argument, initial: None, merge: None };
            found.fields.push((name.clone(), field));
            return Some(found.fields.len() - 1);
        };
        let first = &found.fields[index].1;
        if first.function == function && first.argument == argument {
            return Some(index);
        }
        let said = |field: &AggregateField| match field.function {
            AggregateFunction::Count => "`count()`".to_owned(),
            AggregateFunction::Sum
            | AggregateFunction::Avg
            | AggregateFunction::Min
            | AggregateFunction::Max
            | AggregateFunction::First
            | AggregateFunction::Last
            | AggregateFunction::Collect
            | AggregateFunction::CountDistinct
            | AggregateFunction::Fold => format!("`{}` of {}", field.function.name(), field.argument),
        };
        let this = AggregateField { name: Text::default(), function, argument, initial: None, merge: None };
        let message = format!("`{}` is {} elsewhere and {} here", name.value, said(first), said(&this));
        self.error(
            codes::AGGREGATE_MISUSE,
            text_place(text),
            message,
            "one field is one function; give this one another name",
        );
        None
    }

    /// An aggregate of a table has groups and no windows.
    fn fits_input(&self, item: &Item<'_>, aggregate: &AggregateSpec, of_table: bool) -> bool {
        if !of_table {
            return true;
        }
        if aggregate.group_by.is_none() {
            let message =
                format!("`{}` is a table, with one row per key: there is nothing to aggregate", aggregate.from.value);
            let help = "say what its rows are grouped by: `group_by = 'value.x'`";
            self.error(codes::AGGREGATE_MISUSE, item.name.place, message, help);
        }
        if aggregate.window.is_some() {
            let message = format!(
                "`{}` is a table: its rows hold until they are replaced, not for a window",
                aggregate.from.value
            );
            let help = "put a stream between, `[stream.…]` with `from`, to aggregate its changes";
            self.error(codes::WINDOW_MISUSE, item.name.place, message, help);
        }
        aggregate.group_by.is_some() && aggregate.window.is_none()
    }

    /// What a row of a table replaces must be taken out again.
    fn retractable(&self, from: &Located<String>, found: &Found) -> bool {
        let can = |field: &AggregateField| field.function == AggregateFunction::Fold || field.function.can_retract();
        let unfit = found.fields.iter().filter(|(_, field)| !can(field));
        let mut sound = true;
        for (name, field) in unfit {
            let message = format!(
                "`{}` cannot take a row back, and rows of table `{}` are replaced",
                field.function.name(),
                from.value
            );
            let help = "a table has no order of rows: use `min`, `max`, `count_distinct`, `sum`, `avg`, `count`, or a `fold` with `retract`; or put a stream between to aggregate the table's changes";
            self.error(codes::AGGREGATE_MISUSE, name.place, message, help);
            sound = false;
        }
        sound
    }

    /// Checks `fold`: every update sees the row, and all folds as they were before it.
    fn folds(
        &self,
        folds: &[FoldSpec],
        aggregate: &AggregateSpec,
        from: NodeId,
        taking: &Taking<'_>,
        scope: &Scope,
        found: &mut Found,
    ) {
        let mut fields: Vec<Field> = folds
            .iter()
            .map(|fold| Field { name: Text::new(&fold.name.value), field_type: fold.field_type.clone() })
            .collect();
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        let state = RecordType::new("state", fields);
        let scope = scope.clone().with("state", Type::Record(Arc::clone(&state)));
        let meeting = Scope::row("other", self.rows(from)).with("state", Type::Record(Arc::clone(&state)));
        let of_table = self.rows(from).nature == Nature::Table;
        let sessions = matches!(aggregate.window.map(|window| window.shape), Some(WindowShape::Session { .. }));
        for fold in folds {
            let initial = self.constant(&fold.initial, &fold.field_type);
            let updates = self.expression_as(&fold.update, taking, &scope, &fold.field_type);
            let later = [Variant::derived(Arc::clone(&state))];
            let merge =
                fold.merge.as_ref().map(|text| self.expression_as(text, &all(&later), &meeting, &fold.field_type));
            let retract = fold.retract.as_ref().map(|text| self.expression_as(text, taking, &scope, &fold.field_type));
            found.sound &= self.fold_fits(fold, sessions, of_table);
            let (Some(initial), Some(updates), Some(merge), Some(retract)) =
                (initial, updates, transposed(merge), transposed(retract))
            else {
                found.sound = false;
                continue;
            };
            let merge = merge.and_then(|merge| merge.into_iter().next().flatten());
            let mut retract = retract.unwrap_or_default();
            let field = found.fields.len();
            found.fields.push((
                fold.name.clone(),
                AggregateField {
                    name: Text::new(&fold.name.value),
                    function: AggregateFunction::Fold,
                    argument: fold.field_type.clone(),
                    initial: Some(initial),
                    merge,
                },
            ));
            for (variant, update) in updates.into_iter().enumerate() {
                let Some(update) = update else { continue };
                let retract = retract.get_mut(variant).and_then(Option::take);
                let update = Update { field, argument: Some(update), retract };
                found.updates[variant].get_or_insert_with(Vec::new).push(update);
            }
        }
    }

    /// Sessions may fall together, and rows of tables are replaced: a fold says what it holds then, and only then.
    fn fold_fits(&self, fold: &FoldSpec, sessions: bool, of_table: bool) -> bool {
        let needs = |said: &Option<ExpressionText>, needed: bool, key: &str, when: &str, example: &str| match said {
            None if needed => {
                let message = format!("fold `{}` has no `{key}`, and {when}", fold.name.value);
                self.error(
                    codes::AGGREGATE_MISUSE,
                    fold.name.place,
                    message,
                    format!("say what it holds then: {example}"),
                );
                false
            }
            Some(text) if !needed => {
                let message = format!("fold `{}` has a `{key}` that is never asked", fold.name.value);
                let help =
                    format!("leave it out: `{key}` is for {}", if key == "merge" { "sessions" } else { "tables" });
                self.error(codes::AGGREGATE_MISUSE, text_place(text), message, help);
                false
            }
            None | Some(_) => true,
        };
        let merges = needs(
            &fold.merge,
            sessions,
            "merge",
            "two sessions may become one",
            "`merge = 'state.total + other.total'`, `other` being the later one",
        );
        let retracts = needs(
            &fold.retract,
            of_table,
            "retract",
            "rows of a table are replaced",
            "`retract = 'state.total - value.total'`, `value` being the row that goes",
        );
        merges && retracts
    }

    /// Evaluates an expression that names nothing.
    fn constant(&self, text: &ExpressionText, wanted: &Type) -> Option<Value> {
        match expr::constant(&text.text, wanted) {
            Ok(value) => Some(value),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.report_in_text(text, problem));
                None
            }
        }
    }

    /// `avg` keeps `<name>_sum` and `<name>_count`: no other field may have these names.
    fn no_clashes(&self, found: &mut Found) {
        let taken: Vec<(String, &AggregateField)> = found
            .fields
            .iter()
            .filter(|(_, field)| field.function == AggregateFunction::Avg)
            .flat_map(|(_, field)| [(format!("{}_sum", field.name), field), (format!("{}_count", field.name), field)])
            .collect();
        let mut sound = true;
        for (name, _) in &found.fields {
            if let Some((_, avg)) = taken.iter().find(|(kept, _)| *kept == name.value) {
                let message =
                    format!("`{}` is a name that the average `{}` keeps its state under", name.value, avg.name);
                self.error(codes::AGGREGATE_MISUSE, name.place, message, "give one of the two another name");
                sound = false;
            }
        }
        found.sound &= sound;
    }
}

impl Found {
    /// Puts the fields in the order of their names: the order of TOML keys means nothing.
    fn sort(&mut self) {
        let mut order: Vec<usize> = (0..self.fields.len()).collect();
        order.sort_by(|a, b| self.fields[*a].0.value.cmp(&self.fields[*b].0.value));
        let place = |old: usize| order.iter().position(|index| *index == old).unwrap_or(old);
        for update in self.updates.iter_mut().flatten().flatten() {
            update.field = place(update.field);
        }
        for updates in self.updates.iter_mut().flatten() {
            updates.sort_by_key(|update| update.field);
        }
        self.fields = order.iter().map(|index| self.fields[*index].clone()).collect();
    }
}

impl AggregateField {
    /// Returns the type of the field in the result row.
    pub fn result_type(&self) -> Type {
        match self.function {
            AggregateFunction::Count | AggregateFunction::CountDistinct => Type::Int,
            AggregateFunction::Collect => Type::List(Arc::new(self.argument.clone())),
            AggregateFunction::Sum | AggregateFunction::Fold => self.argument.clone(),
            AggregateFunction::Avg => Type::Double.optional(),
            AggregateFunction::Min | AggregateFunction::Max | AggregateFunction::First | AggregateFunction::Last => {
                self.argument.clone().optional()
            }
        }
    }
}

fn accepts(function: AggregateFunction, argument: &Type) -> bool {
    match function {
        AggregateFunction::Count | AggregateFunction::Fold => true,
        AggregateFunction::Sum | AggregateFunction::Avg => matches!(argument, Type::Int | Type::Double),
        AggregateFunction::Min | AggregateFunction::Max => matches!(
            argument,
            Type::Int
                | Type::Double
                | Type::String
                | Type::Bytes
                | Type::DateTime
                | Type::TimeDelta
                | Type::Decimal { .. }
        ),
        AggregateFunction::First
        | AggregateFunction::Last
        | AggregateFunction::Collect
        | AggregateFunction::CountDistinct => !matches!(argument, Type::Null | Type::Uint),
    }
}

fn wanted(function: AggregateFunction) -> &'static str {
    match function {
        AggregateFunction::Count | AggregateFunction::Fold => "",
        AggregateFunction::Sum | AggregateFunction::Avg => "it takes int and double; convert it: `double(value.x)`",
        AggregateFunction::Min | AggregateFunction::Max => {
            "it takes numbers, strings, bytes, timestamps, durations and decimals"
        }
        AggregateFunction::First
        | AggregateFunction::Last
        | AggregateFunction::Collect
        | AggregateFunction::CountDistinct => "it takes any value that can be stored",
    }
}

/// Says how to compute with a function's result: `count() + 1` is `value.n + 1` in a stream behind the aggregate.
fn computed_below(name: &str, text: &str) -> String {
    let open = text.find('(').unwrap_or(text.len());
    let mut depth = 0_usize;
    let close = text[open..].char_indices().find_map(|(at, character)| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(open + at + 1)
    });
    let Some(close) = close else { return format!("let `{name}` be the call alone") };
    let (call, rest) = text.split_at(close);
    if AggregateFunction::ALL.iter().any(|(function, _)| rest.contains(&format!("{function}("))) {
        return "give each call a field of its own, and compute with them in a stream behind the aggregate".to_owned();
    }
    format!(
        "let `{name}` be `{call}` alone, and compute with it in a stream behind the aggregate: `select = {{ {name} = \
         'value.{name}{rest}' }}`"
    )
}
