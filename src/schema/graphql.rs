//! GraphQL: a record is an executable document, validated by a GraphQL schema.
//!
//! The compiler's parser is told how many tokens it may read and how deep they may nest; the rules of validation, some
//! of which cost the square of what they look at, therefore never see more than [`limits::GRAPHQL_TOKENS_MAX`] allow.
//! What it finds is told in the words of the reference implementation, with line and column.
//!
//! A record may also be JSON: a string, which is the document, so that a batch can hold several; or an object as every
//! GraphQL client posts it (GraphQL over HTTP, section 5.4), of which the `query` is the document, and whose
//! `variables` must be those that its operation declares. What is stored is the record as it came.

use super::{CompileError, Violation, bounds};
use crate::limits::{self, VIOLATION_FAULTS_MAX};
use apollo_compiler::{
    ExecutableDocument, Schema,
    ast::{Definition, Document},
    parser::Parser,
    request::coerce_variable_values,
    response::JsonMap,
    validation::{DiagnosticList, Valid},
};
use serde::Deserialize;
use std::borrow::Cow;

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
        // Of broken syntax the first fault alone: what the parser says after that are mostly consequences.
        let document = parser.parse_ast(text, "schema").map_err(|found| refusal(&found.errors, 1))?;
        let schema = document.to_schema_validate().map_err(|found| refusal(&found.errors, VIOLATION_FAULTS_MAX))?;
        Ok(Self { schema })
    }

    /// Holds a record against the schema.
    pub fn check(&self, record: &[u8]) -> Result<(), Violation> {
        bounds::record_bytes(record, limits::GRAPHQL_BYTES_MAX)?;
        let text = str::from_utf8(record)
            .map_err(|fault| Violation::one("", format!("{NOT_GRAPHQL}: no UTF-8 at byte {}", fault.valid_up_to())))?;
        match Record::of(text)? {
            Record::Document(text) => self.document(&text).map(drop),
            Record::Request(request) => {
                let document = self.document(&request.query)?;
                self.variables(&document, &request)
            }
        }
    }

    fn document(&self, text: &str) -> Result<Valid<ExecutableDocument>, Violation> {
        let mut parser =
            Parser::new().recursion_limit(limits::GRAPHQL_DEPTH_MAX).token_limit(limits::GRAPHQL_TOKENS_MAX);
        let document = parser.parse_ast(text, "record").map_err(|found| not_graphql(&found.errors))?;
        few_definitions(&document)?;
        document.to_executable_validate(&self.schema).map_err(|found| violation(&found.errors))
    }

    /// Validates the variables of a request against what its operation declares.
    fn variables(&self, document: &Valid<ExecutableDocument>, request: &Request<'_>) -> Result<(), Violation> {
        let name = request.operation_name.as_deref();
        let told = |text: &str| Violation::one("", format!("graphql: {text}"));
        let operation = document.operations.get(name).map_err(|_| {
            told(&match name {
                Some(name) => format!("Unknown operation named {}.", bounds::quoted(name)),
                None => "Must provide operation name if query contains multiple operations.".to_owned(),
            })
        })?;
        let none = JsonMap::new();
        let values = request.variables.as_ref().unwrap_or(&none);
        coerce_variable_values(&self.schema, operation, values)
            .map(drop)
            .map_err(|error| told(&error.message().to_string()))
    }
}

/// A request as GraphQL clients post it. Other members, such as `extensions`, say nothing of the document.
#[derive(Debug, Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    query: Cow<'a, str>,
    #[serde(rename = "operationName", borrow, default)]
    operation_name: Option<Cow<'a, str>>,
    #[serde(default)]
    variables: Option<JsonMap>,
}

