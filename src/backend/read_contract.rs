//! What reads by place answer, on whichever backend: each runs this in a test of its own.

use super::{Backend, Bounds, Page, Publish, Read, Start};
use crate::{
    record::{MessageId, Outcome},
    reject::Reject,
    rt::{self, clock},
    station::Station,
    wire::Span,
};
use std::{ops::Range, sync::Arc, time::Duration};

const ALL: Bounds = Bounds { records: 100, bytes: 1 << 20 };

/// Reads the station's first partition.
async fn read(backend: &Backend, station: &Station, start: Start, bounds: Bounds) -> Page {
    backend.read(&Read { station, partition: 0, start, bounds }).await.expect("a page")
}

/// Stores a record; its id, if it has one, is stored with it.
pub(crate) async fn store(backend: &Backend, station: &Station, payload: &str, id: Option<&str>) -> u64 {
    let span = [Span { start: 0, end: u32::try_from(payload.len()).expect("short") }];
    let id = id.map(|base| MessageId { base, numbered: None });
    let publish = Publish { headers: b"X-Test: yes\r\n", id, ..Publish::of(station, payload.as_bytes(), &span) };
    let mut outcomes = Vec::new();
    backend.publish(&publish, &mut outcomes).await.expect("sent");
    match outcomes.as_slice() {
        [Outcome::Stored(receipt)] => receipt.sequence,
        other => panic!("{other:?}"),
    }
}

/// Sequences and payloads of a page.
pub(crate) fn content(page: &Page) -> Vec<(u64, String)> {
    let text = |span: Span| String::from_utf8(span.of(&page.arena).to_vec()).expect("text");
    page.records.iter().map(|record| (record.sequence, text(record.payload))).collect()
}

fn sequences(page: &Page) -> Vec<u64> {
    page.records.iter().map(|record| record.sequence).collect()
}

/// Checks all of it on an empty station of one partition. `trim` removes every record before a sequence.
pub(crate) async fn check(backend: &Backend, station: &Station, trim: impl AsyncFn(u64)) {
    of_an_empty_partition(backend, station).await;
    of_records(backend, station).await;
    by_time(backend, station).await;
    of_what_is_gone(backend, station, trim).await;
    let missing = Read { station, partition: 1, start: Start::First, bounds: ALL };
    assert_eq!(backend.read(&missing).await, Err(Reject::NoStream), "no such partition");
}

async fn of_an_empty_partition(backend: &Backend, station: &Station) {
    for (start, next) in
        [(Start::First, 1), (Start::New, 1), (Start::Sequence(1), 1), (Start::Sequence(5), 5), (Start::Since(0), 1)]
    {
        let page = read(backend, station, start, ALL).await;
        assert_eq!(page, Page { next, kept: Some(1..1), ..Page::default() }, "{start:?}");
    }
}

/// Leaves five records, each stored later than the one before by its time.
async fn of_records(backend: &Backend, station: &Station) {
    let before = clock::unix_ms();
    for (number, id) in [(1, None), (2, Some("two")), (3, None), (4, None), (5, None)] {
        assert_eq!(store(backend, station, &format!("record {number}"), id).await, number);
        rt::sleep(Duration::from_millis(5)).await;
    }
    let page = read(backend, station, Start::First, ALL).await;
    let expect: Vec<(u64, String)> = (1..=5).map(|number| (number, format!("record {number}"))).collect();
    assert_eq!((content(&page), page.next, page.kept.clone()), (expect, 6, None));
    let headers: Vec<_> = page.records.iter().map(|record| record.headers.of(&page.arena)).collect();
    assert_eq!(headers[..2], [&b"X-Test: yes\r\n"[..], b"X-Test: yes\r\nNats-Msg-Id: two\r\n"]);
    let times: Vec<u64> = page.records.iter().map(|record| record.time_ms).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    assert!(before <= times[0] && times[4] <= clock::unix_ms(), "{times:?}");

    let bounds = |records, bytes| Bounds { records, bytes };
    let two = 2 * ("X-Test: yes\r\n".len() + "record 1".len());
    for (start, bounds, expect, next, kept) in [
        (Start::Sequence(0), ALL, vec![1, 2, 3, 4, 5], 6, None),
        (Start::Sequence(3), ALL, vec![3, 4, 5], 6, None),
        (Start::Sequence(3), bounds(2, 1 << 20), vec![3, 4], 5, None),
        (Start::Sequence(3), bounds(3, 1 << 20), vec![3, 4, 5], 6, None),
        (Start::Sequence(3), bounds(0, 0), vec![3], 4, None),
        (Start::Sequence(3), bounds(100, two), vec![3, 4], 5, None),
        (Start::Sequence(3), bounds(100, two + 1), vec![3, 4], 5, None),
        (Start::Sequence(6), ALL, vec![], 6, Some(1..6)),
        (Start::Sequence(9), ALL, vec![], 9, Some(1..6)),
        (Start::New, ALL, vec![], 6, Some(1..6)),
    ] {
        let page = read(backend, station, start, bounds).await;
        assert_eq!((sequences(&page), page.next, page.kept), (expect, next, kept), "{start:?} {bounds:?}");
    }
}

