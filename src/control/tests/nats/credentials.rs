//! Every way in which the gateway can identify itself to a real broker.

use super::{
    super::support::{Gateway, settings},
    Server,
};
use crate::config::{BackendSettings, NatsCredential, Secret};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};

/// Whether a gateway that identifies itself so becomes ready.
fn comes_in(configuration: &str, credential: NatsCredential) {
    let server = Server::start(configuration);
    let mut settings = settings(server.port);
    if let BackendSettings::Nats(nats) = &mut settings.backend {
        nats.credential = credential;
    }
    let gateway = Gateway::start(settings).ready();
    assert!(gateway.station("orders", true).is_ok());
}

#[test]
fn a_password_comes_in() {
    let credential = NatsCredential::UserPassword("app".to_owned(), Secret::new("s3cret"));
    comes_in("authorization { user: app, password: s3cret }", credential);
}

#[test]
fn a_token_comes_in() {
    comes_in("authorization { token: t0ken }", NatsCredential::Token(Secret::new("t0ken")));
}

#[test]
fn an_nkey_comes_in() {
    let pair = KeyPair::new_user();
    let configuration = format!("authorization {{ users: [ {{ nkey: \"{}\" }} ] }}", pair.public_key());
    comes_in(&configuration, NatsCredential::Nkey(Secret::new(pair.seed().expect("a seed"))));
}

#[test]
fn a_creds_file_comes_in() {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let system = KeyPair::new_account();
    let limits = json!({
        "subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1,
        "wildcards": true, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1
    });
    let operator_jwt = jwt(&operator, &operator, &json!({"type": "operator", "version": 2}));
    let account_jwt = jwt(&operator, &account, &json!({"type": "account", "version": 2, "limits": limits}));
    // With operators, JetStream wants a system account beside the one that uses it.
    let system_limits = json!({
        "subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1, "wildcards": true
    });
    let system_jwt = jwt(&operator, &system, &json!({"type": "account", "version": 2, "limits": system_limits}));
    let user_jwt = jwt(&account, &user, &json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}));
    let configuration = format!(
        "operator: {operator_jwt}\nsystem_account: {system}\nresolver: MEMORY\n\
         resolver_preload: {{\n{account}: {account_jwt}\n{system}: {system_jwt}\n}}",
        system = system.public_key(),
        account = account.public_key(),
    );
    let seed = Secret::new(user.seed().expect("a seed"));
    comes_in(&configuration, NatsCredential::Creds { jwt: Secret::new(user_jwt), seed });
}

/// A JWT of NATS' kind: `issuer` says this about `subject`.
fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "jti": "test", "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(),
        "name": "test", "nats": nats,
    });
    let text = format!("{}.{}", part(&json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(&claims));
    let signature = issuer.sign(text.as_bytes()).expect("a seed to sign with");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}
