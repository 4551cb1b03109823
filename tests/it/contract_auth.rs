//! The contract of `/auth/*`, and of how a request carries its token (docs/contract.md).

use crate::support::{
    admin::basic,
    gateway::{ACCESS_SECRET, Gateway, REFRESH_SECRET, ROOT_PASSWORD},
    http::{self, Http, Response},
    token, unique,
};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

on_both_drivers!(
    authenticate_answers_exactly_the_four_keys_in_milliseconds,
    lifetimes_may_be_asked_for_in_minutes,
    lifetimes_that_are_not_positive_are_the_defaults,
    wrong_credentials_are_unauthorized_and_say_no_more,
    a_login_that_is_no_login_is_a_client_error,
    an_account_may_be_named_in_three_places,
    a_json_login_may_call_its_type_by_any_json_name,
    the_refresh_route_gives_the_same_four_keys_and_the_old_tokens_live_on,
    a_refresh_token_is_no_access_token_and_the_reverse,
    a_refresh_that_is_no_refresh_is_unauthorized,
    the_token_is_carried_as_bearer_with_or_without_colon_in_any_case,
    the_token_may_be_carried_in_the_query_and_the_header_wins,
    tokens_that_were_not_made_here_are_unauthorized,
    auth_paths_are_found_in_any_case_and_with_a_slash,
    r7_every_401_says_how_to_log_in,
    r10_a_number_is_a_number_however_it_is_written,
    f11_a_token_before_its_time_is_unauthorized,
);

const UNAUTHORIZED: &str = "{\"message\":\"Unauthorized\"}";
const NOT_VALID: &str = "{\"message\":\"Some of your fields are not valid it is usually because you are missing some \
                         fields or you are sending wrong data types, also please notice that account_id field should \
                         be sent as a number rather than a string\"}";

/// Fails unless the answer is the four keys, in this order and with these lifetimes; the tokens are returned.
#[track_caller]
fn tokens(response: &Response, access_ms: u64, refresh_ms: u64) -> (String, String) {
    assert_eq!(response.status, 200, "{}", response.text());
    let json = response.json();
    let text = |key: &str| json[key].as_str().unwrap_or_else(|| panic!("{key} in {json}")).to_owned();
    let (access, refresh) = (text("jwt"), text("jwt_refresh_token"));
    response.is_json(
        200,
        &format!(
            "{{\"expires_in\":{access_ms},\"jwt\":\"{access}\",\"jwt_refresh_token\":\"{refresh}\",\
             \"refresh_token_expires_in\":{refresh_ms}}}"
        ),
    );
    (access, refresh)
}

fn login_body(more: &Value) -> String {
    let mut body = json!({"username": "root", "password": ROOT_PASSWORD});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body.to_string()
}

fn refresh(gateway: &Gateway, body: &str) -> Response {
    let headers = [("Content-Type", "application/json")];
    http::once(gateway.address(), "POST", "/auth/refreshToken", &headers, body.as_bytes())
}

/// A produce call with this `Authorization`, or none, and this query.
fn produce_as(gateway: &Gateway, authorization: Option<&str>, query: &str) -> Response {
    let target = format!("/stations/auth-carriage/produce/single{query}");
    let mut headers = vec![("Content-Type", "text/plain")];
    headers.extend(authorization.map(|value| ("Authorization", value)));
    http::once(gateway.address(), "POST", &target, &headers, b"x")
}

fn authenticate_answers_exactly_the_four_keys_in_milliseconds(gateway: &Gateway) {
    let (access, refresh) = tokens(&gateway.authenticate(&login_body(&json!({}))), 900_000, 18_000_000);
    for (name, text) in [("access", &access), ("refresh", &refresh)] {
        assert_eq!(token::header(text)["alg"], "HS256", "{name}");
        let claims = token::claims(text);
        let age = claims["exp"].as_u64().unwrap();
        assert!(age > 1_700_000_000, "{name}: exp is in seconds: {age}");
    }
    assert_ne!(access, refresh);
    let difference = token::claims(&refresh)["exp"].as_i64().unwrap() - token::claims(&access)["exp"].as_i64().unwrap();
    assert!((17_100 - 2..=17_100 + 2).contains(&difference), "285 minutes apart: {difference} s");
}

