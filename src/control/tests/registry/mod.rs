//! Admin services over one registry in memory: what each kind of document goes through, and random changes by two of
//! them against a model.

mod model;

use crate::control::{
    AdminError, What,
    registry::{
        RegistryStore,
        documents::{Document, PasswordHash, StationDocument, UserDocument},
    },
    streams::{RecordStore, StreamAdmin, StreamsError},
    tests::support::{Memory, Replica, name},
};
use crate::{
    api::{
        dead_letters::{DeadLetterSelection, DeadLetterSettings},
        keys::NewKey,
        pages::PageRequest,
        schemas::{NewSchema, SchemaKind},
        stations::{AdoptStation, ChangeStation, NewStation, StationView},
        users::ChangeUser,
    },
    directory::{contracts::Contracts, messages::ShardUpdate},
    limits::REGISTRY_DOCUMENT_BYTES_MAX,
    station::Pattern,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21l$ZX2aMhTrPKuE1PmXlvjrUPOKFJbQrWLxJdMkeRS2bHo";
const ALL: PageRequest = PageRequest { after: None, limit: 1_000 };

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn schema(name: &str, text: &str) -> NewSchema {
    NewSchema {
        name: name.to_owned(),
        kind: SchemaKind::Avro,
        schema: text.to_owned(),
        message: None,
        imports: BTreeMap::new(),
    }
}

fn station(name: &str) -> NewStation {
    NewStation { name: name.to_owned(), ..NewStation::default() }
}

impl Replica {
    /// The newest contracts that the shard was sent.
    async fn contracts(&self) -> Option<Arc<Contracts>> {
        let contracts = |push| if let ShardUpdate::Contracts(contracts) = push { Some(contracts) } else { None };
        self.told().await.into_iter().filter_map(contracts).last()
    }

    /// The schema by which the shard validates records of a station, as the newest contracts say.
    fn in_force(contracts: &Contracts, station: &str) -> Option<(String, u32)> {
        let contract = contracts.of(&name(station));
        assert_eq!(contract.blocked, None, "{station}");
        contract.schema.as_ref().map(|schema| (schema.name.to_string(), schema.version))
    }
}

async fn put(memory: &Memory, key: &str, text: &str) {
    let known = memory.documents.list().await.into_iter().find(|document| document.key == key);
    let revision = known.map_or(0, |document| document.revision);
    memory.documents.put(key, text.as_bytes().to_vec(), revision).await.expect("put");
}

/// Waits until something holds that another replica has to learn first.
async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[test]
fn a_schema_goes_through_its_versions_and_reaches_the_shards_before_the_answer() {
    run(async {
        let memory = Memory::default();
        let replica = Replica::of(&memory);
        let service = &replica.service;
        let (first, version) = service.add_schema(schema("Prices", "\"int\""), "ann").await.expect("added");
        assert_eq!((first.value.name.as_str(), first.value.active_version, version), ("prices", 1, 1));
        let refused = service.add_schema(schema("prices", "\"int\""), "ann").await;
        assert!(matches!(refused, Err(AdminError::Conflict(text)) if text.contains("same content")));
        let other = NewSchema { kind: SchemaKind::Json, ..schema("prices", "{}") };
        let refused = service.add_schema(other, "ann").await;
        assert!(matches!(refused, Err(AdminError::Invalid(text)) if text.contains("already exists with type avro")));
        assert!(matches!(service.add_schema(schema("prices", "\"nope\""), "ann").await, Err(AdminError::Invalid(_))));
        let long = "x".repeat(REGISTRY_DOCUMENT_BYTES_MAX + 1);
        assert!(matches!(service.add_schema(schema("prices", &long), "ann").await, Err(AdminError::Invalid(_))));
        let (second, version) = service.add_schema(schema("prices", "\"long\""), "bob").await.expect("added");
        assert_eq!((second.value.active_version, second.value.versions.len(), version), (1, 2, 2));
        assert_ne!(first.tag, second.tag);

        service.create_station(station("orders")).await.expect("created");
        assert_eq!(service.attach_schema("orders", "none", None).await.err(), Some(AdminError::Unknown(What::Schema)));
        assert_eq!(service.attach_schema("none", "prices", None).await.err(), Some(AdminError::Unknown(What::Station)));
        service.attach_schema("orders", "prices", None).await.expect("attached");
        let told = replica.contracts().await.expect("told");
        assert_eq!(Replica::in_force(&told, "orders"), Some(("prices".to_owned(), 1)));
        let refused = service.remove_schema("prices", None).await;
        assert!(matches!(refused, Err(AdminError::Conflict(text)) if text.contains("orders")));

        assert_eq!(
            service.activate_schema("prices", 3, None).await.err(),
            Some(AdminError::Unknown(What::SchemaVersion))
        );
        assert_eq!(service.activate_schema("prices", 2, Some(&second.tag)).await.err(), Some(AdminError::Changed));
        let tag = service.schema("prices").await.expect("there").tag;
        service.activate_schema("prices", 2, Some(&tag)).await.expect("activated");
        assert_eq!(
            Replica::in_force(&replica.contracts().await.expect("told"), "orders"),
            Some(("prices".to_owned(), 2))
        );
        service.activate_schema("prices", 1, None).await.expect("rolled back");
        assert_eq!(
            Replica::in_force(&replica.contracts().await.expect("told"), "orders"),
            Some(("prices".to_owned(), 1))
        );
        assert_eq!(replica.metrics.schemas.get(), 1);

        service.detach_schema("orders", None).await.expect("detached");
        assert_eq!(Replica::in_force(&replica.contracts().await.expect("told"), "orders"), None);
        service.remove_schema("prices", None).await.expect("removed");
        assert_eq!(service.schema("prices").await.err(), Some(AdminError::Unknown(What::Schema)));
    });
}

#[test]
fn a_change_of_one_schema_leaves_the_others_as_they_were_compiled() {
    run(async {
        let memory = Memory::default();
        let replica = Replica::of(&memory);
        for text in ["a", "b"] {
            replica.service.add_schema(schema(text, "\"int\""), "ann").await.expect("added");
            let new = NewStation { schema: Some(text.to_owned()), ..station(text) };
            replica.service.create_station(new).await.expect("created");
            // Shared by the stations that have it.
            let new = NewStation { schema: Some(text.to_owned()), ..station(&format!("{text}2")) };
            replica.service.create_station(new).await.expect("created");
        }
        let of = |contracts: &Contracts, station: &str| contracts.of(&name(station)).schema.clone().expect("a schema");
        let before = replica.contracts().await.expect("told");
        assert!(Arc::ptr_eq(&of(&before, "a"), &of(&before, "a2")));
        replica.service.add_schema(schema("b", "\"long\""), "ann").await.expect("added");
        let after = replica.contracts().await.expect("told");
        assert!(Arc::ptr_eq(&of(&before, "b"), &of(&after, "b")), "a version that is not active");
        replica.service.activate_schema("b", 2, None).await.expect("activated");
        let after = replica.contracts().await.expect("told");
        assert!(Arc::ptr_eq(&of(&before, "a"), &of(&after, "a")));
        assert_eq!(of(&after, "b").version, 2);
    });
}

#[test]
fn what_does_not_load_or_compile_never_replaces_what_does_and_never_opens_a_station() {
    run(async {
        let memory = Memory::default();
        let replica = Replica::of(&memory);
        let service = &replica.service;
        service.add_schema(schema("prices", "\"int\""), "ann").await.expect("added");
        service
            .create_station(NewStation { schema: Some("prices".to_owned()), ..station("orders") })
            .await
            .expect("created");
        let refused = |count: u64| {
            let metrics = Arc::clone(&replica.metrics);
            move || std::future::ready(metrics.documents_refused.get() == count)
        };
        let newest = async |station: &str| replica.contracts().await.expect("told").of(&name(station)).clone();
        // Written by a later version of the program: its active version does not compile here.
        let version = |number: u32, text: &str| {
            format!(
                r#"{{"version":{number},"text":{text:?},"message":null,"imports":{{}},"created_by":"x","created_ms":1}}"#
            )
        };
        let document = |active: u32, versions: &[String]| {
            format!(r#"{{"format":1,"type":"avro","active":{active},"versions":[{}]}}"#, versions.join(","))
        };
        let versions = [version(1, "\"int\""), version(2, "\"telepathy\"")];
        put(&memory, "schemas.prices", &document(2, &versions)).await;
        until("told of the fault", refused(1)).await;
        let contract = newest("orders").await;
        assert_eq!(contract.schema.map(|schema| schema.version), Some(1), "what was active stays");
        assert_eq!(contract.blocked, None);
        // A replica that starts now has nothing to fall back on: it takes no record rather than any.
        let late = Replica::of(&memory);
        late.service.schemas(&ALL).await.expect("loaded");
        let contract = late.contracts().await.expect("told").of(&name("orders")).clone();
        assert!(contract.schema.is_none() && contract.blocked.is_some_and(|reason| reason.contains("telepathy")));
        assert!(matches!(service.activate_schema("prices", 2, None).await, Err(AdminError::Invalid(_))));

        put(&memory, "schemas.prices", "{\"format\":2}").await;
        put(&memory, "stations.orders", "nonsense").await;
        put(&memory, "stations.other", "nonsense").await;
        until("told of the faults", refused(4)).await;
        let contracts = replica.contracts().await.expect("told");
        assert!(contracts.of(&name("orders")).schema.is_some());
        assert!(contracts.of(&name("other")).blocked.is_some(), "it may have a schema");
        assert!(contracts.of(&name("any")).blocked.is_none());
        // Mended by an ordinary change.
        service.activate_schema("prices", 1, None).await.expect("mended");
        service.attach_schema("orders", "prices", None).await.expect("mended");
        service.remove_station("other", None).await.expect("removed");
        until("told that all is well", refused(0)).await;
        // Removed behind the service's back.
        let revision = memory.documents.list().await.into_iter().find(|document| document.key == "schemas.prices");
        memory.documents.delete("schemas.prices", revision.expect("there").revision).await.expect("deleted");
        until("told", || async { replica.service.schema("prices").await.is_err() }).await;
        assert!(newest("orders").await.blocked.is_some_and(|reason| reason.contains("not in the registry")));
    });
}

#[test]
fn a_station_is_made_shown_changed_and_removed() {
    run(async {
        let memory = Memory::default();
        let replica = Replica::of(&memory);
        let service = &replica.service;
        let settings = DeadLetterSettings { invalid: false, deliveries_max: 3, retention_age_s: 60 };
        let new = NewStation { dead_letters: Some(settings.clone()), ..station("Orders") };
        let made = service.create_station(new.clone()).await.expect("created");
        assert_eq!((made.value.name.as_str(), &made.value.dead_letters), ("orders", &settings));
        assert_eq!(service.create_station(new.clone()).await.expect("the same again"), made);
        let other = NewStation { partitions: Some(2), ..new.clone() };
        assert_eq!(service.create_station(other).await.err(), Some(AdminError::Exists(What::Station)));
        let other = NewStation { dead_letters: None, ..new };
        assert_eq!(service.create_station(other).await.err(), Some(AdminError::Exists(What::Station)));
        let contract = replica.contracts().await.expect("told").of(&name("orders")).clone();
        assert_eq!((contract.invalid_to_dead_letters, contract.deliveries_max), (false, Some(3)));
        assert_eq!(
            service.create_station(station("a b")).await.err(),
            Some(AdminError::Invalid(
                "Only alphanumeric and the '_', '-', '.' characters are allowed in Station".to_owned()
            ))
        );
        let lost = NewStation { schema: Some("none".to_owned()), ..station("lost") };
        assert_eq!(service.create_station(lost).await.err(), Some(AdminError::Unknown(What::Schema)));
        assert_eq!(service.station("lost").await.err(), Some(AdminError::Unknown(What::Station)));

        let change = ChangeStation { retention_age_s: Some(7_200), ..ChangeStation::default() };
        let changed = service.change_station("orders", change.clone(), Some(&made.tag)).await.expect("changed");
        assert_eq!(changed.value.retention_age_s, 7_200);
        assert_eq!(service.change_station("orders", change, Some(&made.tag)).await.err(), Some(AdminError::Changed));
        let never = DeadLetterSettings { deliveries_max: 0, ..settings };
        let change = ChangeStation { dead_letters: Some(never), ..ChangeStation::default() };
        service.change_station("orders", change, Some(&changed.tag)).await.expect("changed");
        assert_eq!(replica.contracts().await.expect("told").of(&name("orders")).deliveries_max, None);
        let refused = ChangeStation { partitions: Some(9), ..ChangeStation::default() };
        assert!(matches!(service.change_station("orders", refused, None).await, Err(AdminError::Invalid(_))));

        service.create_station(station("a")).await.expect("created");
        let names = |stations: Vec<StationView>| stations.into_iter().map(|station| station.name).collect::<Vec<_>>();
        assert_eq!(names(service.stations(&ALL).await.expect("listed").items), ["a", "orders"]);
        assert_eq!(service.remove_station("orders", Some(&changed.tag)).await, Err(AdminError::Changed));
        service.remove_station("orders", None).await.expect("removed");
        assert_eq!(service.remove_station("orders", None).await, Err(AdminError::Unknown(What::Station)));
        assert_eq!(names(service.stations(&ALL).await.expect("listed").items), ["a"]);
        let told = replica.contracts().await.expect("told");
        assert_eq!(told.of(&name("orders")).deliveries_max, Some(10), "nothing is left of it");
    });
}

#[test]
fn an_adopted_stream_is_a_station_and_outlives_it() {
    run(async {
        let memory = Memory::default();
        let replica = Replica::of(&memory);
        let service = &replica.service;
        service.create_station(station("legacy")).await.expect("the stream");
        let adopt = |stream: &str| AdoptStation { stream: stream.to_owned(), subject: "old.orders".to_owned() };
        assert_eq!(
            service.adopt_station("orders", adopt("none")).await.err(),
            Some(AdminError::Unknown(What::Station))
        );
        replica.told().await;
        let adopted = service.adopt_station("orders", adopt("legacy")).await.expect("adopted");
        assert_eq!(adopted.value.adopted, Some(adopt("legacy")));
        let forgotten = replica
            .told()
            .await
            .iter()
            .any(|push| matches!(push, ShardUpdate::Forget(station) if *station == name("orders")));
        assert!(forgotten, "the shards ask anew");
        assert!(service.adopt_station("orders", adopt("legacy")).await.is_ok());
        assert!(service.adopt_station("legacy", adopt("legacy")).await.is_err());
        let listed = service.stations(&ALL).await.expect("listed").items;
        assert_eq!(listed.iter().map(|station| station.name.as_str()).collect::<Vec<_>>(), ["legacy", "orders"]);
        service.remove_station("orders", None).await.expect("removed");
        assert!(service.station("legacy").await.is_ok(), "the stream is not ours");
        assert_eq!(service.station("orders").await.err(), Some(AdminError::Unknown(What::Station)));
    });
}

#[test]
fn dead_letters_are_listed_replayed_through_validation_and_purged() {
    run(async {
        let memory = Memory::default();
        let replica = Replica::of(&memory);
        let service = &replica.service;
        service.add_schema(schema("prices", "\"int\""), "ann").await.expect("added");
        service
            .create_station(NewStation { schema: Some("prices".to_owned()), ..station("orders") })
            .await
            .expect("created");
        assert!(service.dead_letters("orders", &ALL).await.expect("none yet").items.is_empty());
        assert_eq!(service.dead_letters("none", &ALL).await.err(), Some(AdminError::Unknown(What::Station)));
        let (orders, letters) = (name("orders"), name("orders").dead_letters());
        let attributes = memory.stations.describe(&orders, None).await.expect("there").attributes;
        memory.stations.create(&letters, &attributes).await.expect("made");
        for (id, payload) in ["1", "\"x\"", "3"].into_iter().enumerate() {
            let headers =
                b"Content-Type: application/json\r\nSluicegate-Dead-Letter: schema\r\nSluicegate-Error: no\r\n";
            memory
                .stations
                .store(&letters, None, (headers, payload.as_bytes()), &id.to_string())
                .await
                .expect("stored");
        }
        let page = service.dead_letters("orders", &PageRequest { after: None, limit: 2 }).await.expect("listed");
        assert_eq!((page.items.len(), page.next.as_deref()), (2, Some("2")));
        let page = service.dead_letters("orders", &PageRequest { after: page.next, limit: 2 }).await.expect("listed");
        assert_eq!((page.items.len(), page.next), (1, None));
        assert_eq!(service.dead_letter("orders", 2).await.expect("there").message.as_deref(), Some("\"x\""));
        for absent in [0, 4, u64::MAX] {
            assert_eq!(service.dead_letter("orders", absent).await.err(), Some(AdminError::Unknown(What::DeadLetter)));
        }
        let some = DeadLetterSelection { ids: Some(vec![1, 9]) };
        let report = service.replay_dead_letters("orders", some).await.expect("replayed");
        assert_eq!((report.replayed, report.failed.len()), (1, 1));
        let report = service.replay_dead_letters("orders", DeadLetterSelection::default()).await.expect("replayed");
        assert_eq!((report.replayed, report.failed.len(), report.failed[0].id), (1, 1, 2));
        let stored = memory.stations.read(&orders, 0, 10).await.expect("read");
        let payloads: Vec<&[u8]> = stored.iter().map(|letter| &*letter.payload).collect();
        assert_eq!(payloads, [b"1", b"3"]);
        assert_eq!(
            stored[0].headers, b"Content-Type: application/json\r\n",
            "nothing of the dead letter is left on it"
        );
        // Valid as soon as nothing is asked of it.
        service.detach_schema("orders", None).await.expect("detached");
        let purged = service.purge_dead_letters("orders", DeadLetterSelection { ids: Some(vec![1]) }).await;
        assert_eq!(purged.expect("purged").purged, 0);
        let report = service.replay_dead_letters("orders", DeadLetterSelection::default()).await.expect("replayed");
        assert_eq!((report.replayed, report.failed.len()), (1, 0));
        memory.stations.store(&letters, None, (b"", b"x"), "again").await.expect("stored");
        let purged = service.purge_dead_letters("orders", DeadLetterSelection::default()).await.expect("purged");
        assert_eq!(purged.purged, 1);
        service.remove_station("orders", None).await.expect("removed");
        assert_eq!(memory.stations.describe(&letters, None).await, Err(StreamsError::Unknown), "they go with it");
    });
}

#[test]
fn what_is_left_of_a_station_that_is_gone_can_be_seen_and_removed() {
    run(async {
        let memory = Memory::default();
        let replica = Replica::of(&memory);
        let service = &replica.service;
        service.create_station(station("orders")).await.expect("created");
        let (orders, letters) = (name("orders"), name("orders").dead_letters());
        let attributes = memory.stations.describe(&orders, None).await.expect("there").attributes;
        memory.stations.create(&letters, &attributes).await.expect("made");
        memory.stations.store(&letters, None, (b"", b"x"), "1").await.expect("stored");
        // Its dead letters are kept for as long as was said, also when that was said before and did not reach them.
        let change = || {
            let kept = DeadLetterSettings { invalid: true, deliveries_max: 10, retention_age_s: 60 };
            service.change_station(
                "orders",
                ChangeStation { dead_letters: Some(kept), ..ChangeStation::default() },
                None,
            )
        };
        let age = async || memory.stations.describe(&letters, None).await.expect("there").attributes.retention_age;
        change().await.expect("changed");
        assert_eq!(age().await, Some(Duration::from_secs(60)));
        memory.stations.remove(&letters).await.expect("removed");
        memory.stations.create(&letters, &attributes).await.expect("made");
        memory.stations.store(&letters, None, (b"", b"x"), "1").await.expect("stored");
        change().await.expect("changed");
        assert_eq!(age().await, Some(Duration::from_secs(60)));
        service.remove_station("orders", None).await.expect("removed");
        // A request that was under way has kept its dead letter after that.
        memory.stations.create(&letters, &attributes).await.expect("made");
        memory.stations.store(&letters, None, (b"", b"x"), "1").await.expect("stored");
        assert_eq!(service.dead_letters("orders", &ALL).await.expect("shown").items.len(), 1);
        let purged = service.purge_dead_letters("orders", DeadLetterSelection::default()).await.expect("purged");
        assert_eq!(purged.purged, 1);
        service.remove_station("orders", None).await.expect("what is left goes");
        assert_eq!(memory.stations.describe(&letters, None).await, Err(StreamsError::Unknown));
        assert_eq!(service.remove_station("orders", None).await, Err(AdminError::Unknown(What::Station)));
    });
}

#[test]
fn replayed_records_of_a_protobuf_station_are_stored_in_wire_format() {
    run(async {
        let memory = Memory::default();
        let replica = Replica::of(&memory);
        let service = &replica.service;
        let text = "syntax = \"proto3\"; message Price { int32 amount = 1; }";
        service
            .add_schema(NewSchema { kind: SchemaKind::Protobuf, ..schema("prices", text) }, "ann")
            .await
            .expect("added");
        let new = NewStation { schema: Some("prices".to_owned()), ..station("orders") };
        service.create_station(new).await.expect("created");
        let (orders, letters) = (name("orders"), name("orders").dead_letters());
        let attributes = memory.stations.describe(&orders, None).await.expect("there").attributes;
        memory.stations.create(&letters, &attributes).await.expect("made");
        // A record that was delivered too often is in wire format already, and keeps the media type that it was sent
        // with.
        for (kind, payload) in [("schema", &b"{\"amount\": 7}"[..]), ("deliveries", &[8, 9]), ("schema", &[8, 9])] {
            let headers = format!("Content-Type: application/json\r\nSluicegate-Dead-Letter: {kind}\r\n");
            let id = format!("{kind}{payload:?}");
            memory.stations.store(&letters, None, (headers.as_bytes(), payload), &id).await.expect("stored");
        }
        let report = service.replay_dead_letters("orders", DeadLetterSelection::default()).await.expect("replayed");
        assert_eq!((report.replayed, report.failed.len(), report.failed[0].id), (2, 1, 3));
        let stored = memory.stations.read(&orders, 0, 10).await.expect("read");
        assert_eq!(stored.iter().map(|letter| &*letter.payload).collect::<Vec<_>>(), [[8, 7], [8, 9]]);
        // The dead letters begin again at 1 within the station's window: another record, and not the same once more.
        memory.stations.remove(&letters).await.expect("removed");
        memory.stations.create(&letters, &attributes).await.expect("made");
        sleep(Duration::from_millis(2)).await;
        memory.stations.store(&letters, None, (b"", b"{\"amount\": 3}"), "1").await.expect("stored");
        let report = service.replay_dead_letters("orders", DeadLetterSelection::default()).await.expect("replayed");
        assert_eq!((report.replayed, memory.stations.read(&orders, 0, 10).await.expect("read").len()), (1, 3));
    });
}

#[test]
fn a_key_is_shown_once_and_good_until_it_is_revoked() {
    run(async {
        let memory = Memory::default();
        let replica = Replica::of(&memory);
        let service = &replica.service;
        let new = NewKey { admin: true, produce: vec!["A.*".to_owned()], expires_in_s: Some(60), ..NewKey::default() };
        let made = service.create_key(new).await.expect("made");
        assert_eq!(made.view.produce, ["a.*"]);
        assert_eq!(made.view.expires_ms, Some(made.view.created_ms + 60_000));
        assert_eq!(service.key_used(&made.key), Ok(Some((made.view.id.clone(), true))));
        let plain = service.create_key(NewKey::default()).await.expect("made");
        assert_eq!(service.key_used(&plain.key), Ok(Some((plain.view.id.clone(), false))), "it has no such right");
        let mut other = made.key.clone();
        other.pop();
        other.push(if made.key.ends_with('A') { 'B' } else { 'A' });
        assert_eq!(service.key_used(&other), Ok(None));
        for wrong in [0, u64::MAX] {
            let new = NewKey { expires_in_s: Some(wrong), ..NewKey::default() };
            assert!(matches!(service.create_key(new).await, Err(AdminError::Invalid(_))));
        }
        assert_eq!(service.keys(&ALL).await.expect("listed").items.len(), 2);
        let shown = service.key(&made.view.id).await.expect("there");
        let mut used = made.view.clone();
        used.requests = 1;
        assert_eq!(shown.value, used, "used once, above");
        let documents = memory.documents.list().await;
        assert!(
            documents
                .iter()
                .all(|document| !String::from_utf8_lossy(document.bytes.as_deref().unwrap()).contains(&made.key))
        );
        assert_eq!(service.revoke_key(&made.view.id, Some("other")).await, Err(AdminError::Changed));
        service.revoke_key(&made.view.id, Some(&shown.tag)).await.expect("revoked");
        assert_eq!(service.key_used(&made.key), Ok(None));
        assert_eq!(service.revoke_key(&made.view.id, None).await, Err(AdminError::Unknown(What::Key)));
        assert_eq!(replica.metrics.keys.get(), 1);
    });
}

/// Says that there is a user, without the work of a password.
async fn put_user(memory: &Memory) {
    let everything = vec![Pattern::parse("*").expect("a pattern")];
    let document = UserDocument::new(1, PasswordHash(HASH.to_owned()), everything.clone(), everything);
    memory.documents.put("users.ann", document.store().expect("stored"), 0).await.expect("put");
}

#[test]
fn rights_change_and_the_password_stays() {
    run(async {
        let memory = Memory::default();
        put_user(&memory).await;
        let replica = Replica::of(&memory);
        let service = &replica.service;
        let before = service.user("ann").await.expect("there");
        let change = ChangeUser { produce: Some(vec!["a".to_owned()]), consume: None };
        let after = service.change_user("ann", change.clone(), Some(&before.tag)).await.expect("changed");
        assert_eq!((after.value.produce, after.value.consume), (vec!["a".to_owned()], vec!["*".to_owned()]));
        assert_eq!(
            service.change_user("ann", change.clone(), Some(&before.tag)).await.err(),
            Some(AdminError::Changed)
        );
        assert_eq!(service.change_user("bob", change.clone(), None).await.err(), Some(AdminError::Unknown(What::User)));
        assert_eq!(service.change_user("root", change, None).await.err(), Some(AdminError::Root));
        let users = |push| if let ShardUpdate::Users(users) = push { Some(users) } else { None };
        let told = replica.told().await.into_iter().filter_map(users).last().expect("told");
        let ann = told.find(1, "ann").expect("ann");
        assert_eq!(ann.version, 1, "tokens stay good");
        assert!(!ann.may(crate::reject::Action::Produce, "b") && ann.may(crate::reject::Action::Produce, "a"));
    });
}

/// The admin listener runs on any thread: what it waits for must be able to move.
#[test]
fn what_is_asked_of_a_desk_can_be_sent_to_another_thread() {
    fn can<T: Send>(_: T) {}
    run(async {
        let replica = Replica::of(&Memory::default());
        let service = &replica.service;
        can(service.stations(&ALL));
        can(service.create_station(station("a")));
        can(service.change_station("a", ChangeStation::default(), None));
        can(service.remove_station("a", None));
        can(service.attach_schema("a", "a", None));
        can(service.add_schema(schema("a", ""), "a"));
        can(service.activate_schema("a", 1, None));
        can(service.remove_schema("a", None));
        can(service.create_key(NewKey::default()));
        can(service.revoke_key("a", None));
        can(service.change_user("a", ChangeUser::default(), None));
        can(service.replay_dead_letters("a", DeadLetterSelection::default()));
        can(service.purge_dead_letters("a", DeadLetterSelection::default()));
    });
}

#[test]
fn a_document_of_a_station_without_anything_of_its_own_says_what_none_says() {
    let document = StationDocument::default();
    let contract = crate::directory::contracts::Contract::default();
    assert_eq!(document.dead_letters.invalid, contract.invalid_to_dead_letters);
    assert_eq!(Some(document.dead_letters.deliveries_max), contract.deliveries_max);
    assert_eq!(StationDocument::PREFIX, "stations.");
}
