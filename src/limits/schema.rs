//! Limits of schemas, and of validating a record against one (docs/adr/0015). A schema comes from one tenant and is
//! compiled for all shards; a record may come from anyone.

use super::RECORD_OVERHEAD_BYTES;
use std::time::Duration;

/// Bytes of a record that is validated against a schema, whatever its language and wherever it is validated: the
/// broker's usual `max_payload`. A larger one would keep its shard from everybody else for too long.
pub const CHECKED_RECORD_BYTES_MAX: usize = 1024 * 1024;
/// How long a shard decodes bodies and validates records before it looks at its sockets, its timers and its inbox
/// again: well under the 10 ms that nobody may wait for somebody else's batch.
pub const TIME_SLICE: Duration = Duration::from_millis(4);
/// What a request may use of that when it comes although others have used it up: enough to finish a small one.
pub const TIME_SLICE_MIN: Duration = Duration::from_micros(100);
/// How often the next in line waits although it is its turn, because others have used all of that, before it gets that
/// little.
pub const TIME_SLICE_WAITS_MAX: u32 = 16;
/// Bytes of the text about one record that is not valid.
pub const VIOLATION_BYTES_MAX: usize = 2 * 1024;
/// Bytes of these texts of one request; past it, each is cut to [`VIOLATION_BYTES_MIN`], so that a batch of 100,000
/// invalid records costs little more than one of valid ones.
pub const VIOLATIONS_BYTES_MAX: usize = 1024 * 1024;
/// See [`VIOLATIONS_BYTES_MAX`].
pub const VIOLATION_BYTES_MIN: usize = 128;
/// How long a schema may take to be compiled for one shard: no honest one comes near.
pub const SCHEMA_COMPILE_TIMEOUT: Duration = Duration::from_secs(10);
/// Versions of one schema: their bytes are bounded by the document's, and this bounds what a listing shows.
pub const SCHEMA_VERSIONS_MAX: usize = 1_000;
/// Bytes of schemas that one part of their list shows (the one that crosses it is its last): a list is put together in
/// memory.
pub const SCHEMAS_PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a JSON Schema's text: what a schema compiler makes of it is some tens of times as large, on each shard.
pub const SCHEMA_JSON_BYTES_MAX: usize = 256 * 1024;
/// Subschemas of a JSON Schema: what its compilation costs.
pub const SCHEMA_JSON_SUBSCHEMAS_MAX: usize = 10_000;
/// Keywords that apply to one value at once, `$ref` and `allOf` and the like followed to their ends: it is a tree,
/// which doubles with each step if it is meant to.
pub const SCHEMA_JSON_IN_PLACE_MAX: u64 = 10_000;
/// Steps of `$ref`, `allOf` and the like that do not move into the record: what they need of the stack is not counted
/// while a record is checked.
pub const SCHEMA_JSON_IN_PLACE_DEPTH_MAX: usize = 100;
/// `$ref`s and the like from one `$id` to another in a JSON Schema that has `$dynamicRef` or `$recursiveRef`: what they
/// lead to is compiled anew for each way there, and the ways grow as a factorial.
pub const SCHEMA_JSON_DYNAMIC_CROSSINGS_MAX: usize = 6;
/// Numbers of a JSON Schema that 64 bits and doubles do not hold: each is kept as text under a double of its own, which
/// is looked for.
pub const SCHEMA_JSON_LONG_NUMBERS_MAX: usize = 1_000;
/// Patterns of a JSON Schema: each is an automaton, with its caches, on each shard.
pub const SCHEMA_JSON_PATTERNS_MAX: usize = 200;
/// Bytes of one pattern's automaton. Its worst case for a byte of text is proportional to it.
pub const SCHEMA_JSON_PATTERN_BYTES_MAX: usize = 256 * 1024;
/// Bytes of what an automaton remembers of its way.
pub const SCHEMA_JSON_PATTERN_CACHE_BYTES: usize = 256 * 1024;
/// Values (and names) of a record that is validated by a JSON Schema: they are 16 bytes each in a shard's scratch.
pub const SCHEMA_JSON_VALUES_MAX: usize = 256 * 1024;
/// Units of work that the check of one record may cost; about 5 ns each, and twice if the record is not valid.
pub const SCHEMA_FUEL: i64 = 1_000_000;
/// Bytes of stack for the check of one record, of the 2 MiB that a thread has.
pub const SCHEMA_STACK_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a Protobuf, Avro or GraphQL schema, its imports included: compilers need the square of it at worst.
pub const FORMAT_SCHEMA_BYTES_MAX: usize = 256 * 1024;
/// Nesting of brackets in the text of a schema: compilers are recursive.
pub const FORMAT_SCHEMA_DEPTH_MAX: usize = 64;
/// Values of a binary record: fields, items, entries. With [`CHECKED_RECORD_BYTES_MAX`] what keeps a check under 10 ms.
pub const FORMAT_VALUES_MAX: usize = 100_000;
/// Values of a JSON record on an Avro station: each becomes a node in memory.
pub const AVRO_JSON_VALUES_MAX: usize = 30_000;
/// Values of a JSON record on a Protobuf station: each becomes a field of a dynamic message, entries of maps the
/// dearest.
pub const PROTOBUF_JSON_VALUES_MAX: usize = 5_000;
/// The same, where the schema knows `google.protobuf.Value` or `Any`, whose values are several messages each.
pub const PROTOBUF_DYNAMIC_VALUES_MAX: usize = 2_500;
/// Opening parentheses in the text of a Protobuf schema, which begin the names of custom options: the compiler needs
/// the square of their number.
pub const PROTOBUF_PARENTHESES_MAX: usize = 1_000;
/// Nesting of a record: the default limit of Protobuf's own decoders, and less than what `serde_json` reads (128).
pub const FORMAT_DEPTH_MAX: usize = 100;
/// Bytes of a GraphQL document.
pub const GRAPHQL_BYTES_MAX: usize = 64 * 1024;
/// Tokens of a GraphQL document, white space and commas included.
pub const GRAPHQL_TOKENS_MAX: usize = 4_000;
/// Operations of a GraphQL document. Each is validated along all fragments that it reaches.
pub const GRAPHQL_OPERATIONS_MAX: usize = 10;
/// Fragments of a GraphQL document.
pub const GRAPHQL_FRAGMENTS_MAX: usize = 50;
/// Nesting of a GraphQL document.
pub const GRAPHQL_DEPTH_MAX: usize = 50;