fn lifetimes_may_be_asked_for_in_minutes(gateway: &Gateway) {
    let body = login_body(&json!({"token_expiry_in_minutes": 60, "refresh_token_expiry_in_minutes": 10_000}));
    let (access, refresh_token) = tokens(&gateway.authenticate(&body), 3_600_000, 600_000_000);
    assert!(produce_as(gateway, Some(&format!("Bearer {access}")), "").status == 200);
    let body = json!({
        "jwt_refresh_token": refresh_token, "token_expiry_in_minutes": 2, "refresh_token_expiry_in_minutes": 3
    });
    tokens(&refresh(gateway, &body.to_string()), 120_000, 180_000);
}

fn lifetimes_that_are_not_positive_are_the_defaults(gateway: &Gateway) {
    for minutes in [0, -1, -9_000_000_000_000_i64] {
        let body = login_body(&json!({"token_expiry_in_minutes": minutes, "refresh_token_expiry_in_minutes": minutes}));
        tokens(&gateway.authenticate(&body), 900_000, 18_000_000);
    }
}

fn wrong_credentials_are_unauthorized_and_say_no_more(gateway: &Gateway) {
    for (user, password) in [
        ("root", "wrong"),
        ("root", ""),
        ("nobody", ROOT_PASSWORD),
        ("root ", ROOT_PASSWORD),
        ("root", "sluice-root1!"),
    ] {
        let body = json!({"username": user, "password": password}).to_string();
        gateway.authenticate(&body).is_json(401, UNAUTHORIZED);
    }
    gateway.authenticate("{\"username\":\"root\"}").is_json(401, UNAUTHORIZED);
    // The name is lower-cased, the password is not.
    let body = json!({"username": "ROOT", "password": ROOT_PASSWORD}).to_string();
    tokens(&gateway.authenticate(&body), 900_000, 18_000_000);
}

fn a_login_that_is_no_login_is_a_client_error(gateway: &Gateway) {
    let missing = "{\"message\":[{\"field\":\"Username\",\"reason\":\"required\"}]}";
    gateway.authenticate("{}").is_json(400, missing);
    gateway.authenticate("{\"username\":\"\",\"password\":\"x\"}").is_json(400, missing);
    for body in [
        "",
        "{",
        "nonsense",
        "[]",
        "\"root\"",
        "{\"username\":5,\"password\":\"x\"}",
        "{\"username\":\"root\",\"password\":7}",
        "{\"username\":\"root\",\"password\":\"x\",\"account_id\":\"1\"}",
        "{\"username\":\"root\",\"password\":\"x\",\"token_expiry_in_minutes\":\"60\"}",
    ] {
        gateway.authenticate(body).is_json(400, NOT_VALID);
    }
    // `curl -d '{…}'` without a header says that it is a form.
    let body = login_body(&json!({}));
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let response = http::once(gateway.address(), "POST", "/auth/authenticate", &form, body.as_bytes());
    assert!(matches!(response.status, 400 | 415), "{} {}", response.status, response.text());
}

fn an_account_may_be_named_in_three_places(gateway: &Gateway) {
    let password = ROOT_PASSWORD;
    tokens(&gateway.authenticate(&login_body(&json!({"account_id": 1}))), 900_000, 18_000_000);
    tokens(&gateway.authenticate(&login_body(&json!({"account_id": 0}))), 900_000, 18_000_000);
    let body = json!({"username": "root$1", "password": password}).to_string();
    tokens(&gateway.authenticate(&body), 900_000, 18_000_000);
    let json_type = [("Content-Type", "application/json")];
    let with_query = |query: &str, body: &str| {
        http::once(gateway.address(), "POST", &format!("/auth/authenticate{query}"), &json_type, body.as_bytes())
    };
    tokens(&with_query("?accountId=1", &login_body(&json!({}))), 900_000, 18_000_000);
    // Another account has no such user: that is a wrong login, not account 1.
    gateway.authenticate(&login_body(&json!({"account_id": 2}))).is_json(401, UNAUTHORIZED);
    let body = json!({"username": "root$2", "password": password}).to_string();
    gateway.authenticate(&body).is_json(401, UNAUTHORIZED);
    with_query("?accountId=2", &login_body(&json!({}))).is_json(401, UNAUTHORIZED);
    // The body wins over the query, the query over the name.
    tokens(&with_query("?accountId=2", &login_body(&json!({"account_id": 1}))), 900_000, 18_000_000);
    tokens(
        &with_query("?accountId=1", &json!({"username": "root$2", "password": password}).to_string()),
        900_000,
        18_000_000,
    );
}

