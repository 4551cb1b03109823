//! Stations with all their attributes: made, made again, changed while they are used, and found as they were.

use super::support::{Fixture, acknowledge, block_on, content, defaults, fetch, parse, publish, stored};
use crate::{
    backend::{
        Delivered,
        local::{StationError, format},
    },
    limits::PARTITIONS_MAX,
    record::MessageId,
    reject::Reject,
    station::{Attributes, AttributesChange, Station, Storage},
};
use std::{sync::Arc, time::Duration};

fn attributes() -> Attributes {
    defaults(1).attributes()
}

fn id(base: &str) -> MessageId<'_> {
    MessageId { base, numbered: None }
}

impl Fixture {
    fn create(&self, name: &str, attributes: &Attributes) -> Result<Arc<Station>, StationError> {
        block_on(self.store().create_station(&parse(name), attributes))?;
        Ok(self.station(name))
    }

    fn change(&self, name: &str, change: &AttributesChange) -> Result<(), StationError> {
        block_on(self.store().change_station(&parse(name), change))
    }

    /// What the groups have acknowledged is saved.
    fn save_positions(&self) {
        self.advance(Duration::from_secs(1));
        let elsewhere = self.station("elsewhere");
        let consumer = self.consumer(&elsewhere, "nobody");
        // The reader saves behind the first answer, and so before the second.
        for _ in 0..2 {
            fetch(&self.store().handle(), &elsewhere, &consumer, 1, 0).expect("fetched");
        }
        block_on(self.store().stations()).expect("the writer has come to it");
    }
}

#[test]
fn a_station_is_made_with_what_was_asked_for_and_the_same_again_is_no_error() {
    let mut fixture = Fixture::new(defaults(1));
    let asked = Attributes {
        partitions: 3,
        retention_age: Some(Duration::from_secs(60)),
        retention_records: Some(1_000),
        retention_bytes: Some(1 << 30),
        retention_acknowledged: true,
        duplicate_window: Duration::from_secs(5),
        ..attributes()
    };
    let station = fixture.create("orders", &asked).expect("made");
    assert_eq!(station.partitions.len(), 3);
    fixture.reopen();
    assert_eq!(fixture.create("orders", &asked), Ok(station));
    let info = fixture.info(&parse("orders"));
    assert_eq!((info.attributes, info.partitions.len()), (asked.clone(), 3));
    for other in [
        Attributes { partitions: 2, ..asked.clone() },
        Attributes { retention_age: None, ..asked.clone() },
        Attributes { retention_records: Some(999), ..asked.clone() },
        Attributes { retention_bytes: None, ..asked.clone() },
        Attributes { retention_acknowledged: false, ..asked.clone() },
        Attributes { duplicate_window: Duration::from_secs(6), ..asked.clone() },
    ] {
        assert_eq!(fixture.create("orders", &other), Err(StationError::Exists), "{other:?}");
    }
    assert_eq!(fixture.info(&parse("orders")).attributes, asked, "nothing of it was done");
    assert_eq!(block_on(fixture.store().describe_station(&parse("none"))), Ok(None));
}

#[test]
fn what_this_store_cannot_keep_is_refused_in_words() {
    let fixture = Fixture::new(defaults(1));
    let made = attributes();
    for (asked, word) in [
        (Attributes { replicas: 3, ..made.clone() }, "one copy"),
        (Attributes { storage: Storage::Memory, ..made.clone() }, "in memory"),
        (Attributes { partitions: 0, ..made.clone() }, "partitions"),
        (Attributes { partitions: PARTITIONS_MAX + 1, ..made.clone() }, "partitions"),
    ] {
        let error = fixture.create("orders", &asked).expect_err("refused");
        assert!(matches!(&error, StationError::Invalid(text) if text.contains(word)), "{error:?}");
    }
    assert_eq!(block_on(fixture.store().describe_station(&parse("orders"))), Ok(None));
    fixture.create("orders", &made).expect("made");
    let error = fixture.change("orders", &AttributesChange { replicas: Some(2), ..AttributesChange::default() });
    assert!(matches!(&error, Err(StationError::Invalid(text)) if text.contains("one copy")), "{error:?}");
    assert_eq!(fixture.change("orders", &AttributesChange { replicas: Some(1), ..Default::default() }), Ok(()));
    assert_eq!(fixture.change("none", &AttributesChange::default()), Err(StationError::Unknown));
}

