//! Group commit of the embedded store beside a raw append of the same bytes, on the same disk.
//!
//! Jobs of 100 records of 256 bytes, from 1, 8 and 64 requests at a time; each is answered after its fsync.
//! The raw side writes the payloads of all of them with one `write` and one `fdatasync`: the floor under any
//! store that acknowledges after a sync. What the store adds is keys, sequences, marks, checksums and its memtable.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::internals::{
    backend::{Attributes, Clock, Publish, StationDefaults, Store},
    wire::{Name, Span},
};
use std::{fs::OpenOptions, hint::black_box, io::Write, time::Duration};

const RECORDS: usize = 100;
const RECORD_BYTES: u32 = 256;
const JOBS: [usize; 3] = [1, 8, 64];

fn body() -> (Vec<u8>, Vec<Span>) {
    let records = (0..u32::try_from(RECORDS).expect("a hundred"))
        .map(|number| Span { start: number * RECORD_BYTES, end: (number + 1) * RECORD_BYTES })
        .collect();
    (vec![b'x'; RECORDS * RECORD_BYTES as usize], records)
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on the disk that is built on")
}

fn store(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish_100x256");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (body, records) = body();
    for jobs in JOBS {
        let directory = directory();
        let defaults = StationDefaults {
            attributes: Attributes { retention_age: None, ..Attributes::default() },
            group_expiry: None,
        };
        let store = Store::open(directory.path(), defaults, Clock::system()).expect("opens");
        let name = Name::parse("bench").expect("a name");
        let station = runtime.block_on(store.station(&name, true)).expect("a station");
        let handle = store.handle();
        let publish = Publish::of(&station, &body, &records);
        group.throughput(Throughput::Elements((jobs * RECORDS) as u64));
        group.bench_function(BenchmarkId::new("store", jobs), |bencher| {
            bencher.iter(|| {
                let one = || async {
                    let mut outcomes = Vec::with_capacity(RECORDS);
                    handle.publish(&publish, &mut outcomes).await.expect("published");
                    black_box(outcomes);
                };
                runtime.block_on(futures_util::future::join_all((0..jobs).map(|_| one())));
            });
        });
        assert!(store.close(Duration::from_secs(60)));
    }
    group.finish();
}

fn raw(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish_100x256");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    let (body, _) = body();
    for jobs in JOBS {
        let directory = directory();
        let path = directory.path().join("raw");
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opened");
        let bytes = body.repeat(jobs);
        group.throughput(Throughput::Elements((jobs * RECORDS) as u64));
        group.bench_function(BenchmarkId::new("raw", jobs), |bencher| {
            bencher.iter(|| {
                file.write_all(&bytes).expect("written");
                file.sync_data().expect("synced");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, store, raw);
criterion_main!(benches);
