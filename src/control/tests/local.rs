//! The control plane on the embedded store: the same requests, the same users.

use crate::control::{
    AdminError, What,
    registry::{Followed, RegistryStore, local::LocalRegistry},
    tests::support::{Gateway, PATIENCE, block_on, settings},
};
use crate::{
    api::users::AddUser,
    backend::local::{Clock, StationDefaults, Store},
    config::{Settings, StationSettings},
    directory::messages::ShardUpdate,
    reject::Reject,
    rt::clock,
};
use futures_util::{FutureExt, StreamExt};
use std::{path::Path, sync::Arc, thread, time::Duration};

fn open(directory: &Path, settings: &Settings) -> Arc<Store> {
    let StationSettings { attributes, group_expiry, .. } = settings.stations.clone();
    let defaults = StationDefaults { attributes, group_expiry };
    Arc::new(Store::open(directory, defaults, Clock::system()).expect("the store opens"))
}

fn close(gateway: Gateway, store: Arc<Store>) {
    drop(gateway);
    let store = Arc::into_inner(store).expect("the control plane lets go of the store when it stops");
    assert!(store.close(Duration::from_secs(10)));
}

#[test]
fn stations_and_groups_are_made_and_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(0);
    let store = open(directory.path(), &settings);
    let gateway = Gateway::start_local(settings.clone(), Arc::clone(&store)).ready();
    assert_eq!(gateway.station("orders", false), Err(Reject::StationUnknown("orders".into())));
    let station = gateway.station("orders", true).expect("made");
    assert_eq!(gateway.station("orders", false), Ok(Arc::clone(&station)));
    let group = gateway.consumer(&station, Some("billing")).expect("made");
    assert_eq!(&*group.durable, "billing-rest-gateway");
    close(gateway, store);
    // Where stations are not made by themselves, the right to create does not help.
    let mut settings = settings;
    settings.stations.auto_create = false;
    let store = open(directory.path(), &settings);
    let gateway = Gateway::start_local(settings, Arc::clone(&store)).ready();
    assert_eq!(gateway.station("new", true), Err(Reject::StationUnknown("new".into())));
    assert!(gateway.station("orders", true).is_ok());
    close(gateway, store);
}

#[test]
fn users_outlive_the_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), &settings(0));
    let gateway = Gateway::start_local(settings(0), Arc::clone(&store)).ready();
    let user = |name: &str| AddUser {
        name: name.to_owned(),
        password: "long enough".into(),
        produce: Some(vec!["a.*".to_owned()]),
        consume: None,
    };
    block_on(gateway.service.add_user(user("ann"))).expect("added");
    block_on(gateway.service.add_user(user("bob"))).expect("added");
    assert_eq!(block_on(gateway.service.add_user(user("ann"))), Err(AdminError::Exists(What::User)));
    block_on(gateway.service.set_password("ann", "other password".into(), None)).expect("changed");
    block_on(gateway.service.remove_user("bob", None)).expect("removed");
    close(gateway, store);

    let store = open(directory.path(), &settings(0));
    let gateway = Gateway::start_local(settings(0), Arc::clone(&store)).ready();
    for (name, password, expect) in [
        ("ann", "other password", Ok(())),
        ("ann", "long enough", Err(Reject::Unauthorized)),
        ("bob", "long enough", Err(Reject::Unauthorized)),
        ("root", "memphis-root", Ok(())),
    ] {
        assert_eq!(gateway.login(1, name, password), expect, "{name}");
    }
    close(gateway, store);
}

#[test]
fn nobody_removes_a_user_that_others_have_just_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), &settings(0));
    let gateway = Gateway::start_local(settings(0), Arc::clone(&store)).ready();
    let ann = AddUser { name: "ann".to_owned(), password: "long enough".into(), produce: None, consume: None };
    block_on(gateway.service.add_user(ann)).expect("added");
    // Behind the back of the control plane, as another gateway would.
    let document = store.registry_get("users.ann").expect("read").expect("exists");
    block_on(store.registry_put("users.ann", &document.value, None)).expect("put");
    assert_eq!(block_on(gateway.service.remove_user("ann", None)), Err(AdminError::Contended));
    assert_eq!(gateway.login(1, "ann", "long enough"), Ok(()));
    assert_eq!(block_on(gateway.service.remove_user("ann", None)), Ok(()));
    assert_eq!(gateway.login(1, "ann", "long enough"), Err(Reject::Unauthorized));
    close(gateway, store);
}

#[test]
fn a_shard_is_told_of_users_once_and_of_the_drain() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), &settings(0));
    let gateway = Gateway::start_local(settings(0), Arc::clone(&store)).ready();
    gateway.handle().drain();
    let mut pushes = Vec::new();
    while !matches!(pushes.last(), Some(ShardUpdate::Drain)) {
        pushes.push(gateway.pushes.recv_timeout(Duration::from_secs(10)).expect("a push"));
    }
    assert!(matches!(&*pushes, [ShardUpdate::Users(_), ShardUpdate::Contracts(_), ShardUpdate::Drain]), "{pushes:?}");
    assert_eq!(gateway.service.reasons_not_ready(), ["draining"]);
    // Requests in flight may still ask.
    assert!(gateway.station("orders", true).is_ok());
    close(gateway, store);
}

#[test]
fn a_store_that_has_lost_a_thread_is_not_ready() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), &settings(0));
    let gateway = Gateway::start_local(settings(0), Arc::clone(&store)).ready();
    store.lose_a_thread();
    let begun = clock::now();
    while gateway.service.reasons_not_ready() != ["store read-only"] {
        assert!(clock::since(begun) < Duration::from_secs(20), "{:?}", gateway.service.reasons_not_ready());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_write_whose_caller_has_gone_is_followed_all_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let registry = LocalRegistry::new(open(directory.path(), &settings(0)));
    block_on(async {
        let follow = async || registry.follow().await.expect("the store answers");
        for count in [1, 0] {
            let Followed { listing, mut changes, .. } = follow().await;
            let revision = listing.documents.first().map_or(0, |change| change.revision);
            // Polled once, and dropped: the caller goes before it is answered.
            let answered = if count == 1 {
                registry.put("keys.a", b"{}".to_vec(), revision).now_or_never().is_some()
            } else {
                registry.delete("keys.a", revision).now_or_never().is_some()
            };
            assert!(!answered);
            let end = tokio::time::timeout(PATIENCE, changes.next()).await;
            assert_eq!(end.expect("whoever follows hears of the write"), None);
            assert_eq!(follow().await.listing.documents.len(), count);
        }
    });
}
