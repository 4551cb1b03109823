//! `cargo +nightly fuzz run json_split`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate::wire::json::fuzz_split(input));