#[test]
fn a_change_holds_at_once_and_after_a_restart() {
    let mut fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    for _ in 0..5 {
        publish(&handle, &station, &["x"], None).expect("published");
        fixture.advance(Duration::from_secs(10));
    }
    let one = fixture.look(&station).2 / 5;
    let change = |change: AttributesChange| fixture.change("orders", &change).expect("changed");
    change(AttributesChange { retention_age: Some(Some(Duration::from_secs(100))), ..Default::default() });
    assert_eq!(fixture.look(&station), (1, 5, 5 * one), "the oldest is 50 s old");
    change(AttributesChange { retention_age: Some(Some(Duration::from_secs(50))), ..Default::default() });
    assert_eq!(fixture.look(&station), (2, 5, 4 * one), "also if it was looked at for a longer time");
    change(AttributesChange {
        retention_age: Some(None),
        retention_records: Some(Some(3)),
        ..AttributesChange::default()
    });
    assert_eq!(fixture.look(&station), (3, 5, 3 * one));
    change(AttributesChange {
        retention_records: Some(None),
        retention_bytes: Some(Some(2 * one)),
        ..AttributesChange::default()
    });
    assert_eq!(fixture.look(&station), (4, 5, 2 * one));
    change(AttributesChange { retention_bytes: Some(None), ..AttributesChange::default() });
    publish(&handle, &station, &["x", "x"], None).expect("published");
    fixture.advance(Duration::from_secs(1_000));
    assert_eq!(fixture.look(&station), (4, 7, 4 * one), "no limit is left");
    change(AttributesChange { retention_records: Some(Some(1)), ..AttributesChange::default() });
    let attributes = fixture.info(&station.name).attributes;
    fixture.reopen();
    assert_eq!(fixture.info(&station.name).attributes, attributes);
    assert_eq!(attributes, Attributes { retention_records: Some(1), ..self::attributes() });
    assert_eq!(fixture.look(&station), (7, 7, one));
}

#[test]
fn a_changed_window_holds_for_what_comes_and_a_shorter_one_for_what_is_there() {
    let mut fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let window =
        |seconds| AttributesChange { duplicate_window: Some(Duration::from_secs(seconds)), ..Default::default() };
    let put = |base: &str| stored(&publish(&handle, &station, &["x"], Some(id(base))).expect("published"))[0];
    let known = |fixture: &Fixture| fixture.station("orders").duplicate_window.as_secs();
    assert_eq!((put("a"), known(&fixture)), ((0, 1, false), 120));
    fixture.advance(Duration::from_secs(30));
    assert_eq!(put("a"), (0, 1, true));
    fixture.change("orders", &window(30)).expect("changed");
    assert_eq!((put("a"), known(&fixture)), ((0, 2, false), 30), "shorter");
    fixture.change("orders", &window(600)).expect("changed");
    fixture.advance(Duration::from_secs(29));
    assert_eq!(put("b"), (0, 3, false));
    assert_eq!(put("a"), (0, 2, true), "the window of then");
    fixture.advance(Duration::from_secs(599));
    assert_eq!(put("b"), (0, 3, true), "longer");
    fixture.reopen();
    assert_eq!(known(&fixture), 600);
    let handle = fixture.store().handle();
    assert_eq!(stored(&publish(&handle, &station, &["x"], Some(id("b"))).expect("published")), [(0, 3, true)]);
    fixture.advance(Duration::from_secs(1));
    assert_eq!(stored(&publish(&handle, &station, &["x"], Some(id("b"))).expect("published")), [(0, 4, false)]);
}

#[test]
fn acknowledged_records_go_once_every_group_has_acknowledged_them_durably() {
    let mut fixture = Fixture::new(defaults(1));
    let asked = Attributes { retention_acknowledged: true, ..attributes() };
    let station = fixture.create("orders", &asked).expect("made");
    let handle = fixture.store().handle();
    publish(&handle, &station, &["a", "b", "c", "d", "e"], None).expect("published");
    assert_eq!(fixture.look(&station).0, 1, "without a group nothing goes");
    let (fast, slow) = (fixture.consumer(&station, "fast"), fixture.consumer(&station, "slow"));
    let all = fetch(&handle, &station, &fast, 4, 0).expect("fetched");
    acknowledge(&handle, &fast, &all);
    fixture.save_positions();
    assert_eq!(fixture.look(&station).0, 1, "the other group has not begun");
    let some = fetch(&handle, &station, &slow, 5, 0).expect("fetched");
    let of = |keep: &[u64]| Delivered {
        arena: some.arena.clone(),
        messages: some.messages.iter().copied().filter(|one| keep.contains(&one.sequence)).collect(),
    };
    acknowledge(&handle, &slow, &of(&[1, 2, 4]));
    fixture.save_positions();
    assert_eq!(fixture.look(&station).0, 3, "3 is in flight");
    fixture.reopen();
    assert_eq!(fixture.look(&station).0, 3);
    let handle = fixture.store().handle();
    let again = fetch(&handle, &station, &slow, 5, 0).expect("fetched");
    assert_eq!(content(&again).into_iter().map(|one| one.1).collect::<Vec<_>>(), [3, 5]);
    acknowledge(&handle, &slow, &again);
    fixture.save_positions();
    assert_eq!(fixture.look(&station).0, 5, "as far as the fast group has come");
    let last = fetch(&handle, &station, &fast, 5, 0).expect("fetched");
    acknowledge(&handle, &fast, &last);
    fixture.save_positions();
    assert_eq!(fixture.look(&station), (6, 5, 0), "all is done");
    publish(&handle, &station, &["f"], None).expect("published");
    let new = fixture.consumer(&station, "new");
    let delivered = fetch(&handle, &station, &new, 5, 0).expect("fetched");
    assert_eq!(content(&delivered), [(0, 6, "f".to_owned())], "a new group begins at what is there");
}

