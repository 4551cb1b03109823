//! A store whose disk is full or fails: what it holds is read on, what cannot be written is refused with the reason, and it takes
//! records again by itself.
//!
//! The full disk is a real one: the test starts itself anew within a small tmpfs of its own, as root or in a user namespace.

use super::support::{Fixture, START_MS, acknowledge, block_on, content, defaults, fetch, parse, publish};
use crate::{
    backend::local::{Clock, Handle, Health, Store},
    record::{Outcome, Receipt},
    reject::Reject,
    rt::clock,
    station::Station,
};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::Path,
    process::Command,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = clock::now();
    while !holds() {
        assert!(clock::since(begun) < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Publishes one record until it is stored; its sequence.
fn publish_at_last(handle: &Handle, station: &Station, payload: &str) -> u64 {
    let mut sequence = 0;
    until("a record is taken again", || match publish(handle, station, &[payload], None) {
        Ok(outcomes) => match outcomes.as_slice() {
            [Outcome::Stored(Receipt { sequence: stored, .. })] => {
                sequence = *stored;
                true
            }
            _ => false,
        },
        Err(_) => false,
    });
    sequence
}

fn refusal(result: Result<Vec<Outcome>, Reject>) -> Reject {
    match result {
        Err(why) => why,
        Ok(outcomes) => match outcomes.into_iter().next() {
            Some(Outcome::Failed(why)) => why,
            other => panic!("it was taken: {other:?}"),
        },
    }
}

#[test]
fn f7_a_full_device_refuses_records_in_words_and_hands_out_what_is_there() {
    let mut fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let known = fixture.consumer(&station, "known");
    publish(&handle, &station, &["a", "b"], None).expect("published");
    fixture.store().shared.free_bytes.store(1, Ordering::SeqCst);
    let text = format!("no space left on the device of {}", fixture.dir().display());
    for _ in 0..3 {
        assert_eq!(refusal(publish(&handle, &station, &["c"], None)), Reject::StoreReadOnly(text.clone().into()));
    }
    assert_eq!(fixture.store().health(), Health::Full(text.clone().into()));
    let full = Err(Reject::StoreReadOnly(text.into()));
    assert_eq!(block_on(fixture.store().station(&parse("new"), true)), full.clone().map(|()| Arc::clone(&station)));
    assert_eq!(block_on(fixture.store().delete_station(&parse("orders"))), full.map(|()| true), "not even for that");
    let delivered = fetch(&handle, &station, &known, 1, 0).expect("a known group");
    assert_eq!(content(&delivered), [(0, 1, "a".to_owned())]);
    acknowledge(&handle, &known, &delivered);
    let new = fixture.consumer(&station, "new");
    let delivered = fetch(&handle, &station, &new, 10, 0).expect("a new group");
    assert_eq!(content(&delivered).len(), 2);
    acknowledge(&handle, &new, &delivered);
    assert_eq!(content(&fetch(&handle, &station, &known, 10, 0).expect("goes on")), [(0, 2, "b".to_owned())]);
    fixture.store().shared.free_bytes.store(0, Ordering::SeqCst);
    assert_eq!(publish_at_last(&handle, &station, "c"), 3, "nothing was stored before");
    assert_eq!(fixture.store().health(), Health::Writable);
    fixture.reopen();
    let handle = fixture.store().handle();
    assert_eq!(
        content(&fetch(&handle, &station, &new, 10, 0).expect("kept")),
        [(0, 3, "c".to_owned())],
        "it was saved"
    );
}

#[test]
fn f7_what_gives_space_back_is_done_with_little_room() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    publish(&handle, &station, &["a"], None).expect("published");
    fixture.store().shared.free_bytes.store(64 << 20, Ordering::SeqCst);
    assert!(matches!(refusal(publish(&handle, &station, &["c"], None)), Reject::StoreReadOnly(_)));
    assert!(block_on(fixture.store().registry_put("a", b"", None)).is_err());
    assert_eq!(block_on(fixture.store().delete_station(&parse("orders"))), Ok(true));
}

#[test]
fn f7_a_failed_commit_is_undone_and_the_store_goes_on_in_the_same_process() {
    let mut fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let consumer = fixture.consumer(&station, "g");
    publish(&handle, &station, &["a", "b"], None).expect("published");
    fixture.store().refuse_writes();
    let why = format!("{:?}", refusal(publish(&handle, &station, &["lost"], None)));
    assert!(why.contains(&fixture.dir().display().to_string()) && !why.contains("Fjall"), "{why}");
    assert!(matches!(fixture.store().health(), Health::ReadOnly(_)));
    let delivered = fetch(&handle, &station, &consumer, 1, 0).expect("fetched");
    acknowledge(&handle, &consumer, &delivered);
    let held = fixture.consumer(&station, "held");
    acknowledge(&handle, &held, &fetch(&handle, &station, &held, 1, 0).expect("fetched"));
    fixture.store().shared.fail_next_commit.store(false, Ordering::SeqCst);
    assert_eq!(publish_at_last(&handle, &station, "c"), 3, "what failed is not there");
    assert_eq!(fixture.store().health(), Health::Writable);
    for group in [&consumer, &held] {
        let delivered = fetch(&handle, &station, group, 10, 0).expect("fetched");
        let expect = [(0, 2, "b".to_owned()), (0, 3, "c".to_owned())];
        assert_eq!(content(&delivered), expect, "{}: it goes on where it was", group.durable);
    }
    block_on(fixture.store().registry_put("a", b"value", None)).expect("documents as well");
    assert_eq!(fixture.store().registry_get("a").expect("read").expect("there").value, b"value");
    assert_eq!(fixture.station("another").partitions.len(), 1);
    fixture.reopen();
    assert_eq!(fixture.info(&station.name).partitions[0].last, 3);
}

#[test]
fn f7_a_store_that_does_not_open_again_says_so_and_opens_when_it_can() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let consumer = fixture.consumer(&station, "g");
    publish(&handle, &station, &["a"], None).expect("published");
    let (version, away) = (fixture.dir().join("store/db/version"), fixture.dir().join("version"));
    fixture.store().refuse_writes();
    refusal(publish(&handle, &station, &["lost"], None));
    assert!(!fixture.store().health().needs_a_new_process(), "it is tried first");
    fs::rename(&version, &away).expect("moved");
    fixture.store().shared.fail_next_commit.store(false, Ordering::SeqCst);
    until("it is lost", || fixture.store().health().needs_a_new_process());
    assert!(matches!(refusal(publish(&handle, &station, &["lost"], None)), Reject::StoreReadOnly(_)));
    assert!(fetch(&handle, &station, &consumer, 10, 0).is_err(), "answered, not left waiting");
    fs::rename(&away, &version).expect("moved");
    assert_eq!(publish_at_last(&handle, &station, "b"), 2);
    assert_eq!(fixture.store().health(), Health::Writable);
}

