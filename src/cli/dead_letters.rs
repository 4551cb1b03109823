//! `sluicegate station dead-letters NAME`: lists the dead letters of a station, replays or removes them.

use super::{
    exit::Failure,
    print::{Common, date, json, table},
};
use crate::api::dead_letters::{
    DeadLetterKind, DeadLetterSelection, DeadLetterView, PurgeReport, ReplayFailure, ReplayReport,
};
use clap::Args;
use std::fmt::Write as _;

/// Characters of an error that the list shows.
const ERROR_CHARS: usize = 100;

/// What to do with the dead letters. By default they are listed.
#[derive(Debug, Args)]
pub(super) struct Work {
    /// Validate dead letters again and store those that are valid: those with these numbers, or all
    #[arg(long, value_name = "ID", num_args = 0.., value_parser = number, conflicts_with = "purge")]
    replay: Option<Vec<Number>>,
    /// Remove dead letters: those with these numbers, or all
    #[arg(long, value_name = "ID", num_args = 0.., value_parser = number)]
    purge: Option<Vec<Number>>,
}

/// The number of a dead letter, or all dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    All,
    One(u64),
}

fn number(text: &str) -> Result<Number, String> {
    match text.parse() {
        Ok(number) => Ok(Number::One(number)),
        Err(_) if text == "all" => Ok(Number::All),
        Err(_) => Err("write the number of a dead letter, or all".to_owned()),
    }
}

/// Runs the command; `path` is that of the station's dead letters.
pub(super) fn run(path: &str, work: &Work, common: &Common) -> Result<(), Failure> {
    let send = |verb: &str, numbers: &[Number]| {
        common.call("POST", &format!("{path}/{verb}"), Some(&json(&selection(numbers))?))
    };
    match (&work.replay, &work.purge) {
        (Some(numbers), _) => {
            let answer = send("replay", numbers)?;
            common.show(&answer, |report: ReplayReport| replayed(&report))?;
            let report: Option<ReplayReport> = serde_json::from_slice(&answer).ok();
            match report.map_or(0, |report| report.failed.len()) {
                0 => Ok(()),
                1 => Err(Failure::other("1 could not be replayed and stays a dead letter")),
                failed => Err(Failure::other(format!("{failed} could not be replayed and stay dead letters"))),
            }
        }
        (None, Some(numbers)) => {
            common.show(&send("purge", numbers)?, |report: PurgeReport| format!("removed {}\n", report.purged))
        }
        (None, None) => common.list(path, "items", |letters| listing(&letters)),
    }
}

fn selection(numbers: &[Number]) -> DeadLetterSelection {
    let ids: Option<Vec<u64>> = numbers
        .iter()
        .map(|number| match number {
            Number::One(id) => Some(*id),
            Number::All => None,
        })
        .collect();
    DeadLetterSelection { ids: ids.filter(|ids| !ids.is_empty()) }
}

fn replayed(report: &ReplayReport) -> String {
    let mut text = format!("replayed {}\n", report.replayed);
    for ReplayFailure { id, error } in &report.failed {
        let _ = writeln!(text, "{id}: {error}");
    }
    text
}

fn listing(letters: &[DeadLetterView]) -> String {
    table(["ID", "TIME", "WHY", "BY", "ERROR"], &letters.iter().map(row).collect::<Vec<_>>())
}

fn row(letter: &DeadLetterView) -> [String; 5] {
    let why = match letter.kind {
        DeadLetterKind::Schema => {
            let version = letter.schema_version.map_or_else(String::new, |version| format!(" {version}"));
            format!("schema {}{version}", letter.schema.as_deref().unwrap_or_default())
        }
        DeadLetterKind::Deliveries => format!("not acknowledged by {}", letter.group.as_deref().unwrap_or_default()),
    };
    let mut error: String =
        letter.error.chars().take(ERROR_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if letter.error.chars().nth(ERROR_CHARS).is_some() {
        error.push('…');
    }
    [letter.id.to_string(), date(letter.time_ms), why, letter.principal.clone().unwrap_or_default(), error]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn some_are_some_and_none_or_all_are_all() {
        for (words, expect) in [
            (&[][..], None),
            (&["all"], None),
            (&["1", "all"], None),
            (&["1"], Some(vec![1])),
            (&["3", "1"], Some(vec![3, 1])),
        ] {
            let numbers: Vec<Number> = words.iter().map(|word| number(word).unwrap()).collect();
            assert_eq!(selection(&numbers).ids, expect, "{words:?}");
        }
        assert!(number("-1").is_err() && number("ALL").is_err());
    }

    #[test]
    fn the_list_says_why() {
        let letter = DeadLetterView {
            id: 7,
            kind: DeadLetterKind::Schema,
            error: "/n: not\nan integer".to_owned(),
            schema: Some("s".to_owned()),
            schema_version: Some(2),
            group: None,
            principal: Some("shop".to_owned()),
            time_ms: 1_700_000_000_000,
            message: None,
            message_base64: None,
            headers: BTreeMap::new(),
        };
        let late = DeadLetterView {
            kind: DeadLetterKind::Deliveries,
            group: Some("g".to_owned()),
            error: "x".repeat(200),
            ..letter.clone()
        };
        let [_, _, why, by, error] = row(&letter);
        assert_eq!((why.as_str(), by.as_str(), error.as_str()), ("schema s 2", "shop", "/n: not an integer"));
        let [_, _, why, _, error] = row(&late);
        assert_eq!((why.as_str(), error.chars().count()), ("not acknowledged by g", ERROR_CHARS + 1));
    }
}
