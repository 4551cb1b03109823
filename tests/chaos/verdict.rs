//! What was promised, compared with what is stored: nothing that was acknowledged is lost, no batch is torn that was to
//! be stored whole, nothing is stored that was refused, nothing is there twice but where that was said, and what a
//! connection sent one after the other is stored so.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// A repetition later than this may be stored again: the stream remembers ids for two minutes.
const REMEMBERED: Duration = Duration::from_secs(100);
/// Examples of each violation that are shown.
const EXAMPLES: usize = 5;

/// One record: its producer, the request, and its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Number of the producer.
    pub producer: u32,
    /// Number of the request, in the order in which its producer sent them.
    pub request: u32,
    /// Place in the request.
    pub index: u32,
}

/// What became of a request, as its client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// 200.
    Acknowledged,
    /// 4xx: these records are not stored and may not be sent again, the others are acknowledged.
    Refused(Vec<u32>),
    /// 5xx, or no answer: stored or not.
    Unknown,
}

/// One request, however often it was sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its producer.
    pub producer: u32,
    /// Its number.
    pub number: u32,
    /// How many records it had that no other request has.
    pub records: u32,
    /// Whether its records have ids.
    pub named: bool,
    /// Whether all of it is stored or nothing.
    pub strict: bool,
    /// Whether it may be refused: some of its ids are known, as another request's.
    pub refusable: bool,
    /// How often it was sent.
    pub attempts: u32,
    /// How long that took.
    pub took: Duration,
    /// What came of it.
    pub fate: Fate,
}

/// How often each promise was broken, with examples.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records that were acknowledged.
    pub acknowledged: usize,
    /// Records that are stored, each counted once.
    pub stored: usize,
    /// Acknowledged and not stored.
    pub lost: usize,
    /// Strict requests of which some records are stored.
    pub torn: usize,
    /// Refused for good and stored.
    pub refused_and_stored: usize,
    /// Refused for good although nothing was wrong with them.
    pub refused: usize,
    /// Stored twice although the client did not send it twice, or named it.
    pub doubled: usize,
    /// Behind a record of a later request of the same connection, or of a strict one's own, in the same partition.
    pub misplaced: usize,
    /// Behind a later record of their own request, which is not all or nothing. No promise is broken: what was in flight
    /// with a record that a leader refused cannot be called back.
    pub overtaken: usize,
    /// Which.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.lost + self.torn + self.refused_and_stored + self.refused + self.doubled + self.misplaced == 0
    }

    fn note(&mut self, count: usize, text: impl FnOnce() -> String) {
        if count < EXAMPLES {
            self.examples.push(text());
        }
    }
}

/// Holds requests against what each stream has, in its order.
pub fn judge(requests: &[Request], streams: &BTreeMap<String, Vec<Key>>) -> Verdict {
    let mut counts: HashMap<Key, u32> = HashMap::new();
    for key in streams.values().flatten() {
        *counts.entry(*key).or_default() += 1;
    }
    let mut verdict = Verdict { stored: counts.len(), ..Verdict::default() };
    for request in requests {
        of_one(request, &counts, &mut verdict);
    }
    let by_name: HashMap<(u32, u32), &Request> =
        requests.iter().map(|request| ((request.producer, request.number), request)).collect();
    for (stream, keys) in streams {
        order(stream, keys, &by_name, &mut verdict);
    }
    verdict
}

fn of_one(request: &Request, counts: &HashMap<Key, u32>, verdict: &mut Verdict) {
    let key = |index| Key { producer: request.producer, request: request.number, index };
    let (mut there, mut not_stored) = (0, 0);
    for index in 0..request.records {
        let count = counts.get(&key(index)).copied().unwrap_or(0);
        there += u32::from(count > 0);
        let refused = matches!(&request.fate, Fate::Refused(records) if records.contains(&index));
        if refused {
            not_stored += 1;
            // An earlier attempt of which nobody knows what came of it may have stored it.
            if count > 0 && request.attempts == 1 {
                verdict
                    .note(verdict.refused_and_stored, || format!("refused and stored: {:?} {request:?}", key(index)));
                verdict.refused_and_stored += 1;
            }
        } else if request.fate != Fate::Unknown {
            verdict.acknowledged += 1;
            if count == 0 {
                verdict.note(verdict.lost, || format!("lost: {:?} {request:?}", key(index)));
                verdict.lost += 1;
            }
        }
        if count > 1 && (request.attempts == 1 || request.named && request.took < REMEMBERED) {
            verdict.note(verdict.doubled, || format!("doubled: {:?} {request:?}", key(index)));
            verdict.doubled += 1;
        }
    }
    if not_stored > 0 && !request.refusable {
        verdict.note(verdict.refused, || format!("refused: {request:?}"));
        verdict.refused += not_stored;
    }
    if request.strict && there > 0 && there < request.records {
        verdict.note(verdict.torn, || format!("torn: {there} of {request:?}"));
        verdict.torn += 1;
    }
}

