//! What the query of a stream asks for: `?receipts=` and `?line=`. Pure.

use crate::{dialect::memphis::query, reject::Reject};

/// Of which lines the answer says what became of them. The last line always comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Receipts {
    /// Of all.
    #[default]
    All,
    /// Of those that failed.
    Errors,
    /// Of none.
    Summary,
}

/// What the query of a request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) receipts: Receipts,
    /// The number of the first line that is sent.
    pub(super) first_line: u64,
}

impl Parameters {
    /// Reads the query.
    pub(super) fn of(query: Option<&[u8]>) -> Result<Self, Reject> {
        let value = |name| query.and_then(|query| query::value(query, name));
        let receipts = match value("receipts").as_deref() {
            None | Some("all") => Receipts::All,
            Some("errors") => Receipts::Errors,
            Some("summary") => Receipts::Summary,
            Some(_) => return Err(Reject::Field("receipts is all, errors or summary")),
        };
        let first_line = match value("line").as_deref() {
            None => 1,
            // Signs and the like are no digits.
            Some(text) => Some(text)
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .filter(|line| (1..=FIRST_LINE_LAST).contains(line))
                .ok_or(Reject::Field("line is the number of the first line that is sent, counted from 1"))?,
        };
        Ok(Self { receipts, first_line })
    }
}

/// The last number that a first line may have: what readers of JSON hold exactly (RFC 8259, section 6).
const FIRST_LINE_LAST: u64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_says_which_receipts_and_from_which_line() {
        let ok = |receipts, first_line| Some(Parameters { receipts, first_line });
        for (query, expect) in [
            (None, ok(Receipts::All, 1)),
            (Some(""), ok(Receipts::All, 1)),
            (Some("authorization=x&receipts=errors"), ok(Receipts::Errors, 1)),
            (Some("receipts=summary&line=17"), ok(Receipts::Summary, 17)),
            (Some("line=%31"), ok(Receipts::All, 1)),
            (Some("line=9007199254740991"), ok(Receipts::All, (1 << 53) - 1)),
            (Some("line=9007199254740992"), None),
            (Some("line=0"), None),
            (Some("line="), None),
            (Some("line=+1"), None),
            (Some("line=-1"), None),
            (Some("line=1.5"), None),
            (Some("receipts=none"), None),
            (Some("receipts="), None),
        ] {
            assert_eq!(Parameters::of(query.map(str::as_bytes)).ok(), expect, "{query:?}");
        }
    }
}
