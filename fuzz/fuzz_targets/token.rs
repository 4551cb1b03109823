//! `cargo +nightly fuzz run token`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate::internals::fuzz::fuzz_token(input));
