//! Users, the registry's watch, and logins on a real broker.

use super::{
    super::support::{Gateway, block_on, name, settings},
    Server,
};
use crate::{
    api::users::AddUser,
    auth::Users,
    config::Secret,
    control::{AdminError, What},
    directory::messages::{Request, Response, ShardUpdate},
    limits::LOGINS_WAITING_MAX,
    reject::Reject,
    rt::clock,
};
use async_nats::jetstream::{self, kv};
use std::{collections::HashSet, sync::Arc, time::Duration};

fn new_user(name: &str, password: &str) -> AddUser {
    AddUser { name: name.to_owned(), password: password.into(), produce: None, consume: None }
}

fn bucket<T>(server: &Server, work: impl AsyncFnOnce(kv::Store) -> T) -> T {
    block_on(async {
        let jetstream = jetstream::new(server.client().await);
        work(jetstream.get_key_value("sluicegate").await.expect("the bucket exists")).await
    })
}

/// The next snapshot that the shard is sent.
fn next_users(gateway: &Gateway) -> Arc<Users> {
    loop {
        match gateway.pushes.recv_timeout(Duration::from_secs(15)).expect("a push in time") {
            ShardUpdate::Users(users) => return users,
            ShardUpdate::Response { .. } | ShardUpdate::Contracts(_) | ShardUpdate::Confirmed(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn names(gateway: &Gateway) -> Vec<String> {
    block_on(gateway.service.users()).expect("a list").into_iter().map(|user| user.name).collect()
}

#[test]
fn a_user_is_added_comes_in_changes_the_password_and_goes() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port)).ready();
    let service = &gateway.service;
    let added = block_on(service.add_user(new_user("Ann.Bee", "first password"))).expect("added");
    assert_eq!((added.name.as_str(), added.account, added.root), ("ann.bee", 1, false));
    assert_eq!((added.produce, added.consume), (vec!["*".to_owned()], vec!["*".to_owned()]));
    assert_eq!(names(&gateway), ["root", "ann.bee"]);
    for (username, password, expect) in [
        ("ann.bee", "first password", Ok(())),
        ("ann.bee", "wrong", Err(Reject::Unauthorized)),
        ("nobody", "first password", Err(Reject::Unauthorized)),
        ("root", "memphis-root", Ok(())),
        ("root", "memphis-rooT", Err(Reject::Unauthorized)),
        ("", "", Err(Reject::Unauthorized)),
    ] {
        assert_eq!(gateway.login(1, username, password), expect, "{username}");
    }
    assert_eq!(gateway.login(2, "root", "memphis-root"), Err(Reject::Unauthorized));
    assert_eq!(block_on(service.add_user(new_user("ann.bee", "first password"))), Err(AdminError::Exists(What::User)));
    block_on(service.set_password("Ann.Bee", "second password".into(), None)).expect("changed");
    assert_eq!(gateway.login(1, "ann.bee", "first password"), Err(Reject::Unauthorized));
    assert_eq!(gateway.login(1, "ann.bee", "second password"), Ok(()));
    block_on(service.remove_user("ann.bee", None)).expect("removed");
    assert_eq!(gateway.login(1, "ann.bee", "second password"), Err(Reject::Unauthorized));
    assert_eq!(block_on(service.remove_user("ann.bee", None)), Err(AdminError::Unknown(What::User)));
    // The same name again, where only a marker of the removal is left.
    block_on(service.add_user(new_user("ann.bee", "third password"))).expect("added again");
    assert_eq!(gateway.login(1, "ann.bee", "third password"), Ok(()));
    for refused in [
        block_on(service.remove_user("root", None)),
        block_on(service.set_password("ROOT", "long enough".into(), None)),
    ] {
        assert_eq!(refused, Err(AdminError::Root));
    }
}

#[test]
fn versions_change_with_the_password_and_never_come_back() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port)).ready();
    let mut versions = Vec::new();
    let mut seen = |gateway: &Gateway, password: &str| {
        let version = loop {
            if let Some(ann) = next_users(gateway).find(1, "ann") {
                break ann.version;
            }
        };
        versions.push(version);
        assert_eq!(gateway.version_at_login(1, "ann", password), Ok(version), "the shard knows what is answered");
    };
    block_on(gateway.service.add_user(new_user("ann", "first password"))).expect("added");
    seen(&gateway, "first password");
    for password in ["second password", "third password", "first password"] {
        block_on(gateway.service.set_password("ann", password.into(), None)).expect("changed");
        seen(&gateway, password);
    }
    block_on(gateway.service.remove_user("ann", None)).expect("removed");
    assert!(next_users(&gateway).find(1, "ann").is_none());
    block_on(gateway.service.add_user(new_user("ann", "first password"))).expect("added again");
    seen(&gateway, "first password");
    let different: HashSet<u32> = versions.iter().copied().collect();
    assert_eq!(different.len(), 5, "{versions:?}");
}