fn a_json_login_may_call_its_type_by_any_json_name(gateway: &Gateway) {
    let body = login_body(&json!({}));
    for content_type in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;charset=UTF-8",
        "application/vnd.x+json",
    ] {
        let headers = [("Content-Type", content_type)];
        let response = http::once(gateway.address(), "POST", "/auth/authenticate", &headers, body.as_bytes());
        tokens(&response, 900_000, 18_000_000);
    }
}

fn the_refresh_route_gives_the_same_four_keys_and_the_old_tokens_live_on(gateway: &Gateway) {
    let (access, first) = tokens(&gateway.authenticate(&login_body(&json!({}))), 900_000, 18_000_000);
    let body = json!({"jwt_refresh_token": first}).to_string();
    let (renewed, second) = tokens(&refresh(gateway, &body), 900_000, 18_000_000);
    for jwt in [&access, &renewed] {
        produce_as(gateway, Some(&format!("Bearer {jwt}")), "").is_json(200, "{\"error\":null,\"success\":true}");
    }
    for token in [&first, &second] {
        let body = json!({"jwt_refresh_token": token}).to_string();
        tokens(&refresh(gateway, &body), 900_000, 18_000_000);
    }
}

fn a_refresh_token_is_no_access_token_and_the_reverse(gateway: &Gateway) {
    let (access, refresh_token) = tokens(&gateway.authenticate(&login_body(&json!({}))), 900_000, 18_000_000);
    produce_as(gateway, Some(&format!("Bearer {refresh_token}")), "").is_json(401, UNAUTHORIZED);
    refresh(gateway, &json!({"jwt_refresh_token": access}).to_string()).is_json(401, UNAUTHORIZED);
    // Not by the secret alone: the right secret does not make one kind the other.
    let disguised = token::sign(Algorithm::HS256, &token::claims(&refresh_token), ACCESS_SECRET);
    produce_as(gateway, Some(&format!("Bearer {disguised}")), "").is_json(401, UNAUTHORIZED);
    let disguised = token::sign(Algorithm::HS256, &token::claims(&access), REFRESH_SECRET);
    refresh(gateway, &json!({"jwt_refresh_token": disguised}).to_string()).is_json(401, UNAUTHORIZED);
}

fn a_refresh_that_is_no_refresh_is_unauthorized(gateway: &Gateway) {
    let (_, good) = tokens(&gateway.authenticate(&login_body(&json!({}))), 900_000, 18_000_000);
    let expired = token::forge(&good, REFRESH_SECRET, |claims| claims["exp"] = json!(1_700_000_000));
    let foreign = token::forge(&good, "another secret of the same length, 0123456789abcdef01", |_| {});
    for body in [
        json!({}),
        json!({"jwt_refresh_token": ""}),
        json!({"jwt_refresh_token": "x"}),
        json!({"jwt_refresh_token": "a.b.c"}),
        json!({"jwt_refresh_token": expired}),
        json!({"jwt_refresh_token": foreign}),
        json!({"jwt_refresh_token": token::unsigned(&good)}),
    ] {
        refresh(gateway, &body.to_string()).is_json(401, UNAUTHORIZED);
    }
    // The oldest clients sent it in `Authorization`, with no body.
    let bearer = format!("Bearer {good}");
    let headers = [("Content-Type", "application/json"), ("Authorization", bearer.as_str())];
    http::once(gateway.address(), "POST", "/auth/refreshToken", &headers, b"{}").is_json(401, UNAUTHORIZED);
}

fn the_token_is_carried_as_bearer_with_or_without_colon_in_any_case(gateway: &Gateway) {
    let jwt = gateway.token();
    for scheme in ["Bearer", "Bearer:", "bearer", "BEARER", "bEaReR:", "bearer:"] {
        let response = produce_as(gateway, Some(&format!("{scheme} {jwt}")), "");
        response.is_json(200, "{\"error\":null,\"success\":true}");
    }
    for value in [
        format!("Zork {jwt}"),
        format!("Basic {jwt}"),
        format!("Token {jwt}"),
        jwt.to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer:".to_owned(),
        format!("Bearer {jwt} {jwt}"),
        format!("Bearer {jwt}x"),
        format!("Bearer x{jwt}"),
        format!("Bearer{jwt}"),
        format!("Bearer:{jwt}, Bearer {jwt}"),
        String::new(),
    ] {
        produce_as(gateway, Some(&value), "").is_json(401, UNAUTHORIZED);
    }
    produce_as(gateway, None, "").is_json(401, UNAUTHORIZED);
}

