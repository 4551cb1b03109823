//! GraphQL: a record is an executable document, held against a GraphQL schema.
//!
//! The compiler's parser is told how many tokens it may read and how deep they may nest; the rules of validation, some
//! of which cost the square of what they look at, therefore never see more than [`limits::GRAPHQL_TOKENS_MAX`] allow.
//! What it finds is told in the words of the reference implementation, with line and column.

use super::{CompileError, Violation, bounds, violation::FAULTS_MAX};
use crate::limits;
use apollo_compiler::{
    Schema,
    parser::Parser,
    validation::{DiagnosticList, Valid},
};

/// What the original said of a record that is not GraphQL.
const NOT_GRAPHQL: &str = "invalid message format, expecting GraphQL";

/// A compiled schema.
#[derive(Debug)]
pub struct GraphqlSchema {
    schema: Valid<Schema>,
}

impl GraphqlSchema {
    /// Compiles a schema in the schema definition language.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        bounds::schema_text(text.len(), text)?;
        let mut parser = Parser::new().recursion_limit(limits::FORMAT_SCHEMA_DEPTH_MAX);
        let parsed = parser.parse_schema(text, "schema").map_err(|found| found.errors);
        let schema = parsed.and_then(|schema| schema.validate().map_err(|found| found.errors));
        match schema {
            Ok(schema) => Ok(Self { schema }),
            Err(errors) => Err(refusal(&errors)),
        }
    }

    /// Holds a record against the schema.
    pub fn check(&self, record: &[u8]) -> Result<(), Violation> {
        bounds::record_bytes(record, limits::GRAPHQL_BYTES_MAX)?;
        let text = str::from_utf8(record)
            .map_err(|fault| Violation::one("", format!("{NOT_GRAPHQL}: no UTF-8 at byte {}", fault.valid_up_to())))?;
        let mut parser =
            Parser::new().recursion_limit(limits::GRAPHQL_DEPTH_MAX).token_limit(limits::GRAPHQL_TOKENS_MAX);
        // Syntax first, and alone: what the parser made of a broken document is not worth a word.
        let document = parser.parse_ast(text, "record").map_err(|found| violation(&found.errors, NOT_GRAPHQL))?;
        if document.definitions.is_empty() {
            return Err(Violation::one("", format!("{NOT_GRAPHQL}: the document is empty")));
        }
        document
            .to_executable_validate(&self.schema)
            .map(drop)
            .map_err(|found| violation(&found.errors, "graphql"))
    }
}

/// What is wrong with a record: each fault by itself, in the order of the text.
fn violation(errors: &DiagnosticList, prefix: &str) -> Violation {
    let mut violation = Violation { faults: Vec::new(), more: 0 };
    for (text, place) in told(errors) {
        violation.add(String::new(), format!("{prefix}: {text}{place}"));
    }
    if violation.faults.is_empty() {
        return Violation::one("", prefix);
    }
    violation
}

/// Why a schema does not compile: a line for each fault.
fn refusal(errors: &DiagnosticList) -> CompileError {
    let lines: Vec<String> = told(errors).take(FAULTS_MAX).map(|(text, place)| format!("{text}{place}")).collect();
    bounds::compiler_says(lines.join("\n"))
}

/// Text and place of each fault, in the words of the reference implementation where the compiler knows them.
fn told(errors: &DiagnosticList) -> impl Iterator<Item = (String, String)> {
    errors.iter().map(|found| {
        let text = found.error.unstable_compat_message().unwrap_or_else(|| found.error.to_string());
        let start = found.line_column_range().map(|range| range.start);
        let place = start.map(|at| format!(" (line {}, column {})", at.line, at.column)).unwrap_or_default();
        (text, place)
    })
}
