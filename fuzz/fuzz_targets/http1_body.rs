//! `cargo +nightly fuzz run http1_body`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate::internals::fuzz::fuzz_body(input));
