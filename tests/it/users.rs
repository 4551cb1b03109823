//! Users with allow-lists, and the commands of the binary that are clients: `user`, `produce`, `consume`.

use crate::support::{
    PATIENCE,
    admin::{api, api_with},
    eventually,
    gateway::Gateway,
    http::{self, Response},
    readback::texts,
    setup::Setup,
    token,
};
use std::process::Output;

on_setups!(
    local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL, nats_io_uring NATS_IO_URING, nats_epoll NATS_EPOLL => [
        a_user_may_do_what_the_lists_allow_and_nothing_else,
        a_user_that_is_removed_is_out_and_a_new_password_is_the_only_one,
        of_changes_that_are_meant_for_one_state_one_is_made,
        users_outlive_a_restart,
        lines_go_in_and_come_out_by_the_shell,
    ]
);

const OK: &str = "{\"error\":null,\"success\":true}";
const UNAUTHORIZED: &str = "{\"message\":\"Unauthorized\"}";
const PASSWORD: &str = "Correct-Horse-9!";

/// `sluicegate user …` against the gateway's admin listener.
fn user(gateway: &Gateway, arguments: &[&str], input: &str) -> Output {
    let url = format!("http://{}", gateway.admin());
    gateway.run(&[&["user"], arguments, &["--url", &url]].concat(), input)
}

#[track_caller]
fn done(output: &Output) -> String {
    let text = String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
    text
}

fn login(gateway: &Gateway, name: &str, password: &str) -> Response {
    gateway.authenticate(&serde_json::json!({"username": name, "password": password}).to_string())
}

/// A token of a user who was just added: every shard learns of it in its time.
fn token_of(gateway: &Gateway, name: &str) -> String {
    eventually("the new user may log in", PATIENCE, || {
        let response = login(gateway, name, PASSWORD);
        (response.status == 200).then(|| response.json()["jwt"].as_str().unwrap().to_owned())
    })
}

