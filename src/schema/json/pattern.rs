//! Patterns: from the syntax that senders of schemas know to that of the engine.
//!
//! JSON Schema means ECMA-262, and the original ran Go's RE2. Both take what annex B of ECMA-262 allows and the `regex`
//! crate does not: a dash that cannot be a range (`[\w-.]`), braces that are no quantifier (`{a}`), `\<` for `<`. Such
//! places are rewritten so that the engine reads them as they were meant; everything else stays as it stands. What runs
//! in linear time only if it remembers (look-around, back-references) is refused, and says where.
//!
//! Deliberately absent: letters with a meaning in one of the two only (`\A`, `[[:alpha:]]`), which stay as the engine
//! reads them.

use crate::limits::SCHEMA_JSON_PATTERN_BYTES_MAX;
use serde_json::{Map, Value};
use std::{collections::HashMap, iter::Peekable, str::CharIndices};

/// Keywords whose value is no schema, whatever it looks like.
const NO_SCHEMA: [&str; 4] = ["const", "default", "enum", "examples"];
/// Keywords whose value has schemas by name.
const BY_NAME: [&str; 5] = ["$defs", "definitions", "dependencies", "dependentSchemas", "properties"];

/// Patterns of a schema that were rewritten: what is compiled, and what was written.
pub(super) type Rewritten = HashMap<String, String>;

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    /// Byte of the pattern.
    at: usize,
    why: &'static str,
}

const LOOK_AROUND: &str = "look-around, which takes more than linear time";
const BACK_REFERENCE: &str = "a back-reference, which takes more than linear time";
const LONE_SURROGATE: &str = "half of a surrogate pair, which no text has";
const BELL: &str = r"`\a`, which is a bell in some engines and an `a` in others";

/// A pattern of a schema that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    /// Where it stands, as a JSON pointer.
    pub(super) path: String,
    /// Which one it is, where in it and why.
    pub(super) text: String,
}

impl Unusable {
    /// What stands below this name or index.
    fn below(mut self, name: impl std::fmt::Display) -> Self {
        let name = name.to_string().replace('~', "~0").replace('/', "~1");
        self.path.insert_str(0, &format!("/{name}"));
        self
    }
}

/// Rewrites the patterns of a schema where that is needed.
pub(super) fn rewrite(schema: &mut Value, rewritten: &mut Rewritten) -> Result<(), Unusable> {
    match schema {
        Value::Array(schemas) => schemas
            .iter_mut()
            .enumerate()
            .try_for_each(|(index, schema)| rewrite(schema, rewritten).map_err(|error| error.below(index))),
        Value::Object(keywords) => keywords.iter_mut().try_for_each(|(keyword, value)| {
            rewrite_keyword(keyword, value, rewritten).map_err(|error| error.below(keyword))
        }),
        _ => Ok(()),
    }
}

fn rewrite_keyword(keyword: &str, value: &mut Value, rewritten: &mut Rewritten) -> Result<(), Unusable> {
    match (keyword, value) {
        (keyword, _) if NO_SCHEMA.contains(&keyword) => Ok(()),
        ("pattern", Value::String(pattern)) => {
            if let Some(translated) = translated(pattern, rewritten)? {
                *pattern = translated;
            }
            Ok(())
        }
        ("patternProperties", Value::Object(properties)) => rewrite_names(properties, rewritten),
        (keyword, Value::Object(schemas)) if BY_NAME.contains(&keyword) => schemas
            .iter_mut()
            .try_for_each(|(name, schema)| rewrite(schema, rewritten).map_err(|error| error.below(name))),
        (_, value) => rewrite(value, rewritten),
    }
}

/// Rewrites the patterns that stand as names.
fn rewrite_names(properties: &mut Map<String, Value>, rewritten: &mut Rewritten) -> Result<(), Unusable> {
    for (pattern, mut schema) in std::mem::take(properties) {
        rewrite(&mut schema, rewritten).map_err(|error| error.below(&pattern))?;
        let name = translated(&pattern, rewritten)?.unwrap_or(pattern);
        // Two that mean the same both hold.
        let schema = match properties.remove(&name) {
            Some(other) => Value::from(Map::from_iter([("allOf".to_owned(), Value::Array(vec![other, schema]))])),
            None => schema,
        };
        properties.insert(name, schema);
    }
    Ok(())
}

fn translated(pattern: &str, rewritten: &mut Rewritten) -> Result<Option<String>, Unusable> {
    let translated = translate(pattern)
        .map_err(|Refused { at, why }| Unusable { path: String::new(), text: refusal(pattern, why, Some(at)) })?;
    if translated == pattern {
        return Ok(None);
    }
    rewritten.insert(translated.clone(), pattern.to_owned());
    Ok(Some(translated))
}

