//! How many records a consume answer holds: the elements of a JSON array, counted while the body streams by.
//!
//! It looks at structure alone (strings, depth, commas of the outermost array) and trusts the rest: a load generator
//! is no validator. Strings, which are most of such a body, are skipped by `memchr`.

use memchr::memchr2;

/// Counts the elements of one array. Fed in any pieces.
#[derive(Debug, Default, Clone)]
pub(super) struct ElementCount {
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// Something has been seen in the array since it began or since the last comma.
    occupied: bool,
    elements: u64,
}

impl ElementCount {
    /// Takes the next bytes of the body.
    pub(super) fn feed(&mut self, mut input: &[u8]) {
        loop {
            if self.in_string {
                input = self.skip_string(input);
            }
            let Some((byte, rest)) = input.split_first() else { return };
            input = rest;
            match byte {
                b'"' => {
                    self.in_string = true;
                    self.occupy();
                }
                b'[' | b'{' => {
                    self.occupy();
                    self.depth = self.depth.saturating_add(1);
                }
                b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                b',' if self.depth == 1 => self.occupied = false,
                b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => {}
                _ => self.occupy(),
            }
        }
    }

    /// Elements since the last call, which the next body begins anew from.
    pub(super) fn take(&mut self) -> u64 {
        std::mem::take(self).elements
    }

    fn occupy(&mut self) {
        if self.depth == 1 && !self.occupied {
            self.occupied = true;
            self.elements += 1;
        }
    }

    /// Skips to behind the string's end, or to the end of input.
    fn skip_string<'a>(&mut self, mut input: &'a [u8]) -> &'a [u8] {
        if self.escaped && !input.is_empty() {
            self.escaped = false;
            input = input.get(1..).unwrap_or_default();
        }
        while let Some(at) = memchr2(b'"', b'\\', input) {
            if input.get(at) == Some(&b'"') {
                self.in_string = false;
                return input.get(at + 1..).unwrap_or_default();
            }
            let Some(behind) = input.get(at + 2..) else {
                self.escaped = true;
                return &[];
            };
            input = behind;
        }
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn count(text: &[u8], piece: usize) -> u64 {
        let mut counter = ElementCount::default();
        text.chunks(piece.max(1)).for_each(|bytes| counter.feed(bytes));
        counter.take()
    }

    #[test]
    fn elements_are_those_of_the_outermost_array() {
        for (text, expect) in [
            ("[]", 0),
            (" [ \n ] ", 0),
            ("[1]", 1),
            ("[1, 2 ,3]", 3),
            ("[[1,2],[3,4]]", 2),
            (r#"[{"message":"a,b","headers":{"a":"1","b":"2"}},{"message":"]"}]"#, 2),
            (r#"["\\","\"",",","\\\","]"#, 4),
            ("[null,true,-1.5e3,\"\"]", 4),
        ] {
            for piece in 1..=text.len() {
                assert_eq!(count(text.as_bytes(), piece), expect, "{text} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn one_body_does_not_leak_into_the_next() {
        let mut counter = ElementCount::default();
        counter.feed(b"[1,2");
        assert_eq!(counter.take(), 2);
        counter.feed(b"[1]");
        assert_eq!(counter.take(), 1);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), any::<String>().prop_map(Value::from)];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_count_is_that_of_a_parser(list in prop::collection::vec(value(), 0..6), piece in 1usize..50) {
            let text = serde_json::to_vec(&list).expect("a value can be written");
            prop_assert_eq!(count(&text, piece), list.len() as u64);
        }
    }
}
