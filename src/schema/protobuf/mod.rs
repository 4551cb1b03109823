//! Protocol Buffers: wire format is checked as it stands, JSON becomes wire format.
//!
//! Wire format is walked over tables made from the descriptor ([`walk`]), without decoding it into values: nothing is
//! allocated for a valid record, and no record can make the walk deep or long. JSON is decoded by prost-reflect, which
//! knows the whole JSON mapping, encoded so that the same value is always the same bytes ([`encode`]), and then
//! walked like any other record, which finds the required fields that it lacks.

mod encode;
mod exact;
mod tables;
#[cfg(test)]
mod tests;
mod walk;

use super::{Checked, CompileError, Encoding, SchemaSource, Violation, bounds, json};
use crate::limits::{self, PROTOBUF_MESSAGES_NAMED_MAX};
use prost_reflect::{DescriptorPool, DynamicMessage, FileDescriptor, MessageDescriptor};
use protox::{
    Compiler, Error,
    file::{ChainFileResolver, File, FileResolver, GoogleFileResolver},
};
use serde_json::error::Category;
use std::collections::BTreeMap;
use tables::Tables;

/// What the original said of a record that is not a message.
const NOT_PROTOBUF: &str = "invalid message format, expecting protobuf";
/// The name of the schema's own text among the files that it imports.
const MAIN: &str = "schema.proto";

/// A compiled schema: one message type.
#[derive(Debug)]
pub struct ProtobufSchema {
    message: MessageDescriptor,
    tables: Tables,
    /// Of a JSON record.
    values_max: usize,
}

impl ProtobufSchema {
    /// Compiles a file and what it imports. Imports come from the source and from `google/protobuf/`; never from a
    /// disk.
    pub fn compile(source: &SchemaSource) -> Result<Self, CompileError> {
        let texts = || std::iter::once(&source.text).chain(source.imports.values());
        let bytes = texts().map(String::len).sum();
        for text in texts() {
            bounds::schema_text(bytes, text)?;
        }
        if texts().map(|text| text.matches('(').count()).sum::<usize>() > limits::PROTOBUF_PARENTHESES_MAX {
            let most = limits::PROTOBUF_PARENTHESES_MAX;
            return Err(CompileError(format!("the schema has more than {most} parentheses: too many custom options")));
        }
        if texts().any(|text| is_edition(text)) {
            let text = "editions are not supported yet: write `syntax = \"proto3\";` in place of `edition = …;`";
            return Err(CompileError(text.to_owned()));
        }
        if source.imports.contains_key(MAIN) {
            return Err(CompileError(format!("an import cannot be named {MAIN}: that is the schema itself")));
        }
        let mut files = ChainFileResolver::new();
        files.add(Files { main: source.text.clone(), imports: source.imports.clone() });
        files.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(files);
        // Its debug form is `file:line:column: what`, for people as well.
        compiler.open_file(MAIN).map_err(|error| bounds::compiler_says(format!("{error:?}")))?;
        let pool = compiler.descriptor_pool();
        let file = pool.get_file_by_name(MAIN).ok_or_else(|| CompileError(format!("{MAIN} is not there")))?;
        let message = choose(&pool, &file, source.message.as_deref())?;
        let tables = Tables::of(&message);
        let values_max =
            if tables.dynamic() { limits::PROTOBUF_DYNAMIC_VALUES_MAX } else { limits::PROTOBUF_JSON_VALUES_MAX };
        Ok(Self { message, tables, values_max })
    }

    /// Holds a record against the message type.
    pub(in crate::schema) fn check(
        &self,
        record: &[u8],
        encoding: Encoding,
        scratch: &mut json::Scratch,
        out: &mut Vec<u8>,
    ) -> Result<Checked, Violation> {
        if encoding == Encoding::Json {
            return self.transcode(record, scratch, out);
        }
        match walk::check(&self.tables, record) {
            Ok(()) => Ok(Checked::AsIs),
            Err(_) if encoding == Encoding::Unsaid && looks_like_json(record) => self.transcode(record, scratch, out),
            Err(violation) => Err(violation),
        }
    }

    /// JSON into wire format. Nothing is left in `out` of a record that is not valid.
    fn transcode(&self, record: &[u8], scratch: &mut json::Scratch, out: &mut Vec<u8>) -> Result<Checked, Violation> {
        bounds::json_record(record, self.values_max)?;
        // What cannot be read is prost-reflect's to say, in the words of its parser.
        let prepared = match json::read(record, scratch) {
            Ok(tape) => exact::prepared(&self.message, &tape, record)?,
            Err(_) => record.into(),
        };
        let mut json = serde_json::Deserializer::from_slice(&prepared);
        let message = DynamicMessage::deserialize(self.message.clone(), &mut json)
            .and_then(|message| json.end().map(|()| message))
            .map_err(|error| not_json(&error))?;
        let before = out.len();
        encode::message(message, out);
        walk::check(&self.tables, &out[before..]).inspect_err(|_| out.truncate(before))?;
        Ok(Checked::Transcoded)
    }
}

/// What `serde_json` says, in the original's frame.
fn not_json(error: &serde_json::Error) -> Violation {
    let text = match error.classify() {
        Category::Data => format!("proto: {error}"),
        Category::Syntax | Category::Eof | Category::Io => format!("{NOT_PROTOBUF}: {error}"),
    };
    Violation::one("", text)
}

/// Whether the first word of a file, behind comments, is `edition`.
fn is_edition(text: &str) -> bool {
    let mut rest = text.trim_start();
    loop {
        let comment = match rest.get(..2) {
            Some("//") => rest.split_once('\n'),
            Some("/*") => rest.split_once("*/"),
            _ => return rest.strip_prefix("edition").is_some_and(|rest| rest.trim_start().starts_with('=')),
        };
        let Some((_, behind)) = comment else { return false };
        rest = behind.trim_start();
    }
}

fn looks_like_json(record: &[u8]) -> bool {
    record.trim_ascii_start().first() == Some(&b'{')
}

/// The message that records are: by its full name, or by its name within the file's package; else the file's first.
fn choose(pool: &DescriptorPool, file: &FileDescriptor, name: Option<&str>) -> Result<MessageDescriptor, CompileError> {
    let found = match name {
        None => file.messages().next(),
        Some(name) => pool.get_message_by_name(name).or_else(|| {
            let package = file.package_name();
            pool.get_message_by_name(&format!("{package}.{name}")).filter(|_| !package.is_empty())
        }),
    };
    found.filter(|message| !message.is_map_entry()).ok_or_else(|| {
        let names: Vec<String> = file.messages().map(|message| message.full_name().to_owned()).collect();
        let shown = names.iter().take(PROTOBUF_MESSAGES_NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = names.len().saturating_sub(PROTOBUF_MESSAGES_NAMED_MAX);
        bounds::compiler_says(match name {
            _ if names.is_empty() => "the file has no message".to_owned(),
            Some(name) if more > 0 => format!("no message {}; there are {shown} and {more} more", bounds::quoted(name)),
            _ => format!("no message {}; there are {shown}", bounds::quoted(name.unwrap_or_default())),
        })
    })
}

/// The files that a schema brings.
struct Files {
    main: String,
    imports: BTreeMap<String, String>,
}

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, Error> {
        match self.imports.get(name) {
            _ if name == MAIN => File::from_source(name, &self.main),
            Some(text) => File::from_source(name, text),
            None => Err(Error::file_not_found(name)),
        }
    }
}
