//! Commands that come over HTTP: found in the plan, written to their entity's topic, answered from the entity's own memory of answers,
//! so that an answer is committed when it is given.

use std::time::Duration;

use crate::avro::Schema;
use crate::base::diag::suggestion;
use crate::base::ids::{Offset, TaskId, Topic, TopicPartition};
use crate::base::types::{is_called, short_name};
use crate::entity::{COMMAND_ID_HEADER, EXPECTED_VERSION_HEADER};
use crate::error::{Kind, codes};
use crate::plan::{NodeKind, Payload, Plan};
use crate::runtime::key_text::key_of_text;
use crate::runtime::query::partition_of_key;
use crate::runtime::service::{NewCommand, Read, ReadError, ReadKind};
use crate::runtime::shared::Shared;

/// A command that its entity takes, ready to be written.
#[derive(Debug)]
pub(super) struct Taken<'p> {
    pub(super) task: TaskId,
    pub(super) place: TopicPartition,
    pub(super) key: Vec<u8>,
    pub(super) schema: &'p Schema,
    /// None where commands are JSON.
    pub(super) subject: Option<&'p str>,
    pub(super) headers: Vec<(String, String)>,
}

/// Finds the entity, its command and the task that has the key.
pub(super) fn taken<'p>(shared: &'p Shared, command: &NewCommand) -> Result<Taken<'p>, ReadError> {
    let plan: &Plan = &shared.plan;
    let entities = || {
        plan.sub_topologies.iter().enumerate().flat_map(|(index, sub)| {
            sub.nodes.iter().filter_map(move |node| {
                let NodeKind::Entity(entity) = &node.kind else { return None };
                Some((index, sub, node.name.as_str(), &**entity))
            })
        })
    };
    let Some((index, sub, _, entity)) = entities().find(|(_, _, name, _)| *name == command.entity) else {
        let help = suggestion(&command.entity, entities().map(|(_, _, name, _)| name));
        let detail = format!("there is no entity `{}`; {help}", command.entity);
        return Err(ReadError::NotFound { code: codes::READ_UNKNOWN_STORE, detail });
    };
    let Some(deciding) = &entity.deciding else {
        let detail = format!("entity `{}` takes no commands", command.entity);
        return Err(ReadError::NotFound { code: codes::NO_SUCH_COMMAND, detail });
    };
    let names = || deciding.commands.iter().map(|known| known.schema.full_name().unwrap_or_default());
    let named = |name: &str| is_called(name, &command.command);
    let Some(found) = names().position(named).and_then(|at| deciding.commands.get(at)) else {
        let help = suggestion(&command.command, names().map(short_name));
        let detail = format!("entity `{}` takes no command `{}`; {help}", command.entity, command.command);
        return Err(ReadError::NotFound { code: codes::NO_SUCH_COMMAND, detail });
    };
    let source = &sub.sources[usize::from(deciding.commands_source.0)];
    let key = key_of_text(&command.key, &source.key)?;
    let partition = partition_of_key(&key, shared.cluster.tasks_of(index));
    let mut headers = vec![(COMMAND_ID_HEADER.to_owned(), command.id.clone())];
    if let Some(version) = command.expected_version {
        headers.push((EXPECTED_VERSION_HEADER.to_owned(), version.to_string()));
    }
    headers.extend(command.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    Ok(Taken {
        task: shared.task_id(index, partition),
        place: TopicPartition { topic: source.topic.clone(), partition },
        key,
        schema: &found.schema,
        subject: (!matches!(source.payload, Payload::Json { .. })).then_some(&found.subject),
        headers,
    })
}

/// The read that gives the answer, once the command is in.
pub(super) fn answer_to(command: &NewCommand, place: &TopicPartition, offset: Offset) -> Read {
    let what = ReadKind::Answer { entity: command.entity.clone(), key: command.key.clone(), id: command.id.clone() };
    Read { wait_for: vec![(place.clone(), offset)], ..Read::of(what) }
}

/// Says of a command that is written why it has no answer.
pub(super) fn unanswered(error: ReadError, command: &NewCommand, place: &TopicPartition, offset: Offset) -> ReadError {
    let stands = format!("the command stands in `{}`, partition {}, at offset {offset}", place.topic, place.partition);
    match error {
        ReadError::NotFound { code, .. } if code == codes::READ_UNKNOWN_KEY => ReadError::Failed {
            code: codes::COMMAND_FAILED,
            detail: format!("{stands}, and could not be decided: it went where `on_error` says"),
            kind: Kind::Record,
        },
        ReadError::Unavailable { detail, .. } => ReadError::Unavailable {
            code: codes::COMMAND_PENDING,
            detail: format!("{stands}; {detail}; ask again with `Command-Id: {}`", command.id),
        },
        other @ (ReadError::NotFound { .. } | ReadError::Invalid { .. } | ReadError::Failed { .. }) => other,
    }
}

/// How long writing the command may take of the time that the whole may take.
pub(super) fn write_wait(wait: Duration) -> Duration {
    wait.max(Duration::from_secs(1))
}

/// Says of a command that nothing was written, since nobody could be asked for its answer.
pub(super) fn not_written(error: ReadError, topic: &Topic) -> ReadError {
    match error {
        ReadError::Unavailable { code, detail } => {
            ReadError::Unavailable { code, detail: format!("{detail}; nothing was written to `{topic}`") }
        }
        other @ (ReadError::NotFound { .. } | ReadError::Invalid { .. } | ReadError::Failed { .. }) => other,
    }
}
