//! Looking into tokens, and making wrong ones.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::Value;

/// The claims of a token, unverified.
pub fn claims(token: &str) -> Value {
    part(token, 1)
}

/// The header of a token.
pub fn header(token: &str) -> Value {
    part(token, 0)
}

/// Signs claims with a secret.
pub fn sign(algorithm: Algorithm, claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// The same token with its claims changed, signed again with HS256.
pub fn forge(token: &str, secret: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut changed = claims(token);
    change(&mut changed);
    sign(Algorithm::HS256, &changed, secret)
}

/// The same claims under `"alg":"none"`, with no signature.
pub fn unsigned(token: &str) -> String {
    let body = token.split('.').nth(1).unwrap();
    format!("{}.{body}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#))
}

fn part(token: &str, index: usize) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}
