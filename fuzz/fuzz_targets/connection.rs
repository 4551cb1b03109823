//! `cargo +nightly fuzz run connection`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate::internals::fuzz::fuzz_connection(input));
