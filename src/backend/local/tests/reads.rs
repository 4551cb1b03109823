//! Reads by place and watches, of the store itself; what they answer on either backend is in `read_contract`.

use super::support::{Fixture, block_on, defaults, parse, publish};
use crate::{
    backend::{
        Backend, Bounds, Page, Read, Start,
        local::{Clock, Handle, Store, Watch, messages::RetentionCommand},
        read_contract,
    },
    limits::LOCAL_CHUNK_RECORDS_MAX,
    reject::Reject,
    rt,
    station::{AttributesChange, Station},
};
use std::{
    future::Future,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

const ALL: Bounds = Bounds { records: 5_000, bytes: 1 << 20 };

fn page(handle: &Handle, station: &Station, start: Start) -> Page {
    block_on(handle.read(&Read { station, partition: 0, start, bounds: ALL })).expect("a page")
}

fn sequences(page: &Page) -> Vec<u64> {
    page.records.iter().map(|record| record.sequence).collect()
}

#[test]
fn the_store_answers_reads_and_watches_as_every_backend_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("data"), defaults(1), Clock::system()).expect("the store opens");
    rt::run(rt::Flavor::Epoll, || async {
        let backend = Backend::Local(Rc::new(store.handle()));
        let station = store.station(&parse("orders"), true).await.expect("a station");
        let trim = async |first: u64| {
            let records = Some(Some(6 - first));
            let change = AttributesChange { retention_records: records, ..AttributesChange::default() };
            store.change_station(&station.name, &change).await.expect("changed");
            loop {
                let (done, looked) = flume::bounded(1);
                store.keep.send(RetentionCommand::Look(done)).expect("the thread runs");
                looked.recv_async().await.ok();
                let info = store.describe_station(&station.name).await.expect("answered").expect("there");
                if info.partitions[0].first == first {
                    break;
                }
                rt::sleep(Duration::from_millis(5)).await;
            }
            let change = AttributesChange { retention_records: Some(None), ..AttributesChange::default() };
            store.change_station(&station.name, &change).await.expect("changed");
        };
        read_contract::check(&backend, &station, trim).await;
        read_contract::check_watch(&backend, &station).await;
    })
    .expect("a runtime");
}

#[test]
fn a_read_by_time_finds_its_record_among_many_chunks() {
    let fixture = Fixture::new(defaults(1));
    let (handle, station) = (fixture.store().handle(), fixture.station("orders"));
    let begin = super::support::START_MS;
    let payloads = vec!["x"; LOCAL_CHUNK_RECORDS_MAX + 10];
    for _ in 0..5 {
        publish(&handle, &station, &payloads, None).expect("published");
        fixture.advance(Duration::from_secs(10));
    }
    let each = payloads.len() as u64;
    for (since, expect) in [
        (0, 1),
        (begin, 1),
        (begin + 1, each + 1),
        (begin + 10_000, each + 1),
        (begin + 10_001, 2 * each + 1),
        (begin + 40_000, 4 * each + 1),
    ] {
        let page = page(&handle, &station, Start::Since(since));
        assert_eq!(page.records.first().map(|record| record.sequence), Some(expect), "{since}");
    }
    let none = page(&handle, &station, Start::Since(begin + 40_001));
    assert_eq!((none.records.len(), none.next), (0, 5 * each + 1));
}

#[test]
fn records_that_were_removed_one_by_one_are_passed_over() {
    let fixture = Fixture::new(defaults(1));
    let name = parse("orders").dead_letters();
    let station = block_on(fixture.store().station(&name, true)).expect("a station");
    let handle = fixture.store().handle();
    publish(&handle, &station, &["a", "b", "c", "d", "e"], None).expect("published");
    let discard = |which: &[u64]| {
        let records = block_on(fixture.store().records(&name)).expect("answered").expect("there");
        let found = records.find(which).expect("read");
        block_on(fixture.store().discard(&records, Some(found))).expect("discarded");
    };
    discard(&[2, 3, 5]);
    for (start, expect, next, gap) in [
        (Start::First, vec![1, 4], 6, None),
        (Start::Sequence(2), vec![4], 6, None),
        (Start::Sequence(5), vec![], 6, None),
    ] {
        let page = page(&handle, &station, start);
        assert_eq!((sequences(&page), page.next, page.gap(start)), (expect, next, gap), "{start:?}");
    }
}

#[test]
fn reads_and_watches_of_what_is_not_there_are_refused() {
    let mut fixture = Fixture::new(defaults(1));
    let (handle, station) = (Rc::new(fixture.store().handle()), fixture.station("orders"));
    publish(&handle, &station, &["a"], None).expect("published");
    let mut watch = Watch::new(Rc::clone(&handle), Arc::clone(&station));
    {
        let mut waits = pin!(watch.reached(&[(0, 2)]));
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(block_on(fixture.store().delete_station(&station.name)), Ok(true));
        assert_eq!(block_on(waits), Err(Reject::NoStream));
    }
    assert_eq!(block_on(watch.reached(&[(0, 1)])), Err(Reject::NoStream));
    let read = Read { station: &station, partition: 0, start: Start::First, bounds: ALL };
    assert_eq!(block_on(handle.read(&read)), Err(Reject::NoStream));

    let again = fixture.station("orders");
    let mut watch = Watch::new(Rc::clone(&handle), again);
    let mut waits = pin!(watch.reached(&[(0, 2)]));
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    fixture.close();
    assert_eq!(block_on(waits), Err(Reject::Draining), "the store ends");
    assert_eq!(block_on(handle.read(&read)), Err(Reject::Draining));
}