#[test]
fn the_shard_knows_the_version_of_root_that_is_answered() {
    let mut server = Server::start("");
    server.kill();
    let gateway = Gateway::start(settings(server.port));
    let version = next_users(&gateway).find(1, "root").map(|root| root.version).expect("root");
    assert_ne!(version, 0);
    assert_eq!(gateway.version_at_login(1, "root", "memphis-root"), Ok(version));
    let mut settings = settings(server.port);
    settings.auth.root_password = Secret::new("another password");
    let gateway = Gateway::start(settings);
    assert_ne!(gateway.version_at_login(1, "root", "another password"), Ok(version));
}

#[test]
fn nobody_removes_a_user_that_others_have_just_changed() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port)).ready();
    block_on(gateway.service.add_user(new_user("ann", "first password"))).expect("added");
    let other = bucket(&server, async |store| {
        let entry = store.entry("users.ann").await.expect("read").expect("exists");
        store.put("users.ann", entry.value.clone()).await.expect("put");
        let stale = store.delete_expect_revision("users.ann", Some(entry.revision)).await;
        stale.map_err(|error| error.kind())
    });
    assert_eq!(other, Err(kv::DeleteErrorKind::WrongLastRevision), "the broker compares");
    // The gateway learns of the change and then removes what it has seen.
    gateway.until("removed", |gateway| match block_on(gateway.service.remove_user("ann", None)) {
        Ok(()) => true,
        Err(AdminError::Contended) => false,
        Err(error) => panic!("{error:?}"),
    });
    assert_eq!(names(&gateway), ["root"]);
}

#[test]
fn a_bucket_that_was_made_again_is_believed() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port)).ready();
    for password in ["first password", "second password", "third password"] {
        let _exists = block_on(gateway.service.add_user(new_user("ann", "zeroth password")));
        block_on(gateway.service.set_password("ann", password.into(), None)).expect("changed");
    }
    block_on(gateway.service.add_user(new_user("bob", "first password"))).expect("added");
    let document = bucket(&server, async |store| store.get("users.bob").await.expect("read").expect("exists"));
    block_on(async {
        let jetstream = jetstream::new(server.client().await);
        jetstream.delete_key_value("sluicegate").await.expect("removed");
        let config = kv::Config { bucket: "sluicegate".to_owned(), history: 1, ..kv::Config::default() };
        let store = jetstream.create_key_value(config).await.expect("made again");
        store.put("users.ann", document).await.expect("put");
    });
    // A new connection, on which everything is read again.
    let gateway = {
        let mut server = server;
        server.kill();
        server.run();
        gateway.until("told", |gateway| names(gateway) == ["root", "ann"]);
        gateway.until("told", |gateway| gateway.login(1, "ann", "first password") == Ok(()));
        gateway
    };
    assert_eq!(gateway.login(1, "ann", "third password"), Err(Reject::Unauthorized));
}

#[test]
fn every_gateway_learns_of_a_change() {
    let server = Server::start("");
    let (one, two) = (Gateway::start(settings(server.port)).ready(), Gateway::start(settings(server.port)).ready());
    block_on(one.service.add_user(new_user("ann", "first password"))).expect("added");
    two.until("told", |gateway| names(gateway).len() == 2);
    assert_eq!(two.login(1, "ann", "first password"), Ok(()));
    block_on(two.service.remove_user("ann", None)).expect("removed");
    one.until("told", |gateway| names(gateway).len() == 1);
}

