//! Users. The password hash stays in the control plane: what the shards get has none.

use super::{ACCOUNT, Document, FORMAT, check_written};
use crate::{auth::password, station::Pattern};
use serde::{Deserialize, Serialize};

/// One user, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct UserDocument {
    pub(in crate::control) format: u32,
    /// Tenant.
    pub(in crate::control) account: u32,
    /// Changes with the password and never comes back, not even if the user is removed and added again:
    /// what carries it (a token) is then no longer valid.
    pub(in crate::control) version: u32,
    /// Argon2id, as a PHC string.
    pub(in crate::control) password: PasswordHash,
    /// Stations that the user may produce to.
    pub(in crate::control) produce: Vec<Pattern>,
    /// Stations that the user may consume from.
    pub(in crate::control) consume: Vec<Pattern>,
}

/// A PHC string that is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::control) struct PasswordHash(pub(in crate::control) String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("********")
    }
}

impl UserDocument {
    pub(in crate::control) fn new(
        version: u32,
        password: PasswordHash,
        produce: Vec<Pattern>,
        consume: Vec<Pattern>,
    ) -> Self {
        Self { format: FORMAT, account: ACCOUNT, version, password, produce, consume }
    }
}

impl Document for UserDocument {
    const PREFIX: &'static str = "users.";
    const WHAT: &'static str = "User";

    fn check(&self) -> Result<(), String> {
        if self.account != ACCOUNT {
            return Err(format!("account {} is not configured", self.account));
        }
        check_written([("produce", &self.produce), ("consume", &self.consume)])?;
        Ok(password::check_hash(&self.password.0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PATTERNS_MAX;

    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21l$ZX2aMhTrPKuE1PmXlvjrUPOKFJbQrWLxJdMkeRS2bHo";

    fn text(produce: &str) -> String {
        format!(r#"{{"format":1,"account":1,"version":1,"password":"{HASH}","produce":{produce},"consume":["*"]}}"#)
    }

    #[test]
    fn only_documents_that_are_whole_load() {
        for (document, expect) in [
            (text(r#"["a.*"]"#), Ok(())),
            (text("[]"), Ok(())),
            (text(r#"["A"]"#), Err("lower case")),
            (text(r#"["a b"]"#), Err("station pattern")),
            (text("null"), Err("wrong type")),
            (text("[]").replace("\"format\":1", "\"format\":2"), Err("format 2")),
            (text("[]").replace("\"account\":1", "\"account\":7"), Err("account 7")),
            (text("[]").replace("\"consume\"", "\"konsume\""), Err("missing, unknown")),
            (text("[]").replace("argon2id", "argon2i"), Err("argon2id")),
            (text("[]").replace("m=8", "m=4000000"), Err("too much work")),
            (text("[]").replace(HASH, "hunter2"), Err("PHC string")),
            (String::new(), Err("ends too early")),
            ("[1]".to_owned(), Err("wrong type")),
            (text(&format!("[{}\"a\"]", "\"a\",".repeat(PATTERNS_MAX))), Err("at most")),
        ] {
            match (UserDocument::load(document.as_bytes()).map(drop), expect) {
                (Ok(()), Ok(())) => {}
                (Err(reason), Err(part)) => {
                    assert!(reason.contains(part), "{document}: {reason}");
                    assert!(!reason.contains("ZX2aMh"), "no hash in {reason}");
                }
                (got, _) => panic!("{document}: {got:?}"),
            }
        }
    }

    #[test]
    fn what_is_stored_loads_again_and_is_not_shown() {
        let patterns = vec![Pattern::parse("prod.*").expect("a pattern")];
        let document = UserDocument::new(7, PasswordHash(HASH.to_owned()), patterns, Vec::new());
        assert_eq!(UserDocument::load(&document.store().expect("stored")), Ok(document.clone()));
        assert!(!format!("{document:?}").contains("argon2"));
    }
}
