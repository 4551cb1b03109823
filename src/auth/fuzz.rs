//! Entry point for fuzzing: what is no credential is none, and what verifies was signed.
//!
//! It stands beside the code so that a fuzz target is one line; a property test uses it too.

use super::{
    TokenKeys, credential,
    keys::{id_of, is_key, new_key},
    token::{Kind, signed},
};
use percent_encoding::percent_decode;

const NOW: u64 = 1_800_000_000;
const CLAIMS: &[u8] = br#"{"username":"etl","account_id":1,"ver":0,"kind":"access","iat":1800000000,"exp":1800000060}"#;
const HEADER: &[u8] = br#"{"typ":"JWT","alg":"HS256"}"#;

/// Reads the input as a credential in every place, as a token and as a key; changes a valid token by it; and signs it.
pub fn fuzz_token(input: &[u8]) {
    let keys = TokenKeys::new("access", "refresh");
    assert!(keys.verify_access(input, NOW).is_err(), "nobody has signed that");
    assert!(keys.verify_refresh(input, NOW).is_err(), "nobody has signed that");
    find(input);
    change(&keys, input);
    sign(&keys, input);
    if let Ok(text) = std::str::from_utf8(input)
        && let Some(id) = id_of(text)
    {
        assert_eq!(text.get(4..16), Some(id), "an id stands where it should");
        assert!(!new_key().is_some_and(|key| is_key(text, &key.hash)), "nobody guesses a key");
    }
}

/// Looks for a credential in a field's value and in a query.
fn find(input: &[u8]) {
    if let Some(found) = credential(Some(input), None) {
        assert!(!found.is_empty(), "an empty credential is none");
        let is_key = std::str::from_utf8(&found).is_ok_and(|text| id_of(text).is_some());
        assert!(
            is_key || memchr::memmem::find(input, &found).is_some(),
            "a credential stands in the field, or is a key"
        );
        // The field wins.
        assert!(credential(Some(input), Some(b"authorization=other")) == Some(found));
    }
    if let Some(found) = credential(None, Some(input)) {
        let decoded: Vec<u8> = percent_decode(input).collect();
        assert!(!found.is_empty() && memchr::memmem::find(&decoded, &found).is_some(), "it stands in the query");
    }
}

/// Changes bytes of a valid token: pairs of a place and what is added there. It is valid as it was, and in no other form.
fn change(keys: &TokenKeys, input: &[u8]) {
    let token = signed(keys, HEADER, CLAIMS);
    assert!(keys.verify_access(&token, NOW).is_ok(), "what was signed verifies");
    let mut changed = token.clone();
    for pair in input.chunks_exact(2).take(8) {
        let [place, change] = *pair else { continue };
        let place = usize::from(place).wrapping_mul(7) % changed.len();
        if let Some(byte) = changed.get_mut(place) {
            *byte ^= change;
        }
    }
    assert!(changed == token || keys.verify_access(&changed, NOW).is_err(), "{}", String::from_utf8_lossy(&changed));
}

/// Signs what comes as header and claims (before and behind the first zero byte), as only who has the key can.
fn sign(keys: &TokenKeys, input: &[u8]) {
    let (header, claims) = match input.iter().position(|byte| *byte == 0).and_then(|at| input.split_at_checked(at)) {
        Some((header, claims)) => (header, claims.get(1..).unwrap_or_default()),
        None => (HEADER, input),
    };
    let token = signed(keys, header, claims);
    assert!(keys.verify_refresh(&token, NOW).is_err(), "signed with the other key");
    if let Ok(claims) = keys.verify_access(&token, NOW) {
        assert!(claims.kind == Kind::Access && claims.exp > NOW && claims.nbf <= NOW, "{claims:?}");
        let header: serde_json::Value = serde_json::from_slice(header).expect("a header is JSON");
        assert_eq!(header.get("alg").and_then(serde_json::Value::as_str), Some("HS256"), "{header}");
        assert!(header.get("crit").is_none_or(serde_json::Value::is_null), "{header}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_verifies_was_signed(pieces in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(PIECES).prop_map(|piece: &[u8]| piece.to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ], 0..8)) {
            fuzz_token(&pieces.concat());
        }
    }

    const PIECES: &[&[u8]] = &[
        b"Bearer ",
        b"Basic ",
        b"bearer: ",
        b"authorization=",
        b"&",
        b"%2E",
        b"sgk_abcdefghij09_0123456789_BCDEFGHIJKLMNOPQRSTUVWXYZ-_0123-",
        b"dTpw",
        b"{\"alg\":\"HS256\"}",
        b"{\"alg\":\"none\"}",
        b"{\"alg\":\"HS256\",\"crit\":[]}",
        b"\0",
        b"{\"username\":\"etl\",\"account_id\":1,\"ver\":0,\"kind\":\"access\",\"iat\":1,\"exp\":1800000060}",
        b"{\"username\":\"etl\",\"account_id\":1,\"ver\":0,\"kind\":\"refresh\",\"iat\":1,\"exp\":1,\"nbf\":1.5}",
        b".",
    ];
}
