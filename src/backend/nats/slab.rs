//! Things that come back by a number: found without hashing, and by no number that was another's before.

/// Bits of a number that say where its entry is; the others count how often the place was used.
const PLACE_BITS: u32 = 20;
/// The most entries at a time.
const ENTRIES: usize = (1 << PLACE_BITS) - 1;

/// Entries, each with a number of its own from 1 on. A number is never given again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    /// Places without an entry; the last one is used first.
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    /// The number of the entry, or of the next one.
    number: u64,
    entry: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Adds an entry. Returns its number; `None` if there are as many entries as there may be.
    pub(super) fn insert(&mut self, entry: T) -> Option<u64> {
        if let Some(place) = self.free.pop().and_then(|index| self.places.get_mut(index as usize)) {
            place.entry = Some(entry);
            return Some(place.number);
        }
        if self.places.len() >= ENTRIES {
            return None;
        }
        let number = self.places.len() as u64 + 1;
        self.places.push(Place { number, entry: Some(entry) });
        Some(number)
    }

    /// Returns the entry of a number.
    #[inline]
    pub(super) fn get(&self, number: u64) -> Option<&T> {
        self.places.get(index_of(number)?).filter(|place| place.number == number)?.entry.as_ref()
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let index = index_of(number)?;
        let place = self.places.get_mut(index).filter(|place| place.number == number)?;
        let entry = place.entry.take()?;
        // After 2^44 uses of one place, none of which any process lives to see, it is not used again.
        if let Some(next) = number.checked_add(1 << PLACE_BITS) {
            place.number = next;
            self.free.extend(u32::try_from(index));
        }
        Some(entry)
    }

    /// Returns every entry with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.places.iter().filter_map(|place| Some((place.number, place.entry.as_ref()?)))
    }

    /// Takes out the entries of which `gone` says so. Returns them.
    pub(super) fn extract(&mut self, gone: impl Fn(&T) -> bool) -> Vec<T> {
        let numbers: Vec<u64> = self.iter().filter(|(_, entry)| gone(entry)).map(|(number, _)| number).collect();
        numbers.into_iter().filter_map(|number| self.remove(number)).collect()
    }

    /// Returns how many entries there are.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

fn index_of(number: u64) -> Option<usize> {
    usize::try_from(number & (ENTRIES as u64)).ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn a_place_is_used_again_and_a_number_is_not() {
        let mut slab = Slab::default();
        assert_eq!((slab.insert("a"), slab.insert("b")), (Some(1), Some(2)));
        assert_eq!((slab.remove(1), slab.remove(1), slab.get(1)), (Some("a"), None, None));
        let again = slab.insert("c").expect("a number");
        assert_eq!(again, (1 << PLACE_BITS) + 1);
        assert_eq!((slab.get(again), slab.get(1), slab.get(0), slab.get(u64::MAX)), (Some(&"c"), None, None, None));
        assert_eq!((slab.extract(|entry| *entry == "c"), slab.len()), (vec!["c"], 1));
    }

    #[test]
    fn there_are_no_more_entries_than_numbers() {
        let mut slab = Slab::default();
        assert!((0..ENTRIES).all(|_| slab.insert(()).is_some()));
        assert_eq!((slab.insert(()), slab.remove(7)), (None, Some(())));
        assert!(slab.insert(()).is_some());
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_with_counted_keys_would(steps in prop::collection::vec((any::<bool>(), 0_usize..8), 0..200)) {
            let (mut slab, mut model, mut given) = (Slab::default(), BTreeMap::new(), BTreeSet::new());
            for (step, (adds, which)) in steps.into_iter().enumerate() {
                if adds {
                    let number = slab.insert(step).expect("room");
                    prop_assert!(given.insert(number), "{number} was given before");
                    model.insert(number, step);
                } else if let Some(number) = given.iter().nth(which).copied() {
                    prop_assert_eq!(slab.remove(number), model.remove(&number));
                }
                prop_assert_eq!(slab.len(), model.len());
                prop_assert!(given.iter().all(|number| slab.get(*number) == model.get(number)));
                prop_assert_eq!(slab.iter().map(|(number, entry)| (number, *entry)).collect::<BTreeMap<_, _>>(), model.clone());
            }
        }
    }
}
