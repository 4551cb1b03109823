//! The registry on a real broker: what one gateway changes holds on the other, and what the shards know is confirmed.

use super::{
    super::super::{
        registry::documents::{Document, SchemaDocument, SchemaVersion, StationDocument},
        tests::support::{Gateway, PATIENCE, block_on, name, settings},
    },
    Server,
};
use crate::{
    api::{
        keys::NewKey,
        pages::PageRequest,
        schemas::{NewSchema, SchemaKind},
        stations::{AdoptStation, ChangeStation, NewStation},
        users::{AddUser, ChangeUser},
    },
    auth::Users,
    config::{BackendSettings, NatsServer, Unconfirmed},
    control::{AdminError, What},
    directory::{
        contracts::{Contract, Contracts},
        messages::ShardUpdate,
    },
    limits::CONTRACTS_AGE_MAX,
    reject::Reject,
    rt::clock,
    schema::SchemaType,
};
use async_nats::jetstream::{self, kv};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

fn bucket<T>(server: &Server, work: impl AsyncFnOnce(kv::Store) -> T) -> T {
    block_on(async {
        let jetstream = jetstream::new(server.client().await);
        work(jetstream.get_key_value("sluicegate").await.expect("the bucket exists")).await
    })
}

fn schema(text: &str) -> NewSchema {
    NewSchema {
        name: "prices".to_owned(),
        kind: SchemaKind::Avro,
        schema: text.to_owned(),
        message: None,
        imports: BTreeMap::new(),
    }
}

/// Attaches the schema behind the back of all gateways: there is no stream to ask about.
fn attach(server: &Server, schema: Option<&str>) {
    let document = StationDocument { schema: schema.map(name), ..StationDocument::default() };
    let bytes = document.store().expect("stored");
    bucket(server, async |store| store.put("stations.orders", bytes.into()).await.expect("put"));
}

/// What a shard knows, as it was sent.
#[derive(Default)]
struct Shard {
    contracts: Option<Arc<Contracts>>,
    confirmed: Option<Instant>,
}

impl Shard {
    /// Takes in what the shard is sent, until something holds.
    fn until(&mut self, gateway: &Gateway, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = clock::now();
        while !holds(self) {
            // Schemas that take long take longer where everything is compiled without optimisation and runs at once.
            assert!(clock::since(began) < 4 * PATIENCE, "not {what} in time");
            match gateway.pushes.recv_timeout(Duration::from_millis(100)) {
                Ok(ShardUpdate::Contracts(contracts)) => self.contracts = Some(contracts),
                Ok(ShardUpdate::Confirmed(at)) => self.confirmed = Some(at),
                _ => {}
            }
        }
    }

    fn until_version(&mut self, gateway: &Gateway, version: Option<u32>) {
        let what = format!("told of version {version:?}");
        self.until(gateway, &what, |shard| shard.contract().is_some_and(|contract| version_of(contract) == version));
    }

    /// Waits for a confirmation of what is true after now.
    fn until_confirmed(&mut self, gateway: &Gateway) {
        let now = clock::now();
        self.until(gateway, "confirmed", |shard| shard.confirmed.is_some_and(|at| at > now));
    }

    fn contract(&self) -> Option<&Contract> {
        self.contracts.as_ref().map(|contracts| contracts.of(&name("orders")))
    }
}

fn version_of(contract: &Contract) -> Option<u32> {
    contract.schema.as_ref().map(|schema| schema.version)
}

