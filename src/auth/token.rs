//! Access and refresh tokens: JWT, HS256 and nothing else.
//!
//! A token says who (`username`, `account_id`), since which password (`ver`), for what (`kind`) and for how long
//! (`iat`, `exp`, seconds since 1970). It holds no secret. Access and refresh tokens are signed with two keys
//! *and* tell their kind, so that one is never taken for the other even if both keys are the same.
//!
//! Expiry has no leeway: the clocks of replicas differ by less than a token's lifetime matters, and an answer that is a
//! moment early only makes a client refresh. A token is valid while `now < exp`. `iat` is not judged, so that a replica
//! whose clock is behind takes a token at once. We write no `nbf`; in a token that has one it must be a number and past
//! (RFC 7519, section 4.1.5).
//!
//! Deliberately absent: other algorithms, key ids, audiences. A token that names an audience or critical header fields
//! means something that the gateway does not know, and is refused.

use super::{Identity, Principal};
use crate::{
    limits::{TOKEN_BYTES_MAX, TOKEN_LIFETIME_MAX},
    reject::Reject,
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, crypto::rust_crypto};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{fmt, time::Duration};

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// For the data paths.
    Access,
    /// For `/auth/refreshToken`, nothing else.
    Refresh,
}

/// The claims of a token. All are required, each with its own type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Lower-cased name of the user.
    pub username: String,
    /// Tenant.
    pub account_id: u32,
    /// Version of the user's password when the token was issued.
    pub ver: u32,
    /// What the token is for.
    pub kind: Kind,
    /// Issued at, seconds since 1970.
    pub iat: u64,
    /// Seconds since 1970 from which it is no longer valid.
    pub exp: u64,
    /// Not valid before, seconds since 1970.
    #[serde(default, skip_serializing, deserialize_with = "not_before")]
    pub nbf: u64,
}

/// Reads a `NumericDate`, which may have a fraction: the first whole second that is not before it.
fn not_before<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let date = serde_json::Number::deserialize(deserializer)?;
    // Seconds since 1970 are exact in a double.
    let past = |value: f64| value <= 0.0;
    match (date.as_u64(), date.as_f64()) {
        (Some(seconds), _) => Ok(seconds),
        (None, Some(value)) if past(value) => Ok(0),
        (None, Some(value)) => Ok(format!("{:.0}", value.ceil()).parse().unwrap_or(u64::MAX)),
        (None, None) => Err(de::Error::custom("no date")),
    }
}

/// Two tokens, and how long they live.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedPair {
    /// The access token.
    pub access: String,
    /// The refresh token.
    pub refresh: String,
    /// Lifetime of the access token in milliseconds.
    pub access_ms: u64,
    /// Lifetime of the refresh token in milliseconds.
    pub refresh_ms: u64,
}

impl fmt::Debug for IssuedPair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("IssuedPair")
            .field("access_ms", &self.access_ms)
            .field("refresh_ms", &self.refresh_ms)
            .finish_non_exhaustive()
    }
}

/// Returns the lifetime that a client gets for the one that it asks for, in minutes: nothing, zero and less mean
/// `default`, and nothing exceeds [`TOKEN_LIFETIME_MAX`].
#[must_use]
pub fn lifetime_from_minutes(requested: Option<i64>, default: Duration) -> Duration {
    let asked = match requested.and_then(|minutes| u64::try_from(minutes).ok()) {
        None | Some(0) => default,
        Some(minutes) => Duration::from_secs(minutes.saturating_mul(60)),
    };
    asked.min(TOKEN_LIFETIME_MAX)
}

/// The keys that sign and verify. An empty key signs nothing and verifies nothing.
#[derive(Clone)]
pub struct TokenKeys {
    access: Option<Key>,
    refresh: Option<Key>,
    rules: Validation,
}

#[derive(Clone)]
struct Key {
    signs: EncodingKey,
    verifies: DecodingKey,
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenKeys(********)")
    }
}

