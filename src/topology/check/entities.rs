//! Entities: what each event sets of the state, and what the state is before the first event.

use super::super::graph::{Entity, Expression, Nature, NodeId, NodeKind, Rows, Variant};
use super::super::resolve::Item;
use super::super::spec::{EntitySpec, Fields};
use super::expressions::{Scope, some};
use super::schemas::start_values;
use super::{Checker, Made};
use crate::base::diag::suggestion;
use crate::base::types::{RecordType, Type};
use crate::base::value::Text;
use crate::error::codes;
use std::sync::Arc;

impl Checker<'_> {
    pub(super) fn entity(&self, item: &Item<'_>, entity: &EntitySpec, from: NodeId, commands: Option<NodeId>) -> Made {
        let input = self.rows(from);
        self.unwindowed(input, entity.from.place, "an entity");
        let (state, record) = self.schemas.record(&entity.schema)?;
        let initial: Vec<_> = start_values(&state);
        let lacking: Vec<&str> = initial.iter().filter_map(|value| value.as_ref().err()).map(String::as_str).collect();
        if !lacking.is_empty() {
            let message = format!(
                "`{}` does not say what `{}` is before the first event",
                entity.schema.value,
                lacking.join("`, `")
            );
            let help = "give each field of the state a \"default\", or let it be null: `[\"null\", \"string\"]`";
            self.error(codes::STATE_WITHOUT_START, entity.schema.place, message, help);
        }
        for field in record.fields().iter().filter(|field| field.name.starts_with('_')) {
            let message = format!("the state's field `{}` begins with `_`", field.name);
            let help = "such names are kept for what tidemill stores beside the state";
            self.error(codes::NAME_NOT_ALLOWED, entity.schema.place, message, help);
        }
        let mut apply = input.variants.iter().map(|_| None).collect::<Vec<_>>();
        let mut applied = Vec::new();
        for (event, fields) in &entity.apply {
            let variant = self.variant_named(input, event, &entity.from.value);
            let Some(index) = variant else { continue };
            applied.push(index);
            apply[index] = self.applied(item, fields, input, index, &record);
        }
        let deciding = match (&entity.commands, commands) {
            (Some(spec), Some(commands)) => {
                Some(self.deciding(item, entity, spec, (from, commands), &record, &applied)?)
            }
            (_, _) => None,
        };
        let rows = Rows {
            variants: vec![Variant { record, schema: Some(state.clone()), scalar: false }],
            key: input.key.clone(),
            rekeyed: false,
            windowed: None,
            nature: Nature::Table,
        };
        let entity = Entity {
            from,
            state,
            initial: initial.into_iter().map(Result::unwrap_or_default).collect(),
            history: entity.history,
            history_headers: entity.history_headers.iter().map(|header| Text::new(&header.value)).collect(),
            apply,
            deciding,
        };
        Some((NodeKind::Entity(entity), rows))
    }

    /// Checks what one type of event sets.
    fn applied(
        &self,
        item: &Item<'_>,
        fields: &Fields,
        input: &Rows,
        variant: usize,
        state: &Arc<RecordType>,
    ) -> Option<Vec<(usize, Expression)>> {
        let taking = some(&input.variants, &[variant]);
        let scope = Scope::row("event", input).with("state", Type::Record(Arc::clone(state)));
        let set = fields.iter().map(|(name, text)| {
            let Some((index, field)) = state.field(&name.value) else {
                let message = format!("the state of `{}` has no field `{}`", item.name.value, name.value);
                let help = suggestion(&name.value, state.fields().iter().map(|field| field.name.as_str()));
                self.error(codes::STATE_FIELD, name.place, message, help);
                return None;
            };
            let mut expression = self.expression_as(text, &taking, &scope, &field.field_type)?;
            Some((index, expression.get_mut(variant)?.take()?))
        });
        // Collected first, so that every field is looked at.
        let set: Vec<Option<_>> = set.collect();
        set.into_iter().collect()
    }
}
