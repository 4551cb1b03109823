//! `cargo +nightly fuzz run broker_replies`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate::internals::fuzz::fuzz_replies(input));
