//! `sluicegate config check|print`: checks or prints a configuration without starting anything.

use super::{exit::Failure, print::say, serve::ServeArgs};
use crate::config::{Loaded, NoticeLevel, Purpose, load};
use clap::{Args, Subcommand};
use std::fmt::Write as _;

/// Check or print the configuration.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether the configuration is valid; nothing is started or written
    Check(ServeArgs),
    /// Print the effective settings as TOML, with their origins; secrets are masked
    Print(ServeArgs),
}

/// Runs the command.
pub(super) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let (ConfigCommand::Check(serve) | ConfigCommand::Print(serve)) = &args.command;
    let loaded = load(&serve.sources(), Purpose::Inspect).map_err(|fault| Failure::usage(fault.to_string()))?;
    let text = match args.command {
        ConfigCommand::Check(_) => check(&loaded),
        ConfigCommand::Print(_) => loaded.render(),
    };
    say(&text)
}

fn check(loaded: &Loaded) -> String {
    let mut text = String::new();
    for notice in &loaded.notices {
        let word = if notice.level == NoticeLevel::Warning { "warning" } else { "note" };
        let _ = writeln!(text, "{word}: {}", notice.text);
    }
    text.push_str("The configuration is good.\n");
    text
}