/// Faults of one record that its violation lists; more are counted.
pub const VIOLATION_FAULTS_MAX: usize = 10;
/// Bytes of one fault's text.
pub const VIOLATION_FAULT_BYTES_MAX: usize = 300;
/// Bytes of the path in one fault: names are the author's, and may be long.
pub const VIOLATION_PATH_BYTES_MAX: usize = 200;
/// Bytes of what a compiler says of a schema.
pub const SCHEMA_ERROR_BYTES_MAX: usize = 2_000;
/// Characters of a record's value that a fault quotes.
pub const VIOLATION_VALUE_CHARS_MAX: usize = 40;
/// Messages that are named when the one that was asked for is not there.
pub const PROTOBUF_MESSAGES_NAMED_MAX: usize = 20;
/// Fields that are counted to say which item of a repeated field has a fault.
pub const PROTOBUF_FIELDS_COUNTED_MAX: usize = 10_000;
/// Branches of a union that are named when a value is of none of them.
pub const AVRO_BRANCHES_NAMED_MAX: usize = 8;

const _: () = assert!(VIOLATION_BYTES_MIN <= RECORD_OVERHEAD_BYTES, "what is kept beside each record");
const _: () = assert!(GRAPHQL_BYTES_MAX < CHECKED_RECORD_BYTES_MAX);
const _: () = assert!(VIOLATION_BYTES_MIN <= VIOLATION_BYTES_MAX && VIOLATION_BYTES_MAX <= VIOLATIONS_BYTES_MAX);