#[test]
fn what_one_gateway_changes_the_shards_of_the_other_are_told() {
    let server = Server::start("");
    let (one, two) = (Gateway::start(settings(server.port)).ready(), Gateway::start(settings(server.port)).ready());
    let (mut shard, mut other) = (Shard::default(), Shard::default());
    let added = block_on(one.service.add_schema(schema("\"int\""), "ann")).expect("added");
    assert_eq!(added.1, 1);
    attach(&server, Some("prices"));
    other.until_version(&two, Some(1));
    assert!(other.contracts.as_ref().is_some_and(|contracts| contracts.shared && contracts.complete));
    block_on(two.service.add_schema(schema("\"long\""), "bob")).expect("added");
    let refused = block_on(two.service.remove_schema("prices", None));
    assert!(matches!(refused, Err(AdminError::Conflict(text)) if text.contains("orders")));
    for version in [2, 1, 2] {
        one.until("aware of both", |gateway| {
            block_on(gateway.service.schema("prices")).is_ok_and(|schema| schema.value.versions.len() == 2)
        });
        block_on(one.service.activate_schema("prices", version, None)).expect("activated");
        shard.until_version(&one, Some(version));
        other.until_version(&two, Some(version));
        other.until_confirmed(&two);
    }
    attach(&server, None);
    other.until_version(&two, None);

    let key = block_on(one.service.create_key(NewKey { admin: true, ..NewKey::default() })).expect("made");
    two.until("aware of the key", |gateway| gateway.service.key_used(&key.key).is_ok_and(|used| used.is_some()));
    block_on(two.service.revoke_key(&key.view.id, None)).expect("revoked");
    one.until("aware that it is gone", |gateway| gateway.service.key_used(&key.key) == Ok(None));

    let ann = AddUser { name: "ann".to_owned(), password: "long enough".into(), produce: None, consume: None };
    block_on(one.service.add_user(ann)).expect("added");
    two.until("aware of ann", |gateway| block_on(gateway.service.user("ann")).is_ok());
    let change = ChangeUser { produce: Some(vec!["a".to_owned()]), consume: None };
    block_on(two.service.change_user("ann", change, None)).expect("changed");
    one.until("aware of the rights", |gateway| {
        block_on(gateway.service.user("ann")).is_ok_and(|user| user.value.produce == ["a"])
    });
}

/// Schemas that take seconds to be compiled, together.
const SLOW: usize = 80;

/// A gateway whose station of orders has the first version of the schema of prices, as its shard knows.
fn gateway_with_prices(server: &Server) -> (Gateway, Shard) {
    let gateway = Gateway::start(settings(server.port)).ready();
    let mut shard = Shard::default();
    block_on(gateway.service.add_schema(schema("\"int\""), "ann")).expect("added");
    attach(server, Some("prices"));
    shard.until_version(&gateway, Some(1));
    (gateway, shard)
}

