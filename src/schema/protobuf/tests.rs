//! Records that are valid and records that are not, with what is said of them; what is hostile; the walk against
//! prost-reflect's decoder.

use super::*;
use proptest::prelude::*;

const PROTO3: &str = r#"
    syntax = "proto3";
    package shop;
    import "google/protobuf/timestamp.proto";
    message Order {
        int32 id = 1;
        string name = 2;
        repeated Item items = 3;
        map<string, int64> counts = 4;
        repeated sint64 deltas = 5;
        google.protobuf.Timestamp at = 6;
        Kind kind = 7;
        bytes raw = 8;
        fixed32 small = 9;
        double ratio = 10;
        oneof choice { bool yes = 11; Item item = 12; }
        repeated fixed64 wide = 13;
        Order parent = 20;
        int64 big = 21;
        uint64 huge = 22;
    }
    message Item { string sku = 1; uint32 pieces = 2; }
    enum Kind { NONE = 0; RETAIL = 1; }
"#;

const PROTO2: &str = r#"
    syntax = "proto2";
    message Test {
        required string field1 = 1;
        repeated Inner inner = 2;
        optional group Extra = 3 { required int32 a = 1; optional Extra again = 2; }
        optional string loose = 4;
    }
    message Inner { required int32 x = 1; required int32 y = 2; }
"#;

fn source(text: &str) -> SchemaSource {
    SchemaSource {
        kind: crate::schema::SchemaType::Protobuf,
        text: text.into(),
        message: None,
        imports: BTreeMap::new(),
    }
}

fn compile(text: &str) -> ProtobufSchema {
    ProtobufSchema::compile(&source(text)).unwrap()
}

fn refused(text: &str) -> String {
    ProtobufSchema::compile(&source(text)).unwrap_err().0
}

/// What the check says of a record: `Ok` with what is stored.
fn check(schema: &ProtobufSchema, record: &[u8], encoding: Encoding) -> Result<Vec<u8>, String> {
    let mut out = b"before".to_vec();
    match schema.check(record, encoding, &mut json::Scratch::default(), &mut out) {
        Ok(Checked::AsIs) => {
            assert_eq!(out, b"before");
            Ok(record.to_vec())
        }
        Ok(Checked::Transcoded) => Ok(out.strip_prefix(b"before").unwrap().to_vec()),
        Err(violation) => {
            assert_eq!(out, b"before", "nothing is left of a record that is not valid");
            Err(violation.to_string())
        }
    }
}

#[test]
fn wire_format_is_valid() {
    let schema = compile(PROTO3);
    let valid: [&[u8]; 16] = [
        b"",
        b"\x08\x01",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x12\x02hi",
        b"\x1a\x05\x0a\x01a\x10\x02\x1a\x00",
        b"\x22\x05\x0a\x01k\x10\x07",
        b"\x2a\x03\x01\x02\x03",
        b"\x28\x01\x28\x02",
        b"\x38\x63",
        b"\x4d\x01\x02\x03\x04",
        b"\x6a\x08\x01\x02\x03\x04\x05\x06\x07\x08",
        b"\x69\x01\x02\x03\x04\x05\x06\x07\x08",
        // Unknown: a number, eight bytes, bytes, four bytes, a group with a group in it.
        b"\xf8\x07\x01",
        b"\xf9\x07\x01\x02\x03\x04\x05\x06\x07\x08\xfa\x07\x01x\xfd\x07\x01\x02\x03\x04",
        b"\xfb\x07\x08\x01\x13\x14\xfc\x07",
        b"\x08\x01\x08\x02",
    ];
    for record in valid {
        assert_eq!(check(&schema, record, Encoding::Binary), Ok(record.to_vec()), "{record:x?}");
        assert_eq!(check(&schema, record, Encoding::Unsaid), Ok(record.to_vec()), "{record:x?}");
    }
}