impl TokenKeys {
    /// Returns the keys of access and of refresh tokens, as configured: the bytes of the text are the key.
    #[must_use]
    pub fn new(access: &str, refresh: &str) -> Self {
        // With features alone the library picks its cryptography at first use, and panics if some other crate
        // has switched on a second provider. It is named here instead; an error means that it is already in place.
        let _ = rust_crypto::DEFAULT_PROVIDER.install_default();
        let mut rules = Validation::new(Algorithm::HS256);
        // The library reads the clock for these; `verify` judges `exp` by the time it is given.
        rules.validate_exp = false;
        rules.validate_nbf = false;
        rules.required_spec_claims.clear();
        Self { access: Key::new(access), refresh: Key::new(refresh), rules }
    }

    /// Issues a new pair of tokens for this principal. Lifetimes are whole seconds, from one second to
    /// [`TOKEN_LIFETIME_MAX`].
    ///
    /// Errors: [`Reject::Internal`] if there is no key to sign with; or if the principal is an API key: nobody logs in
    /// with one.
    pub fn issue(
        &self,
        principal: &Principal,
        now_unix_s: u64,
        access_lifetime: Duration,
        refresh_lifetime: Duration,
    ) -> Result<IssuedPair, Reject> {
        let Identity::User(name) = &principal.identity else {
            return Err(Reject::Internal("an API key has no tokens"));
        };
        let seconds = |lifetime: Duration| lifetime.min(TOKEN_LIFETIME_MAX).as_secs().max(1);
        let (access_s, refresh_s) = (seconds(access_lifetime), seconds(refresh_lifetime));
        let claims = |kind, lifetime_s| Claims {
            username: name.as_str().to_owned(),
            account_id: principal.account,
            ver: principal.version,
            kind,
            iat: now_unix_s,
            exp: now_unix_s.saturating_add(lifetime_s),
            nbf: 0,
        };
        Ok(IssuedPair {
            access: sign(self.access.as_ref(), &claims(Kind::Access, access_s))?,
            refresh: sign(self.refresh.as_ref(), &claims(Kind::Refresh, refresh_s))?,
            access_ms: access_s.saturating_mul(1_000),
            refresh_ms: refresh_s.saturating_mul(1_000),
        })
    }

    /// Returns the claims of a valid access token; [`Reject::Unauthorized`] for anything else.
    pub fn verify_access(&self, token: &[u8], now_unix_s: u64) -> Result<Claims, Reject> {
        self.verify(self.access.as_ref(), Kind::Access, token, now_unix_s)
    }

    /// Returns the claims of a valid refresh token; [`Reject::Unauthorized`] for anything else.
    pub fn verify_refresh(&self, token: &[u8], now_unix_s: u64) -> Result<Claims, Reject> {
        self.verify(self.refresh.as_ref(), Kind::Refresh, token, now_unix_s)
    }

    fn verify(&self, key: Option<&Key>, kind: Kind, token: &[u8], now_unix_s: u64) -> Result<Claims, Reject> {
        let key = key.ok_or(Reject::Unauthorized)?;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Reject::Unauthorized);
        }
        let read =
            jsonwebtoken::decode::<Claims>(token, &key.verifies, &self.rules).map_err(|_| Reject::Unauthorized)?;
        let valid = read.header.crit.is_none()
            && read.claims.kind == kind
            && (read.claims.nbf..read.claims.exp).contains(&now_unix_s);
        if valid { Ok(read.claims) } else { Err(Reject::Unauthorized) }
    }
}

impl Key {
    fn new(secret: &str) -> Option<Self> {
        let secret = secret.as_bytes();
        (!secret.is_empty())
            .then(|| Self { signs: EncodingKey::from_secret(secret), verifies: DecodingKey::from_secret(secret) })
    }
}

fn sign(key: Option<&Key>, claims: &Claims) -> Result<String, Reject> {
    let key = key.ok_or(Reject::Internal("no key to sign tokens with"))?;
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key.signs)
        .map_err(|_| Reject::Internal("a token could not be signed"))
}

