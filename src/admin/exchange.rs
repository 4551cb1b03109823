//! What all routes have in common: how a request is read, and how an answer is built.
//!
//! A single resource has an `ETag`, which changes with it. With `If-None-Match` a client gets no answer that it has
//! already; with `If-Match` it overwrites no change that somebody else has made meanwhile. Lists come in pages; each
//! names the next one in its body and in `Link`.

use super::problem::Problem;
use crate::{
    api::{
        pages::{PageQuery, PageRequest},
        tags::Tagged,
        typed::Object,
    },
    limits::{ADMIN_REQUEST_TIMEOUT, CONTROL_BODY_BYTES_MAX, PAGE_MAX},
};
use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Query, Request, rejection::JsonRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

/// Items of a page, unless the request says otherwise.
const PAGE_DEFAULT: usize = 100;

/// A JSON object of at most `BYTES_MAX` bytes; unknown fields are refused by the types.
pub(super) struct Body<T, const BYTES_MAX: usize = CONTROL_BODY_BYTES_MAX>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned, const BYTES_MAX: usize> FromRequest<S> for Body<T, BYTES_MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        // The bytes would be taken for broken JSON.
        let mut codings = request.headers().get_all(header::CONTENT_ENCODING).into_iter();
        if !codings.all(|coding| coding.is_empty() || coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Problem::of_coding());
        }
        // A change goes on when its client has gone; it must not wait for ever for a body that does not come.
        let read = timeout(ADMIN_REQUEST_TIMEOUT, Json::from_request(request, state)).await;
        let read: Result<Json<Object<T>>, JsonRejection> = read.map_err(|_| Problem::too_long())?;
        read.map(|Json(Object(value))| Self(value)).map_err(|rejection| Problem::of_body(&rejection, BYTES_MAX))
    }
}

/// The name in the path, percent-decoded.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|_| bad_path())
    }
}

/// Two names in the path, percent-decoded: a station and something that belongs to it.
pub(super) struct NamedPart(pub(super) String, pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for NamedPart {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        path.map(|Path((name, part))| Self(name, part)).map_err(|_| bad_path())
    }
}

fn bad_path() -> Problem {
    Problem::bad("the path is not UTF-8: percent-encode the bytes of the name")
}

/// The requested page of a list, checked.
pub(super) struct Paging(pub(super) PageRequest);

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<PageQuery>::from_request_parts(parts, state).await;
        let Query(PageQuery { after, limit }) = query.map_err(|rejection| {
            Problem::bad(format!("{}: a list takes after=NAME and limit=NUMBER", rejection.body_text()))
        })?;
        let limit = limit.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Problem::bad(format!("limit is {limit}: write a number from 1 to {PAGE_MAX}")));
        }
        Ok(Self(PageRequest { after, limit }))
    }
}

/// The tag that the resource must have for the change to be made, if the request names one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IfMatch(pub(super) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::read(&parts.headers)
    }
}

impl IfMatch {
    fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut fields = headers.get_all(header::IF_MATCH).into_iter();
        let Some(field) = fields.next() else { return Ok(Self(None)) };
        let wrong = || Problem::bad("If-Match takes one entity tag in quotes, as the ETag of an answer has it, or *");
        let text = field.to_str().map_err(|_| wrong())?.trim();
        if fields.next().is_some() {
            return Err(wrong());
        }
        if text == "*" {
            return Ok(Self(None));
        }
        // A weak tag equals no other (RFC 9110, section 8.8.3.2): with its prefix it is the tag of nothing.
        if text.strip_prefix("W/").is_some_and(|tag| unquoted(tag).is_some()) {
            return Ok(Self(Some(text.to_owned())));
        }
        unquoted(text).map(|tag| Self(Some(tag.to_owned()))).ok_or_else(wrong)
    }
}

/// The tags of the states that the client has already.
pub(super) struct IfNoneMatch(Vec<String>);

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let fields = parts.headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|field| field.to_str().ok());
        let tags = fields.flat_map(|field| field.split(',')).map(str::trim);
        Ok(Self(tags.map(|tag| tag.strip_prefix("W/").unwrap_or(tag).to_owned()).collect()))
    }
}

impl IfNoneMatch {
    /// Answers with the resource, or with 304 if the client has its present state.
    pub(super) fn answer<T: Serialize>(&self, tagged: Tagged<T>) -> Response {
        let known = self.0.iter().any(|tag| tag == "*" || unquoted(tag) == Some(&tagged.tag));
        if known { with_tag(StatusCode::NOT_MODIFIED.into_response(), &tagged.tag) } else { answer(tagged) }
    }
}

fn unquoted(tag: &str) -> Option<&str> {
    tag.strip_prefix('"')?.strip_suffix('"').filter(|tag| !tag.contains('"'))
}