#[test]
fn what_has_gone_for_its_age_waits_for_no_group() {
    let fixture = Fixture::new(defaults(1));
    let asked =
        Attributes { retention_acknowledged: true, retention_age: Some(Duration::from_secs(100)), ..attributes() };
    let station = fixture.create("orders", &asked).expect("made");
    let (handle, consumer) = (fixture.store().handle(), fixture.consumer(&station, "g"));
    publish(&handle, &station, &["a", "b"], None).expect("published");
    fetch(&handle, &station, &consumer, 1, 0).expect("fetched and never acknowledged");
    fixture.advance(Duration::from_secs(100));
    publish(&handle, &station, &["c", "d"], None).expect("published");
    assert_eq!(fixture.look(&station).0, 3, "too old");
    let next = fetch(&handle, &station, &consumer, 1, 0).expect("fetched");
    assert_eq!(content(&next), [(0, 3, "c".to_owned())]);
    acknowledge(&handle, &consumer, &next);
    fixture.save_positions();
    assert_eq!(fixture.look(&station).0, 4);
}

#[test]
fn f17_a_limit_that_nothing_frees_by_itself_does_not_say_later() {
    let fixture = Fixture::new(defaults(10_000));
    for number in 0..6 {
        fixture.station(&format!("s{number}"));
    }
    let refused = |result: Result<(), Reject>| match result {
        Err(Reject::Conflict(text)) => {
            assert!(text.contains("60000 of at most 65536 partitions") && text.contains("remove stations"), "{text}");
        }
        other => panic!("{other:?}"),
    };
    refused(block_on(fixture.store().station(&parse("one.more"), true)).map(drop));
    let made =
        block_on(fixture.store().create_station(&parse("one.more"), &Attributes { partitions: 6_000, ..attributes() }));
    refused(made.map_err(|why| match why {
        StationError::Rejected(why) => why,
        other => panic!("{other:?}"),
    }));
    assert_eq!(block_on(fixture.store().delete_station(&parse("s0"))), Ok(true));
    assert!(block_on(fixture.store().station(&parse("one.more"), true)).is_ok());
}

#[test]
fn the_station_of_dead_letters_is_one_like_any_other() {
    let mut fixture = Fixture::new(defaults(1));
    let name = parse("my.orders").dead_letters();
    block_on(fixture.store().create_station(&name, &attributes())).expect("made");
    let station = block_on(fixture.store().station(&name, false)).expect("there");
    assert_eq!((&*station.partitions[0].stream, &*station.partitions[0].subject), ("my#orders$dls", "my.orders.$dls"));
    publish(&fixture.store().handle(), &station, &["letter"], None).expect("published");
    fixture.reopen();
    assert_eq!(block_on(fixture.store().station(&name, false)), Ok(station));
    assert_eq!(fixture.info(&name).partitions[0].records, 1);
    assert_eq!(block_on(fixture.store().delete_station(&name)), Ok(true));
    fixture.reopen();
    assert_eq!(block_on(fixture.store().station(&name, false)), Err(Reject::StationUnknown("my.orders$dls".into())));
    // Nothing else that is no name passes for one.
    let document = br#"{"partitions":[],"duplicate_window_ms":0,"created_ms":0}"#;
    fixture.disk().catalog.insert(format::station_key("a$b"), document).expect("written");
    fixture.close();
    let clock = crate::backend::local::Clock::system();
    let error = crate::backend::local::Store::open(&fixture.dir(), defaults(1), clock).expect_err("damaged");
    assert!(error.to_string().contains("a$b"), "{error}");
}
