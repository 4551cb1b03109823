//! What the description does not allow is refused: every field of every body, with a value of every JSON type.

use super::{JSON, good_body};
use crate::support::{
    admin::{add_schema, api, dead_letters, station_with_schema},
    gateway::{Gateway, ROOT_PASSWORD, ROOT_USER},
    http::{self, Response},
    openapi::{Description, Operation},
    setup::Setup,
};
use serde_json::{Value, json};

/// Something of every type, and what is beside the usual bounds.
fn values() -> Vec<Value> {
    let texts = ["", "a b", "text", "-", "a..b", &"x".repeat(2_000)].map(Value::from);
    let numbers = [json!(-1), json!(0), json!(7), json!(1.5), json!(5_001), json!(10_001), json!(1e15), json!(1e300)];
    let others = [json!(null), json!(true), json!(false), json!([]), json!([null]), json!([7]), json!(["a b"])];
    let nested = [json!({}), json!({"file": null}), json!({"json": null}), json!([[]]), json!([true, 1, 1])];
    [texts.to_vec(), numbers.to_vec(), others.to_vec(), nested.to_vec()].concat()
}

fn body_of(operation: &Operation) -> Value {
    match operation.path.as_str() {
        "/auth/authenticate" => json!({"username": ROOT_USER, "password": ROOT_PASSWORD}),
        "/auth/refreshToken" => json!({"jwt_refresh_token": "x"}),
        "/stations/{name}/consume/batch" => json!({"consumer_name": "c", "batch_max_wait_time_ms": 100}),
        _ => good_body(operation),
    }
}

fn send(gateway: &Gateway, operation: &Operation, body: &Value) -> Response {
    let target = operation.path.replace("{name}", "lettered").replace("{id}", "77");
    let (address, credentials) = if target.starts_with("/api/") {
        (gateway.admin(), super::root_basic())
    } else {
        (gateway.address(), format!("Bearer {}", gateway.token()))
    };
    let fields = [("Authorization", credentials.as_str()), JSON];
    http::once(address, &operation.method, &target, &fields, body.to_string().as_bytes())
}

/// A refresh token that is none is 401, as in the original; everything else that is wrong is 400.
#[track_caller]
fn is_refused(operation: &Operation, body: &Value, response: &Response) {
    let of_refresh = operation.path == "/auth/refreshToken" && response.status == 401;
    assert!(
        response.status == 400 || of_refresh,
        "{} took {body}: {} {}",
        operation.name(),
        response.status,
        response.text()
    );
}

#[test]
fn f6_f15_what_the_description_does_not_allow_is_refused() {
    let gateway = Gateway::start(Setup::LOCAL_EPOLL);
    let description = Description::of(&gateway);
    station_with_schema(&gateway, "lettered", "json", r#"{"type":"integer"}"#, &[]);
    gateway.batch("lettered", "[\"a\",\"b\",\"c\"]");
    assert_eq!(dead_letters(&gateway, "lettered").len(), 3);
    add_schema(&gateway, "lettered", "json", "{}", &[]);
    let user = json!({"name": "lettered", "password": "long enough"});
    assert_eq!(api(&gateway, "POST", "/users", Some(&user)).status, 201);
    let there = || ["/users", "/keys", "/schemas", "/stations"].map(|path| api(&gateway, "GET", path, None).json());
    let before = there();
    let (mut bodies, mut refused) = (0, 0);
    for operation in description.operations() {
        let Some((fields, allowed)) = description.body_of(&operation) else { continue };
        bodies += 1;
        let good = body_of(&operation);
        assert!(allowed.is_valid(&good), "{}: {good}", operation.name());
        // The whole body: of another type, and its values in the order of its fields.
        let positional: Vec<Value> = good.as_object().unwrap().values().cloned().collect();
        for body in values().into_iter().chain([json!(positional)]).filter(|body| !body.is_object()) {
            is_refused(&operation, &body, &send(&gateway, &operation, &body));
            refused += 1;
        }
        for (field, of_field) in fields {
            // What an object in the field holds is looked at as well.
            let inner = description.fields_of(&of_field);
            let sample = json!({"invalid": true, "deliveries_max": 1, "retention_age_s": 1});
            let within = inner.keys().flat_map(|name| values().into_iter().map(|value| with(&sample, name, value)));
            for value in values().into_iter().chain(within) {
                let body = with(&good, &field, value);
                if allowed.is_valid(&body) {
                    continue;
                }
                is_refused(&operation, &body, &send(&gateway, &operation, &body));
                refused += 1;
            }
        }
    }
    assert!(bodies >= 14 && refused > 500, "{bodies} bodies, {refused} refusals: what was tested?");
    // Nothing of all that was done.
    assert_eq!(dead_letters(&gateway, "lettered").len(), 3);
    assert_eq!(there(), before);
}

fn with(body: &Value, field: &str, value: Value) -> Value {
    let mut body = body.clone();
    body[field] = value;
    body
}