#[test]
fn wire_format_is_told_why_it_is_not_valid() {
    let schema = compile(PROTO3);
    let not = "invalid message format, expecting protobuf";
    let invalid: [(&[u8], String); 19] = [
        (b"\x08", format!("'id': {not}: a number that does not end, at byte 1")),
        (
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            format!("'id': {not}: a number of more than 64 bits, at byte 1"),
        ),
        (b"\x12\x05hi", format!("'name': {not}: 5 bytes announced, 2 left, at byte 2")),
        (
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            format!("'name': {not}: 9223372036854775807 bytes announced, 0 left, at byte 10"),
        ),
        (b"\x0a\x01x", format!("'id': {not}: wire type 2, where the field has 0 (varint), at byte 0")),
        (b"\x10\x01", format!("'name': {not}: wire type 0, where the field has 2 (length-delimited), at byte 0")),
        (b"\x12\x02\xff\xfe", "'name': proto: field shop.Order.name contains invalid UTF-8".into()),
        (
            b"\x1a\x00\x08\x01\x1a\x03\x0a\x01\xff",
            "'items[1].sku': proto: field shop.Item.sku contains invalid UTF-8".into(),
        ),
        (
            b"\x22\x03\x0a\x01\xff",
            "'counts[0].key': proto: field shop.Order.CountsEntry.key contains invalid UTF-8".into(),
        ),
        (b"\x2a\x02\x01\xff", format!("'deltas[0]': {not}: a number that does not end, at byte 3")),
        (
            b"\x6a\x07\x01\x02\x03\x04\x05\x06\x07",
            format!("'wide[0]': {not}: 7 bytes are not a number of 8 byte items, at byte 2"),
        ),
        (b"\x4d\x01\x02", format!("'small': {not}: 4 bytes announced, 2 left, at byte 1")),
        (b"\x00", format!("{not}: field number 0, at byte 0")),
        (b"\x0e\x01", format!("{not}: wire type 6, which does not exist, at byte 0")),
        (b"\x88\x80\x80\x80\x10\x01", format!("{not}: a field number over 536870911, at byte 0")),
        (b"\x0c", format!("{not}: an end of group 1 that did not begin, at byte 0")),
        (b"\xfb\x07\x08\x01", format!("{not}: a number that does not end, at byte 4")),
        (b"\xfb\x07\x08\x01\x14", format!("{not}: an end of group 2 that did not begin, at byte 4")),
        (
            b"\x12\x01\xff\x1a\x03\x0a\x01\xff\x08",
            format!(
                "'name': proto: field shop.Order.name contains invalid UTF-8; \
                 'items[0].sku': proto: field shop.Item.sku contains invalid UTF-8; \
                 'id': {not}: a number that does not end, at byte 9"
            ),
        ),
    ];
    for (record, text) in invalid {
        assert_eq!(check(&schema, record, Encoding::Binary), Err(text), "{record:x?}");
    }
    assert_eq!(
        check(&schema, b"not protobuf", Encoding::Binary),
        Err(format!("{not}: wire type 6, which does not exist, at byte 0"))
    );
}

