//! Every bound in one place, unit last. Each says what happens when it is met.

/// Nesting of an expression; deeper is refused at `check`.
pub const EXPRESSION_DEPTH_MAX: usize = 64;

/// Bytes of one expression's text; longer is refused at `check`.
pub const EXPRESSION_BYTES_MAX: usize = 16 * 1024;

/// Nesting of a decoded datum (records, lists, maps); a record nested deeper is a decode error.
pub const DATUM_DEPTH_MAX: usize = 64;

/// Nesting of a schema's types, references followed; a schema nested deeper does not parse.
pub const SCHEMA_DEPTH_MAX: usize = 200;

/// Items without bytes (nulls, empty records) in one datum's lists; with more, a decode error. A few bytes could ask for
/// 2^63 of them.
pub const EMPTY_ITEMS_MAX: usize = 1024;

/// Bytes of an application id and of a node's name; longer is refused at `check`. Kafka allows 249 for a topic, and internal
/// topics are `<application id>-<node>_history-repartition` at the longest.
pub const TOPOLOGY_NAME_BYTES_MAX: usize = 100;
/// Text or bytes that one operation of an expression builds; longer is an evaluation error.
pub const EXPRESSION_TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A compiled pattern of `matches`; larger is refused at `check`, or an evaluation error when the pattern is not literal.
pub const EXPRESSION_REGEX_BYTES_MAX: usize = 1024 * 1024;
