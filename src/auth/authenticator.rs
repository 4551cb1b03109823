//! Finds out for each request of a shard whose credential it has.
//!
//! Each shard has one [`Authenticator`], which is not `Send`: principals are `Rc`s, so that a request touches no
//! counter that another core touches. It reads the shared snapshot of users only for a credential that it has not seen.

use super::{IssuedPair, Principal, TokenCache, TokenKeys, Users, keys};
use crate::{
    limits::{TOKEN_CACHE_BYTES_MAX, TOKENS_PER_SHARD_MAX},
    reject::Reject,
};
use std::{collections::HashMap, rc::Rc, sync::Arc, time::Duration};

/// Users, keys and verified credentials of one shard.
#[derive(Debug)]
pub struct Authenticator {
    /// The number of this shard.
    shard: u16,
    keys: TokenKeys,
    users: Arc<Users>,
    /// This shard's copies out of `users`, one for each user that has sent a request.
    principals: HashMap<u32, HashMap<Box<str>, Rc<Principal>>>,
    cache: TokenCache,
    hits: u64,
    misses: u64,
}

impl Authenticator {
    /// The authenticator of this shard, which knows these users and has seen no token.
    #[must_use]
    pub fn new(shard: u16, keys: TokenKeys, users: Arc<Users>) -> Self {
        let cache = TokenCache::new(TOKENS_PER_SHARD_MAX, TOKEN_CACHE_BYTES_MAX);
        Self { shard, keys, users, principals: HashMap::new(), cache, hits: 0, misses: 0 }
    }

    /// Returns whose access token or API key a request came with; [`Reject::Unauthorized`] if nobody's. To be called
    /// once a request, because the requests of a key are counted here.
    pub fn principal(&mut self, credential: &[u8], now_unix_s: u64) -> Result<Rc<Principal>, Reject> {
        let principal = if let Some(known) = self.cache.get(credential, now_unix_s) {
            self.hits += 1;
            known
        } else {
            self.misses += 1;
            self.verify_and_cache(credential, now_unix_s)?
        };
        principal.count_use(self.shard);
        Ok(principal)
    }

    /// As [`Self::principal`], for what goes on after its request was admitted: it is not counted as another one.
    pub fn check(&mut self, credential: &[u8], now_unix_s: u64) -> Result<Rc<Principal>, Reject> {
        match self.cache.get(credential, now_unix_s) {
            Some(known) => Ok(known),
            None => self.verify_and_cache(credential, now_unix_s),
        }
    }

    fn verify_and_cache(&mut self, credential: &[u8], now_unix_s: u64) -> Result<Rc<Principal>, Reject> {
        let (principal, expires_unix_s) = self.verify(credential, now_unix_s)?;
        self.cache.insert(credential, Rc::clone(&principal), expires_unix_s);
        Ok(principal)
    }

    /// Returns whose credential this is, and until when it is valid.
    fn verify(&mut self, credential: &[u8], now_unix_s: u64) -> Result<(Rc<Principal>, u64), Reject> {
        if credential.starts_with(keys::PREFIX.as_bytes()) {
            return self.verify_key(credential, now_unix_s);
        }
        let claims = self.keys.verify_access(credential, now_unix_s)?;
        Ok((self.user(claims.account_id, &claims.username, claims.ver)?, claims.exp))
    }

    /// [`Reject::UsersUnknown`]: the registry was not read yet, and a text that has the form of a key may be one.
    fn verify_key(&self, credential: &[u8], now_unix_s: u64) -> Result<(Rc<Principal>, u64), Reject> {
        let text = std::str::from_utf8(credential).map_err(|_| Reject::Unauthorized)?;
        let id = keys::id_of(text).ok_or(Reject::Unauthorized)?;
        match self.users.key(id) {
            Some(key) if key.is(text) && now_unix_s < key.expires_unix_s => {
                Ok((Rc::new(key.principal.clone()), key.expires_unix_s))
            }
            None if !self.users.is_complete() => Err(Reject::UsersUnknown),
            Some(_) | None => Err(Reject::Unauthorized),
        }
    }

    /// Returns whose refresh token this is; [`Reject::Unauthorized`] if nobody's. Not cached: a refresh token is sent
    /// once.
    pub fn verify_refresh(&mut self, token: &[u8], now_unix_s: u64) -> Result<Rc<Principal>, Reject> {
        let claims = self.keys.verify_refresh(token, now_unix_s)?;
        self.user(claims.account_id, &claims.username, claims.ver)
    }

