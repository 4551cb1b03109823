//! How the gateway identifies itself to its broker, and finds it: every kind of credential that the
//! configuration takes, against a server that asks for it.

use crate::support::{PATIENCE, eventually, gateway::Plan, http::Http, nats::NatsServer, ports, scratch, setup::Setup};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};

on_setups!(nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
    user_and_password_open_the_broker,
    a_token_opens_the_broker,
    an_nkey_opens_the_broker,
    a_creds_file_opens_the_broker,
    a_wrong_password_is_not_ready_and_not_logged,
    a_server_that_is_away_is_passed_over_for_the_next,
]);

const OK: &str = "{\"error\":null,\"success\":true}";

/// Starts a gateway with this broker and configuration, and stores and reads a record through it.
fn works(setup: Setup, url: &str, config: &str, secret: &str) {
    let gateway = Plan::new(setup).nats_url(url).config(config).start();
    gateway.single("opened", "text/plain", b"x").is_json(200, OK);
    let messages = gateway.consume("opened", "{\"consumer_name\":\"c\",\"batch_size\":1}").json();
    assert_eq!(messages[0]["message"], "x");
    let log = gateway.process().stderr() + &gateway.process().stdout() + &gateway.metrics();
    assert!(!log.contains(secret), "{log}");
}

fn user_and_password_open_the_broker(setup: Setup) {
    let server = NatsServer::with_config("authorization { user: \"gate\", password: \"s3cret-w%rd\" }\n");
    works(setup, &format!("nats://gate:s3cret-w%25rd@{}", server.address()), "", "s3cret-w");
    works(setup, &server.url(), "[nats]\nuser = \"gate\"\npassword = \"s3cret-w%rd\"", "s3cret-w");
}

fn a_token_opens_the_broker(setup: Setup) {
    let server = NatsServer::with_config("authorization { token: \"t0ken-of-the-broker\" }\n");
    works(setup, &format!("nats://t0ken-of-the-broker@{}", server.address()), "", "t0ken-of-the-broker");
}

fn an_nkey_opens_the_broker(setup: Setup) {
    let (user, dir) = (KeyPair::new_user(), scratch("nkey"));
    let server =
        NatsServer::with_config(&format!("authorization {{ users: [ {{ nkey: \"{}\" }} ] }}\n", user.public_key()));
    let path = dir.path().join("user.nk");
    let seed = user.seed().unwrap();
    std::fs::write(&path, &seed).unwrap();
    works(setup, &server.url(), &format!("[nats]\nnkey_seed_file = \"{}\"", path.display()), &seed);
}

/// A JWT as NATS wants it: claims signed with the issuer's nkey.
fn jwt(issuer: &KeyPair, subject: &KeyPair, kind: &str, nats: &Value) -> String {
    let mut nats = nats.clone();
    nats["type"] = kind.into();
    nats["version"] = 2.into();
    let claims = json!({
        "jti": subject.public_key(), "iat": 1_700_000_000, "iss": issuer.public_key(), "name": kind,
        "sub": subject.public_key(), "nats": nats
    });
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

fn a_creds_file_opens_the_broker(setup: Setup) {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let system = KeyPair::new_account();
    let unlimited = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1
    });
    let operator_jwt = jwt(&operator, &operator, "operator", &json!({}));
    let rights = json!({"limits": unlimited, "default_permissions": {"pub": {}, "sub": {}}});
    let account_jwt = jwt(&operator, &account, "account", &rights);
    let mut without_jetstream = rights.clone();
    for name in ["mem_storage", "disk_storage", "streams", "consumer"] {
        without_jetstream["limits"][name] = 0.into();
    }
    let system_jwt = jwt(&operator, &system, "account", &without_jetstream);
    let user_jwt = jwt(&account, &user, "user", &json!({"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}));
    let server = NatsServer::with_config(&format!(
        "operator: {operator_jwt}\nsystem_account: {}\nresolver: MEMORY\n\
         resolver_preload: {{ {}: {account_jwt}, {}: {system_jwt} }}\n",
        system.public_key(),
        account.public_key(),
        system.public_key()
    ));
    let (dir, seed) = (scratch("creds"), user.seed().unwrap());
    let path = dir.path().join("user.creds");
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    std::fs::write(&path, text).unwrap();
    works(setup, &server.url(), &format!("[nats]\ncreds_file = \"{}\"", path.display()), &seed);
}

fn a_wrong_password_is_not_ready_and_not_logged(setup: Setup) {
    let server = NatsServer::with_config("authorization { user: \"gate\", password: \"right-one\" }\n");
    let url = format!("nats://gate:wrong-one@{}", server.address());
    let mut gateway = Plan::new(setup).nats_url(&url).config("[limits]\nhold = \"500ms\"").prepare();
    gateway.restart_without_waiting();
    eventually("the data port answers", PATIENCE, || Http::try_connect(gateway.address()).ok());
    gateway.single("shut", "text/plain", b"x").is_retryable(503);
    assert_eq!(gateway.readiness(), Some(503));
    let log = gateway.process().stderr();
    assert!(!log.contains("wrong-one"), "{log}");
    assert!(log.to_lowercase().contains("authorization"), "the log says why: {log}");
    assert!(log.lines().count() < 100, "and does not say it all the time");
}

fn a_server_that_is_away_is_passed_over_for_the_next(setup: Setup) {
    let server = NatsServer::start();
    works(setup, &format!("nats://{},{}", ports::free(), server.address()), "", "no secret here");
}