/// What a record is.
enum Record<'a> {
    Document(Cow<'a, str>),
    Request(Request<'a>),
}

impl<'a> Record<'a> {
    fn of(text: &'a str) -> Result<Self, Violation> {
        let begin = text.trim_start();
        // No document begins so.
        if begin.strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with('"')) {
            let request = serde_json::from_str(text);
            return request.map(Self::Request).map_err(|fault| {
                Violation::one("", format!("{NOT_GRAPHQL}: the JSON is no GraphQL request: {fault}"))
            });
        }
        // A document may begin with a description, but is no JSON then.
        let quoted = if begin.starts_with('"') { serde_json::from_str(text).ok() } else { None };
        Ok(Self::Document(quoted.map_or(Cow::Borrowed(text), Cow::Owned)))
    }
}

/// Where the syntax is broken first: what the parser says after that are mostly consequences.
fn not_graphql(errors: &DiagnosticList) -> Violation {
    let first = told(errors).next().map(|fault| format!(": {fault}")).unwrap_or_default();
    Violation::one("", format!("{NOT_GRAPHQL}{first}"))
}

/// Refuses documents of more operations or fragments than are validated in bounded time.
fn few_definitions(document: &Document) -> Result<(), Violation> {
    let count = |of: fn(&Definition) -> bool| document.definitions.iter().filter(|one| of(one)).count();
    let operations = count(|one| matches!(one, Definition::OperationDefinition(_)));
    let fragments = count(|one| matches!(one, Definition::FragmentDefinition(_)));
    for (what, count, most) in [
        ("operations", operations, limits::GRAPHQL_OPERATIONS_MAX),
        ("fragments", fragments, limits::GRAPHQL_FRAGMENTS_MAX),
    ] {
        if count > most {
            return Err(Violation::one(
                "",
                format!("graphql: the document has {count} {what}; at most {most} are allowed"),
            ));
        }
    }
    Ok(())
}

/// What is wrong with a record: each fault by itself, in the order of the text.
fn violation(errors: &DiagnosticList) -> Violation {
    let mut violation = Violation { faults: Vec::new(), more: errors.len().saturating_sub(VIOLATION_FAULTS_MAX) };
    for fault in told(errors).take(VIOLATION_FAULTS_MAX) {
        violation.add(String::new(), format!("graphql: {fault}"));
    }
    violation
}

/// Why a schema does not compile: a line for each of the first `most` faults.
fn refusal(errors: &DiagnosticList, most: usize) -> CompileError {
    let lines: Vec<String> = told(errors).take(most).collect();
    bounds::compiler_says(lines.join("\n"))
}

