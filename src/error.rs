//! What kinds of failure there are, and the codes that users meet. Each code has a page in `docs/errors/`, built in for `explain`.

use std::fmt;

/// What the caller should do about a failure; the runtime looks at nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The user's settings or topology are wrong: stop with the page's help.
    Config,
    /// It may pass: back off and try again.
    Retry,
    /// Another instance owns this now: close, rejoin, go on from what is committed.
    Fenced,
    /// Bytes at rest are not what was written: set aside, restore.
    Corrupt,
    /// One record cannot be worked on: its node's `on_error` decides.
    Record,
    /// tidemill is wrong: stop, keep the state.
    Bug,
}

/// A code that a user can look up: `E0107`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub &'static str);

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code($code);)*
        /// Every code with its page, in order.
        pub const PAGES: &[(Code, &str)] = &[$((Code($code), include_str!(concat!("../docs/errors/", $code, ".md")))),*];
    };
}

/// The codes by name. A number is never used again once it was released.
pub mod codes {
    use super::Code;

    // E01xx topology files · E02xx expressions · E03xx schemas · E04xx plan · E05xx settings, HTTP and commands · E06xx broker
    // E07xx registry · E08xx state · E09xx running · E10xx records
    codes! {
        /// A file is not TOML.
        TOML_SYNTAX = "E0101";
        /// A table or key that the language does not have.
        TOML_UNKNOWN_KEY = "E0102";
        /// A key holds another type of value than it takes.
        TOML_TYPE = "E0103";
        /// A table lacks a key that it must have.
        TOML_MISSING_KEY = "E0104";
        /// A name is taken.
        DUPLICATE_NAME = "E0105";
        /// A node is named that is not there.
        UNKNOWN_NODE = "E0106";
        /// Nodes feed each other in a circle.
        CYCLE = "E0107";
        /// Keys that exclude each other.
        TOML_CONFLICT = "E0108";
        /// A value that the key does not take.
        TOML_VALUE = "E0109";
        /// A part of the language that this version does not run.
        NOT_YET_SUPPORTED = "E0110";
        /// A schema file is not found.
        SCHEMA_MISSING = "E0111";
        /// A schema is not a record.
        SCHEMA_NOT_A_RECORD = "E0112";
        /// An event type that the stream does not have.
        UNKNOWN_EVENT_TYPE = "E0113";
        /// An expression gives a type that its place does not take.
        EXPRESSION_WRONG_TYPE = "E0114";
        /// An aggregate's field is not one call of an aggregate function.
        AGGREGATE_MISUSE = "E0115";
        /// A window that is not whole, or windowed rows where there can be none.
        WINDOW_MISUSE = "E0116";
        /// The sides of a join do not go together.
        JOIN_SIDES = "E0117";
        /// What a sink gets is not what its schema says.
        SINK_SCHEMA = "E0118";
        /// A node that nobody reads.
        UNUSED_NODE = "E0119";
        /// An entity's state has a field without a value to start from.
        STATE_WITHOUT_START = "E0120";
        /// Two nodes read one topic.
        TOPIC_READ_TWICE = "E0121";
        /// A name that topics, folders or Avro could not bear.
        NAME_NOT_ALLOWED = "E0122";
        /// Rows of different shapes where there must be one.
        SHAPES_DIFFER = "E0123";
        /// A topology's folder cannot be read.
        TOPOLOGY_UNREADABLE = "E0124";
        /// An event sets a field that the state does not have.
        STATE_FIELD = "E0125";
        /// A command that its entity does not have.
        UNKNOWN_COMMAND = "E0130";
        /// A command that nothing decides.
        COMMAND_UNDECIDED = "E0131";
        /// An event is given fields that it has not, or lacks some.
        EVENT_FIELDS = "E0132";
        /// An entity gives an event that it does not apply.
        EVENT_NOT_APPLIED = "E0133";
        /// An entity that decides has no topic of its own.
        DECIDING_SOURCE = "E0134";
        /// A global table where its rows are taken, or its letters would be written.
        GLOBAL_TABLE_MISUSE = "E0136";
        /// An expression is not CEL.
        EXPRESSION_SYNTAX = "E0201";
        /// An expression names what is not there.
        EXPRESSION_UNKNOWN_NAME = "E0202";
        /// A record or another value has no such field.
        EXPRESSION_UNKNOWN_FIELD = "E0203";
        /// A value's type is not the one that is wanted.
        EXPRESSION_TYPE = "E0204";
        /// A function that is not there.
        EXPRESSION_UNKNOWN_FUNCTION = "E0205";
        /// A function does not take these arguments.
        EXPRESSION_ARGUMENTS = "E0206";
        /// A value that may be null where null is not taken.
        EXPRESSION_MAY_BE_NULL = "E0207";
        /// Text that is none of an enum's symbols.
        EXPRESSION_UNKNOWN_SYMBOL = "E0208";
        /// A literal that is out of range or malformed.
        LITERAL_INVALID = "E0209";
        /// An expression that is too long or too deep.
        EXPRESSION_TOO_LARGE = "E0210";
        /// An expression whose macros may take too many steps.
        EXPRESSION_TOO_COSTLY = "E0211";
        /// A schema does not parse, or says something that cannot be.
        SCHEMA_SYNTAX = "E0301";
        /// A reader's schema cannot take a writer's data.
        SCHEMA_INCOMPATIBLE = "E0302";
        /// A value or its JSON does not fit its schema.
        VALUE_NOT_IN_SCHEMA = "E0303";
        /// Bytes are not a datum of their schema.
        DATUM_UNREADABLE = "E0304";
        /// A name that tidemill makes is taken.
        INTERNAL_NAME_TAKEN = "E0401";
        /// A topology with more parts than a plan can number.
        TOPOLOGY_TOO_LARGE = "E0402";
        /// A setting's name is unknown.
        SETTING_UNKNOWN = "E0501";
        /// A setting's value has the wrong type or is out of bounds.
        SETTING_VALUE = "E0502";
        /// The settings file is not TOML.
        SETTINGS_SYNTAX = "E0503";
        /// The settings file cannot be read.
        SETTINGS_UNREADABLE = "E0504";
        /// A secret cannot be read, or stands in the open.
        SECRET_UNREADABLE = "E0505";
        /// The admin listener would be open to others without a token.
        ADMIN_OPEN = "E0506";
        /// A librdkafka property that tidemill decides itself.
        PROPERTY_OURS = "E0507";
        /// A setting that this version does not serve.
        SETTING_NOT_SERVED = "E0508";
        /// `run` without a broker.
        BROKER_NOT_SET = "E0509";
        /// An address to listen on is taken or not ours.
        LISTEN_FAILED = "E0520";
        /// No such path.
        PATH_UNKNOWN = "E0521";
        /// The path does not take that method.
        METHOD_NOT_ALLOWED = "E0522";
        /// A part of the URL's query or path is wrong.
        REQUEST_PARAMETER = "E0523";
        /// A POST's body is not what it should be.
        REQUEST_BODY = "E0524";
        /// A POST's body is too large.
        REQUEST_TOO_LARGE = "E0525";
        /// The admin listener's token is missing or wrong.
        TOKEN_REFUSED = "E0526";
        /// Too many requests at once.
        TOO_BUSY = "E0527";
        /// A POST's body is of another media type.
        MEDIA_TYPE = "E0528";
        /// Answering failed for a reason that is ours.
        ANSWER_FAILED = "E0529";
        /// No daemon answers at the URL.
        DAEMON_UNREACHABLE = "E0530";
        /// A topic that is read is not there, or one of our own may not be created.
        TOPIC_MISSING = "E0601";
        /// The next offset of an input is not in its topic.
        OFFSET_OUT_OF_RANGE = "E0602";
        /// There is no committed offset, and the settings say that this is an error.
        OFFSET_MISSING = "E0603";
        /// A history kept for ever stands on a topic that forgets.
        HISTORY_ON_FORGETTING_TOPIC = "E0604";
        /// A topic has other partitions or another policy than the topology needs.
        TOPIC_MISMATCH = "E0605";
        /// The broker does not answer.
        BROKER_UNAVAILABLE = "E0606";
        /// A source topic was deleted, or deleted and made anew.
        SOURCE_REPLACED = "E0607";
        /// A source topic has another number of partitions than its application was begun with.
        SOURCE_REPARTITIONED = "E0608";
        /// The broker has no transactions.
        NO_TRANSACTIONS = "E0610";
        /// A topic takes no records of ours.
        WRITE_REFUSED = "E0611";
        /// A topology breaks readers of what running instances write.
        SHAPE_BREAKS_READERS = "E0613";
        /// Instances of another topology process.
        SHAPE_WAITS = "E0614";
        /// The registry does not answer.
        REGISTRY_UNAVAILABLE = "E0701";
        /// The registry takes a schema for no version of its subject.
        SCHEMA_REFUSED = "E0702";
        /// State was written by a newer version.
        STATE_NEWER_FORMAT = "E0801";
        /// A state folder belongs to another application.
        STATE_OTHER_APPLICATION = "E0802";
        /// Another process has the state folder open.
        STATE_LOCKED = "E0803";
        /// State at rest is damaged.
        STATE_CORRUPT = "E0804";
        /// The state folder cannot be read or written.
        STATE_IO = "E0805";
        /// Stored rows cannot be read with the row schema of today.
        ROW_UNREADABLE = "E0806";
        /// A row does not fit its store's schema.
        ROW_INVALID = "E0807";
        /// A row is larger than its changelog takes.
        ROW_TOO_LARGE = "E0808";
        /// State cannot be read here and now.
        READ_UNAVAILABLE = "E0901";
        /// A read names a store or an entity that is not there.
        READ_UNKNOWN_STORE = "E0902";
        /// A key that is not there, or was not there then.
        READ_UNKNOWN_KEY = "E0903";
        /// A key, an event or a cursor that cannot be understood.
        READ_INVALID = "E0904";
        /// An entity's past, of which none is kept.
        READ_NO_HISTORY = "E0905";
        /// State is on another instance, and it is not known which.
        OWNER_UNKNOWN = "E0906";
        /// State is on another instance, which does not answer.
        OWNER_UNREACHABLE = "E0907";
        /// A task that this instance does not have.
        TASK_UNKNOWN = "E0911";
        /// A dead letter that is not there, or is settled.
        DEAD_LETTER_UNKNOWN = "E0912";
        /// An entity that takes no commands, or not this one.
        NO_SUCH_COMMAND = "E0920";
        /// A command was made for another version of its entity.
        WRONG_VERSION = "E0921";
        /// A command was refused by a rule of its entity.
        COMMAND_REFUSED = "E0922";
        /// A command could not be decided.
        COMMAND_FAILED = "E0923";
        /// The answer to a command has not come in time.
        COMMAND_PENDING = "E0924";
        /// A record without the key that a node works by.
        RECORD_WITHOUT_KEY = "E1001";
        /// A record dated too far ahead of the clock.
        RECORD_IN_FUTURE = "E1002";
        /// A record is larger than the topic it is to be written to takes.
        RECORD_TOO_LARGE = "E1003";
        /// An aggregate that keeps single values has as many as it may for one key.
        TOO_MANY_VALUES = "E1004";
        /// A list has more elements than one row may become rows.
        TOO_MANY_ELEMENTS = "E1005";
        /// What a `suppress` may hold is full, and the topology says to stop.
        SUPPRESS_FULL = "E1006";
        /// A record of a topic of CloudEvents is none.
        NO_CLOUD_EVENT = "E1007";
        /// A header of a command is not what it must be.
        COMMAND_HEADER = "E1010";
    }
}

/// Returns the page of a code, `E0201` or `e0201`.
pub fn page(code: &str) -> Option<&'static str> {
    codes::PAGES.iter().find(|(known, _)| known.0.eq_ignore_ascii_case(code)).map(|(_, page)| *page)
}

/// Returns the code of this text, where there is one.
pub fn code(text: &str) -> Option<Code> {
    codes::PAGES.iter().map(|(known, _)| *known).find(|known| known.0.eq_ignore_ascii_case(text))
}

/// Returns the first line of a code's page without the code: `an expression is not CEL`.
pub fn title(code: &str) -> Option<&'static str> {
    let heading = page(code)?.lines().next()?.trim_start_matches('#').trim();
    Some(heading.split_once(": ").map_or(heading, |(_, title)| title))
}
