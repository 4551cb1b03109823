//! `cargo +nightly fuzz run puback`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate::internals::fuzz::fuzz_puback(input));
