//! `sluicegate user add|list|remove|passwd`: over the admin API of a gateway that runs.

use super::{admin::AdminArgs, exit::Failure};
use crate::station::{Name, Pattern};
use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use std::{
    fmt::Write as _,
    io::{BufRead, Write},
};

/// Add, list and remove users.
#[derive(Debug, Args)]
pub(super) struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Add a user; without --produce and --consume it may do everything with every station
    Add {
        /// Its name
        name: String,
        /// Read the password from the first line of standard input
        #[arg(long, required = true)]
        password_stdin: bool,
        /// Stations that it may produce to; `*` stands for any characters; may be given several times
        #[arg(long, value_name = "PATTERN")]
        produce: Vec<String>,
        /// Stations that it may consume from
        #[arg(long, value_name = "PATTERN")]
        consume: Vec<String>,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// List the users and what they may do
    List {
        /// Print the gateway's JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Remove a user
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Give a user another password
    Passwd {
        /// Its name
        name: String,
        /// Read the password from the first line of standard input
        #[arg(long, required = true)]
        password_stdin: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

#[derive(Serialize)]
struct NewUser<'a> {
    name: &'a str,
    password: &'a str,
    produce: &'a [String],
    consume: &'a [String],
}

#[derive(Deserialize)]
struct Listing {
    users: Vec<ListedUser>,
}

#[derive(Deserialize)]
struct ListedUser {
    name: String,
    #[serde(default)]
    account: u64,
    #[serde(default)]
    produce: Vec<String>,
    #[serde(default)]
    consume: Vec<String>,
    #[serde(default)]
    root: bool,
}

/// Does what was asked.
pub(super) fn run(args: &UserArgs) -> Result<(), Failure> {
    match &args.command {
        UserCommand::Add { name, produce, consume, admin, .. } => add(name, produce, consume, admin),
        UserCommand::List { json, admin } => list(*json, admin),
        UserCommand::Remove { name, admin } => {
            let name = user_name(name)?;
            admin.call("DELETE", &user_path(&name), None)?;
            say(&format!("removed {name}\n"))
        }
        UserCommand::Passwd { name, admin, .. } => {
            let name = user_name(name)?;
            let password = password(std::io::stdin().lock())?;
            let body = serde_json::json!({ "password": password }).to_string();
            admin.call("PUT", &format!("{}/password", user_path(&name)), Some(&body))?;
            say(&format!("{name} has a new password\n"))
        }
    }
}

fn add(name: &str, produce: &[String], consume: &[String], admin: &AdminArgs) -> Result<(), Failure> {
    let name = user_name(name)?;
    let (produce, consume) = grants(produce, consume)?;
    let password = password(std::io::stdin().lock())?;
    let user = NewUser { name: &name, password: &password, produce: &produce, consume: &consume };
    let body = serde_json::to_string(&user).map_err(|fault| Failure::other(fault.to_string()))?;
    admin.call("POST", "/api/v1/users", Some(&body))?;
    say(&format!("added {name}\n  may produce to:   {}\n  may consume from: {}\n", words(&produce), words(&consume)))
}

fn list(json: bool, admin: &AdminArgs) -> Result<(), Failure> {
    let body = admin.call("GET", "/api/v1/users", None)?;
    if json {
        return say(&format!("{}\n", String::from_utf8_lossy(&body).trim_end()));
    }
    let listing: Listing = serde_json::from_slice(&body)
        .map_err(|_| Failure::other("the answer is no list of users: is this address a gateway's admin listener?"))?;
    say(&table(&listing))
}

fn table(listing: &Listing) -> String {
    let width = listing.users.iter().map(|user| user.name.len()).max().unwrap_or(0).max(4);
    let mut text = format!("{:width$}  ACCOUNT  PRODUCE / CONSUME\n", "NAME");
    for user in &listing.users {
        let rights = if user.root {
            "everything (root)".to_owned()
        } else {
            format!("{} / {}", words(&user.produce), words(&user.consume))
        };
        let _ = writeln!(text, "{:width$}  {:<7}  {rights}", user.name, user.account);
    }
    text
}

/// As in the original, a user of whom nothing is said may do everything; once something is said, it is all.
fn grants(produce: &[String], consume: &[String]) -> Result<(Vec<String>, Vec<String>), Failure> {
    if produce.is_empty() && consume.is_empty() {
        return Ok((vec!["*".to_owned()], vec!["*".to_owned()]));
    }
    let checked = |patterns: &[String]| {
        patterns.iter().map(|pattern| Pattern::parse(pattern).map(|pattern| pattern.as_str().to_owned())).collect()
    };
    let checked =
        |patterns: &[String]| -> Result<Vec<String>, Failure> { Result::map_err(checked(patterns), Failure::usage) };
    Ok((checked(produce)?, checked(consume)?))
}

fn words(patterns: &[String]) -> String {
    if patterns.is_empty() { "nothing".to_owned() } else { patterns.join(", ") }
}

fn user_name(name: &str) -> Result<String, Failure> {
    Name::parse(name).map(|name| name.as_str().to_owned()).map_err(|fault| Failure::usage(fault.text("User name")))
}

fn user_path(name: &str) -> String {
    format!("/api/v1/users/{}", utf8_percent_encode(name, NON_ALPHANUMERIC))
}

/// The first line, without its end. It is on no command line, where other processes could read it.
fn password(input: impl BufRead) -> Result<String, Failure> {
    let mut line = String::new();
    input
        .take(PASSWORD_BYTES_MAX)
        .read_line(&mut line)
        .map_err(|fault| Failure::usage(format!("the password cannot be read from standard input: {fault}")))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::usage("the password is empty: write it to standard input, one line"));
    }
    Ok(password.to_owned())
}

fn say(text: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|fault| Failure::other(format!("standard output: {fault}")))
}

const PASSWORD_BYTES_MAX: u64 = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_of_whom_nothing_is_said_may_do_everything_and_else_only_what_is_said() {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for (produce, consume, expect) in [
            (&[][..], &[][..], Some((list(&["*"]), list(&["*"])))),
            (&["Prod.*"], &[], Some((list(&["prod.*"]), list(&[])))),
            (&[], &["a", "b"], Some((list(&[]), list(&["a", "b"])))),
            (&["a b"], &[], None),
        ] {
            assert_eq!(grants(&list(produce), &list(consume)).ok(), expect, "{produce:?} {consume:?}");
        }
    }

    #[test]
    fn a_password_is_one_line_of_standard_input() {
        for (input, expect) in
            [("secret\n", Some("secret")), ("s p \r\nmore\n", Some("s p ")), ("x", Some("x")), ("\n", None), ("", None)]
        {
            assert_eq!(password(input.as_bytes()).ok().as_deref(), expect, "{input:?}");
        }
    }

    #[test]
    fn the_table_says_who_may_do_what() {
        let listing: Listing = serde_json::from_str(
            r#"{"users":[{"name":"root","account":1,"produce":[],"consume":[],"root":true},
                {"name":"bob.the-builder","account":1,"produce":["a.*","b"],"consume":[],"root":false}]}"#,
        )
        .unwrap();
        let expect = "NAME             ACCOUNT  PRODUCE / CONSUME\n\
                      root             1        everything (root)\n\
                      bob.the-builder  1        a.*, b / nothing\n";
        assert_eq!(table(&listing), expect);
    }
}
