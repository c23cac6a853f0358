//! What expressions compile to: ops over registers, with the places that they read and the errors that they keep aside.

use regex::Regex;

use crate::base::diag::Span;
use crate::base::value::Value;

use super::ast::Relation;
use super::types::Run;

/// A compiled expression. Cheap to run, safe to share between threads; each thread brings its own [`Scratch`].
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub(super) ops: Vec<Op>,
    /// Of each op, the text it came from.
    pub(super) spans: Box<[Span]>,
    pub(super) whole: Span,
    /// Operands of the ops that take any number of them.
    pub(super) operands: Vec<Operand>,
    pub(super) constants: Vec<Value>,
    pub(super) paths: Vec<PlacePath>,
    /// What each loop goes over.
    pub(super) loops: Vec<Operand>,
    pub(super) patterns: Vec<Regex>,
    /// Inner ones stand before those around them.
    pub(super) handlers: Vec<Handler>,
    pub(super) result: Operand,
    pub(super) registers: usize,
    pub(super) errors: usize,
    pub(super) lists: usize,
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Operand {
    #[default]
    Null,
    Register(u32),
    Constant(u32),
    Slot {
        root: u16,
        slot: u32,
    },
    Path(u32),
    /// A loop's item: of a list, or the value of a map's entry.
    Item(u32),
    /// The key of a map's entry in a loop.
    Key(u32),
}

/// A field inside the records of another place.
#[derive(Clone, Debug)]
pub(super) struct PlacePath {
    pub base: Operand,
    pub fields: Box<[u32]>,
}

/// Where to go on when an op in `start..end` fails, and where to keep the error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handler {
    pub start: u32,
    pub end: u32,
    pub target: u32,
    pub error: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArithmeticOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// Where a part of a text is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Start,
    End,
    Anywhere,
}

/// What of a call counts as steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charge {
    Nothing,
    /// What it goes through, and what it makes.
    Everything,
    /// What it goes through, and the pattern that it compiles.
    Pattern,
}

/// A decision that neither changes anything nor allocates.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    IntConstant {
        relation: Relation,
        left: Operand,
        constant: i64,
    },
    Int {
        relation: Relation,
        left: Operand,
        right: Operand,
    },
    DoubleConstant {
        relation: Relation,
        left: Operand,
        constant: f64,
    },
    Double {
        relation: Relation,
        left: Operand,
        right: Operand,
    },
    Text {
        relation: Relation,
        left: Operand,
        right: Operand,
    },
    /// Whether a part is in a text.
    Part {
        place: Place,
        text: Operand,
        part: Operand,
    },
    IsNull {
        of: Operand,
        expected: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Test {
        to: u32,
        test: Test,
    },
    /// `Test`, then `JumpIf` on its outcome.
    TestJump {
        to: u32,
        test: Test,
        expected: bool,
        target: u32,
    },
    /// An order of any other two types.
    Compare {
        to: u32,
        relation: Relation,
        left: Operand,
        right: Operand,
    },
    Equal {
        to: u32,
        expected: bool,
        left: Operand,
        right: Operand,
    },
    ArithmeticInt {
        to: u32,
        op: ArithmeticOp,
        left: Operand,
        right: Operand,
    },
    ArithmeticDouble {
        to: u32,
        op: ArithmeticOp,
        left: Operand,
        right: Operand,
    },
    Not {
        to: u32,
        of: Operand,
    },
    Jump {
        target: u32,
    },
    JumpIf {
        of: Operand,
        expected: bool,
        target: u32,
    },
    JumpIfPresent {
        of: Operand,
        target: u32,
    },
    Copy {
        to: u32,
        from: Operand,
    },
    SetInt {
        to: u32,
        value: i64,
    },
    Increment {
        register: u32,
    },
    /// Stands before the first item of a loop's range, and goes to its `NextItem`.
    StartLoop {
        turn: u32,
        next: u32,
    },
    /// Goes on to the next item and to `body`, if there is one. `steps` is what a turn costs.
    NextItem {
        turn: u32,
        /// Takes the index of the item, where it has a name.
        index: Option<u32>,
        steps: u32,
        body: u32,
    },
    RequirePresent {
        of: Operand,
    },
    Call1 {
        to: u32,
        run: Run,
        of: Operand,
        charge: Charge,
    },
    Call2 {
        to: u32,
        run: Run,
        left: Operand,
        right: Operand,
        charge: Charge,
    },
    Call {
        to: u32,
        run: Run,
        first: u32,
        count: u32,
        charge: Charge,
    },
    /// Counts what the next op goes through as steps.
    Charge {
        of: Operand,
    },
    Matches {
        to: u32,
        text: Operand,
        pattern: u32,
    },
    MakeList {
        to: u32,
        first: u32,
        count: u32,
    },
    /// Keys and values by turns.
    MakeMap {
        to: u32,
        first: u32,
        count: u32,
    },
    MakeRecord {
        to: u32,
        first: u32,
        count: u32,
    },
    StartList {
        list: u32,
    },
    PushItem {
        list: u32,
        from: Operand,
    },
    /// Adds the entries of a map, keys and values by turns.
    PushEntries {
        list: u32,
        from: Operand,
    },
    FinishList {
        to: u32,
        list: u32,
    },
    /// Makes a map of keys and values that were pushed by turns.
    FinishMap {
        to: u32,
        list: u32,
    },
    ForgetError {
        error: u32,
    },
    /// Fails with the error kept aside, if there is one.
    Raise {
        error: u32,
    },
}