fn call(gateway: &Gateway, jwt: &str, path: &str, body: &str) -> Response {
    let bearer = format!("Bearer {jwt}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    http::once(gateway.address(), "POST", path, &headers, body.as_bytes())
}

fn a_user_may_do_what_the_lists_allow_and_nothing_else(setup: Setup) {
    let gateway = Gateway::start(setup);
    let lists = ["--produce", "prod.*", "--produce", "shared", "--consume", "shared"];
    done(&user(&gateway, &[&["add", "Clerk", "--password-stdin"], &lists[..]].concat(), &format!("{PASSWORD}\n")));
    let jwt = token_of(&gateway, "clerk");
    assert!(!token::claims(&jwt).to_string().contains(PASSWORD));
    let consume = "{\"consumer_name\":\"c\",\"batch_max_wait_time_ms\":100}";
    for (path, body, status) in [
        ("/stations/prod.orders/produce/single", "1", 200),
        ("/stations/PROD.Orders/produce/batch", "[2]", 200),
        ("/stations/shared/produce/single", "1", 200),
        ("/stations/shared/consume/batch", consume, 200),
        ("/stations/prod/produce/single", "1", 403),
        ("/stations/other/produce/single", "1", 403),
        ("/stations/other/produce/batch", "[1]", 403),
        ("/stations/shared2/produce/single", "1", 403),
        ("/stations/prod.orders/consume/batch", consume, 403),
        ("/stations/other/consume/batch", consume, 403),
    ] {
        let response = call(&gateway, &jwt, path, body);
        assert_eq!(response.status, status, "{path}: {}", response.text());
        if status == 403 {
            let station = path.split('/').nth(2).unwrap();
            let text = response.is_error(403);
            assert!(text.contains(station), "which station: {text}");
        }
    }
    // Root may look, and finds that nothing came of what was forbidden.
    assert_eq!(texts(&gateway, "prod.orders"), ["1", "2"]);
    assert!(done(&user(&gateway, &["list"], "")).contains("clerk"));
}

fn a_user_that_is_removed_is_out_and_a_new_password_is_the_only_one(setup: Setup) {
    let gateway = Gateway::start(setup);
    done(&user(&gateway, &["add", "guest", "--password-stdin"], &format!("{PASSWORD}\n")));
    let jwt = token_of(&gateway, "guest");
    call(&gateway, &jwt, "/stations/visited/produce/single", "1").is_json(200, OK);
    done(&user(&gateway, &["passwd", "guest", "--password-stdin"], "Another-Horse-8?\n"));
    eventually("the new password is known", PATIENCE, || {
        (login(&gateway, "guest", "Another-Horse-8?").status == 200).then_some(())
    });
    login(&gateway, "guest", PASSWORD).is_json(401, UNAUTHORIZED);
    done(&user(&gateway, &["remove", "guest"], ""));
    eventually("nobody remembers the user", PATIENCE, || {
        let out = (0..8).all(|_| call(&gateway, &jwt, "/stations/visited/produce/single", "2").status == 401);
        (out && login(&gateway, "guest", "Another-Horse-8?").status == 401).then_some(())
    });
    let twice = user(&gateway, &["remove", "guest"], "");
    assert_ne!(twice.status.code(), Some(0), "there is nobody to remove");
}

fn of_changes_that_are_meant_for_one_state_one_is_made(setup: Setup) {
    let gateway = Gateway::start(setup);
    done(&user(&gateway, &["add", "twice", "--password-stdin"], &format!("{PASSWORD}\n")));
    let path = "/users/twice/password";
    let tag = api(&gateway, "GET", "/users/twice", None).header("etag").unwrap().to_owned();
    let put = |password: &str| {
        let body = serde_json::json!({ "password": password });
        api_with(&gateway, "PUT", path, &[("If-Match", &tag)], Some(&body)).status
    };
    // Both have seen the same user, and both passwords take their time to be hashed.
    let mut answers = std::thread::scope(|scope| {
        ["First-Horse-1!", "Other-Horse-2!"]
            .map(|password| scope.spawn(move || put(password)))
            .map(|one| one.join().unwrap())
    });
    answers.sort_unstable();
    assert_eq!(answers, [204, 412]);
    assert_eq!(api_with(&gateway, "DELETE", "/users/twice", &[("If-Match", &tag)], None).status, 412);
}

fn users_outlive_a_restart(setup: Setup) {
    let mut gateway = Gateway::start(setup);
    done(&user(&gateway, &["add", "keeper", "--password-stdin", "--produce", "kept"], &format!("{PASSWORD}\n")));
    let jwt = token_of(&gateway, "keeper");
    gateway.kill9();
    gateway.restart();
    // The token of before is as good as a new one: keys and users are what they were.
    call(&gateway, &jwt, "/stations/kept/produce/single", "1").is_json(200, OK);
    let jwt = token_of(&gateway, "keeper");
    call(&gateway, &jwt, "/stations/kept/produce/single", "2").is_json(200, OK);
    call(&gateway, &jwt, "/stations/else/produce/single", "3").is_error(403);
}

fn lines_go_in_and_come_out_by_the_shell(setup: Setup) {
    let gateway = Gateway::start(setup);
    let url = format!("http://{}", gateway.address());
    let path = gateway.dir().join("lines.ndjson");
    let lines: Vec<String> =
        (0..1_200).map(|number| format!("{{\"n\": {number}, \"big\": 9007199254740993}}")).collect();
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    done(&gateway.run(&["produce", "shell", "-f", path.to_str().unwrap(), "--url", &url], ""));
    done(&gateway.run(&["produce", "shell", "--url", &url], "\"from standard input\"\n"));
    let expect = [lines.as_slice(), &["\"from standard input\"".to_owned()]].concat();
    assert_eq!(texts(&gateway, "shell"), expect);
    let output = gateway.run(&["consume", "shell", "--group", "shell", "--url", &url], "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>(), expect);
    let nobody = gateway.run(&["produce", "shell", "--url", "http://127.0.0.1:1", "--retry-for", "0"], "1\n");
    assert_ne!(nobody.status.code(), Some(0));
}