const DIR: &str = "SLUICEGATE_TEST_FULL_DIR";
const NAME: &str = "backend::local::tests::heal::f7_a_disk_that_was_full_is_written_again_without_a_restart";

#[test]
fn f7_a_disk_that_was_full_is_written_again_without_a_restart() {
    if let Some(dir) = std::env::var_os(DIR) {
        on_a_small_disk(Path::new(&dir));
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let script =
        format!(r#"mount -t tmpfs -o size=160m none "${DIR}" || exit 99; exec "$0" {NAME} --exact --nocapture"#);
    let mut said = Vec::new();
    for namespaces in [&["--mount"][..], &["--user", "--map-root-user", "--mount"]] {
        let mut command = Command::new("unshare");
        command.args(namespaces).args(["sh", "-c", &script]).arg(std::env::current_exe().expect("this program"));
        match command.env(DIR, dir.path()).output() {
            Ok(output) if output.status.success() => {
                let text = String::from_utf8_lossy(&output.stdout);
                assert!(text.contains("1 passed"), "{text}");
                return;
            }
            Ok(output) => {
                let text =
                    [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned()).concat();
                assert!(!text.contains("running 1 test"), "{text}");
                said.push(text);
            }
            Err(error) => said.push(error.to_string()),
        }
    }
    panic!(
        "this test needs a small disk: `unshare` must be allowed to mount one, as root or in a user namespace: {said:?}"
    );
}

/// Fills the device; what it was filled with.
fn fill(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("filler");
    let mut file = File::create(&path).expect("made");
    let block = vec![0x55; 64 * 1024];
    for size in [block.len(), 4_096, 1] {
        let part = &block[..size];
        loop {
            match file.write_all(part) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    path
}

/// Twice: full before a commit, which is seen; and in the middle of one, which is made not to be seen.
fn on_a_small_disk(dir: &Path) {
    let place = dir.join("data");
    let open = || {
        let clock = Clock::Manual(Arc::new(START_MS.into()));
        Store::open(&place, defaults(1), clock).expect("the store opens")
    };
    let store = open();
    let (handle, station) = (store.handle(), block_on(store.station(&parse("orders"), true)).expect("a station"));
    let payload = "p".repeat(50_000);
    let mut count = 0;
    let store_some = |count: &mut u64| {
        for _ in 0..20 {
            *count += 1;
            assert_eq!(publish_at_last(&handle, &station, &payload), *count);
        }
    };
    store_some(&mut count);
    for is_seen in [true, false] {
        let filler = fill(dir);
        if !is_seen {
            store.shared.free_bytes.store(u64::MAX, Ordering::SeqCst);
        }
        let why = refusal(publish(&handle, &station, &[&payload, &payload], None));
        let text = format!("{why:?}");
        assert!(
            text.contains(&format!("no space left on the device of {}", place.display())),
            "seen: {is_seen}: {text}"
        );
        assert_eq!(matches!(why, Reject::StoreReadOnly(_)), is_seen, "{text}");
        assert_eq!(matches!(store.health(), Health::Full(_)), is_seen, "{:?}", store.health());
        store.shared.free_bytes.store(0, Ordering::SeqCst);
        thread::sleep(Duration::from_secs(2));
        refusal(publish(&handle, &station, &[&payload], None));
        assert!(!store.health().needs_a_new_process(), "a new process would not help: {:?}", store.health());
        // Also by groups that cannot be saved.
        let reader =
            block_on(store.consumer(&station, Some(&parse(&format!("g{is_seen}"))), "tests")).expect("a consumer");
        let mut read = 0;
        while read < count {
            let delivered = fetch(&handle, &station, &reader, 1_000, 0).expect("what is there is read");
            read += delivered.messages.len() as u64;
            acknowledge(&handle, &reader, &delivered);
        }
        fs::remove_file(filler).expect("removed");
        store_some(&mut count);
        assert_eq!(store.health(), Health::Writable);
    }
    assert!(store.close(PATIENCE));
    let store = open();
    let info = block_on(store.describe_station(&station.name)).expect("answered").expect("there");
    assert_eq!((info.partitions[0].last, info.groups.len()), (count, 2));
    assert!(store.close(PATIENCE));
}
