//! Tests of the engine as a whole: tables of requests and their verdicts, and properties of streams.

mod bodies;
mod framing;
mod heads;
mod responses;
mod streams;