    /// Returns the user of this account and (lower-cased) name, if this is still the version of its password: the one
    /// that a verified token says, or that the control plane has just checked. [`Reject::Unauthorized`] if not.
    pub fn user(&mut self, account: u32, name: &str, version: u32) -> Result<Rc<Principal>, Reject> {
        match self.find(account, name) {
            Some(principal) if principal.version == version => Ok(principal),
            // The credential is genuine and the registry was not read yet: its holder must not be refused for good.
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

    /// Issues a new pair of tokens, see [`TokenKeys::issue`].
    pub fn issue(
        &self,
        principal: &Principal,
        now_unix_s: u64,
        access_lifetime: Duration,
        refresh_lifetime: Duration,
    ) -> Result<IssuedPair, Reject> {
        self.keys.issue(principal, now_unix_s, access_lifetime, refresh_lifetime)
    }

    /// Users, rights or API keys have changed: replaces the snapshot and invalidates every cached credential.
    pub fn set_users(&mut self, users: Arc<Users>) {
        self.users = users;
        self.principals.clear();
        self.cache.clear();
    }

    /// Returns the number of requests whose token or key was cached.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Returns the number of requests whose token or key had to be verified.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.misses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::{
            UserRecord,
            keys::{KeyRecord, KeyUses, NewKeyText},
        },
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

    fn authenticator() -> Authenticator {
        Authenticator::new(1, TokenKeys::new("access key", "refresh key"), users(1, "a"))
    }

    fn login(authenticator: &mut Authenticator, name: &str) -> IssuedPair {
        let principal = authenticator.find(1, name).expect("a user");
        authenticator.issue(&principal, NOW, MINUTE, 5 * MINUTE).expect("issued")
    }

    #[test]
    fn a_token_is_verified_once_and_then_known() {
        let mut authenticator = authenticator();
        let pair = login(&mut authenticator, "etl");
        let first = authenticator.principal(pair.access.as_bytes(), NOW).expect("valid");
        assert_eq!((authenticator.hits(), authenticator.misses(), authenticator.cache.len()), (0, 1, 1));
        let second = authenticator.principal(pair.access.as_bytes(), NOW + 59).expect("valid");
        assert_eq!((authenticator.hits(), authenticator.misses(), authenticator.cache.len()), (1, 1, 1));
        assert!(Rc::ptr_eq(&first, &second));
        assert_eq!(first.label(), "etl");
        assert_eq!(authenticator.principal(pair.access.as_bytes(), NOW + 60), Err(Reject::Unauthorized));
        assert_eq!((authenticator.hits(), authenticator.misses(), authenticator.cache.len()), (1, 2, 0));
    }

    #[test]
    fn users_of_many_tokens_are_held_once() {
        let mut authenticator = authenticator();
        let principal = authenticator.user(1, "etl", 1).expect("a user");
        for second in 0..10 {
            let pair = authenticator.issue(&principal, NOW + second, MINUTE, MINUTE).expect("issued");
            let found = authenticator.principal(pair.access.as_bytes(), NOW + second).expect("valid");
            assert!(Rc::ptr_eq(&found, &principal));
        }
        assert_eq!(authenticator.cache.len(), 10);
    }

    #[test]
    fn a_refused_token_is_not_remembered() {
        let mut authenticator = authenticator();
        let pair = login(&mut authenticator, "etl");
        for credential in [&b""[..], b"x", b"a.b.c", pair.refresh.as_bytes(), &[0xff; 300], &[b'.'; 5_000]] {
            assert_eq!(authenticator.principal(credential, NOW), Err(Reject::Unauthorized));
        }
        assert_eq!(authenticator.cache.len(), 0);
    }

    #[test]
    fn a_refresh_token_refreshes_and_an_access_token_does_not() {
        let mut authenticator = authenticator();
        let pair = login(&mut authenticator, "etl");
        let refreshed =
            authenticator.verify_refresh(pair.refresh.as_bytes(), NOW + 299).map(|found| found.label().to_owned());
        assert_eq!(refreshed, Ok("etl".to_owned()));
        assert_eq!(authenticator.verify_refresh(pair.refresh.as_bytes(), NOW + 300), Err(Reject::Unauthorized));
        assert_eq!(authenticator.verify_refresh(pair.access.as_bytes(), NOW), Err(Reject::Unauthorized));
    }

    #[test]
    fn tokens_die_with_the_password_and_the_user_and_root_s_with_its_password() {
        for (what, name, after) in [
            ("password", "etl", users(2, "a")),
            ("user", "etl", Arc::new(Users::new("root", ROOT_VERSION, []))),
            ("root's password", "root", Arc::new(Users::new("root", ROOT_VERSION + 1, []))),
            ("root's password before the registry was read", "root", Arc::new(Users::unread("root", ROOT_VERSION + 1))),
        ] {
            let mut authenticator = authenticator();
            let pair = login(&mut authenticator, name);
            assert!(authenticator.principal(pair.access.as_bytes(), NOW).is_ok());
            authenticator.set_users(after);
            assert_eq!(authenticator.principal(pair.access.as_bytes(), NOW), Err(Reject::Unauthorized), "{what}");
            assert_eq!(authenticator.verify_refresh(pair.refresh.as_bytes(), NOW), Err(Reject::Unauthorized), "{what}");
        }
    }

    #[test]
    fn a_password_that_was_checked_before_it_changed_yields_no_token() {
        let mut authenticator = authenticator();
        assert!(authenticator.user(1, "etl", 1).is_ok());
        authenticator.set_users(users(2, "a"));
        for (account, name, version, expect) in [
            (1, "etl", 1, Err(Reject::Unauthorized)),
            (1, "etl", 2, Ok("etl".to_owned())),
            (2, "etl", 2, Err(Reject::Unauthorized)),
            (1, "nobody", 0, Err(Reject::Unauthorized)),
            (1, "root", 0, Err(Reject::Unauthorized)),
            (1, "root", ROOT_VERSION, Ok("root".to_owned())),
        ] {
            let user = authenticator.user(account, name, version).map(|user| user.label().to_owned());
            assert_eq!(user, expect, "{account} {name} {version}");
        }
        authenticator.set_users(Arc::new(Users::unread("root", ROOT_VERSION)));
        assert_eq!(authenticator.user(1, "etl", 2), Err(Reject::UsersUnknown));
    }

    #[test]
    fn new_rights_hold_from_the_next_request_on() {
        let mut authenticator = authenticator();
        let pair = login(&mut authenticator, "etl");
        let may = |authenticator: &mut Authenticator, station| {
            authenticator.principal(pair.access.as_bytes(), NOW).expect("valid").may(Action::Produce, station)
        };
        assert!(may(&mut authenticator, "a") && !may(&mut authenticator, "b"));
        authenticator.set_users(users(1, "b"));
        assert!(!may(&mut authenticator, "a") && may(&mut authenticator, "b"));
    }

    /// A key of these rights, and how often it was used; users as of [`users`].
    fn with_key(produce: &str, expires_unix_s: Option<u64>) -> (NewKeyText, Arc<KeyUses>, Arc<Users>) {
        let key = keys::new_key().expect("randomness");
        let uses = Arc::new(KeyUses::new(2));
        let record = KeyRecord {
            id: key.id.as_str().into(),
            hash: key.hash,
            produce: vec![Pattern::parse(produce).expect("a pattern")],
            consume: vec![],
            admin: true,
            expires_unix_s,
            uses: Arc::clone(&uses),
        };
        let users = Users::clone(&users(1, "a")).with_keys([record]);
        (key, uses, Arc::new(users))
    }

    #[test]
    fn a_key_opens_what_its_patterns_say_and_each_request_is_counted_on_its_shard() {
        let (key, uses, users) = with_key("a.*", None);
        let mut gates = [0, 1].map(|shard| Authenticator::new(shard, TokenKeys::new("x", "y"), Arc::clone(&users)));
        for authenticator in &mut gates {
            let first = authenticator.principal(key.text.as_bytes(), NOW).expect("valid");
            let second = authenticator.principal(key.text.as_bytes(), u64::MAX - 1).expect("it never expires");
            assert!(Rc::ptr_eq(&first, &second));
            assert_eq!((authenticator.hits(), authenticator.misses()), (1, 1));
            assert_eq!(first.label(), format!("key:{}", key.id));
            for (action, station, expect) in
                [(Action::Produce, "a.x", true), (Action::Produce, "a", false), (Action::Consume, "a.x", false)]
            {
                assert_eq!(first.may(action, station), expect, "{action:?} {station}");
            }
            let refused = first.check(Action::Consume, &Name::parse("a.x").expect("a name"));
            let text = format!("API key {} is not allowed to consume from station a.x", key.id);
            assert_eq!(refused, Err(Reject::Forbidden(text.into())));
        }
        assert_eq!(uses.total(), 4);
    }

    #[test]
    fn a_key_ends_with_its_expiry_also_when_it_is_known() {
        let (key, uses, users) = with_key("*", Some(NOW + 10));
        let mut authenticator = Authenticator::new(0, TokenKeys::new("x", "y"), users);
        for (second, expect) in [(0, true), (9, true), (10, false), (u64::MAX - NOW, false)] {
            let found = authenticator.principal(key.text.as_bytes(), NOW + second).map(|_| true);
            assert_eq!(found, if expect { Ok(true) } else { Err(Reject::Unauthorized) }, "{second}");
        }
        assert_eq!((authenticator.cache.len(), uses.total()), (0, 2));
    }

    #[test]
    fn what_is_not_the_key_is_refused_and_not_counted() {
        let (key, uses, users) = with_key("*", None);
        let mut authenticator = Authenticator::new(0, TokenKeys::new("x", "y"), users);
        let other = keys::new_key().expect("randomness");
        let secret_of_other = format!("{}{}", &key.text[..17], &other.text[17..]);
        for text in [other.text.as_str(), &secret_of_other, &key.text[..59], &format!("{}A", key.text), "sgk_", "sgk_é"]
        {
            assert_eq!(authenticator.principal(text.as_bytes(), NOW), Err(Reject::Unauthorized), "{text}");
        }
        assert_eq!(authenticator.principal(b"sgk_\xff\xff", NOW), Err(Reject::Unauthorized));
        assert_eq!((authenticator.cache.len(), uses.total()), (0, 0));
        assert!(authenticator.principal(key.text.as_bytes(), NOW).is_ok());
    }

    #[test]
    fn a_revoked_key_opens_nothing_from_the_next_snapshot_on() {
        let (key, uses, with) = with_key("*", None);
        let mut authenticator = Authenticator::new(0, TokenKeys::new("x", "y"), with);
        assert!(authenticator.principal(key.text.as_bytes(), NOW).is_ok());
        authenticator.set_users(users(1, "a"));
        assert_eq!(authenticator.principal(key.text.as_bytes(), NOW), Err(Reject::Unauthorized));
        assert_eq!(uses.total(), 1);
    }

    #[test]
    fn before_the_registry_was_read_a_key_may_be_one_and_what_has_not_the_form_is_none() {
        let key = keys::new_key().expect("randomness");
        let mut authenticator =
            Authenticator::new(0, TokenKeys::new("x", "y"), Arc::new(Users::unread("root", ROOT_VERSION)));
        assert_eq!(authenticator.principal(key.text.as_bytes(), NOW), Err(Reject::UsersUnknown));
        assert_eq!(authenticator.principal(&key.text.as_bytes()[1..], NOW), Err(Reject::Unauthorized));
        assert_eq!(authenticator.principal(&key.text.as_bytes()[..59], NOW), Err(Reject::Unauthorized));
    }

    #[test]
    fn nobody_gets_tokens_for_a_key() {
        let (key, _, users) = with_key("*", None);
        let mut authenticator = Authenticator::new(0, TokenKeys::new("x", "y"), users);
        let principal = authenticator.principal(key.text.as_bytes(), NOW).expect("valid");
        assert!(matches!(authenticator.issue(&principal, NOW, MINUTE, MINUTE), Err(Reject::Internal(_))));
        assert_eq!(authenticator.verify_refresh(key.text.as_bytes(), NOW), Err(Reject::Unauthorized));
        for name in [principal.label(), &key.id] {
            assert_eq!(authenticator.user(1, name, 0), Err(Reject::Unauthorized), "a key is no user");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let (key, _, users) = with_key("*", None);
        let mut authenticator = Authenticator::new(0, TokenKeys::new("access key", "refresh key"), users);
        authenticator.principal(key.text.as_bytes(), NOW).expect("valid");
        let pair = login(&mut authenticator, "etl");
        authenticator.principal(pair.access.as_bytes(), NOW).expect("valid");
        let shown = format!("{authenticator:?} {pair:?}");
        for secret in [
            "access key",
            "refresh key",
            "97, 99, 99",
            pair.access.as_str(),
            pair.refresh.as_str(),
            "eyJ",
            &key.text[17..],
        ] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}