fn the_token_may_be_carried_in_the_query_and_the_header_wins(gateway: &Gateway) {
    let jwt = gateway.token();
    produce_as(gateway, None, &format!("?authorization={jwt}")).is(200, "{\"error\":null,\"success\":true}");
    produce_as(gateway, None, &format!("?a=b&authorization={jwt}&c")).is(200, "{\"error\":null,\"success\":true}");
    produce_as(gateway, None, "?authorization=x").is_json(401, UNAUTHORIZED);
    produce_as(gateway, None, "?authorization=").is_json(401, UNAUTHORIZED);
    produce_as(gateway, None, &format!("?xauthorization={jwt}")).is_json(401, UNAUTHORIZED);
    let query = format!("?authorization={jwt}");
    produce_as(gateway, Some("Bearer wrong"), &query).is_json(401, UNAUTHORIZED);
    produce_as(gateway, Some(&format!("Bearer {jwt}")), "?authorization=wrong")
        .is(200, "{\"error\":null,\"success\":true}");
}

fn tokens_that_were_not_made_here_are_unauthorized(gateway: &Gateway) {
    let good = gateway.token();
    let claims = token::claims(good);
    let mut tokens = vec![
        ("expired", token::forge(good, ACCESS_SECRET, |claims| claims["exp"] = json!(1_700_000_000))),
        ("another secret", token::sign(Algorithm::HS256, &claims, REFRESH_SECRET)),
        ("an empty secret", token::sign(Algorithm::HS256, &claims, "")),
        ("another algorithm", token::sign(Algorithm::HS512, &claims, ACCESS_SECRET)),
        ("no algorithm", token::unsigned(good)),
        ("no claims", token::sign(Algorithm::HS256, &json!({}), ACCESS_SECRET)),
        ("claims that are a list", token::sign(Algorithm::HS256, &json!([1]), ACCESS_SECRET)),
        ("longer than the limit", format!("{good}{}", "x".repeat(4_096))),
        ("two parts", good.rsplit_once('.').unwrap().0.to_owned()),
        ("four parts", format!("{good}.x")),
        ("an empty signature", format!("{}.", good.rsplit_once('.').unwrap().0)),
        ("not base64", "a!b.c!d.e!f".to_owned()),
    ];
    let last = good.chars().last().unwrap();
    let flipped = if last == 'A' { 'Q' } else { 'A' };
    tokens.push(("one changed character", format!("{}{flipped}", &good[..good.len() - 1])));
    for exp in [json!("9999999999"), json!(null), json!(-1), json!(1e300), json!([]), json!(true)] {
        tokens.push(("exp of another type", token::forge(good, ACCESS_SECRET, |claims| claims["exp"] = exp)));
    }
    for (what, jwt) in &tokens {
        let response = produce_as(gateway, Some(&format!("Bearer {jwt}")), "");
        assert_eq!((response.status, response.text()), (401, UNAUTHORIZED), "{what}: {jwt}");
    }
    produce_as(gateway, Some(&format!("Bearer {good}")), "").is(200, "{\"error\":null,\"success\":true}");
}

fn auth_paths_are_found_in_any_case_and_with_a_slash(gateway: &Gateway) {
    let headers = [("Content-Type", "application/json")];
    let body = login_body(&json!({}));
    for path in
        ["/auth/authenticate", "/AUTH/authenticate", "/Auth/Authenticate", "/auth/authenticate/", "/AUTH/AUTHENTICATE/"]
    {
        tokens(&http::once(gateway.address(), "POST", path, &headers, body.as_bytes()), 900_000, 18_000_000);
    }
    let (_, good) = tokens(&gateway.authenticate(&body), 900_000, 18_000_000);
    let body = json!({"jwt_refresh_token": good, "unknown": unique("field")}).to_string();
    for path in ["/auth/refreshToken", "/auth/refreshtoken", "/AUTH/REFRESHTOKEN", "/auth/refreshToken/"] {
        tokens(&http::once(gateway.address(), "POST", path, &headers, body.as_bytes()), 900_000, 18_000_000);
    }
}

