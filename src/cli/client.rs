//! The client side of the commands: the credentials, and HTTP to the gateway.
//!
//! It speaks plain HTTP only. A proxy in the environment is not used: the gateway is usually on this host.

use super::exit::{Exit, Failure};
use crate::config::{Credentials, credentials_path};
use base64::Engine;
use clap::Args;
use serde::Deserialize;
use std::{io::ErrorKind, path::PathBuf, time::Duration};
use ureq::{Agent, Body, http::Response};

/// The arguments that say where the credentials come from.
#[derive(Debug, Clone, Args)]
#[expect(clippy::doc_markdown, reason = "the help text, printed as it is")]
pub(super) struct LoginArgs {
    /// Data directory with generated credentials, used unless SLUICEGATE_USER and SLUICEGATE_PASSWORD are set
    #[arg(long, value_name = "DIR", env = "SLUICEGATE_DATA_DIR", default_value = "./sluicegate-data")]
    data_dir: PathBuf,
}

/// The prefix of an API key.
const KEY_PREFIX: &str = "sgk_";

/// A user name and its password, or an arbitrary name and an API key.
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

impl LoginArgs {
    /// Returns `SLUICEGATE_USER` and `SLUICEGATE_PASSWORD`, else the gateway's own `ROOT_USER` and `ROOT_PASSWORD`,
    /// else the generated credentials in the data directory.
    pub(super) fn find(&self) -> Result<Login, Failure> {
        self.find_in(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn find_in(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Login, Failure> {
        match (variable("SLUICEGATE_USER"), variable("SLUICEGATE_PASSWORD")) {
            (Some(user), Some(password)) => return Ok(Login { user, password }),
            // A key needs no user name.
            (None, Some(key)) if key.starts_with(KEY_PREFIX) => {
                return Ok(Login { user: "key".to_owned(), password: key });
            }
            (None, None) => {}
            _ => {
                return Err(Failure::usage(
                    "set both SLUICEGATE_USER and SLUICEGATE_PASSWORD, or neither, or an API key alone in SLUICEGATE_PASSWORD",
                ));
            }
        }
        if let Some(password) = variable("ROOT_PASSWORD") {
            return Ok(Login { user: variable("ROOT_USER").unwrap_or_else(|| "root".to_owned()), password });
        }
        let kept = Credentials::read(&self.data_dir)
            .map_err(|fault| Failure::usage(format!("{}\nto do: {}", fault.what, fault.remedy)))?;
        match kept {
            Some(Credentials { root_user, root_password: Some(password), .. }) => {
                Ok(Login { user: root_user, password })
            }
            _ => Err(Failure::usage(format!(
                "no credentials: set SLUICEGATE_USER and SLUICEGATE_PASSWORD, or name the gateway's data directory with \
                 --data-dir ({} holds no password)",
                credentials_path(&self.data_dir).display()
            ))),
        }
    }
}

/// An answer of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Time to wait before the request may be sent again.
    pub(super) retry_after: Option<Duration>,
    /// The id that acknowledges the records in it.
    pub(super) delivery: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// Returns the error text of the answer, in whichever form the gateway sent it.
    pub(super) fn complaint(&self) -> String {
        /// All forms of errors: problem+json, and the two of the original.
        #[derive(Deserialize)]
        struct Said {
            detail: Option<String>,
            title: Option<String>,
            error: Option<String>,
            message: Option<String>,
        }
        let said = serde_json::from_slice::<Said>(&self.body).ok();
        let said = said.and_then(|said| said.detail.or(said.error).or(said.message).or(said.title));
        match said {
            Some(text) => format!("{text} (HTTP {})", self.status),
            None => format!("HTTP {}", self.status),
        }
    }

    /// Returns the failure that the answer stands for.
    pub(super) fn failure(&self) -> Failure {
        Failure::status(self.status, self.complaint())
    }
}

/// An HTTP client of one gateway.
pub(super) struct Http {
    agent: Agent,
    base: String,
}

/// Time for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for an answer. A consume call may wait a minute.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// A consume answer is at most 16 MiB of records, a third more in base64, and its JSON.
const REPLY_BYTES_MAX: u64 = 128 * 1024 * 1024;

impl Http {
    /// A client of the gateway at `url`, which is `http://host:port` or `host:port`.
    pub(super) fn new(url: &str) -> Result<Self, Failure> {
        let base = match url.split_once("://") {
            Some(("http", _)) => url.to_owned(),
            Some(("https", _)) => {
                return Err(Failure::usage("https is not supported here: use http on a trusted network, or curl"));
            }
            Some(_) => return Err(Failure::usage(format!("{url} is not an http:// address"))),
            None => format!("http://{url}"),
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(ANSWER_TIMEOUT))
            .user_agent(concat!("sluicegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { agent, base: base.trim_end_matches('/').to_owned() })
    }

    /// Sends a request and returns the answer, whatever its status. An error means that no answer came.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Reply, Failure> {
        let url = format!("{}{path}", self.base);
        let mut request = ureq::http::Request::builder().method(method).uri(&url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = match body {
            Some(body) => request.body(body).map_err(ureq::Error::from).and_then(|request| self.agent.run(request)),
            None => request.body(()).map_err(ureq::Error::from).and_then(|request| self.agent.run(request)),
        };
        answer.and_then(read).map_err(|fault| match fault {
            ureq::Error::Http(_) | ureq::Error::BadUri(_) => Failure::usage(format!("{url}: {fault}")),
            ureq::Error::Io(fault) if fault.kind() == ErrorKind::ConnectionRefused => Failure::unavailable(format!(
                "{}: nothing listens there: start the gateway, or name its address with --url",
                self.base
            )),
            fault => Failure::unavailable(format!("{}: {fault}", self.base)),
        })
    }
}

fn read(mut answer: Response<Body>) -> Result<Reply, ureq::Error> {
    let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let delivery = answer.headers().get("sluicegate-delivery").and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let body = answer.body_mut().with_config().limit(REPLY_BYTES_MAX).read_to_vec()?;
    Ok(Reply { status: answer.status().as_u16(), retry_after: retry_after.map(Duration::from_secs), delivery, body })
}

/// Returns the value of `Authorization` for Basic authentication.
pub(super) fn basic(login: &Login) -> String {
    let text = format!("{}:{}", login.user, login.password);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

/// A session on the data port. It logs in when it has to.
pub(super) struct Session {
    http: Http,
    login: Login,
    tokens: Option<Tokens>,
}

#[derive(Deserialize)]
struct Tokens {
    jwt: String,
    jwt_refresh_token: String,
}

impl Session {
    /// A session that is not logged in yet.
    pub(super) fn new(url: &str, login: Login) -> Result<Self, Failure> {
        Ok(Self { http: Http::new(url)?, login, tokens: None })
    }

    /// Posts to a route that requires a token. A token that is no longer valid is replaced once.
    pub(super) fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Reply, Failure> {
        let reply = self.attempt(path, headers, body)?;
        if reply.status != 401 {
            return Ok(reply);
        }
        self.refresh()?;
        self.attempt(path, headers, body)
    }

    fn attempt(&mut self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Reply, Failure> {
        let token = if let Some(tokens) = &self.tokens { tokens.jwt.clone() } else { self.log_in()? };
        let bearer = format!("Bearer {token}");
        let mut all = vec![("Authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        self.http.send("POST", path, &all, Some(body))
    }

    /// Gets new tokens: with the refresh token if that works, else with the password.
    fn refresh(&mut self) -> Result<(), Failure> {
        if let Some(tokens) = self.tokens.take() {
            let body = serde_json::json!({ "jwt_refresh_token": tokens.jwt_refresh_token }).to_string();
            let reply = self.http.send("POST", "/auth/refreshToken", &[JSON], Some(body.as_bytes()))?;
            self.tokens = (reply.status == 200).then(|| serde_json::from_slice(&reply.body).ok()).flatten();
        }
        if self.tokens.is_none() {
            self.log_in()?;
        }
        Ok(())
    }

    fn log_in(&mut self) -> Result<String, Failure> {
        let Login { user, password } = &self.login;
        let body = serde_json::json!({ "username": user, "password": password }).to_string();
        let reply = self.http.send("POST", "/auth/authenticate", &[JSON], Some(body.as_bytes()))?;
        if reply.status != 200 {
            return Err(Failure::status(reply.status, format!("logging in as {user}: {}", reply.complaint())));
        }
        let tokens: Tokens = serde_json::from_slice(&reply.body).map_err(|_| {
            Failure::other("the answer to the login holds no token: check that the address is a gateway's data port")
        })?;
        let token = tokens.jwt.clone();
        self.tokens = Some(tokens);
        Ok(token)
    }
}

/// The header of a JSON body.
pub(super) const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Sends until an answer comes that does not ask to try later, or `retry_for` is over. `pause` sleeps.
pub(super) fn persist(
    retry_for: Duration,
    mut send: impl FnMut() -> Result<Reply, Failure>,
    mut pause: impl FnMut(Duration),
) -> Result<Reply, Failure> {
    let mut paused = Duration::ZERO;
    loop {
        let outcome = send();
        let wait = match &outcome {
            Ok(reply) if matches!(reply.status, 429 | 503) => reply.retry_after.unwrap_or(Duration::from_secs(1)),
            Err(failure) if failure.exit == Exit::Unavailable => Duration::from_secs(1),
            _ => return outcome,
        };
        let wait = wait.clamp(Duration::from_millis(100), Duration::from_secs(30));
        if paused.saturating_add(wait) > retry_for {
            return outcome;
        }
        pause(wait);
        paused = paused.saturating_add(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, retry_after: None, delivery: None, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn what_may_be_sent_again_is_sent_again_after_the_time_that_the_gateway_asks_for() {
        let later = |seconds| Ok(Reply { retry_after: Some(Duration::from_secs(seconds)), ..reply(503, "") });
        let run = |answers: Vec<Result<Reply, Failure>>, retry_for: u64| {
            let mut answers = answers.into_iter();
            let mut pauses = Vec::new();
            let last = persist(
                Duration::from_secs(retry_for),
                || answers.next().unwrap(),
                |pause| pauses.push(pause.as_millis()),
            );
            (last.map(|reply| reply.status).map_err(|failure| failure.exit), pauses)
        };
        assert_eq!(
            run(vec![later(2), later(0), Ok(reply(429, "")), Ok(reply(200, ""))], 60),
            (Ok(200), vec![2_000, 100, 1_000])
        );
        assert_eq!(run(vec![Err(Failure::unavailable("x")), Ok(reply(200, ""))], 60), (Ok(200), vec![1_000]));
        assert_eq!(run(vec![later(2), later(2), later(2)], 5), (Ok(503), vec![2_000, 2_000]));
        assert_eq!(run(vec![Ok(reply(413, ""))], 60), (Ok(413), vec![]));
        assert_eq!(run(vec![Err(Failure::usage("x"))], 60), (Err(Exit::Usage), vec![]));
    }

    #[test]
    fn the_credentials_are_those_of_the_environment_before_those_of_the_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let args = LoginArgs { data_dir: dir.path().to_owned() };
        let find = |pairs: &[(&str, &str)]| {
            let variable = |name: &str| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned());
            args.find_in(variable)
                .map(|login| format!("{}:{}", login.user, login.password))
                .map_err(|failure| failure.exit)
        };
        assert_eq!(find(&[]), Err(Exit::Usage));
        let kept =
            Credentials { root_user: "r".to_owned(), root_password: Some("p".to_owned()), ..Credentials::default() };
        kept.write(dir.path()).unwrap();
        assert_eq!(find(&[]), Ok("r:p".to_owned()));
        assert_eq!(find(&[("ROOT_PASSWORD", "q")]), Ok("root:q".to_owned()));
        assert_eq!(find(&[("ROOT_PASSWORD", "q"), ("ROOT_USER", "boss")]), Ok("boss:q".to_owned()));
        let both = [("SLUICEGATE_USER", "u"), ("SLUICEGATE_PASSWORD", "s"), ("ROOT_PASSWORD", "q")];
        assert_eq!(find(&both), Ok("u:s".to_owned()));
        assert_eq!(find(&both[..1]), Err(Exit::Usage));
        assert_eq!(find(&both[1..]), Err(Exit::Usage));
        assert_eq!(find(&[("SLUICEGATE_PASSWORD", "sgk_a_b")]), Ok("key:sgk_a_b".to_owned()));
    }

    #[test]
    fn the_error_text_is_found_in_every_form() {
        for (body, expect) in [
            (
                r#"{"type":"about:blank","title":"Conflict","status":409,"detail":"user bob exists"}"#,
                "user bob exists (HTTP 400)",
            ),
            (r#"{"error":"too large","success":false}"#, "too large (HTTP 400)"),
            (r#"{"message":"Unauthorized"}"#, "Unauthorized (HTTP 400)"),
            (r#"{"title":"Conflict"}"#, "Conflict (HTTP 400)"),
            (r#"{"message":[{"field":"x"}]}"#, "HTTP 400"),
            ("<html>", "HTTP 400"),
            ("", "HTTP 400"),
        ] {
            assert_eq!(reply(400, body).complaint(), expect, "{body}");
        }
    }

    #[test]
    fn who_calls_where_nothing_listens_is_told_what_to_do() {
        let http = Http::new("127.0.0.1:1").unwrap();
        let failure = http.send("GET", "/", &[], None).map(|reply| reply.status).unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.text.starts_with("http://127.0.0.1:1: nothing listens there: start"), "{}", failure.text);
    }

    #[test]
    fn only_plain_http_is_spoken() {
        for (url, expect) in [
            ("http://h:1", Some("http://h:1")),
            ("http://h:1/", Some("http://h:1")),
            ("h:1", Some("http://h:1")),
            ("https://h", None),
            ("ftp://h", None),
        ] {
            assert_eq!(Http::new(url).ok().map(|http| http.base).as_deref(), expect, "{url}");
        }
    }
}
