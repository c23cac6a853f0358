//! Streams made of streams: which rows, which key, which shape; branches and merges.

use std::sync::Arc;

use super::super::graph::{
    ByVariant, Expression, Flatten, Log, Nature, NodeId, NodeKind, Rows, SCALAR_FIELD, Shape, Stream, Variant,
};
use super::super::resolve::Item;
use super::super::sources::Located;
use super::super::spec::{self, BranchSpec, ExpressionText, Fields, LogSpec, StreamSpec};
use super::super::terms::KeyFormat;
use super::expressions::{self, Scope, Taking, all, common, key_format, some};
use super::{Checker, Made};
use crate::base::types::{RecordType, Type};
use crate::error::codes;

/// A key expression by variant, and how its values are written.
pub(super) struct KeyBy {
    pub key: ByVariant<Expression>,
    pub format: KeyFormat,
    /// The expression is `key` itself: nothing changes.
    pub unchanged: bool,
}

impl Checker<'_> {
    pub(super) fn stream(&self, item: &Item<'_>, stream: &StreamSpec, from: NodeId) -> Made {
        let input = self.rows(from);
        let taken = match &stream.on {
            Some(names) => self.variants_named(input, names, &stream.from.value)?,
            None => (0..input.variants.len()).collect(),
        };
        let taking = some(&input.variants, &taken);
        let scope = Scope::row("value", input);
        // What is wrong with the filter or the key is reported; the rows have their shape all the same.
        let filter = self.filter(stream, &taking, &scope);
        let flattened = stream.flatten.as_ref().map(|text| self.flatten(text, &taking, &scope));
        let (flatten, scope, element) = match transposed(flattened)? {
            Some((flatten, element)) => (Some(flatten), scope.with("item", element.clone()), Some(element)),
            None => (None, scope, None),
        };
        let key = stream.select_key.as_ref().map(|text| self.key_by(text, &taking, &scope));
        let shape = match (&stream.shape, &element) {
            (Some(shape), _) => Some(self.shape(item, shape, input, &taking, &scope)),
            (None, Some(element)) => Some(self.elements(item, element, &taking, &scope)),
            (None, None) => None,
        };
        let (filter, shape) = (filter.flatten(), transposed(shape)?);
        let key = key.flatten().filter(|key| !key.unchanged);
        let (shape, variants) = match shape {
            Some((shape, variants)) => (Some(shape), variants),
            None => (None, taken.iter().map(|index| input.variants[*index].clone()).collect()),
        };
        let rows = Rows {
            variants,
            key: key.as_ref().map_or_else(|| input.key.clone(), |key| key.format.clone()),
            rekeyed: input.rekeyed || key.is_some(),
            windowed: input.windowed.filter(|_| key.is_none()),
            nature: Nature::Stream,
        };
        let key = key.map(|key| key.key);
        Some((NodeKind::Stream(Stream { from, filter, flatten, key, shape }), rows))
    }

    /// `on` and `where` together: none when neither is there.
    fn filter(
        &self,
        stream: &StreamSpec,
        taking: &Taking<'_>,
        scope: &Scope,
    ) -> Option<Option<ByVariant<Option<Expression>>>> {
        match (&stream.filter, &stream.on) {
            (Some(text), _) => {
                let predicate = self.expression_as(text, taking, scope, &Type::Bool)?;
                Some(Some(predicate.into_iter().map(|expression| expression.map(Some)).collect()))
            }
            (None, Some(_)) => Some(Some(taking.map(|_, _| None))),
            (None, None) => Some(None),
        }
    }

    /// Checks `flatten`: a list, of the same kind of elements whatever the row's type.
    fn flatten(&self, text: &ExpressionText, taking: &Taking<'_>, scope: &Scope) -> Option<(Flatten, Type)> {
        let list = self.expression_of_kind(text, taking, scope, &expressions::LIST)?;
        let mut element: Option<Type> = None;
        for expression in list.iter().flatten() {
            let Type::List(given) = expression.checked.value_type() else { continue };
            // Elements lie as they are: what has another type would have to be converted first.
            if let Some(known) = element.as_ref().filter(|known| **known != **given) {
                let message = format!("the elements are {known} for some event types and {given} for others");
                let help = "pick the types with `on`, and flatten each in a stream of its own";
                self.error(codes::EXPRESSION_WRONG_TYPE, super::text_place(text), message, help);
                return None;
            }
            element = Some((**given).clone());
        }
        let element = element?;
        Some((Flatten { list, of_records: matches!(element, Type::Record(_)) }, element))
    }

    /// The rows of a stream that says nothing of their shape: each is the element.
    fn elements(
        &self,
        item: &Item<'_>,
        element: &Type,
        taking: &Taking<'_>,
        scope: &Scope,
    ) -> Option<(Shape, Vec<Variant>)> {
        let name = &item.name;
        let field = |field: &str, text: String| {
            let text = ExpressionText { text, place: name.place, start: None };
            (Located { value: field.to_owned(), place: name.place }, text)
        };
        let (fields, scalar): (Fields, bool) = if let Type::Record(record) = element {
            (record.fields().iter().map(|of| field(&of.name, format!("item.{}", of.name))).collect(), false)
        } else {
            (vec![field(SCALAR_FIELD, "item".to_owned())], true)
        };
        let (columns, record) = self.selected(&name.value, &fields, taking, scope)?;
        Some((Shape::Select(columns), vec![Variant { scalar, ..Variant::derived(record) }]))
    }

    /// Checks `log`: what a line says of each row.
    pub(super) fn log(&self, log: &LogSpec, from: NodeId) -> Made {
        let input = self.rows(from);
        let scope = Scope::row("value", input);
        let message = self.expression_as(&log.message, &all(&input.variants), &scope, &Type::String)?;
        let kind = Log { from, message, level: log.level, lines_per_second: log.lines_per_second };
        Some((NodeKind::Log(kind), Rows { nature: Nature::Stream, ..input.clone() }))
    }

    /// Checks `select_key` or `group_by`: one kind of key, whatever the row's type.
    pub(super) fn key_by(&self, text: &ExpressionText, taking: &Taking<'_>, scope: &Scope) -> Option<KeyBy> {
        let key = self.expression_of_kind(text, taking, scope, &expressions::KEY)?;
        let place = super::text_place(text);
        let formats = key.iter().flatten().map(|expression| key_format(expression.checked.value_type()));
        let formats = formats.collect::<Result<Vec<_>, _>>().map_err(|error| {
            self.error(codes::EXPRESSION_WRONG_TYPE, place, error, "give the field a type that Avro has");
        });
        let mut formats = formats.ok()?.into_iter();
        let format = formats.next().unwrap_or(KeyFormat::String);
        if let Some(other) = formats.find(|other| *other != format) {
            let message = format!("the key is {} for some event types and {} for others", format.name(), other.name());
            self.error(codes::EXPRESSION_WRONG_TYPE, place, message, "make it the same for all: `string(…)`");
            return None;
        }
        Some(KeyBy { key, format, unchanged: text.text.trim() == "key" })
    }

    pub(super) fn shape(
        &self,
        item: &Item<'_>,
        shape: &spec::Shape,
        input: &Rows,
        taking: &Taking<'_>,
        scope: &Scope,
    ) -> Option<(Shape, Vec<Variant>)> {
        match shape {
            spec::Shape::Select(fields) => {
                let (columns, record) = self.selected(&item.name.value, fields, taking, scope)?;
                Some((Shape::Select(columns), vec![Variant::derived(record)]))
            }
            spec::Shape::Set(fields) => self.set(fields, input, taking, scope),
        }
    }

    /// Checks `select`: an expression per field, each of one type for all types of row.
    pub(super) fn selected(
        &self,
        name: &str,
        fields: &Fields,
        taking: &Taking<'_>,
        scope: &Scope,
    ) -> Option<(ByVariant<Vec<Expression>>, Arc<RecordType>)> {
        let checked: Vec<_> = fields
            .iter()
            .map(|(field, text)| {
                let expressions = self.expression_of_kind(text, taking, scope, &expressions::ANY)?;
                let mut field_type: Option<Type> = None;
                for given in expressions.iter().flatten().map(|expression| expression.checked.value_type()) {
                    let both = field_type.as_ref().map_or_else(|| Some(given.clone()), |known| common(known, given));
                    let Some(both) = both else {
                        let known = field_type.as_ref().unwrap_or(given);
                        let message =
                            format!("`{}` is {known} for some event types and {given} for others", field.value);
                        let place = super::text_place(text);
                        self.error(codes::EXPRESSION_WRONG_TYPE, place, message, "convert it to one type for all");
                        return None;
                    };
                    field_type = Some(both);
                }
                Some((field.clone(), field_type.unwrap_or(Type::Null), expressions))
            })
            .collect();
        let checked: Vec<_> = checked.into_iter().collect::<Option<_>>()?;
        let record = self.derived(
            name,
            checked.iter().map(|(field, field_type, _)| (field.clone(), field_type.clone())).collect(),
        )?;
        let columns = taking.map(|index, _| {
            checked.iter().filter_map(|(_, _, expressions)| expressions[index].clone()).collect::<Vec<_>>()
        });
        Some((columns, record))
    }

    /// Checks `set`: each type of row keeps its name and its fields, with some changed or added at the end.
    fn set(&self, fields: &Fields, input: &Rows, taking: &Taking<'_>, scope: &Scope) -> Option<(Shape, Vec<Variant>)> {
        if let (Some(scalar), Some((first, _))) = (input.variants.iter().find(|row| row.scalar), fields.first()) {
            let message = format!("the rows are {}, which has no fields to set", scalar.row_type());
            self.error(
                codes::SHAPES_DIFFER,
                first.place,
                message,
                "make a record of it: `select = { name = 'value' }`",
            );
            return None;
        }
        let set: Vec<Option<(&Located<String>, ByVariant<Expression>)>> = fields
            .iter()
            .map(|(field, text)| Some((field, self.expression_of_kind(text, taking, scope, &expressions::ANY)?)))
            .collect();
        let set: Vec<_> = set.into_iter().collect::<Option<_>>()?;
        let mut variants = Vec::new();
        let mut sound = true;
        let columns = taking.map(|index, variant| {
            let changed = |name: &str| {
                let (field, expressions) = set.iter().find(|(field, _)| field.value == name)?;
                Some(((*field).clone(), expressions[index].clone()?))
            };
            let mut made: Vec<(Located<String>, Expression)> = Vec::new();
            for field in variant.fields() {
                let kept = || {
                    let expression = self.passed_on("value", &field.name, input, variant)?;
                    let place = fields.first().map(|(name, _)| name.place)?;
                    Some((Located { value: field.name.to_string(), place }, expression))
                };
                match changed(&field.name).or_else(kept) {
                    Some(column) => made.push(column),
                    None => sound = false,
                }
            }
            let added = set.iter().filter(|(field, _)| variant.record.field(&field.value).is_none());
            made.extend(added.filter_map(|(field, _)| changed(&field.value)));
            let types = made.iter().map(|(name, made)| (name.clone(), made.checked.value_type().clone())).collect();
            match self.derived(variant.name(), types) {
                Some(record) => variants.push(Variant::derived(record)),
                None => sound = false,
            }
            made.into_iter().map(|(_, expression)| expression).collect::<Vec<_>>()
        });
        sound.then_some((Shape::Set(columns), variants))
    }

    /// A case of a branch: its own predicate, and none of the earlier ones.
    pub(super) fn case(&self, branch: &BranchSpec, number: usize, from: NodeId) -> Made {
        let input = self.rows(from);
        let taking = all(&input.variants);
        let scope = Scope::row("value", input);
        let own = &branch.cases.get(number)?.filter;
        if let Some(text) = own {
            self.expression_as(text, &taking, &scope, &Type::Bool);
        }
        let earlier = branch.cases[..number].iter().filter_map(|case| case.filter.as_ref());
        let mut parts: Vec<String> = earlier.clone().map(|text| format!("!({})", text.text)).collect();
        parts.extend(own.as_ref().map(|text| format!("({})", text.text)));
        let place = own.as_ref().or_else(|| earlier.clone().next());
        let filter = match place {
            None => taking.map(|_, _| None),
            Some(at) => {
                // Each part is checked at its own turn; a mistake in it is not told again here.
                let before = self.findings.borrow().len();
                let text = ExpressionText { text: parts.join(" && "), ..at.clone() };
                let composed = self.composed(&text, &taking, &scope);
                if composed.is_none() {
                    self.findings.borrow_mut().truncate(before);
                }
                composed.unwrap_or_default().into_iter().map(|expression| expression.map(Some)).collect()
            }
        };
        let rows = Rows { nature: Nature::Stream, ..input.clone() };
        Some((NodeKind::Case { from, number, filter }, rows))
    }

    pub(super) fn merge(&self, item: &Item<'_>, names: &[Located<String>], ids: &[NodeId]) -> Made {
        let first = self.rows(*ids.first()?);
        let mut rows = Rows { variants: Vec::new(), nature: Nature::Stream, ..first.clone() };
        let mut sound = true;
        for (name, id) in names.iter().zip(ids) {
            let input = self.rows(*id);
            if input.key != first.key || input.windowed != first.windowed {
                let what = |rows: &Rows| {
                    format!("{} keys{}", rows.key.name(), if rows.windowed.is_some() { ", in windows" } else { "" })
                };
                let message = format!(
                    "`{}` has {}, `{}` has {}: they cannot become one stream",
                    names[0].value,
                    what(first),
                    name.value,
                    what(input)
                );
                self.error(codes::SHAPES_DIFFER, name.place, message, "re-key one of them with `select_key`");
                sound = false;
            }
            rows.rekeyed |= input.rekeyed;
            for variant in &input.variants {
                match rows.variants.iter().find(|known| known.name() == variant.name()) {
                    None => rows.variants.push(variant.clone()),
                    Some(known) if same_shape(known, variant) => {}
                    Some(_) => {
                        let message = format!(
                            "`{}` brings together two different shapes of `{}`",
                            item.name.value,
                            variant.short_name()
                        );
                        let help = "give both the same fields with `select`, or let them have different schemas";
                        self.error(codes::SHAPES_DIFFER, name.place, message, help);
                        sound = false;
                    }
                }
            }
        }
        sound.then(|| (NodeKind::Merge { from: ids.to_vec() }, rows))
    }
}

fn same_shape(a: &Variant, b: &Variant) -> bool {
    a.fields().len() == b.fields().len()
        && a.fields().iter().zip(b.fields()).all(|(a, b)| a.name == b.name && a.field_type == b.field_type)
}

/// Found wrong, or not there at all, or there.
pub(super) fn transposed<T>(part: Option<Option<T>>) -> Option<Option<T>> {
    match part {
        Some(None) => None,
        Some(Some(part)) => Some(Some(part)),
        None => Some(None),
    }
}