/// Requests of a producer are answered before the next is sent: acknowledged ones are stored in their order. So are the
/// records of a strict request; of others they are, where nothing failed.
fn order(stream: &str, keys: &[Key], requests: &HashMap<(u32, u32), &Request>, verdict: &mut Verdict) {
    let mut last: HashMap<u32, Key> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for key in keys {
        let acknowledged =
            requests.get(&(key.producer, key.request)).filter(|request| request.fate == Fate::Acknowledged);
        let Some(request) = acknowledged else { continue };
        if !seen.insert(*key) {
            continue;
        }
        let before = last.entry(key.producer).or_insert(*key);
        let within = before.request == key.request && before.index > key.index;
        if within && !request.strict {
            verdict.overtaken += usize::from(request.attempts == 1);
        } else if before.request > key.request || within {
            verdict.note(verdict.misplaced, || format!("misplaced in {stream}: {key:?} behind {before:?}"));
            verdict.misplaced += 1;
        } else {
            *before = *key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(producer: u32, request: u32, index: u32) -> Key {
        Key { producer, request, index }
    }

    fn once(producer: u32, number: u32, records: u32, fate: Fate) -> Request {
        let (named, strict, refusable, attempts, took) = (false, false, false, 1, Duration::ZERO);
        Request { producer, number, records, named, strict, refusable, attempts, took, fate }
    }

    fn check(requests: &[Request], stored: &[Key], expect: &Verdict) {
        let streams = BTreeMap::from([("s".to_owned(), stored.to_vec())]);
        let verdict = judge(requests, &streams);
        assert_eq!(verdict.is_clean(), verdict.examples.is_empty(), "{verdict:?}");
        let verdict = Verdict { examples: Vec::new(), ..verdict };
        assert_eq!(&verdict, expect, "{requests:?} {stored:?}");
    }

    #[test]
    fn each_broken_promise_is_seen_and_nothing_else() {
        use Fate::{Acknowledged, Refused, Unknown};
        let clean = Verdict { acknowledged: 2, stored: 2, ..Verdict::default() };
        let two = [key(1, 0, 0), key(1, 0, 1)];
        check(&[once(1, 0, 2, Acknowledged)], &two, &clean);
        check(&[once(1, 0, 2, Unknown)], &two, &Verdict { acknowledged: 0, ..clean });
        check(&[once(1, 0, 2, Unknown)], &[], &Verdict::default());
        let lost = Verdict { acknowledged: 2, stored: 1, lost: 1, ..Verdict::default() };
        check(&[once(1, 0, 2, Acknowledged)], &two[..1], &lost);
        let strict = Request { strict: true, ..once(1, 0, 2, Unknown) };
        check(std::slice::from_ref(&strict), &two, &Verdict { stored: 2, ..Verdict::default() });
        check(&[strict], &two[..1], &Verdict { stored: 1, torn: 1, ..Verdict::default() });
        let refused = Verdict { acknowledged: 1, stored: 1, refused: 1, ..Verdict::default() };
        check(&[once(1, 0, 2, Refused(vec![1]))], &two[..1], &refused);
        let may = Request { refusable: true, ..once(1, 0, 2, Refused(vec![1])) };
        check(&[may], &two[..1], &Verdict { acknowledged: 1, stored: 1, ..Verdict::default() });
        let false_refusal = Verdict { stored: 2, refused_and_stored: 1, ..refused };
        check(&[once(1, 0, 2, Refused(vec![1]))], &two, &false_refusal);
        let again = Request { attempts: 2, ..once(1, 0, 2, Refused(vec![1])) };
        check(&[again], &two, &Verdict { acknowledged: 1, stored: 2, refused: 1, ..Verdict::default() });
    }

    #[test]
    fn doubles_and_swaps_are_told_from_what_may_be() {
        use Fate::{Acknowledged, Unknown};
        let twice = [key(1, 0, 0), key(1, 0, 0)];
        let doubled = Verdict { acknowledged: 1, stored: 1, doubled: 1, ..Verdict::default() };
        check(&[once(1, 0, 1, Acknowledged)], &twice, &doubled);
        let again = Request { attempts: 2, ..once(1, 0, 1, Acknowledged) };
        check(std::slice::from_ref(&again), &twice, &Verdict { doubled: 0, ..doubled });
        let named = Request { named: true, ..again };
        check(
            std::slice::from_ref(&named),
            &twice,
            &Verdict { acknowledged: 1, stored: 1, doubled: 1, ..Verdict::default() },
        );
        let late = Request { took: Duration::from_secs(200), ..named };
        check(&[late], &twice, &Verdict { acknowledged: 1, stored: 1, ..Verdict::default() });
        let requests = [once(1, 0, 1, Acknowledged), once(1, 1, 2, Acknowledged), once(2, 0, 1, Unknown)];
        let swapped = Verdict { acknowledged: 3, stored: 3, misplaced: 1, ..Verdict::default() };
        let overtaken = Verdict { acknowledged: 3, stored: 3, overtaken: 1, ..Verdict::default() };
        let within = [key(1, 0, 0), key(1, 1, 1), key(1, 1, 0)];
        check(&requests, &within, &overtaken);
        let strict = requests.clone().map(|request| Request { strict: true, ..request });
        check(&strict, &within, &swapped);
        check(&requests, &[key(1, 1, 0), key(1, 1, 1), key(1, 0, 0)], &swapped);
        let right = [key(1, 0, 0), key(2, 0, 0), key(1, 1, 0), key(1, 1, 1)];
        check(&requests, &right, &Verdict { acknowledged: 3, stored: 4, ..Verdict::default() });
    }
}