/// One of them.
fn slow_schema() -> Vec<u8> {
    let patterns: Vec<String> = (0..150).map(|at| format!(r#"{{"pattern":"^\\p{{Lu}}{at}$"}}"#)).collect();
    let version = SchemaVersion {
        version: 1,
        text: format!(r#"{{"anyOf":[{}]}}"#, patterns.join(",")),
        message: None,
        imports: BTreeMap::new(),
        created_by: "ann".to_owned(),
        created_ms: 1,
    };
    SchemaDocument::new(SchemaType::Json, version).store().expect("stored")
}

#[test]
fn schemas_that_take_long_to_compile_delay_their_own_stations_alone() {
    let server = Server::start("");
    let (gateway, mut shard) = gateway_with_prices(&server);
    bucket(&server, async |store| {
        for at in 0..SLOW {
            store.put(format!("schemas.slow{at}"), slow_schema().into()).await.expect("put");
        }
        for at in 0..SLOW {
            let schema = Some(name(&format!("slow{at}")));
            let station = StationDocument { schema, ..StationDocument::default() }.store().expect("stored");
            store.put(format!("stations.slow{at}"), station.into()).await.expect("put");
        }
    });
    let slow = |shard: &Shard, what: fn(&Contract) -> bool| {
        let Some(contracts) = &shard.contracts else { return 0 };
        (0..SLOW).filter(|at| what(contracts.of(&name(&format!("slow{at}"))))).count()
    };
    shard.until(&gateway, "told that some wait", |shard| slow(shard, |contract| contract.compiling) > 0);
    shard.until_confirmed(&gateway);
    shard.until_confirmed(&gateway);
    assert!(slow(&shard, |contract| contract.compiling) > 0, "sure of the others meanwhile");
    assert_eq!(shard.contract().and_then(version_of), Some(1));
    shard.until(&gateway, "told of all", |shard| slow(shard, |contract| contract.schema.is_some()) == SLOW);
    assert_eq!(slow(&shard, |contract| contract.compiling || contract.blocked.is_some()), 0);
}

#[test]
fn nothing_is_confirmed_while_the_broker_is_away_and_what_was_missed_holds_before_it_is() {
    let mut server = Server::start("");
    let (gateway, mut shard) = gateway_with_prices(&server);
    block_on(gateway.service.add_schema(schema("\"long\""), "ann")).expect("added");
    let document = bucket(&server, async |store| store.get("schemas.prices").await.expect("read").expect("exists"));
    let activated = String::from_utf8(document.to_vec()).expect("text").replace("\"active\":1", "\"active\":2");
    shard.until_confirmed(&gateway);
    server.kill();
    gateway.until("away", |gateway| !gateway.service.reasons_not_ready().is_empty());
    let down = clock::now();
    while clock::since(down) < CONTRACTS_AGE_MAX + Duration::from_millis(500) {
        if let Ok(ShardUpdate::Confirmed(at)) = gateway.pushes.recv_timeout(Duration::from_millis(50)) {
            assert!(at <= down, "nobody has answered since");
        }
    }
    server.run();
    bucket(&server, async |store| store.put("schemas.prices", activated.into()).await.expect("put"));
    let changed = clock::now();
    // Confirmations of before the change may come; one of after it must not come before the change does.
    shard.until(&gateway, "told", |shard| {
        let known = shard.contract().and_then(version_of) == Some(2);
        assert!(known || shard.confirmed.is_none_or(|at| at < changed), "confirmed, and not what it was");
        known
    });
    shard.until_confirmed(&gateway);
}

#[test]
fn a_removal_at_the_end_of_the_bucket_keeps_no_gateway_from_being_sure() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port)).ready();
    block_on(gateway.service.add_schema(schema("\"int\""), "ann")).expect("added");
    let other = NewSchema { name: "other".to_owned(), ..schema("\"int\"") };
    block_on(gateway.service.add_schema(other, "ann")).expect("added");
    block_on(gateway.service.remove_schema("prices", None)).expect("removed");
    Shard::default().until_confirmed(&gateway);
    let late = Gateway::start(settings(server.port)).ready();
    Shard::default().until_confirmed(&late);
    // Somebody has cleaned up the marker of the removal: the last revision is of nothing that is there.
    block_on(async {
        let jetstream = jetstream::new(server.client().await);
        let mut stream = jetstream.get_stream("KV_sluicegate").await.expect("the bucket's stream");
        stream.purge().filter("$KV.sluicegate.schemas.prices").await.expect("purged");
        let state = stream.info().await.expect("its state").state.clone();
        assert!(state.last_sequence == 3 && state.messages == 1, "{state:?}");
    });
    let later = Gateway::start(settings(server.port)).ready();
    Shard::default().until_confirmed(&later);
    Shard::default().until_confirmed(&gateway);
}

#[test]
fn a_bucket_that_was_removed_is_not_taken_for_one_that_is_read() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port)).ready();
    let mut shard = Shard::default();
    block_on(gateway.service.add_schema(schema("\"int\""), "ann")).expect("added");
    block_on(async {
        let jetstream = jetstream::new(server.client().await);
        jetstream.delete_key_value("sluicegate").await.expect("removed");
    });
    gateway.until("told", |gateway| {
        block_on(gateway.service.schema("prices")).err() == Some(AdminError::Unknown(What::Schema))
    });
    shard.until_confirmed(&gateway);
    block_on(gateway.service.add_schema(schema("\"int\""), "ann")).expect("added again");
}

#[test]
fn an_adopted_stream_that_was_removed_hides_no_other_station_and_can_be_let_go() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port)).ready();
    let service = &gateway.service;
    let stream = |work: &str, body: serde_json::Value| {
        block_on(async {
            let client = server.client().await;
            let body = serde_json::to_vec(&body).expect("a body");
            client.request(format!("$JS.API.STREAM.{work}.THEIRS"), body.into()).await.expect("an answer");
        });
    };
    stream("CREATE", serde_json::json!({"name": "THEIRS", "subjects": ["theirs"]}));
    block_on(service.create_station(NewStation { name: "own".to_owned(), ..NewStation::default() })).expect("created");
    let adopt = AdoptStation { stream: "THEIRS".to_owned(), subject: "theirs".to_owned() };
    block_on(service.adopt_station("orders", adopt)).expect("adopted");
    let listed = || {
        let page = block_on(service.stations(&PageRequest { after: None, limit: 10 })).expect("listed");
        page.items.into_iter().map(|station| station.name).collect::<Vec<_>>()
    };
    assert_eq!(listed(), ["orders", "own"]);
    stream("DELETE", serde_json::json!({}));
    assert_eq!(listed(), ["own"]);
    block_on(service.remove_station("orders", None)).expect("let go");
    assert_eq!(block_on(service.station("orders")).err(), Some(AdminError::Unknown(What::Station)));
}

