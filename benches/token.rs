//! What a request pays for its token: a hit of the cache, with few and with many tokens known, and a miss; and the same for
//! an API key.
//!
//! `cargo bench --bench token`

#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use base64::{Engine, engine::general_purpose::STANDARD};
use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use sluicegate::internals::auth::{
    ACCOUNT_DEFAULT, Authenticator, KeyRecord, KeyUses, TokenKeys, Users, credential, is_key, new_key,
};
use std::{hint::black_box, sync::Arc, time::Duration};

const NOW: u64 = 1_800_000_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// The claims of an access token.
#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is what is measured")]
struct Claims {
    account_id: u32,
    username: String,
    ver: u32,
    exp: u64,
}

/// An authenticator that knows this many tokens, and the tokens.
fn gate_of(tokens: u64) -> (Authenticator, Vec<Vec<u8>>) {
    let mut authenticator =
        Authenticator::new(0, TokenKeys::new("access key", "refresh key"), Arc::new(Users::new("root", 1, [])));
    let root = authenticator.user(ACCOUNT_DEFAULT, "root", 1).expect("root");
    let known = (0..tokens).map(|second| {
        let access = authenticator.issue(&root, NOW + second, HOUR, HOUR).expect("issued").access.into_bytes();
        authenticator.principal(&access, NOW).expect("valid");
        access
    });
    let known = known.collect();
    (authenticator, known)
}

fn tokens(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("token");
    for count in [1, 1_000, 100_000] {
        let (mut authenticator, known) = gate_of(count);
        let mut next = known.iter().cycle();
        group.bench_function(format!("hit among {count}"), |bencher| {
            bencher.iter(|| authenticator.principal(black_box(next.next().expect("a cycle")), NOW));
        });
    }
    let keys = TokenKeys::new("access key", "refresh key");
    let (mut authenticator, known) = gate_of(1);
    let token = known.first().expect("one token");
    group.bench_function("verification (miss)", |bencher| {
        bencher.iter(|| keys.verify_access(black_box(token), NOW));
    });
    // What the library alone takes for the same token and the same claims.
    let text = std::str::from_utf8(token).expect("a token is text");
    let key = DecodingKey::from_secret(b"access key");
    let mut rules = Validation::new(Algorithm::HS256);
    rules.set_required_spec_claims::<&str>(&[]);
    (rules.validate_exp, rules.validate_aud) = (false, false);
    assert!(decode::<Claims>(text, &key, &rules).is_ok(), "it is a token of this key with these claims");
    group.bench_function("bare verification by jsonwebtoken", |bencher| {
        bencher.iter(|| decode::<Claims>(black_box(text), &key, &rules).is_ok());
    });
    let forged = [token.as_slice(), b"x"].concat();
    group.bench_function("refusal of a forged token", |bencher| {
        bencher.iter(|| authenticator.principal(black_box(&forged), NOW));
    });
    let field = [b"Bearer ".as_slice(), token].concat();
    group.bench_function("reading the field", |bencher| {
        bencher.iter(|| credential(Some(black_box(&field)), None).is_some());
    });
    group.finish();
}

fn keys(criterion: &mut Criterion) {
    let key = new_key().expect("randomness");
    let record = KeyRecord {
        id: key.id.as_str().into(),
        hash: key.hash,
        produce: Vec::new(),
        consume: Vec::new(),
        admin: false,
        expires_unix_s: None,
        uses: Arc::new(KeyUses::new(1)),
    };
    let users = Arc::new(Users::new("root", 1, []).with_keys([record]));
    let mut authenticator = Authenticator::new(0, TokenKeys::new("access key", "refresh key"), Arc::clone(&users));
    let basic = format!("Basic {}", STANDARD.encode(format!("user:{}", key.text)));
    let mut group = criterion.benchmark_group("key");
    group
        .bench_function("hit", |bencher| bencher.iter(|| authenticator.principal(black_box(key.text.as_bytes()), NOW)));
    group.bench_function("hit, from the field of HTTP Basic", |bencher| {
        bencher.iter(|| {
            let found = credential(Some(black_box(basic.as_bytes())), None).expect("a key");
            authenticator.principal(&found, NOW)
        });
    });
    group.bench_function("hash and comparison (miss)", |bencher| {
        bencher.iter(|| is_key(black_box(&key.text), &key.hash));
    });
    group.finish();
}

criterion_group!(benches, tokens, keys);
criterion_main!(benches);