#[test]
fn required_fields_of_proto2_are_missed_wherever_they_are() {
    let schema = compile(PROTO2);
    let cases: [(&[u8], &str); 8] = [
        (b"\x0a\x01a", ""),
        (b"", "proto: required field Test.field1 not set"),
        (b"\x0a\x01a\x12\x04\x08\x01\x10\x02", ""),
        (b"\x0a\x01a\x12\x04\x08\x01\x10\x02\x12\x02\x08\x01", "'inner[1]': proto: required field Inner.y not set"),
        (
            b"\x12\x00",
            "'inner[0]': proto: required field Inner.x not set; 'inner[0]': proto: required field Inner.y not set; \
             proto: required field Test.field1 not set",
        ),
        (b"\x0a\x01a\x1b\x08\x01\x1c", ""),
        (b"\x0a\x01a\x1b\x1c", "'extra': proto: required field Test.Extra.a not set"),
        // Nobody promised UTF-8 in proto2.
        (b"\x0a\x01\xff\x22\x01\xff", ""),
    ];
    for (record, text) in cases {
        let said = check(&schema, record, Encoding::Binary).map_or_else(|text| text, |_| String::new());
        assert_eq!(said, text, "{record:x?}");
    }
    assert_eq!(check(&schema, b"{}", Encoding::Json), Err("proto: required field Test.field1 not set".into()));
    assert_eq!(check(&schema, br#"{"field1":"a"}"#, Encoding::Json), Ok(b"\x0a\x01a".to_vec()));
}

#[test]
fn more_required_fields_than_a_word_has_bits() {
    let fields: Vec<String> = (1..=70).map(|n| format!("required int32 f{n} = {n};")).collect();
    let fields = fields.concat();
    let schema = compile(&format!("syntax = \"proto2\"; message M {{ {fields} }}"));
    let json: Vec<String> = (1..=70).map(|n| format!("\"f{n}\":0")).collect();
    assert!(check(&schema, format!("{{{}}}", json.join(",")).as_bytes(), Encoding::Json).is_ok());
    for missing in [0, 63, 64, 69] {
        let mut json = json.clone();
        json.remove(missing);
        let said = check(&schema, format!("{{{}}}", json.join(",")).as_bytes(), Encoding::Json);
        assert_eq!(said, Err(format!("proto: required field M.f{} not set", missing + 1)));
    }
}

#[test]
fn json_becomes_wire_format() {
    let schema = compile(PROTO3);
    let cases: [(&str, &[u8]); 15] = [
        ("{}", b""),
        (r#" {"id": 1, "name": "a"} "#, b"\x08\x01\x12\x01a"),
        (r#"{"name":"a","id":1}"#, b"\x08\x01\x12\x01a"),
        (r#"{"items":[{"sku":"a"},{"pieces":2}]}"#, b"\x1a\x03\x0a\x01a\x1a\x02\x10\x02"),
        (r#"{"big":"9223372036854775807"}"#, b"\xa8\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
        (r#"{"big":9007199254740993}"#, b"\xa8\x01\x81\x80\x80\x80\x80\x80\x80\x10"),
        (r#"{"huge":"18446744073709551615"}"#, b"\xb0\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        (r#"{"raw":"AQI="}"#, b"\x42\x02\x01\x02"),
        (r#"{"kind":"RETAIL"}"#, b"\x38\x01"),
        (r#"{"kind":1}"#, b"\x38\x01"),
        (r#"{"at":"1970-01-01T00:00:01Z"}"#, b"\x32\x02\x08\x01"),
        (r#"{"yes":false}"#, b"\x58\x00"),
        (r#"{"ratio":"NaN","name":null}"#, b"\x51\0\0\0\0\0\0\xf8\x7f"),
        (r#"{"parent":{"counts":{"b":"2","a":1}}}"#, b"\xa2\x01\x0e\x22\x05\x0a\x01a\x10\x01\x22\x05\x0a\x01b\x10\x02"),
        (r#"{"item":{"sku":"a"},"deltas":[1,-1]}"#, b"\x2a\x02\x02\x01\x62\x03\x0a\x01a"),
    ];
    for (json, wire) in cases {
        assert_eq!(check(&schema, json.as_bytes(), Encoding::Json), Ok(wire.to_vec()), "{json}");
        assert_eq!(check(&schema, json.as_bytes(), Encoding::Unsaid), Ok(wire.to_vec()));
        let decoded = DynamicMessage::decode(schema.message.clone(), wire).unwrap();
        assert!(decoded.unknown_fields().next().is_none());
    }
    let not = "invalid message format, expecting protobuf";
    let invalid = [
        ("zzz", format!("{not}: expected value at line 1 column 1")),
        ("", format!("{not}: EOF while parsing a value at line 1 column 0")),
        ("{\"id\":1} x", format!("{not}: trailing characters at line 1 column 10")),
        (r#"{"id":1,"nope":2}"#, "proto: unrecognized field name 'nope' at line 1 column 14".into()),
        (r#"{"id":"a"}"#, "proto: invalid digit found in string at line 1 column 9".into()),
        (r#"{"id":1.5}"#, "proto: expected integer value at line 1 column 9".into()),
        (r#"{"id":2147483648}"#, "proto: out of range integral type conversion attempted at line 1 column 16".into()),
        (r#"{"name":1}"#, "proto: invalid type: integer `1`, expected a string at line 1 column 9".into()),
        (r#"{"kind":"WHOLESALE"}"#, "proto: unrecognized enum value 'WHOLESALE' at line 1 column 19".into()),
        (r#"{"raw":"*"}"#, "proto: invalid base64: Invalid symbol 42, offset 0. at line 1 column 10".into()),
        ("[]", "proto: invalid type: sequence, expected a map at line 1 column 0".into()),
        ("null", "proto: invalid type: null, expected a map at line 1 column 4".into()),
        (r#"{"items":[{"sku":1}]}"#, "proto: invalid type: integer `1`, expected a string at line 1 column 18".into()),
        (r#"{"yes":true,"item":{}}"#, "proto: multiple fields provided for oneof 'choice' at line 1 column 22".into()),
        (r#"{"at":"yesterday"}"#, "proto: invalid rfc3339 timestamp: invalid date at line 1 column 17".into()),
    ];
    let said = invalid.clone().map(|(json, _)| (json, check(&schema, json.as_bytes(), Encoding::Json).unwrap_err()));
    assert_eq!(said, invalid);
}

/// `ProtoJSON`, and Protobuf's conformance suite: an integer may have an exponent or a fraction of zeros, in quotes or
/// without.
#[test]
fn r18_numbers_of_any_spelling_are_exact_or_refused() {
    let kinds = "int32 a=1; sint32 b=2; sfixed32 c=3; uint32 d=4; fixed32 e=5; int64 f=6; sint64 g=7; sfixed64 h=8; uint64 i=9; fixed64 j=10;";
    let schema = compile(&format!(
        "syntax = \"proto3\"; import \"google/protobuf/wrappers.proto\"; import \"google/protobuf/struct.proto\"; message M {{ {kinds}
         double k=11; float l=12; string m=13; repeated int64 n=14; map<string, int64> o=15; google.protobuf.Int64Value p=16;
         M q=17; Kind r=18; google.protobuf.Struct s=19; int32 long_name=20; }} enum Kind {{ NONE = 0; SOME = 1000; }}"
    ));
    let check = |json: &str| check(&schema, json.as_bytes(), Encoding::Json);
    for field in "abcdefghij".chars() {
        for (odd, plain) in
            [("1e3", "1000"), ("1.0", "1"), ("1.5e1", "15"), ("100e-2", "1"), ("0.0", "0"), ("1.0e0", "1")]
        {
            let expect = check(&format!(r#"{{"{field}":{plain}}}"#));
            assert!(expect.is_ok(), "{field} {plain}: {expect:?}");
            assert_eq!(check(&format!(r#"{{"{field}":{odd}}}"#)), expect, "{field} {odd}");
            assert_eq!(check(&format!(r#"{{"{field}":"{odd}"}}"#)), expect, "{field} {odd} in quotes");
        }
        for wrong in [
            "1.5",
            "1e-1",
            "1e99",
            "99999999999999999999.0",
            "1.0x",
            "1.",
            ".5e1",
            "+1.0",
            " 1.0",
            "1.0 ",
            "0x1.0",
            "1e",
            "NaN.0",
        ] {
            assert!(check(&format!(r#"{{"{field}":"{wrong}"}}"#)).is_err(), "{field} {wrong} in quotes");
        }
        assert!(check(&format!(r#"{{"{field}":1.5}}"#)).is_err(), "{field}");
    }
    assert_eq!(check(r#"{"a":"1e3"}"#), Ok(b"\x08\xe8\x07".to_vec()));
    for (odd, plain) in [
        (r#"{"f":9007199254740993.0}"#, r#"{"f":9007199254740993}"#),
        (r#"{"i":"18446744073709551615.0"}"#, r#"{"i":"18446744073709551615"}"#),
        (r#"{"f":-9.223372036854775808e18}"#, r#"{"f":"-9223372036854775808"}"#),
        (r#"{"n":["1e2",2.0,3]}"#, r#"{"n":[100,2,3]}"#),
        (r#"{"o":{"x":"1e2","y":9007199254740993.0}}"#, r#"{"o":{"x":100,"y":9007199254740993}}"#),
        (r#"{"p":"9007199254740993.0"}"#, r#"{"p":"9007199254740993"}"#),
        (r#"{"q":{"q":{"f":"1e1"}},"m":"1e3"}"#, r#"{"q":{"q":{"f":10}},"m":"1e3"}"#),
        (r#"{"r":1e3}"#, r#"{"r":"SOME"}"#),
        (r#"{"s":{"a":1.0,"a":"1e3"}}"#, r#"{"s":{"a":"1e3"}}"#),
        (r#"{"k":"1e3","l":"-Infinity"}"#, r#"{"k":1000.0,"l":"-Infinity"}"#),
    ] {
        let expect = check(plain);
        assert!(expect.is_ok(), "{plain}: {expect:?}");
        assert_eq!(check(odd), expect, "{odd}");
    }
    for (json, expect) in [
        (r#"{"f":9223372036854775808.0}"#, r#"'/f': proto: "9223372036854775808.0" is not a value of int64"#),
        (r#"{"i":-1.0}"#, r#"'/i': proto: "-1.0" is not a value of uint64"#),
        (r#"{"q":{"a":"2147483648.0"}}"#, r#"'/q/a': proto: "2147483648.0" is not a value of int32"#),
        (r#"{"k":"1e400"}"#, r#"'/k': proto: "1e400" is not a value of double"#),
        (r#"{"l":3.5e38}"#, r#"'/l': proto: "3.5e38" is not a value of float"#),
        (r#"{"k":"inf"}"#, r#"'/k': proto: "inf" is not a value of double"#),
        (r#"{"k":"+1"}"#, r#"'/k': proto: "+1" is not a value of double"#),
        (r#"{"longName":1,"long_name":2}"#, r#"'/long_name': proto: field "longName" comes twice"#),
        (r#"{"a":1,"a":2}"#, r#"'/a': proto: field "a" comes twice"#),
        (r#"{"q":{"a":1,"\u0061":1}}"#, r#"'/q/a': proto: field "a" comes twice"#),
    ] {
        assert_eq!(check(json), Err(expect.to_owned()), "{json}");
    }
}

/// JSON on a Protobuf station: what the original's documents promised, and its program refused.
#[test]
fn the_documented_example_of_the_original() {
    let schema =
        compile("syntax = \"proto3\"; message Test { string field1 = 1; string field2 = 2; int32 field3 = 3; }");
    let record = br#"{"field1":"foo","field2":"bar","field3":123}"#;
    for encoding in [Encoding::Json, Encoding::Unsaid] {
        assert_eq!(check(&schema, record, encoding), Ok(b"\x0a\x03foo\x12\x03bar\x18\x7b".to_vec()));
    }
}

#[test]
fn a_body_of_no_media_type_is_wire_format_or_else_json() {
    let schema = compile(PROTO3);
    assert_eq!(check(&schema, b"\n{\"id\":1}", Encoding::Unsaid), Ok(b"\x08\x01".to_vec()));
    let said = check(&schema, b"{\"id\":1", Encoding::Unsaid).unwrap_err();
    assert_eq!(said, "invalid message format, expecting protobuf: EOF while parsing an object at line 1 column 7");
    let said = check(&schema, b"{\"id\":1}", Encoding::Binary).unwrap_err();
    assert!(said.starts_with("invalid message format, expecting protobuf: "), "{said}");
    assert!(check(&schema, b"\x08\x01", Encoding::Json).is_err());
}

#[test]
fn maps_are_written_in_one_order() {
    let schema = compile(
        "syntax = \"proto3\"; message M { map<int32, In> a = 2; repeated In b = 1; In c = 3; map<string, bool> d = 4; }\
         message In { map<string, string> m = 1; repeated int32 n = 2; string s = 3; }",
    );
    let entries: Vec<String> =
        (0..20).map(|n| format!("\"{n}\":{{\"m\":{{\"x\":\"1\",\"y\":\"2\",\"\":\"\"}}}}")).collect();
    let json = format!(
        "{{\"a\":{{{}}},\"b\":[{{\"s\":\"a\"}},{{\"n\":[1,2]}}],\"c\":{{}},\"d\":{{\"\":false}}}}",
        entries.join(",")
    );
    let first = check(&schema, json.as_bytes(), Encoding::Json).unwrap();
    for _ in 0..20 {
        assert_eq!(check(&schema, json.as_bytes(), Encoding::Json).unwrap(), first);
    }
    let mut reader = serde_json::Deserializer::from_str(&json);
    let meant = DynamicMessage::deserialize(schema.message.clone(), &mut reader).unwrap();
    assert_eq!(DynamicMessage::decode(schema.message.clone(), first.as_slice()).unwrap(), meant);
}

#[test]
fn the_message_is_the_first_or_the_one_that_was_named() {
    let mut source = source("syntax = \"proto3\"; package p.q; message A { message In {} } message B {}");
    let mut named = |name: Option<&str>| {
        source.message = name.map(str::to_owned);
        ProtobufSchema::compile(&source).map(|schema| schema.message.full_name().to_owned()).map_err(|error| error.0)
    };
    assert_eq!(named(None).unwrap(), "p.q.A");
    assert_eq!(named(Some("B")).unwrap(), "p.q.B");
    assert_eq!(named(Some("p.q.B")).unwrap(), "p.q.B");
    assert_eq!(named(Some("A.In")).unwrap(), "p.q.A.In");
    assert_eq!(named(Some("C")).unwrap_err(), "no message \"C\"; there are p.q.A, p.q.B");
    assert_eq!(refused("syntax = \"proto3\";"), "the file has no message");
}

#[test]
fn files_are_imported_from_the_source_alone() {
    let mut with = source("syntax = \"proto3\"; import \"other.proto\"; message A { o.B b = 1; }");
    let error = ProtobufSchema::compile(&with).unwrap_err().0;
    assert_eq!(error, "schema.proto:1:20: import 'other.proto' not found");
    with.imports.insert("other.proto".into(), "syntax = \"proto3\"; package o; message B { int32 n = 1; }".into());
    let schema = ProtobufSchema::compile(&with).unwrap();
    assert_eq!(check(&schema, br#"{"b":{"n":3}}"#, Encoding::Json), Ok(b"\x0a\x02\x08\x03".to_vec()));
    with.imports.insert("other.proto".into(), "syntax = \"proto3\"; import \"schema.proto\";".into());
    let error = ProtobufSchema::compile(&with).unwrap_err().0;
    assert_eq!(error, "import cycle detected: schema.proto -> other.proto -> schema.proto");
    with.imports.insert(MAIN.into(), String::new());
    assert!(ProtobufSchema::compile(&with).unwrap_err().0.contains("cannot be named"));
    // A file of this machine is not looked at.
    let error = refused("syntax = \"proto3\"; import \"/etc/hostname\"; message A {}");
    assert_eq!(error, "schema.proto:1:27: invalid group name");
    let error = refused("syntax = \"proto3\"; import \"etc/hostname\"; message A {}");
    assert_eq!(error, "schema.proto:1:20: import 'etc/hostname' not found");
}

#[test]
fn what_does_not_compile_is_told_with_its_place() {
    assert_eq!(
        refused("syntax = \"proto3\";\nmessage A { strin a = 1; }"),
        "schema.proto:2:13: name 'strin' is not defined"
    );
    assert_eq!(
        refused("message A {"),
        "expected a message field, oneof, reserved range, enum, message, option or '}', but reached end of file"
    );
    assert!(refused("zzz").starts_with("schema.proto:1:1: expected 'enum', "));
}

#[test]
fn an_edition_is_refused_by_its_name() {
    let text = "// Copyright\n/* a\n edition */ edition = \"2023\";\nmessage M { int32 a = 1; }";
    assert!(refused(text).starts_with("editions are not supported yet"), "{}", refused(text));
    compile("// edition = \"2023\";\nsyntax = \"proto3\"; message edition { int32 edition = 1; }");
}

#[test]
fn hostile_schemas_end() {
    for deep in [
        "message A {",
        "option (a) = {",
        "option (a) = { b: [",
        "message A { oneof x {",
        "message A { optional group A = 1 {",
    ] {
        let said = refused(&deep.repeat(20_000));
        assert!(said.contains("nested deeper") || said.contains("at most"), "{said}");
    }
    assert!(refused(&"x".repeat(limits::FORMAT_SCHEMA_BYTES_MAX + 1)).contains("at most 262144"));
    assert!(refused(&"option (a) = 1;".repeat(1_001)).contains("more than 1000 parentheses"));
    // What nests less than the limit does not exhaust a small stack.
    let deep = limits::FORMAT_SCHEMA_DEPTH_MAX;
    for open in ["message A {", "option (a) = {", "option (a) = { b {", "option (a) = [", "-"] {
        refused(&format!("{}{}", open.repeat(deep), "}".repeat(deep)));
    }
    // The types of a circle have one table each.
    let schema = compile("syntax = \"proto3\"; message A { B b = 1; } message B { A a = 1; B b = 2; }");
    assert_eq!(check(&schema, b"\x0a\x04\x12\x02\x0a\x00", Encoding::Binary).map(|_| ()), Ok(()));
}

/// A message of `depth` messages, each in the one before.
fn nested(tag: &[u8], depth: usize) -> Vec<u8> {
    let mut record = Vec::new();
    for _ in 0..depth {
        let mut outer = tag.to_vec();
        prost_reflect::prost::encoding::encode_varint(record.len() as u64, &mut outer);
        outer.extend_from_slice(&record);
        record = outer;
    }
    record
}

#[test]
fn hostile_records_are_bounded() {
    let schema = compile(PROTO3);
    let most = limits::FORMAT_DEPTH_MAX;
    assert!(check(&schema, &nested(b"\xa2\x01", most), Encoding::Binary).is_ok());
    let said = check(&schema, &nested(b"\xa2\x01", most + 1), Encoding::Binary).unwrap_err();
    assert!(said.contains("nested deeper than 100 levels"), "{said}");
    // Groups that nobody knows, open and never closed, and closed.
    let open = b"\xfb\x07".repeat(most);
    assert!(check(&schema, &[open.clone(), b"\xfc\x07".repeat(most)].concat(), Encoding::Binary).is_ok());
    for record in [open.clone(), b"\xfb\x07".repeat(100_000)] {
        assert!(check(&schema, &record, Encoding::Binary).is_err());
    }
    // Groups of the type itself.
    let groups = compile(PROTO2);
    let mut record = b"\x0a\x01a\x1b\x08\x01".to_vec();
    record.extend(b"\x12\x02\x08\x01".repeat(3));
    record.push(0x1c);
    assert!(check(&groups, &record, Encoding::Binary).is_ok());
    // Many fields, many faults, deep JSON.
    let many = b"\x08\x01".repeat(limits::FORMAT_VALUES_MAX);
    assert!(check(&schema, &many, Encoding::Binary).is_ok());
    let said = check(&schema, &[many, vec![8, 1]].concat(), Encoding::Binary).unwrap_err();
    assert_eq!(said, "the record has more than 100000 values");
    let faults = b"\x1a\x03\x0a\x01\xff".repeat(50_000);
    let said = check(&schema, &faults, Encoding::Binary).unwrap_err();
    assert!(
        said.ends_with("'items[9].sku': proto: field shop.Item.sku contains invalid UTF-8; and 49990 more"),
        "{said}"
    );
    let deep = "{\"parent\":".repeat(100_000);
    assert_eq!(check(&schema, deep.as_bytes(), Encoding::Json), Err("nested deeper than 100 levels".into()));
    let deep = format!("{}{{}}{}", "{\"parent\":".repeat(99), "}".repeat(99));
    assert!(check(&schema, deep.as_bytes(), Encoding::Json).is_ok());
}

/// Bytes that are often nearly a message.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        (1_u32..24, 0_u32..6, any::<Vec<u8>>()).prop_map(|(number, wire, mut bytes)| {
            let mut out = Vec::new();
            prost_reflect::prost::encoding::encode_varint(u64::from(number << 3 | wire), &mut out);
            bytes.truncate(12);
            if wire == 2 {
                out.push(u8::try_from(bytes.len()).unwrap());
            }
            out.extend(bytes);
            out
        }),
        (any::<u64>(), 1_u32..24).prop_map(|(value, number)| {
            let mut out = Vec::new();
            prost_reflect::prost::encoding::encode_varint(u64::from(number << 3), &mut out);
            prost_reflect::prost::encoding::encode_varint(value, &mut out);
            out
        }),
        Just(b"\x1a\x05\x0a\x01a\x10\x02".to_vec()),
        Just(b"\x12\x02hi".to_vec()),
        Just(b"\x22\x05\x0a\x01k\x10\x07".to_vec()),
        Just(b"\xfb\x07\x08\x01\xfc\x07".to_vec()),
        Just(b"\x32\x02\x08\x01".to_vec()),
        Just(b"\xa2\x01\x02\x08\x01".to_vec()),
        Just(b"\x2a\x02\x01\x02".to_vec()),
    ];
    (prop::collection::vec(piece, 0..6), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(pieces, cut, whole)| {
            let mut bytes = pieces.concat();
            if !whole && !bytes.is_empty() {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        },
    )
}

/// Returns whether a record is refused because `counts` is not length-delimited. The decoder that the walk is compared
/// with reads a map in any wire type, even from an end of a group.
fn is_a_map_in_another_wire_type(checked: &Result<Checked, Violation>) -> bool {
    checked.as_ref().is_err_and(|violation| {
        violation.faults.iter().any(|fault| {
            let is_of_map = fault.path.contains("counts[") && fault.text.contains("where the field has 2");
            is_of_map || fault.text.contains("an end of group 4 that did not begin")
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_walk_takes_what_the_decoder_takes(record in bytes()) {
        thread_local!(static SCHEMA: ProtobufSchema = compile(PROTO3));
        SCHEMA.with(|schema| {
            let decoded = DynamicMessage::decode(schema.message.clone(), record.as_slice());
            let checked = schema.check(&record, Encoding::Binary, &mut json::Scratch::default(), &mut Vec::new());
            // A decoded message is not printed: its descriptors refer to each other without an end.
            let agree = decoded.is_ok() == checked.is_ok() || is_a_map_in_another_wire_type(&checked);
            prop_assert!(agree, "{:02x?} {:?} {:?}", record, decoded.err(), checked);
            Ok(())
        })?;
    }

    #[test]
    fn json_that_was_written_from_a_message_is_that_message(record in bytes()) {
        thread_local!(static SCHEMA: ProtobufSchema = compile(PROTO3));
        SCHEMA.with(|schema| {
            let Ok(mut message) = DynamicMessage::decode(schema.message.clone(), record.as_slice()) else { return Ok(()) };
            let unknown: Vec<_> = message.take_unknown_fields().collect();
            drop(unknown);
            let Ok(json) = serde_json::to_vec(&message) else { return Ok(()) };
            let mut out = Vec::new();
            prop_assert_eq!(schema.check(&json, Encoding::Json, &mut json::Scratch::default(), &mut out), Ok(Checked::Transcoded));
            let again = DynamicMessage::decode(schema.message.clone(), out.as_slice()).unwrap();
            prop_assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&message).unwrap());
            Ok(())
        })?;
    }
}
