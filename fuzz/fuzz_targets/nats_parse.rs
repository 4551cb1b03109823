//! `cargo +nightly fuzz run nats_parse`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate::internals::fuzz::fuzz_parse(input));
