//! `cargo +nightly fuzz run json_lines`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate::wire::json::fuzz_lines(input));