fn r7_every_401_says_how_to_log_in(gateway: &Gateway) {
    let challenges = ["Bearer realm=\"sluicegate\"", "Basic realm=\"sluicegate\", charset=\"UTF-8\""];
    let wrong_login = json!({"username": "nobody-r7", "password": "wrong"}).to_string();
    let json_type = ("Content-Type", "application/json");
    let post = |path: &str, body: &str| http::once(gateway.address(), "POST", path, &[json_type], body.as_bytes());
    let expired = token::forge(gateway.token(), ACCESS_SECRET, |claims| claims["exp"] = json!(1_700_000_000));
    let mut refused = vec![
        post("/stations/a/produce/single", "1"),
        post("/stations/a/produce/batch", "[1]"),
        post("/stations/a/consume/batch", "{}"),
        post("/stations/a/produce/single?authorization=wrong", "1"),
        post("/auth/authenticate", &wrong_login),
        post("/auth/refreshToken", "{\"jwt_refresh_token\":\"x\"}"),
        http::once(gateway.address(), "GET", "/nothing/here", &[], b""),
    ];
    let of_key = format!("sgk_{}_{}", "a".repeat(12), "b".repeat(43));
    for value in
        ["Bearer wrong".to_owned(), format!("Bearer {expired}"), basic("any", "password"), basic("any", &of_key)]
    {
        refused.push(produce_as(gateway, Some(&value), ""));
    }
    for response in refused {
        response.is_json(401, UNAUTHORIZED);
        assert_eq!(response.headers("www-authenticate"), challenges, "{}", response.head);
    }
    let mut http = Http::connect(gateway.address());
    http.send(&http::request("HEAD", "/nothing", &[], b""));
    assert_eq!(http.response_to_head().headers("www-authenticate"), challenges);
    assert!(
        produce_as(gateway, Some(&format!("Bearer {}", gateway.token())), "").headers("www-authenticate").is_empty()
    );
    // The admin port has had one.
    assert_eq!(http::get(gateway.admin(), "/api/v1/users").headers("www-authenticate").len(), 1);
}

fn r10_a_number_is_a_number_however_it_is_written(gateway: &Gateway) {
    let login = |field: &str, number: &str| {
        let body = format!(r#"{{"username":"root","password":"{ROOT_PASSWORD}","{field}":{number}}}"#);
        gateway.authenticate(&body)
    };
    for number in ["1", "1.0", "1e0", "0.1e1", "10E-1", "0", "0.0", "-0.0"] {
        tokens(&login("account_id", number), 900_000, 18_000_000);
    }
    for number in ["2.0", "4294967295.0"] {
        login("account_id", number).is_json(401, UNAUTHORIZED);
    }
    for number in ["1.5", "-1.0", "1e300", "\"1\"", "\"1.0\"", "true"] {
        login("account_id", number).is_json(400, NOT_VALID);
    }
    tokens(&login("token_expiry_in_minutes", "60.0"), 3_600_000, 18_000_000);
    tokens(&login("token_expiry_in_minutes", "6e1"), 3_600_000, 18_000_000);
    let (_, good) = tokens(&login("refresh_token_expiry_in_minutes", "1e1"), 900_000, 600_000);
    let body = format!(r#"{{"jwt_refresh_token":"{good}","token_expiry_in_minutes":2.0}}"#);
    tokens(&refresh(gateway, &body), 120_000, 18_000_000);
    let station = unique("numbers");
    gateway.batch(&station, "[1,2,3]").is(200, "{\"error\":null,\"success\":true}");
    let body = r#"{"consumer_name":"c","batch_size":2.0,"batch_max_wait_time_ms":5e2}"#;
    assert_eq!(gateway.consume(&station, body).json().as_array().map(Vec::len), Some(2));
    gateway.consume(&station, r#"{"consumer_name":"c","batch_size":1.5}"#).is_error(400);
}

fn f11_a_token_before_its_time_is_unauthorized(gateway: &Gateway) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let status = |nbf: Value| {
        let jwt = token::forge(gateway.token(), ACCESS_SECRET, |claims| claims["nbf"] = nbf);
        produce_as(gateway, Some(&format!("Bearer {jwt}")), "").status
    };
    for nbf in [json!(now + 3_600), json!("tomorrow"), json!(null), json!([now])] {
        assert_eq!(status(nbf.clone()), 401, "{nbf}");
    }
    for nbf in [json!(now - 60), json!(0)] {
        assert_eq!(status(nbf.clone()), 200, "{nbf}");
    }
}
