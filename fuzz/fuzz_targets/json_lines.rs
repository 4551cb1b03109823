//! `cargo +nightly fuzz run json_lines`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate::internals::fuzz::fuzz_lines(input));
