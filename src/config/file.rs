//! The configuration file: TOML in, values with their keys and lines out.
//!
//! It is read as a tree with positions rather than into a serde structure, for two reasons: serde
//! stops at the first problem, and what it reports carries the text of the line, which may be a
//! secret. What a key means, and whether there is such a key, the table of settings says (`table`).

use super::{
    error::{Origin, Problem},
    value::Raw,
};
use toml::de::{DeTable, DeValue};

/// The file as it was written: dotted keys, values, and where they stand.
#[derive(Default)]
pub(super) struct File {
    /// In the order of the sections.
    pub(super) entries: Vec<Entry>,
}

/// One `key = value`.
pub(super) struct Entry {
    /// Dotted: `limits.hold`.
    pub(super) key: String,
    /// Its value.
    pub(super) value: Raw,
    /// Where it stands.
    pub(super) origin: Origin,
}

impl File {
    /// Reads `text`, the content of the file `path`. What cannot be read is a problem, the rest is not lost.
    pub(super) fn parse(text: &str, path: &str, problems: &mut Vec<Problem>) -> Self {
        let (document, faults) = DeTable::parse_recoverable(text);
        let at = |offset: usize| Origin::File { path: path.to_owned(), line: line_of(text, offset) };
        for fault in &faults {
            problems.push(Problem {
                what: format!("the file is not TOML: {}", fault.message()),
                origin: Some(at(fault.span().map_or(0, |span| span.start))),
                remedy: "correct the line; text stands in double quotes, sections in square brackets".to_owned(),
            });
        }
        let mut file = Self::default();
        if faults.is_empty() {
            file.collect("", document.get_ref(), &at, problems);
        }
        file
    }

    fn collect(
        &mut self,
        prefix: &str,
        table: &DeTable<'_>,
        at: &dyn Fn(usize) -> Origin,
        problems: &mut Vec<Problem>,
    ) {
        for (name, value) in table {
            let key =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            let origin = at(name.span().start);
            match raw(value.get_ref()) {
                Some(value) => self.entries.push(Entry { key, value, origin }),
                None => match value.get_ref() {
                    DeValue::Table(inner) => self.collect(&key, inner, at, problems),
                    _ => problems.push(Problem {
                        what: format!("{key} is neither text, a whole number, true or false, nor a list of texts"),
                        origin: Some(origin),
                        remedy: "see docs/configuration.md for what it takes".to_owned(),
                    }),
                },
            }
        }
    }
}

fn raw(value: &DeValue<'_>) -> Option<Raw> {
    match value {
        DeValue::String(text) => Some(Raw::Text(text.to_string())),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(Raw::Integer),
        DeValue::Boolean(flag) => Some(Raw::Bool(*flag)),
        DeValue::Array(elements) => {
            let text = |element: &DeValue<'_>| match element {
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            };
            elements.iter().map(|element| text(element.get_ref())).collect::<Option<Vec<String>>>().map(Raw::List)
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    memchr::memchr_iter(b'\n', before).count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Vec<(String, String, usize)>, Vec<Problem>) {
        let mut problems = Vec::new();
        let file = File::parse(text, "f.toml", &mut problems);
        let mut entries: Vec<_> = file
            .entries
            .iter()
            .map(|entry| {
                let Origin::File { line, .. } = &entry.origin else { panic!("{}", entry.origin) };
                (entry.key.clone(), entry.value.shown(), *line)
            })
            .collect();
        entries.sort_by_key(|entry| entry.2);
        (entries, problems)
    }

    #[test]
    fn every_value_keeps_its_line() {
        let (entries, problems) =
            parse("listen = \"x\"\n\n[limits]\nhold = 5\n[stations]\nauto_create = true\na.b=[\"c\"]");
        let expect = [
            ("listen", "\"x\"", 1),
            ("limits.hold", "5", 4),
            ("stations.auto_create", "true", 6),
            ("stations.a.b", "[\"c\"]", 7),
        ];
        assert_eq!(problems, []);
        assert_eq!(entries, expect.map(|(key, value, line)| (key.to_owned(), value.to_owned(), line)));
    }

    #[test]
    fn a_value_of_a_kind_that_no_setting_takes_is_a_problem_and_the_rest_is_read() {
        for text in ["a = 1.5", "a = 2020-01-01", "a = [1]", "a = 99999999999999999999999", "a = [[\"x\"]]"] {
            let (entries, problems) = parse(&format!("b = 1\n{text}"));
            assert_eq!(entries.len(), 1, "{text}");
            assert_eq!(problems.len(), 1, "{text}");
            assert_eq!(problems[0].origin, Some(Origin::File { path: "f.toml".to_owned(), line: 2 }), "{text}");
        }
    }

    #[test]
    fn broken_toml_is_reported_with_its_line_and_without_its_text() {
        let (_, problems) = parse("a = 1\nroot_password = hunter2hunter2\n");
        assert!(!problems.is_empty());
        assert!(problems.iter().all(|problem| !problem.what.contains("hunter2")), "{problems:?}");
        assert_eq!(problems[0].origin, Some(Origin::File { path: "f.toml".to_owned(), line: 2 }));
    }
}
