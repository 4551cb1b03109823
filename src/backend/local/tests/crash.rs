//! `kill -9` while four threads publish and one consumes: nothing acknowledged is lost, doubled or moved, and
//! the group is given every record.
//!
//! The test starts itself anew as the victim, with the directory in an environment variable. The victim
//! writes a line for each acknowledgement; lines that reached the pipe were acknowledged.

use super::support::{acknowledge, block_on, content, defaults, fetch, parse, publish};
use crate::{
    backend::local::{Clock, Store},
    record::{MessageId, Outcome, Receipt},
    station::Station,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

const DIR: &str = "SLUICEGATE_TEST_CRASH_DIR";
const CYCLE: &str = "SLUICEGATE_TEST_CRASH_CYCLE";
const CYCLES: usize = 10;
const NAME: &str = "backend::local::tests::crash::what_was_acknowledged_before_a_kill_is_there_once_and_in_order";

#[test]
fn what_was_acknowledged_before_a_kill_is_there_once_and_in_order() {
    if let Some(dir) = std::env::var_os(DIR) {
        victim(Path::new(&dir), &std::env::var(CYCLE).expect("set with the directory"));
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut acknowledged: BTreeMap<u64, String> = BTreeMap::new();
    let mut delivered: BTreeSet<u64> = BTreeSet::new();
    for cycle in 0..CYCLES {
        run_and_kill(dir.path(), cycle, &mut acknowledged, &mut delivered);
        check(dir.path(), &format!("cycle-{cycle}"), &acknowledged, None);
    }
    check(dir.path(), "end", &acknowledged, Some(delivered));
    assert!(acknowledged.len() > 10 * CYCLES, "only {} records in {CYCLES} cycles", acknowledged.len());
}

/// Publishes and consumes until it is killed.
fn victim(dir: &Path, cycle: &str) -> ! {
    let store = Store::open(dir, defaults(1), Clock::system()).expect("the store opens");
    let station = block_on(store.station(&parse("orders"), true)).expect("a station");
    let consumer = block_on(store.consumer(&station, None, "tests")).expect("a consumer");
    for writer in 0..4 {
        let (handle, station, cycle) = (store.handle(), Arc::clone(&station), cycle.to_owned());
        thread::spawn(move || publish_for_ever(&handle, &station, &format!("{cycle}.{writer}")));
    }
    let handle = store.handle();
    loop {
        let messages = fetch(&handle, &station, &consumer, 50, 100).expect("fetched");
        for (_, sequence, _) in content(&messages) {
            say(&format!("#delivered {sequence}"));
        }
        acknowledge(&handle, &consumer, &messages);
    }
}

fn publish_for_ever(handle: &crate::backend::local::Handle, station: &Station, who: &str) {
    for number in 0.. {
        let texts: Vec<String> = (0..3).map(|part| format!("{who}/{number:06}/{part}")).collect();
        let payloads: Vec<&str> = texts.iter().map(String::as_str).collect();
        let base = format!("{who}/{number}");
        let id = (number % 2 == 0).then_some(MessageId { base: &base, numbered: Some(0) });
        let outcomes = publish(handle, station, &payloads, id).expect("published");
        for (text, outcome) in texts.iter().zip(outcomes) {
            let Outcome::Stored(Receipt { sequence, duplicate: false, .. }) = outcome else { panic!("{outcome:?}") };
            say(&format!("#stored {sequence} {text}"));
        }
    }
}

/// One write for one line, past the test harness's capture.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).expect("the parent listens");
}

fn run_and_kill(dir: &Path, cycle: usize, acknowledged: &mut BTreeMap<u64, String>, delivered: &mut BTreeSet<u64>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args([NAME, "--exact", "--nocapture"])
        .env(DIR, dir)
        .env(CYCLE, cycle.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let mut lines = output.split(b'\n');
    let mut seen = 0;
    // A different moment each time, and never before something was acknowledged.
    let enough = 30 + cycle * 37;
    for line in lines.by_ref() {
        note(&line.expect("read"), acknowledged, delivered);
        seen += 1;
        if seen == enough {
            child.kill().expect("killed");
        }
    }
    assert!(seen >= enough, "the victim ended by itself");
    child.wait().expect("gone");
}

fn note(line: &[u8], acknowledged: &mut BTreeMap<u64, String>, delivered: &mut BTreeSet<u64>) {
    let line = String::from_utf8_lossy(line);
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        // The last part tells a whole line from one that the kill cut.
        ["#stored", sequence, text] if text.matches('/').count() == 2 => {
            let before = acknowledged.insert(sequence.parse().expect("a number"), (*text).to_owned());
            assert_eq!(before, None, "sequence {sequence} was given out twice");
        }
        ["#delivered", sequence] => drop(sequence.parse().map(|sequence| delivered.insert(sequence))),
        _ => {}
    }
}

/// The store holds every acknowledged record at its sequence, each text once, each writer's texts in order. With
/// `delivered`: what the group got by then and what it gets now is everything.
fn check(dir: &Path, group: &str, acknowledged: &BTreeMap<u64, String>, delivered: Option<BTreeSet<u64>>) {
    let store = Store::open(dir, defaults(1), Clock::system()).expect("opens after a kill");
    let handle = store.handle();
    let station = block_on(store.station(&parse("orders"), false)).expect("there");
    let last = block_on(store.stations()).expect("listed")[0].partitions[0].last;
    // A group of its own, which begins at the first record.
    let reader = block_on(store.consumer(&station, Some(&parse(group)), "tests")).expect("a consumer");
    let mut held = BTreeMap::new();
    loop {
        let messages = fetch(&handle, &station, &reader, 5_000, 0).expect("fetched");
        if messages.messages.is_empty() {
            break;
        }
        held.extend(content(&messages).into_iter().map(|(_, sequence, text)| (sequence, text)));
        acknowledge(&handle, &reader, &messages);
    }
    let sequences: Vec<u64> = held.keys().copied().collect();
    assert_eq!(sequences, (1..=last).collect::<Vec<_>>(), "sequences are dense");
    let lost: Vec<_> = acknowledged.iter().filter(|(sequence, text)| held.get(sequence) != Some(text)).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    let texts: BTreeSet<&String> = held.values().collect();
    assert_eq!(texts.len(), held.len(), "a record is there twice");
    let mut last_of: BTreeMap<&str, &str> = BTreeMap::new();
    for text in held.values() {
        let (writer, rest) = text.split_once('/').expect("written so");
        let before = last_of.insert(writer, rest);
        assert!(before.is_none_or(|before| before < rest), "{writer}: {before:?} before {rest}");
    }
    if let Some(mut delivered) = delivered {
        let consumer = block_on(store.consumer(&station, None, "tests")).expect("a consumer");
        loop {
            let messages = fetch(&handle, &station, &consumer, 5_000, 0).expect("fetched");
            if messages.messages.is_empty() {
                break;
            }
            delivered.extend(messages.messages.iter().map(|one| one.sequence));
        }
        let missed: Vec<u64> = (1..=last).filter(|sequence| !delivered.contains(sequence)).collect();
        assert!(missed.is_empty(), "never delivered: {missed:?}");
    }
    assert!(store.close(Duration::from_secs(20)));
}