/// Says why the engine does not take a pattern, in its own words.
pub(super) fn reason(pattern: &str, rewritten: &Rewritten) -> String {
    let written = rewritten.get(pattern).map_or(pattern, String::as_str);
    let (why, at) = match regex_syntax::Parser::new().parse(pattern) {
        Err(regex_syntax::Error::Parse(error)) => (error.kind().to_string(), Some(error.span().start.offset)),
        Err(regex_syntax::Error::Translate(error)) => (error.kind().to_string(), Some(error.span().start.offset)),
        _ => (format!("it takes more than {SCHEMA_JSON_PATTERN_BYTES_MAX} bytes when it is compiled"), None),
    };
    // A place is one of what was compiled: it is said where that is what was written.
    refusal(written, &why, at.filter(|_| written == pattern))
}

/// What is said of a pattern that cannot be used: which one, where in it, why.
fn refusal(pattern: &str, why: &str, at: Option<usize>) -> String {
    let shown = Value::from(pattern);
    let number = |at: usize| pattern.char_indices().take_while(|(index, _)| *index < at).count() + 1;
    let place = at.map_or_else(String::new, |at| format!(" at character {}", number(at)));
    format!("{shown} is not a pattern of the linear-time engine:{place} {why}")
}

/// Returns the pattern as the engine has to read it.
fn translate(pattern: &str) -> Result<String, Refused> {
    let mut translator = Translator { chars: pattern.char_indices().peekable(), pattern, out: String::new() };
    translator.run()?;
    Ok(translator.out)
}

struct Translator<'a> {
    pattern: &'a str,
    chars: Peekable<CharIndices<'a>>,
    out: String,
}

/// A part of a character class.
enum Atom {
    /// One character, which a range may begin or end with.
    Char(char),
    /// Several: a range has no such end.
    Set(String),
}