/// Answers with a resource and its tag.
pub(super) fn answer<T: Serialize>(tagged: Tagged<T>) -> Response {
    with_tag(Json(tagged.value).into_response(), &tagged.tag)
}

/// Answers with a resource that was created, and its path.
pub(super) fn created<T: Serialize>(collection: &str, name: &str, value: &T) -> Response {
    let mut response = (StatusCode::CREATED, Json(value)).into_response();
    set(&mut response, header::LOCATION, &format!("{collection}/{}", encoded(name)));
    response
}

/// Adds the tag of the state that the answer shows.
pub(super) fn with_tag(mut response: Response, tag: &str) -> Response {
    set(&mut response, header::ETAG, &format!("\"{tag}\""));
    response
}

/// Answers with a page of a list, and a link to the next one.
pub(super) fn listed<T: Serialize>(path: &str, limit: usize, next: Option<&str>, body: &T) -> Response {
    let mut response = Json(body).into_response();
    if let Some(next) = next {
        let link = format!("<{path}?after={}&limit={limit}>; rel=\"next\"", encoded(next));
        set(&mut response, header::LINK, &link);
    }
    response
}

/// Returns a name, encoded for a segment of a path or a value of a query.
pub(super) fn encoded(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// Sets a header field. Its value is percent-encoded text or a tag, so it is always valid.
fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::Body as RawBody, http::HeaderName};

    fn parts(target: &str, fields: &[(HeaderName, &str)]) -> Parts {
        let mut request = Request::builder().uri(target);
        for (name, value) in fields {
            request = request.header(name, *value);
        }
        request.body(RawBody::empty()).expect("a request").into_parts().0
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn a_part_of_a_list_has_a_beginning_and_a_bounded_length() {
        for (target, expect) in [
            ("/x", Some((None, 100))),
            ("/x?limit=1", Some((None, 1))),
            ("/x?limit=1000&after=a%20b", Some((Some("a b"), 1_000))),
            ("/x?limit=0", None),
            ("/x?limit=1001", None),
            ("/x?limit=-1", None),
            ("/x?limit=many", None),
            ("/x?offset=3", None),
        ] {
            let got = run(Paging::from_request_parts(&mut parts(target, &[]), &()));
            let got = got.ok().map(|Paging(ask)| (ask.after, ask.limit));
            assert_eq!(got, expect.map(|(after, limit)| (after.map(str::to_owned), limit)), "{target}");
        }
    }

    #[test]
    fn a_change_may_name_the_state_that_it_is_meant_for() {
        for (fields, expect) in [
            (&[][..], Some(None)),
            (&["*"], Some(None)),
            (&["\"a-1\""], Some(Some("a-1"))),
            (&[" \"a-1\" "], Some(Some("a-1"))),
            (&["W/\"a-1\""], Some(Some("W/\"a-1\""))),
            (&["a-1"], None),
            (&["\"a-1\", \"a-2\""], None),
            (&["\"a-1\"", "\"a-2\""], None),
            (&[""], None),
        ] {
            let fields: Vec<_> = fields.iter().map(|field| (header::IF_MATCH, *field)).collect();
            let got = IfMatch::read(&parts("/x", &fields).headers).ok().map(|IfMatch(tag)| tag);
            assert_eq!(got, expect.map(|tag| tag.map(str::to_owned)), "{fields:?}");
        }
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        for (fields, status) in [
            (&[][..], 200),
            (&["\"b\""], 200),
            (&["a"], 200),
            (&["\"a\""], 304),
            (&["W/\"a\""], 304),
            (&["\"b\", \"a\""], 304),
            (&["\"b\"", "\"a\""], 304),
            (&["*"], 304),
        ] {
            let fields: Vec<_> = fields.iter().map(|field| (header::IF_NONE_MATCH, *field)).collect();
            let known = run(IfNoneMatch::from_request_parts(&mut parts("/x", &fields), &())).expect("never refused");
            let response = known.answer(Tagged { tag: "a".to_owned(), value: 1 });
            assert_eq!(response.status().as_u16(), status, "{fields:?}");
            assert_eq!(response.headers()[header::ETAG], "\"a\"");
        }
    }

    #[test]
    fn the_next_part_is_where_the_link_says() {
        let response = listed("/api/v1/keys", 7, Some("a/b?&"), &());
        assert_eq!(response.headers()[header::LINK], "</api/v1/keys?after=a%2Fb%3F%26&limit=7>; rel=\"next\"");
        assert!(!listed("/api/v1/keys", 7, None, &()).headers().contains_key(header::LINK));
        let made = created("/api/v1/users", "b.ob", &());
        assert_eq!(
            (made.status().as_u16(), &made.headers()[header::LOCATION]),
            (201, &"/api/v1/users/b%2Eob".parse().expect("a value"))
        );
    }
}
