//! `sluicegate user add|rights|list|remove|passwd`: users and their rights.

use super::{
    exit::Failure,
    print::{Common, encoded, json, table, words},
};
use crate::{
    api::users::{AddUser, SetPassword, UserView},
    byte_order_mark,
    station::{Name, Pattern},
};
use clap::{Args, Subcommand};
use std::io::BufRead;

/// Add, list and remove users.
#[derive(Debug, Args)]
pub(super) struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Add a user; without --produce and --consume it may produce to and consume from every station
    Add {
        /// Name of the user
        name: String,
        /// Read the password from the first line of standard input
        #[arg(long, required = true)]
        password_stdin: bool,
        /// Stations that it may produce to; `*` stands for any characters; can be given several times
        #[arg(long, value_name = "PATTERN")]
        produce: Vec<String>,
        /// Stations that it may consume from
        #[arg(long, value_name = "PATTERN")]
        consume: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Change the rights of a user; its tokens stay valid and have the new rights
    Rights {
        /// Name of the user
        name: String,
        /// Stations that it may produce to, instead of the present ones; '' for none; can be given several times
        #[arg(long, value_name = "PATTERN", required_unless_present = "consume")]
        produce: Vec<String>,
        /// Stations that it may consume from, instead of the present ones
        #[arg(long, value_name = "PATTERN")]
        consume: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// List the users and what they may do
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Remove a user
    Remove {
        /// Name of the user
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Set the password of a user
    Passwd {
        /// Name of the user
        name: String,
        /// Read the password from the first line of standard input
        #[arg(long, required = true)]
        password_stdin: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// Runs the command.
pub(super) fn run(args: &UserArgs) -> Result<(), Failure> {
    match &args.command {
        UserCommand::Add { name, produce, consume, common, .. } => add(name, produce, consume, common),
        UserCommand::Rights { name, produce, consume, common } => {
            let name = user_name(name)?;
            let body = rights(produce, consume)?;
            common.ask("PATCH", &user_path(&name), Some(&body), |user: UserView| with_rights("changed", &user))
        }
        UserCommand::List { common } => common.list(USERS, "users", |users| listing(&users)),
        UserCommand::Remove { name, common } => {
            let name = user_name(name)?;
            common.order("DELETE", &user_path(&name), None, &format!("removed {name}\n"))
        }
        UserCommand::Passwd { name, common, .. } => {
            let name = user_name(name)?;
            let password = password(std::io::stdin().lock())?;
            let body = json(&SetPassword { password })?;
            let path = format!("{}/password", user_path(&name));
            common.order("PUT", &path, Some(&body), &format!("{name} has a new password\n"))
        }
    }
}

fn add(name: &str, produce: &[String], consume: &[String], common: &Common) -> Result<(), Failure> {
    let name = user_name(name)?;
    let (produce, consume) = grants(produce, consume)?;
    let password = password(std::io::stdin().lock())?;
    let user = AddUser { name, password, produce: Some(produce), consume: Some(consume) };
    common.ask("POST", USERS, Some(&json(&user)?), |user: UserView| with_rights("added", &user))
}

fn with_rights(verb: &str, user: &UserView) -> String {
    let (produce, consume) = (words(&user.produce), words(&user.consume));
    format!("{verb} {}\n  may produce to:   {produce}\n  may consume from: {consume}\n", user.name)
}

fn listing(users: &[UserView]) -> String {
    let row = |user: &UserView| {
        let rights = if user.root {
            "everything (root)".to_owned()
        } else {
            format!("{} / {}", words(&user.produce), words(&user.consume))
        };
        [user.name.clone(), user.account.to_string(), rights]
    };
    table(["NAME", "ACCOUNT", "PRODUCE / CONSUME"], &users.iter().map(row).collect::<Vec<_>>())
}

/// Returns the body that changes the given rights. A list that has only '' is an empty list.
fn rights(produce: &[String], consume: &[String]) -> Result<String, Failure> {
    let mut body = serde_json::Map::new();
    for (field, patterns) in [("produce", produce), ("consume", consume)] {
        if !patterns.is_empty() {
            let said: Vec<String> = patterns.iter().filter(|pattern| !pattern.is_empty()).cloned().collect();
            body.insert(field.to_owned(), checked(&said)?.into());
        }
    }
    Ok(serde_json::Value::Object(body).to_string())
}

/// Returns the rights of a new user. As in the original, a user without any right in the command may do everything;
/// else it has those rights.
fn grants(produce: &[String], consume: &[String]) -> Result<(Vec<String>, Vec<String>), Failure> {
    if produce.is_empty() && consume.is_empty() {
        return Ok((vec!["*".to_owned()], vec!["*".to_owned()]));
    }
    Ok((checked(produce)?, checked(consume)?))
}

fn checked(patterns: &[String]) -> Result<Vec<String>, Failure> {
    let parsed = patterns.iter().map(|text| Pattern::parse(text).map(|pattern| pattern.as_str().to_owned()));
    parsed.collect::<Result<_, String>>().map_err(Failure::usage)
}

fn user_name(name: &str) -> Result<String, Failure> {
    Name::parse(name).map(|name| name.as_str().to_owned()).map_err(|fault| Failure::usage(fault.text("User name")))
}

fn user_path(name: &str) -> String {
    format!("{USERS}/{}", encoded(name))
}

/// Reads the password: the first line, without its end. It is not an argument, because other processes can read those.
fn password(input: impl BufRead) -> Result<Box<str>, Failure> {
    let mut line = String::new();
    input
        .take(PASSWORD_BYTES_MAX)
        .read_line(&mut line)
        .map_err(|fault| Failure::usage(format!("the password cannot be read from standard input: {fault}")))?;
    let password = byte_order_mark::strip(&line).trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::usage("the password is empty: write it to standard input, one line"));
    }
    Ok(password.into())
}

const USERS: &str = "/api/v1/users";
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
    fn rights_that_are_not_named_stay_and_an_empty_text_takes_them() {
        let body = |produce: &[&str], consume: &[&str]| {
            let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            rights(&list(produce), &list(consume)).ok()
        };
        assert_eq!(body(&["A.*", "b"], &[]).as_deref(), Some(r#"{"produce":["a.*","b"]}"#));
        assert_eq!(body(&[""], &["x"]).as_deref(), Some(r#"{"consume":["x"],"produce":[]}"#));
        assert_eq!(body(&["a b"], &[]), None);
    }

    #[test]
    fn a_password_is_one_line_of_standard_input() {
        for (input, expect) in [
            ("secret\n", Some("secret")),
            ("s p \r\nmore\n", Some("s p ")),
            ("x", Some("x")),
            ("\u{feff}secret\r\n", Some("secret")),
            ("\n", None),
            ("", None),
        ] {
            assert_eq!(password(input.as_bytes()).ok().as_deref(), expect, "{input:?}");
        }
    }

    #[test]
    fn the_table_says_who_may_do_what() {
        let users: Vec<UserView> = serde_json::from_str(
            r#"[{"name":"root","account":1,"produce":[],"consume":[],"root":true},
                {"name":"bob.the-builder","account":1,"produce":["a.*","b"],"consume":[],"root":false}]"#,
        )
        .unwrap();
        let expect = "NAME             ACCOUNT  PRODUCE / CONSUME\n\
                      root             1        everything (root)\n\
                      bob.the-builder  1        a.*, b / nothing\n";
        assert_eq!(listing(&users), expect);
    }
}
