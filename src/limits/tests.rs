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
