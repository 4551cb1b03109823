//! `sluicegate key create|list|revoke`: API keys, for clients that cannot log in and renew tokens.

use super::{
    exit::Failure,
    print::{Common, date, encoded, json, table, words},
};
use crate::{
    api::keys::{CreatedKey, KeyView, NewKey},
    config::parse_time,
};
use clap::{Args, Subcommand};
use std::time::Duration;

const KEYS: &str = "/api/v1/keys";

/// Create and revoke API keys.
#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Create a key and print it, and nothing else: it is never shown again. Without --produce, --consume and --admin
    /// it may produce to and consume from every station
    Create {
        /// Stations that it may produce to; `*` stands for any characters; can be given several times
        #[arg(long, value_name = "PATTERN")]
        produce: Vec<String>,
        /// Stations that it may consume from
        #[arg(long, value_name = "PATTERN")]
        consume: Vec<String>,
        /// Let it use the admin API
        #[arg(long = "admin")]
        admin_scope: bool,
        /// How long it is valid, such as 90d; by default for ever
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        expires: Option<Duration>,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// List the keys, what they may do, and how much they are used
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Revoke a key, at once and on all gateways
    Revoke {
        /// Id of the key: `key list` shows it, and it stands in the key between the first two underscores
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

/// Runs the command.
pub(super) fn run(args: &KeyArgs) -> Result<(), Failure> {
    match &args.command {
        KeyCommand::Create { common, .. } => {
            let body = json(&new_key(&args.command)?)?;
            common.ask("POST", KEYS, Some(&body), |made: CreatedKey| format!("{}\n", made.key))
        }
        KeyCommand::List { common } => common.list(KEYS, "items", |keys| listing(&keys)),
        KeyCommand::Revoke { id, common } => {
            common.order("DELETE", &format!("{KEYS}/{}", encoded(id)), None, &format!("revoked {id}\n"))
        }
    }
}

fn new_key(command: &KeyCommand) -> Result<NewKey, Failure> {
    let KeyCommand::Create { produce, consume, admin_scope, expires, description, .. } = command else {
        return Ok(NewKey::default());
    };
    if expires.is_some_and(|time| time < Duration::from_secs(1)) {
        return Err(Failure::usage("--expires: write at least 1s"));
    }
    // As with a user: a key without any right in the command may produce and consume everywhere; else it has those
    // rights.
    let unsaid = produce.is_empty() && consume.is_empty() && !admin_scope;
    let patterns = |said: &[String]| if unsaid { vec!["*".to_owned()] } else { said.to_vec() };
    Ok(NewKey {
        description: description.clone(),
        produce: patterns(produce),
        consume: patterns(consume),
        admin: *admin_scope,
        expires_in_s: expires.map(|time| time.as_secs()),
    })
}

fn listing(keys: &[KeyView]) -> String {
    let rows: Vec<_> = keys.iter().map(row).collect();
    table(["ID", "PRODUCE / CONSUME", "EXPIRES", "REQUESTS", "LAST MINUTE", "FOR"], &rows)
}

fn row(key: &KeyView) -> [String; 6] {
    let rights = format!("{} / {}", words(&key.produce), words(&key.consume));
    [
        key.id.clone(),
        if key.admin { format!("{rights}, admin") } else { rights },
        key.expires_ms.map_or_else(|| "never".to_owned(), date),
        key.requests.to_string(),
        key.requests_last_minute.to_string(),
        key.description.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        key: KeyArgs,
    }

    fn asked(line: &[&str]) -> Option<NewKey> {
        let line = Line::try_parse_from([&["key", "create"], line].concat()).ok()?;
        new_key(&line.key.command).ok()
    }

    #[test]
    fn a_key_may_what_is_said_and_nothing_else() {
        let key = asked(&["--produce", "orders*", "--expires", "90d", "--description", "till"]);
        let expect = NewKey {
            description: Some("till".to_owned()),
            produce: vec!["orders*".to_owned()],
            expires_in_s: Some(90 * 86_400),
            ..NewKey::default()
        };
        assert_eq!(key, Some(expect));
        assert_eq!(asked(&["--admin"]), Some(NewKey { admin: true, ..NewKey::default() }));
        let all = || vec!["*".to_owned()];
        assert_eq!(asked(&[]), Some(NewKey { produce: all(), consume: all(), ..NewKey::default() }));
        for wrong in [&["--expires", "90"][..], &["--admin", "--expires", "1ms"], &["--produce"]] {
            assert_eq!(asked(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_list_shows_what_keys_may_and_how_much_they_are_used() {
        let key = KeyView {
            id: "k1".to_owned(),
            description: None,
            produce: vec!["a".to_owned()],
            consume: Vec::new(),
            admin: true,
            created_ms: 0,
            expires_ms: None,
            requests: 7,
            requests_last_minute: 2,
        };
        assert_eq!(
            listing(&[key]),
            "ID  PRODUCE / CONSUME   EXPIRES  REQUESTS  LAST MINUTE  FOR\nk1  a / nothing, admin  never    7         2\n"
        );
    }
}