async fn by_time(backend: &Backend, station: &Station) {
    let page = read(backend, station, Start::First, ALL).await;
    let times: Vec<u64> = page.records.iter().map(|record| record.time_ms).collect();
    for (start, expect) in [
        (0, 1..6),
        (times[0], 1..6),
        (times[0] + 1, 2..6),
        (times[3], 4..6),
        (times[4], 5..6),
        (times[4] + 1, 6..6),
        (times[4] + 3_600_000, 6..6),
    ] {
        let page = read(backend, station, Start::Since(start), ALL).await;
        let kept = expect.is_empty().then_some(1..6);
        assert_eq!((sequences(&page), page.next, page.kept), (expect.collect::<Vec<u64>>(), 6, kept), "{start}");
    }
    let bounds = Bounds { records: 2, ..ALL };
    let page = read(backend, station, Start::Since(times[1]), bounds).await;
    assert_eq!((sequences(&page), page.next), (vec![2, 3], 4));
}

async fn of_what_is_gone(backend: &Backend, station: &Station, trim: impl AsyncFn(u64)) {
    let check = async |start: Start, expect: Range<u64>, next: u64, gap: Option<Range<u64>>| {
        let page = read(backend, station, start, ALL).await;
        assert_eq!(
            (sequences(&page), page.next, page.gap(start)),
            (expect.collect::<Vec<_>>(), next, gap),
            "{start:?}"
        );
    };
    trim(4).await;
    check(Start::Sequence(1), 4..6, 6, Some(1..4)).await;
    check(Start::Sequence(3), 4..6, 6, Some(3..4)).await;
    check(Start::Sequence(4), 4..6, 6, None).await;
    check(Start::First, 4..6, 6, None).await;
    check(Start::Since(0), 4..6, 6, None).await;
    trim(6).await;
    check(Start::Sequence(5), 6..6, 6, Some(5..6)).await;
    check(Start::Sequence(6), 6..6, 6, None).await;
    check(Start::First, 6..6, 6, None).await;
    check(Start::New, 6..6, 6, None).await;
    check(Start::Since(0), 6..6, 6, None).await;
    assert_eq!(store(backend, station, "more", None).await, 6);
    check(Start::Sequence(2), 6..7, 7, Some(2..6)).await;
}

/// Checks that a watch answers when a record has come, and not before.
pub(crate) async fn check_watch(backend: &Backend, station: &Arc<Station>) {
    let next = read(backend, station, Start::New, ALL).await.next;
    let mut watch = backend.watch(Arc::clone(station));
    let brief = Duration::from_millis(300);
    assert!(rt::deadline(brief, watch.reached(&[(0, next)])).await.is_err(), "nothing has come");
    assert_eq!(store(backend, station, "one", None).await, next);
    assert_eq!(watch.reached(&[(0, next)]).await, Ok(vec![(0, next)]));
    assert!(rt::deadline(brief, watch.reached(&[(0, next + 1)])).await.is_err(), "no more has come");
    // Who is behind is told as well, and of nothing else.
    let reached = watch.reached(&[(0, 1)]).await.expect("an answer");
    assert!(matches!(reached[..], [(0, 1..)]), "{reached:?}");
    let storing = async {
        rt::sleep(Duration::from_millis(100)).await;
        store(backend, station, "two", None).await
    };
    let (reached, stored) = futures_util::future::join(watch.reached(&[(0, next + 1)]), storing).await;
    assert_eq!((reached, stored), (Ok(vec![(0, next + 1)]), next + 1));
}
