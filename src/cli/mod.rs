//! The command line: the commands of the program and its exit codes.
//!
//! `serve` is the default: its flags work with and without the word. The other commands are clients: they speak HTTP to
//! a running gateway and know nothing of its inside. This is the only module that prints; everything else logs.

mod admin;
mod banner;
mod bench;
mod client;
mod config;
mod consume;
mod dead_letters;
mod exit;
mod groups;
mod import;
mod key;
mod pipe;
mod print;
mod produce;
mod schema;
mod serve;
mod station;
mod user;

pub use exit::{Exit, Failure};

use crate::bench::BenchArgs;
use clap::{Parser, Subcommand, error::ErrorKind};
use std::process::ExitCode;

/// Records in over HTTP, acknowledged, into durable streams; and out again.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (the default)
    Serve(serve::ServeArgs),
    /// Check or print the configuration
    Config(config::ConfigArgs),
    /// Add, list and remove users, and say what they may do
    User(user::UserArgs),
    /// Import the stations and schemas of another system
    Import(import::ImportArgs),
    /// Create, change and remove stations, and see their dead letters
    Station(station::StationArgs),
    /// Add schemas and their versions, and activate one
    Schema(schema::SchemaArgs),
    /// Create and revoke API keys
    Key(key::KeyArgs),
    /// Send the lines of a file or of standard input to a station
    Produce(produce::ProduceArgs),
    /// Print the records of a station
    Consume(consume::ConsumeArgs),
    /// Put load on a gateway and measure it
    Bench(BenchArgs),
}

const EXIT_CODES: &str = "Exit codes: 0 done; 64 the command line or the configuration is wrong; 69 the gateway or the broker cannot be \
                          reached; 77 no permission; 1 another failure.";

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(fault) => {
            let _ = fault.print();
            let asked = matches!(fault.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { Exit::Ok.into() } else { Exit::Usage.into() };
        }
    };
    let done = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => return serve::run(&args),
        Command::Bench(args) => return bench::run(args),
        Command::Config(args) => config::run(&args),
        Command::User(args) => user::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Station(args) => station::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Key(args) => key::run(&args),
        Command::Produce(args) => produce::run(&args),
        Command::Consume(args) => consume::run(&args),
    };
    match done {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            print::complain(&format!("sluicegate: {failure}"));
            failure.exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_and_its_flags_work_without_the_word() {
        for line in [
            &["sluicegate"][..],
            &["sluicegate", "--listen", "127.0.0.1:1", "--driver", "epoll"],
            &["sluicegate", "serve", "--nats", "a,b", "--data-dir", "d", "--shards", "2", "--config", "f"],
            &["sluicegate", "serve", "--admin-listen", "127.0.0.1:2"],
            &["sluicegate", "config", "check", "--shards", "1"],
            &["sluicegate", "config", "print"],
            &[
                "sluicegate",
                "user",
                "add",
                "bob",
                "--password-stdin",
                "--produce",
                "a.*",
                "--produce",
                "b",
                "--consume",
                "*",
            ],
            &["sluicegate", "user", "list", "--json", "--url", "http://h:1"],
            &["sluicegate", "user", "remove", "bob"],
            &["sluicegate", "user", "rights", "bob", "--produce", "a.*", "--consume", ""],
            &[
                "sluicegate",
                "station",
                "create",
                "orders",
                "--partitions",
                "2",
                "--retention-age",
                "7d",
                "--storage",
                "file",
            ],
            &["sluicegate", "station", "dead-letters", "orders", "--json"],
            &["sluicegate", "schema", "add", "s", "--type", "avro", "--file", "f", "--url", "http://h:1"],
            &["sluicegate", "key", "create", "--produce", "a", "--consume", "b", "--expires", "90d"],
            &["sluicegate", "key", "revoke", "k"],
            &["sluicegate", "user", "passwd", "bob", "--password-stdin"],
            &["sluicegate", "produce", "orders", "-f", "x.ndjson", "--batch", "10", "--url", "http://h"],
            &["sluicegate", "produce", "orders", "--raw"],
            &["sluicegate", "import", "memphis", "dump.json", "--dry-run", "--url", "http://h:1"],
            &["sluicegate", "consume", "orders", "--group", "g", "--batch", "5", "--wait", "100", "--follow", "--json"],
            &["sluicegate", "consume", "orders", "--group", "g", "--count", "3"],
        ] {
            assert!(Cli::try_parse_from(line).is_ok(), "{line:?}: {:?}", Cli::try_parse_from(line).err());
        }
        for line in [
            &["sluicegate", "--no-such-flag"][..],
            &["sluicegate", "--listen", "127.0.0.1:1", "config", "check"],
            &["sluicegate", "user", "add"],
            &["sluicegate", "user", "rights", "bob"],
            &["sluicegate", "station", "create"],
            &["sluicegate", "schema", "add", "s", "--type", "avro"],
            &["sluicegate", "key", "revoke"],
            &["sluicegate", "produce"],
            &["sluicegate", "consume", "orders"],
        ] {
            assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
        }
    }
}
