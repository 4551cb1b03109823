//! What a shard asks about each request: whose credential is this?
//!
//! One [`Gate`] a shard, not `Send`: principals are handed out as `Rc`, so that a request touches no
//! counter that another core touches. It reads the shared snapshot of users only for a token it has not seen.

use super::{IssuedPair, Principal, TokenCache, TokenKeys, Users};
use crate::{
    limits::{TOKEN_CACHE_BYTES_MAX, TOKENS_PER_SHARD_MAX},
    reject::Reject,
};
use percent_encoding::percent_decode;
use std::{borrow::Cow, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

/// Keys, users and verified tokens of one shard.
#[derive(Debug)]
pub struct Gate {
    keys: TokenKeys,
    users: Arc<Users>,
    /// This shard's copies out of `users`, one for each user that has come by.
    principals: HashMap<u32, HashMap<Box<str>, Rc<Principal>>>,
    cache: TokenCache,
    hits: u64,
    misses: u64,
}

impl Gate {
    /// A gate that knows these users and has seen no token.
    #[must_use]
    pub fn new(keys: TokenKeys, users: Arc<Users>) -> Self {
        let cache = TokenCache::new(TOKENS_PER_SHARD_MAX, TOKEN_CACHE_BYTES_MAX);
        Self { keys, users, principals: HashMap::new(), cache, hits: 0, misses: 0 }
    }

    /// Whose access token this is; [`Reject::Unauthorized`] if nobody's.
    pub fn principal(&mut self, credential: &[u8], now_unix_s: u64) -> Result<Rc<Principal>, Reject> {
        if let Some(principal) = self.cache.get(credential, now_unix_s) {
            self.hits += 1;
            return Ok(principal);
        }
        self.misses += 1;
        let claims = self.keys.verify_access(credential, now_unix_s)?;
        let principal = self.user(claims.account_id, &claims.username, claims.ver)?;
        self.cache.insert(credential, Rc::clone(&principal), claims.exp);
        Ok(principal)
    }

    /// Whose refresh token this is; [`Reject::Unauthorized`] if nobody's. Not cached: it is asked once a token.
    pub fn refresher(&mut self, token: &[u8], now_unix_s: u64) -> Result<Rc<Principal>, Reject> {
        let claims = self.keys.verify_refresh(token, now_unix_s)?;
        self.user(claims.account_id, &claims.username, claims.ver)
    }

    /// The user of this account and (lower-cased) name, if this is still the version of its password: the one
    /// that a verified token tells, or that the control plane has just checked. [`Reject::Unauthorized`] if not.
    pub fn user(&mut self, account: u32, name: &str, version: u32) -> Result<Rc<Principal>, Reject> {
        match self.find(account, name) {
            Some(principal) if principal.version == version => Ok(principal),
            // The credential is genuine and the registry was not read yet: not the time to turn its holder away.
            None if !self.users.is_complete() => Err(Reject::UsersUnknown),
            Some(_) | None => Err(Reject::Unauthorized),
        }
    }

    fn find(&mut self, account: u32, name: &str) -> Option<Rc<Principal>> {
        if let Some(principal) = self.principals.get(&account).and_then(|names| names.get(name)) {
            return Some(Rc::clone(principal));
        }
        let principal = Rc::new(self.users.find(account, name)?.clone());
        self.principals.entry(account).or_default().insert(name.into(), Rc::clone(&principal));
        Some(principal)
    }

    /// A new pair of tokens, see [`TokenKeys::issue`].
    pub fn issue(
        &self,
        principal: &Principal,
        now_unix_s: u64,
        access_lifetime: Duration,
        refresh_lifetime: Duration,
    ) -> Result<IssuedPair, Reject> {
        self.keys.issue(principal, now_unix_s, access_lifetime, refresh_lifetime)
    }

    /// Users or rights have changed: replaces the snapshot and forgets every token.
    pub fn set_users(&mut self, users: Arc<Users>) {
        self.users = users;
        self.principals.clear();
        self.cache.clear();
    }

    /// Requests whose token was known.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Requests whose token had to be verified.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.misses
    }
}

/// The credential of a request: from the `Authorization` field's value, or, if there is no such field, from
/// `authorization=` in the raw query (what follows `?`). The field wins even if nothing can be read from it.
///
/// The field is `Bearer TOKEN` or `Bearer: TOKEN` in any letter case, with one space or more between; any
/// other scheme yields nothing. The query's value is the bare token, percent-encoded or not.
#[must_use]
pub fn bearer<'a>(authorization_header: Option<&'a [u8]>, query: Option<&'a [u8]>) -> Option<Cow<'a, [u8]>> {
    let token = match authorization_header {
        Some(value) => Cow::Borrowed(bearer_token(value)?),
        None => percent_decode(query_value(query?, b"authorization")?).into(),
    };
    (!token.is_empty()).then_some(token)
}

fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.trim_ascii().split_at_checked(b"Bearer".len())?;
    if !scheme.eq_ignore_ascii_case(b"Bearer") {
        return None;
    }
    let rest = rest.strip_prefix(b":").unwrap_or(rest);
    let token = rest.trim_ascii_start();
    let is_one_word = token.len() < rest.len() && memchr::memchr2(b' ', b'\t', token).is_none();
    is_one_word.then_some(token)
}

fn query_value<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut fields = query.split(|byte| *byte == b'&');
    fields.find_map(|field| field.strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::UserRecord,
        reject::Action,
        station::{Name, Pattern},
    };

    const NOW: u64 = 1_800_000_000;
    const MINUTE: Duration = Duration::from_secs(60);
    const ROOT_VERSION: u32 = 7;

    fn users(version: u32, produce: &str) -> Arc<Users> {
        let etl = UserRecord {
            name: Name::parse("etl").expect("a name"),
            account: 1,
            version,
            produce: vec![Pattern::parse(produce).expect("a pattern")],
            consume: vec![],
        };
        Arc::new(Users::new("root", ROOT_VERSION, [etl]))
    }

    fn gate() -> Gate {
        Gate::new(TokenKeys::new("access key", "refresh key"), users(1, "a"))
    }

    fn login(gate: &mut Gate, name: &str) -> IssuedPair {
        let principal = gate.find(1, name).expect("a user");
        gate.issue(&principal, NOW, MINUTE, 5 * MINUTE).expect("issued")
    }

    #[test]
    fn a_token_is_verified_once_and_then_known() {
        let mut gate = gate();
        let pair = login(&mut gate, "etl");
        let first = gate.principal(pair.access.as_bytes(), NOW).expect("valid");
        assert_eq!((gate.hits(), gate.misses(), gate.cache.len()), (0, 1, 1));
        let second = gate.principal(pair.access.as_bytes(), NOW + 59).expect("valid");
        assert_eq!((gate.hits(), gate.misses(), gate.cache.len()), (1, 1, 1));
        assert!(Rc::ptr_eq(&first, &second));
        assert_eq!(first.name.as_str(), "etl");
        assert_eq!(gate.principal(pair.access.as_bytes(), NOW + 60), Err(Reject::Unauthorized));
        assert_eq!((gate.hits(), gate.misses(), gate.cache.len()), (1, 2, 0));
    }

    #[test]
    fn users_of_many_tokens_are_held_once() {
        let mut gate = gate();
        let principal = gate.user(1, "etl", 1).expect("a user");
        for second in 0..10 {
            let pair = gate.issue(&principal, NOW + second, MINUTE, MINUTE).expect("issued");
            let found = gate.principal(pair.access.as_bytes(), NOW + second).expect("valid");
            assert!(Rc::ptr_eq(&found, &principal));
        }
        assert_eq!(gate.cache.len(), 10);
    }

    #[test]
    fn a_refused_token_is_not_remembered() {
        let mut gate = gate();
        let pair = login(&mut gate, "etl");
        for credential in [&b""[..], b"x", b"a.b.c", pair.refresh.as_bytes(), &[0xff; 300], &[b'.'; 5_000]] {
            assert_eq!(gate.principal(credential, NOW), Err(Reject::Unauthorized));
        }
        assert_eq!(gate.cache.len(), 0);
    }

    #[test]
    fn a_refresh_token_refreshes_and_an_access_token_does_not() {
        let mut gate = gate();
        let pair = login(&mut gate, "etl");
        let refreshed = gate.refresher(pair.refresh.as_bytes(), NOW + 299).map(|found| found.name.to_string());
        assert_eq!(refreshed, Ok("etl".to_owned()));
        assert_eq!(gate.refresher(pair.refresh.as_bytes(), NOW + 300), Err(Reject::Unauthorized));
        assert_eq!(gate.refresher(pair.access.as_bytes(), NOW), Err(Reject::Unauthorized));
    }

    #[test]
    fn tokens_die_with_the_password_and_the_user_and_root_s_with_its_password() {
        for (what, name, after) in [
            ("password", "etl", users(2, "a")),
            ("user", "etl", Arc::new(Users::new("root", ROOT_VERSION, []))),
            ("root's password", "root", Arc::new(Users::new("root", ROOT_VERSION + 1, []))),
            ("root's password before the registry was read", "root", Arc::new(Users::unread("root", ROOT_VERSION + 1))),
        ] {
            let mut gate = gate();
            let pair = login(&mut gate, name);
            assert!(gate.principal(pair.access.as_bytes(), NOW).is_ok());
            gate.set_users(after);
            assert_eq!(gate.principal(pair.access.as_bytes(), NOW), Err(Reject::Unauthorized), "{what}");
            assert_eq!(gate.refresher(pair.refresh.as_bytes(), NOW), Err(Reject::Unauthorized), "{what}");
        }
    }

    #[test]
    fn a_password_that_was_checked_before_it_changed_yields_no_token() {
        let mut gate = gate();
        assert!(gate.user(1, "etl", 1).is_ok());
        gate.set_users(users(2, "a"));
        for (account, name, version, expect) in [
            (1, "etl", 1, Err(Reject::Unauthorized)),
            (1, "etl", 2, Ok("etl".to_owned())),
            (2, "etl", 2, Err(Reject::Unauthorized)),
            (1, "nobody", 0, Err(Reject::Unauthorized)),
            (1, "root", 0, Err(Reject::Unauthorized)),
            (1, "root", ROOT_VERSION, Ok("root".to_owned())),
        ] {
            let user = gate.user(account, name, version).map(|user| user.name.to_string());
            assert_eq!(user, expect, "{account} {name} {version}");
        }
        gate.set_users(Arc::new(Users::unread("root", ROOT_VERSION)));
        assert_eq!(gate.user(1, "etl", 2), Err(Reject::UsersUnknown));
    }

    #[test]
    fn new_rights_hold_from_the_next_request_on() {
        let mut gate = gate();
        let pair = login(&mut gate, "etl");
        let may = |gate: &mut Gate, station| {
            gate.principal(pair.access.as_bytes(), NOW).expect("valid").may(Action::Produce, station)
        };
        assert!(may(&mut gate, "a") && !may(&mut gate, "b"));
        gate.set_users(users(1, "b"));
        assert!(!may(&mut gate, "a") && may(&mut gate, "b"));
    }

    #[test]
    fn the_credential_is_read_as_the_contract_says() {
        for (header, query, expect) in [
            (Some("Bearer t.o.k"), None, Some("t.o.k")),
            (Some("Bearer: t.o.k"), None, Some("t.o.k")),
            (Some("bearer t.o.k"), None, Some("t.o.k")),
            (Some("BEARER: t.o.k"), None, Some("t.o.k")),
            (Some("Bearer   t.o.k  "), None, Some("t.o.k")),
            (Some("Bearer:   t.o.k"), None, Some("t.o.k")),
            (Some("Bearer"), None, None),
            (Some("Bearer "), None, None),
            (Some("Bearer: "), None, None),
            (Some("Bearert.o.k"), None, None),
            (Some("Bearer:t.o.k"), None, None),
            (Some("Bearer :t.o.k"), None, Some(":t.o.k")),
            (Some("Bearer:: t.o.k"), None, None),
            (Some("Bearer t.o.k x"), None, None),
            (Some("Bearer t.o.k\tx"), None, None),
            (Some("Basic dTpw"), None, None),
            (Some("Zork t.o.k"), None, None),
            (Some("t.o.k"), None, None),
            (Some(""), None, None),
            (Some("é"), None, None),
            (None, None, None),
            (None, Some(""), None),
            (None, Some("authorization=t.o.k"), Some("t.o.k")),
            (None, Some("a=1&authorization=t.o.k&b=2"), Some("t.o.k")),
            (None, Some("authorization=t%2Eo%2ek"), Some("t.o.k")),
            (None, Some("authorization=first&authorization=second"), Some("first")),
            (None, Some("authorization="), None),
            (None, Some("authorization"), None),
            (None, Some("xauthorization=t"), None),
            (None, Some("authorizationx=t"), None),
            (None, Some("authorization=a%"), Some("a%")),
            (Some("Bearer h"), Some("authorization=q"), Some("h")),
            (Some("Basic h"), Some("authorization=q"), None),
            (Some(""), Some("authorization=q"), None),
        ] {
            let found = bearer(header.map(str::as_bytes), query.map(str::as_bytes));
            assert_eq!(found.as_deref(), expect.map(str::as_bytes), "{header:?} {query:?}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let mut gate = gate();
        let pair = login(&mut gate, "etl");
        gate.principal(pair.access.as_bytes(), NOW).expect("valid");
        let shown = format!("{gate:?} {pair:?}");
        for secret in ["access key", "refresh key", "97, 99, 99", pair.access.as_str(), pair.refresh.as_str(), "eyJ"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}