#[test]
fn documents_that_do_not_load_are_counted_and_change_nothing() {
    let server = Server::start("");
    let (gateway, mut shard) = gateway_with_prices(&server);
    bucket(&server, async |store| {
        for key in ["schemas.prices", "stations.orders", "stations.new", "keys.abc", "users.ann"] {
            store.put(key, "{\"format\":7}".into()).await.expect("put");
        }
    });
    let refused = "\nsluicegate_registry_documents_refused 5\n";
    gateway.until("aware of all", |gateway| gateway.service.metrics_text(None).contains(refused));
    shard.until(&gateway, "told of the new one", |shard| {
        shard.contracts.as_ref().is_some_and(|contracts| contracts.of(&name("new")).blocked.is_some())
    });
    assert_eq!(shard.contract().and_then(version_of), Some(1));
    shard.until_confirmed(&gateway);
}

#[test]
fn c4_a_server_without_jetstream_is_left_for_one_that_has_it() {
    let (without, with) = (Server::start_without_jetstream(), Server::start(""));
    let mut settings = settings(without.port);
    let BackendSettings::Nats(nats) = &mut settings.backend else { panic!("a broker") };
    nats.servers.push(NatsServer { host: "127.0.0.1".to_owned(), port: with.port });
    let gateway = Gateway::start(settings).ready();
    assert!(gateway.station("orders", true).is_ok());
}

#[test]
fn c10_a_gateway_whose_jetstream_does_not_answer_is_not_ready_and_says_which_way() {
    let server = Server::start_without_jetstream();
    let gateway = Gateway::start(settings(server.port));
    gateway.until("said", |gateway| gateway.service.reasons_not_ready().contains(&"no JetStream"));
    assert!(!gateway.service.reasons_not_ready().contains(&"broker away"), "it is there");
    assert!(gateway.service.metrics_text(None).contains("\nsluicegate_control_jetstream_up 0\n"));
    drop(gateway);
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port)).ready();
    assert!(gateway.service.metrics_text(None).contains("\nsluicegate_control_jetstream_up 1\n"));
    // It goes on taking what comes, and says nothing.
    server.freeze();
    gateway.until("said", |gateway| !gateway.service.reasons_not_ready().is_empty());
}

#[test]
fn c5_what_another_gateway_has_just_made_is_known_to_whoever_removes_it() {
    let server = Server::start("");
    let (one, two) = (Gateway::start(settings(server.port)).ready(), Gateway::start(settings(server.port)).ready());
    for number in 0..100 {
        let key = block_on(one.service.create_key(NewKey::default())).expect("made");
        assert_eq!(block_on(two.service.revoke_key(&key.view.id, None)), Ok(()), "key {number}");
        let user = format!("user-{number}");
        let new = || AddUser { name: user.clone(), password: "long enough".into(), produce: None, consume: None };
        block_on(one.service.add_user(new())).expect("added");
        assert_eq!(block_on(two.service.user(&user)).map(|user| user.value.name), Ok(user.clone()));
        assert_eq!(block_on(two.service.remove_user(&user, None)), Ok(()), "user {number}");
        assert_eq!(block_on(one.service.user(&user)).err(), Some(AdminError::Unknown(What::User)));
        assert_eq!(block_on(one.service.add_schema(schema("\"int\""), "ann")).map(|added| added.1), Ok(1));
        assert_eq!(block_on(two.service.schema("prices")).map(|schema| schema.value.active_version), Ok(1));
        assert_eq!(block_on(two.service.remove_schema("prices", None)), Ok(()), "schema {number}");
    }
    // What there is none of, there is none of.
    assert_eq!(block_on(two.service.revoke_key("none", None)), Err(AdminError::Unknown(What::Key)));
}