#[test]
fn a_broken_document_leaves_the_user_that_works_and_its_neighbours_alone() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port)).ready();
    block_on(gateway.service.add_user(new_user("ann", "first password"))).expect("added");
    bucket(&server, async |store| {
        store.put("users.ann", "{\"format\":1".into()).await.expect("put");
        store.put("users.bob", "nonsense".into()).await.expect("put");
        store.put("bridges.x", "of no interest".into()).await.expect("put");
    });
    let refused = |count: &str| {
        let line = format!("\nsluicegate_registry_documents_refused {count}\n");
        move |gateway: &Gateway| gateway.service.metrics_text(None).contains(&line)
    };
    gateway.until("aware of both", refused("2"));
    assert_eq!(gateway.login(1, "ann", "first password"), Ok(()));
    assert_eq!(gateway.login(1, "bob", "first password"), Err(Reject::Unauthorized));
    // A gateway that starts now has never seen the one that worked.
    let other = Gateway::start(settings(server.port)).ready();
    assert_eq!(other.login(1, "ann", "first password"), Err(Reject::Unauthorized));
    // The one can be mended, the other be removed.
    assert_eq!(
        block_on(gateway.service.add_user(new_user("bob", "first password"))),
        Err(AdminError::Exists(What::User))
    );
    block_on(gateway.service.set_password("ann", "second password".into(), None)).expect("mended");
    block_on(gateway.service.remove_user("bob", None)).expect("removed");
    gateway.until("aware that all is well", refused("0"));
    other.until("aware that all is well", refused("0"));
    assert_eq!(other.login(1, "ann", "second password"), Ok(()));
}

#[test]
fn changes_made_while_the_watch_was_cut_are_seen_afterwards() {
    let mut server = Server::start("");
    let gateway = Gateway::start(settings(server.port)).ready();
    for user in ["ann", "bob"] {
        block_on(gateway.service.add_user(new_user(user, "first password"))).expect("added");
    }
    let document = bucket(&server, async |store| store.get("users.ann").await.expect("read").expect("exists"));
    for round in 0..3 {
        server.kill();
        gateway.until("away", |gateway| !gateway.service.reasons_not_ready().is_empty());
        // Users known so far come in while the broker is away.
        assert_eq!(gateway.login(1, "ann", "first password"), Ok(()));
        server.run();
        let added = format!("users.late{round}");
        bucket(&server, async |store| {
            store.put(&added, document.clone()).await.expect("put");
            if round == 0 {
                store.delete("users.bob").await.expect("deleted");
            }
        });
        let expect = ["ann", "late0", "late1", "late2"].into_iter().take(2 + round).map(str::to_owned);
        let expect: Vec<String> = std::iter::once("root".to_owned()).chain(expect).collect();
        gateway.until("told", |gateway| names(gateway) == expect);
    }
    assert_eq!(gateway.login(1, "late2", "first password"), Ok(()));
}

#[test]
fn before_the_registry_was_read_only_root_comes_in_and_others_are_asked_to_come_again() {
    let mut server = Server::start("");
    server.kill();
    let gateway = Gateway::start(settings(server.port));
    assert_eq!(gateway.login(1, "root", "memphis-root"), Ok(()));
    assert_eq!(gateway.login(1, "ann", "first password"), Err(Reject::BrokerAway));
    assert!(gateway.service.reasons_not_ready().contains(&"users not loaded"));
    let mut settings = settings(server.port);
    settings.limits.hold = Duration::from_millis(100);
    let gateway = Gateway::start(settings);
    let refused = block_on(gateway.service.add_user(new_user("ann", "first password")));
    assert_eq!(refused, Err(AdminError::Backend(Reject::BrokerAway)));
}

#[test]
fn too_many_logins_are_refused_at_once_and_do_not_hold_up_stations() {
    let server = Server::start("");
    let gateway = Gateway::start(settings(server.port)).ready();
    let logins = LOGINS_WAITING_MAX * 2;
    for number in 0..logins {
        // From so many networks and for so many names that nobody's share is what is full.
        let peer = [10, 0, 0, u8::try_from(number % 8).expect("small")].into();
        let username = format!("nobody-{}", number % 4).into();
        gateway.ask(Request::Login { account: 1, username, password: "whatever".into(), peer });
    }
    let began = clock::now();
    let station = gateway.ask(Request::Station { name: name("orders"), create: true });
    let mut counts = [0, 0];
    let mut station_after = None;
    for _ in 0..=logins {
        let (ticket, answer) = gateway.next_answer();
        match answer {
            Response::Login(Err(Reject::Unauthorized | Reject::TooManyLogins(_))) => counts[0] += 1,
            Response::Login(Err(Reject::Overloaded("the number of logins at a time"))) => counts[1] += 1,
            Response::Station(Ok(_)) if ticket == station => {
                station_after = Some(clock::since(began));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(counts[0] + counts[1], logins);
    assert!(counts[1] >= logins - LOGINS_WAITING_MAX - 16, "{counts:?}");
    assert!(station_after.is_some());
    let text = gateway.service.metrics_text(None);
    assert!(text.contains(&format!("sluicegate_logins_total{{result=\"overloaded\"}} {}\n", counts[1])), "{text}");
}
