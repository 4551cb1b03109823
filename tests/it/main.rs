//! The integration suite: the built binary from outside, on both backends and both drivers.
//!
//! One binary, linked once. A test is named after the property it protects; what a whole file is
//! about stands at its top. Everything that a test starts (gateways, NATS servers, proxies) lives in
//! its own directory and on its own ports, and dies with the test or, whatever happens, with this
//! process (`support::reaper`). A test that needs a NATS server and finds none fails: `make test`
//! installs them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed: the panic is the report")]
#![allow(
    clippy::disallowed_types,
    reason = "the ban on locks is for the data path; tests share gateways between threads"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the time of a test of processes is the real one: it needs no `rt::clock`"
)]
#![allow(unreachable_pub, reason = "a test binary has no outside: `pub` here means: for the other modules")]
#![allow(clippy::must_use_candidate, reason = "as above")]

#[macro_use]
mod support;

mod broker_login;
mod cannot_store;
#[path = "../chaos/verdict.rs"]
mod chaos_verdict;
mod cluster;
mod cluster_publish;
mod commands;
mod commit_messages;
mod compat;
mod contract_auth;
mod contract_consume;
mod contract_http;
mod contract_names;
mod contract_produce;
mod dead_letters;
mod defects;
mod delivered;
mod documented;
mod duplicate_window;
mod framing;
mod framing_cases;
mod groups;
mod guessing;
mod import;
mod json_schema_suite;
mod keys;
mod kill;
mod layering;
mod lifecycle;
mod limits;
mod manual_ack;
mod metrics;
mod openapi;
mod peers;
mod preferences;
mod produce_stream;
mod publish_modes;
mod records;
mod registry;
mod replicas;
mod schemas;
mod stations;
mod stored_headers;
mod streams;
mod strict_kill;
mod summed_up;
mod surroundings;
mod tail;
mod tidy;
mod users;
