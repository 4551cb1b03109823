//! The description of the API (`OpenAPI` 3.1) that `/openapi.json` serves, built from the attributes of the handlers.
//!
//! It describes the admin listener, and beside it the data port, whose routes the dialects describe. A test of the
//! integration suite compares real answers with it.

pub(super) mod refusals;

use super::{dead_letters, groups, keys, schemas, stations, users};
use crate::{
    api::{problem::ProblemBody, texts},
    dialect::descriptions,
};
use std::sync::LazyLock;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, PathItem,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
        server::ServerBuilder,
    },
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluicegate",
        description = "The admin listener's API, and the data port's.\n\n\
            Below `/api/v1` everything is 503 with `Retry-After` until the registry was read once. \
            Any request with a name and a password may be 429 with `Retry-After`, if too many before it were wrong. \
            Any request may also be answered with 408 (its body did not come in time) or, before a route is known, with 431 or a bare 400 \
            (its head is too large, or not HTTP). A number of partitions that nothing frees by itself is 409, also \
            where a station is made on first use. The data port answers the same in its own form, and 417, 501 and 505 to what it does not \
            know of HTTP."
    ),
    paths(
        super::healthy, super::ready, super::metrics, super::description,
        stations::list, stations::show, stations::create, stations::adopt, stations::change, stations::remove, stations::attach, stations::detach,
        groups::list, groups::remove,
        dead_letters::list, dead_letters::show, dead_letters::replay, dead_letters::purge, dead_letters::purge_all,
        schemas::list, schemas::show, schemas::add, schemas::activate, schemas::remove,
        users::list, users::show, users::add, users::change, users::remove, users::set_password,
        keys::list, keys::show, keys::create, keys::revoke,
    ),
    components(schemas(
        ProblemBody, texts::NameText, texts::PatternText, texts::KeyIdText, texts::NumberText, texts::TagText,
        texts::StreamText, texts::SubjectText,
    )),
    security(("root" = []), ("key" = [])),
    tags(
        (name = "health", description = "Open to everyone who can reach the admin listener"),
        (name = "stations", description = "Named streams, and the schema that their records are validated by"),
        (name = "dead letters", description = "Records that failed, and why"),
        (name = "schemas", description = "The rules by which records are validated, in versions"),
        (name = "users", description = "Who may log in, and what they may do"),
        (name = "keys", description = "API keys, for clients that cannot log in"),
    ),
    modifiers(&Surroundings),
)]
struct Document;

/// Adds what no handler here describes: the dialects, how to log in, and where the data port is.
struct Surroundings;

impl Modify for Surroundings {
    fn modify(&self, document: &mut openapi::OpenApi) {
        descriptions().into_iter().for_each(|description| document.merge(description));
        let components = document.components.get_or_insert_default();
        let bearer = || SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        for (name, scheme) in [
            ("root", SecurityScheme::Http(Http::new(HttpAuthScheme::Basic))),
            ("key", bearer()),
            ("token", bearer()),
            ("query", SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::new("authorization")))),
        ] {
            components.add_security_scheme(name, scheme);
        }
        let data_port = ServerBuilder::new().url("http://localhost:4444").description(Some("The data port")).build();
        document.paths.paths.retain(|_, item| {
            for operation in operations(item) {
                if operation.tags.as_ref().is_some_and(|tags| tags.iter().any(|tag| tag == "data")) {
                    operation.servers = Some(vec![data_port.clone()]);
                }
            }
            true
        });
        // Some clients of other programs use POST where PUT is meant; one handler serves both.
        if let Some(item) = document.paths.paths.get_mut("/api/v1/schemas/{name}/active") {
            item.post = item.put.clone().map(|mut operation| {
                operation.operation_id = Some("activate_schema_by_post".to_owned());
                operation
            });
        }
        document.servers = Some(vec![ServerBuilder::new().url("/").description(Some("The admin listener")).build()]);
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut openapi::path::Operation> {
    [&mut item.get, &mut item.post].into_iter().flatten()
}

/// Returns the description as JSON.
pub(super) fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| Document::openapi().to_json().unwrap_or_default());
    &TEXT
}

#[cfg(test)]
mod tests;