/// Each fault with its place, in the words of the reference implementation where the compiler knows them.
fn told(errors: &DiagnosticList) -> impl Iterator<Item = String> {
    errors.iter().map(|found| {
        let text = found.error.unstable_compat_message().unwrap_or_else(|| found.error.to_string());
        // The compiler prints values over several lines.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = text.strip_prefix("syntax error: ").unwrap_or(&text);
        match found.line_column_range() {
            Some(range) => format!("{text} (line {}, column {})", range.start.line, range.start.column),
            None => text.to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = r"
        type Query { order(id: ID!): Order, orders(first: Int): [Order!]!, node: Node, hello: String }
        type Mutation { place(input: NewOrder!): Order }
        interface Node { id: ID! }
        type Order implements Node { id: ID!, total: Float, state: State, parent: Order, lines(kind: String): [Line] }
        type Line { sku: String, pieces: Int }
        enum State { OPEN PAID }
        input NewOrder { sku: String!, pieces: Int = 1 }
    ";

    fn check(schema: &GraphqlSchema, record: &str) -> String {
        schema.check(record.as_bytes()).map_or_else(|violation| violation.to_string(), |()| String::new())
    }

    /// Documents, and what is wrong with each; nothing if nothing is.
    const DOCUMENTS: &[(&str, &str)] = &[
        ("{ hello }", ""),
        ("query Q($id: ID!) { order(id: $id) { id total state lines { sku } } }", ""),
        ("mutation { place(input: {sku: \"a\"}) { id } }", ""),
        ("query { node { ... on Order { total } ...F } } fragment F on Node { id }", ""),
        ("{ __typename __schema { types { name } } }", ""),
        ("query { nope }", "graphql: Cannot query field \"nope\" on type \"Query\". (line 1, column 9)"),
        (
            "{ nope\n  also }",
            "graphql: Cannot query field \"nope\" on type \"Query\". (line 1, column 3); \
             graphql: Cannot query field \"also\" on type \"Query\". (line 2, column 3)",
        ),
        (
            "{ order { id } }",
            "graphql: Field \"order\" argument \"id\" of type \"ID!\" is required, but it was not provided. (line 1, column 3)",
        ),
        (
            "{ order(id: 1, x: 2) { id } }",
            "graphql: Unknown argument \"x\" on field \"Query.order\". (line 1, column 16)",
        ),
        (
            "{ order(id: 1) }",
            "graphql: Field \"order\" of type \"Query\" must have a selection of subfields. Did you mean \"order { ... }\"? (line 1, column 3)",
        ),
        (
            "{ hello { a } }",
            "graphql: Field \"hello\" must not have a selection since type \"String\" has no subfields (line 1, column 3)",
        ),
        ("{ orders(first: \"a\") { id } }", "graphql: Int cannot represent value: \"a\" (line 1, column 17)"),
        (
            "{ orders(first: 3000000000) { id } }",
            "graphql: Int cannot represent non 32-bit signed integer value: 3000000000 (line 1, column 17)",
        ),
        ("query($a: Int) { hello }", "graphql: Variable \"$a\" is never used. (line 1, column 7)"),
        ("{ orders(first: $a) { id } }", "graphql: Variable \"$a\" is not defined. (line 1, column 17)"),
        ("{ ...F }", "graphql: Unknown fragment \"F\". (line 1, column 3)"),
        ("{ hello } fragment F on Order { id }", "graphql: Fragment \"F\" is never used. (line 1, column 11)"),
        (
            "{ ...F } fragment F on Query { ...F }",
            "graphql: Cannot spread fragment \"F\" within itself via \"F\" (line 1, column 10)",
        ),
        (
            "mutation { place(input: {pieces: 1}) { id } }",
            "graphql: Field \"NewOrder.sku\" of required type \"String!\" was not provided. (line 1, column 25)",
        ),
        ("subscription { a }", "graphql: The schema has no \"subscription\" root type defined (line 1, column 1)"),
        (
            "{ hello } query A { hello }",
            "graphql: This anonymous operation must be the only defined operation. (line 1, column 1)",
        ),
        (
            "{ a: hello a: node { id } }",
            "graphql: Fields \"a\" conflict because they return conflicting types \"String and \"Node\". Use different aliases on the fields to fetch both if this was intentional. (line 1, column 12); graphql: Fields \"a\" conflict because \"hello\" and \"node\" are different fields. Use different aliases on the fields to fetch both if this was intentional. (line 1, column 12)",
        ),
        ("{ hello @nope }", "graphql: Unknown directive \"@nope\". (line 1, column 9)"),
        ("type A { b: Int }", "graphql: The \"A\" definition is not executable. (line 1, column 1)"),
    ];

    #[test]
    fn documents_are_valid_or_told_why_not() {
        let schema = GraphqlSchema::compile(SHOP).unwrap();
        for (record, fault) in DOCUMENTS {
            assert_eq!(check(&schema, record), *fault, "{record}");
        }
    }

    #[test]
    fn what_is_no_graphql_is_told_so() {
        let schema = GraphqlSchema::compile(SHOP).unwrap();
        let cases = [
            ("zzz", "invalid message format, expecting GraphQL: expected definition (line 1, column 1)"),
            (
                "{",
                "invalid message format, expecting GraphQL: expected at least one Selection in Selection Set (line 1, column 2)",
            ),
            ("", "invalid message format, expecting GraphQL: Unexpected <EOF>. (line 1, column 1)"),
            ("# nothing", "invalid message format, expecting GraphQL: Unexpected <EOF>. (line 1, column 10)"),
            (
                "{ hello(a: \"",
                "invalid message format, expecting GraphQL: unexpected end of data while lexing string value (line 1, column 12)",
            ),
            (
                "{ hello } }",
                "invalid message format, expecting GraphQL: expected a StringValue, Name or OperationDefinition (line 1, column 11)",
            ),
        ];
        let said = cases.map(|(record, _)| (record, check(&schema, record)));
        assert_eq!(said, cases.map(|(record, text)| (record, text.to_owned())));
        let said = schema.check(b"{ \xff }").unwrap_err().to_string();
        assert_eq!(said, "invalid message format, expecting GraphQL: no UTF-8 at byte 2");
    }

    /// GraphQL over HTTP, section 5.4.
    #[test]
    fn a_request_in_json_is_its_query_and_its_variables() {
        let schema = GraphqlSchema::compile(SHOP).unwrap();
        let place = r#""query":"mutation P($i: NewOrder!) { place(input: $i) { id } }""#;
        for (record, fault) in [
            (r#"{"query":"{ hello }"}"#.to_owned(), ""),
            (
                r#" { "query" : "{ hello }", "variables": null, "operationName": null, "extensions": {"a": 1} } "#
                    .to_owned(),
                "",
            ),
            (r#""{ hello }""#.to_owned(), ""),
            (r#""query A { hello } query B { hello }""#.to_owned(), ""),
            (r#"{"query":"query A { hello } query B { hello }","operationName":"B"}"#.to_owned(), ""),
            (format!(r#"{{{place},"variables":{{"i":{{"sku":"a","pieces":2}}}}}}"#), ""),
            (
                r#"{"query":"{ nope }"}"#.to_owned(),
                "graphql: Cannot query field \"nope\" on type \"Query\". (line 1, column 3)",
            ),
            (r#""{ nope }""#.to_owned(), "graphql: Cannot query field \"nope\" on type \"Query\". (line 1, column 3)"),
            (
                r#"{"query":"query A { hello } query B { hello }"}"#.to_owned(),
                "graphql: Must provide operation name if query contains multiple operations.",
            ),
            (r#"{"query":"{ hello }","operationName":"C"}"#.to_owned(), "graphql: Unknown operation named \"C\"."),
            (
                r#"{"variables":{}}"#.to_owned(),
                "invalid message format, expecting GraphQL: the JSON is no GraphQL request: missing field `query` at line 1 column 16",
            ),
        ] {
            assert_eq!(check(&schema, &record), fault, "{record}");
        }
        for variables in
            ["{}", r#"{"i":{"pieces":2}}"#, r#"{"i":{"sku":1}}"#, r#"{"i":null}"#, r#"{"i":{"sku":"a","x":1}}"#]
        {
            let said = check(&schema, &format!(r#"{{{place},"variables":{variables}}}"#));
            assert!(said.starts_with("graphql: "), "{variables}: {said}");
        }
    }

    #[test]
    fn what_does_not_compile_is_told_with_its_place() {
        let refused = |text: &str| GraphqlSchema::compile(text).unwrap_err().0;
        let said = [
            "type Query { a: Nope }",
            "type Query {",
            "zzz",
            "",
            "type A { a: Int }",
            "type Query { a: Int } type Query { b: Int }",
        ]
        .map(refused);
        assert_eq!(
            said,
            [
                "Unknown type \"Nope\". (line 1, column 17)",
                "expected Field Definition (line 1, column 13)",
                "expected definition (line 1, column 1)",
                "Unexpected <EOF>. (line 1, column 1)",
                "missing query root operation type in schema definition",
                "the type `Query` is defined multiple times in the schema (line 1, column 28)"
            ]
        );
        let many = format!("type Query {{ {} }}", each(0..10_000, |n| format!("f{n}: Nope{n} ")));
        let said = refused(&many);
        assert!(said.len() < 2_010 && said.lines().count() <= VIOLATION_FAULTS_MAX, "{said}");
    }

    #[test]
    fn hostile_schemas_end() {
        for text in [
            "{".repeat(100_000),
            "[".repeat(100_000),
            format!("type Query {{ a: {}Int }}", "[".repeat(60)),
            "x".repeat(limits::FORMAT_SCHEMA_BYTES_MAX + 1),
        ] {
            assert!(GraphqlSchema::compile(&text).is_err());
        }
    }

    fn each(numbers: std::ops::Range<usize>, text: impl Fn(usize) -> String) -> String {
        numbers.map(text).collect::<Vec<_>>().concat()
    }

    /// Documents that cost validation much, within the limits or just over them.
    fn hostile() -> Vec<String> {
        let fragments = |times: usize| {
            let spread = |n: usize| format!("...f{n} ").repeat(times);
            let defined: String = each(0..limits::GRAPHQL_TOKENS_MAX / (4 * times + 12), |n| {
                format!("fragment f{n} on Order {{ id parent {{ {} }} }} ", spread(n + 1))
            });
            format!("{{ order(id: 1) {{ {} }} }} {defined}", spread(0))
        };
        let most = limits::GRAPHQL_TOKENS_MAX;
        let depth = limits::GRAPHQL_DEPTH_MAX;
        vec![
            "{".repeat(100_000),
            "{a".repeat(100_000),
            format!("{{ hello(a: {}", "[".repeat(100_000)),
            format!("query($a: {}", "[".repeat(100_000)),
            " ".repeat(limits::GRAPHQL_BYTES_MAX),
            "a".repeat(limits::GRAPHQL_BYTES_MAX + 1),
            format!("{{ {} }}", "hello ".repeat(most / 2)),
            format!("{{ {} }}", "hello ".repeat(most / 2 - 4)),
            format!("{{ {} }}", "nope ".repeat(most / 2 - 4)),
            format!("{{ {} }}", each(0..most / 5, |n| format!("a{n}: hello "))),
            format!("{{ {} }}", "a:hello a:node{id} ".repeat(most / 12)),
            format!("{{ order(id:1) {{ {} }} }}", "parent{id}".repeat(most / 4 - 10)),
            format!("{{ order(id:1) {{ {} id {} }} }}", "parent{id ".repeat(depth - 10), "}".repeat(depth - 10)),
            format!("{{ {} }}", "order(id:1){lines(kind:\"a\"){sku}} ".repeat(most / 20)),
            format!("{{ {} }}", "node{...on Order{id} ...on Node{id}} ".repeat(most / 20)),
            each(0..most / 8, |n| format!("query q{n} {{hello}} ")),
            each(0..most / 9, |n| format!("query q{n} {{...f}} ")) + "fragment f on Query {hello}",
            fragments(1),
            fragments(2),
            fragments(10),
            format!("query({}) {{ hello }}", each(0..most / 7, |n| format!("$v{n}: Int "))),
        ]
    }

    #[test]
    fn hostile_records_end() {
        let schema = GraphqlSchema::compile(SHOP).unwrap();
        let texts = hostile();
        for text in &texts[..7] {
            assert_ne!(check(&schema, text), "", "{}", &text[..40]);
        }
        for text in texts {
            check(&schema, &text);
        }
        let many = check(&schema, &"query q {hello} ".repeat(11));
        assert_eq!(many, "graphql: the document has 11 operations; at most 10 are allowed");
        let many = check(&schema, &("{hello}".to_owned() + &"fragment f on Order {id} ".repeat(51)));
        assert_eq!(many, "graphql: the document has 51 fragments; at most 50 are allowed");
        let said = check(&schema, &hostile()[8]);
        assert!(said.ends_with("more"), "{said}");
    }
}
