//! Tokens to syntax tree, by recursive descent over CEL's grammar. Stops at the first mistake.
//!
//! Invariant: neither the parser's recursion nor the tree is deeper than `limits::EXPRESSION_DEPTH_MAX`, so that whoever walks
//! the tree may recurse.

use crate::base::diag::{Diagnostic, Span};
use crate::base::value::Value;
use crate::error::codes;
use crate::limits::{EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX};

use super::ast::{Access, Ast, AstKind, BinaryOp, LogicOp, Name, Relation, UnaryOp};
use super::token::{Token, TokenKind, out_of_range, tokens};

/// Words that CEL keeps for itself.
const RESERVED: [&str; 18] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "package",
    "return",
    "var",
    "void",
    "while",
];

/// Reads an expression. Spans are byte offsets in `text`. The tree is missing when there is an error.
pub fn parse(text: &str) -> (Option<Ast>, Vec<Diagnostic>) {
    match parse_text(text) {
        Ok(ast) => (Some(ast), Vec::new()),
        Err(problem) => (None, vec![*problem]),
    }
}

type Parsed<T> = Result<T, Box<Diagnostic>>;

fn parse_text(text: &str) -> Parsed<Ast> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let message = format!("the expression is {} bytes long; the limit is {EXPRESSION_BYTES_MAX}", text.len());
        let whole = Span::new(0, text.len());
        let problem = Diagnostic::error(codes::EXPRESSION_TOO_LARGE, whole, message)
            .help("compute parts of it in a stream's `select` before this one");
        return Err(Box::new(problem));
    }
    let mut parser = Parser { text, tokens: tokens(text)?, at: 0, depth: 0 };
    let ast = parser.expression()?;
    if parser.peek().kind == TokenKind::End { Ok(ast) } else { Err(parser.unexpected("an operator or the end")) }
}

