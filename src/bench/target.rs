//! The gateway that is measured: its address, and how to get tokens for it.
//!
//! What happens once (logging in, warming an idle connection) is done here, blocking, over the parser that the load
//! itself uses. No secret leaves this file but in a request.

use super::{
    args::Credential,
    response::{Event, ResponseParser},
};
use crate::config::Secret;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    str::FromStr,
    time::Duration,
};

/// `http://host[:port]`, resolved when it is parsed: the same address for every connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// Where to connect.
    pub(super) address: SocketAddr,
    /// What the `Host` field says.
    pub(super) authority: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("http://") else {
            return Err("only http:// (measure the gateway itself, behind whatever ends TLS)".to_owned());
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.is_empty() || authority.contains(['/', '?', '#', '@']) || authority.contains(char::is_whitespace) {
            return Err("http://HOST:PORT, nothing behind it".to_owned());
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let address = with_port.to_socket_addrs().ok().and_then(|mut found| found.next());
        let address = address.ok_or_else(|| format!("{authority:?} is no address that can be found"))?;
        Ok(Self { address, authority: authority.to_owned() })
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "http://{}", self.authority)
    }
}

/// A status and a body, from one blocking exchange.
#[derive(Debug)]
pub(super) struct Answer {
    /// Status of the final response.
    pub(super) status: u16,
    /// The whole body.
    pub(super) body: Vec<u8>,
}

/// Connects, without delay for small writes.
pub(super) fn connect(url: &Url, patience: Duration) -> Result<TcpStream, String> {
    let stream = TcpStream::connect_timeout(&url.address, patience).map_err(|error| format!("{url}: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}

/// Sends a request on `stream` and returns the answer. The stream stays usable.
pub(super) fn exchange(stream: &mut TcpStream, request: &[u8], patience: Duration) -> Result<Answer, String> {
    let broken = |error: std::io::Error| error.to_string();
    stream.set_read_timeout(Some(patience)).map_err(broken)?;
    stream.write_all(request).map_err(broken)?;
    let mut parser = ResponseParser::default();
    let mut answer = Answer { status: 0, body: Vec::new() };
    let mut done = false;
    let mut buffer = [0; 4096];
    while !done {
        let read = stream.read(&mut buffer).map_err(broken)?;
        if read == 0 {
            return Err("the connection was closed before an answer came".to_owned());
        }
        let input = buffer.get(..read).unwrap_or_default();
        parser.feed(input, |event| match event {
            Event::Body(bytes) if answer.body.len() < ANSWER_BYTES_MAX => answer.body.extend_from_slice(bytes),
            Event::Body(_) => {}
            Event::End { status, .. } => {
                answer.status = status;
                done = true;
            }
        })?;
    }
    Ok(answer)
}

/// Returns `count` distinct access tokens: the first by logging in, the others by refreshing, which costs the
/// gateway no password hash. Each refresh asks for another lifetime, so that no two tokens are the same bytes.
pub(super) fn tokens(
    url: &Url,
    credential: &Credential,
    count: usize,
    patience: Duration,
) -> Result<Vec<Secret>, String> {
    let (user, password) = match credential {
        Credential::Token(token) => return Ok(vec![token.clone()]),
        Credential::Password { user, password } => (user, password),
    };
    let mut stream = connect(url, patience)?;
    let login = json!({
        "username": user, "password": password.expose(), "token_expiry_in_minutes": LIFETIME_MINUTES,
    });
    let (first, refresh) = ask(&mut stream, url, "/auth/authenticate", &login, patience)?;
    let mut found = vec![first];
    for number in 1..count {
        let renew = json!({ "jwt_refresh_token": refresh, "token_expiry_in_minutes": LIFETIME_MINUTES + number });
        found.push(ask(&mut stream, url, "/auth/refreshToken", &renew, patience)?.0);
    }
    let distinct = found.iter().collect::<HashSet<_>>().len();
    if distinct < count {
        return Err(format!("the gateway gave out {distinct} distinct tokens, not {count}"));
    }
    Ok(found.into_iter().map(Secret::new).collect())
}

/// Returns the access token and the refresh token from one of the `/auth` paths.
fn ask(
    stream: &mut TcpStream,
    url: &Url,
    path: &str,
    body: &Value,
    patience: Duration,
) -> Result<(String, String), String> {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        url.authority,
        body.len()
    );
    let answer = exchange(stream, request.as_bytes(), patience).map_err(|error| format!("{path}: {error}"))?;
    if answer.status != 200 {
        let text: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
        return Err(format!("{path}: {} {text}", answer.status));
    }
    let value: Value =
        serde_json::from_slice(&answer.body).map_err(|_| format!("{path}: an answer that is no JSON"))?;
    let field = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    match (field("jwt"), field("jwt_refresh_token")) {
        (Some(access), Some(refresh)) => Ok((access, refresh)),
        _ => Err(format!("{path}: an answer without tokens")),
    }
}

/// Bytes kept of the answer to a request that is made once.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Lifetime of the first token, longer than any run; each further one lives a minute longer.
const LIFETIME_MINUTES: usize = 24 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_authority_and_nothing_more() {
        for (text, expect) in [
            ("http://127.0.0.1:4444", Some("127.0.0.1:4444")),
            ("http://127.0.0.1:4444/", Some("127.0.0.1:4444")),
            ("http://127.0.0.1", Some("127.0.0.1:80")),
            ("http://[::1]:9", Some("[::1]:9")),
            ("http://[::1]", Some("[::1]:80")),
            ("https://127.0.0.1", None),
            ("127.0.0.1:4444", None),
            ("http://", None),
            ("http://127.0.0.1/x", None),
            ("http://user@127.0.0.1", None),
            ("http://127.0.0.1:99999", None),
            ("http://127.0.0.1\r\nX: y", None),
        ] {
            let address = text.parse::<Url>().ok().map(|url| url.address.to_string());
            assert_eq!(address.as_deref(), expect, "{text:?}");
        }
    }
}
