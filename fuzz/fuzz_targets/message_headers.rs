//! `cargo +nightly fuzz run message_headers`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate::internals::fuzz::fuzz_headers(input));