struct Parser<'t> {
    text: &'t str,
    /// Never empty; the last is `End`.
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    /// Where the last token that was read ends.
    fn end(&self) -> usize {
        self.tokens[self.at.saturating_sub(1)].span.end
    }

    fn at_symbol(&self, symbol: &str) -> bool {
        matches!(&self.peek().kind, TokenKind::Symbol(found) if *found == symbol)
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = self.at_symbol(symbol);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Parsed<()> {
        if self.eat(symbol) { Ok(()) } else { Err(self.unexpected(&format!("`{symbol}`"))) }
    }

    fn unexpected(&self, wanted: &str) -> Box<Diagnostic> {
        let token = self.peek();
        let found = match token.kind {
            TokenKind::End => "the end".to_owned(),
            TokenKind::Ident(_)
            | TokenKind::Escaped(_)
            | TokenKind::Int(_)
            | TokenKind::Uint(_)
            | TokenKind::Double(_)
            | TokenKind::String(_)
            | TokenKind::Bytes(_)
            | TokenKind::Symbol(_) => format!("`{}`", &self.text[token.span.start..token.span.end]),
        };
        let message = format!("expected {wanted}, found {found}");
        let problem = Diagnostic::error(codes::EXPRESSION_SYNTAX, token.span, message);
        Box::new(if self.at_symbol("{") {
            problem.help("records are not built in expressions: give each field of `select` its own expression")
        } else {
            problem
        })
    }

    fn node(&self, kind: AstKind, span: Span) -> Parsed<Ast> {
        let ast = Ast::new(kind, span);
        if ast.depth > EXPRESSION_DEPTH_MAX { Err(too_deep(span)) } else { Ok(ast) }
    }

    fn expression(&mut self) -> Parsed<Ast> {
        self.depth += 1;
        if self.depth > EXPRESSION_DEPTH_MAX {
            return Err(too_deep(self.peek().span));
        }
        let condition = self.logic(LogicOp::Or)?;
        let ast = if self.eat("?") {
            let selects = self.at_symbol(".");
            let then = self.logic(LogicOp::Or)?;
            self.expect(":").map_err(|problem| {
                let help = "an optional field is selected by `.?`: `value.?aircraft`";
                if selects { Box::new(problem.help(help)) } else { problem }
            })?;
            let otherwise = self.expression()?;
            let span = Span::new(condition.span.start, otherwise.span.end);
            let kind = AstKind::Conditional {
                condition: Box::new(condition),
                then: Box::new(then),
                otherwise: Box::new(otherwise),
            };
            self.node(kind, span)?
        } else {
            condition
        };
        self.depth -= 1;
        Ok(ast)
    }

    fn logic(&mut self, op: LogicOp) -> Parsed<Ast> {
        let first = self.logic_operand(op)?;
        if !self.at_symbol(op.symbol()) {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.eat(op.symbol()) {
            operands.push(self.logic_operand(op)?);
        }
        let span = Span::new(operands[0].span.start, self.end());
        self.node(AstKind::Logic { op, operands }, span)
    }

    fn logic_operand(&mut self, op: LogicOp) -> Parsed<Ast> {
        match op {
            LogicOp::Or => self.logic(LogicOp::And),
            LogicOp::And => self.binary(0),
        }
    }

    /// Reads the operators of one level: relations, then additions, then multiplications; each groups to the left.
    fn binary(&mut self, level: usize) -> Parsed<Ast> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        loop {
            let found = match &self.peek().kind {
                TokenKind::Symbol(symbol) => operators.iter().find(|op| op.symbol() == *symbol),
                TokenKind::Ident(word) => operators.iter().find(|op| op.symbol() == word),
                TokenKind::Escaped(_)
                | TokenKind::Int(_)
                | TokenKind::Uint(_)
                | TokenKind::Double(_)
                | TokenKind::String(_)
                | TokenKind::Bytes(_)
                | TokenKind::End => None,
            };
            let Some(op) = found.copied() else { return Ok(left) };
            self.next();
            let right = self.binary(level + 1)?;
            let span = Span::new(left.span.start, right.span.end);
            left = self.node(AstKind::Binary { op, left: Box::new(left), right: Box::new(right) }, span)?;
        }
    }

    fn unary(&mut self) -> Parsed<Ast> {
        let mut starts = Vec::new();
        let op = if self.at_symbol("!") { UnaryOp::Not } else { UnaryOp::Negate };
        let symbol = if op == UnaryOp::Not { "!" } else { "-" };
        while self.at_symbol(symbol) {
            starts.push(self.next().span.start);
        }
        let mut ast = match (op, &self.peek().kind, starts.last().copied()) {
            (UnaryOp::Negate, TokenKind::Int(_) | TokenKind::Double(_), Some(start)) => {
                starts.pop();
                let number = self.number(Some(start))?;
                self.members(number)?
            }
            _ => self.member()?,
        };
        while let Some(start) = starts.pop() {
            let span = Span::new(start, ast.span.end);
            ast = self.node(AstKind::Unary { op, operand: Box::new(ast) }, span)?;
        }
        Ok(ast)
    }

    fn member(&mut self) -> Parsed<Ast> {
        let primary = self.primary()?;
        self.members(primary)
    }

    fn members(&mut self, mut ast: Ast) -> Parsed<Ast> {
        loop {
            let start = ast.span.start;
            let kind = if self.eat(".") {
                let access = if self.eat("?") { Access::Optional } else { Access::Required };
                let escaped = matches!(self.peek().kind, TokenKind::Escaped(_));
                let field = self.name("a field or function name")?;
                if access == Access::Required && !escaped && self.eat("(") {
                    let args = self.args()?;
                    AstKind::Call { target: Some(Box::new(ast)), function: field, args }
                } else {
                    AstKind::Select { base: Box::new(ast), field, access }
                }
            } else if self.eat("[") {
                let access = if self.eat("?") { Access::Optional } else { Access::Required };
                let index = Box::new(self.expression()?);
                self.expect("]")?;
                AstKind::Index { base: Box::new(ast), index, access }
            } else {
                return Ok(ast);
            };
            ast = self.node(kind, Span::new(start, self.end()))?;
        }
    }

    /// Reads a name; keywords may name fields, as in CEL.
    fn name(&mut self, wanted: &str) -> Parsed<Name> {
        let span = self.peek().span;
        match self.peek().kind.clone() {
            TokenKind::Ident(text) | TokenKind::Escaped(text) => {
                self.next();
                Ok(Name { text, span })
            }
            TokenKind::Int(_)
            | TokenKind::Uint(_)
            | TokenKind::Double(_)
            | TokenKind::String(_)
            | TokenKind::Bytes(_)
            | TokenKind::Symbol(_)
            | TokenKind::End => Err(self.unexpected(wanted)),
        }
    }

    fn primary(&mut self) -> Parsed<Ast> {
        let span = self.peek().span;
        match self.peek().kind.clone() {
            TokenKind::Int(_) | TokenKind::Uint(_) | TokenKind::Double(_) => self.number(None),
            TokenKind::String(text) => {
                self.next();
                self.node(AstKind::Literal(Value::text(text)), span)
            }
            TokenKind::Bytes(bytes) => {
                self.next();
                self.node(AstKind::Literal(Value::Bytes(bytes.into())), span)
            }
            TokenKind::Ident(word) => self.word(word, span),
            TokenKind::Symbol(".") => {
                self.next();
                let name = self.identifier()?;
                self.named(name, span.start, AstKind::Root)
            }
            TokenKind::Symbol("(") => {
                self.next();
                let mut inner = self.expression()?;
                self.expect(")")?;
                inner.span = Span::new(span.start, self.end());
                Ok(inner)
            }
            TokenKind::Symbol("[") => {
                self.next();
                let items = self.list("]", |parser| Ok((parser.optional_mark(), parser.expression()?)))?;
                self.node(AstKind::List(items), Span::new(span.start, self.end()))
            }
            TokenKind::Symbol("{") => {
                self.next();
                let entries = self.list("}", |parser| {
                    let access = parser.optional_mark();
                    let key = parser.expression()?;
                    parser.expect(":")?;
                    Ok((access, key, parser.expression()?))
                })?;
                self.node(AstKind::Map(entries), Span::new(span.start, self.end()))
            }
            TokenKind::Escaped(_) | TokenKind::Symbol(_) | TokenKind::End => Err(self.unexpected("an expression")),
        }
    }

    /// Reads the `?` in front of an item or an entry that may be absent.
    fn optional_mark(&mut self) -> Access {
        if self.eat("?") { Access::Optional } else { Access::Required }
    }

    fn word(&mut self, word: String, span: Span) -> Parsed<Ast> {
        let literal = match word.as_str() {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            "null" => Some(Value::Null),
            _ => None,
        };
        if let Some(value) = literal {
            self.next();
            return self.node(AstKind::Literal(value), span);
        }
        let name = self.identifier()?;
        self.named(name, span.start, AstKind::Ident)
    }

    /// Reads a name that is no word of the language's own.
    fn identifier(&mut self) -> Parsed<Name> {
        match &self.peek().kind {
            TokenKind::Ident(word) if !RESERVED.contains(&word.as_str()) => self.name("a name"),
            TokenKind::Ident(_)
            | TokenKind::Escaped(_)
            | TokenKind::Int(_)
            | TokenKind::Uint(_)
            | TokenKind::Double(_)
            | TokenKind::String(_)
            | TokenKind::Bytes(_)
            | TokenKind::Symbol(_)
            | TokenKind::End => Err(self.unexpected("an expression")),
        }
    }

    fn named(&mut self, name: Name, start: usize, plain: fn(String) -> AstKind) -> Parsed<Ast> {
        if !self.eat("(") {
            return self.node(plain(name.text), Span::new(start, name.span.end));
        }
        let args = self.args()?;
        self.node(AstKind::Call { target: None, function: name, args }, Span::new(start, self.end()))
    }

    /// Reads a number; `minus` is where its minus sign stands.
    fn number(&mut self, minus: Option<usize>) -> Parsed<Ast> {
        let token = self.next();
        let span = Span::new(minus.unwrap_or(token.span.start), token.span.end);
        let value = match (token.kind, minus) {
            (TokenKind::Int(number), None) => i64::try_from(number).ok().map(Value::Int),
            (TokenKind::Int(number), Some(_)) => 0_i64.checked_sub_unsigned(number).map(Value::Int),
            (TokenKind::Double(number), None) => Some(Value::Double(number)),
            (TokenKind::Double(number), Some(_)) => Some(Value::Double(-number)),
            (TokenKind::Uint(number), _) => Some(Value::Uint(number)),
            (TokenKind::Ident(_) | TokenKind::Escaped(_) | TokenKind::String(_) | TokenKind::Bytes(_), _)
            | (TokenKind::Symbol(_) | TokenKind::End, _) => None,
        };
        let value = value.ok_or_else(|| out_of_range(span, &self.text[span.start..span.end], "int"))?;
        self.node(AstKind::Literal(value), span)
    }

    fn args(&mut self) -> Parsed<Vec<Ast>> {
        self.list(")", Self::expression)
    }

    /// Reads items up to `close`; a comma may end them.
    fn list<T>(&mut self, close: &str, item: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while !self.eat(close) {
            items.push(item(self)?);
            if self.eat(",") {
                continue;
            }
            if !self.at_symbol(close) {
                return Err(self.unexpected(&format!("`,` or `{close}`")));
            }
        }
        Ok(items)
    }
}

const LEVELS: [&[BinaryOp]; 3] = [
    &[
        BinaryOp::Compare(Relation::Equal),
        BinaryOp::Compare(Relation::NotEqual),
        BinaryOp::Compare(Relation::LessOrEqual),
        BinaryOp::Compare(Relation::GreaterOrEqual),
        BinaryOp::Compare(Relation::Less),
        BinaryOp::Compare(Relation::Greater),
        BinaryOp::In,
    ],
    &[BinaryOp::Add, BinaryOp::Subtract],
    &[BinaryOp::Multiply, BinaryOp::Divide, BinaryOp::Remainder],
];

fn too_deep(span: Span) -> Box<Diagnostic> {
    let message = format!("the expression is nested more than {EXPRESSION_DEPTH_MAX} levels deep");
    let problem = Diagnostic::error(codes::EXPRESSION_TOO_LARGE, span, message)
        .help("compute parts of it in a stream's `select` before this one");
    Box::new(problem)
}
