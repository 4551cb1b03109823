//! Guessing passwords: whoever guesses is slowed down, and whoever knows the password gets in beside him.

use crate::support::{
    PATIENCE,
    admin::{api, basic},
    eventually,
    gateway::{Gateway, ROOT_PASSWORD, ROOT_USER},
    http::{self, Http, Response, request},
    setup::Setup,
};
use serde_json::json;
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

on_setups!(
    local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL => [f2_guessers_do_not_lock_out_whoever_knows_the_password]
);

mod local {
    use super::*;
    on_setups!(local_epoll LOCAL_EPOLL => [
        f2_guesses_of_one_name_are_answered_later_and_say_when_to_come_again,
        f2_the_admin_api_counts_guesses_too,
    ]);
}

/// As many as were seen to lock everybody out.
const GUESSERS: usize = 120;
/// Right logins among them.
const LOGINS: usize = 14;
/// Failures in a row that are answered at once.
const FREE: usize = 10;

const JSON: (&str, &str) = ("Content-Type", "application/json");
const PASSWORD: &str = "Correct-Horse-9!";

fn body(user: &str, password: &str) -> Vec<u8> {
    json!({"username": user, "password": password}).to_string().into_bytes()
}

fn login(gateway: &Gateway, user: &str, password: &str) -> Response {
    http::once(gateway.address(), "POST", "/auth/authenticate", &[JSON], &body(user, password))
}

/// Guesses from `GUESSERS` connections while `work` is done. Returns how many guesses were answered with 401 and with 429.
fn among_guessers(gateway: &Gateway, user: &str, work: impl FnOnce()) -> (usize, usize) {
    let (stop, wrong, throttled) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for guesser in 0..GUESSERS {
            let (stop, wrong, throttled) = (&stop, &wrong, &throttled);
            scope.spawn(move || {
                let mut http = Http::connect(gateway.address());
                for guess in 0.. {
                    if stop.load(Relaxed) {
                        return;
                    }
                    // One half keeps its connection, the other takes a new one for each guess.
                    if guesser % 2 == 0 {
                        http = Http::connect(gateway.address());
                    }
                    let guess = body(user, &format!("guess {guesser} {guess}"));
                    let response = http.exchange(&request("POST", "/auth/authenticate", &[JSON], &guess));
                    match response.status {
                        401 => wrong.fetch_add(1, Relaxed),
                        429 => {
                            assert!(response.header("retry-after").is_some(), "{}", response.head);
                            throttled.fetch_add(1, Relaxed)
                        }
                        // None is left to say so: all places of all networks are taken.
                        503 => 0,
                        status => panic!("a guess was answered with {status}: {}", response.text()),
                    };
                }
            });
        }
        // A failure in here must not leave the guessers behind.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("all guess", PATIENCE, || (wrong.load(Relaxed) >= FREE).then_some(()));
            work();
            eventually("guesses are throttled", PATIENCE, || (throttled.load(Relaxed) > 0).then_some(()));
        }));
        stop.store(true, Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    (wrong.into_inner(), throttled.into_inner())
}

fn f2_guessers_do_not_lock_out_whoever_knows_the_password(setup: Setup) {
    let gateway = Gateway::start(setup);
    for user in ["clerk", "new"] {
        let made = api(&gateway, "POST", "/users", Some(&json!({"name": user, "password": PASSWORD})));
        assert_eq!(made.status, 201, "{}", made.text());
    }
    assert_eq!(login(&gateway, "clerk", PASSWORD).status, 200);
    for (user, password) in [(ROOT_USER, ROOT_PASSWORD), ("clerk", PASSWORD)] {
        let (wrong, throttled) = among_guessers(&gateway, user, || {
            for _ in 0..LOGINS {
                let response = login(&gateway, user, password);
                assert_eq!(response.status, 200, "{user}: {} {}", response.head, response.text());
            }
            // Whose name nobody guesses does not notice: not even at the first login, which takes a hash.
            eventually("another user logs in", PATIENCE, || {
                (login(&gateway, "new", PASSWORD).status == 200).then_some(())
            });
        });
        // Each right login from here ends a row, and a row begins with free ones; what is hashed when it ends counts too.
        assert!(wrong <= (FREE + 2) * (LOGINS + 2) + GUESSERS, "{user}: {wrong} at once, {throttled} throttled");
    }
    let metrics = gateway.metrics();
    let count = metrics.lines().find_map(|line| line.strip_prefix("sluicegate_logins_total{result=\"throttled\"} "));
    assert!(count.is_some_and(|count| count != "0"), "{metrics}");
}

fn f2_guesses_of_one_name_are_answered_later_and_say_when_to_come_again(setup: Setup) {
    let gateway = Gateway::start(setup);
    // As much for a name that there is not: the answers do not tell which there are.
    for user in [ROOT_USER, "nobody"] {
        for guess in 0..FREE {
            let response = login(&gateway, user, &format!("guess {guess}"));
            response.is_json(401, "{\"message\":\"Unauthorized\"}");
        }
        let response = login(&gateway, user, "one more guess");
        response.is_retryable(429);
        let exposed = response.header("access-control-expose-headers").unwrap_or_default();
        assert!(exposed.contains("Retry-After"), "a page may read when to come again: {exposed}");
        // Others are not meant.
        assert_eq!(login(&gateway, &format!("not-{user}"), "guess").status, 401);
    }
    assert_eq!(login(&gateway, ROOT_USER, ROOT_PASSWORD).status, 200);
    assert_eq!(login(&gateway, ROOT_USER, "guess").status, 401, "a right login ends the row");
}

fn f2_the_admin_api_counts_guesses_too(setup: Setup) {
    let gateway = Gateway::start(setup);
    let ask = |password: &str| {
        let credentials = basic(ROOT_USER, password);
        http::once(gateway.admin(), "GET", "/api/v1/users", &[("Authorization", &credentials)], b"")
    };
    for guess in 0..FREE {
        assert_eq!(ask(&format!("guess {guess}")).status, 401);
    }
    let throttled = ask("one more guess");
    assert_eq!((throttled.status, throttled.header("retry-after")), (429, Some("1")), "{}", throttled.text());
    assert_eq!(throttled.header("content-type"), Some("application/problem+json"));
    assert_eq!(ask(ROOT_PASSWORD).status, 200);
    // Who guesses there does not slow down logins here, nor the reverse.
    assert_eq!(login(&gateway, ROOT_USER, "guess").status, 401);
}
