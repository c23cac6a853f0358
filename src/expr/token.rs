//! CEL text cut into tokens, with escapes decoded. Spans are byte offsets and always fall on character boundaries.

use crate::base::diag::{Diagnostic, Span};
use crate::error::codes;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    /// Keywords included; the parser tells them apart.
    Ident(String),
    /// A field's name in backticks, which need not be an identifier.
    Escaped(String),
    /// Without a sign: the parser applies it, so that the smallest `int` can be written.
    Int(u64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    Symbol(&'static str),
    End,
}

const SYMBOLS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}",
];

/// Cuts the text; the last token is always `End`.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Box<Diagnostic>> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let done = token.kind == TokenKind::End;
        tokens.push(token);
        if done {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

/// How a quoted literal is to be read.
#[derive(Clone, Copy, Default)]
struct Quoted {
    raw: bool,
    bytes: bool,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn next(&mut self) -> Result<Token, Box<Diagnostic>> {
        self.skip_space();
        let start = self.at;
        let kind = match self.rest().chars().next() {
            None => TokenKind::End,
            Some(first) if first.is_ascii_digit() => self.number()?,
            Some('.') if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            Some('"' | '\'') => self.quoted(Quoted::default(), start)?,
            Some('`') => self.escaped_name(start)?,
            Some(first) if first == '_' || first.is_ascii_alphabetic() => self.word()?,
            Some(other) => match SYMBOLS.iter().find(|symbol| self.rest().starts_with(**symbol)) {
                Some(symbol) => {
                    self.at += symbol.len();
                    TokenKind::Symbol(symbol)
                }
                None => {
                    let span = Span::new(start, start + other.len_utf8());
                    return Err(unreadable(span, other));
                }
            },
        };
        Ok(Token { kind, span: Span::new(start, self.at) })
    }

    fn skip_space(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn word(&mut self) -> Result<TokenKind, Box<Diagnostic>> {
        let start = self.at;
        let rest = self.rest();
        let length = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        self.at += length;
        if after.starts_with(['"', '\'']) {
            let prefix = word.to_ascii_lowercase();
            if matches!(prefix.as_str(), "r" | "b" | "br" | "rb") {
                return self.quoted(Quoted { raw: prefix.contains('r'), bytes: prefix.contains('b') }, start);
            }
        }
        Ok(TokenKind::Ident(word.to_owned()))
    }

    fn escaped_name(&mut self, start: usize) -> Result<TokenKind, Box<Diagnostic>> {
        self.at += 1;
        let name = self.take_while(|c| matches!(c, '_' | '-' | '.' | '/' | ' ') || c.is_ascii_alphanumeric());
        if name.is_empty() || !self.rest().starts_with('`') {
            let problem =
                Diagnostic::error(codes::EXPRESSION_SYNTAX, Span::new(start, self.at), "this name is not closed")
                    .help("a name in backticks has letters, digits, `_`, `-`, `.`, `/` and spaces");
            return Err(Box::new(problem));
        }
        self.at += 1;
        Ok(TokenKind::Escaped(name.to_owned()))
    }

    fn take_while(&mut self, accept: fn(&char) -> bool) -> &'t str {
        let rest = self.rest();
        let length = rest.find(|c: char| !accept(&c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn number(&mut self) -> Result<TokenKind, Box<Diagnostic>> {
        let start = self.at;
        let hexadecimal = self.rest().starts_with("0x") || self.rest().starts_with("0X");
        let (digits, radix) = if hexadecimal {
            self.at += 2;
            (self.take_while(char::is_ascii_hexdigit), 16)
        } else {
            (self.take_while(char::is_ascii_digit), 10)
        };
        if !hexadecimal && self.fraction_or_exponent() {
            self.end_of_number(start)?;
            let written = &self.text[start..self.at];
            let number: f64 = written.parse().map_err(|_| malformed(Span::new(start, self.at), written))?;
            if number.is_infinite() {
                return Err(out_of_range(Span::new(start, self.at), written, "double"));
            }
            return Ok(TokenKind::Double(number));
        }
        let end = self.at;
        let unsigned = self.rest().starts_with(['u', 'U']);
        self.at += usize::from(unsigned);
        self.end_of_number(start)?;
        let written = &self.text[start..self.at];
        if digits.is_empty() {
            return Err(malformed(Span::new(start, end), written));
        }
        let number = u64::from_str_radix(digits, radix)
            .map_err(|_| out_of_range(Span::new(start, self.at), written, if unsigned { "uint" } else { "int" }))?;
        Ok(if unsigned { TokenKind::Uint(number) } else { TokenKind::Int(number) })
    }

    /// Reads `.5`, `e10`, `.5e-10` if they stand here. A dot without a digit after it is a selection.
    fn fraction_or_exponent(&mut self) -> bool {
        let before = self.at;
        let rest = self.rest();
        if rest.starts_with('.') && rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
            self.at += 1;
            self.take_while(char::is_ascii_digit);
        }
        if let Some(exponent) = self.rest().strip_prefix(['e', 'E']) {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.starts_with(|c: char| c.is_ascii_digit()) {
                self.at += 1 + (exponent.len() - digits.len());
                self.take_while(char::is_ascii_digit);
            }
        }
        self.at != before
    }

    fn end_of_number(&mut self, start: usize) -> Result<(), Box<Diagnostic>> {
        let tail = self.take_while(|c| *c == '_' || c.is_ascii_alphanumeric());
        if tail.is_empty() {
            return Ok(());
        }
        Err(malformed(Span::new(start, self.at), &self.text[start..self.at]))
    }

    /// Reads a literal from its opening quote on; `start` is where the token, prefix included, begins.
    fn quoted(&mut self, how: Quoted, start: usize) -> Result<TokenKind, Box<Diagnostic>> {
        let rest = self.rest();
        let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| rest.starts_with(quote)).unwrap_or("\"");
        self.at += quote.len();
        let mut content = Vec::new();
        loop {
            let rest = self.rest();
            if rest.starts_with(quote) {
                self.at += quote.len();
                break;
            }
            match rest.chars().next() {
                None => return Err(unclosed(Span::new(start, self.at), quote)),
                Some('\n' | '\r') if quote.len() == 1 => return Err(unclosed(Span::new(start, self.at), quote)),
                Some('\\') if !how.raw => self.escape(how.bytes, &mut content)?,
                Some(plain) => {
                    self.at += plain.len_utf8();
                    content.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
        if how.bytes {
            return Ok(TokenKind::Bytes(content));
        }
        Ok(TokenKind::String(String::from_utf8(content).expect("only whole characters were pushed")))
    }

    fn escape(&mut self, bytes: bool, content: &mut Vec<u8>) -> Result<(), Box<Diagnostic>> {
        let start = self.at;
        let letter = self.rest()[1..].chars().next();
        let plain = match letter {
            Some('a') => 0x07,
            Some('b') => 0x08,
            Some('f') => 0x0c,
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('v') => 0x0b,
            Some(itself @ ('\\' | '?' | '"' | '\'' | '`')) => itself as u8,
            Some('x' | 'X') => return self.numeric_escape(bytes, 2, 2, 16, content),
            Some('u') if !bytes => return self.numeric_escape(bytes, 2, 4, 16, content),
            Some('U') if !bytes => return self.numeric_escape(bytes, 2, 8, 16, content),
            Some('0'..='3') => return self.numeric_escape(bytes, 1, 3, 8, content),
            Some(_) | None => {
                let end = start + 1 + letter.map_or(0, char::len_utf8);
                return Err(bad_escape(Span::new(start, end), &self.text[start..end]));
            }
        };
        self.at += 2;
        content.push(plain);
        Ok(())
    }

    /// Reads `count` digits that stand `skip` bytes after the backslash: a byte in bytes, a code point in text.
    fn numeric_escape(
        &mut self,
        bytes: bool,
        skip: usize,
        count: usize,
        radix: u32,
        content: &mut Vec<u8>,
    ) -> Result<(), Box<Diagnostic>> {
        let start = self.at;
        let digits: String =
            self.rest()[skip..].chars().take(count).take_while(|digit| digit.is_digit(radix)).collect();
        let end = start + skip + digits.len();
        let wrong = || bad_escape(Span::new(start, end), &self.text[start..end]);
        if digits.len() != count {
            return Err(wrong());
        }
        let number = u32::from_str_radix(&digits, radix).map_err(|_| wrong())?;
        if bytes {
            content.push(u8::try_from(number).map_err(|_| wrong())?);
        } else {
            let character = char::from_u32(number).ok_or_else(wrong)?;
            content.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        self.at = end;
        Ok(())
    }
}

fn unreadable(span: Span, found: char) -> Box<Diagnostic> {
    let help = match found {
        '=' => "equality is written `==`",
        '&' => "the logical and is written `&&`",
        '|' => "the logical or is written `||`",
        '\u{201c}' | '\u{201d}' | '\u{2018}' | '\u{2019}' => "text stands in straight quotes: `\"` or `'`",
        _ => "names are letters, digits and `_`; text stands in quotes",
    };
    let message = format!("`{found}` means nothing here");
    Box::new(Diagnostic::error(codes::EXPRESSION_SYNTAX, span, message).help(help))
}

fn unclosed(span: Span, quote: &str) -> Box<Diagnostic> {
    let diagnostic = Diagnostic::error(codes::EXPRESSION_SYNTAX, span, "this text is not closed")
        .help(format!("close it with `{quote}`; text over several lines stands in `\"\"\"` or `'''`"));
    Box::new(diagnostic)
}

fn bad_escape(span: Span, written: &str) -> Box<Diagnostic> {
    let diagnostic = Diagnostic::error(codes::EXPRESSION_SYNTAX, span, format!("`{written}` is not an escape"))
        .help("write a backslash as `\\\\`, or the whole text as `r\"…\"`, where backslashes are plain");
    Box::new(diagnostic)
}

fn malformed(span: Span, written: &str) -> Box<Diagnostic> {
    let diagnostic = Diagnostic::error(codes::EXPRESSION_SYNTAX, span, format!("`{written}` is not a number"))
        .help("numbers are written like `15`, `15u`, `0x0f`, `1.5` or `1.5e3`");
    Box::new(diagnostic)
}

pub(super) fn out_of_range(span: Span, written: &str, wanted: &str) -> Box<Diagnostic> {
    let range = match wanted {
        "uint" => "a uint is from 0 to 18446744073709551615",
        "double" => "a double reaches to about 1.8e308",
        _ => "an int is from -9223372036854775808 to 9223372036854775807",
    };
    let message = format!("`{written}` is out of range for {wanted}");
    Box::new(Diagnostic::error(codes::LITERAL_INVALID, span, message).help(range))
}