impl Translator<'_> {
    fn run(&mut self) -> Result<(), Refused> {
        while let Some((at, char)) = self.chars.next() {
            match char {
                '\\' => self.escape(at)?,
                '[' => self.class(at)?,
                '(' => {
                    let rest = self.rest(at);
                    if ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|begin| rest.starts_with(begin)) {
                        return Err(Refused { at, why: LOOK_AROUND });
                    }
                    self.out.push('(');
                }
                '{' => self.brace(at),
                ']' | '}' => self.literal(char),
                other => self.out.push(other),
            }
        }
        Ok(())
    }

    fn rest(&self, at: usize) -> &str {
        self.pattern.get(at..).unwrap_or_default()
    }

    /// Appends a character that means itself.
    fn literal(&mut self, char: char) {
        if regex_syntax::is_meta_character(char) {
            self.out.push('\\');
        }
        self.out.push(char);
    }

    /// A brace: a quantifier if it is written as one, else itself.
    fn brace(&mut self, at: usize) {
        // No further than a quantifier goes: a pattern of braces alone would be read once for each of them.
        let rest = self.rest(at + 1);
        let end = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b',').count();
        let inner = rest.get(..end).filter(|_| rest.as_bytes().get(end) == Some(&b'}'));
        let is_count = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_quantifier = |inner: &str| match inner.split_once(',') {
            Some((least, most)) => is_count(least) && (most.is_empty() || is_count(most)),
            None => is_count(inner),
        };
        match inner.filter(|inner| is_quantifier(inner)).map(str::len) {
            Some(bytes) => {
                let quantifier = self.pattern.get(at..at + bytes + 2).unwrap_or_default().to_owned();
                self.out.push_str(&quantifier);
                self.skip(bytes + 1);
            }
            None => self.literal('{'),
        }
    }

    /// Passes over characters of one byte each.
    fn skip(&mut self, count: usize) {
        self.chars.by_ref().take(count).for_each(drop);
    }

    /// An escape outside a character class.
    fn escape(&mut self, at: usize) -> Result<(), Refused> {
        let Some((_, char)) = self.chars.next() else {
            self.out.push('\\');
            return Ok(());
        };
        match char {
            '1'..='9' => return Err(Refused { at, why: BACK_REFERENCE }),
            'k' if self.rest(at).starts_with("\\k<") => return Err(Refused { at, why: BACK_REFERENCE }),
            'a' => return Err(Refused { at, why: BELL }),
            _ => {}
        }
        if let Some(char) = self.character(at, char)? {
            self.literal(char);
        } else {
            let whole = self.escaped(char);
            self.out.push_str(&whole);
        }
        Ok(())
    }

    /// Returns an escape for the engine to read, with its braces if it has some.
    fn escaped(&mut self, char: char) -> String {
        let mut whole = format!("\\{char}");
        if matches!(char, 'p' | 'P' | 'u' | 'x') && self.chars.peek().is_some_and(|(_, next)| *next == '{') {
            for (_, char) in self.chars.by_ref() {
                whole.push(char);
                if char == '}' {
                    break;
                }
            }
        }
        whole
    }

    /// Returns the one character that an escape means; `None`: it is for the engine to read.
    fn character(&mut self, at: usize, char: char) -> Result<Option<char>, Refused> {
        Ok(match char {
            '0' if !self.rest(at + 2).starts_with(|next: char| next.is_ascii_digit()) => Some('\0'),
            'c' => {
                let letter = self.rest(at + 2).bytes().next().filter(u8::is_ascii_alphabetic);
                self.skip(usize::from(letter.is_some()));
                letter.map(|letter| char::from(letter % 32))
            }
            'x' => self.hex(at + 2, 2).and_then(char::from_u32),
            'u' if self.rest(at).starts_with("\\u{") => None,
            'u' => match self.hex(at + 2, 4) {
                None => None,
                Some(high @ 0xD800..=0xDBFF) => {
                    let pair = self.rest(at + 6).starts_with("\\u");
                    self.skip(if pair { 2 } else { 0 });
                    let low = if pair { self.hex(at + 8, 4) } else { None };
                    let low = low.filter(|low| (0xDC00..=0xDFFF).contains(low));
                    let whole = low.and_then(|low| char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00)));
                    Some(whole.ok_or(Refused { at, why: LONE_SURROGATE })?)
                }
                Some(other) => Some(char::from_u32(other).ok_or(Refused { at, why: LONE_SURROGATE })?),
            },
            other if other.is_ascii_alphanumeric() => None,
            other => Some(other),
        })
    }

    /// Reads hexadecimal digits, if all of them are there.
    fn hex(&mut self, from: usize, digits: usize) -> Option<u32> {
        let text = self.pattern.get(from..from + digits)?;
        let value = text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(text, 16).ok())?;
        self.skip(digits);
        value
    }

    /// A character class.
    fn class(&mut self, at: usize) -> Result<(), Refused> {
        let negated = self.chars.next_if(|(_, char)| *char == '^').is_some();
        let from = at + 1 + usize::from(negated);
        // ECMA-262 has classes of nothing and, negated, of everything; RE2 reads the bracket as the first of the class.
        if self.rest(from).starts_with(']') && !self.rest(from + 1).contains(']') {
            self.skip(1);
            self.out.push_str(if negated { r"[\x{0}-\x{10FFFF}]" } else { r"[^\x{0}-\x{10FFFF}]" });
            return Ok(());
        }
        self.out.push_str(if negated { "[^" } else { "[" });
        let mut is_first = true;
        while let Some((at, char)) = self.chars.next() {
            if char == ']' && !is_first {
                self.out.push(']');
                return Ok(());
            }
            is_first = false;
            let begin = self.atom(at, char)?;
            let next = self.chars.peek().copied();
            let after = next.filter(|(_, next)| *next == '-').and_then(|(dash, _)| self.rest(dash + 1).chars().next());
            let Some(after) = after.filter(|after| *after != ']') else {
                self.push_atom(&begin);
                continue;
            };
            self.skip(1);
            let Some((at, _)) = self.chars.next() else { continue };
            let end = self.atom(at, after)?;
            self.push_atom(&begin);
            // Only between two characters is a dash a range.
            let is_range = matches!((&begin, &end), (Atom::Char(_), Atom::Char(_)));
            self.out.push_str(if is_range { "-" } else { r"\-" });
            self.push_atom(&end);
        }
        // Without an end: the engine says so.
        Ok(())
    }

    fn atom(&mut self, at: usize, char: char) -> Result<Atom, Refused> {
        if char != '\\' {
            return Ok(Atom::Char(char));
        }
        let Some((_, char)) = self.chars.next() else { return Ok(Atom::Set("\\".to_owned())) };
        let control = match char {
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            _ => None,
        };
        if let Some(char) = control {
            return Ok(Atom::Char(char));
        }
        if let Some(char) = self.character(at, char)? {
            return Ok(Atom::Char(char));
        }
        Ok(Atom::Set(self.escaped(char)))
    }

    fn push_atom(&mut self, atom: &Atom) {
        match atom {
            Atom::Char(char) => self.push_char(*char),
            Atom::Set(set) => self.out.push_str(set),
        }
    }

    /// Appends a character of a class.
    fn push_char(&mut self, char: char) {
        if regex_syntax::is_meta_character(char)
            && !matches!(char, '.' | '*' | '+' | '?' | '(' | ')' | '|' | '{' | '}' | '$' | '#')
        {
            self.out.push('\\');
        }
        self.out.push(char);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_annex_b_allows_is_written_as_the_engine_reads_it() {
        for (pattern, expect) in [
            (r"^a+\.b$", r"^a+\.b$"),
            (r"^[a-z0-9]{2,}(x|y){3}$", r"^[a-z0-9]{2,}(x|y){3}$"),
            (r"^[\w-.]+$", r"^[\w\-.]+$"),
            (r"[.-\w]", r"[.\-\w]"),
            (r"[\w--z]", r"[\w\-\-z]"),
            (r"[a-]", r"[a\-]"),
            (r"[-a]", r"[\-a]"),
            (r"[^-a]", r"[^\-a]"),
            (r"[a-c-e]", r"[a-c\-e]"),
            (r"[[a&&b~~]", r"[\[a\&\&b\~\~]"),
            (r"[]a]", r"[\]a]"),
            (r"[^]", r"[\x{0}-\x{10FFFF}]"),
            (r"[]", r"[^\x{0}-\x{10FFFF}]"),
            (r"[\b]", "[\u{8}]"),
            (r"[\[\]\/\-]", r"[\[\]/\-]"),
            (r"{a}", r"\{a\}"),
            (r"a{", r"a\{"),
            (r"a{,5}", r"a\{,5\}"),
            (r"a{1, 2}", r"a\{1, 2\}"),
            (r"a{1,2}?", r"a{1,2}?"),
            (r"x}y]", r"x\}y\]"),
            (r"\<a\>", "<a>"),
            (r"\/\-\_\@\ \é", r"/\-_@ é"),
            (r"\u0041\u00e9\uD83D\uDE00", "Aé\u{1F600}"),
            (r"\u{1F600}[\u{1F600}]", r"\u{1F600}[\u{1F600}]"),
            (r"\x41\cJ\0", "A\n\0"),
            (r"\p{L}\P{Lu}[\p{L}-]", r"\p{L}\P{Lu}[\p{L}\-]"),
            (r"(?<year>\d{4})(?:a)", r"(?<year>\d{4})(?:a)"),
        ] {
            assert_eq!(translate(pattern), Ok(expect.to_owned()), "{pattern}");
            assert!(regex_syntax::Parser::new().parse(expect).is_ok(), "{expect} is read");
        }
    }

    #[test]
    fn what_takes_more_than_linear_time_is_refused_at_its_place() {
        for (pattern, at, why) in [
            ("ab(?=c)", 2, LOOK_AROUND),
            ("(?!c)", 0, LOOK_AROUND),
            ("é(?<=c)", 2, LOOK_AROUND),
            ("(?<!c)", 0, LOOK_AROUND),
            (r"(a)\1", 3, BACK_REFERENCE),
            (r"(?<n>a)\k<n>", 7, BACK_REFERENCE),
            (r"a\uD800", 1, LONE_SURROGATE),
            (r"[\uDC00]", 1, LONE_SURROGATE),
            (r"\a", 0, BELL),
        ] {
            assert_eq!(translate(pattern), Err(Refused { at, why }), "{pattern}");
        }
    }

    #[test]
    fn patterns_are_rewritten_where_a_schema_has_them_and_nowhere_else() {
        let mut schema = json!({
            "properties": {"pattern": {"pattern": "{"}, "const": {"pattern": "}"}},
            "patternProperties": {"[\\w-.]": {"minimum": 1}, "[\\w\\-.]": {"pattern": "\\<"}, "a": true},
            "const": {"pattern": "{"}, "enum": [{"patternProperties": {"{": 1}}], "default": {"pattern": "{"},
            "items": [{"pattern": "a"}],
        });
        let mut rewritten = Rewritten::new();
        assert_eq!(rewrite(&mut schema, &mut rewritten), Ok(()));
        let expect = json!({
            "properties": {"pattern": {"pattern": "\\{"}, "const": {"pattern": "\\}"}},
            "patternProperties": {"[\\w\\-.]": {"allOf": [{"minimum": 1}, {"pattern": "<"}]}, "a": true},
            "const": {"pattern": "{"}, "enum": [{"patternProperties": {"{": 1}}], "default": {"pattern": "{"},
            "items": [{"pattern": "a"}],
        });
        assert_eq!(schema, expect);
        assert_eq!(rewritten.get("[\\w\\-.]").map(String::as_str), Some("[\\w-.]"));
        let mut schema = json!({"items": [{"properties": {"a/b": {"pattern": "x(?=a)"}}}]});
        let unusable = rewrite(&mut schema, &mut rewritten).expect_err("look-around");
        assert_eq!(unusable.path, "/items/0/properties/a~1b/pattern");
        assert_eq!(
            unusable.text,
            format!("\"x(?=a)\" is not a pattern of the linear-time engine: at character 2 {LOOK_AROUND}")
        );
    }
}
