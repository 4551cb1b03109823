//! Guessers use up their own places, wait longer and longer, and nobody who knows the password waits with them.

use super::*;
use crate::rt::clock;

fn network(text: &str) -> Network {
    Network::of(text.parse().expect("an address"))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Fails once; how long it is held back.
fn fail(guesses: &mut Guesses, name: &str, network: Network, now: Instant) -> Option<Duration> {
    let place = guesses.enter(name, network, now).expect("a place");
    guesses.failed(place, now);
    let delay = guesses.delay(place);
    guesses.leave(place);
    delay
}

#[test]
fn a_network_is_what_one_subscriber_has() {
    for (one, other, same) in [
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
        ("2001:db8::1", "2001:db8:0:1::1", false),
    ] {
        assert_eq!(network(one) == network(other), same, "{one} {other}");
    }
    assert_ne!(Network::ADMIN, network("127.0.0.1"));
}

#[test]
fn failures_in_a_row_are_held_back_longer_and_longer() {
    let (mut guesses, here, now) = (Guesses::default(), network("192.0.2.1"), clock::now());
    for _ in 0..LOGIN_FAILURES_FREE {
        assert_eq!(fail(&mut guesses, "root", here, now), None);
    }
    let delays: Vec<_> = (0..20).filter_map(|_| fail(&mut guesses, "root", here, now)).collect();
    assert_eq!(delays.len(), 20);
    assert_eq!((delays.first(), delays.last()), (Some(&LOGIN_DELAY_MIN), Some(&LOGIN_DELAY_MAX)));
    assert!(delays.is_sorted());
    // Others are not meant: another name, another network.
    assert_eq!(fail(&mut guesses, "ann", here, now), None);
    assert_eq!(fail(&mut guesses, "root", network("192.0.2.2"), now), None);
    // A success ends the row, and so does time.
    let place = guesses.enter("root", here, now).expect("a place");
    guesses.succeeded(place, now);
    guesses.leave(place);
    assert_eq!(fail(&mut guesses, "root", here, now), None);
    for _ in 0..LOGIN_FAILURES_FREE {
        fail(&mut guesses, "root", here, now);
    }
    assert!(fail(&mut guesses, "root", here, now).is_some());
    assert_eq!(fail(&mut guesses, "root", here, now + LOGIN_FAILURES_REMEMBERED + seconds(1)), None);
}

#[test]
fn a_name_that_many_guess_slows_down_where_it_is_not_at_home() {
    let (mut guesses, home, now) = (Guesses::default(), network("192.0.2.1"), clock::now());
    let place = guesses.enter("root", home, now).expect("a place");
    guesses.succeeded(place, now);
    guesses.leave(place);
    for last in 0..=LOGIN_NAME_FAILURES_FREE {
        fail(&mut guesses, "root", network(&format!("198.51.100.{last}")), now);
    }
    assert_eq!(fail(&mut guesses, "root", network("203.0.113.1"), now), Some(LOGIN_DELAY_MAX));
    assert_eq!(fail(&mut guesses, "root", home, now), None);
    assert_eq!(fail(&mut guesses, "ann", network("203.0.113.1"), now), None);
}

#[test]
fn places_are_bounded_by_name_by_network_and_by_both() {
    let (now, home) = (clock::now(), network("192.0.2.1"));
    let mut guesses = Guesses::default();
    let place = guesses.enter("root", home, now).expect("a place");
    guesses.succeeded(place, now);
    guesses.leave(place);
    let take = |guesses: &mut Guesses, name: &dyn Fn(usize) -> String, from: &dyn Fn(usize) -> Network| {
        (0..1_000).take_while(|number| guesses.enter(&name(*number), from(*number), now).is_some()).count()
    };
    // One who guesses one name leaves room for other names, and for other networks.
    let mut of_both = Guesses::default();
    let taken = take(&mut of_both, &|_| "root".to_owned(), &|_| home);
    assert_eq!(taken, LOGIN_PLACES_PER_NAME_AND_NETWORK);
    assert!(of_both.enter("ann", home, now).is_some() && of_both.enter("root", network("192.0.2.9"), now).is_some());
    let taken = take(&mut Guesses::default(), &|number| format!("user-{number}"), &|_| home);
    assert_eq!(taken, LOGIN_PLACES_PER_NETWORK);
    // Many who guess one name do not keep it from where it is at home.
    let far = |number: usize| network(&format!("198.51.{}.{}", number / 250, number % 250));
    assert_eq!(take(&mut guesses, &|_| "root".to_owned(), &far), LOGIN_PLACES_PER_NAME);
    assert!(guesses.enter("root", network("203.0.113.1"), now).is_none());
    assert!(guesses.enter("root", home, now).is_some());
    // And all together.
    let taken = take(&mut Guesses::default(), &|number| format!("user-{number}"), &far);
    assert_eq!(taken, LOGIN_PLACES_MAX);
}

#[test]
fn what_is_hashed_at_a_time_is_shared_out() {
    let (now, here) = (clock::now(), network("192.0.2.1"));
    let mut guesses = Guesses::default();
    let mut hashing = Vec::new();
    let mut take = |guesses: &mut Guesses, name: &str| {
        let mut place = guesses.enter(name, here, now).expect("a place");
        let hashes = guesses.hash(&mut place);
        hashing.push(place);
        hashes
    };
    let count = (0..100).filter(|_| take(&mut guesses, "root")).count();
    assert_eq!(count, LOGINS_HASHED_PER_NAME_AND_NETWORK);
    assert!(take(&mut guesses, "ann"));
    for place in hashing {
        guesses.leave(place);
    }
    assert_eq!((guesses.places, guesses.entries.len()), (0, 0), "nothing is kept of who has not failed");
}

#[test]
fn the_tables_are_bounded_and_forget_the_oldest_first() {
    let (begun, here) = (clock::now(), network("192.0.2.1"));
    let mut guesses = Guesses::default();
    for number in 0..LOGIN_TRACKED_MAX as u64 {
        fail(&mut guesses, &format!("user-{number}"), here, begun + Duration::from_millis(number));
        assert!(guesses.entries.len() <= LOGIN_TRACKED_MAX);
    }
    let failures = |guesses: &Guesses, name: &str| {
        guesses.entries.get(&Key::Name(guesses.hasher.hash_one(name))).map(|entry| entry.failures)
    };
    let last = LOGIN_TRACKED_MAX - 1;
    assert_eq!((failures(&guesses, "user-0"), failures(&guesses, &format!("user-{last}"))), (None, Some(1)));
}
