//! Consumer groups: how many one principal may have, how they go, and what is left of them.

use super::support::{Fixture, acknowledge, block_on, content, defaults, fetch, parse, publish};
use crate::{
    backend::local::{GroupInfo, StationDefaults, StationError},
    limits::{GROUPS_PER_PRINCIPAL_MAX, LOCAL_GROUPS_PER_PRINCIPAL_MAX},
    reject::Reject,
    station::Station,
};
use std::{thread, time::Duration};

const DAY: Duration = Duration::from_secs(86_400);

impl Fixture {
    fn group(&self, station: &Station, group: &str, principal: &str) -> Result<(), Reject> {
        block_on(self.store().consumer(station, Some(&parse(group)), principal)).map(drop)
    }

    fn groups(&self, station: &str) -> Vec<GroupInfo> {
        self.info(&parse(station)).groups
    }

    fn durables(&self, station: &str) -> Vec<String> {
        self.groups(station).into_iter().map(|group| group.durable.into_string()).collect()
    }
}

fn limit(result: Result<(), Reject>) -> String {
    match result {
        Err(Reject::Conflict(text)) => text.into_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn f1_one_principal_cannot_use_up_the_groups_of_a_station_or_of_the_store() {
    let mut fixture = Fixture::new(defaults(1));
    let stations: Vec<_> = (0..6).map(|number| fixture.station(&format!("s{number}"))).collect();
    for station in &stations[..LOCAL_GROUPS_PER_PRINCIPAL_MAX / GROUPS_PER_PRINCIPAL_MAX] {
        for number in 0..GROUPS_PER_PRINCIPAL_MAX {
            fixture.group(station, &format!("g{number}"), "eve").expect("made");
        }
    }
    for is_reopened in [false, true] {
        if is_reopened {
            fixture.reopen();
        }
        let text = limit(fixture.group(&stations[0], "one-more", "eve"));
        assert!(text.contains("eve on station s0 has 250 consumer groups") && text.contains("remove"), "{text}");
        let text = limit(fixture.group(&stations[5], "one-more", "eve"));
        assert!(text.contains("eve on all stations has 1000 consumer groups"), "{text}");
        fixture.group(&stations[0], "g7", "eve").expect("it is there");
        let of_ann = format!("of-ann-{is_reopened}");
        for station in [&stations[0], &stations[5]] {
            fixture.group(station, &of_ann, "ann").expect("others are not affected");
        }
    }
    assert_eq!(block_on(fixture.store().delete_group(&parse("s0"), "g7-rest-gateway")), Ok(true));
    fixture.group(&stations[5], "one-more", "eve").expect("there is room again");
}

#[test]
fn f1_a_group_that_nobody_uses_expires_and_one_that_is_used_stays() {
    let expiry = Some(35 * DAY);
    let mut fixture = Fixture::new(StationDefaults { group_expiry: expiry, ..defaults(2) });
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    publish(&handle, &station, &["a", "b"], None).expect("published");
    let used = fixture.consumer(&station, "used");
    for group in ["unused", "never"] {
        let consumer = fixture.consumer(&station, group);
        acknowledge(&handle, &consumer, &fetch(&handle, &station, &consumer, 1, 0).expect("fetched"));
    }
    for day in 0..34 {
        fixture.advance(DAY);
        fetch(&handle, &station, &used, 10, 0).expect("fetched");
        fixture.look(&station);
        assert_eq!(fixture.groups("orders").len(), 3, "day {day}");
    }
    // Whether the process runs or not.
    fixture.reopen();
    let handle = fixture.store().handle();
    fixture.advance(DAY);
    fetch(&handle, &station, &used, 10, 0).expect("fetched");
    fixture.advance(DAY);
    fixture.look(&station);
    assert_eq!(fixture.durables("orders"), ["used-rest-gateway"]);
    let saved = |group: &[u8]| {
        fixture.disk().cursors.iter().map(|item| item.key().expect("read")).filter(|key| key.ends_with(group)).count()
    };
    assert_eq!((saved(b"unused-rest-gateway"), saved(b"never-rest-gateway")), (0, 0), "their places are gone as well");
    fixture.reopen();
    assert_eq!(fixture.durables("orders"), ["used-rest-gateway"]);
    let again = fixture.consumer(&station, "unused");
    let delivered = fetch(&fixture.store().handle(), &station, &again, 10, 0).expect("fetched");
    assert_eq!(content(&delivered).len(), 2, "made anew, it begins at the first record");
}

#[test]
fn f1_groups_are_listed_with_who_made_them_and_removed() {
    let mut fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    publish(&handle, &station, &["a", "b"], None).expect("published");
    fixture.group(&station, "g", "eve").expect("made");
    fixture.group(&station, "g", "ann").expect("there");
    let [group] = fixture.groups("orders").try_into().expect("one");
    assert_eq!((&*group.durable, &*group.principal, group.created_ms > 0), ("g-rest-gateway", "eve", true));
    let consumer = fixture.consumer(&station, "g");
    acknowledge(&handle, &consumer, &fetch(&handle, &station, &consumer, 2, 0).expect("fetched"));
    let waiting = thread::spawn({
        let (handle, station, consumer) = (handle.clone(), station.clone(), consumer.clone());
        move || fetch(&handle, &station, &consumer, 1, 30_000)
    });
    thread::sleep(Duration::from_millis(300));
    let delete = |station: &str, durable: &str| block_on(fixture.store().delete_group(&parse(station), durable));
    assert_eq!(delete("orders", "g-rest-gateway"), Ok(true));
    assert_eq!(waiting.join().expect("ends").err(), Some(Reject::NoStream), "whoever waits in it asks anew");
    assert_eq!(fetch(&handle, &station, &consumer, 1, 0).err(), Some(Reject::NoStream));
    assert_eq!(delete("orders", "g-rest-gateway"), Ok(false));
    assert_eq!(delete("nowhere", "g-rest-gateway"), Err(StationError::Unknown));
    for _ in 0..2 {
        let consumer = fixture.consumer(&station, "g");
        let delivered = fetch(&fixture.store().handle(), &station, &consumer, 10, 0).expect("fetched");
        assert_eq!(content(&delivered).len(), 2, "made anew, it begins at the first record");
        fixture.reopen();
    }
}