#[test]
fn how_long_ids_are_known_is_known_to_all_gateways_when_one_has_changed_it() {
    let server = Server::start("");
    let (one, two) = (Gateway::start(settings(server.port)).ready(), Gateway::start(settings(server.port)).ready());
    let window = |gateway: &Gateway| gateway.station("orders", true).expect("a station").duplicate_window;
    assert_eq!([window(&one), window(&two)], [settings(0).stations.attributes.duplicate_window; 2]);
    let change = ChangeStation { idempotency_window_ms: Some(5_000), ..ChangeStation::default() };
    block_on(one.service.change_station("orders", change, None)).expect("changed");
    for gateway in [&one, &two] {
        let deadline = clock::now() + PATIENCE;
        let forgets = |push: ShardUpdate| matches!(push, ShardUpdate::Forget(station) if station == name("orders"));
        while !forgets(gateway.pushes.recv_timeout(PATIENCE).expect("a push")) {
            assert!(clock::now() < deadline, "its shards are not told");
        }
        assert_eq!(window(gateway), Duration::from_secs(5));
    }
}

/// The users that a shard was sent last.
#[derive(Default)]
struct Told(RefCell<Option<Arc<Users>>>);

impl Told {
    fn newest(&self, gateway: &Gateway) -> Option<Arc<Users>> {
        let users = |push| if let ShardUpdate::Users(users) = push { Some(users) } else { None };
        if let Some(newer) = gateway.pushes.drain().filter_map(users).last() {
            self.0.replace(Some(newer));
        }
        self.0.borrow().clone()
    }

    fn has_ann(&self, gateway: &Gateway) -> bool {
        self.newest(gateway).is_some_and(|users| users.find(1, "ann").is_some())
    }
}

#[test]
fn c5_users_and_keys_that_the_registry_does_not_confirm_are_said_and_served_or_refused() {
    for unconfirmed in [Unconfirmed::Serve, Unconfirmed::Refuse] {
        let mut server = Server::start("");
        let mut settings = settings(server.port);
        settings.limits.registry_age = Duration::from_secs(2);
        settings.limits.hold = Duration::from_millis(200);
        settings.auth.unconfirmed = unconfirmed;
        let gateway = Gateway::start(settings).ready();
        let ann = AddUser { name: "ann".to_owned(), password: "long enough".into(), produce: None, consume: None };
        block_on(gateway.service.add_user(ann)).expect("added");
        let key = block_on(gateway.service.create_key(NewKey { admin: true, ..NewKey::default() })).expect("made");
        let told = Told::default();
        gateway.until("told of ann", |gateway| told.has_ann(gateway));
        server.kill();
        let not_confirmed = |gateway: &Gateway| gateway.service.reasons_not_ready().contains(&"registry not confirmed");
        gateway.until("not confirmed", not_confirmed);
        let refuses = unconfirmed == Unconfirmed::Refuse;
        gateway.until("told so", |gateway| told.has_ann(gateway) != refuses);
        let of_key = gateway.service.key_used(&key.key).map(|used| used.is_some());
        let login = gateway.login(1, "ann", "long enough");
        if refuses {
            assert_eq!(of_key, Err(AdminError::Backend(Reject::UsersUnknown)));
            assert_eq!(login, Err(Reject::UsersUnknown));
            assert!(told.newest(&gateway).is_some_and(|users| !users.is_complete()), "later, and not never");
        } else {
            assert_eq!((of_key, login), (Ok(true), Ok(())));
        }
        assert_eq!(gateway.login(1, "root", "memphis-root"), Ok(()), "root comes from the configuration");
        server.run();
        gateway.until("ready again", |gateway| gateway.service.reasons_not_ready().is_empty());
        gateway.until("told of ann again", |gateway| told.has_ann(gateway));
        assert_eq!(gateway.login(1, "ann", "long enough"), Ok(()));
        assert_eq!(gateway.service.key_used(&key.key).map(|used| used.is_some()), Ok(true));
    }
}
