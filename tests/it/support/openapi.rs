//! The gateway's own description of its API, compared with what it answers.
//!
//! [`Description::holds`] fails unless a response is documented for its route, with this status, media type, header fields
//! and a body that its schema allows, and no field beyond it. What was seen is remembered, so that a test can say at its end
//! what was promised and never came.

use super::{
    gateway::Gateway,
    http::{self, Response},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

/// Header fields that are documented and need not be there.
const OPTIONAL: &[&str] = &["Link", "Preference-Applied", "Sluicegate-Delivery", "Sluicegate-Gap"];

/// An operation of the description.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its method, in capitals.
    pub method: String,
    /// Its path, with `{name}` where a name goes.
    pub path: String,
    /// Whether it wants a body.
    pub has_body: bool,
    /// Its parameters in the query.
    pub query: Vec<String>,
    /// Statuses that it may answer.
    pub statuses: BTreeSet<u16>,
}

impl Operation {
    /// How it is called here.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The description of a running gateway.
#[derive(Debug)]
pub struct Description {
    document: Value,
    seen: Mutex<BTreeMap<String, BTreeSet<u16>>>,
}

impl Description {
    /// Asks for it.
    pub fn of(gateway: &Gateway) -> Self {
        let response = http::get(gateway.admin(), "/openapi.json");
        assert_eq!(response.status, 200);
        let description = Self { document: response.json(), seen: Mutex::default() };
        description.holds("GET", "/openapi.json", &response);
        description
    }

    /// All operations.
    pub fn operations(&self) -> Vec<Operation> {
        let paths = self.document["paths"].as_object().unwrap();
        let all = paths.iter().flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, operation)| operation_of(path, method, operation))
        });
        all.collect()
    }

    /// Fails unless this response is one that the description allows.
    #[track_caller]
    pub fn holds(&self, method: &str, path: &str, response: &Response) {
        let status = response.status;
        let name = format!("{method} {path}");
        let operation = &self.document["paths"][path][method.to_ascii_lowercase()];
        assert!(operation.is_object(), "{name} is not documented");
        let documented = &operation["responses"][status.to_string()];
        assert!(documented.is_object(), "{name}: {status} is not documented: {}", response.text());
        for header in documented["headers"].as_object().into_iter().flatten().map(|(header, _)| header) {
            let there = response.header(header).is_some() || OPTIONAL.contains(&header.as_str());
            assert!(there, "{name}: {status} without {header}:\n{}", response.head);
        }
        self.check_body(&format!("{name}: {status}"), &documented["content"], response);
        self.seen.lock().unwrap().entry(name).or_default().insert(status);
    }

    #[track_caller]
    fn check_body(&self, shown: &str, content: &Value, response: &Response) {
        let Some(content) = content.as_object() else {
            assert_eq!(response.text(), "", "{shown}: a body that is not documented");
            return;
        };
        let media_type = response.header("content-type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        let Some(documented) = content.get(media_type) else { panic!("{shown}: {media_type} is not documented") };
        if media_type == "application/x-ndjson" {
            let validator = self.validator(&documented["schema"], false);
            for line in response.text().lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                assert!(validator.is_valid(&line), "{shown}: {line}");
            }
            return;
        }
        let body = if media_type.ends_with("json") { response.json() } else { Value::from(response.text()) };
        let open = documented["schema"]["type"] == "object" && documented["schema"]["properties"].is_null();
        let validator = self.validator(&documented["schema"], open);
        let errors: Vec<String> =
            validator.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{shown}: {errors:#?}\n{body}");
    }

    /// The references of a schema lead into the document: it comes along. `open`: with fields that it does not name.
    fn validator(&self, schema: &Value, open: bool) -> jsonschema::Validator {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "allOf": [schema],
            "unevaluatedProperties": open,
            "components": self.document["components"],
        });
        jsonschema::validator_for(&schema).unwrap()
    }

    /// The fields of the JSON object that an operation takes for a body, each with its schema, and what such a body may be;
    /// `None` if it takes no such object.
    pub fn body_of(&self, operation: &Operation) -> Option<(BTreeMap<String, Value>, jsonschema::Validator)> {
        let described = &self.document["paths"][&operation.path][operation.method.to_ascii_lowercase()];
        let schema = &described["requestBody"]["content"]["application/json"]["schema"];
        let fields = self.fields_of(schema);
        (!fields.is_empty()).then(|| (fields, self.validator(schema, true)))
    }

    /// The fields of an object, each with its schema: none, if it is none.
    pub fn fields_of(&self, schema: &Value) -> BTreeMap<String, Value> {
        if let Some(reference) = schema["$ref"].as_str() {
            return self.fields_of(self.document.pointer(reference.strip_prefix('#').unwrap()).unwrap());
        }
        let choices = schema["oneOf"].as_array().into_iter().flatten().flat_map(|choice| self.fields_of(choice));
        let own = schema["properties"].as_object().into_iter().flatten();
        own.map(|(name, schema)| (name.clone(), schema.clone())).chain(choices).collect()
    }

    /// Documented responses that no call has had, as `METHOD path: status`.
    pub fn unseen(&self) -> BTreeSet<String> {
        let seen = self.seen.lock().unwrap();
        let missing = self.operations().into_iter().flat_map(|operation| {
            let had = seen.get(&operation.name()).cloned().unwrap_or_default();
            let name = operation.name();
            operation
                .statuses
                .into_iter()
                .filter(move |status| !had.contains(status))
                .map(move |status| format!("{name}: {status}"))
        });
        missing.collect()
    }
}

fn operation_of(path: &str, method: &str, operation: &Value) -> Operation {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let query = parameters.filter(|parameter| parameter["in"] == "query").map(|parameter| parameter["name"].as_str());
    Operation {
        method: method.to_ascii_uppercase(),
        path: path.to_owned(),
        has_body: operation.get("requestBody").is_some(),
        query: query.map(|name| name.unwrap().to_owned()).collect(),
        statuses: operation["responses"].as_object().unwrap().keys().map(|status| status.parse().unwrap()).collect(),
    }
}
