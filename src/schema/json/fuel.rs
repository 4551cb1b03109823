//! What the check of one record may cost: fuel, counted down by whatever the validator asks of the record.
//!
//! The validator is another's code and knows no limits. But it sees the record only through our traits, so that is
//! where the work is counted. When the fuel is used up the record looks empty, the validator comes to its end at once,
//! and the verdict is that there was too much to do. The same holds for the stack: who is too deep in it has no fuel
//! left.
//!
//! The counters are the thread's own, because the names that `propertyNames` holds against a schema come without the
//! record that they are from.

use crate::limits::{SCHEMA_FUEL, SCHEMA_STACK_BYTES_MAX};
use std::{cell::Cell, hint::black_box, ptr};

/// What a schema makes dear. Found once, when it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prices {
    /// Of a value that is handed to a subschema: for what the subschema does without asking the value.
    pub(super) value: u32,
    /// Of four bytes of text that is matched with a pattern.
    pub(super) text: u32,
}

struct Meter {
    left: Cell<i64>,
    value: Cell<u32>,
    text: Cell<u32>,
    stack_floor: Cell<usize>,
}

thread_local! {
    static METER: Meter = const { Meter { left: Cell::new(0), value: Cell::new(1), text: Cell::new(1), stack_floor: Cell::new(0) } };
}

/// Fills up for the check of one record, which begins in the caller's frame.
pub(super) fn begin(prices: Prices) {
    METER.with(|meter| {
        meter.left.set(SCHEMA_FUEL);
        meter.value.set(prices.value);
        meter.text.set(prices.text);
        meter.stack_floor.set(stack_pointer().saturating_sub(SCHEMA_STACK_BYTES_MAX));
    });
}

/// Whether all is used up.
pub(super) fn is_empty() -> bool {
    METER.with(|meter| meter.left.get() < 0)
}

/// What has been used since [`begin`].
#[cfg(test)]
pub(super) fn used() -> i64 {
    METER.with(|meter| SCHEMA_FUEL - meter.left.get())
}

/// Pays, and says whether there was enough.
#[inline]
pub(super) fn spend(units: usize) -> bool {
    METER.with(|meter| pay(meter, i64::try_from(units).unwrap_or(i64::MAX)))
}

/// Pays for a value that is handed to a subschema.
#[inline]
pub(super) fn spend_on_value() -> bool {
    METER.with(|meter| pay(meter, i64::from(meter.value.get())))
}

/// Pays for text that a pattern may be matched with.
#[inline]
pub(super) fn spend_on_text(bytes: usize) -> bool {
    METER.with(|meter| {
        let words = i64::try_from(bytes.div_ceil(4)).unwrap_or(i64::MAX);
        pay(meter, words.saturating_mul(i64::from(meter.text.get())).saturating_add(1))
    })
}

/// Pays for going down one level.
#[inline]
pub(super) fn descend() -> bool {
    METER.with(|meter| {
        if stack_pointer() < meter.stack_floor.get() {
            meter.left.set(-1);
        }
        pay(meter, 1)
    })
}

/// Pays for a fault: to say where it is takes the longer the deeper it is, which the stack tells.
pub(super) fn spend_on_fault() -> bool {
    METER.with(|meter| {
        let top = meter.stack_floor.get().saturating_add(SCHEMA_STACK_BYTES_MAX);
        let depth = top.saturating_sub(stack_pointer()) / STACK_BYTES_PER_UNIT;
        pay(meter, FAULT_UNITS.saturating_add(i64::try_from(depth).unwrap_or(i64::MAX)))
    })
}

/// Of a fault at the top of the record.
const FAULT_UNITS: i64 = 64;
/// Bytes of stack that make a fault dearer by one unit.
const STACK_BYTES_PER_UNIT: usize = 32;

#[inline]
fn pay(meter: &Meter, units: i64) -> bool {
    let left = meter.left.get().saturating_sub(units);
    meter.left.set(left);
    left >= 0
}

/// About where the stack ends now; it grows downwards on all processors that we run on.
#[inline]
fn stack_pointer() -> usize {
    let here = 0_u8;
    ptr::from_ref(black_box(&here)).addr()
}