/// Entry point for fuzzing: no bytes make verification panic or succeed.
#[doc(hidden)]
pub fn fuzz_token(data: &[u8]) {
    let keys = TokenKeys::new("access", "refresh");
    assert!(keys.verify_access(data, 0).is_err());
    assert!(keys.verify_refresh(data, 0).is_err());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Users;
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;
    const MINUTE: Duration = Duration::from_secs(60);
    const GOOD: &str = r#"{"username":"etl","account_id":1,"ver":0,"kind":"access","iat":1800000000,"exp":1800000060}"#;

    fn root() -> Principal {
        Users::new("root", 0, []).find(1, "root").expect("root").clone()
    }

    fn keys() -> TokenKeys {
        TokenKeys::new("access key", "refresh key")
    }

    /// A token of any header and claims, correctly signed with the access key under `algorithm`.
    fn signed(header: &str, claims: &str, algorithm: Algorithm) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let key = EncodingKey::from_secret(b"access key");
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).expect("signed");
        format!("{message}.{signature}")
    }

    fn hs256(claims: &str) -> String {
        signed(r#"{"typ":"JWT","alg":"HS256"}"#, claims, Algorithm::HS256)
    }

    fn access(token: &str) -> Result<Claims, Reject> {
        keys().verify_access(token.as_bytes(), NOW)
    }

    #[test]
    fn issued_tokens_say_who_what_and_how_long_and_nothing_else() {
        let pair = keys().issue(&root(), NOW, 15 * MINUTE, 300 * MINUTE).expect("issued");
        assert_eq!((pair.access_ms, pair.refresh_ms), (900_000, 18_000_000));
        for (token, kind, lifetime_s) in [(&pair.access, "access", 900), (&pair.refresh, "refresh", 18_000)] {
            let parts: Vec<&str> = token.split('.').collect();
            let decode = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("UTF-8");
            assert_eq!(parts.len(), 3);
            assert_eq!(decode(parts[0]), r#"{"typ":"JWT","alg":"HS256"}"#);
            let expect = format!(
                r#"{{"username":"root","account_id":1,"ver":0,"kind":"{kind}","iat":{NOW},"exp":{}}}"#,
                NOW + lifetime_s
            );
            assert_eq!(decode(parts[1]), expect);
        }
    }

    #[test]
    fn a_token_is_valid_until_its_last_second() {
        let pair = keys().issue(&root(), NOW, MINUTE, 2 * MINUTE).expect("issued");
        let valid_at = |now| {
            (
                keys().verify_access(pair.access.as_bytes(), now).is_ok(),
                keys().verify_refresh(pair.refresh.as_bytes(), now).is_ok(),
            )
        };
        for (now, expect) in [
            (0, (true, true)),
            (NOW - 1_000, (true, true)),
            (NOW + 59, (true, true)),
            (NOW + 60, (false, true)),
            (NOW + 119, (false, true)),
            (NOW + 120, (false, false)),
            (u64::MAX, (false, false)),
        ] {
            assert_eq!(valid_at(now), expect, "{now}");
        }
        // By the time that is handed in, whatever the clock says.
        let old = keys().issue(&root(), 1_000, MINUTE, MINUTE).expect("issued");
        assert!(keys().verify_access(old.access.as_bytes(), 1_059).is_ok());
        assert!(keys().verify_refresh(old.refresh.as_bytes(), 1_059).is_ok());
    }

    #[test]
    fn an_access_token_is_no_refresh_token_and_the_reverse_even_under_one_key() {
        for keys in [keys(), TokenKeys::new("one key", "one key")] {
            let pair = keys.issue(&root(), NOW, MINUTE, MINUTE).expect("issued");
            assert!(keys.verify_access(pair.access.as_bytes(), NOW).is_ok());
            assert!(keys.verify_refresh(pair.refresh.as_bytes(), NOW).is_ok());
            assert_eq!(keys.verify_access(pair.refresh.as_bytes(), NOW), Err(Reject::Unauthorized));
            assert_eq!(keys.verify_refresh(pair.access.as_bytes(), NOW), Err(Reject::Unauthorized));
        }
    }

    #[test]
    fn a_token_without_every_claim_of_its_type_is_refused() {
        assert!(access(&hs256(GOOD)).is_ok());
        for (from, to) in [
            (r#""username":"etl","#, ""),
            (r#""username":"etl""#, r#""username":null"#),
            (r#""username":"etl""#, r#""username":7"#),
            (r#""username":"etl""#, r#""username":["etl"]"#),
            (r#""username":"etl""#, r#""username":"etl","username":"root""#),
            (r#""account_id":1,"#, ""),
            (r#""account_id":1"#, r#""account_id":"1""#),
            (r#""account_id":1"#, r#""account_id":-1"#),
            (r#""account_id":1"#, r#""account_id":1.0"#),
            (r#""account_id":1"#, r#""account_id":4294967297"#),
            (r#""ver":0,"#, ""),
            (r#""ver":0"#, r#""ver":true"#),
            (r#""kind":"access","#, ""),
            (r#""kind":"access""#, r#""kind":"Access""#),
            (r#""kind":"access""#, r#""kind":"refresh""#),
            (r#""kind":"access""#, r#""kind":0"#),
            (r#""iat":1800000000,"#, ""),
            (r#""iat":1800000000"#, r#""iat":"now""#),
            (r#","exp":1800000060"#, ""),
            (r#""exp":1800000060"#, r#""exp":null"#),
            (r#""exp":1800000060"#, r#""exp":"1800000060""#),
            (r#""exp":1800000060"#, r#""exp":1800000060.5"#),
            (r#""exp":1800000060"#, r#""exp":1e300"#),
            (r#""exp":1800000060"#, r#""exp":99999999999999999999999"#),
            (r#""exp":1800000060"#, r#""exp":-1"#),
            (r#""exp":1800000060"#, r#""exp":0"#),
            (r#""exp":1800000060"#, r#""exp":1800000060,"aud":"someone else""#),
            (GOOD, "{}"),
            (GOOD, "[]"),
            (GOOD, "null"),
            (GOOD, ""),
            (GOOD, "not json"),
            // What the original's tokens looked like before it had user names: never root.
            (GOOD, r#"{"exp":1800000060}"#),
        ] {
            let claims = GOOD.replacen(from, to, 1);
            assert_ne!(claims, GOOD, "{from}");
            assert_eq!(access(&hs256(&claims)), Err(Reject::Unauthorized), "{claims}");
        }
        let more = GOOD.replacen('{', r#"{"jti":"x","#, 1);
        assert!(access(&hs256(&more)).is_ok(), "further claims are nobody's business");
    }

    #[test]
    fn f11_a_token_is_not_valid_before_its_time() {
        let with = |claim: &str| access(&hs256(&GOOD.replacen('{', &format!("{{{claim},"), 1))).is_ok();
        for (nbf, expect) in [
            ("0", true),
            ("-1", true),
            ("1800000000", true),
            ("1800000000.0", true),
            ("1.8e9", true),
            ("1799999999.5", true),
            ("1800000000.5", false),
            ("1800000001", false),
            ("1800003600", false),
            ("1e300", false),
            ("99999999999999999999", false),
            ("\"tomorrow\"", false),
            ("\"0\"", false),
            ("null", false),
            ("true", false),
            ("[]", false),
            ("{}", false),
        ] {
            assert_eq!(with(&format!(r#""nbf":{nbf}"#)), expect, "{nbf}");
        }
        // When it was issued is not judged: a replica whose clock is behind takes it at once.
        assert!(access(&hs256(&GOOD.replace("\"iat\":1800000000", "\"iat\":1800003600"))).is_ok());
    }

    #[test]
    fn no_other_algorithm_is_taken() {
        let claims = URL_SAFE_NO_PAD.encode(GOOD);
        for (header, algorithm) in [
            (r#"{"alg":"HS512"}"#, Algorithm::HS512),
            (r#"{"alg":"HS384"}"#, Algorithm::HS384),
            (r#"{"alg":"HS512"}"#, Algorithm::HS256),
            (r#"{"alg":"RS256"}"#, Algorithm::HS256),
            (r#"{"alg":"ES256"}"#, Algorithm::HS256),
            (r#"{"alg":"EdDSA"}"#, Algorithm::HS256),
            (r#"{"alg":"PS256"}"#, Algorithm::HS256),
            (r#"{"alg":"none"}"#, Algorithm::HS256),
            (r#"{"alg":"None"}"#, Algorithm::HS256),
            (r#"{"alg":"hs256"}"#, Algorithm::HS256),
            (r#"{"alg":""}"#, Algorithm::HS256),
            (r#"{"alg":null}"#, Algorithm::HS256),
            (r"{}", Algorithm::HS256),
            (r#"{"alg":"HS256","crit":["exp"]}"#, Algorithm::HS256),
            ("", Algorithm::HS256),
        ] {
            assert_eq!(access(&signed(header, GOOD, algorithm)), Err(Reject::Unauthorized), "{header}");
            let unsigned = format!("{}.{claims}.", URL_SAFE_NO_PAD.encode(header));
            assert_eq!(access(&unsigned), Err(Reject::Unauthorized), "{header} unsigned");
        }
    }

    #[test]
    fn a_token_that_is_changed_anywhere_is_refused() {
        let token = hs256(GOOD);
        assert!(access(&token).is_ok());
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(keys().verify_access(&changed, NOW), Err(Reject::Unauthorized), "at {at}");
            assert_eq!(keys().verify_access(&token.as_bytes()[..at], NOW), Err(Reject::Unauthorized), "up to {at}");
        }
        for other in
            [format!("{token}."), format!(".{token}"), format!("{token}="), format!(" {token}"), format!("{token}A")]
        {
            assert_eq!(access(&other), Err(Reject::Unauthorized), "{other}");
        }
        assert_eq!(TokenKeys::new("another", "x").verify_access(token.as_bytes(), NOW), Err(Reject::Unauthorized));
    }

    #[test]
    fn a_token_over_the_limit_is_refused_before_any_work() {
        let fat = |padding: usize| hs256(&GOOD.replacen('{', &format!(r#"{{"pad":"{}","#, "x".repeat(padding)), 1));
        assert!(fat(2_700).len() < TOKEN_BYTES_MAX && access(&fat(2_700)).is_ok());
        assert!(fat(3_100).len() > TOKEN_BYTES_MAX);
        assert_eq!(access(&fat(3_100)), Err(Reject::Unauthorized));
    }

    #[test]
    fn an_empty_key_opens_nothing() {
        let none = TokenKeys::new("", "");
        assert!(matches!(none.issue(&root(), NOW, MINUTE, MINUTE), Err(Reject::Internal(_))));
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(GOOD));
        let key = EncodingKey::from_secret(b"");
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("signed");
        let token = format!("{message}.{signature}");
        assert_eq!(none.verify_access(token.as_bytes(), NOW), Err(Reject::Unauthorized));
    }

    #[test]
    fn no_lifetime_that_is_asked_for_overflows() {
        let default = 15 * MINUTE;
        for (requested, expect) in [
            (None, default),
            (Some(0), default),
            (Some(-1), default),
            (Some(i64::MIN), default),
            (Some(1), MINUTE),
            (Some(60), 60 * MINUTE),
            (Some(153_722_868), TOKEN_LIFETIME_MAX),
            (Some(i64::MAX), TOKEN_LIFETIME_MAX),
        ] {
            assert_eq!(lifetime_from_minutes(requested, default), expect, "{requested:?}");
        }
        assert_eq!(lifetime_from_minutes(None, Duration::MAX), TOKEN_LIFETIME_MAX);
        for (now, lifetime, expect_ms) in [
            (NOW, Duration::MAX, 315_360_000_000),
            (u64::MAX, Duration::MAX, 315_360_000_000),
            (NOW, Duration::ZERO, 1_000),
            (NOW, Duration::from_millis(1_999), 1_000),
        ] {
            let pair = keys().issue(&root(), now, lifetime, lifetime).expect("issued");
            assert_eq!((pair.access_ms, pair.refresh_ms), (expect_ms, expect_ms));
        }
    }

    #[test]
    fn keys_and_tokens_are_not_shown() {
        let pair = keys().issue(&root(), NOW, MINUTE, MINUTE).expect("issued");
        let shown = format!("{:?} {pair:?}", keys());
        assert!(!shown.contains("key\"") && !shown.contains("eyJ") && !shown.contains("97"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_bytes_are_taken_for_a_token(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            header in "[\\[{]?[ -~]{0,30}",
            claims in "[\\[{]?[ -~]{0,30}",
        ) {
            fuzz_token(&bytes);
            let parts = [URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&claims), URL_SAFE_NO_PAD.encode(&bytes)];
            fuzz_token(parts.join(".").as_bytes());
            prop_assert!(access(&hs256(&claims)).is_err());
        }
    }
}
