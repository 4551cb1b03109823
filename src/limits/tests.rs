//! The relations between limits: of the defaults, and of what was configured.

use super::*;

#[test]
fn the_defaults_satisfy_their_own_rules() {
    assert_eq!(Limits::default().check(), Ok(()));
}

#[test]
fn a_broken_relation_is_named() {
    let limits = Limits { body_bytes_max: 2, inflated_bytes_max: 1, ..Limits::default() };
    assert!(limits.check().is_err_and(|text| text.contains("inflated_bytes_max")));
}

#[test]
fn an_answer_is_waited_for_as_long_as_records_are_published_again() {
    let ms = Duration::from_millis;
    for (hold, ack_timeout, broken) in [
        (5_000, 10_000, None),
        (5_001, 10_000, Some("at least twice limits.hold")),
        (30_000, 60_000, None),
        (0, 6_001, None),
        (0, 6_000, Some("more than 6s")),
        (5_000, 9_999, Some("at least twice limits.hold")),
    ] {
        let limits = Limits { hold: ms(hold), ack_timeout: ms(ack_timeout), ..Limits::default() };
        let (found, expect) = (limits.check().err(), broken.map(|_| "limits.ack_timeout"));
        assert_eq!(found.as_deref().and_then(|text| text.split(' ').next()), expect, "{hold} {ack_timeout}");
        assert!(found.unwrap_or_default().contains(broken.unwrap_or_default()), "{hold} {ack_timeout}");
    }
    assert_eq!(4 * REPUBLISH_AFTER, ms(6_000), "as the text says");
}
