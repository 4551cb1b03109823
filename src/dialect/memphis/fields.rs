//! Request bodies of `/auth/*` and consume: small JSON objects (or forms), read as the original read them.
//!
//! Field names match in any letter case, `null` counts as absent, a field of another type is an error.

use crate::reject::Reject;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Number, Value};

/// The fields of a request body.
#[derive(Debug, Default)]
pub(super) struct Fields(Map<String, Value>);

/// The body is not an object, or a field has another type than it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Invalid;

impl Fields {
    /// From a JSON object.
    pub(super) fn from_json(body: &[u8]) -> Result<Self, Invalid> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            _ => Err(Invalid),
        }
    }

    /// From `application/x-www-form-urlencoded`: numbers are recognised, everything else is text.
    pub(super) fn from_form(body: &[u8]) -> Result<Self, Invalid> {
        let text = std::str::from_utf8(body).map_err(|_| Invalid)?;
        let decode = |part: &str| {
            let spaced = part.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|_| Invalid)
        };
        let mut map = Map::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?.replace('_', ""), decode(value)?);
            map.insert(name, Value::String(value));
        }
        Ok(Self(map))
    }

    /// A text field; absent is `None`.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Invalid> {
        match self.find(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Invalid),
        }
    }

    /// A whole number; absent is `None`. In a form it is text, in JSON it must be a number.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Invalid> {
        match self.find(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => whole(number).map(Some),
            Some(Value::String(text)) if self.is_form(name) => {
                let number = || serde_json::from_str::<Number>(text).map_err(|_| Invalid);
                text.parse().or_else(|_| number().and_then(|number| whole(&number))).map(Some)
            }
            Some(_) => Err(Invalid),
        }
    }

    /// Yes or no; absent is `None`.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Invalid> {
        match self.find(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(Invalid),
        }
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.0.get(name).or_else(|| {
            let wanted = |key: &str| key.eq_ignore_ascii_case(name) || key.eq_ignore_ascii_case(&name.replace('_', ""));
            self.0.iter().find(|(key, _)| wanted(key)).map(|(_, value)| value)
        })
    }

    /// A form's names have lost their underscores (the original matched Go's names there).
    fn is_form(&self, name: &str) -> bool {
        name.contains('_') && !self.0.contains_key(name)
    }
}

/// A whole number, however it is written (`60`, `60.0`, `6e1`): clients whose only number type is a double write fractions. One
/// beyond 64 bits counts as the largest of its sign, and the caller has a cap.
fn whole(number: &Number) -> Result<i64, Invalid> {
    if let Some(integer) = number.as_i64() {
        return Ok(integer);
    }
    let value = number.as_f64().filter(|value| value.fract() == 0.0).ok_or(Invalid)?;
    // A whole double is written without a fraction, all its digits.
    Ok(format!("{value:.0}").parse().unwrap_or(if value < 0.0 { i64::MIN } else { i64::MAX }))
}

impl From<Invalid> for Reject {
    fn from(_: Invalid) -> Self {
        Self::Field("Invalid request body")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_any_case_and_types_are_checked() {
        let fields =
            Fields::from_json(br#"{"UserName":"u","account_id":3,"n":null,"f":1.5,"big":18446744073709551615}"#)
                .unwrap();
        assert_eq!(fields.text("username"), Ok(Some("u")));
        assert_eq!(fields.integer("account_id"), Ok(Some(3)));
        assert_eq!(fields.integer("n"), Ok(None));
        assert_eq!(fields.integer("absent"), Ok(None));
        assert_eq!(fields.integer("f"), Err(Invalid));
        for (text, expect) in [
            ("1.0", Ok(1)),
            ("1e0", Ok(1)),
            ("6E+1", Ok(60)),
            ("-0.0", Ok(0)),
            ("10000000000.0", Ok(10_000_000_000)),
            ("-5.0", Ok(-5)),
            ("1e300", Ok(i64::MAX)),
            ("-1e300", Ok(i64::MIN)),
            ("1.5", Err(Invalid)),
            ("1e-1", Err(Invalid)),
        ] {
            let fields = Fields::from_json(format!(r#"{{"n":{text}}}"#).as_bytes()).unwrap();
            assert_eq!(fields.integer("n"), expect.map(Some), "{text}");
            let form = Fields::from_form(format!("TheN={}", text.replace('+', "%2B")).as_bytes()).unwrap();
            assert_eq!(form.integer("the_n"), expect.map(Some), "{text} in a form");
        }
        assert_eq!(fields.integer("username"), Err(Invalid));
        assert_eq!(fields.text("account_id"), Err(Invalid));
        assert_eq!(fields.integer("big"), Ok(Some(i64::MAX)));
        for not_an_object in ["", "[]", "1", "{", "{}x"] {
            assert!(Fields::from_json(not_an_object.as_bytes()).is_err(), "{not_an_object}");
        }
    }

    #[test]
    fn a_form_is_read_with_the_originals_names() {
        let fields = Fields::from_form(b"Username=a%40b&Password=x+y&TokenExpiryMins=5&AccountId=2").unwrap();
        assert_eq!(fields.text("username"), Ok(Some("a@b")));
        assert_eq!(fields.text("password"), Ok(Some("x y")));
        assert_eq!(fields.integer("account_id"), Ok(Some(2)));
    }
}
