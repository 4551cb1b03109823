//! `cargo +nightly fuzz run content_encoding`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate::internals::fuzz::fuzz_decode(input));
